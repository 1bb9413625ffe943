"""The shepherd: one small process for each job, which outlives the service.

A shepherd starts the script, waits for it and all its descendants, enforces the limits, ends the
job on request, and leaves the result on disk. As a subreaper it becomes the parent of a descendant
when that one's own parent ends, so no process can get away, not even a daemon in its own session.

Standard library only, no threads, and no signal handlers: the signals that matter are blocked and
fetched one by one.
"""

import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from hpcq.schedulers.local import files
from hpcq.schedulers.local.cgroup import JobCgroup
from hpcq.schedulers.local.files import JobOrder, Result, ShepherdStart, UsageSample
from hpcq.schedulers.local.job_folder import remove_job_folder, remove_job_folder_of_account
from hpcq.schedulers.local.processes import Process, boot_id, descendants, identify, send
from hpcq.schedulers.local.script_process import ScriptProcess, control, start_script
from hpcq.schedulers.local.usage_meter import UsageMeter

__all__ = ["CANCEL", "PASS_ON", "SIGNALS", "Shepherd", "supervise"]

CANCEL = signal.SIGUSR2
"""Sent by the service to end the job."""

PASS_ON = signal.SIGRTMIN
"""Sent by the service with the number of a signal for all processes of the job as its value.

STOP suspends the job, so that its wall time stands still, and CONT resumes it.
"""

