"""The domain: jobs and programs. Imports the standard library only."""
