"""LOCAL, the embedded scheduler: a real batch system for one machine."""
