"""Starting a job's script: what happens between fork and exec. Standard library only."""

import ctypes
import errno
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from hpcq.schedulers.local.cgroup import Leaf
from hpcq.schedulers.local.files import SCRIPT, Order

__all__ = ["Script", "StartFailed", "control", "start_script"]

_PR_SET_PDEATHSIG = 1
_BUSY_ATTEMPTS = 200
_BUSY_PAUSE_SECONDS = 0.005
_NOT_JOINED = b"\0"

# clone(2); one number on all of Linux's newer system calls.
_CLONE3 = 435
_CLONE_INTO_CGROUP = 0x200000000

_Opened = TypeVar("_Opened")

_libc = ctypes.CDLL(None, use_errno=True)
# Keeps the interpreter's lock over the call, which a child of it needs.
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


class Script(NamedTuple):
    """A script that runs.

    Attributes:
        pid: its first process.
        has_joined: whether that is in the job's control group, and so all that come of it.
    """

    pid: int
    has_joined: bool


def control(option: int, argument: int | bytes) -> None:
    """Call prctl(2) with one argument.

    Raises:
        OSError: it failed.
    """
    value = argument if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def start_script(directory: Path, order: Order, leaf: Leaf | None) -> Script:
    """Start the script of a run directory, in the job's control group if it has one.

    Returns once the script's program runs, in a session of its own.

    Raises:
        StartFailed: it cannot be started.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    pid = _fork_into(leaf) if leaf is not None else None
    to_join = None
    if pid is None:
        pid, to_join = os.fork(), leaf
    if pid == 0:
        _become_script(directory, order, to_join, write_end)
    os.close(write_end)
    with open(read_end, "rb") as report:
        said = report.read()
    reason = said.removeprefix(_NOT_JOINED)
    if reason:
        os.waitpid(pid, 0)
        raise StartFailed(reason.decode("utf-8", "replace"))
    return Script(pid, leaf is not None and not said.startswith(_NOT_JOINED))


def _fork_into(leaf: Leaf) -> int | None:
    """Fork with the child in the group from the start; None where that cannot be.

    To move a process takes the kernel about 10 ms (a grace period of RCU), in which no process
    anywhere forks. What ``os.fork`` does beyond the system call is for programs with threads.
    """
    try:
        group = os.open(leaf.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    arguments = _CloneArguments(flags=_CLONE_INTO_CGROUP, exit_signal=signal.SIGCHLD, cgroup=group)
    try:
        pid = _libc_with_lock.syscall(
            ctypes.c_long(_CLONE3),
            ctypes.byref(arguments),
            ctypes.c_size_t(ctypes.sizeof(arguments)),
        )
    finally:
        os.close(group)
    return pid if pid >= 0 else None


def _become_script(directory: Path, order: Order, to_join: Leaf | None, report: int) -> None:
    try:
        if to_join is not None:
            _join(to_join, report)
        _prepare(order)
        _execute(str(directory / SCRIPT), order)
    except StartFailed as error:
        reason = str(error)
    except BaseException as error:
        reason = f"The script could not be started: {error}."
    os.write(report, reason.encode("utf-8", "replace")[:4096])
    os._exit(127)


def _join(leaf: Leaf, report: int) -> None:
    try:
        leaf.join()
    except OSError:
        os.write(report, _NOT_JOINED)


def _prepare(order: Order) -> None:
    os.setsid()
    control(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _explain("The working directory", order["working_directory"], os.chdir)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    _redirect(order["stdout_path"], order["stderr_path"])
    # Python ignores SIGPIPE and SIGXFSZ, and a shepherd blocks others; both would be inherited.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _redirect(stdout_path: str, stderr_path: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND

    def open_for_output(path: str) -> int:
        return os.open(path, flags, 0o666)

    out = _explain("The output file", stdout_path, open_for_output)
    err = _explain("The error output file", stderr_path, open_for_output)
    for descriptor in (out, err):
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.ftruncate(descriptor, 0)
    os.dup2(out, 1)
    os.dup2(err, 2)


def _explain(what: str, path: str, action: Callable[[str], _Opened]) -> _Opened:
    try:
        return action(path)
    except OSError as error:
        raise StartFailed(f"{what} {path!r} cannot be used: {error.strerror}.") from None


def _execute(script: str, order: Order) -> None:
    argv, environment = [script, *order["args"]], order["environment"]
    for _ in range(_BUSY_ATTEMPTS):
        try:
            os.execve(script, argv, environment)  # noqa: S606 - no shell is wanted
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                os.execve("/bin/sh", ["/bin/sh", *argv], environment)  # noqa: S606
            if error.errno == errno.EACCES:
                # The spool is on a file system that is mounted noexec.
                interpreter = _interpreter(script) or ["/bin/sh"]
                os.execve(interpreter[0], [*interpreter, *argv], environment)  # noqa: S606
            if error.errno != errno.ETXTBSY:
                raise StartFailed(_why(script, error)) from None
        # A process that the service forked while it wrote the script still has it open.
        time.sleep(_BUSY_PAUSE_SECONDS)
    raise StartFailed("The script could not be started: it is being written to.")


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
