"""The program ``hpcq-as``: it acts in the name of an account for a service that asks it to.

The service starts it through ``sudo``, or, where the service is root, with the account's name as
its only argument; it then gives up root for that account before it does anything else. Its
standard input is the *line*: one end of a stream socket, whose other end the service holds. Over
the line come frames (four bytes of length, then the content). The first is the request, as
``marshal`` writes it, a dictionary with one of these names:

- ``run`` (argv, env, cwd, mark), then a frame with the standard input of a command: it runs the
  command, and answers `STARTED` and how the command ended, or why it could not be started. The
  command has the program's standard output and error.
- ``look``: it answers `STARTED`, and the questions of `hpcq.execution.protocol.Files`, each a
  frame for a frame. What it opens goes over the line, too (``SCM_RIGHTS``, unix(7)).
- ``end`` (a mark): it ends what carries the mark, see `hpcq.execution.orphans`.

An answer is a letter and a value, see `Answer`. The service reads it as it reads anything of a
stranger: the account has power over this process.

The end of the line ends all of it: the service is no more, or has waited long enough. A command
that runs then is killed with its process group; a request that came before the end of the line,
and is read after it, starts nothing. So nothing outlives the service that could still submit a job.

It runs three times for each submission, so it loads next to nothing: no ``json``, no ``typing``.
"""

# What `signal` is made of; the enumerations around it take as long to load as all the rest.
import _signal  # type: ignore[import-not-found]

# Here already: the account itself may not be able to read the library.
import _socket
import marshal
import os
import pwd
import select
import sys

if __name__ == "__main__":
    # Isolated mode (-I -S) knows the standard library only; this package comes after it.
    sys.path.append(os.path.abspath(f"{__file__}/../../.."))

from hpcq.execution.files import OwnFiles
from hpcq.execution.keyrings import leave_keyring
from hpcq.execution.privileges import become

# Not the one of typing, for the same reason.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

__all__ = ["DONE", "Answer", "frame", "main", "receive"]

DONE = b"."
"""Sent over the line in place of its end, where nothing is to be killed."""

_LINE = 0
_LENGTH_BYTES = 4


class Answer:
    """The letters with which answers begin, and what follows them."""

    STARTED = b"s"
    """Nothing: the command is being started, or questions can be asked."""
    EXIT_CODE = b"x"
    """A number: the exit status of the command, negative for the signal that ended it."""
    NUMBER = b"i"
    """A number."""
    TEXT = b"t"
    """Text."""
    BYTES = b"b"
    """The content of a file."""
    NOTHING = b"n"
    """Nothing, which is the answer."""
    DESCRIPTORS = b"p"
    """The content of a folder, or nothing; two descriptors come with it (``SCM_RIGHTS``)."""
    ERROR = b"e"
    """The number of an error (errno(3)) of a question, or of a command's program."""
    NO_ENTRY = b"d"
    """The number of the error with which a command's directory could not be entered."""
    FAILED = b"f"
    """Text: why what carries the mark does not end."""


def frame(content: bytes) -> bytes:
    """Return a frame with this content."""
    return len(content).to_bytes(_LENGTH_BYTES, "big") + content


def receive(read: "Callable[[int], bytes]", most_bytes: int = 1 << 31) -> bytes | None:
    """Return the next frame; None at the end of the line.

    Args:
        read: returns at most so many bytes of the line, none at its end.
        most_bytes: how long the frame may be.

    Raises:
        ValueError: it is longer.
    """
    head = _exactly(read, _LENGTH_BYTES)
    if head is None:
        return None
    length = int.from_bytes(head, "big")
    if length > most_bytes:
        raise ValueError("the frame is too long")
    return _exactly(read, length)


def _exactly(read: "Callable[[int], bytes]", length: int) -> bytes | None:
    data = bytearray()
    while len(data) < length:
        chunk = read(min(length - len(data), 1 << 20))
        if not chunk:
            return None
        data += chunk
    return bytes(data)


def main() -> None:
    """Serve one request."""
    # The account has power over the commands: they have no key of the service's.
    leave_keyring()
    if len(sys.argv) > 1:
        account = pwd.getpwnam(sys.argv[1])
        groups = os.getgrouplist(account.pw_name, account.pw_gid)
        become(account.pw_uid, account.pw_gid, groups)
    if os.geteuid() == 0:
        sys.exit("hpcq-as: it does not act as root")
    try:
        content = receive(_read)
        request: dict[str, Any] = {} if content is None else marshal.loads(content)  # noqa: S302
        if "run" in request:
            stdin = receive(_read)
            if stdin is not None:
                argv, env, cwd, mark = request["run"]
                _run(argv, env, cwd, mark, stdin)
        elif "look" in request:
            _look()
        elif "end" in request:
            _end(request["end"])
    except ConnectionError:
        # The service is no more.
        sys.exit(1)