SIGNALS = frozenset({signal.SIGCHLD, CANCEL, PASS_ON, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""The signals that a shepherd fetches; blocked before it is forked, so that none is lost."""

_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

_FIRST_SAMPLE_SECONDS = 0.25
_SAMPLE_SECONDS = 1.0
_LIMITED_SAMPLE_SECONDS = 0.1
_LEFT_OVER_GRACE_SECONDS = 2.0
_KILL_AGAIN_SECONDS = 0.05
_DISK_FULL_PAUSE_SECONDS = 1.0


def supervise(directory: Path, may_start: Callable[[ShepherdStart], bool]) -> None:
    """Run the job of a run directory to its end. To be called in a process of its own.

    Args:
        directory: holds the order; its report gets the result.
        may_start: called before the job starts, with this process; returns its decision.
    """
    os.setsid()
    control(_PR_SET_NAME, b"hpcq-shepherd")
    control(_PR_SET_CHILD_SUBREAPER, 1)
    order, me = files.read_order(directory), identify(os.getpid())
    assert me is not None  # noqa: S101 - /proc always has the process that reads it
    report = files.open_regular(directory / files.REPORT, os.O_RDWR)
    os.dup2(report, files.REPORT_DESCRIPTOR, inheritable=False)
    if report != files.REPORT_DESCRIPTOR:
        os.close(report)
    started = ShepherdStart(
        pid=me.pid,
        start_ticks=me.start_ticks,
        boot_id=boot_id(),
        start_time=time.time(),
        began=time.monotonic(),
        passes_signals_on=True,
    )
    if may_start(started):
        _write_result(Shepherd(order, started).run())
    if "folder" in order:
        remove = remove_job_folder_of_account if "account" in order else remove_job_folder
        remove(files.encode_path(order["folder"]))


def _write_result(result: Result) -> None:
    while True:
        try:
            files.write_report(files.REPORT_DESCRIPTOR, {"result": result}, durable=True)
        except OSError as error:
            # A full disk is emptied one day; the exit status cannot be read again.
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            time.sleep(_DISK_FULL_PAUSE_SECONDS)
        else:
            return


class Shepherd:
    """Watches one job."""

    def __init__(self, order: JobOrder, started: ShepherdStart) -> None:
        self._order = order
        self._start_time = started["start_time"]
        self._began = started["began"]
        self._group: JobCgroup | None = None
        self._meter = UsageMeter(now=self._now)
        self._script: ScriptProcess | None = None
        self._has_begun = False
        self._exit_code: int | None = None
        self._exit_signal: int | None = None
        self._failure: tuple[str, str] | None = None
        self._kill_at: float | None = None
        self._suspended_at: float | None = None
        self._suspended_seconds = 0.0
        self._sample_at = self._began

    def run(self) -> Result:
        """Run the script and return its result, once none of its processes is left."""
        try:
            self._start()
        except OSError as error:
            # The account or the machine allows no more processes or descriptors.
            reason = f"The script could not be started: {error.strerror}."
            self._failure = ("SCHEDULER_ERROR", reason)
        self._watch()
        result = self._result(self._meter.final() if self._has_begun else None)
        if self._group is not None:
            self._group.remove()
        return result

    def _start(self) -> None:
        path = self._order.get("cgroup")
        limit = self._order["memory_limit_bytes"]
        group = None if path is None else JobCgroup.make(Path(path), limit)
        self._script = start_script(self._order, group)
        if group is not None and self._script.has_joined:
            self._group, self._meter = group, UsageMeter(group, self._now)
        elif group is not None:
            group.remove()
        self._sample_at = self._began + min(_FIRST_SAMPLE_SECONDS, self._pause)

    def _watch(self) -> None:
        while self._reap():
            if self._script is None and self._kill_at is None:
                self._end(_LEFT_OVER_GRACE_SECONDS)
            pause = max(0.0, self._next_moment() - time.monotonic())
            self._handle(signal.sigtimedwait(SIGNALS, pause))
            now = time.monotonic()
            self._enforce_wall_time(now)
            if now >= self._sample_at:
                self._take_sample(now)
            if self._kill_at is not None and now >= self._kill_at:
                self._kill()
                self._kill_at = now + _KILL_AGAIN_SECONDS

    def _reap(self) -> bool:
        """Wait for every process that ended; return whether any is left."""
        while True:
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return False
            if dead is None:
                return True
            self._meter.see_end(dead.si_pid)
            pid, status = os.waitpid(dead.si_pid, 0)
            if self._script is not None and pid == self._script.pid:
                code = os.waitstatus_to_exitcode(status)
                self._exit_code = code if code >= 0 else None
                self._exit_signal = -code if code < 0 else None
                reason = self._script.failure()
                self._has_begun = reason is None
                if reason is not None and self._failure is None:
                    self._failure = ("SCHEDULER_ERROR", reason)
                self._script = None

    def _next_moment(self) -> float:
        moments = [self._sample_at]
        if self._kill_at is not None:
            moments.append(self._kill_at)
        elif self._wall_time_end is not None:
            moments.append(self._wall_time_end)
        return min(moments)

    def _handle(self, received: signal.struct_siginfo | None) -> None:
        if received is None:
            return
        if received.si_signo == CANCEL:
            self._fail("CANCELLED", "It was cancelled.")
        elif received.si_signo == signal.SIGTERM:
            self._fail("NODE_FAILURE", "The machine was shutting down.")
        elif received.si_signo == PASS_ON:
            # The value of a queued signal is where a dead child's status is.
            self._pass_on(received.si_status)

    def _pass_on(self, number: int) -> None:
        # A job of this account may send any value.
        if number == signal.SIGSTOP:
            self._suspend()
        elif number == signal.SIGCONT:
            self._resume()
        elif number in signal.valid_signals():
            self._signal_all(number)

    def _suspend(self) -> None:
        if self._script is None or self._kill_at is not None:
            return
        if self._suspended_at is None:
            self._suspended_at = time.monotonic()
        self._stop_all()
        # Some may have been born meanwhile, of parents that were not stopped yet.
        self._sample_at = time.monotonic()

    def _resume(self) -> None:
        if self._suspended_at is None:
            return
        self._suspended_seconds += time.monotonic() - self._suspended_at
        self._suspended_at = None
        self._continue_all()

    def _stop_all(self) -> None:
        if self._group is not None:
            self._group.freeze(True)
        # For processes that have left the group, and for kernels that cannot freeze one.
        self._signal_all(signal.SIGSTOP)

    def _continue_all(self) -> None:
        # Before they thaw, so that those in the group are never stopped.
        self._signal_all(signal.SIGCONT)
        if self._group is not None:
            self._group.freeze(False)

    @property
    def _wall_time_end(self) -> float | None:
        limit = self._order["wall_time_limit_seconds"]
        if limit is None or self._suspended_at is not None:
            return None
        return self._began + limit + self._suspended_seconds

    def _enforce_wall_time(self, now: float) -> None:
        end = self._wall_time_end
        if end is not None and now >= end:
            limit = self._order["wall_time_limit_seconds"]
            self._fail("TIME_LIMIT", f"It ran longer than its wall time limit of {limit:g} s.")

    @property
    def _limit_to_watch(self) -> float | None:
        """The memory limit, unless the kernel enforces it."""
        if self._group is not None and self._group.limits_memory:
            return None
        return self._order["memory_limit_bytes"]

    @property
    def _pause(self) -> float:
        return _SAMPLE_SECONDS if self._limit_to_watch is None else _LIMITED_SAMPLE_SECONDS

    def _take_sample(self, now: float) -> None:
        if self._suspended_at is not None:
            self._stop_all()
        sample = self._meter.sample(descendants(os.getpid()))
        self._sample_at = now + self._pause
        # A job goes on when its sample cannot be written.
        with contextlib.suppress(OSError):
            files.write_report(files.REPORT_DESCRIPTOR, {"sample": sample}, durable=False)
        limit = self._limit_to_watch
        if limit is not None and self._meter.is_over(limit, sample):
            self._fail(
                "OUT_OF_MEMORY", f"It used more than its memory limit of {limit:.0f} bytes.", 0
            )

    def _fail(self, kind: str, reason: str, grace_seconds: float | None = None) -> None:
        """End the job for a reason, unless its script has ended or it is being ended already."""
        if self._script is None or self._kill_at is not None:
            return
        self._failure = (kind, reason)
        if self._script.is_preparing:
            # No program of the job runs yet that could end in good order.
            grace_seconds = 0
        self._end(self._order["grace_seconds"] if grace_seconds is None else grace_seconds)

    def _end(self, grace_seconds: float) -> None:
        self._kill_at = time.monotonic() + grace_seconds
        self._suspended_at = None
        if grace_seconds > 0:
            self._signal_all(signal.SIGTERM)
            self._continue_all()

    def _kill(self) -> None:
        if self._group is not None:
            self._group.kill()
        # For processes that have left the group, and for kernels that cannot kill a group.
        self._signal_all(signal.SIGKILL)

    def _signal_all(self, number: int) -> None:
        for process in self._processes():
            # A program that runs as another user (set-user-ID) is out of reach.
            with contextlib.suppress(PermissionError):
                send(process, number)

    def _processes(self) -> list[Process]:
        found = descendants(os.getpid())
        if self._group is not None:
            known = {process.pid for process in found}
            others = (identify(pid) for pid in self._group.members() if pid not in known)
            found.extend(process for process in others if process is not None)
        return found

    def _result(self, usage: UsageSample | None) -> Result:
        kind, reason = self._failure or self._out_of_memory() or self._exit_failure()
        return Result(
            exit_code=self._exit_code,
            exit_signal=self._exit_signal,
            failure_kind=kind,
            reason=reason,
            start_time=self._start_time,
            end_time=self._now(),
            usage=usage,
        )

    def _now(self) -> float:
        """Return the time in seconds since the epoch, by the clock as it was when the job began.

        Setting the clock meanwhile does not change how long the job lasts.
        """
        return self._start_time + time.monotonic() - self._began

    def _out_of_memory(self) -> tuple[str, str] | None:
        if self._exit_code == 0 or self._group is None:
            return None
        reason = self._group.out_of_memory()
        return None if reason is None else ("OUT_OF_MEMORY", reason)

    def _exit_failure(self) -> tuple[str | None, str | None]:
        if self._exit_signal is not None:
            return "SIGNAL", f"Signal {self._exit_signal} ended it."
        if self._exit_code:
            return "NON_ZERO_EXIT", f"It exited with {self._exit_code}."
        return None, None
