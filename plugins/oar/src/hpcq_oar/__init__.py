"""OAR 2.5 behind the backend contract of hpc-queue-api."""
