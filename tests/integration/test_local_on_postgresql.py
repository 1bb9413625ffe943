"""The embedded scheduler with its records in PostgreSQL: one service's jobs are not another's."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.databases import DATABASES

from hpcq.schedulers.testing.jobs import Jobs, Study
from hpcq.schedulers.testing.service import Service

pytestmark = pytest.mark.postgres


def test_database_shared_by_two_services(
    start_service: Callable[..., Service], study: Study, tmp_path: Path
) -> None:
    with DATABASES["POSTGRESQL"].fresh(tmp_path) as database:
        one, other = (start_service(**database.settings) for _ in range(2))
        script = study.script("exit 3\n")
        ours, theirs = Jobs(one), Jobs(other)
        first, second = ours.submit(study.job(script)), theirs.submit(study.job(script))
        assert first == second, "each counts by itself"
        uids = {jobs.ended(job_id)["uid"] for jobs, job_id in ((ours, first), (theirs, second))}
        assert len(uids) == 2
        assert [job["uid"] for job in ours.listed().values()] == [ours.read(first)["uid"]]
        one.restart()
        assert ours.read(first)["exitCode"] == 3
        one.stop()
        other.stop()
