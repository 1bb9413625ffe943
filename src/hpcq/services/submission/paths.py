"""Checks of the paths that a submission names; one that is missing may appear in a moment.

An NFS client remembers for up to a minute (``acdirmax``, nfs(5)) that a name was not there. Reading
the folder it should be in makes the client ask the server for the folder's attributes, and forget
what it remembered of a folder that has changed.
"""

import asyncio
import contextlib
import errno
import itertools
import os
import stat
from dataclasses import replace
from pathlib import Path

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import JobSpec
from hpcq.domain.outputs import default_name, fill_pattern, place_outputs
from hpcq.schedulers.base import SchedulerBackend
from hpcq.schedulers.command_line import path_error, read_script
from hpcq.services.programs.request import split_legacy_command
from hpcq.services.submission.path_threads import PathThreads, Visit

__all__ = ["PathChecker"]

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 0.5
_NOT_THERE = (errno.ENOENT, errno.ESTALE)


class _NotThere(InvalidSpec):
    """A path does not exist; it may come to."""


class PathChecker:
    """Looks at the folders and the script of a submission, in threads of its own.

    A file system that hangs costs its own requests the time limit, and no others anything. What
    is not there is waited for, without a thread: other requests do not notice.

    Args:
        backend: the scheduler, which knows its directives and how large a script may be.
        timeout_seconds: how long a file system may take for one answer.
        wait_seconds: how long what is not there may take to appear; 0 for not at all.
        max_script_bytes: how large a script may be, if the scheduler does not take less.
    """

    def __init__(
        self,
        backend: SchedulerBackend,
        timeout_seconds: float,
        wait_seconds: float = 0.0,
        max_script_bytes: int = 1 << 30,
    ) -> None:
        self._backend = backend
        self._wait_seconds = wait_seconds
        self._max_script_bytes = max_script_bytes
        self._threads = PathThreads(timeout_seconds)

    async def check(self, spec: JobSpec) -> JobSpec:
        """Make sure that they are there and can be used, and that output has a place to go to.

        Returns:
            The job, complete: with its name, and with where its output goes; its script told from
            its first argument where both came in one, see `split_legacy_command`.

        Raises:
            InvalidSpec: one of them is not; the field is named.
            PathUnavailable: a file system does not answer.
            Overloaded: this process cannot open files or start threads now.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._wait_seconds
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._threads.run(
                    lambda visit: _check(spec, self._backend, self._most_bytes, visit)
                )
            except _NotThere as missing:
                left = deadline - clock()
                if left <= 0:
                    raise InvalidSpec(self._still(missing.detail), field=missing.field) from None
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def read_script(self, spec: JobSpec) -> bytes:
        """Return the content of a job's script, as it is now. Raises as `check` does."""

        def read(visit: Visit) -> bytes:
            visit.enter(spec.script_file)
            return read_script(spec.script_file, self._most_bytes)

        return await self._threads.run(read)

    @property
    def _most_bytes(self) -> int:
        return min(self._max_script_bytes, self._backend.capabilities.max_script_bytes)

    def _still(self, detail: str) -> str:
        waited = self._wait_seconds
        return f"{detail} The service waited {waited:g} s for it." if waited > 0 else detail

    def close(self) -> None:
        """Let the threads go, without waiting for one that hangs."""
        self._threads.close()


def _check(spec: JobSpec, backend: SchedulerBackend, most_bytes: int, visit: Visit) -> JobSpec:
    _check_directory(spec.working_directory, visit)
    visit.enter(spec.script_file)
    whole = spec.script_file
    # Its folders are read once, and not for each of the many paths that blanks may end.
    spec = split_legacy_command(spec, lambda path: _mode_if_there(path, afresh=path == whole))
    script = _read_script(spec.script_file, most_bytes, visit)
    said = backend.check_script(spec, script)
    name = spec.name or said.name or default_name(spec.working_directory)
    spec = replace(
        spec,
        name=name,
        stdout_path=_absolute(spec, spec.stdout_path),
        stderr_path=_absolute(spec, spec.stderr_path),
    )
    if spec.stdout_path and spec.stderr_path and _is_one_file(spec.stdout_path, spec.stderr_path):
        # Schedulers join the streams where both have the same path, letter by letter.
        spec = replace(spec, stderr_path=spec.stdout_path)
    outputs = place_outputs(spec, said.stdout, said.stderr)
    _check_output(outputs.stdout, _responsible("stdoutPath", spec.stdout_path, said.stdout), visit)
    _check_output(outputs.stderr, _responsible("stderrPath", spec.stderr_path, said.stderr), visit)
    is_asked = spec.wall_time_limit_seconds is not None or said.asks_time_limit
    return replace(spec, outputs=outputs, has_queue_time_limit=not is_asked)


