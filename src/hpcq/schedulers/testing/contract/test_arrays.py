"""One script, run once for each of many numbers."""

from collections.abc import Set
from pathlib import Path

from hpcq.domain.actions import Action
from hpcq.schedulers.testing.backend import Backend
from hpcq.schedulers.testing.jobs import Jobs, Json, Study, assert_problem, own_words
from hpcq.schedulers.testing.service import Service

NUMBER = 'task="$HPCQ_ARRAY_TASK_ID"\n'
TASKS = {1, 3, 5}


def _array(study: Study, body: str, **fields: object) -> Json:
    return study.job(
        study.script(NUMBER + body),
        name="many",
        array={"first": 1, "last": 6, "step": 2, **fields},
    )


def _accepted(service: Service, jobs: Jobs, backend: Backend, body: Json) -> str | None:
    """Submit an array; None where the scheduler cannot have any, and said so."""
    answer = service.client.post("/jobs", json=body)
    if not backend.arrays:
        assert assert_problem(answer, 501)["field"] == "array"
        return None
    assert answer.status_code == 201, answer.text
    return jobs.accepted(answer)


def _id(backend: Backend, array: str, number: int) -> str:
    return backend.task_id.format(array=array, task=number)


def _tasks(jobs: Jobs, array: str) -> dict[int, Json]:
    tasks = (job for job in jobs.listed().values() if job["arrayTaskId"] is not None)
    return {job["arrayTaskId"]: job for job in tasks if job["arrayJobId"] == array}


def _act(service: Service, job_id: str, action: Action) -> None:
    answer = service.client.post(f"/jobs/{job_id}/{action}")
    assert answer.status_code == 202, answer.text


def _counts(job: Json) -> dict[str, int]:
    """Return how many tasks an array has in each state, without zeros."""
    counts = {state: count for state, count in job["tasks"]["byState"].items() if count}
    assert job["tasks"]["total"] == sum(counts.values())
    return counts


def _listed_with_its_tasks(jobs: Jobs, array: str, numbers: Set[int] = TASKS) -> None:
    """Wait until the queue was asked after the array was submitted."""
    jobs.wait(array, lambda _: _tasks(jobs, array).keys() == numbers)


def test_array_and_tasks_as_jobs(
    service: Service, jobs: Jobs, study: Study, backend: Backend
) -> None:
    body = _array(
        study,
        'echo "$task"; : > "began-$task"\n'
        "until [ -e go ]; do sleep 0.2; done\n"
        '[ "$task" != 3 ] || exit 4\n',
    )
    array = _accepted(service, jobs, backend, body)
    if array is None:
        return
    _listed_with_its_tasks(jobs, array)
    jobs.running(array)
    for number in TASKS:
        jobs.running(_id(backend, array, number))
    found = _tasks(jobs, array)
    assert found.keys() == TASKS
    assert jobs.listed(f"?arrayJobId={array}").keys() == {job["jobId"] for job in found.values()}
    whole = jobs.wait(array, lambda job: _counts(job) == {"RUNNING": 3})
    assert (whole["arrayJobId"], whole["arrayTaskId"]) == (None, None)
    assert {job["tasks"] for job in found.values()} == {None}
    assert {job["jobId"] for job in found.values()} == {
        _id(backend, array, number) for number in TASKS
    }
    (study.directory / "go").touch()
    whole = jobs.ended(array)
    assert (whole["state"], whole["failureKind"]) == ("FAILED", "NON_ZERO_EXIT")
    assert (whole["exitCode"], whole["name"]) == (4, "many")
    ends = {number: jobs.ended(_id(backend, array, number)) for number in TASKS}
    assert {n: (job["state"], job["exitCode"]) for n, job in ends.items()} == {
        1: ("DONE", 0),
        3: ("FAILED", 4),
        5: ("DONE", 0),
    }
    assert sorted(_printed(study)) == [1, 3, 5]
    whole = jobs.wait(array, lambda job: _counts(job) == {"DONE": 2, "FAILED": 1})
    assert jobs.over(array)["tasks"] == whole["tasks"]


def test_array_max_running_tasks(
    service: Service, jobs: Jobs, study: Study, backend: Backend
) -> None:
    body = _array(
        study,
        ': > "runs-$task"; sleep 1; ls runs-* > "seen-$task"; /bin/rm "runs-$task"\n',
        maxRunning=1,
    )
    array = _accepted(service, jobs, backend, body)
    if array is None:
        return
    assert jobs.ended(array)["state"] == "DONE"
    seen = {path.name: path.read_text() for path in study.directory.glob("seen-*")}
    assert seen == {f"seen-{number}": f"runs-{number}\n" for number in TASKS}


