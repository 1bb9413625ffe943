"""Tests of the backend contract, through the service: what every scheduler has to do alike."""
