"""Every claim of speed, runnable: ``python -m bench.NAME``."""