def test_cancel_array_and_single_task(
    service: Service, jobs: Jobs, study: Study, backend: Backend
) -> None:
    array = _accepted(service, jobs, backend, _array(study, "exec sleep 600\n"))
    if array is None:
        return
    _listed_with_its_tasks(jobs, array)
    jobs.running(array)
    jobs.running(_id(backend, array, 1))
    jobs.delete(_id(backend, array, 1))
    assert jobs.ended(_id(backend, array, 1))["failureKind"] == "CANCELLED"
    assert jobs.running(array)
    jobs.delete(array)
    whole = jobs.ended(array)
    assert (whole["state"], whole["failureKind"]) == ("FAILED", "CANCELLED")
    assert not [job for job in _tasks(jobs, array).values() if job["status"] == "RUNNING"]


def test_cancel_some_tasks(service: Service, jobs: Jobs, study: Study, backend: Backend) -> None:
    # One at a time: the first runs while the others wait.
    body = _array(study, "exec sleep 600\n", last=9, maxRunning=1)
    array = _accepted(service, jobs, backend, body)
    if array is None:
        return
    _listed_with_its_tasks(jobs, array, {1, 3, 5, 7, 9})
    jobs.running(_id(backend, array, 1))
    jobs.delete(_id(backend, array, 9))
    jobs.ended(_id(backend, array, 9))
    for _ in range(2):
        answer = service.client.delete(f"/jobs/{array}?tasks=1,3,9")
        assert answer.status_code == 202, answer.text
        assert answer.json() == {"detail": f"jobId: {array}, tasks: 1,3,9"}
    ends = {number: jobs.ended(_id(backend, array, number)) for number in (1, 3, 9)}
    assert {job["failureKind"] for job in ends.values()} == {"CANCELLED"}
    assert ends[3]["startTime"] is None
    jobs.running(_id(backend, array, 5))
    assert {n: job["status"] for n, job in _tasks(jobs, array).items()} == {
        5: "RUNNING",
        7: "START_REQUESTED",
    }
    whole = jobs.wait(array, lambda job: "UNDETERMINED" not in _counts(job))
    assert (whole["status"], _counts(whole)) == (
        "RUNNING",
        {"FAILED": 3, "RUNNING": 1, "QUEUED": 1},
    )


def test_cancel_tasks_not_yet_listed(
    service: Service, jobs: Jobs, study: Study, backend: Backend
) -> None:
    body = _array(study, "exec sleep 600\n", last=4, step=1) | {"hold": True}
    array = _accepted(service, jobs, backend, body)
    if array is None:
        return
    assert service.client.delete(f"/jobs/{array}?tasks=2-3").status_code == 202
    for number in (2, 3):
        assert jobs.ended(_id(backend, array, number))["failureKind"] == "CANCELLED"
    jobs.polled(2)
    assert _tasks(jobs, array).keys() == {1, 4}


def test_cancel_tasks_refused(service: Service, jobs: Jobs, study: Study, backend: Backend) -> None:
    alone = jobs.submit(study.job(study.script("exec sleep 600\n"), hold=True))
    no_array = assert_problem(service.client.delete(f"/jobs/{alone}?tasks=1"), 400)
    assert no_array["field"] == "tasks"
    array = _accepted(service, jobs, backend, _array(study, "exec sleep 600\n") | {"hold": True})
    if array is None:
        return
    for tasks in ("", "x", "1-", "-1", "1;3", "1,,3", "1-3-5", "all", "[1]", "1:2", "1%2C"):
        answer = service.client.delete(f"/jobs/{array}?tasks={tasks}")
        assert assert_problem(answer, 422)["field"] == "tasks", tasks
    for tasks in ("5-3", "0-999999999"):
        answer = service.client.delete(f"/jobs/{array}?tasks={tasks}")
        assert assert_problem(answer, 400)["field"] == "tasks", tasks
    for tasks in ("2", "1,7", "1-3"):
        assert_problem(service.client.delete(f"/jobs/{array}?tasks={tasks}"), 404)
    jobs.polled(2)
    assert _tasks(jobs, array).keys() == TASKS


