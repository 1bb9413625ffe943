"""The service's side of the launcher: requests shepherds and receives their announcements."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from hpcq.domain.errors import SchedulerUnavailable
from hpcq.execution.descriptors import with_own_limit
from hpcq.schedulers.local import launcher
from hpcq.schedulers.local.cgroup_setup import CgroupTree
from hpcq.schedulers.local.files import ShepherdStart
from hpcq.schedulers.local.launcher import PACKET_BYTES, RETIRE

__all__ = ["LauncherClient", "LauncherEnded"]

_PATIENCE_SECONDS = 30.0


class LauncherEnded(Exception):
    """The launcher has ended, and so has every shepherd without a ``started.json``."""


class LauncherClient:
    """Starts shepherds. Replaces the launcher when that ends."""

    def __init__(self, lock_descriptor: int, cgroups: CgroupTree | None) -> None:
        self._lock_descriptor = lock_descriptor
        self._cgroups = cgroups
        self._connection: _Connection | None = None
        self._retired: list[_Connection] = []
        self._opening = asyncio.Lock()

    async def start(self) -> None:
        """Start the launcher, so that the first job need not wait for it."""
        await self._connected()

    async def stop(self) -> None:
        """End the launcher; shepherds go on."""
        for connection in (*self._retired, self._connection):
            if connection is not None:
                await connection.end()
        self._connection = None
        self._retired.clear()

    async def launch(self, directory: Path) -> ShepherdStart:
        """Start the shepherd of a run directory and return it, once ``started.json`` is written.

        Raises:
            LauncherEnded: only ``started.json`` says whether there is a shepherd.
            SchedulerUnavailable: there is none; the machine allows no more processes.
        """
        connection = await self._connected()
        answer = connection.ask(directory)
        answer.add_done_callback(_mark_retrieved)
        done, _ = await asyncio.wait([answer], timeout=_PATIENCE_SECONDS)
        if not done:
            # The shepherd was killed in its first moments, or the disk hangs. Other shepherds of
            # this launcher may still start until its channel ends.
            self._retire(connection)
        return await answer

    async def _connected(self) -> "_Connection":
        async with self._opening:
            if self._connection is not None and self._connection.is_gone:
                await self._connection.end()
                self._connection = None
            if self._connection is None:
                self._connection = await asyncio.to_thread(
                    _connect, self._lock_descriptor, self._cgroups
                )
                self._connection.listen()
            return self._connection

    def _retire(self, connection: "_Connection") -> None:
        connection.retire()
        self._retired.append(connection)
        if self._connection is connection:
            self._connection = None


class _Connection:
    """One launcher process and the channel to it."""

    def __init__(self, channel: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self._channel = channel
        self._process = process
        self._answers: dict[str, asyncio.Future[ShepherdStart]] = {}
        self.is_gone = False

    def listen(self) -> None:
        """Receive answers from now on."""
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._receive)

    def ask(self, directory: Path) -> asyncio.Future[ShepherdStart]:
        """Request the shepherd of a run directory."""
        answer: asyncio.Future[ShepherdStart] = asyncio.get_running_loop().create_future()
        self._answers[directory.name] = answer
        try:
            self._channel.send(os.fsencode(directory))
        except BlockingIOError:
            # Nothing was sent: the socket holds more requests than any machine has slots.
            del self._answers[directory.name]
            answer.set_exception(SchedulerUnavailable("The launcher of jobs is too busy."))
        except OSError:
            self._close()
        return answer

    def retire(self) -> None:
        """Let the launcher end; still receive the answers of shepherds that start."""
        with contextlib.suppress(OSError):
            self._channel.send(RETIRE)
        self._channel.shutdown(socket.SHUT_WR)

    async def end(self) -> None:
        """End the launcher and wait until it has."""
        self._close()
        await asyncio.to_thread(self._process.wait)

    def _receive(self) -> None:
        try:
            packet = self._channel.recv(PACKET_BYTES)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._close()
            return
        content = json.loads(packet)
        answer = self._answers.pop(content["run"], None)
        if answer is None or answer.done():
            return
        started = content.get("started")
        if started is None:
            reason = f"The job's shepherd could not be started: {content['error']}."
            answer.set_exception(SchedulerUnavailable(reason))
        else:
            answer.set_result(started)

    def _close(self) -> None:
        if self.is_gone:
            return
        self.is_gone = True
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        self._channel.close()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(LauncherEnded())
        self._answers.clear()


def _mark_retrieved(answer: asyncio.Future[ShepherdStart]) -> None:
    # A cancelled caller never does so, and asyncio would log an error that was not retrieved.
    if not answer.cancelled():
        answer.exception()


def _connect(lock_descriptor: int, cgroups: CgroupTree | None) -> _Connection:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    try:
        process = subprocess.Popen(
            with_own_limit(_command(theirs.fileno(), lock_descriptor, cgroups)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            pass_fds=(theirs.fileno(), lock_descriptor),
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        raise SchedulerUnavailable(
            f"The launcher of jobs could not be started: {error.strerror}."
        ) from error
    finally:
        theirs.close()
    return _Connection(ours, process)


def _command(
    channel_descriptor: int, lock_descriptor: int, cgroups: CgroupTree | None
) -> list[str]:
    # UTF-8 whatever the locale, so that arguments arrive byte for byte.
    return [
        sys.executable,
        *("-I", "-S", "-X", "utf8"),
        str(launcher.__file__),
        str(channel_descriptor),
        str(lock_descriptor),
        *(() if cgroups is None else (str(cgroups.path), *cgroups.switched_on)),
    ]
