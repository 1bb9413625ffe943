"""Changes of jobs that wait: taken or refused by name, and the same wherever a job is read."""

import json
from pathlib import Path

import pytest

from hpcq.schedulers.testing.backend import Backend, those_with
from hpcq.schedulers.testing.contract.hostile import UNSENDABLE, values
from hpcq.schedulers.testing.event_streams import events_of
from hpcq.schedulers.testing.jobs import Jobs, Json, Study, assert_problem
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until

VALUES: Json = {"name": "renamed", "priority": -1, "wallTimeLimit": 7200, "memoryLimit": 0.5}
"""Changes that any site's scheduler lets any user make, if its kind can make them."""
LIMITS: Json = {"wallTimeLimit": 3600, "memoryLimit": 0.25}
SHOWN = ("name", "queue", "wallTimeLimit", "memoryLimit")


def _capable(service: Service, what: str = "changes") -> set[str]:
    return set(service.client.get("/cluster").json()["capabilities"][what])


def _limits(service: Service) -> Json:
    return {name: value for name, value in LIMITS.items() if name in _capable(service, "fields")}


def _changes(service: Service, backend: Backend) -> Json:
    capable = _capable(service) - (set() if backend.keeps_held else {"priority"})
    return {name: value for name, value in VALUES.items() if name in capable}


def _patch(service: Service, job_id: str, changes: Json) -> Json:
    answer = service.client.patch(f"/jobs/{job_id}", json=changes)
    assert answer.status_code == 200, f"{answer.status_code} {answer.text[:2000]}"
    job: Json = answer.json()
    return job


def _shown(job: Json) -> Json:
    return {name: job[name] for name in SHOWN}


def test_change_held_job(service: Service, jobs: Jobs, study: Study, backend: Backend) -> None:
    job_id = jobs.submit(study.job(study.script("echo ran\n"), hold=True, **_limits(service)))
    before = jobs.wait(job_id, lambda job: job["state"] == "QUEUED_HELD")
    changes = _changes(service, backend)
    expected = _shown(before) | {n: v for n, v in changes.items() if n in SHOWN}
    for _ in range(2):
        job = _patch(service, job_id, changes)
        assert _shown(job) == expected
        assert (job["uid"], job["state"]) == (before["uid"], "QUEUED_HELD")
        assert job["stdoutPath"] == before["stdoutPath"]
    jobs.polled(2)
    assert _shown(jobs.read(job_id)) == _shown(jobs.listed()[job_id]) == expected
    service.restart()
    jobs.polled(2)
    assert _shown(jobs.read(job_id)) == expected
    assert service.client.post(f"/jobs/{job_id}/release").status_code == 202
    ended = jobs.ended(job_id)
    # A queue may only be known once a job runs in it.
    assert _shown(ended) == expected | {"queue": ended["queue"]}
    assert (ended["state"], ended["exitCode"]) == ("DONE", 0)
    until(lambda: Path(ended["stdoutPath"]).read_text() == "ran\n")
    service.restart()
    assert _shown(jobs.read(job_id)) == _shown(ended)
    told = [e for e in events_of(service, f"/jobs/{job_id}/events") if e.kind == "job.changed"]
    assert len(told) == bool(changes)
    for event in told:
        assert changes.items() <= event.data.items()


@those_with(lambda backend: "any" in backend.conditions)
def test_change_priority_dependent_job(service: Service, jobs: Jobs, study: Study) -> None:
    script = study.script("true\n")
    held = jobs.submit(study.job(script, hold=True))
    first = {"jobId": held, "condition": "any"}
    job_id = jobs.submit(study.job(script, dependsOn=[first]))
    for priority in (-3, -3, None, -1):
        answer = service.client.patch(f"/jobs/{job_id}", json={"priority": priority, "name": "x"})
        if "priority" in _capable(service):
            assert answer.status_code == 200, answer.text
            assert (answer.json()["status"], answer.json()["name"]) == ("START_REQUESTED", "x")
        else:
            assert assert_problem(answer, 501)["field"] in ("priority", "name")
    jobs.delete(held)
    jobs.delete(job_id)


