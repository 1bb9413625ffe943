import asyncio

import pytest

from hpcq.domain.errors import CommandMissing, SchedulerError, SchedulerUnavailable
from hpcq.schedulers.testing import FakeScheduler
from hpcq.services.resilience import ResilientBackend
from hpcq.services.settings import ServiceSettings
from hpcq.services.submission.submission_check import SubmissionCheck


class Checked(FakeScheduler):
    """A scheduler that can tell whether it takes jobs."""

    error: SchedulerError | None = None

    async def check_submission(self) -> None:
        """Raise what was told."""
        if self.error is not None:
            raise self.error


def resilient(backend: FakeScheduler) -> ResilientBackend:
    return ResilientBackend(backend, ServiceSettings(poll_interval_seconds=1))


def test_submission_check_accepted() -> None:
    check = SubmissionCheck(resilient(Checked()))
    assert asyncio.run(check.ask())
    assert check.problem is None


@pytest.mark.parametrize("kind", [SchedulerError, CommandMissing])
def test_submission_check_refused(
    kind: type[SchedulerError],
) -> None:
    backend = Checked()
    check = SubmissionCheck(resilient(backend))
    backend.error = kind("It takes no job.")
    assert not asyncio.run(check.ask())
    assert check.problem == "It takes no job."
    backend.error = None
    assert asyncio.run(check.ask())
    assert check.problem is None


def test_submission_check_scheduler_down() -> None:
    backend = Checked()
    check = SubmissionCheck(resilient(backend))
    backend.error = SchedulerUnavailable("It is away.")
    assert not asyncio.run(check.ask())
    assert check.problem is None


def test_submission_check_unsupported() -> None:
    assert SubmissionCheck(FakeScheduler()).problem is None
    check = SubmissionCheck(resilient(FakeScheduler()))
    assert asyncio.run(check.ask())
    assert check.problem is None
