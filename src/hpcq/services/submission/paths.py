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

from hpcq.domain.errors import (
    HpcqError,
    InvalidSpec,
    NotAuthorized,
    Overloaded,
)
from hpcq.domain.jobs import JobSpec
from hpcq.domain.outputs import default_name, fill_pattern, place_outputs, render
from hpcq.execution.accounts import Accounts
from hpcq.execution.files import is_within
from hpcq.execution.protocol import Files
from hpcq.schedulers.base import SchedulerBackend
from hpcq.services.programs.request import split_legacy_command
from hpcq.services.settings import ServiceSettings
from hpcq.services.submission.path_threads import PathThreads
from hpcq.services.submission.visit import Visit

__all__ = ["PathChecker"]

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 0.5
_LONGEST_FILE_NAME_BYTES = 255
_NOT_THERE = (errno.ENOENT, errno.ESTALE)
_OWN_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class _NotThere(InvalidSpec):
    """A path does not exist; it may come to."""


class PathChecker:
    """Looks at the folders and the script of a submission, in threads of its own.

    A script that came as text is in no folder: the schedulers' packages hand on its bytes.

    A file system that hangs costs its own requests the time limit, and no others anything. What
    is not there is waited for, without a thread: other requests do not notice. The paths of a job
    that an account is to submit are looked at in the name of that account.

    Args:
        backend: the scheduler, which knows its directives and how large a script may be.
        settings: the patience with file systems, the largest script, and the allowed folders.
        accounts: those in whose name jobs are submitted; None where the service does so itself.
    """

    def __init__(
        self,
        backend: SchedulerBackend,
        settings: ServiceSettings,
        accounts: Accounts | None = None,
    ) -> None:
        self._backend = backend
        self._wait_seconds = settings.path_wait_seconds
        self._max_script_bytes = settings.max_script_bytes
        self._accounts = accounts
        self._threads = PathThreads(
            settings.path_check_timeout_seconds, accounts, settings.allowed_directories
        )

    async def account_of(self, user: str) -> str | None:
        """Return the account in whose name a user submits; None for the service's own.

        Raises:
            NotAuthorized: the user has none.
            PathUnavailable: the directory of accounts does not answer.
        """
        accounts = self._accounts
        if accounts is None:
            return None

        def find(visit: Visit) -> str:
            visit.account = user
            return accounts.of(user).name

        return await self._threads.run(find)

    async def usable_account(self, name: str | None) -> str | None:
        """Return the account if jobs may be submitted in its name, else None."""
        accounts = self._accounts
        if accounts is None or name is None:
            return None

        def find(visit: Visit) -> str | None:
            visit.account = name
            with contextlib.suppress(NotAuthorized):
                return accounts.find(name).name
            return None

        return await self._threads.run(find)

    async def check(self, spec: JobSpec) -> JobSpec:
        """Make sure that they are there and can be used, and that output has a place to go to.

        Returns:
            The job, complete: with its name, and with where its output goes; its script told from
            its first argument where both came in one, see `split_legacy_command`.

        Raises:
            InvalidSpec: one of them is not; the field is named.
            PathUnavailable: a file system does not answer.
            AccountUnavailable: this service cannot look in the name of the job's account.
            Overloaded: this process cannot open files or start threads now.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._wait_seconds
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._threads.run_as(
                    spec.run_as, lambda visit: _check(spec, self._backend, self._most_bytes, visit)
                )
            except _NotThere as missing:
                left = deadline - clock()
                if left <= 0:
                    raise InvalidSpec(self._still(missing.detail), field=missing.field) from None
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def read_script(self, spec: JobSpec) -> bytes:
        """Return the content of a job's script, as it is now. Raises as `check` does."""
        if spec.script is not None:
            return spec.script.encode()

        def read(visit: Visit) -> bytes:
            visit.enter(spec.script_file)
            return _read_script(spec.script_file, self._most_bytes, visit)

        return await self._threads.run_as(spec.run_as, read)

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
    if spec.script is None:
        _check_allowed(spec.script_file, "scriptFile", visit)
        whole = spec.script_file
        # Its folders are read once, and not for each of the many paths that blanks may end.
        spec = split_legacy_command(
            spec, lambda path: _allowed_mode(path, visit, afresh=path == whole)
        )
        if not stat.S_ISREG(_mode(spec.script_file, "scriptFile", visit)):
            raise InvalidSpec(f"{spec.script_file!r} is not a file.", field="scriptFile")
        script = _read_script(spec.script_file, most_bytes, visit)
        _check_line_ends(script, f"The script {spec.script_file!r}", "scriptFile")
    else:
        script = spec.script.encode()
        _check_size(script, most_bytes, "The script", "script")
        _check_line_ends(script, "The script", "script")
    said = backend.check_script(spec, script)
    name = spec.name or said.name or default_name(spec.working_directory)
    spec = replace(
        spec,
        name=name,
        stdout_path=_absolute(spec, spec.stdout_path),
        stderr_path=_absolute(spec, spec.stderr_path),
    )
    outputs = place_outputs(spec, said.stdout, said.stderr, said.task_suffix)
    if spec.stdout_path and spec.stderr_path and _is_one_file(outputs.stdout, outputs.stderr):
        # Schedulers join the streams where both have the same path, letter by letter.
        spec = replace(spec, stderr_path=spec.stdout_path)
        outputs = replace(outputs, stderr=outputs.stdout)
    _check_output(outputs.stdout, _responsible("stdoutPath", spec.stdout_path, said.stdout), visit)
    _check_output(outputs.stderr, _responsible("stderrPath", spec.stderr_path, said.stderr), visit)
    is_asked = spec.wall_time_limit_seconds is not None or said.asks_time_limit
    return replace(spec, outputs=outputs, has_queue_time_limit=not is_asked)


