"""Submission: from a request to a job that the scheduler has, once."""
