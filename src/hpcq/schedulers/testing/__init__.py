"""Help for tests of what uses schedulers, and for authors of plugins.

`FakeScheduler` is a scheduler in memory. `hpcq.schedulers.testing.plugin` is a plugin of pytest
that runs the contract's tests, which are in `hpcq.schedulers.testing.contract`, against a real
scheduler; it needs pytest and httpx.
"""

from hpcq.schedulers.testing.fake import FakeScheduler, HeldBack, create

__all__ = ["FakeScheduler", "HeldBack", "create"]
