"""The statement at the end of a run, and the refusal to leave out what may not be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.left_out import REAL

from hpcq.schedulers.testing.service import INSTALLATION

CONFIGURATION = """
[pytest]
markers =
    slurm: needs a real Slurm
    postgres: needs a real PostgreSQL
"""
TESTS = """
import pytest

def test_passes():
    pass

@pytest.fixture
def cluster():
    pytest.skip("no real slurm here: only root can install it")

@pytest.mark.slurm
def test_needs_slurm(cluster):
    pass

@pytest.fixture
def server():
    pytest.skip("no real postgres here: only root can install it")

@pytest.mark.postgres
def test_needs_postgres(server):
    pass

@pytest.mark.slurm
@pytest.mark.postgres
def test_needs_both(server):
    pass

@pytest.mark.skipif(True, reason="there is no curl here")
def test_needs_curl():
    pass
"""


def run(folder: Path, *arguments: str, require: str = "") -> tuple[int, str]:
    (folder / "pytest.ini").write_text(CONFIGURATION)
    (folder / "test_it.py").write_text(TESTS)
    environment = {
        **os.environ,
        "PYTHONPATH": str(INSTALLATION),
        "HPCQ_REQUIRE_REAL": require,
        # What is given to the run of this test is none of that one's business.
        "PYTEST_ADDOPTS": "",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "tests.left_out", "-q", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("workers", [(), ("--numprocesses", "1")], ids=["alone", "xdist"])
def test_report_skipped_with_reasons(tmp_path: Path, workers: tuple[str, ...]) -> None:
    status, printed = run(tmp_path, *workers)

    assert status == 0
    assert "1 that need a real Slurm: no real slurm here: only root can install it" in printed
    assert "1 that need a real PostgreSQL: no real postgres here: only root can inst" in printed
    assert "1 that need a real Slurm and PostgreSQL: no real postgres here: only" in printed
    assert "1 that need something else: there is no curl here" in printed


@pytest.mark.parametrize("workers", [(), ("--numprocesses", "1")], ids=["alone", "xdist"])
@pytest.mark.parametrize("missing", ["needs_slurm", "needs_postgres"])
def test_required_real_tests_missing(
    tmp_path: Path, missing: str, workers: tuple[str, ...]
) -> None:
    status, printed = run(tmp_path, "-k", f"passes or {missing}", *workers, require="1")

    assert status == 1
    assert "HPCQ_REQUIRE_REAL is set" in printed


def test_required_other_tests_skipped(tmp_path: Path) -> None:
    status, _ = run(tmp_path, "-k", "passes or curl", require="1")

    assert status == 0


def test_report_nothing_skipped(tmp_path: Path) -> None:
    status, printed = run(tmp_path, "-k", "passes")

    assert status == 0
    assert "None. What needs one of these had a real one: Slurm, Grid Engine, " in printed
    assert all(name in printed for name in REAL.values())
