"""The limit of open files is raised for the service alone."""

import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parents[3] / "src"
PROGRAM = """
import asyncio, resource
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
from hpcq.execution.descriptors import raise_limit
from hpcq.execution.local import LocalRunner
from hpcq.execution.protocol import Command
assert raise_limit() == hard == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
argv = ("/bin/sh", "-c", "ulimit -Sn; ulimit -Hn")
command = Command(argv=argv, env={"PATH": "/usr/bin:/bin"}, timeout_seconds=60)
done = asyncio.run(LocalRunner().run(command))
assert done.stdout.decode().split() == ["300", str(hard)], done
"""


def test_descriptor_limit_of_service_and_commands() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], env={"PYTHONPATH": str(SOURCES)}, check=True)
