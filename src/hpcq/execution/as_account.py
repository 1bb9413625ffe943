"""The program ``hpcq-as``: it acts in the name of an account for a service that asks it to.

The service starts it through ``sudo``, or, where the service is root, with the account's name as
its only argument; it then gives up root for that account before it does anything else. Its
standard input is the *line*: one end of a stream socket, whose other end the service holds. Over
the line come frames (four bytes of length, then the content); the first is the request, as JSON:

- ``{"run": {"argv": …, "env": …, "cwd": …, "mark": …}}`` and a frame with the standard input of
  the command: it runs the command, and answers ``{"started": true}`` and ``{"exit_code": …}``, or
  ``{"errno": …, "of": …}`` where the command could not be started, for its ``cwd`` or its
  ``argv``. The command has the program's standard output and error.
- ``{"look": true}``: it answers the questions of `hpcq.execution.files`, one frame each.
- ``{"end": MARK}``: it ends what carries the mark, see `hpcq.execution.orphans`.

The end of the line ends all of it: the service is no more, or has waited long enough. A command
that runs then is killed with its process group; a request that came before the end of the line,
and is read after it, starts nothing. So nothing outlives the service that could still submit a job.

Standard library only; the program trusts nobody with more than the account's own rights.
"""

import contextlib
import json
import os
import pwd
import select
import signal
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

if __name__ == "__main__":
    # Isolated mode (-I -S) knows the standard library only; this package comes after it.
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from hpcq.execution.files import OwnFiles

__all__ = ["DONE", "main", "receive", "send"]

_LENGTH = struct.Struct(">I")
_LINE = 0
DONE = b"."
"""Sent over the line in place of its end, where nothing is to be killed."""


def send(line: socket.socket, content: bytes | Mapping[str, object]) -> None:
    """Send a frame; JSON unless it is bytes. Raises OSError when nobody is there."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode("ascii")
    line.sendall(_LENGTH.pack(len(data)) + data)


def receive(line: socket.socket, most_bytes: int = 1 << 31) -> bytes | None:
    """Return the next frame; None at the end of the line.

    Raises:
        ValueError: it is longer than allowed.
    """
    head = _receive_exactly(line, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > most_bytes:
        raise ValueError("the frame is too long")
    return _receive_exactly(line, length)


def _receive_exactly(line: socket.socket, length: int) -> bytes | None:
    data = bytearray()
    while len(data) < length:
        chunk = line.recv(min(length - len(data), 1 << 20))
        if not chunk:
            return None
        data += chunk
    return bytes(data)


def main() -> None:
    """Serve one request."""
    if len(sys.argv) > 1:
        _become(sys.argv[1])
    if os.geteuid() == 0:
        sys.exit("hpcq-as: it does not act as root")
    with socket.socket(fileno=_LINE) as line, contextlib.suppress(BrokenPipeError):
        content = receive(line)
        request = {} if content is None else json.loads(content)
        if "run" in request:
            stdin = receive(line)
            if stdin is not None:
                _run(line, request["run"], stdin)
        elif "look" in request:
            _look(line)
        elif "end" in request:
            _end(line, request["end"])


def _become(name: str) -> None:
    account = pwd.getpwnam(name)
    os.initgroups(name, account.pw_gid)
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)


def _run(line: socket.socket, request: Mapping[str, Any], stdin: bytes) -> None:
    source = _input_file(stdin, request["mark"])
    # From here on the mark is seen; before, the end of the line is.
    if select.select([line], [], [], 0)[0]:
        return
    send(line, {"started": True})
    failure, failure_writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become_command(request, source, failure_writer)
    os.close(failure_writer)
    os.close(source)
    ended = os.pidfd_open(pid)
    if line.fileno() in select.select([ended, line.fileno()], [], [])[0]:
        _kill_all()
    _, status = os.waitpid(pid, 0)
    what, _, number = os.read(failure, 32).decode("ascii").partition(" ")
    exit_code = os.waitstatus_to_exitcode(status)
    send(line, {"errno": int(number), "of": what} if what else {"exit_code": exit_code})
    # What it has left behind may hold its output open: the service decides.
    if line.recv(1) != DONE:
        _kill_all()


def _input_file(content: bytes, mark: str) -> int:
    """Return a descriptor of the command's standard input, named by the mark."""
    if not content and not mark:
        return os.open(os.devnull, os.O_RDONLY)
    descriptor = os.memfd_create(mark or "stdin", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _become_command(request: Mapping[str, Any], source: int, failure: int) -> NoReturn:
    """Become the command, in a process of its own: a folder that hangs keeps nobody else."""
    step = "argv"
    try:
        argv = [_encoded(word) for word in request["argv"]]
        environment = {_encoded(n): _encoded(v) for n, v in request["env"].items()}
        if request["mark"]:
            # A child has it open although a shell gives it another standard input.
            os.set_inheritable(source, True)
        os.dup2(source, 0)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            # Python ignores them.
            signal.signal(number, signal.SIG_DFL)
        step = "cwd"
        os.chdir(_encoded(request["cwd"]))
        step = "argv"
        os.execve(argv[0], argv, environment)  # noqa: S606
    except OSError as error:
        os.write(failure, f"{step} {error.errno}".encode("ascii"))
    finally:
        os._exit(127)


def _kill_all() -> NoReturn:
    """End this process and all others of its group: a command has one of its own."""
    os.killpg(0, signal.SIGKILL)
    # The signal is on its way.
    while True:
        signal.pause()


def _look(line: socket.socket) -> None:
    files = OwnFiles()
    send(line, {"ready": True})
    while (content := receive(line)) is not None:
        question, path, *more = json.loads(content)
        answer: object
        try:
            answer = getattr(files, question)(os.fsdecode(_encoded(path)), *more)
        except OSError as error:
            send(line, {"errno": error.errno})
            continue
        if isinstance(answer, str):
            answer = os.fsencode(answer).decode("utf-8", "surrogateescape")
        if isinstance(answer, bytes):
            send(line, {"follows": True})
            send(line, answer)
        else:
            send(line, {"answer": answer})


def _end(line: socket.socket, mark: str) -> None:
    # Imported here because only a service that follows a dead one asks for it.
    from hpcq.domain.errors import SchedulerError
    from hpcq.execution.orphans import end_orphans

    try:
        send(line, {"ended": end_orphans(mark)})
    except SchedulerError as error:
        send(line, {"error": error.detail})


def _encoded(text: str) -> bytes:
    # As the service means it, whatever the locale here is.
    return text.encode("utf-8", "surrogateescape")


if __name__ == "__main__":
    main()
