"""Mails about jobs, sent through the SMTP server of the site."""
