"""Storage: the records that outlive the service."""
