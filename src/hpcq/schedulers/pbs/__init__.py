"""PBS: OpenPBS 23.06 and PBS Professional."""