@those_with(lambda backend: not backend.keeps_held)
def test_change_priority_held_job(service: Service, jobs: Jobs, study: Study) -> None:
    job_id = jobs.submit(study.job(study.script("true\n"), hold=True))
    for priority in (-3, None):
        answer = service.client.patch(f"/jobs/{job_id}", json={"priority": priority, "name": "x"})
        assert "release" in assert_problem(answer, 409)["detail"]
    jobs.polled(2)
    job = jobs.read(job_id)
    assert (job["name"], job["state"]) == ("study", "QUEUED_HELD")


@those_with(lambda backend: backend.arrays)
def test_change_array_with_tasks(
    service: Service, jobs: Jobs, study: Study, backend: Backend
) -> None:
    array_of_two = {"first": 1, "last": 2}
    body = study.job(study.script("true\n"), hold=True, array=array_of_two, **_limits(service))
    array = jobs.submit(body)
    tasks = [backend.task_id.format(array=array, task=number) for number in (1, 2)]
    jobs.wait(array, lambda _: set(tasks) <= jobs.listed().keys())
    changes = {n: v for n, v in _changes(service, backend).items() if n != "priority"}
    job = _patch(service, array, changes)
    assert changes.items() <= job.items()
    jobs.polled(2)
    for task in tasks:
        assert changes.items() <= jobs.read(task).items()
        answer = service.client.patch(f"/jobs/{task}", json=changes)
        assert "whole array" in assert_problem(answer, 409)["detail"]
    assert service.client.post(f"/jobs/{array}/release").status_code == 202
    ended = jobs.all_ended([array, *tasks])
    for job in ended.values():
        assert (job["state"], job["exitCode"]) == ("DONE", 0)
        assert changes.items() <= job.items()


def test_change_queue(service: Service, jobs: Jobs, study: Study) -> None:
    job_id = jobs.submit(study.job(study.script("true\n"), hold=True))
    if "queue" not in _capable(service):
        answer = service.client.patch(f"/jobs/{job_id}", json={"queue": "batch"})
        assert assert_problem(answer, 501)["field"] == "queue"
        return
    queue = jobs.read(job_id)["queue"]
    names = [q["name"] for q in service.client.get("/queues").json() if q["isOpen"]]
    other = next((name for name in names if name != queue), queue)
    assert _patch(service, job_id, {"queue": other})["queue"] == other
    jobs.polled(2)
    assert jobs.listed()[job_id]["queue"] == other
    problem = assert_problem(
        service.client.patch(f"/jobs/{job_id}", json={"queue": "hpcq-none"}), 400, 502
    )
    assert problem.get("field") == "queue" or problem["schedulerMessage"]
    assert jobs.read(job_id)["queue"] == other


def test_change_time_limit(service: Service, jobs: Jobs, study: Study, backend: Backend) -> None:
    limit = backend.wall_time_grain_seconds
    job_id = jobs.submit(study.job(study.script("sleep 600\n"), hold=True, wallTimeLimit=3600))
    answer = service.client.patch(f"/jobs/{job_id}", json={"wallTimeLimit": limit})
    if "wallTimeLimit" not in _capable(service):
        assert assert_problem(answer, 501)["field"] == "wallTimeLimit"
        return
    assert answer.json()["wallTimeLimit"] == limit
    assert service.client.post(f"/jobs/{job_id}/release").status_code == 202
    job = jobs.ended(job_id)
    assert (job["failureKind"], job["wallTimeLimit"]) == ("TIME_LIMIT", limit)


@pytest.mark.parametrize("name", ["name", "queue", "account", *LIMITS])
def test_change_to_null(service: Service, jobs: Jobs, study: Study, name: str) -> None:
    limits = {n: v for n, v in _limits(service).items() if n == name}
    job_id = jobs.submit(study.job(study.script("true\n"), hold=True, **limits))
    before = jobs.read(job_id)
    if name in _capable(service, "removals"):
        job = _patch(service, job_id, {name: None})
        assert job.get(name) is None
        assert jobs.read(job_id).get(name) is None
    else:
        answer = service.client.patch(f"/jobs/{job_id}", json={name: None})
        assert assert_problem(answer, 400, 501)["field"] == name
        assert _shown(jobs.read(job_id)) == _shown(before)