def _absolute(spec: JobSpec, path: str | None) -> str | None:
    return None if path is None else os.path.join(spec.working_directory, path)


def _is_one_file(one: str, other: str) -> bool:
    """Return whether two absolute paths differ by nothing but ``//`` and ``/./``."""
    first, second = ([p for p in path.split("/") if p not in ("", ".")] for path in (one, other))
    return first == second


def _responsible(field: str, asked: str | None, said: str | None) -> str:
    """Return the field that an output's path comes from."""
    if asked is not None:
        return field
    return "workingDirectory" if said is None or "/" not in said else "scriptFile"


def _check_directory(path: str, visit: Visit) -> None:
    mode = _mode(path, "workingDirectory", visit)
    if not stat.S_ISDIR(mode):
        raise InvalidSpec(f"{path!r} is not a directory.", field="workingDirectory")
    if not os.access(path, os.X_OK):
        raise InvalidSpec(f"The directory {path!r} may not be entered.", field="workingDirectory")


def _read_script(path: str, most_bytes: int, visit: Visit) -> bytes:
    """Return the content of the script, if every scheduler can run such a text."""
    if not stat.S_ISREG(_mode(path, "scriptFile", visit)):
        raise InvalidSpec(f"{path!r} is not a file.", field="scriptFile")
    script = read_script(path, most_bytes)
    # A program that is no text is the scheduler's to judge.
    if b"\r\n" in script and b"\0" not in script:
        raise InvalidSpec(
            f"The script {path!r} has DOS line ends (CR LF), which no shell understands; save it "
            "with Unix line ends.",
            field="scriptFile",
        )
    return script


def _check_output(pattern: str | None, field: str, visit: Visit) -> None:
    """Refuse what schedulers find out when it is too late.

    Slurm 22.05 shows such a job as running until its time limit; Grid Engine holds it (``Eqw``).
    """
    folder = None if pattern is None else fill_pattern(os.path.dirname(pattern), None)
    if folder is None:
        # The scheduler alone knows it, or will.
        return
    if not stat.S_ISDIR(_mode(folder, field, visit)):
        raise InvalidSpec(f"{folder!r} is not a directory.", field=field)
    path = fill_pattern(pattern, None)
    if path is not None:
        visit.enter(path)
    if path is not None and os.path.isdir(path):
        raise InvalidSpec(f"{path!r} is a directory; name a file.", field=field)
    if path is not None and os.path.exists(path):
        if not os.access(path, os.W_OK):
            raise InvalidSpec(f"The file {path!r} may not be written to.", field=field)
    elif not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidSpec(
            f"The job's output goes to the folder {folder!r}, which may not be written to.",
            field=field,
        )


def _mode(path: str, field: str, visit: Visit) -> int:
    if not os.path.isabs(path):
        raise InvalidSpec(f"{path!r} is not an absolute path.", field=field)
    try:
        return _stat_mode(path, visit)
    except OSError as error:
        if error.errno in _NOT_THERE:
            reason = f"{path!r} cannot be used: {error.strerror}."
            raise _NotThere(reason, field=field) from None
        raise path_error(path, error, field) from None


def _mode_if_there(path: str, *, afresh: bool) -> int | None:
    try:
        if afresh and not os.path.exists(path):
            _look_afresh(path)
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError:
        return None


def _stat_mode(path: str, visit: Visit) -> int:
    visit.enter(path)
    try:
        return Path(path).stat().st_mode
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
    _look_afresh(path)
    return Path(path).stat().st_mode


def _look_afresh(path: str) -> None:
    """Read the folders above a path, from the last that seems to be there down."""
    *above, _ = itertools.accumulate(path.split("/"), "{}/{}".format)
    there = list(itertools.takewhile(os.path.isdir, (folder or "/" for folder in above)))
    for folder in [*there[-1:], *above[len(there) :]]:
        if not _read_folder(folder):
            break


def _read_folder(path: str) -> bool:
    """Read the beginning of a folder, which is enough; return whether it is there."""
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        next(entries, None)
        return True
    return False