def _absolute(spec: JobSpec, path: str | None) -> str | None:
    return None if path is None else os.path.join(spec.working_directory, path)


def _is_one_file(one: str | None, other: str | None) -> bool:
    """Return whether two absolute paths differ by nothing but ``//`` and ``/./``."""
    if one is None or other is None:
        return False
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
    if not visit.files.may(path, os.X_OK):
        raise InvalidSpec(
            f"The directory {path!r} may not be entered{visit.by_whom}.", field="workingDirectory"
        )


def _check_line_ends(script: bytes, what: str, field: str) -> None:
    # A program that is no text is the scheduler's to judge.
    if b"\r\n" in script and b"\0" not in script:
        raise InvalidSpec(
            f"{what} has DOS line ends (CR LF), which no shell understands; save it with Unix line "
            "ends.",
            field=field,
        )


def _check_size(script: bytes, most_bytes: int, what: str, field: str) -> None:
    if len(script) > most_bytes:
        raise InvalidSpec(
            f"{what} is larger than the {most_bytes} bytes that the scheduler, or "
            "MAX_SCRIPT_BYTES, allows.",
            field=field,
        )


def _check_output(pattern: str | None, field: str, visit: Visit) -> None:
    """Refuse what schedulers find out when it is too late.

    Slurm 22.05 shows such a job as running until its time limit; Grid Engine holds it (``Eqw``).
    """
    folder = None if pattern is None else fill_pattern(os.path.dirname(pattern), None)
    if folder is None or pattern == os.devnull:
        # The scheduler alone knows it, or will; or there is nothing to know.
        return
    if not stat.S_ISDIR(_mode(folder, field, visit)):
        raise InvalidSpec(f"{folder!r} is not a directory.", field=field)
    file = render(os.path.basename(pattern or ""), "1", "1")
    if len(os.fsencode(file)) > _LONGEST_FILE_NAME_BYTES:
        raise InvalidSpec(
            f"The name of the output file {file[:99]!r}… is longer than "
            f"{_LONGEST_FILE_NAME_BYTES} bytes.",
            field=field,
        )
    path = fill_pattern(pattern, None)
    if path is not None:
        _check_allowed(path, field, visit)
    if path is not None and stat.S_ISDIR(_mode_if_there(path, visit.files) or 0):
        raise InvalidSpec(f"{path!r} is a directory; name a file.", field=field)
    if path is not None and _mode_if_there(path, visit.files):
        if not visit.files.may(path, os.W_OK):
            raise InvalidSpec(
                f"The file {path!r} may not be written to{visit.by_whom}.", field=field
            )
    elif not visit.files.may(folder, os.W_OK | os.X_OK):
        raise InvalidSpec(
            f"The job's output goes to the folder {folder!r}, which may not be written "
            f"to{visit.by_whom}.",
            field=field,
        )


