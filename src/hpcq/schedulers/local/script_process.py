"""The start of a job's script: everything between fork and exec. Standard library only."""

import contextlib
import ctypes
import errno
import os
import signal
import stat
import time
from collections.abc import Callable
from typing import TypeVar

from hpcq.execution.privileges import become
from hpcq.schedulers.local.cgroup import JobCgroup
from hpcq.schedulers.local.files import REPORT_DESCRIPTOR, JobOrder

__all__ = ["DEFAULT_SHELL", "ScriptProcess", "StartFailed", "control", "start_script"]

DEFAULT_SHELL = "/bin/bash"
"""The shell of scripts without a ``#!`` line: site scripts use arrays, which sh does not have."""

_PR_SET_PDEATHSIG = 1
_BUSY_ATTEMPTS = 200
_BUSY_PAUSE_SECONDS = 0.005
_JOINED, _NOT_JOINED = b"\1", b"\0"
_LONGEST_REPORT_BYTES = 4096
# Documentation/admin-guide/devices.txt: /dev/null, zero and full are of this kind.
_MEMORY_DEVICES = 1

# clone(2); one number on all of Linux's newer system calls.
_CLONE3 = 435
_CLONE_INTO_CGROUP = 0x200000000

_Opened = TypeVar("_Opened")

_libc = ctypes.CDLL(None, use_errno=True)
# Keeps the interpreter's lock during the call; the forked child needs it.
_libc_with_lock = ctypes.PyDLL(None, use_errno=True)
_libc_with_lock.syscall.restype = ctypes.c_long


class _CloneArguments(ctypes.Structure):
    """``struct clone_args``, up to the field that Linux 5.7 added."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            *("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size"),
            *("tls", "set_tid", "set_tid_size", "cgroup"),
        )
    )


class StartFailed(Exception):
    """The script could not be started; the message is a sentence that says why."""


class ScriptProcess:
    """The first process of a job: this program, until it has become the script's program.

    Attributes:
        pid: the process.
        has_joined: whether it, and so its descendants, is in the job's control group.
    """

    def __init__(self, pid: int, has_joined: bool, report: int) -> None:
        self.pid = pid
        self.has_joined = has_joined
        self._report = report
        self._message = b""
        self._is_closed = False
        os.set_blocking(report, False)

    @property
    def is_preparing(self) -> bool:
        """True until the script's program runs; a slow file system can delay that."""
        while not self._is_closed:
            try:
                data = os.read(self._report, _LONGEST_REPORT_BYTES)
            except BlockingIOError:
                return True
            self._message += data
            self._is_closed = not data
        return False

    def failure(self) -> str | None:
        """Return the reason why the script was not started, in a sentence, once this has ended."""
        return None if self.is_preparing else self._message.decode("utf-8", "replace") or None


