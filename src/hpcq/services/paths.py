"""Whether what a submission names exists on this machine."""

import asyncio
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import JobSpec

__all__ = ["PathChecker"]


class PathChecker:
    """Looks at the working directory and the script of a submission, in threads of its own.

    A file system that hangs costs its own requests the time limit, and no other work a thread.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="paths")

    async def check(self, spec: JobSpec) -> None:
        """Make sure that they are there and can be used, and that output has a place to go to.

        Raises:
            InvalidSpec: one of them is not; the field is named.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await loop.run_in_executor(self._threads, _check, spec)
        except TimeoutError:
            raise InvalidSpec(
                f"The file system of {spec.working_directory!r} or {spec.script_file!r} did not "
                f"answer within {self._timeout_seconds:g} s. Try again when it does.",
                field="workingDirectory",
            ) from None

    def close(self) -> None:
        """Let the threads go, without waiting for one that hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _check(spec: JobSpec) -> None:
    _check_directory(spec.working_directory)
    _check_script(spec.script_file)
    for field, path in (("stdoutPath", spec.stdout_path), ("stderrPath", spec.stderr_path)):
        if path is not None:
            _check_output(os.path.join(spec.working_directory, path), field)


def _check_directory(path: str) -> None:
    mode = _mode(path, "workingDirectory")
    if not stat.S_ISDIR(mode):
        raise InvalidSpec(f"{path!r} is not a directory.", field="workingDirectory")
    if not os.access(path, os.X_OK):
        raise InvalidSpec(f"The directory {path!r} may not be entered.", field="workingDirectory")


def _check_script(path: str) -> None:
    mode = _mode(path, "scriptFile")
    if not stat.S_ISREG(mode):
        raise InvalidSpec(f"{path!r} is not a file.", field="scriptFile")
    if not os.access(path, os.R_OK):
        raise InvalidSpec(f"The script {path!r} may not be read.", field="scriptFile")


def _check_output(path: str, field: str) -> None:
    """Refuse what schedulers find out when it is too late.

    Slurm 22.05 shows such a job as running until its time limit; Grid Engine holds it (``Eqw``).
    """
    folder = os.path.dirname(path)
    if not stat.S_ISDIR(_mode(folder, field)):
        raise InvalidSpec(f"{folder!r} is not a directory.", field=field)
    if os.path.isdir(path):
        raise InvalidSpec(f"{path!r} is a directory; name a file.", field=field)


def _mode(path: str, field: str) -> int:
    if not os.path.isabs(path):
        raise InvalidSpec(f"{path!r} is not an absolute path.", field=field)
    try:
        return Path(path).stat().st_mode
    except OSError as error:
        raise InvalidSpec(f"{path!r} cannot be used: {error.strerror}.", field=field) from None
