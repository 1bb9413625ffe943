"""The launcher: a process that forks one shepherd for each job, in a few milliseconds.

Run as a program, with two descriptors: its end of a packet socket, and the lock on the spool. It
reads the name of one run directory per packet, and ends when the service does. A shepherd keeps
both descriptors until it is on disk who it is. So whoever sees the end of the socket, or gets the
lock, knows that every shepherd there will ever be has left its mark.

If jobs have control groups it is also given the group of these groups, and the controllers to
switch off when the service has ended, however that ended: see `delegation.release`.

Standard library only; reads nothing of the service's environment.
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

from hpcq.schedulers.local import delegation, files
from hpcq.schedulers.local.shepherd import SIGNALS, tend

__all__ = ["PACKET_BYTES", "RETIRE", "main"]

PACKET_BYTES = 8192

RETIRE = b"\0"
"""A packet: another launcher takes over, the service goes on."""


def main(channel_descriptor: int, lock_descriptor: int, groups: Sequence[str] = ()) -> None:
    """Serve until the other end of the channel is closed.

    Args:
        channel_descriptor: to the service.
        lock_descriptor: of the spool.
        groups: what `delegation.release` takes: the group of the groups, and controllers.
    """
    channel = socket.socket(fileno=channel_descriptor)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    # Shepherds are waited for by the kernel; the service watches them by itself.
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
        delegation.release(Path(groups[0]), groups[1:])


def _become_shepherd(directory: Path, channel: socket.socket, lock_descriptor: int) -> NoReturn:
    def announce(started: files.Started) -> None:
        _answer(channel, directory, {"started": started})
        channel.close()
        os.close(lock_descriptor)

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        tend(directory, announce)
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
