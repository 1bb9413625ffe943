"""Filters, orders and fields of the listing, over jobs that the scheduler shows."""

from datetime import UTC, datetime, timedelta

from hpcq.schedulers.testing.jobs import Jobs, Json, Study
from hpcq.schedulers.testing.service import Service


def _found(service: Service, query: str) -> list[Json]:
    answer = service.client.get(f"/jobs?{query}")
    assert answer.status_code == 200, answer.text
    found: list[Json] = answer.json()
    return found


def test_listing_filters_and_order(service: Service, jobs: Jobs, study: Study) -> None:
    began = (datetime.now(UTC) - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    quick = jobs.submit(study.job(study.script("exit 3\n", "quick.sh"), name="filter-quick"))
    slow = jobs.submit(study.job(study.script("sleep 600\n", "slow.sh"), name="filter-slow"))
    ended, running = jobs.ended(quick), jobs.running(slow)

    def ids(query: str) -> list[str]:
        found = _found(service, f"workingDirectory={study.directory}&{query}")
        return [job["jobId"] for job in found]

    assert ids("name=filter-*&sort=name&archived=false") == [quick, slow]
    assert ids("sort=-name") == [slow, quick]
    assert ids("active=true") == [slow]
    assert ids("state=FAILED") == [quick]
    assert ids("status=RUNNING,STOPPED&text=SLOW.SH") == [slow]
    assert ids(f"owner={running['owner']}&sort=jobId&state=RUNNING") == [slow]
    assert ids(f"endedAfter={began}") == [quick]
    assert ids(f"endedBefore={began}") == []
    assert set(ids(f"submittedAfter={began}")) == {quick, slow}
    assert ids("archived=true&state=FAILED,RUNNING") == [slow, quick]
    shown = _found(service, "name=filter-quick&fields=jobId,exitCode")
    assert {"jobId": quick, "exitCode": ended["exitCode"]} in shown
