"""Events of jobs, for readers who follow them."""
