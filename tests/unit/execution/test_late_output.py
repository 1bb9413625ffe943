import asyncio
import subprocess
import time

import pytest

from hpcq.execution.local import LocalRunner
from hpcq.execution.protocol import Command


def test_run_output_just_before_exit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Found with sbatch on a busy machine: its id was lost, and the job with it."""
    poll = subprocess.Popen.poll

    def late(process: subprocess.Popen[bytes]) -> int | None:
        # The process prints and exits between the look at its output and the look at itself.
        time.sleep(0.1)
        return poll(process)

    monkeypatch.setattr(subprocess.Popen, "poll", late)
    command = Command(
        argv=("/bin/sh", "-c", "sleep 0.08; echo 141"),
        env={"PATH": "/usr/bin:/bin"},
        timeout_seconds=10,
    )
    runner = LocalRunner()
    done = asyncio.run(runner.run(command))
    runner.close()
    assert done.stdout == b"141\n"
