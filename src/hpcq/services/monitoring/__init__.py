"""Monitoring: the scheduler's answers become records of jobs."""
