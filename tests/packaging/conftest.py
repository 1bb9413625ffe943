"""The packages, built once, and fresh virtual environments to install them in."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcq.schedulers.testing.service import INSTALLATION

__all__ = ["dist", "fresh_venv"]


def _make(target: str) -> Path:
    done = subprocess.run(["make", target], cwd=INSTALLATION, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return INSTALLATION / "dist"


@pytest.fixture(scope="session")
def dist() -> Path:
    """The folder with every package: ``make deb`` makes the wheels, too."""
    return _make("deb")


@pytest.fixture
def fresh_venv(tmp_path: Path) -> Callable[..., Path]:
    """Makes a virtual environment with what pip is told to install; returns its programs."""

    def make(*arguments: Path) -> Path:
        venv = tmp_path / "venv"
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        pip = (venv / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check")
        done = subprocess.run((*pip, *arguments), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return venv / "bin"

    return make
