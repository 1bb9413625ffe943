"""Starting a job's script: what happens between fork and exec. Standard library only."""

import ctypes
import errno
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hpcq.schedulers.local.files import SCRIPT, Order

__all__ = ["StartFailed", "control", "start_script"]

_PR_SET_PDEATHSIG = 1
_BUSY_ATTEMPTS = 200
_BUSY_PAUSE_SECONDS = 0.005

_Opened = TypeVar("_Opened")

_libc = ctypes.CDLL(None, use_errno=True)


class StartFailed(Exception):
    """The script could not be started; the message is a sentence that says why."""


def control(option: int, argument: int | bytes) -> None:
    """Call prctl(2) with one argument.

    Raises:
        OSError: it failed.
    """
    value = argument if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def start_script(directory: Path, order: Order) -> int:
    """Start the script of a run directory and return its pid.

    Returns once the script's program runs, in a session of its own.

    Raises:
        StartFailed: it cannot be started.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _become_script(directory, order, write_end)
    os.close(write_end)
    with open(read_end, "rb") as report:
        reason = report.read()
    if reason:
        os.waitpid(pid, 0)
        raise StartFailed(reason.decode("utf-8", "replace"))
    return pid


def _become_script(directory: Path, order: Order, report: int) -> None:
    try:
        _prepare(order)
        _execute(str(directory / SCRIPT), order)
    except StartFailed as error:
        reason = str(error)
    except BaseException as error:
        reason = f"The script could not be started: {error}."
    os.write(report, reason.encode("utf-8", "replace")[:4096])
    os._exit(127)


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
