"""Where this service keeps what it must not forget."""
