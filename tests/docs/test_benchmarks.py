"""Small runs of the benchmarks in ``docs/benchmarks.md``; their figures are not looked at."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("arguments", ["scale 200", "listing_queries 500"])
def test_benchmark_small(arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *f"bench.{arguments}".split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert " ms" in done.stdout
