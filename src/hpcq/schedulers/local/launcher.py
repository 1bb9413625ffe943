"""The launcher: a process that forks one shepherd for each job, in a few milliseconds.

It runs as a program, with two descriptors: its end of a packet socket, and the lock on the spool.
It reads the path of one run directory per packet, and ends when the service does. A shepherd keeps
both descriptors until its ``started.json`` is written. So when the socket ends, or when the lock is
free, every shepherd that will ever exist has written its file.

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
from hpcq.schedulers.local.shepherd import SIGNALS, supervise

__all__ = ["PACKET_BYTES", "RETIRE", "main"]

PACKET_BYTES = 8192

RETIRE = b"\0"
"""A packet: another launcher takes over, the service goes on."""


def main(channel_descriptor: int, lock_descriptor: int, groups: Sequence[str] = ()) -> None:
    """Serve until the other end of the channel is closed.

    Args:
        channel_descriptor: to the service.
        lock_descriptor: of the spool.
        groups: the arguments of `cgroup_setup.release`: the group of groups, and controllers.
    """
    channel = socket.socket(fileno=channel_descriptor)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    # The kernel waits for shepherds; the service watches them itself.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    while packet := channel.recv(PACKET_BYTES):
        if packet == RETIRE:
            return
        directory = Path(os.fsdecode(packet))
        try:
            pid = os.fork()
        except OSError as error:
            _answer(channel, directory, {"error": str(error)})
            continue
        if pid == 0:
            _become_shepherd(directory, channel, lock_descriptor)
    if groups:
        cgroup_setup.release(Path(groups[0]), groups[1:])


def _become_shepherd(directory: Path, channel: socket.socket, lock_descriptor: int) -> NoReturn:
    def announce(started: files.ShepherdStart) -> None:
        _answer(channel, directory, {"started": started})
        channel.close()
        os.close(lock_descriptor)

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        supervise(directory, announce)
    except BaseException as error:
        _answer(channel, directory, {"error": f"{type(error).__name__}: {error}"})
        # The disk may be full.
        with contextlib.suppress(OSError):
            (directory / files.LOG).write_text(traceback.format_exc(), "utf-8", "replace")
        os._exit(1)
    os._exit(0)


def _answer(channel: socket.socket, directory: Path, answer: dict[str, object]) -> None:
    packet = json.dumps({"run": directory.name, **answer}).encode("ascii")
    try:
        channel.send(packet)
    except OSError:
        # The service has ended, and the next one finds the shepherd by its mark on disk; or the
        # shepherd has announced itself before.
        return


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
