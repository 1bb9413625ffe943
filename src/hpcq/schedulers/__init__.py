"""One thin adapter per scheduler, and what they share."""
