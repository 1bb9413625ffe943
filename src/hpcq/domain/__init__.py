"""What a job is. Imports the standard library only."""
