"""The stand-in for PBS prints as PBS does."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.fakebin.pbs import Pbs, output
from tests.unit.schedulers.pbs.recorded import cases, recorded


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


def _run(fake: Pbs, *argv: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [str(fake.path / argv[0]), *argv[1:]], input=stdin, capture_output=True, check=False
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
