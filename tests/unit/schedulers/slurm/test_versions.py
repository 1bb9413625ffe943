"""The same answers of all versions that were recorded; see ``docs/schedulers/slurm.md``."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.unit.schedulers.slurm.recorded import DELIMITER, KEY, MARKS, ROOT, recorded

from hpcq.domain.jobs import NativeId, Observation
from hpcq.domain.states import FailureKind, JobState, ReasonCode
from hpcq.schedulers.base import Listing
from hpcq.schedulers.slurm import accounting, parse
from hpcq.schedulers.slurm.cluster import parse_nodes, parse_queues
from hpcq.schedulers.slurm.history import combine

VERSIONS = sorted(folder.name for folder in ROOT.iterdir() if folder.is_dir())
SINCE_23 = [version for version in VERSIONS if version > "22.05"]

every_version = pytest.mark.parametrize("version", VERSIONS)


def cases(prefix: str) -> list[tuple[str, str]]:
    folders = sorted(ROOT.glob(f"*/{prefix}*"))
    return [(folder.parent.name, folder.name) for folder in folders]


def asked(argv: Sequence[str]) -> list[NativeId]:
    (jobs,) = [word for word in argv if word.startswith("--jobs=")]
    return [NativeId(job) for job in jobs.removeprefix("--jobs=").split(",")]


def listed(case: str, version: str) -> dict[str, Observation]:
    done = recorded(case, version)
    read = parse.parse_listing if case.startswith("listing") else parse.parse_details
    listing = read(done.stdout, MARKS)
    assert not listing.unreadable
    return {seen.native_id: seen for seen in listing.observations}


def accounted(case: str, version: str) -> accounting.AccountedJobs:
    done = recorded(case, version)
    history = accounting.parse_history(done.stdout, DELIMITER, asked(done.argv))
    assert not history.listing.unreadable
    return history


def one(found: dict[str, Observation]) -> Observation:
    (seen,) = found.values()
    return seen


def test_versions_recorded() -> None:
    assert VERSIONS == ["22.05", "23.11", "24.11", "26.11"]


@pytest.mark.parametrize(("version", "case"), cases("listing") + cases("details"))
def test_squeue_recorded_answers(version: str, case: str) -> None:
    if recorded(case, version).exit_code:
        return
    for seen in listed(case, version).values():
        assert seen.state is not JobState.UNDETERMINED
        assert seen.submit_time is not None
        for path in (seen.stdout_path, seen.stderr_path):
            assert path is None or (path.startswith("/") and "%" not in path)
        assert seen.wall_time_limit_seconds != 365 * 86400
        if seen.hosts is None:
            assert (seen.start_time, seen.exit_code, seen.exit_signal) == (None, None, None)


@pytest.mark.parametrize(("version", "case"), cases("history"))
def test_sacct_recorded_answers(version: str, case: str) -> None:
    if recorded(case, version).exit_code:
        return
    for seen in accounted(case, version).listing.observations:
        assert seen.state.is_final
        assert seen.end_time is not None
        assert seen.name != "allocation"
        assert seen.wall_time_limit_seconds != 365 * 86400
        if seen.hosts is None:
            assert (seen.start_time, seen.exit_code, seen.exit_signal) == (None, None, None)


@pytest.mark.parametrize("version", SINCE_23)
@pytest.mark.parametrize(
    ("case", "kind", "code", "signal"),
    [
        ("details-exit-137", FailureKind.NON_ZERO_EXIT, 137, None),
        ("details-exit-255", FailureKind.NON_ZERO_EXIT, 255, None),
        ("details-exit-3", FailureKind.NON_ZERO_EXIT, 3, None),
        ("details-segv", FailureKind.SIGNAL, None, 11),
        ("details-database-down-exit-3", FailureKind.NON_ZERO_EXIT, 3, None),
    ],
)
def test_controller_job_end(
    version: str, case: str, kind: FailureKind, code: int | None, signal: int | None
) -> None:
    seen = one(listed(case, version))
    assert (seen.failure_kind, seen.exit_code, seen.exit_signal) == (kind, code, signal)


@pytest.mark.parametrize("version", SINCE_23)
@pytest.mark.parametrize("code", [137, 255])
def test_exit_code_128_or_more(version: str, code: int) -> None:
    seen = parse.parse_details(recorded(f"details-exit-{code}", version).stdout, MARKS)
    history = accounted(f"history-exit-{code}", version)
    (whole,) = combine(history.listing, seen).observations
    assert (whole.exit_code, whole.state_reason) == (code, f"It exited with {code}.")
    assert whole.usage is not None


@pytest.mark.parametrize("code", [128, 137, 255])
def test_exit_code_128_or_more_22_05(code: int) -> None:
    job = asked(recorded(f"history-exit-{code}").argv)[0]
    seen = listed("details-finished", "22.05")[job]
    assert (seen.failure_kind, seen.exit_code) == (FailureKind.NON_ZERO_EXIT, code)


def test_exit_code_failure_without_status() -> None:
    (seen,) = accounted("history-exit-128", "22.05").listing.observations
    assert (seen.failure_kind, seen.exit_code) == (FailureKind.NON_ZERO_EXIT, 128)


def test_history_incomplete_owner() -> None:
    history = accounted("history-incomplete-owner", "23.11")
    assert history.listing.observations == ()
    assert len(history.unfinished) == 1
    (seen,) = accounted("history-incomplete-owner-settled", "23.11").listing.observations
    assert seen.owner == "alice"


def test_history_incomplete_record() -> None:
    seen = {
        o.state: o for o in accounted("history-incomplete-at-first", "23.11").listing.observations
    }
    done = seen[JobState.DONE]
    assert (done.exit_code, done.hosts) == (0, ("localhost",))
    assert (done.start_time, done.end_time) != (None, None)
    assert (done.owner, done.account, done.slots, done.submit_time) == (None, None, None, None)
    assert not done.is_keyless


@pytest.mark.parametrize("version", SINCE_23)
def test_output_path_relative(version: str) -> None:
    seen = one(listed("details-relative-output", version))
    path = f"/tmp/slurm-{seen.native_id}.out"
    assert (seen.stdout_path, seen.stderr_path) == (path, path)


@every_version
def test_start_time_never_started(version: str) -> None:
    (seen,) = accounted("history-cancelled-while-held", version).listing.observations
    assert (seen.state, seen.failure_kind) == (JobState.FAILED, FailureKind.CANCELLED)
    assert (seen.start_time, seen.exit_code, seen.usage) == (None, None, None)


@every_version
def test_history_heterogeneous_job_ids(version: str) -> None:
    done = recorded("history-het-cancelled-while-held", version)
    (parent,) = asked(done.argv)
    wanted = [NativeId(f"{parent}+{number}") for number in (0, 1)]
    history = accounting.parse_history(done.stdout, DELIMITER, wanted)
    ended = {seen.native_id: seen for seen in history.listing.observations}
    assert {ended[job].failure_kind for job in wanted} == {FailureKind.CANCELLED}
    assert [(ended[job].array_job_id, ended[job].array_task_id) for job in wanted] == [
        (parent, 0),
        (parent, 1),
    ]


@every_version
def test_output_file_not_opened(version: str) -> None:
    case = "output-directory-refused" if version in SINCE_23 else "no-such-output-directory"
    (seen,) = accounted(f"history-{case}", version).listing.observations
    assert seen.failure_kind is FailureKind.SCHEDULER_ERROR


def test_refused_job_never_started() -> None:
    (told,) = accounted("history-refused", "22.05").listing.observations
    for seen in (told, one(listed("details-refused", "22.05"))):
        assert seen.failure_kind is FailureKind.SCHEDULER_ERROR
        assert (seen.start_time, seen.exit_code, seen.exit_signal) == (None, None, None)


def test_dependency_never_satisfied() -> None:
    (told,) = accounted("history-dependency-never-satisfied", "22.05").listing.observations
    controller = one(listed("details-dependency-never-satisfied", "22.05"))
    for seen in (told, controller):
        assert seen.reason_code is ReasonCode.DEPENDENCY_NEVER_SATISFIED
        assert (seen.state, seen.failure_kind) == (JobState.FAILED, FailureKind.CANCELLED)
        assert "did not end as required" in (seen.state_reason or "")
        assert (seen.start_time, seen.exit_code) == (None, None)


@pytest.mark.parametrize(
    ("native_state", "code"),
    [("CANCELLED", ReasonCode.DEPENDENCY_NEVER_SATISFIED), ("CANCELLED by 1000", None)],
)
def test_dependency_reason_missing_in_accounting(
    native_state: str, code: ReasonCode | None
) -> None:
    (told,) = accounted("history-dependency-never-satisfied", "22.05").listing.observations
    controller = one(listed("details-dependency-never-satisfied", "22.05"))
    at_first = replace(
        told,
        native_id=controller.native_id,
        submit_time=controller.submit_time,
        native_state=native_state,
        state_reason="It was cancelled.",
        reason_code=None,
    )
    (whole,) = combine(
        Listing(observations=[at_first]), Listing(observations=[controller])
    ).observations
    assert whole.reason_code is code
    assert (whole.state_reason == "It was cancelled.") == (code is None)


def test_submission_key_after_comment_changed() -> None:
    (seen,) = accounted("history-changed-comment", "22.05").listing.observations
    assert seen.submission_key == KEY


@every_version
def test_sinfo_recorded_answers(version: str) -> None:
    queues = {queue.name: queue for queue in parse_queues(recorded("sinfo-queues", version).stdout)}
    assert queues["debug"].is_open
    (node,) = parse_nodes(recorded("sinfo-nodes", version).stdout)
    assert node.is_up
