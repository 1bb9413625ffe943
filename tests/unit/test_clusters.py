"""The start of real schedulers and a real PostgreSQL, and the way without them."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests import real
from tests.clusters import machine
from tests.clusters.machine import CannotInstall, ClusterError
from tests.left_out import REAL

from hpcq.schedulers.testing.service import INSTALLATION

# Stands in for each script in tests/clusters: notes its verb, and ends as the test wants.
SCRIPT = """
import os, pathlib, sys
name = pathlib.Path(__file__).stem
with open("calls", "a") as calls:
    print(name, *sys.argv[1:], file=calls)
if name == "postgres" and os.environ["POSTGRES_ENDS_WITH"] != "0":
    print("postgres: there is no such package", file=sys.stderr)
    sys.exit(int(os.environ["POSTGRES_ENDS_WITH"]))
print("{}")
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with the shell script, and stand-ins for what it calls."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(INSTALLATION / "scripts" / "clusters.sh", tmp_path / "scripts")
    clusters = tmp_path / "tests" / "clusters"
    clusters.mkdir(parents=True)
    for name in REAL:
        (clusters / f"{name}.py").write_text(SCRIPT)
    return tmp_path


def run(
    tree: Path, verb: str, *, ends_with: int = 0, require: str = ""
) -> tuple[int, str, list[str]]:
    """The shell script's exit status, what it said, and what it called."""
    done = subprocess.run(
        [tree / "scripts" / "clusters.sh", verb],
        env={**os.environ, "POSTGRES_ENDS_WITH": str(ends_with), "HPCQ_REQUIRE_REAL": require},
        capture_output=True,
        text=True,
    )
    calls = (tree / "calls").read_text().splitlines()
    return done.returncode, done.stdout + done.stderr, calls


def test_clusters_up(tree: Path) -> None:
    status, _, calls = run(tree, "up")

    assert status == 0
    assert sorted(calls) == sorted(f"{name} up" for name in REAL)


def test_clusters_down(tree: Path) -> None:
    status, _, calls = run(tree, "down", ends_with=1)

    assert status == 0
    # The others are commands; nothing of them runs.
    running = REAL.keys() - {"chromium", "modules", "sudo", "tmux", "tools", "workflows"}
    assert {call.partition(" down")[0] for call in calls} == running


def test_clusters_up_unavailable(tree: Path) -> None:
    status, said, _ = run(tree, "up", ends_with=3)

    assert status == 0
    assert "not possible here: postgres: there is no such package" in said


@pytest.mark.parametrize(("ends_with", "require"), [(3, "1"), (1, ""), (1, "1")])
def test_clusters_up_required_or_broken(tree: Path, ends_with: int, require: str) -> None:
    status, said, _ = run(tree, "up", ends_with=ends_with, require=require)

    assert status == 1
    assert f"PostgreSQL did not start (tests/clusters/postgres.py up: {ends_with})" in said


@pytest.fixture
def unavailable(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    monkeypatch.setattr(real, "_CLUSTERS", tree / "tests" / "clusters")
    monkeypatch.setenv("POSTGRES_ENDS_WITH", "3")


@pytest.mark.usefixtures("unavailable")
def test_real_unavailable_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HPCQ_REQUIRE_REAL", raising=False)

    with pytest.raises(pytest.skip.Exception, match=r"no real postgres here: .*no such package"):
        real.call("postgres", "up")


@pytest.mark.usefixtures("unavailable")
def test_real_unavailable_required_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPCQ_REQUIRE_REAL", "1")

    with pytest.raises(pytest.fail.Exception, match="no such package"):
        real.call("postgres", "up")


def test_install_already_present() -> None:
    machine.install(["no-such-package"], missing=list)


def test_install_not_possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "INSTALLING", tmp_path / "lock")
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(CannotInstall, match=r"initdb, psql missing.* not a Debian-like system"):
        machine.install(["no-such-package"], missing=lambda: ["initdb", "psql"])


def fail_with(error: Exception) -> Callable[[], object]:
    def action() -> object:
        raise error

    return action


@pytest.mark.parametrize(
    ("action", "status", "printed"),
    [
        (lambda: {"DATABASE_URL": "…"}, 0, '{"DATABASE_URL": "\\u2026"}\n'),
        (lambda: None, 0, ""),
        (None, 2, ""),
        (fail_with(ClusterError("it does not start")), 1, ""),
        (fail_with(PermissionError("not here")), 1, ""),
        (fail_with(CannotInstall("no such package")), 3, ""),
    ],
)
def test_command_line_json_and_status(
    action: Callable[[], object] | None,
    status: int,
    printed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    ended = machine.command_line(
        ["up"], action, usage="up|down", lock=tmp_path / "lock", variables=[]
    )

    said = capsys.readouterr()
    assert (ended, said.out) == (status, printed)
    assert len(said.err.splitlines()) == (1 if status else 0)


def test_command_line_not_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    lock = tmp_path / "lock"

    ended = machine.command_line(["up"], lambda: {}, usage="up|down", lock=lock, variables=[])

    assert ended == 3
    assert "neither root nor sudo without a password" in capsys.readouterr().err
    assert not lock.exists()