def control(option: int, argument: int | bytes) -> None:
    """Call prctl(2) with one argument.

    Raises:
        OSError: it failed.
    """
    value = argument if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def start_script(order: JobOrder, group: JobCgroup | None) -> ScriptProcess:
    """Fork the process that becomes the script, in the job's control group if it has one.

    This does not wait for files that the job names: opening its output may take for ever.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    pid = _fork_into(group) if group is not None else None
    has_joined = pid is not None
    if pid is None:
        pid = os.fork()
    if pid == 0:
        _become_script(order, None if has_joined else group, write_end)
    os.close(write_end)
    if group is not None and not has_joined:
        has_joined = os.read(read_end, 1) == _JOINED
    return ScriptProcess(pid, has_joined, read_end)


def _fork_into(group: JobCgroup) -> int | None:
    """Fork with the child in the group from the start; None if the kernel cannot.

    Moving a process takes the kernel about 10 ms (a grace period of RCU), in which no process
    anywhere forks. The work of ``os.fork`` beyond the system call is for programs with threads.
    """
    try:
        descriptor = os.open(group.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    arguments = _CloneArguments(
        flags=_CLONE_INTO_CGROUP, exit_signal=signal.SIGCHLD, cgroup=descriptor
    )
    try:
        pid = _libc_with_lock.syscall(
            ctypes.c_long(_CLONE3),
            ctypes.byref(arguments),
            ctypes.c_size_t(ctypes.sizeof(arguments)),
        )
    finally:
        os.close(descriptor)
    return pid if pid >= 0 else None


def _become_script(order: JobOrder, to_join: JobCgroup | None, report: int) -> None:
    try:
        if to_join is not None:
            joined = _NOT_JOINED
            with contextlib.suppress(OSError):
                to_join.join()
                joined = _JOINED
            os.write(report, joined)
        _prepare(order, report)
        _execute(order)
    except StartFailed as error:
        reason = str(error)
    except BaseException as error:
        reason = f"The script could not be started: {error}."
    os.write(report, reason.encode("utf-8", "replace")[:_LONGEST_REPORT_BYTES])
    os._exit(127)


def _prepare(order: JobOrder, report: int) -> None:
    os.setsid()
    if "account" in order:
        # Some systems let an account look into a process that has become its own.
        os.close(REPORT_DESCRIPTOR)
        become(**order["account"])
    # The kernel forgets this when the account changes.
    control(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _try_on_path("The working directory", order["working_directory"], os.chdir)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    _redirect(order, report)
    # Python ignores SIGPIPE and SIGXFSZ and catches SIGINT, and a shepherd blocks others.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is not signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _redirect(order: JobOrder, report: int) -> None:
    out = _try_on_path("The output file", order["stdout_path"], _open_for_output)
    err = _try_on_path("The error output file", order["stderr_path"], _open_for_output)
    for descriptor, path in ((out, order["stdout_path"]), (err, order["stderr_path"])):
        why = _why_no_output(descriptor, order, report)
        if why is not None:
            raise StartFailed(f"The output file {path!r} cannot be used: {why}.")
    if os.path.samestat(os.fstat(out), os.fstat(err)):
        # One descriptor, so that a program that compares the two sees one file.
        err = out
    for descriptor in {out, err}:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.ftruncate(descriptor, 0)
    os.dup2(out, 1)
    os.dup2(err, 2)


def _open_for_output(path: str) -> int:
    # Opening a pipe without a reader would block; with this it fails (ENXIO).
    without_waiting = os.O_NONBLOCK | os.O_NOCTTY
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | without_waiting, 0o666)
    os.set_blocking(descriptor, True)
    return descriptor


def _why_no_output(descriptor: int, order: JobOrder, report: int) -> str | None:
    """Return why a job may not write there; None if it may."""
    opened = os.fstat(descriptor)
    if stat.S_ISCHR(opened.st_mode):
        is_usual = os.major(opened.st_rdev) == _MEMORY_DEVICES
        return None if is_usual else "It is a device other than /dev/null"
    if not stat.S_ISREG(opened.st_mode) and not stat.S_ISFIFO(opened.st_mode):
        return "It is neither a file nor a pipe"
    # Such a path leads through /proc, or a link, into what the service itself has open.
    if os.path.samestat(opened, os.fstat(report)) or _is_in_spool(descriptor, order):
        return "It belongs to the service"
    return None


def _is_in_spool(descriptor: int, order: JobOrder) -> bool:
    if "account" in order:
        # It could not have been opened.
        return False
    spool = os.path.dirname(os.path.dirname(os.path.dirname(order["script"])))
    return os.readlink(f"/proc/self/fd/{descriptor}").startswith(spool + "/")


def _try_on_path(what: str, path: str, action: Callable[[str], _Opened]) -> _Opened:
    try:
        return action(path)
    except OSError as error:
        why = error.strerror
        if error.errno == errno.ENXIO:
            why = "It is a pipe that nobody reads, or a device that is not there"
        raise StartFailed(f"{what} {path!r} cannot be used: {why}.") from None


def _execute(order: JobOrder) -> None:
    script, environment = order["script"], order["environment"]
    argv = [script, *order["args"]]
    shell = [order.get("shell") or DEFAULT_SHELL]
    for _ in range(_BUSY_ATTEMPTS):
        try:
            os.execve(script, argv, environment)  # noqa: S606 - no shell is wanted
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                _execute_by(shell, argv, environment)
            if error.errno == errno.EACCES:
                # The spool is on a file system that is mounted noexec.
                _execute_by(_interpreter(script) or shell, argv, environment)
            if error.errno != errno.ETXTBSY:
                raise StartFailed(_why(script, error)) from None
        # A process that the service forked while it wrote the script still has it open.
        time.sleep(_BUSY_PAUSE_SECONDS)
    raise StartFailed("The script could not be started: it is being written to.")


def _execute_by(interpreter: list[str], argv: list[str], environment: dict[str, str]) -> None:
    try:
        os.execve(interpreter[0], [*interpreter, *argv], environment)  # noqa: S606
    except OSError as error:
        raise StartFailed(
            f"The script could not be started by {interpreter[0]!r}: {error.strerror}. Its first "
            "line, or JOB_SHELL if that names none, says what runs it."
        ) from None


def _interpreter(script: str) -> list[str]:
    """Return the words of the script's ``#!`` line: the interpreter and at most one argument."""
    with open(script, "rb") as file:
        line = file.readline(4096)
    if not line.startswith(b"#!"):
        return []
    # As the kernel does: blanks and tabs only, a carriage return is part of the name.
    interpreter, _, argument = line[2:].strip(b" \t\n").replace(b"\t", b" ").partition(b" ")
    return [os.fsdecode(word) for word in (interpreter, argument.strip()) if word]


def _why(script: str, error: OSError) -> str:
    if error.errno == errno.E2BIG:
        return "The script could not be started: its arguments and environment are too long."
    interpreter = _interpreter(script)
    if error.errno != errno.ENOENT or not interpreter:
        return f"The script could not be started: {error.strerror}."
    if interpreter[0].endswith("\r"):
        return "The script's first line ends in a carriage return; save it with Unix line ends."
    return f"The interpreter {interpreter[0]!r} that the script's first line names does not exist."
