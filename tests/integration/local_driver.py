"""A service in small, to be killed: submits jobs to LOCAL and dies at a chosen step.

Run as ``local_driver.py DIRECTORY SLOTS JOBS STEP [ACCOUNT]``; with ``array:4`` for ``JOBS`` it
submits an array. Prints the id of each job that was taken. With ``REQUEUE_AT`` in the environment
it requeues each as soon as a file of this name is in the working directory. It dies at the second
call of the step, or at the one that ``CALL`` counts.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpcq.domain.actions import Action
from hpcq.domain.jobs import ArrayRange
from hpcq.schedulers.local import files
from hpcq.schedulers.local.launcher_client import LauncherClient, WaitingShepherd
from hpcq.schedulers.local.runs import Runs
from hpcq.schedulers.local.spool import Spool
from hpcq.telemetry import configure_logging

STEPS: dict[str, tuple[Any, str]] = {
    "add": (Spool, "add"),
    "dispatch": (Spool, "dispatch"),
    "prepare": (files, "make_run_directory"),
    "launch": (LauncherClient, "launch"),
    "start": (WaitingShepherd, "start"),
    "result": (Runs, "result"),
    "finish": (Spool, "finish"),
    "remove": (Runs, "remove"),
    "request": (Spool, "request"),
    "put_back": (Spool, "put_back"),
    "request_end": (Runs, "request_end"),
}


def die_at(step: str, call: int) -> None:
    """End this process at once, before or after the given call of a step: ``before:add``."""
    when, _, what = step.partition(":")
    owner, name = STEPS[what]
    original = getattr(owner, name)
    count = 0

    def counted(moment: str, number: int) -> None:
        if moment == when and number == call:
            os.kill(os.getpid(), signal.SIGKILL)

    async def waiting(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        number = count  # others may begin before this one ends
        counted("before", number)
        result = await original(*args, **kwargs)
        counted("after", number)
        return result

    def working(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        number = count  # others may begin before this one ends
        counted("before", number)
        result = original(*args, **kwargs)
        counted("after", number)
        return result

    setattr(owner, name, waiting if asyncio.iscoroutinefunction(original) else working)


async def main(
    directory: Path, slots: int, jobs: str, account: str | None, prepare: Callable[[], None]
) -> None:
    from tests.integration.local_site import LocalSite

    site = await LocalSite(directory, slots=slots).start()
    prepare()
    kind, _, tasks = jobs.rpartition(":")
    array = ArrayRange(first=1, last=int(tasks)) if kind else None
    for _ in range(1 if array else int(jobs)):
        native_id = await site.submit(directory / "work" / "job.sh", run_as=account, array=array)
        print(native_id, flush=True)
        if "REQUEUE_AT" in os.environ:
            await site.file(os.environ["REQUEUE_AT"])
            await site.backend.act(Action.REQUEUE, native_id)
    await asyncio.sleep(60)


if __name__ == "__main__":
    # Standard output is for ids.
    configure_logging("console", "INFO", sys.stderr)
    place, slots, jobs, step, *account = sys.argv[1:]
    call = int(os.environ.get("CALL", "2"))
    arm = (lambda: None) if step == "never" else (lambda: die_at(step, call))
    asyncio.run(main(Path(place), int(slots), jobs, account[0] if account else None, arm))
