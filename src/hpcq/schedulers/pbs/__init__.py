"""PBS: OpenPBS 23.06 and PBS Professional."""

from hpcq.schedulers.pbs.backend import PbsBackend, create

__all__ = ["PbsBackend", "create"]
