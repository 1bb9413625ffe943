"""Ends of jobs in recorded accounting logs."""

import pytest
from tests.unit.schedulers.pbs.recorded import recorded

from hpcq.domain.jobs import NativeId, Observation
from hpcq.domain.states import FailureKind, JobState
from hpcq.schedulers.pbs.accounting import parse_accounting
from hpcq.schedulers.pbs.cluster import parse_nodes, parse_queues
from hpcq.schedulers.pbs_family.accounting import parse_accounting_line

_LINES = recorded("accounting.selected-jobs").stdout.splitlines()


def _told(job: str) -> Observation:
    listing = parse_accounting(_LINES, [NativeId(job)])
    assert not listing.unreadable
    (seen,) = listing.observations
    return seen


@pytest.mark.parametrize(
    ("job", "state", "kind", "code", "signal"),
    [
        ("141", JobState.DONE, None, 0, None),
        ("142", JobState.FAILED, FailureKind.NON_ZERO_EXIT, 3, None),
        ("143", JobState.FAILED, FailureKind.SIGNAL, None, 9),
        ("145", JobState.FAILED, FailureKind.TIME_LIMIT, None, None),
        ("146", JobState.FAILED, FailureKind.CANCELLED, None, 15),
        ("147", JobState.FAILED, FailureKind.CANCELLED, None, 9),
        ("148", JobState.FAILED, FailureKind.CANCELLED, None, None),
        ("157", JobState.FAILED, FailureKind.CANCELLED, None, None),
        ("159", JobState.FAILED, FailureKind.CANCELLED, None, None),
        ("161", JobState.FAILED, FailureKind.CANCELLED, None, None),
        ("181", JobState.DONE, None, 0, None),
    ],
)
def test_accounting_ends(
    job: str, state: JobState, kind: FailureKind | None, code: int | None, signal: int | None
) -> None:
    seen = _told(job)
    assert (seen.state, seen.failure_kind) == (state, kind)
    assert (seen.exit_code, seen.exit_signal) == (code, signal)
    assert seen.end_time is not None


@pytest.mark.parametrize(
    ("case", "count", "ends"), [("selected-jobs", 61, 20), ("one-of-each-record-type", 13, 6)]
)
def test_accounting_all_lines(case: str, count: int, ends: int) -> None:
    lines = recorded(f"accounting.{case}").stdout.splitlines()
    records = [parse_accounting_line(line) for line in lines]
    assert len(records) == count
    jobs = [
        NativeId(r.job_id.partition(".")[0].replace("[]", "")) for r in records if r.kind in "EDA"
    ]
    listing = parse_accounting(lines, jobs)
    assert listing.unreadable == []
    assert {seen.native_id for seen in listing.observations} == set(jobs)
    assert len(listing.observations) == ends


def test_queues_and_nodes_recorded() -> None:
    queues = {queue.name: queue for queue in parse_queues(recorded("qstat-Q-f").stdout)}
    assert list(queues) == ["workq", "limited", "closed", "private"]
    assert [name for name, queue in queues.items() if queue.is_open] == ["workq", "private"]
    assert queues["limited"].max_wall_time_seconds == 3600
    (node,) = parse_nodes(recorded("pbsnodes-a").stdout)
    assert (node.name, node.is_up, node.slots_total, node.slots_used) == ("pbshead", True, 8, 0)
    assert node.memory_bytes == 24684096 << 10
    (down,) = parse_nodes(recorded("pbsnodes-a.mom-killed").stdout)
    assert not down.is_up
