"""Webhooks: events go to whoever asked for them, signed, in order, and again until they arrive."""
