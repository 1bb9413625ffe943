"""One REST API in front of the batch scheduler of a cluster."""

__version__ = "0.1.0"
