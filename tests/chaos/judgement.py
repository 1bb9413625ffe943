"""The judgement: each submission ran exactly once, and its answers are true. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.chaos.clients import Answer
from tests.chaos.evidence import Events, Run
from tests.chaos.plan import Task
from tests.chaos.wrapper import DOUBTFUL

__all__ = ["Evidence", "Finding", "judge"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it has to be.

    Attributes:
        kind: duplicate, lost, wrong, answer (one that no client has to be ready for), event.
        task: its number; None when it is about no task.
    """

    kind: str
    task: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence; everything keyed by task is keyed by its number.

    Attributes:
        answers: what the clients were told.
        refused: how often the clients were told that the scheduler did not take the job.
        runs: the scheduler's accounting.
        written: the ids in the file that the jobs of a task wrote.
        attempts: how the submission commands of a task behaved.
        reads: the jobs in the end, as the service tells them, by uid and by id.
        events: the store's.
    """

    answers: Sequence[Answer]
    refused: Mapping[int, int]
    runs: Sequence[Run]
    written: Mapping[int, Sequence[str]]
    attempts: Mapping[int, Sequence[str]]
    reads: Mapping[str, dict[str, Any]]
    events: Events


def judge(tasks: Sequence[Task], evidence: Evidence) -> list[Finding]:
    """Return everything that is not as it has to be."""
    by_name: dict[str, list[Run]] = {}
    for run in evidence.runs:
        by_name.setdefault(run.name, []).append(run)
    findings: list[Finding] = []
    for task in tasks:
        findings += _judge_task(task, by_name.pop(task.name, []), evidence)
    strangers = [run for runs in by_name.values() for run in runs]
    findings += [Finding("duplicate", None, f"nobody asked for {run}") for run in strangers]
    findings += _judge_events(evidence)
    return findings


def _judge_task(task: Task, runs: Sequence[Run], evidence: Evidence) -> Iterator[Finding]:
    def finding(kind: str, text: str) -> Finding:
        behaved = ", ".join(evidence.attempts[task.number]) or "none is known"
        return Finding(kind, task.number, f"{text} (key {task.key}; attempts: {behaved})")

    lines = evidence.written[task.number]
    for what, found in (("in the accounting", [r.job_id for r in runs]), ("in its file", lines)):
        if len(found) > 1:
            yield finding("duplicate", f"{len(found)} runs {what}: {', '.join(found)}")
        elif not found:
            yield finding("lost", f"no run {what}")
    told = [answer for answer in evidence.answers if answer.task == task.number]
    jobs = {(answer.uid, answer.job_id) for answer in told}
    if len(jobs) > 1:
        yield finding("wrong", f"clients were told of several jobs: {sorted(jobs)}")
    for uid, job_id in sorted(jobs):
        if any(job_id not in place for place in ({r.job_id for r in runs}, set(lines))):
            yield finding("wrong", f"the answer was {job_id}, which did not run for it")
        yield from (
            finding("wrong", f"accounting has the key {run.key} for {uid}")
            for run in runs
            if run.job_id == job_id and run.key not in (None, "hpcq-" + uid.replace("-", ""))
        )
        for known_as in (uid, job_id):
            untrue = _untrue(evidence.reads.get(known_as), task, uid, job_id)
            if untrue:
                yield finding("wrong", f"GET /jobs/{known_as}: {untrue}")
    yield from (
        finding("wrong", f"accounting has exit code {run.exit_code}, not {task.exit_code}")
        for run in runs
        if run.exit_code != task.exit_code
    )
    doubtful = [mode for mode in evidence.attempts[task.number] if mode in DOUBTFUL]
    # Each of its clients may be told of one refusal.
    if evidence.refused.get(task.number, 0) > len(doubtful) * len(task.clients):
        yield finding("answer", "it was refused although its command had handed it over")


def _untrue(job: dict[str, Any] | None, task: Task, uid: str, job_id: str) -> str:
    """Return what the service says of an ended job that is not so; empty when all is true."""
    if job is None:
        return "it was never seen to end"
    truth = {
        "uid": uid,
        "jobId": job_id,
        "name": task.name,
        "state": "FAILED" if task.exit_code else "DONE",
        "status": "STOPPED",
        "exitCode": task.exit_code,
        "exitSignal": None,
        "failureKind": "NON_ZERO_EXIT" if task.exit_code else None,
    }
    return ", ".join(
        f"{name} is {job.get(name)!r}, not {value!r}"
        for name, value in truth.items()
        if job.get(name) != value
    )


def _judge_events(evidence: Evidence) -> Iterator[Finding]:
    numbers = evidence.events.numbers
    if list(numbers) != list(range(1, len(numbers) + 1)):
        yield Finding("event", None, f"the numbers of events have gaps: {_gaps(numbers)}")
    counts = Counter(evidence.events.submitted)
    for uid in {answer.uid for answer in evidence.answers}:
        if counts[uid] != 1:
            yield Finding("event", None, f"{counts[uid]} events job.submitted of {uid}")


def _gaps(numbers: Iterable[int]) -> list[int]:
    there = set(numbers)
    return sorted(set(range(1, max(there) + 1)) - there)[:20]
