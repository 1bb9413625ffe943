"""The stand-in for PBS prints as PBS does."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.fakebin.pbs import Pbs, output
from tests.unit.schedulers.pbs.recorded import cases, recorded
from tests.waiting import until

from hpcq.schedulers.pbs_family.values import restored


def _pairs(value: Any) -> Any:
    if isinstance(value, dict):
        return [(name, _pairs(inner)) for name, inner in value.items()]
    return value


def _loaded(raw: bytes) -> Any:
    text = raw.decode("utf-8", "surrogateescape")
    return _pairs(json.loads(text, parse_float=str))


_NO_ODD_VALUES = [
    c for c in cases("-f", "json") if c[1] == "2026.04" and b"E_HUGE" not in recorded(*c).stdout
]


@pytest.mark.parametrize(("case", "version"), _NO_ODD_VALUES)
def test_json_is_written_byte_for_byte(case: str, version: str) -> None:
    raw = recorded(case, version).stdout
    assert output.render_json(_loaded(raw)).encode("utf-8", "surrogateescape") == raw


_RELEASE = ["running", "two-ids", "injected-newlines", "long-workdir.LANG-C"]


@pytest.mark.parametrize("case", _RELEASE)
def test_json_of_the_release_is_written_byte_for_byte(case: str) -> None:
    raw = recorded(f"qstat-f-json.{case}", "23.06.06").stdout
    given = _pairs(json.loads(restored(raw).decode("utf-8"), parse_int=str, parse_float=str))
    written = output.render_release_json(given)
    assert written.encode("utf-8", "surrogateescape") == raw


def _run(fake: Pbs, *argv: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [str(fake.path / argv[0]), *argv[1:]],
        input=stdin,
        capture_output=True,
        check=False,
        cwd=fake.path.parent,
    )


@pytest.mark.parametrize(
    ("case", "argv"),
    [
        ("qstat-f-json.unknown", ("qstat", "-f", "-F", "json", "999999")),
        ("qstat-x-f-json.unknown", ("qstat", "-x", "-f", "-F", "json", "999999")),
        ("qstat-f-json.bad-id", ("qstat", "-f", "-F", "json", "12abc")),
        ("qdel.unknown", ("qdel", "999999")),
        ("qdel.bad-id", ("qdel", "notajob")),
        ("qdel.empty-string", ("qdel", "")),
        ("qhold.unknown", ("qhold", "999999")),
        ("qsub.unknown-queue", ("qsub", "-q", "nosuch")),
        ("qsub.queue-disabled", ("qsub", "-q", "closed")),
        ("qsub.unknown-resource", ("qsub", "-l", "nosuch=3")),
        ("qsub.bad-walltime", ("qsub", "-l", "walltime=abc")),
        ("qsub.name-too-long-231", ("qsub", "-N", "x" * 231)),
        ("qstat-f-json.unknown-array-elem", ("qstat", "-f", "-F", "json", "999999[1]")),
        ("qsub.mix-select-and-ncpus", ("qsub", "-l", "select=1:ncpus=2", "-l", "ncpus=4")),
        ("qsub.array-too-big", ("qsub", "-J", "1-20000")),
    ],
)
def test_a_refusal_is_the_recorded_one(tmp_path: Path, case: str, argv: tuple[str, ...]) -> None:
    said = _run(Pbs(tmp_path), *argv)
    real = recorded(case)
    assert (said.returncode, said.stderr) == (real.exit_code, real.stderr)
    assert _without_time(said.stdout) == _without_time(real.stdout)


@pytest.mark.parametrize(
    ("case", "argv"),
    [
        ("qstat-f-json.server-down", ("qstat", "-f", "-F", "json")),
        ("qdel.server-down", ("qdel", "5278")),
        ("qsub-f.server-down", ("qsub", "-f")),
    ],
)
def test_a_server_that_is_away_is_told_as_recorded(
    tmp_path: Path, case: str, argv: tuple[str, ...]
) -> None:
    fake = Pbs(tmp_path)
    fake.go_away()
    said = _run(fake, *argv)
    real = recorded(case)
    assert (said.returncode, said.stderr) == (real.exit_code, real.stderr)
    assert _without_time(said.stdout) == _without_time(real.stdout)
    fake.come_back()
    assert _run(fake, "qstat", "-f", "-F", "json").returncode == 0


def _without_time(raw: bytes) -> list[bytes]:
    return [line for line in raw.split(b"\n") if b'"timestamp"' not in line]


def test_a_held_job_has_the_attributes_of_a_real_one(tmp_path: Path) -> None:
    fake = Pbs(tmp_path)
    number = _run(fake, "qsub", "-h", "-N", "held", stdin=b"exit 0\n").stdout.decode().strip()
    told = json.loads(_run(fake, "qstat", "-f", "-F", "json", number).stdout)["Jobs"][number]
    real = json.loads(recorded("qstat-f-json.held").stdout)["Jobs"]["40.pbshead"]
    assert list(told) == list(real)
    assert list(told["Resource_List"]) == list(real["Resource_List"])
    assert list(told["Variable_List"]) == list(real["Variable_List"])


def _told(fake: Pbs, *words: str) -> dict[str, dict[str, Any]]:
    jobs: dict[str, dict[str, Any]] = json.loads(_run(fake, "qstat", *words).stdout).get("Jobs", {})
    return jobs


def _real(case: str) -> dict[str, dict[str, Any]]:
    jobs: dict[str, dict[str, Any]] = json.loads(recorded(case).stdout)["Jobs"]
    return jobs


def _submit(fake: Pbs, *words: str, script: bytes = b"exit 0\n") -> str:
    done = _run(fake, "qsub", "-f", *words, stdin=script)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


_LIST = ("-t", "-f", "-F", "json")
_HISTORY = ("-x", *_LIST)
# A task that fails at once, one that succeeds at once, and two that wait to be deleted.
_TASKS = b"case $PBS_ARRAY_INDEX in 1) exit 0;; 2) sleep 0.5; exit 7;; *) sleep 300;; esac\n"


def _names(job: Mapping[str, Any]) -> list[str]:
    # Recorded before the host had told of the session of some.
    return [name for name in job if name != "session_id"]


def _is_like(job: Mapping[str, Any], real: Mapping[str, Any]) -> None:
    """Check that a job has the attributes of a recorded one, and its state in all respects."""
    assert _names(job) == _names(real)
    for name in ("job_state", "substate", "Exit_status", "Hold_Types", "array_state_count"):
        assert job.get(name) == real.get(name), name
    for name in ("array_indices_submitted", "array_indices_remaining", "array_index"):
        assert job.get(name) == real.get(name), name


def test_an_array_begins_ends_and_is_deleted_as_recorded(tmp_path: Path) -> None:
    fake = Pbs(tmp_path, kill_delay_seconds=0.5, exit_seconds=0.1)
    array = _submit(fake, "-J", "1-4", "-l", "select=1:ncpus=1", script=_TASKS)
    number = array.partition("[")[0]
    assert array == f"{number}[].pbshead"

    def partly_done() -> dict[str, dict[str, Any]] | None:
        told = _told(fake, *_LIST, array)
        return told if [job["job_state"] for job in told.values()] == list("BXXRR") else None

    told = until(partly_done)
    for (name, job), (known_as, real) in zip(
        told.items(), _real("qstat-t-f-json.array-partly-done").items(), strict=True
    ):
        assert name == known_as.replace("5283", number)
        _is_like(job, real)
    assert _run(fake, "qdel", array).returncode == 0
    until(lambda: not _told(fake, *_LIST))
    told = _told(fake, *_HISTORY, array)
    reals = _real("qstat-x-t-f-json.array-finished")
    for name, job in told.items():
        real = reals[name.replace(number, "5283")]
        if not name.startswith(f"{number}[]"):
            _is_like(job, real)
        # That of an array of which a part was deleted says that it failed.
        assert (job["job_state"], job["Exit_status"]) == (real["job_state"], real["Exit_status"])
    finished = _run(fake, "qdel", array)
    assert (finished.returncode, finished.stderr) == (
        35,
        recorded("qdel.array-finished").stderr.replace(b"5283", number.encode()),
    )


def test_a_held_array_is_as_recorded_and_a_limit_of_running_tasks_is_kept(tmp_path: Path) -> None:
    fake = Pbs(tmp_path, exit_seconds=0.1)
    array = _submit(fake, "-N", "arrs", "-J", "1-10:4", "-h")
    (job,) = _told(fake, "-f", "-F", "json").values()
    _is_like(job, _real("qstat-f-json.array-held")["33[].pbshead"])
    assert [state["job_state"] for state in _told(fake, *_LIST).values()] == list("HQQQ")
    _run(fake, "qdel", array)
    limited = _submit(fake, "-J", "1-3%1", script=b"sleep 300\n")
    until(lambda: [j["job_state"] for j in _told(fake, *_LIST).values()] == list("BRQQ"))
    assert _told(fake, "-f", "-F", "json")[limited]["max_run_subjobs"] == 1
    _run(fake, "qdel", limited)


@pytest.mark.parametrize("case", ["unknown", "finished-failed"])
def test_a_dependency_that_cannot_be_met_ends_a_job_at_once_as_recorded(
    tmp_path: Path, case: str
) -> None:
    fake = Pbs(tmp_path, exit_seconds=0.1)
    other = _submit(fake, script=b"exit 3\n") if case == "finished-failed" else "999999"
    until(lambda: not _told(fake, *_LIST))
    waits = _submit(fake, "-W", f"depend=afterok:{other}")
    (real,) = _real(f"qstat-x-f-json.afterok-{case}").values()
    _is_like(_told(fake, *_HISTORY, waits)[waits], real)


def test_jobs_that_wait_for_others_are_as_recorded(tmp_path: Path) -> None:
    fake = Pbs(tmp_path, exit_seconds=0.1)
    first = _submit(fake, "-h", script=b"exit 3\n")
    dependents = [
        _submit(fake, "-W", f"depend={condition}:{first}")
        for condition in ("afterok", "afterany", "afternotok")
    ]
    told = _told(fake, *_LIST)
    _is_like(told[dependents[0]], _real("qstat-f-json.held-by-dependency")["42.pbshead"])
    assert told[dependents[0]]["depend"] == f"afterok:{first}@pbshead"
    _is_like(told[first], _real("qstat-f-json.dependency-parent-held")["160.pbshead"])
    assert told[first]["depend"] == (
        "beforeok:{}@pbshead,beforeany:{}@pbshead,beforenotok:{}@pbshead".format(*dependents)
    )
    _run(fake, "qrls", first)
    until(lambda: not _told(fake, *_LIST))
    told = _told(fake, *_HISTORY)
    for job, case in zip(dependents, ("afterok-of", "afterany-of", "afternotok-of"), strict=True):
        (real,) = _real(f"qstat-x-f-json.dep-{case}-failed").values()
        _is_like(told[job], real)
