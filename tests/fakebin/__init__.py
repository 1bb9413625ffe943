"""Stateful stand-ins for schedulers that cannot be installed here: they really run the jobs."""
