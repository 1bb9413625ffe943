"""The launcher: a process that forks one shepherd for each job, in a few milliseconds.

It runs as a program, with two descriptors: its end of a packet socket, and the lock on the spool.
Each packet is the path of a run directory and carries one end of a socket pair, the *line* between
the service and that shepherd. The launcher ends when the service does.

A shepherd tells the service who it is, and waits: the service writes that into the spool first and
then answers `START`. So the spool knows each shepherd before its job starts. `WITHDRAW` ends it. If
the line ends without an answer the service has died, and the spool decides: the job was to start
if the spool says that it was dispatched to this run. A shepherd holds the lock until then, so the
next service, which needs the lock, finds all of this decided.

If jobs have control groups, further arguments are the group of these groups and the controllers to
switch off after the service has ended in any way: see `cgroup_setup.release`.

Standard library only; the launcher reads nothing of the service's environment.
"""

import contextlib
import gc
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

if __name__ == "__main__":
    # Isolated mode (-I -S) knows the standard library only; this package comes after it.
    sys.path.append(str(Path(__file__).resolve().parents[3]))

from hpcq.schedulers.local import cgroup_setup, files
from hpcq.schedulers.local.shepherd import supervise

__all__ = ["PACKET_BYTES", "START", "WITHDRAW", "main"]

PACKET_BYTES = 8192

START, WITHDRAW = b"+", b"-"
"""The answers of the service to a shepherd that waits."""

_SPOOL_PATIENCE_SECONDS = 300.0


def main(channel_descriptor: int, lock_descriptor: int, groups: Sequence[str] = ()) -> None:
    """Serve until the other end of the channel is closed.

    Args:
        channel_descriptor: to the service.
        lock_descriptor: of the spool.
        groups: the arguments of `cgroup_setup.release`: the group of groups, and controllers.
    """
    channel = socket.socket(fileno=channel_descriptor)
    # A job may send any signal; a shepherd fetches those that mean something.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    # The kernel waits for shepherds; the service watches them itself.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    while True:
        packet, lines, _, _ = socket.recv_fds(channel, PACKET_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        if not packet:
            break
        if not lines:
            # No descriptor was free. The service sees the end of the line.
            continue
        with socket.socket(fileno=lines[0]) as line:
            try:
                pid = os.fork()
            except OSError as error:
                _tell(line, {"error": str(error)})
                continue
            if pid == 0:
                channel.close()
                _become_shepherd(Path(os.fsdecode(packet)), line, lock_descriptor)
    if groups:
        cgroup_setup.release(Path(groups[0]), groups[1:])


def _become_shepherd(directory: Path, line: socket.socket, lock_descriptor: int) -> NoReturn:
    def may_start(started: files.ShepherdStart) -> bool:
        _tell(line, {"started": started})
        answer = line.recv(1)
        line.close()
        decision = answer == START or (not answer and _is_dispatched(directory))
        os.close(lock_descriptor)
        return decision

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        supervise(directory, may_start)
    except BaseException as error:
        with contextlib.suppress(OSError):
            _tell(line, {"error": f"{type(error).__name__}: {error}"})
        # The disk may be full, and the job may have put something else into this place.
        with contextlib.suppress(OSError):
            new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(directory / files.LOG, new, 0o600), "wb") as file:
                file.write(traceback.format_exc().encode("utf-8", "replace"))
        os._exit(1)
    os._exit(0)


def _tell(line: socket.socket, content: dict[str, object]) -> None:
    # A service that has died does not listen.
    with contextlib.suppress(OSError):
        line.send(json.dumps(content).encode("ascii"))


def _is_dispatched(directory: Path) -> bool:
    """Return whether the spool of a service that has died says that this run was to start."""
    # Loaded in this rare case only: each shepherd would need more memory.
    import sqlite3

    number, _, attempt = directory.name.partition(".")
    spool = f"{(directory.parents[1] / 'spool.db').as_uri()}?mode=rw"
    # A service that ends in good order closes the spool a moment later.
    connection = sqlite3.connect(spool, uri=True, timeout=_SPOOL_PATIENCE_SECONDS)
    try:
        query = "SELECT 1 FROM job WHERE id = ? AND attempt = ? AND phase = 'dispatched'"
        found = connection.execute(query, (int(number), int(attempt))).fetchone()
    finally:
        connection.close()
    return found is not None


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
