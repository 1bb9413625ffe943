"""The use cases: what the doors of this service are for."""
