"""The stand-in for PBS prints as PBS does."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.fakebin.pbs import Pbs, output
from tests.unit.schedulers.pbs.recorded import DELIMITER, attributes_in, flat, recorded

from hpcq.schedulers.pbs_family.text import parse_text_records
from hpcq.schedulers.testing.waiting import until


def _in_text(case: str, version: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """The jobs of a recorded text; values with newlines need that no record is made up."""
    records = parse_text_records(recorded(case, version).stdout)
    return [(record.name, list(record.attributes.items())) for record in records]


def _written(
    jobs: list[tuple[str, list[tuple[str, str]]]], delimiter: str, *, release: bool = False
) -> bytes:
    lines = (output.render_dsv(f"Job Id: {n}", job, delimiter, release=release) for n, job in jobs)
    return "".join(lines).encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("case", ["mixed", "environments"])
def test_dsv_bytes_of_release(case: str) -> None:
    real = recorded(f"qstat-f-dsv.{case}", "23.06.06")
    jobs = _in_text(f"qstat-f.{case}", "23.06.06")
    assert _written(jobs, real.argv[-1], release=True) == real.stdout


@pytest.mark.parametrize(
    "case", ["injected-newlines", "long-workdir.LANG-C", "long-workdir.LANG-unset"]
)
def test_dsv_bytes(case: str) -> None:
    jobs = json.loads(recorded(f"qstat-f-json.{case}").stdout, parse_int=str)["Jobs"]
    written = _written([(name, flat(job)) for name, job in jobs.items()], "|")
    assert written == recorded(f"qstat-f-dsv.{case}").stdout


def test_dsv_bytes_odd_values() -> None:
    real = recorded("qstat-f-dsv.env-evil-V").stdout
    (job,) = _in_text("qstat-f.env-evil-V", "2026.04")
    # The reader of texts cannot keep a byte that is no UTF-8.
    assert _written([job], "|").replace("\ufffd".encode(), b"\xe9") == real


_DSV = ("-f", "-F", "dsv", "-D", DELIMITER)


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
        ("qstat-f-json.unknown", ("qstat", *_DSV, "999999")),
        ("qstat-x-f-json.unknown", ("qstat", "-x", *_DSV, "999999")),
        ("qstat-f-json.bad-id", ("qstat", *_DSV, "12abc")),
        ("qdel.unknown", ("qdel", "999999")),
        ("qdel.bad-id", ("qdel", "notajob")),
        ("qdel.empty-string", ("qdel", "")),
        ("qhold.unknown", ("qhold", "999999")),
        ("qalter.unknown", ("qalter", "-N", "x", "999999")),
        ("qsub.unknown-queue", ("qsub", "-q", "nosuch")),
        ("qsub.queue-disabled", ("qsub", "-q", "closed")),
        ("qsub.unknown-resource", ("qsub", "-l", "nosuch=3")),
        ("qsub.bad-walltime", ("qsub", "-l", "walltime=abc")),
        ("qsub.name-too-long-231", ("qsub", "-N", "x" * 231)),
        ("qstat-f-json.unknown-array-elem", ("qstat", *_DSV, "999999[1]")),
        ("qsub.mix-select-and-ncpus", ("qsub", "-l", "select=1:ncpus=2", "-l", "ncpus=4")),
        ("qsub.array-too-big", ("qsub", "-J", "1-20000")),
    ],
)
def test_refusals_as_recorded(tmp_path: Path, case: str, argv: tuple[str, ...]) -> None:
    said = _run(Pbs(tmp_path), *argv)
    real = recorded(case)
    assert (said.returncode, said.stderr) == (real.exit_code, real.stderr)
    assert said.stdout == (b"" if "json" in real.argv else real.stdout)


@pytest.mark.parametrize(
    ("case", "argv"),
    [
        ("qstat-f-json.server-down", ("qstat", *_DSV)),
        ("qdel.server-down", ("qdel", "5278")),
        ("qsub-f.server-down", ("qsub", "-f")),
    ],
)
def test_server_down_as_recorded(tmp_path: Path, case: str, argv: tuple[str, ...]) -> None:
    fake = Pbs(tmp_path)
    fake.go_away()
    said = _run(fake, *argv)
    real = recorded(case)
    assert (said.returncode, said.stderr) == (real.exit_code, real.stderr)
    assert said.stdout == (b"" if "json" in real.argv else real.stdout)
    fake.come_back()
    assert _run(fake, "qstat", *_DSV).returncode == 0


def test_held_job_attributes(tmp_path: Path) -> None:
    fake = Pbs(tmp_path)
    number = _run(fake, "qsub", "-h", "-N", "held", stdin=b"exit 0\n").stdout.decode().strip()
    told = _told(fake, *_DSV, number)[number]
    real = _real("qstat-f-json.held")["40.pbshead"]
    assert list(told) == list(real)
    assert _variables(told) == _variables(real)


def _variables(job: Mapping[str, str]) -> list[str]:
    return [pair.partition("=")[0] for pair in job["Variable_List"].split(",")]


def _told(fake: Pbs, *words: str) -> dict[str, dict[str, str]]:
    return attributes_in(_run(fake, "qstat", *words).stdout)


def _real(case: str) -> dict[str, dict[str, str]]:
    jobs = json.loads(recorded(case).stdout)["Jobs"]
    return {name: dict(flat(job)) for name, job in jobs.items()}


def _submit(fake: Pbs, *words: str, script: bytes = b"exit 0\n") -> str:
    done = _run(fake, "qsub", "-f", *words, stdin=script)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


_LIST = ("-t", *_DSV)
_HISTORY = ("-x", *_LIST)
# A task that fails at once, one that succeeds at once, and two that wait to be deleted.
_TASKS = b"case $PBS_ARRAY_INDEX in 1) exit 0;; 2) sleep 0.5; exit 7;; *) sleep 300;; esac\n"


def _names(job: Mapping[str, str]) -> list[str]:
    # Recorded before the host had told of the session of some.
    return [name for name in job if name != "session_id"]


def _is_like(job: Mapping[str, str], real: Mapping[str, str]) -> None:
    """Check that a job has the attributes of a recorded one, and its state in all respects."""
    assert _names(job) == _names(real)
    for name in ("job_state", "substate", "Exit_status", "Hold_Types", "array_state_count"):
        assert job.get(name) == real.get(name), name
    for name in ("array_indices_submitted", "array_indices_remaining", "array_index"):
        assert job.get(name) == real.get(name), name


def test_array_lifecycle_as_recorded(tmp_path: Path) -> None:
    fake = Pbs(tmp_path, kill_delay_seconds=0.5, exit_seconds=0.1)
    array = _submit(fake, "-J", "1-4", "-l", "select=1:ncpus=1", script=_TASKS)
    number = array.partition("[")[0]
    assert array == f"{number}[].pbshead"

    def partly_done() -> dict[str, dict[str, str]] | None:
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


def test_held_array_and_running_limit(tmp_path: Path) -> None:
    fake = Pbs(tmp_path, exit_seconds=0.1)
    array = _submit(fake, "-N", "arrs", "-J", "1-10:4", "-h")
    (job,) = _told(fake, *_DSV).values()
    _is_like(job, _real("qstat-f-json.array-held")["33[].pbshead"])
    assert [state["job_state"] for state in _told(fake, *_LIST).values()] == list("HQQQ")
    _run(fake, "qdel", array)
    limited = _submit(fake, "-J", "1-3%1", script=b"sleep 300\n")
    until(lambda: [j["job_state"] for j in _told(fake, *_LIST).values()] == list("BRQQ"))
    assert _told(fake, *_DSV)[limited]["max_run_subjobs"] == "1"
    _run(fake, "qdel", limited)


@pytest.mark.parametrize("case", ["unknown", "finished-failed"])
def test_dependency_failed_as_recorded(tmp_path: Path, case: str) -> None:
    fake = Pbs(tmp_path, exit_seconds=0.1)
    other = _submit(fake, script=b"exit 3\n") if case == "finished-failed" else "999999"
    until(lambda: not _told(fake, *_LIST))
    waits = _submit(fake, "-W", f"depend=afterok:{other}")
    (real,) = _real(f"qstat-x-f-json.afterok-{case}").values()
    _is_like(_told(fake, *_HISTORY, waits)[waits], real)


def test_dependencies_as_recorded(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("case", "argv"),
    [
        ("qalter.held", ("qalter", "-l", "walltime=00:20:00", "-N", "renamed")),
        ("qalter.bad", ("qalter", "-l", "walltime=abc")),
        ("qmove.to-workq", ("qmove", "workq")),
        ("qmove.to-unknown-queue", ("qmove", "nosuch")),
    ],
)
def test_qalter_as_recorded(tmp_path: Path, case: str, argv: tuple[str, ...]) -> None:
    fake = Pbs(tmp_path)
    job = _run(fake, "qsub", "-h", stdin=b"exit 0\n").stdout.decode().strip()
    said = _run(fake, *argv, job)
    real = recorded(case)
    words = said.stderr.replace(job.encode(), real.argv[-1].encode())
    assert (said.returncode, words, said.stdout) == (real.exit_code, real.stderr, real.stdout)
    told = _told(fake, *_DSV, job)[job]
    renamed = case == "qalter.held"
    assert told["Job_Name"] == ("renamed" if renamed else "STDIN")
    assert told.get("Resource_List.walltime") == ("00:20:00" if renamed else None)


def test_qalter_memory_of_chunks(tmp_path: Path) -> None:
    fake = Pbs(tmp_path)
    select = "select=1:ncpus=2:mem=512mb"
    job = _run(fake, "qsub", "-h", "-l", select, stdin=b"exit 0\n").stdout.decode().strip()
    assert b'must only appear in "select"' in _run(fake, "qalter", "-l", "mem=1gb", job).stderr
    assert _run(fake, "qalter", "-l", "select=1:ncpus=2:mem=1gb", job).returncode == 0
    assert _told(fake, *_DSV, job)[job]["Resource_List.mem"] == "1048576kb"
