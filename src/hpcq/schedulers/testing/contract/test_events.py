"""Events of jobs: in order, once each, and the same when they are read again."""

from hpcq.schedulers.testing.event_streams import StreamedEvent, events_of
from hpcq.schedulers.testing.jobs import Jobs, Study, assert_problem
from hpcq.schedulers.testing.service import Service


def test_events_of_one_job(service: Service, jobs: Jobs, study: Study) -> None:
    script = study.script("until [ -e go ]; do sleep 0.1; done\nexit 3\n")
    job_id = jobs.submit(study.job(script))
    told: list[StreamedEvent] = []
    # The stream ends when the job is over.
    for event in events_of(service, f"/jobs/{job_id}/events"):
        told.append(event)
        if event.data.get("state") == "RUNNING":
            (study.directory / "go").touch()
    assert told[0].kind == "job.submitted"
    states = [event.data["state"] for event in told if event.kind == "job.state"]
    assert states[-1] == "FAILED"
    assert "RUNNING" in states
    assert told[-1].data["exitCode"] == 3
    assert {event.data["jobId"] for event in told} == {job_id}
    numbers = [event.number for event in told if event.number is not None]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == len(told)
    assert list(events_of(service, f"/jobs/{job_id}/events")) == told
    later = events_of(service, f"/jobs/{job_id}/events", Last_Event_ID=str(numbers[0]))
    assert list(later) == told[1:]
    last = {"Last-Event-ID": str(numbers[-1])}
    assert service.client.get(f"/jobs/{job_id}/events", headers=last).status_code == 204


def test_events_of_all_jobs(service: Service, jobs: Jobs, study: Study) -> None:
    ids = [jobs.submit(study.job(study.script("exit 0\n"), name=f"study-{n}")) for n in range(3)]
    jobs.all_ended(ids)
    each = [list(events_of(service, f"/jobs/{job_id}/events")) for job_id in ids]
    expected = sorted(
        (event for events in each for event in events), key=lambda event: event.number or 0
    )
    first = expected[0].number or 0
    told: list[StreamedEvent] = []
    for event in events_of(service, f"/events?after={first - 1}"):
        if event.data["jobId"] in ids:
            told.append(event)
        if event.number == expected[-1].number:
            break
    assert told == expected
    query = f"/events?after={first - 1}&name=study-1&type=job.state"
    wanted = [event for event in each[1] if event.kind == "job.state"]
    chosen = events_of(service, query)
    assert [next(chosen) for _ in wanted] == wanted
    chosen.close()


def test_events_bad_requests(service: Service, jobs: Jobs, study: Study) -> None:
    job_id = jobs.submit(study.job(study.script("exit 0\n")))
    jobs.ended(job_id)
    gone = service.client.get("/events", headers={"Last-Event-ID": "99999999"})
    assert assert_problem(gone, 410)["code"] == "events_gone"
    assert_problem(service.client.get("/jobs/no-such-job/events"), 404)
    for query in ("after=-1", "type=job.unknown", "limit=3", "state=DOING"):
        problem = assert_problem(service.client.get(f"/events?{query}"), 422)
        assert problem["field"] == query.partition("=")[0]
