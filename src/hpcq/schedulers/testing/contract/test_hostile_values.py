"""Nothing in a request runs as a command, becomes an option or is altered on its way.

Each value goes into every text field of one job; a field that is refused (which every scheduler
may do, with its reason) is recorded, and the job is sent again without it.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hpcq.schedulers.testing.backend import Backend
from hpcq.schedulers.testing.contract.hostile import UNSENDABLE, file_name, pairs, values
from hpcq.schedulers.testing.jobs import Jobs, Json, Study, assert_problem, own_words
from hpcq.schedulers.testing.service import INSTALLATION, Service

CANARY = "HPCQ_CANARY"
"""A file that exists when something was run; in file names it stands without a folder, and would
come into being wherever that something ran."""
ORDER = (
    "args",
    "environment",
    "name",
    "account",
    "workingDirectory",
    "scriptFile",
    "stdoutPath",
    "stderrPath",
)
MANY = int(os.environ.get("HPCQ_HOSTILE_VALUES", "0"))
"""The number of values that go into all fields of a job; 0 for the usual ones."""
WILDCARDS = {"*", "?[!a-z]*"}
MAY_BE_REFUSED = {
    "args": 0,
    "environment": 0,
    "name": 25,  # those with control characters
    "account": 100,
    "workingDirectory": 25,
    "scriptFile": 15,
    "stdoutPath": 30,
    "stderrPath": 30,
}
"""How often a scheduler may say no; a service that refuses everything is of no use."""
SCRIPT = """\
printf '%s\\0' "$1" > {out}/argument
printf '%s\\0' "$HOSTILE" > {out}/variable
/bin/pwd -P > {out}/directory
echo to stdout
echo to stderr >&2
: > {out}/arrived
"""


@dataclass
class Attempt:
    """One value on its way through all fields."""

    value: str
    home: Path
    out: Path
    fields: Json
    refused: dict[str, str] = field(default_factory=dict)
    job_id: str | None = None


def _tried(base: Path, backend: Backend) -> list[str]:
    everything = values(f"{base}/{CANARY}")
    assert len(set(everything)) >= 50
    return everything[:: backend.every_nth_value]


def _attempt(base: Path, number: int, value: str, backend: Backend) -> Attempt:
    """Lay out directories and a script with the hostile name, and a benign way beside them."""
    home = base / backend.name / f"v{number}"
    out = home / "out"
    out.mkdir(parents=True)
    benign = Study(home / "study")
    script = benign.script(SCRIPT.format(out=out))
    fields: Json = benign.job(script, args=[value], environment={"HOSTILE": value}, name=value)
    if backend.accounts:
        fields["account"] = value
    name = file_name(value.replace(f"{base}/", ""))
    if name is not None:
        directory = Study(home / "directories" / name)
        scripts = Study(home / "scripts")
        hostile_script = scripts.script(script.read_text().removeprefix("#!/bin/sh\n"), name)
        fields |= {
            "workingDirectory": str(directory.directory),
            "scriptFile": str(hostile_script),
            "stdoutPath": str(home / "out" / f"o{name}"),
            "stderrPath": str(home / "out" / f"e{name}"),
        }
    return Attempt(value, home, out, fields)


def _benign(attempt: Attempt, name: str) -> None:
    """Take the hostile value out of one field."""
    study = attempt.home / "study"
    harmless = {
        "name": "harmless",
        "workingDirectory": str(study),
        "scriptFile": str(study / "study.sh"),
    }
    if name in harmless:
        attempt.fields[name] = harmless[name]
    else:
        attempt.fields.pop(name, None)


def _submit(service: Service, attempt: Attempt) -> None:
    while True:
        answer = service.client.post("/jobs", json=attempt.fields)
        if answer.status_code == 201:
            attempt.job_id = answer.json()["jobId"]
            return
        problem = assert_problem(answer, 400, 422, 502)
        suspects = [name for name in ORDER if problem.get("field", "").startswith(name)]
        # The scheduler's own refusal names no field; the account is all it can judge.
        name = suspects[0] if suspects else "account"
        assert name in attempt.fields and name not in attempt.refused, problem
        attempt.refused[name] = problem["detail"]
        _benign(attempt, name)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, service: Service) -> Path:
    """The directory of everything this module makes."""
    for path in _canaries(service, None):
        path.unlink()
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def attempts(service: Service, backend: Backend, base: Path) -> Iterator[list[Attempt]]:
    """Every value in every field: submitted, and over."""
    hostile = _tried(base, backend)
    if MANY:
        hostile = pairs(values(f"{base}/{CANARY}"), MANY)
    made = [_attempt(base, n, value, backend) for n, value in enumerate(hostile)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda attempt: _submit(service, attempt), made))
    jobs = Jobs(service)
    jobs.all_ended([attempt.job_id for attempt in made if attempt.job_id])
    yield made
    jobs.clean_up()


def _canaries(service: Service, base: Path | None) -> list[Path]:
    """Return every canary that came into being: below our own folders, and where daemons run."""
    trees = [service.directory, *Path("/var/tmp").glob("hpcq-test-*"), *([base] if base else [])]
    folders = [Path("/"), Path("/tmp"), Path("/var/tmp"), Path.home(), INSTALLATION]
    # Folders of jobs that end come and go meanwhile; os.walk passes over those that went.
    found = [
        Path(at, CANARY)
        for tree in trees
        for at, inner, files in os.walk(tree)
        if CANARY in inner or CANARY in files
    ]
    return [*found, *(folder / CANARY for folder in folders if (folder / CANARY).exists())]


def test_hostile_values_not_executed(service: Service, base: Path, attempts: list[Attempt]) -> None:
    assert attempts
    assert _canaries(service, base) == []


def test_hostile_values_own_script_ran(jobs: Jobs, attempts: list[Attempt]) -> None:
    lost = {a.value: jobs.read(a.job_id) for a in attempts if not (a.out / "arrived").exists()}  # type: ignore[arg-type]
    assert lost == {}


def test_hostile_arguments_and_variables_unaltered(attempts: list[Attempt]) -> None:
    for attempt in attempts:
        for arrived in ("argument", "variable"):
            written = (attempt.out / arrived).read_bytes()
            assert written == attempt.value.encode() + b"\0", attempt.value


def test_hostile_values_in_job_record(
    jobs: Jobs, attempts: list[Attempt], backend: Backend
) -> None:
    listed = jobs.listed()
    for attempt in attempts:
        assert attempt.job_id is not None
        for job in (jobs.read(attempt.job_id), listed[attempt.job_id]):
            unseen = {"environment"} if backend.keeps_accounts else {"environment", "account"}
            asked = {k: v for k, v in attempt.fields.items() if k not in unseen}
            assert {name: job[name] for name in asked} == asked
            assert (job["state"], job["exitCode"]) == ("DONE", 0)


def test_hostile_paths_used_as_given(attempts: list[Attempt]) -> None:
    for attempt in attempts:
        where = attempt.fields["workingDirectory"]
        assert (attempt.out / "directory").read_bytes() == where.encode() + b"\n"
        for stream in ("stdout", "stderr"):
            path = attempt.fields.get(f"{stream}Path")
            if path is not None:
                assert own_words(Path(path)) == f"to {stream}\n", path


def test_hostile_values_refusal_count_and_reason(attempts: list[Attempt]) -> None:
    counted = Counter(name for attempt in attempts for name in attempt.refused)
    # Two in a row are refused twice as often.
    more = 1 + 2 * max(0, len(attempts) / len(values("")) - 1)
    too_many = {name: n for name, n in counted.items() if n > more * MAY_BE_REFUSED[name]}
    assert too_many == {}, [attempt.refused for attempt in attempts if attempt.refused]


@pytest.mark.parametrize("name", ["workingDirectory", "scriptFile", "stdoutPath", "stderrPath"])
def test_hostile_relative_paths(
    service: Service, jobs: Jobs, study: Study, base: Path, name: str, backend: Backend
) -> None:
    script = study.script("true\n")
    accepted = []
    for value in _tried(base, backend):
        answer = service.client.post("/jobs", json=study.job(script) | {name: value})
        if answer.status_code == 201 and name.startswith("std"):
            accepted.append(jobs.accepted(answer))
        else:
            assert_problem(answer, 400, 422)
    for job_id in accepted:
        # Grid Engine holds a job whose output it cannot write, and says so.
        jobs.wait(job_id, lambda job: job["status"] == "STOPPED" or job["nativeState"] == "Eqw")
    assert _canaries(service, base) == []


def test_hostile_queues(
    service: Service, jobs: Jobs, study: Study, base: Path, backend: Backend
) -> None:
    script = study.script("true\n")
    for value in _tried(base, backend):
        answer = service.client.post("/jobs", json=study.job(script, queue=value, hold=True))
        # Grid Engine's queues are patterns: this one means any.
        if answer.status_code == 201 and value in WILDCARDS:
            assert jobs.read(jobs.accepted(answer))["queue"] == value
        else:
            assert_problem(answer, 400, 422, 501, 502)
    assert _canaries(service, base) == []
    assert len(jobs.submitted) <= len(WILDCARDS)


@pytest.mark.parametrize(
    "name", ["qos", "project", "reservation", "constraints", "mailTo", "options", "gpus"]
)
def test_hostile_site_names(
    service: Service, jobs: Jobs, study: Study, base: Path, backend: Backend, name: str
) -> None:
    script = study.script("true\n")
    for value in _tried(base, backend):
        asked = {"constraints": [value], "options": [value], "gpus": {"count": 1, "type": value}}
        body = study.job(script, hold=True, **{name: asked.get(name, value)})
        answer = service.client.post("/jobs", json=body)
        # A plain word, such as NONE, may be a site's name.
        if answer.status_code == 201 and value.isascii() and value.isalnum():
            jobs.accepted(answer)
        else:
            assert_problem(answer, 400, 422, 501, 502)
    assert _canaries(service, base) == []


def test_hostile_variable_names(
    service: Service, jobs: Jobs, study: Study, base: Path, backend: Backend
) -> None:
    accepted: dict[str, Study] = {}
    for number, value in enumerate(_tried(base, backend)):
        own = Study(study.directory / str(number))
        script = own.script("/bin/cat /proc/$$/environ > environ\n")
        body = own.job(script, environment={value: f"value {number}"})
        answer = service.client.post("/jobs", json=body)
        if answer.status_code == 201:
            jobs.accepted(answer)
            accepted[value] = own
        else:
            assert_problem(answer, 400, 422)
    jobs.all_ended(jobs.submitted)
    for value, own in accepted.items():
        entries = (own.directory / "environ").read_bytes().split(b"\0")
        assert f"{value}=value {own.directory.name}".encode() in entries
    assert _canaries(service, base) == []


@pytest.mark.parametrize("value", UNSENDABLE, ids=ascii)
@pytest.mark.parametrize(
    "name", [*ORDER, "script", "queue", "variable", "qos", "mailTo", "options"]
)
def test_hostile_values_unsendable(service: Service, study: Study, name: str, value: str) -> None:
    path = f"{study.directory}/{value}"
    fields: dict[str, Json] = {
        "args": {"args": [value]},
        "environment": {"environment": {"HOSTILE": value}},
        "variable": {"environment": {value: "x"}},
        "workingDirectory": {"workingDirectory": path},
        "scriptFile": {"scriptFile": path},
        "script": {"script": f"true {value}\n", "scriptFile": None},
        "stdoutPath": {"stdoutPath": path},
        "stderrPath": {"stderrPath": path},
        "options": {"options": [f"--x={value}"]},
    }
    body = study.job(study.script("true\n")) | fields.get(name, {name: value})
    # A lone surrogate can be escaped in JSON, and only there.
    content = json.dumps(body).encode("ascii")
    headers = {"content-type": "application/json"}
    answer = service.client.post("/jobs", content=content, headers=headers)
    problem = assert_problem(answer, 400, 422, *([501] if name in ("queue", "account") else []))
    if name == "script":
        assert problem["field"] == "script"
