"""The ``hpcq`` command."""