def test_hold_and_release_array_with_running_task(
    service: Service, jobs: Jobs, study: Study, backend: Backend
) -> None:
    body = _array(study, "until [ -e go ]; do sleep 0.2; done\n", maxRunning=1)
    array = _accepted(service, jobs, backend, body)
    if array is None:
        return
    _listed_with_its_tasks(jobs, array)
    jobs.running(_id(backend, array, 1))
    for _ in range(2):
        _act(service, array, Action.HOLD)
        jobs.wait(array, lambda job: _counts(job) == {"RUNNING": 1, "QUEUED_HELD": 2})
    (study.directory / "go").touch()
    assert jobs.ended(_id(backend, array, 1))["state"] == "DONE"
    jobs.polled(2)
    whole = jobs.wait(array, lambda job: _counts(job) == {"DONE": 1, "QUEUED_HELD": 2})
    assert whole["endTime"] is None
    for _ in range(2):
        _act(service, array, Action.RELEASE)
    assert jobs.ended(array)["state"] == "DONE"
    assert_problem(service.client.post(f"/jobs/{array}/hold"), 409)


def test_hold_and_release_task(
    service: Service, jobs: Jobs, study: Study, backend: Backend
) -> None:
    body = _array(study, "until [ -e go ]; do sleep 0.2; done\n", maxRunning=1)
    array = _accepted(service, jobs, backend, body)
    if array is None:
        return
    _listed_with_its_tasks(jobs, array)
    task = _id(backend, array, 3)
    if not backend.holds_tasks:
        for action in (Action.HOLD, Action.RELEASE):
            answer = service.client.post(f"/jobs/{task}/{action}")
            assert assert_problem(answer, 501)["field"] == action
        return
    _act(service, task, Action.HOLD)
    jobs.wait(task, lambda job: job["state"] == "QUEUED_HELD")
    (study.directory / "go").touch()
    for number in (1, 5):
        assert jobs.ended(_id(backend, array, number))["state"] == "DONE"
    jobs.polled(2)
    jobs.wait(array, lambda job: _counts(job) == {"DONE": 2, "QUEUED_HELD": 1})
    _act(service, task, Action.RELEASE)
    assert jobs.ended(task)["state"] == "DONE"
    assert jobs.ended(array)["state"] == "DONE"


def test_task_output_default_files(
    service: Service, jobs: Jobs, study: Study, backend: Backend
) -> None:
    body = _array(study, 'echo "$task"; echo "error $task" >&2\n')
    body |= {"stdoutPath": str(study.directory / "100%%j, out"), "hold": True}
    array = _accepted(service, jobs, backend, body)
    if array is None:
        return
    _listed_with_its_tasks(jobs, array)
    assert service.client.post(f"/jobs/{array}/release").status_code == 202
    assert jobs.ended(array)["state"] == "DONE"
    ends = {number: jobs.ended(_id(backend, array, number)) for number in TASKS}
    written = {
        number: (Path(job["stdoutPath"]).read_text(), Path(job["stderrPath"]).read_text())
        for number, job in ends.items()
    }
    assert written == {number: (f"{number}\n", f"error {number}\n") for number in TASKS}
    assert all(Path(job["stdoutPath"]).name.startswith("100%j, out") for job in ends.values())


def test_task_output_path_with_number(
    service: Service, jobs: Jobs, study: Study, backend: Backend
) -> None:
    body = _array(study, 'echo "$task"; echo "error $task" >&2\n')
    body |= {"stdoutPath": "%x-%j_%a.log", "stderrPath": "%a, %j"}
    array = _accepted(service, jobs, backend, body)
    if array is None:
        return
    assert jobs.ended(array)["state"] == "DONE"
    for number in TASKS:
        task = _id(backend, array, number)
        job = jobs.ended(task)
        assert job["stdoutPath"] == f"{study.directory}/many-{array}_{number}.log"
        assert job["stderrPath"] == f"{study.directory}/{number}, {array}"
        read = {
            stream: own_words(service.client.get(f"/jobs/{task}/output?stream={stream}").text)
            for stream in ("stdout", "stderr")
        }
        assert read == {"stdout": f"{number}\n", "stderr": f"error {number}\n"}


def _printed(study: Study) -> list[int]:
    files: list[Path] = list(study.directory.glob("many.o*"))
    return [int(path.read_text()) for path in files]
