"""The service's side of the launcher: requests shepherds and lets their jobs start."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import cast

from hpcq.domain.errors import SchedulerUnavailable
from hpcq.execution.descriptors import with_own_limit
from hpcq.schedulers.local import launcher
from hpcq.schedulers.local.cgroup_setup import CgroupTree
from hpcq.schedulers.local.files import ShepherdStart
from hpcq.schedulers.local.launcher import PACKET_BYTES, START, WITHDRAW

__all__ = ["LauncherClient", "WaitingShepherd"]

_PATIENCE_SECONDS = 30.0
_END_SECONDS = 5.0


class WaitingShepherd:
    """A shepherd that waits for the service's word; exactly one of the methods gives it.

    Attributes:
        started: the shepherd.
    """

    def __init__(self, started: ShepherdStart, line: socket.socket) -> None:
        self.started = started
        self._line = line

    def start(self) -> None:
        """Let the job start. To be called when the spool knows this shepherd."""
        self._answer(START)

    def withdraw(self) -> None:
        """End the shepherd; the job does not start."""
        self._answer(WITHDRAW)

    def leave_to_spool(self) -> None:
        """Let the shepherd look into the spool, once this service has closed that."""
        self._line.close()

    def _answer(self, answer: bytes) -> None:
        # A shepherd that was killed meanwhile does not listen.
        with contextlib.suppress(OSError):
            self._line.send(answer)
        self._line.close()


class LauncherClient:
    """Starts shepherds. Replaces the launcher when that ends."""

    def __init__(self, lock_descriptor: int, cgroups: CgroupTree | None) -> None:
        self._lock_descriptor = lock_descriptor
        self._cgroups = cgroups
        self._connection: _Connection | None = None
        self._opening = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The launcher's process."""
        return None if self._connection is None else self._connection.process.pid

    async def start(self) -> None:
        """Start the launcher, so that the first job need not wait for it."""
        await self._connected()

    async def stop(self) -> None:
        """End the launcher; shepherds go on."""
        if self._connection is not None:
            await self._connection.end()
        self._connection = None

    async def launch(self, directory: Path) -> WaitingShepherd:
        """Start the shepherd of a run directory and return it. Its job does not start yet.

        Raises:
            SchedulerUnavailable, OSError: there is none, and none will start this job.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            with theirs:
                await self._request(directory, theirs)
            async with asyncio.timeout(_PATIENCE_SECONDS):
                packet = await asyncio.get_running_loop().sock_recv(ours, PACKET_BYTES)
            if not packet:
                raise SchedulerUnavailable("The launcher or the shepherd of the job was killed.")
            answer = json.loads(packet)
            if "error" in answer:
                reason = f"The job's shepherd could not be started: {answer['error']}."
                raise SchedulerUnavailable(reason)
        except BaseException as error:
            # One that comes late finds this.
            WaitingShepherd(cast(ShepherdStart, {}), ours).withdraw()
            if isinstance(error, TimeoutError):
                reason = f"The launcher of jobs did not answer for {_PATIENCE_SECONDS:g} s."
                raise SchedulerUnavailable(reason) from None
            raise
        return WaitingShepherd(answer["started"], ours)

    async def _request(self, directory: Path, line: socket.socket) -> None:
        connection = await self._connected()
        try:
            connection.send(directory, line)
        except BlockingIOError:
            # Nothing was sent: the socket holds more requests than any machine has slots.
            raise SchedulerUnavailable("The launcher of jobs is too busy.") from None
        except OSError:
            connection.is_gone = True
            (await self._connected()).send(directory, line)

    async def _connected(self) -> "_Connection":
        async with self._opening:
            if self._connection is not None and self._connection.is_gone:
                await self._connection.end()
                self._connection = None
            if self._connection is None:
                self._connection = await asyncio.to_thread(
                    _connect, self._lock_descriptor, self._cgroups
                )
            return self._connection


class _Connection:
    """One launcher process and the channel to it."""

    def __init__(self, channel: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self._channel = channel
        self.process = process
        self.is_gone = False

    def send(self, directory: Path, line: socket.socket) -> None:
        """Request the shepherd of a run directory.

        Raises:
            OSError: nothing was sent.
        """
        socket.send_fds(self._channel, [os.fsencode(directory)], [line.fileno()])

    async def end(self) -> None:
        """End the launcher and wait until it has."""
        self._channel.close()
        await asyncio.to_thread(self._wait)

    def _wait(self) -> None:
        # A stopped process does not see the end of its channel.
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


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
