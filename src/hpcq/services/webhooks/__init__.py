"""Webhooks: events go to their subscribers, signed, in order, and again until they arrive."""
