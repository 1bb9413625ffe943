"""The stand-in prints what the real Torque printed: fields, order, wrapping, errors, statuses."""

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakebin.torque import COMMANDS, Torque
from tests.fakebin.torque.output import render_text, render_xml
from tests.unit.schedulers.torque.recorded import cases, recorded

from hpcq.schedulers.pbs_family.text import parse_text_records
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, until
from hpcq.schedulers.torque.parse import xml_attributes

Run = Callable[..., subprocess.CompletedProcess[bytes]]

_RECORD = re.compile(rb"(?<=\n\n)")
_ATTRIBUTE = re.compile(rb"\n(?=    [A-Za-z_.]+ = )")
# One value of this environment has the form of an attribute.
_UNWRAPPED = [c for c in cases("qstat-f-1.") if recorded(c).stdout and "oddenv" not in c]


@pytest.fixture
def torque(tmp_path: Path) -> Torque:
    return Torque(tmp_path / "torque", slots=2)


@pytest.fixture
def run(torque: Torque, tmp_path: Path) -> Run:
    def run(*argv: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        environment = {"PATH": f"{torque.path}:/usr/bin:/bin", "TZ": "UTC", "HOME": "/root"}
        environment |= {"LOGNAME": "alice", "SHELL": "/bin/sh", "LANG": "C.UTF-8"}
        return subprocess.run(
            argv,
            cwd=tmp_path,
            env=environment,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )

    return run


@pytest.mark.parametrize("case", _UNWRAPPED)
def test_qstat_text_wrapped(case: str) -> None:
    wrapped = recorded(case.replace("qstat-f-1.", "qstat-f.")).stdout
    rendered = b""
    for record in filter(None, _RECORD.split(recorded(case).stdout)):
        heading, *lines = _ATTRIBUTE.split(record[:-2])
        pairs = [line[4:].partition(b" = ")[::2] for line in lines]
        rendered += render_text(heading, pairs)
    assert rendered == wrapped


@pytest.mark.parametrize("case", [c for c in cases("qstat-x.") if recorded(c).stdout])
def test_qstat_xml(case: str) -> None:
    output = recorded(case).stdout
    for document in filter(None, re.split(rb"(?<=</Data>\n)", output)):
        jobs = [
            list(xml_attributes(job.partition(b"</Job>")[0]).items())
            for job in document.split(b"<Job>")[1:]
        ]
        # Bytes that are not UTF-8 are read as U+FFFD.
        expected = document.decode("utf-8", "replace")
        assert render_xml(jobs) == expected


def _until(run: Run, job_id: str, state: bytes) -> None:
    def seen() -> bytes:
        return run("qstat", "-f", job_id).stdout

    until(lambda: b"job_state = " + state in seen(), seen)


def _fields(output: bytes) -> list[str]:
    (record,) = parse_text_records(output)
    # The order of resources varies, see the recordings among themselves; what a job is given
    # depends on the account and the request.
    own = ("Resource_List.", "resources_used.", "sched_hint", "depend", "job_arguments")
    return [name for name in record.attributes if not name.startswith(own)]


def test_qstat_fields_in_each_state(run: Run) -> None:
    running = run("qsub", "-N", "running", stdin=b"sleep 600\n").stdout.decode().strip()
    held = run("qsub", "-h", stdin=b"true\n").stdout.decode().strip()
    done = run("qsub", stdin=b"exit 3\n").stdout.decode().strip()
    _until(run, done, b"C")
    blocked = run("qsub", "-l", "nodes=1:ppn=2", stdin=b"true\n").stdout.decode().strip()
    _until(run, running, b"R")
    for job_id, case in (
        (running, "running"),
        (held, "held"),
        (blocked, "queued"),
        (done, "complete"),
    ):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            found = _fields(run("qstat", "-f", job_id).stdout)
            if "session_id" in found or case in ("held", "queued"):
                break
            assert time.monotonic() < deadline
        assert found == _fields(recorded(f"qstat-f.{case}").stdout)
    run("qdel", blocked)
    run("qdel", running)
    _until(run, running, b"C")
    assert b"exit_status = 271" in run("qstat", "-f", running).stdout
    deleted = run("qstat", "-f", blocked).stdout
    assert b"exit_status" not in deleted
    assert b"start_time" not in deleted


def _same(done: subprocess.CompletedProcess[bytes], case: str, **named: str) -> None:
    real = recorded(case)
    stderr = real.stderr.decode()
    for old, new in named.items():
        stderr = stderr.replace(old.removeprefix("_"), new)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (
        real.exit_code,
        real.stdout,
        stderr,
    )


@pytest.mark.parametrize(
    "case",
    [
        "qdel.unknown",
        "qdel.unknown-full-id",
        "qdel.malformed-id",
        "qstat.unknown",
        "qstat-f.unknown",
        "qstat-f.two-unknown",
        "qstat-f.id-other-server",
        "qstat-x.unknown",
        "qstat-x.empty",
        "qstat-f.empty",
        "qstat.malformed-id",
        "qsub.unknown-queue",
        "qsub.bad-resource-name",
        "qsub.bad-walltime",
        "qsub.bad-mem",
        "qsub.nodes-2",
        "qsub.ppn-9",
        "qsub.name-spaces",
        "qsub.name-unicode",
        "qsub.bad-priority",
        "qsub.workdir-missing",
        "qsub.missing-script",
        "qsub.unknown-option",
        "qsub.v-bad",
        "qsub.W-bad",
        "qsub.array-bad",
        "qsub.depend-bad-type",
        "qsub.depend-malformed",
        "qsub.depend-unknown",
        "qsub.depend-unknown-full",
        "pbsnodes.pbsnodes-unknown",
        "version.qstat",
    ],
)
def test_commands_exit_and_message(run: Run, tmp_path: Path, case: str) -> None:
    for name in ("hello.sh", "env.sh"):
        (tmp_path / name).write_text("true\n")
    _same(run(*recorded(case).argv), case)


@pytest.mark.parametrize("command", ["qsub", "qstat", "qdel", "pbsnodes"])
def test_commands_server_down(run: Run, torque: Torque, command: str) -> None:
    torque.go_away()
    case = f"{command}.server-down"
    _same(run(*recorded(case).argv), case)
    torque.come_back()
    assert run("qstat").returncode == 0


def test_qdel_ended_job_and_next_id(run: Run) -> None:
    first = run("qsub", "-h", stdin=b"true\n").stdout
    assert (first, run("qsub", "-h", stdin=b"true\n").stdout) == (b"1.vm\n", b"2.vm\n")
    assert run("qdel", "1.vm").returncode == 0
    _same(run("qdel", "1"), "qdel.queued-again", _19="1")


def test_qrls_held_job(run: Run, tmp_path: Path) -> None:
    run("qsub", "-h", "-N", "held", stdin=b"echo ran\n")
    assert run("qrls", "1").returncode == 0
    _until(run, "1", b"C")
    assert (tmp_path / "held.o1").read_text() == "ran\n"
    assert b"-----" in run("qstat").stdout


def test_qstat_table(run: Run) -> None:
    run("qsub", "-h", "-N", "held", stdin=b"true\n")
    real = recorded("qstat.held").stdout.decode()
    found = run("qstat").stdout.decode()
    assert found.split("\n")[:2] == real.split("\n")[:2]
    assert len(found.split("\n")[2]) == len(real.split("\n")[2])


def _shown(run: Run, *argv: str) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Return the names of fields, and the values, of each job that ``qstat -f`` prints."""
    output = run("qstat", "-f", *argv).stdout
    return {
        record.name: (_fields(raw + b"\n\n"), dict(record.attributes))
        for record, raw in zip(parse_text_records(output), output.split(b"\n\n")[:-1], strict=True)
    }


def _recorded_fields(case: str, name: str) -> list[str]:
    records = recorded(case).stdout.split(b"\n\n")
    return _fields(next(r for r in records if r.startswith(f"Job Id: {name}\n".encode())) + b"\n\n")


def test_qstat_array(run: Run, tmp_path: Path) -> None:
    script = b"echo $PBS_ARRAYID; sleep 600\n"
    assert run("qsub", "-t", "0-3%2", "-N", "arr", stdin=script).stdout == b"1[].vm\n"
    run("qsub", "-h", stdin=b"true\n")
    for index in "01":
        _until(run, f"1[{index}]", b"R")
    whole, tasks = _shown(run), _shown(run, "-t")
    assert list(whole) == ["1[].vm", "2.vm"]
    assert list(tasks) == ["1[0].vm", "1[1].vm", "1[2].vm", "1[3].vm", "2.vm"]
    assert whole["1[].vm"][0] == _recorded_fields("qstat-f.arrays", "46[].vm")
    assert tasks["1[2].vm"][0] == _recorded_fields("qstat-f-t.arrays", "46[2].vm")
    waiting = tasks["1[2].vm"][1]
    assert (waiting["job_state"], waiting["Hold_Types"], waiting["Job_Name"]) == ("H", "l", "arr-2")
    assert waiting["Output_Path"] == f"vm:{tmp_path}/arr.o1-2"
    # An array, asked for without -t, is everything that there is.
    assert run("qstat", "-f", "1[]").stdout == run("qstat", "-f").stdout
    assert list(_shown(run, "-t", "1[]")) == list(tasks)[:4]
    assert list(_shown(run, "1[2]")) == ["1[2].vm"]
    _same(run("qstat", "1"), "qstat.id-array-base", _45="1")
    _same(run("qdel", "1"), "qdel.array-without-brackets", _46="1")
    run("qdel", "1[0]")
    _until(run, "1[2]", b"R")
    assert run("qdel", "1[]").returncode == 0
    for index in "0123":
        _until(run, f"1[{index}]", b"C")
    assert _shown(run)["1[].vm"][1]["job_state"] == "C"
    assert (tmp_path / "arr.o1-1").read_text() == "1\n"
    assert not (tmp_path / "arr.o1-3").exists()


def test_qsub_dependency(run: Run) -> None:
    first = run("qsub", "-N", "running", stdin=b"sleep 600\n").stdout.decode().strip()
    depends = ("qsub", "-N", "dependent", "-W", f"depend=afterok:{first}")
    second = run(*depends, stdin=b"true\n").stdout.decode().strip()
    third = run("qsub", "-W", "depend=afterany:1:2", stdin=b"true\n").stdout.decode().strip()
    shown = _shown(run)
    assert shown[second][0] == _recorded_fields("qstat-f.dependency-held", "843.vm")
    assert shown[second][1]["depend"] == f"afterok:{first},beforeany:3.vm"
    assert shown[first][1]["depend"] == "beforeok:2.vm,beforeany:3.vm"
    run("qdel", first)
    _until(run, second, b"C")
    fields, values = _shown(run)[second]
    assert fields == _recorded_fields("qstat-f.dependent-after-parent-deleted", "843.vm")
    assert (values["exit_status"], values["Hold_Types"]) == ("271", "s")
    assert values["comment"] == f"Job deleted as result of dependency on job {first}"
    _until(run, third, b"C")
    assert _shown(run)[third][1]["exit_status"] == "0"


def test_qsub_dependency_impossible_or_met(run: Run) -> None:
    run("qsub", "-t", "1-2", stdin=b"exit 3\n")
    for index in "12":
        _until(run, f"1[{index}]", b"C")
    refused = run("qsub", "-W", "depend=afterokarray:1[]", stdin=b"true\n")
    assert (refused.returncode, refused.stderr) == (
        208,
        b"qsub: submit error (Invalid Job Dependency)\n",
    )
    run("qsub", "-W", "depend=afternotokarray:1[]", stdin=b"exit 4\n")
    _until(run, "3", b"C")
    assert b"exit_status = 4" in run("qstat", "-f", "3").stdout


def test_wall_time_exceeded(run: Run, torque: Torque) -> None:
    run("qsub", "-l", "walltime=1", stdin=b"sleep 600\n")
    _until(run, "1", b"C")
    assert b"exit_status = -11" in run("qstat", "-f", "1").stdout
    (log,) = (torque.home / "server_priv" / "accounting").iterdir()
    kinds = [line.split(b";")[1] for line in log.read_bytes().splitlines()]
    assert kinds == [b"Q", b"S", b"E"]
    assert b"Exit_status=-11" in run("tracejob", "1").stdout


def test_commands_all_present(torque: Torque) -> None:
    assert {path.name for path in torque.path.iterdir()} == set(COMMANDS)
    assert all(os.access(path, os.X_OK) for path in torque.path.iterdir())