def _check_allowed(path: str, field: str, visit: Visit) -> None:
    """Refuse a path that leads out of the folders that jobs may use."""
    visit.enter(path)
    if not _is_allowed(path, visit):
        raise _outside(path, field, visit)


def _is_allowed(path: str, visit: Visit) -> bool:
    """Return whether a path leads to where jobs may be.

    For one that leads nowhere, the last folder on its way that is there decides: nobody learns what
    there is elsewhere.
    """
    if not visit.allowed:
        return True
    while not (real := _real_path_if_there(path, visit.files)):
        if _is_link(path, visit.files):
            # Whoever writes to it makes what it leads to.
            return False
        path = os.path.dirname(path)
    return is_within(real, visit.allowed)


def _outside(path: str, field: str, visit: Visit) -> InvalidSpec:
    folders = ", ".join(visit.allowed)
    return InvalidSpec(
        f"{path!r} leads out of the folders that jobs may use here (ALLOWED_DIRECTORIES): "
        f"{folders}.",
        field=field,
    )


def _real_path_if_there(path: str, files: Files) -> str | None:
    with contextlib.suppress(OSError):
        return files.real_path(path)
    return None


def _is_link(path: str, files: Files) -> bool:
    with contextlib.suppress(OSError):
        files.link(path)
        return True
    return False


def _mode(path: str, field: str, visit: Visit) -> int:
    if not os.path.isabs(path):
        raise InvalidSpec(f"{path!r} is not an absolute path.", field=field)
    _check_allowed(path, field, visit)
    try:
        return _stat_mode(path, visit)
    except OSError as error:
        if error.errno in _NOT_THERE:
            reason = f"{path!r} cannot be used: {error.strerror}."
            raise _NotThere(reason, field=field) from None
        raise _path_error(path, error, field, visit) from None


def _mode_if_there(path: str, files: Files, *, afresh: bool = False) -> int | None:
    """Return the mode of a file; 0 if it is not there, None if that is not known."""
    try:
        try:
            return files.mode(path)
        except OSError:
            if not afresh:
                raise
        _look_afresh(path, files)
        return files.mode(path)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError:
        return None


def _allowed_mode(path: str, visit: Visit, *, afresh: bool) -> int | None:
    """Return what `_mode_if_there` does; None for a file that jobs may not use."""
    mode = _mode_if_there(path, visit.files, afresh=afresh)
    return mode if not mode or _is_allowed(path, visit) else None


def _stat_mode(path: str, visit: Visit) -> int:
    visit.enter(path)
    try:
        return visit.files.mode(path)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
    _look_afresh(path, visit.files)
    return visit.files.mode(path)


def _look_afresh(path: str, files: Files) -> None:
    """Read the folders above a path, from the last that seems to be there down."""
    *above, _ = itertools.accumulate(path.split("/"), "{}/{}".format)
    there = list(
        itertools.takewhile(
            lambda folder: stat.S_ISDIR(_mode_if_there(folder, files) or 0),
            (folder or "/" for folder in above),
        )
    )
    for folder in [*there[-1:], *above[len(there) :]]:
        try:
            files.read_folder(folder)
        except OSError:
            break


def _read_script(path: str, most_bytes: int, visit: Visit) -> bytes:
    try:
        script = visit.files.read(path, most_bytes + 1, visit.allowed)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise _outside(path, "scriptFile", visit) from None
        raise _path_error(path, error, "scriptFile", visit) from None
    if script is None:
        raise InvalidSpec(f"The script {path!r} is not a file.", field="scriptFile")
    _check_size(script, most_bytes, f"The script {path!r}", "scriptFile")
    return script


def _path_error(path: str, error: OSError, field: str, visit: Visit) -> HpcqError:
    """Return what a failed look at a path means: that it is wrong, or a shortage of ours."""
    if error.errno in _OWN_SHORTAGES:
        return Overloaded(f"This service cannot look at paths now: {error.strerror}.")
    return InvalidSpec(f"{path!r} cannot be used{visit.by_whom}: {error.strerror}.", field=field)
