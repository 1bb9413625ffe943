"""Output and files of jobs over HTTP, while they run and after."""

from concurrent.futures import ThreadPoolExecutor

import httpx

from hpcq.schedulers.testing.backend import Backend, those_with
from hpcq.schedulers.testing.event_streams import events_of
from hpcq.schedulers.testing.jobs import Jobs, Json, Study, assert_problem
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until

LINES = "".join(f"line {number}\n" for number in range(1, 101))
PRINTS = 'n=1; while [ $n -le 100 ]; do echo "line $n"; n=$((n + 1)); done\necho "to stderr" >&2\n'
WAITS = "echo one\n: > began\nuntil [ -e go ]; do sleep 0.1; done\necho two\n"


def _output(service: Service, job_id: str, query: str = "", **headers: str) -> httpx.Response:
    return service.client.get(f"/jobs/{job_id}/output{query}", headers=headers)


def _delivered(service: Service, job_id: str, query: str = "") -> httpx.Response:
    """Return the output once it is there."""

    def look() -> httpx.Response | None:
        answer = _output(service, job_id, query)
        return answer if answer.status_code == 200 else None

    return until(look, lambda: _output(service, job_id, query).text)


def test_output_whole_range_and_tail(service: Service, jobs: Jobs, study: Study) -> None:
    job_id = jobs.submit(study.job(study.script(PRINTS)))
    assert jobs.ended(job_id)["state"] == "DONE"
    assert _delivered(service, job_id).text == LINES
    assert "to stderr\n" in _delivered(service, job_id, "?stream=stderr").text
    part = _output(service, job_id, Range="bytes=7-13")
    assert (part.status_code, part.text) == (206, LINES[7:14])
    assert part.headers["content-range"] == f"bytes 7-13/{len(LINES)}"
    assert_problem(_output(service, job_id, Range=f"bytes={len(LINES)}-"), 416)
    assert _output(service, job_id, "?tail=2").text == "line 99\nline 100\n"
    uid = jobs.read(job_id)["uid"]
    assert _output(service, uid, "?tail=1").text == "line 100\n"


def test_output_while_job_runs(
    service: Service, jobs: Jobs, study: Study, backend: Backend
) -> None:
    job_id = jobs.submit(study.job(study.script(WAITS)))
    jobs.running(job_id)
    until(lambda: (study.directory / "began").exists())
    if backend.writes_output_at_once:
        assert _delivered(service, job_id).text == "one\n"
    else:
        assert assert_problem(_output(service, job_id), 404)["code"] == "no_such_file"
    (study.directory / "go").touch()
    jobs.ended(job_id)
    assert _delivered(service, job_id).text == "one\ntwo\n"


def test_output_followed_to_job_end(
    service: Service, jobs: Jobs, study: Study, backend: Backend
) -> None:
    job_id = jobs.submit(study.job(study.script(WAITS), hold=True))
    told: list[tuple[str, Json]] = []

    def follow() -> None:
        for kind, data, _ in events_of(service, f"/jobs/{job_id}/output?follow=true"):
            told.append((kind, data))

    with ThreadPoolExecutor(1) as thread:
        followed = thread.submit(follow)
        assert service.client.post(f"/jobs/{job_id}/release").status_code == 202
        until(lambda: (study.directory / "began").exists())
        if backend.writes_output_at_once:
            until(lambda: told or followed.done())
            assert told == [("message", {"text": "one\n"})]
        (study.directory / "go").touch()
        followed.result()
    text = "".join(data["text"] for kind, data in told if kind == "message")
    assert text == "one\ntwo\n"
    assert told[-1] == ("end", {"state": "DONE", "detail": None})
    assert [kind for kind, _ in told].count("end") == 1


def test_output_of_waiting_job(service: Service, jobs: Jobs, study: Study) -> None:
    job_id = jobs.submit(study.job(study.script("true\n"), hold=True))
    problem = assert_problem(_output(service, job_id), 404)
    assert problem["code"] == "no_such_file"
    assert "not started" in problem["detail"]


@those_with(lambda backend: backend.arrays)
def test_output_of_array_tasks(service: Service, jobs: Jobs, study: Study) -> None:
    script = study.script('echo "task $HPCQ_ARRAY_TASK_ID"\n')
    array = jobs.submit(study.job(script, array={"first": 1, "last": 2}))
    jobs.ended(array)
    problem = assert_problem(_output(service, array), 404)
    assert "each of its tasks" in problem["detail"]
    listed = [job for job in jobs.listed().values() if job["arrayJobId"] == array]
    tasks = [job for job in listed if job["arrayTaskId"] is not None]
    assert {job["arrayTaskId"] for job in tasks} == {1, 2}
    for task in tasks:
        text = _delivered(service, task["jobId"]).text
        assert text == f"task {task['arrayTaskId']}\n"


def test_files_listed_and_read(service: Service, jobs: Jobs, study: Study) -> None:
    script = study.script("mkdir results; echo 1 > results/out.csv; ln -s /etc/passwd link\n")
    job_id = jobs.submit(study.job(script))
    jobs.ended(job_id)
    files = f"/jobs/{job_id}/files"
    kinds = {e["name"]: e["kind"] for e in service.client.get(files).json()["entries"]}
    assert (kinds["results"], kinds["link"], kinds["study.sh"]) == ("folder", "link", "file")
    (inner,) = service.client.get(files, params={"path": "results"}).json()["entries"]
    assert (inner["name"], inner["size"]) == ("out.csv", 2)
    assert service.client.get(f"{files}/results/out.csv").text == "1\n"
    for path in ("link", "../study.sh", "results/../link", "missing"):
        # Sent as it is: the client would take the dots away.
        url = httpx.URL(service.url).copy_with(raw_path=f"{files}/{path}".encode())
        assert_problem(service.client.get(url), 404)
