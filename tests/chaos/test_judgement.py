"""Everything that may go wrong in a campaign is found when it does."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.chaos.clients import Answer
from tests.chaos.evidence import Events, Run
from tests.chaos.judgement import Evidence, judge
from tests.chaos.plan import Task

UIDS = ("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222")
TASKS = (Task(0, "key-0", "job-0", 0, (0,)), Task(1, "key-1", "job-1", 7, (0, 1), ("fail",)))


def _read(task: Task, uid: str, job_id: str) -> dict[str, Any]:
    failed = task.exit_code != 0
    return {
        "uid": uid,
        "jobId": job_id,
        "name": task.name,
        "state": "FAILED" if failed else "DONE",
        "status": "STOPPED",
        "exitCode": task.exit_code,
        "exitSignal": None,
        "failureKind": "NON_ZERO_EXIT" if failed else None,
    }


def _run(number: int, job_id: str, exit_code: int) -> Run:
    return Run(job_id, f"job-{number}", "hpcq-" + UIDS[number].replace("-", ""), exit_code)


FIRST, SECOND = _run(0, "10", 0), _run(1, "11", 7)
READS = {
    name: _read(TASKS[number], UIDS[number], job_id)
    for number, job_id in enumerate(("10", "11"))
    for name in (UIDS[number], job_id)
}
GOOD = Evidence(
    answers=[Answer(0, UIDS[0], "10"), Answer(1, UIDS[1], "11"), Answer(1, UIDS[1], "11")],
    refused={1: 1},
    runs=[FIRST, SECOND],
    written={0: ["10"], 1: ["11"]},
    attempts={0: [], 1: ["fail", "ok"]},
    reads=READS,
    events=Events([1, 2, 3, 4], list(UIDS)),
)


def _changed(**fields: object) -> Callable[[], Evidence]:
    return lambda: replace(GOOD, **fields)  # type: ignore[arg-type]


def test_judge_good_evidence() -> None:
    assert judge(TASKS, GOOD) == []


@pytest.mark.parametrize(
    ("evidence", "kind", "task"),
    [
        (_changed(runs=[FIRST, SECOND, _run(0, "12", 0)]), "duplicate", 0),
        (_changed(written={0: ["10", "12"], 1: ["11"]}), "duplicate", 0),
        (_changed(runs=[FIRST, SECOND, FIRST]), "duplicate", 0),
        (_changed(runs=[FIRST, SECOND, Run("9", "job-9", "", 0)]), "duplicate", None),
        (_changed(runs=[FIRST]), "lost", 1),
        (_changed(written={0: [], 1: ["11"]}), "lost", 0),
        (_changed(answers=[*GOOD.answers, Answer(0, UIDS[0], "11")]), "wrong", 0),
        (_changed(answers=[*GOOD.answers, Answer(1, UIDS[0], "11")]), "wrong", 1),
        (_changed(written={0: ["12"], 1: ["11"]}), "wrong", 0),
        (_changed(runs=[replace(FIRST, job_id="12"), SECOND]), "wrong", 0),
        (_changed(runs=[replace(FIRST, key=SECOND.key), SECOND]), "wrong", 0),
        (_changed(runs=[replace(FIRST, exit_code=1), SECOND]), "wrong", 0),
        (_changed(reads={n: job for n, job in READS.items() if n != UIDS[0]}), "wrong", 0),
        (_changed(reads={**READS, "11": READS["11"] | {"exitCode": 0}}), "wrong", 1),
        (_changed(reads={**READS, "11": READS["11"] | {"state": "UNDETERMINED"}}), "wrong", 1),
        (_changed(reads={**READS, "11": READS["10"]}), "wrong", 1),
        (_changed(refused={0: 1}), "answer", 0),
        (_changed(events=Events([1, 2, 4], UIDS)), "event", None),
        (_changed(events=Events([2, 3], UIDS)), "event", None),
        (_changed(events=Events([1, 2, 2], UIDS)), "event", None),
        (_changed(events=Events([], [])), "event", None),
        (_changed(events=Events([1, 2, 3], UIDS[:1])), "event", None),
        (_changed(events=Events([1, 2, 3], [*UIDS, UIDS[0]])), "event", None),
    ],
)
def test_judge_bad_evidence(evidence: Callable[[], Evidence], kind: str, task: int | None) -> None:
    assert (kind, task) in {(found.kind, found.task) for found in judge(TASKS, evidence())}
