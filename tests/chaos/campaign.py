"""A crash campaign: clients submit while the service is killed, then all is judged."""

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
from tests.chaos import wrapper
from tests.chaos.clients import Client, Diary
from tests.chaos.evidence import (
    EvidenceError,
    accounting,
    read_events,
    wait_for_accounting,
    written,
)
from tests.chaos.judgement import Evidence, Finding, judge
from tests.chaos.plan import Form, Kill, Plan
from tests.faults.fake import left_behind

from hpcq.schedulers.testing.service import Service

__all__ = ["AS_USER", "SUBMIT", "Result", "run_campaign"]

SUBMIT = {"SLURM": "sbatch", "SGE": "qsub", "TORQUE": "qsub", "PBS": "qsub"}
"""The command of each scheduler that has one."""
AS_USER = ("LOCAL", "SLURM", "SGE")
"""The schedulers with which jobs can be a person's."""
COMMANDS_PATH = "/usr/bin:/bin"
"""Where real ones are; stand-ins have a ``SCHEDULER_PATH`` of their own."""

SETTINGS = {
    "COMMAND_TIMEOUT_SECONDS": "5",
    "SUBMISSION_SETTLE_SECONDS": "15",
    "SUBMISSION_WAIT_SECONDS": "1",
}
# A command that a dead service left behind would submit long after the last service took the job
# for absent. It is to be ended before, so nobody waits that long.
TOO_LATE_SECONDS = 45.0
# As many answers as a kill waits for may never come while submissions are being looked for.
QUIET_SECONDS = 3.0
# Of patience.
SECONDS_PER_JOB = 5.0
LEAST_SECONDS = 600.0
SCRIPT = """\
#!/bin/sh
id=${SLURM_JOB_ID:-${JOB_ID:-${HPCQ_JOB_ID:-${PBS_JOBID%%.*}}}}
echo "$id $$" >> "run-$1"
exit "$2"
"""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a campaign.

    Attributes:
        kinds: how often each kind of answer to a submission came.
        modes: how often submission commands behaved in each way.
    """

    plan: Plan
    findings: Sequence[Finding]
    kills: int
    requests: int
    retries: int
    kinds: Mapping[str, int]
    modes: Mapping[str, int]
    seconds: float

    def count(self, kind: str) -> int:
        """The number of findings of this kind."""
        return Counter(finding.kind for finding in self.findings)[kind]


def run_campaign(
    plan: Plan,
    settings: Mapping[str, str],
    directory: Path,
    account: pwd.struct_passwd | None = None,
) -> Result:
    """Carry out a plan and judge what came of it.

    Args:
        settings: of the scheduler and the database.
        directory: empty; everything is kept in it: the jobs' files, the service's state and log.
        account: the account whose jobs they are (``SUBMIT_AS=user``), which can reach the
            directory; None for the service's own.
    """
    begun = time.monotonic()
    if account is not None:
        # The clients are known by their connections, as root.
        settings = {
            **settings,
            "SUBMIT_AS": "user",
            "SUBMIT_AS_ACCOUNTS": f"root={account.pw_name}",
        }
    service = Service(directory / "service", _settings(plan, settings, directory))
    jobs = directory / "jobs"
    script = _prepare(plan, jobs)
    if account is not None:
        for path in (jobs, *jobs.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid)
    diary = Diary()
    try:
        service.start()
        kills = _submit_all(plan, service, script, jobs, diary, begun)
        reads = _read_ended(service, diary)
    finally:
        service.stop()
        for task in plan.tasks:
            wrapper.end_hanging(jobs / str(task.number))
    incomplete = _incomplete(service.settings, plan.prefix)
    evidence = _evidence(plan, service, jobs, diary, reads)
    findings = [
        *incomplete,
        *judge(plan.tasks, evidence),
        *(Finding("answer", number, text) for number, text in diary.unexpected),
        *(Finding("answer", number, "it was never answered") for number in diary.unanswered),
    ]
    return Result(
        plan=plan,
        findings=findings,
        kills=kills,
        requests=diary.requests,
        retries=diary.retries,
        kinds=diary.kinds,
        modes=Counter(mode for modes in evidence.attempts.values() for mode in modes),
        seconds=time.monotonic() - begun,
    )


def _incomplete(settings: Mapping[str, str], prefix: str) -> list[Finding]:
    """Wait until nothing more can happen to the jobs of a campaign; return what still goes on."""
    # A submission command may outlive the service that ran it.
    problems = [f"this process is left: {line}" for line in left_behind(prefix)]
    try:
        wait_for_accounting(settings, prefix)
    except EvidenceError as error:
        problems.append(str(error))
    return [Finding("wrong", None, problem) for problem in problems]


def _evidence(
    plan: Plan, service: Service, jobs: Path, diary: Diary, reads: Mapping[str, dict[str, Any]]
) -> Evidence:
    return Evidence(
        answers=diary.answers,
        refused=diary.refused,
        runs=accounting(service.settings, service.state_directory, plan.prefix),
        written={task.number: written(jobs, task) for task in plan.tasks},
        attempts={task.number: wrapper.attempts(jobs / str(task.number)) for task in plan.tasks},
        reads=reads,
        events=read_events(service.settings, service.state_directory),
    )


def _settings(plan: Plan, settings: Mapping[str, str], directory: Path) -> dict[str, str]:
    merged = {
        **SETTINGS,
        **settings,
        "CLUSTER_ID": plan.prefix,
        "PORT": str(_port_nobody_gets()),
    }
    if plan.form is Form.MISBEHAVING:
        commands = directory / "bin"
        path = settings.get("SCHEDULER_PATH", COMMANDS_PATH)
        program = shutil.which(SUBMIT[settings["SCHEDULER"]], path=path)
        assert program is not None
        wrapper.install(commands, Path(program), too_late_seconds=TOO_LATE_SECONDS)
        merged["SCHEDULER_PATH"] = f"{commands}:{path}"
    return merged


def _port_nobody_gets() -> int:
    """Return a free port that the kernel gives to nobody who asks for any: it stays free."""
    for port in random.sample(range(20000, 32000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def _prepare(plan: Plan, jobs: Path) -> Path:
    for task in plan.tasks:
        (jobs / str(task.number)).mkdir(parents=True)
        wrapper.plan_modes(jobs / str(task.number), task.modes)
    script = jobs / "job.sh"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    return script


def _submit_all(
    plan: Plan, service: Service, script: Path, jobs: Path, diary: Diary, begun: float
) -> int:
    """Let clients submit while the service is killed; return how often it was."""
    given_up, answered = Event(), Event()
    killer = Killer(service, plan.kills, diary, answered)
    clients = [Client(service.url, script, jobs, diary, given_up) for _ in range(plan.clients)]
    with ThreadPoolExecutor(plan.clients) as pool:
        done = [
            pool.submit(client.run, [task for task in plan.tasks if number in task.clients])
            for number, client in enumerate(clients)
        ]
        thread = Thread(target=killer.run)
        thread.start()
        deadline = begun + LEAST_SECONDS + SECONDS_PER_JOB * len(plan.tasks)
        try:
            for future in done:
                future.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            pass
        finally:
            given_up.set()
            answered.set()
            thread.join()
    if killer.problem is not None:
        raise killer.problem
    return killer.kills


class Killer:
    """Kills the service at the planned moments and starts it again at once.

    Attributes:
        kills: how often it has.
        problem: why the service did not run or start again.
    """

    def __init__(
        self, service: Service, kills: Sequence[Kill], diary: Diary, answered: Event
    ) -> None:
        self.kills = 0
        self.problem: AssertionError | None = None
        self._service = service
        self._plan = kills
        self._diary = diary
        self._answered = answered

    def run(self) -> None:
        """Kill until all is answered or no kill is left; leave the service running."""
        try:
            for kill in self._plan:
                if not self._moment(kill):
                    break
                self._kill_and_start()
                if kill.again_after_seconds is not None:
                    time.sleep(kill.again_after_seconds)
                    self._kill_and_start()
            self._service.wait_until_ready()
        except AssertionError as error:
            self.problem = error

    def _moment(self, kill: Kill) -> bool:
        """Wait for the moment of a kill; return whether there is still someone to annoy."""
        wanted = self._diary.answered + kill.after_answers
        quiet = time.monotonic() + QUIET_SECONDS
        while self._diary.answered < wanted and time.monotonic() < quiet:
            if self._answered.wait(0.002):
                return False
        return not self._answered.wait(kill.delay_seconds)

    def _kill_and_start(self) -> None:
        status = self._service.kill9()
        if status != -signal.SIGKILL:
            raise AssertionError(f"the service ended by itself ({status})")
        self.kills += 1
        self._service.start(wait=False)


def _read_ended(service: Service, diary: Diary) -> dict[str, dict[str, Any]]:
    """Return each job that ended, by its uid and by its id, as the service tells it."""
    wanted = {name for answer in diary.answers for name in (answer.uid, answer.job_id)}
    reads: dict[str, dict[str, Any]] = {}
    service.wait_until_ready()
    deadline = time.monotonic() + LEAST_SECONDS + 0.1 * len(wanted)
    while wanted and time.monotonic() < deadline:
        for name in sorted(wanted):
            with contextlib.suppress(httpx.TransportError):
                answer = service.client.get(f"/jobs/{name}")
                if answer.status_code == 200:
                    reads[name] = answer.json()
        wanted -= {name for name, job in reads.items() if job["status"] == "STOPPED"}
        time.sleep(0.2 if wanted else 0)
    return reads
