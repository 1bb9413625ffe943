"""Listing: the table of jobs that all readers share, and the answers made from it."""
