"""Use cases of the service, called by the API."""