def test_change_unsupported_field(
    service: Service, jobs: Jobs, study: Study, backend: Backend
) -> None:
    job_id = jobs.submit(study.job(study.script("true\n"), hold=True))
    before = jobs.read(job_id)
    capable = _capable(service)
    for name, value in (VALUES | {"queue": "batch", "account": "pem"}).items():
        if name not in capable:
            changes = _changes(service, backend) | {name: value}
            answer = service.client.patch(f"/jobs/{job_id}", json=changes)
            assert assert_problem(answer, 501)["field"] == name
    unknown = service.client.patch(f"/jobs/{job_id}", json={"args": ["1"]})
    assert assert_problem(unknown, 422)["field"] == "args"
    assert _shown(_patch(service, job_id, {})) == _shown(jobs.read(job_id)) == _shown(before)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"name": ""}, 400),
        ({"name": "x" * 300}, 400),
        ({"name": ["x"]}, 422),
        ({"wallTimeLimit": 0}, 400),
        ({"wallTimeLimit": -5}, 400),
        ({"wallTimeLimit": "soon"}, 422),
        ({"memoryLimit": 0}, 400),
        ({"memoryLimit": 1e300}, 400),
        ({"priority": 1 << 40}, 400),
        ({"queue": "a queue"}, 400),
        ({"queue": "-q"}, 400),
        ([], 422),
        ("name", 422),
        (None, 422),
    ],
)
def test_change_invalid_value(
    service: Service, jobs: Jobs, study: Study, changes: object, status: int
) -> None:
    job_id = jobs.submit(study.job(study.script("true\n"), hold=True))
    before = _shown(jobs.read(job_id))
    problem = assert_problem(service.client.patch(f"/jobs/{job_id}", json=changes), status, 501)
    if isinstance(changes, dict):
        assert problem["field"].partition(".")[0] in changes
        assert problem["status"] == (status if status == 422 else problem["status"])
    assert _shown(jobs.read(job_id)) == before


def test_change_running_or_ended_job(
    service: Service, jobs: Jobs, study: Study, backend: Backend
) -> None:
    changes = _changes(service, backend)
    running = jobs.submit(study.job(study.script("until [ -e go ]; do sleep 0.1; done\n")))
    before = jobs.running(running)
    assert_problem(service.client.patch(f"/jobs/{running}", json=changes), 409)
    (study.directory / "go").touch()
    ended = jobs.ended(running)
    assert_problem(service.client.patch(f"/jobs/{running}", json=changes), 409)
    assert ended["name"] == before["name"] == "study"
    assert_problem(service.client.patch("/jobs/99999999", json=changes), 404)


def test_change_merge_patch_media_type(
    service: Service, jobs: Jobs, study: Study, backend: Backend
) -> None:
    job_id = jobs.submit(study.job(study.script("true\n"), hold=True))
    body = json.dumps(_changes(service, backend))
    for kind in ("application/merge-patch+json", "application/json"):
        headers = {"Content-Type": kind}
        answer = service.client.patch(f"/jobs/{job_id}", content=body, headers=headers)
        assert answer.status_code == 200, answer.text
    answer = service.client.patch(
        f"/jobs/{job_id}", content=body, headers={"Content-Type": "text/plain"}
    )
    assert_problem(answer, 415, 422)


def test_change_hostile_values(
    service: Service, jobs: Jobs, study: Study, backend: Backend
) -> None:
    canary = study.directory / "HPCQ_CHANGED"
    capable = _capable(service)
    job_id = jobs.submit(study.job(study.script("true\n"), hold=True))
    name = jobs.read(job_id)["name"]
    for value in values(str(canary))[:: backend.every_nth_value]:
        answer = service.client.patch(f"/jobs/{job_id}", json={"name": value})
        if answer.status_code == 200:
            name = value
        else:
            assert_problem(answer, 400 if "name" in capable else 501)
        assert jobs.read(job_id)["name"] == name
        for field in ("queue", "account"):
            answer = service.client.patch(f"/jobs/{job_id}", json={field: value})
            # A plain word, such as NONE, may be a site's name.
            if answer.status_code != 200:
                assert_problem(answer, 400, 403, 501, 502)
    for value in UNSENDABLE:
        content = json.dumps({"name": value}).encode("ascii")
        headers = {"Content-Type": "application/json"}
        answer = service.client.patch(f"/jobs/{job_id}", content=content, headers=headers)
        assert_problem(answer, 400, 422, 501)
    assert jobs.read(job_id)["name"] == name
    jobs.delete(job_id)
    assert jobs.ended(job_id)["name"] == name
    assert not canary.exists()
