"""Asking the site's environment modules what there is."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcq.domain.errors import CommandTimedOut, SchedulerError, excerpt
from hpcq.execution.protocol import Command, Runner
from hpcq.programs import Reading
from hpcq.programs.modules import Signature, find_modules, signature_of
from hpcq.programs.pace import Pace
from hpcq.services.programs import in_thread

__all__ = ["ModuleReader"]

_MOST_BYTES = 1 << 24


class ModuleReader:
    """Lists the modules, again only when one has come, gone or changed.

    Args:
        runner: runs the command.
        command: ``modulecmd.tcl`` of Environment Modules or ``lmod`` of Lmod, with its path.
        folders: those of ``MODULEPATH``.
        environment: the whole environment of the command, ``MODULEPATH`` among it.
        script: the job script, which is told the module's full name.
        seconds: how long one run may take; callers need not wait for it.
    """

    def __init__(
        self,
        runner: Runner,
        command: Path,
        folders: Sequence[str],
        environment: Mapping[str, str],
        script: Path,
        seconds: float,
    ) -> None:
        self._runner = runner
        self._command = str(command)
        self._look = in_thread(lambda: signature_of(folders))
        self._environment = environment
        self._script = script
        self._seconds = seconds
        self._pace = Pace()
        self._known: tuple[Signature, Reading] | None = None

    async def read(self) -> Reading:
        """Return the modules that there are.

        Raises:
            SchedulerError: the command failed, or did not end in time.
        """
        if self._known is None or self._pace.is_due():
            began = time.monotonic()
            signature = await self._look()
            self._pace.looked(len(signature), began)
            if self._known is None or self._known[0] != signature:
                self._known = signature, await self._listed()
        return self._known[1]

    async def _listed(self) -> Reading:
        listed = await self._printed("-t", "avail")
        defaults = await self._printed("-t", "-d", "avail")
        return find_modules(listed, defaults, self._script)

    async def _printed(self, *arguments: str) -> bytes:
        """Return what it prints on standard error, where both print lists; never for a shell."""
        argv = (self._command, "python", *arguments)
        try:
            done = await self._runner.run(
                Command(
                    argv=argv,
                    env=self._environment,
                    timeout_seconds=self._seconds,
                    output_limit_bytes=_MOST_BYTES,
                )
            )
        except CommandTimedOut:
            raise SchedulerError(f"{self._command} was ended after {self._seconds:g} s.") from None
        if done.exit_code != 0:
            said = excerpt(done.stderr) or "nothing"
            raise SchedulerError(f"{self._command} exited with {done.exit_code} and said: {said}")
        return done.stderr