def _read(most_bytes: int) -> bytes:
    return os.read(_LINE, most_bytes)


def _answer(letter: bytes, value: int | str | bytes = b"") -> None:
    if isinstance(value, int):
        value = str(value)
    _write(frame(letter + (_encoded(value) if isinstance(value, str) else value)))


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(_LINE, data) :]


def _run(argv: list[str], env: dict[str, str], cwd: str, mark: str, stdin: bytes) -> None:
    source = _input_file(stdin, mark)
    # From here on the mark is seen; before, the end of the line is.
    if select.select([_LINE], [], [], 0)[0]:
        return
    _answer(Answer.STARTED)
    failure, failure_writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        if mark:
            # A child has it open although a shell gives it another standard input.
            os.set_inheritable(source, True)
        _become_command(argv, env, cwd, source, failure_writer)
    os.close(failure_writer)
    os.close(source)
    ended = os.pidfd_open(pid)
    if _LINE in select.select([ended, _LINE], [], [])[0]:
        _kill_all()
    _, status = os.waitpid(pid, 0)
    failed = os.read(failure, 32)
    if failed:
        _answer(failed[:1], failed[1:])
    else:
        _answer(Answer.EXIT_CODE, os.waitstatus_to_exitcode(status))
    # What it has left behind may hold its output open: the service decides.
    if _read(1) != DONE:
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


def _become_command(
    argv: list[str], env: dict[str, str], cwd: str, source: int, failure: int
) -> "NoReturn":
    """Become the command, in a process of its own: a folder that hangs keeps no other."""
    letter = Answer.ERROR
    try:
        words = [_encoded(word) for word in argv]
        environment = {_encoded(name): _encoded(value) for name, value in env.items()}
        os.dup2(source, 0)
        for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
            # Python ignores them.
            _signal.signal(number, _signal.SIG_DFL)
        letter = Answer.NO_ENTRY
        os.chdir(_encoded(cwd))
        letter = Answer.ERROR
        os.execve(words[0], words, environment)  # noqa: S606
    except OSError as error:
        os.write(failure, letter + str(error.errno).encode("ascii"))
    finally:
        os._exit(127)


def _kill_all() -> "NoReturn":
    """End this process and all others of its group: a command has one of its own."""
    os.killpg(0, _signal.SIGKILL)
    # The signal is on its way.
    while True:
        _signal.pause()


def _look() -> None:
    files = OwnFiles()
    _answer(Answer.STARTED)
    while (content := receive(_read)) is not None:
        question, path, *more = marshal.loads(content)  # noqa: S302
        try:
            found = getattr(files, question)(os.fsdecode(_encoded(path)), *more)
        except OSError as error:
            _answer(Answer.ERROR, error.errno or 0)
            continue
        if isinstance(found, tuple):
            _answer_with_descriptors(*found)
        elif found is None:
            _answer(Answer.NOTHING)
        elif isinstance(found, int):
            _answer(Answer.NUMBER, int(found))
        elif isinstance(found, str):
            _answer(Answer.TEXT, os.fsencode(found))
        else:
            _answer(Answer.BYTES, found)


def _answer_with_descriptors(base: int, found: int, content: bytes = b"") -> None:
    line = _socket.socket(fileno=os.dup(_LINE))
    rights = base.to_bytes(4, sys.byteorder) + found.to_bytes(4, sys.byteorder)
    data = frame(Answer.DESCRIPTORS + content)
    sent = line.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    for descriptor in (line.detach(), base, found):
        os.close(descriptor)
    _write(data[sent:])


def _end(mark: str) -> None:
    # Imported here because only a service that follows a dead one asks for it.
    from hpcq.domain.errors import SchedulerError
    from hpcq.execution.orphans import end_orphans

    try:
        _answer(Answer.NUMBER, end_orphans(mark))
    except SchedulerError as error:
        _answer(Answer.FAILED, error.detail)


def _encoded(text: str) -> bytes:
    # As the service means it, whatever the locale here is.
    return text.encode("utf-8", "surrogateescape")


if __name__ == "__main__":
    main()
