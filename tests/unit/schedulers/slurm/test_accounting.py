from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.schedulers.slurm.recorded import DELIMITER, KEY, recorded

from hpcq.domain.errors import OutputParseError
from hpcq.domain.jobs import NativeId, Observation, SubmissionKey, Usage
from hpcq.domain.states import FailureKind, JobState
from hpcq.schedulers.base import Listing
from hpcq.schedulers.slurm import accounting
from hpcq.schedulers.slurm.commands import HISTORY_COLUMNS
from hpcq.schedulers.slurm.history import without_nameless_tasks
from hpcq.schedulers.slurm.usage import parse_usage


def told(case: str, *wanted: str, version: str = "22.05") -> Sequence[Observation]:
    ids = [NativeId(job) for job in wanted]
    history = accounting.parse_history(recorded(case, version).stdout, DELIMITER, ids)
    assert not history.listing.unreadable
    return history.listing.observations


def ended(stdout: bytes) -> Sequence[Observation]:
    return accounting.parse_history(stdout, DELIMITER, []).listing.observations


def rows(*jobs: dict[str, str]) -> bytes:
    defaults = dict.fromkeys(HISTORY_COLUMNS, "") | {
        "JobID": "7",
        "State": "COMPLETED",
        "ExitCode": "0:0",
        "Submit": "1700000000",
        "Start": "1700000001",
        "End": "1700000009",
        "User": "me",
        "Partition": "debug",
        "NodeList": "n1",
    }
    lines = ("".join(v + DELIMITER for v in (defaults | job).values()) + "\n" for job in jobs)
    return "".join(lines).encode()


@pytest.mark.parametrize(
    ("case", "state", "kind", "code", "signal"),
    [
        ("completed", JobState.DONE, None, 0, None),
        ("exit-3", JobState.FAILED, FailureKind.NON_ZERO_EXIT, 3, None),
        ("signal", JobState.FAILED, FailureKind.SIGNAL, None, 11),
        # Exited with 137; sacct prints it less 128.
        ("shell-reports-signal", JobState.FAILED, FailureKind.NON_ZERO_EXIT, 9, None),
        # Without cgroups Slurm itself says FAILED 0:9.
        ("out-of-memory", JobState.FAILED, FailureKind.OUT_OF_MEMORY, None, 9),
        ("timeout", JobState.FAILED, FailureKind.TIME_LIMIT, None, 15),
        ("cancelled-while-running", JobState.FAILED, FailureKind.CANCELLED, None, 15),
        ("cancelled-while-held", JobState.FAILED, FailureKind.CANCELLED, None, None),
        ("no-such-output-directory", JobState.FAILED, FailureKind.SCHEDULER_ERROR, None, None),
    ],
)
def test_history_ended_job(
    case: str, state: JobState, kind: FailureKind | None, code: int | None, signal: int | None
) -> None:
    (seen,) = told(f"history-{case}")
    assert (seen.state, seen.failure_kind) == (state, kind)
    assert (seen.exit_code, seen.exit_signal) == (code, signal)
    assert seen.submission_key == KEY
    assert (seen.state_reason is None) == (kind is None)
    assert seen.end_time is not None


def test_history_completed_record() -> None:
    (seen,) = told("history-completed")
    assert (seen.name, seen.owner, seen.queue, seen.account) == ("demo", "root", "debug", "root")
    assert (seen.slots, seen.hosts) == (1, ("localhost",))
    assert seen.memory_limit_bytes == 100 << 20
    assert seen.working_directory == "/tmp/hpcq-recording"
    assert seen.usage is not None
    assert seen.usage.cpu_seconds is not None
    assert seen.usage.sampled_at == seen.end_time


def test_history_cancelled_by_uid() -> None:
    (seen,) = told("history-cancelled-while-running")
    assert seen.native_state == "CANCELLED by 0"
    assert seen.state_reason == "It was cancelled by the user with uid 0."


def test_history_never_ran() -> None:
    (seen,) = told("history-cancelled-while-held")
    assert seen.start_time is None
    assert seen.usage is None
    assert seen.hosts is None


def test_history_incomplete_record() -> None:
    for seen in told("history-incomplete-at-first"):
        assert seen.state.is_final
        assert seen.name != "allocation"


@pytest.mark.parametrize("case", ["killed", "no-such-output-directory"])
def test_history_usage_not_told_yet(case: str) -> None:
    (seen,) = told(f"history-{case}")
    assert seen.end_time is not None
    assert seen.usage == Usage(), "zeros that Slurm writes for want of figures"


def test_history_usage_from_steps() -> None:
    (seen,) = told("history-out-of-memory")
    assert seen.usage is not None
    assert seen.usage.max_memory_bytes is not None
    assert seen.usage.max_memory_bytes > 200 << 20
    assert seen.usage.io_bytes is not None
    assert seen.usage.memory_byte_seconds is None


def test_history_hostile_names() -> None:
    seen = told("history-names")
    assert len(seen) == 2
    # sacct itself has the last character as ?, and at times the quote as `.
    names = {(one.name or "").replace("`", "'") for one in seen}
    assert "new\nline | pipe \x1f unit \x1e record 'é€?\x1b" in names


def test_history_array_tasks() -> None:
    seen = told("history-array")
    assert sorted(one.exit_code or 0 for one in seen) == [1, 2, 3]
    assert sorted(one.array_task_id or 0 for one in seen) == [1, 2, 3]
    assert len(told("history-array-task")) == 1


def test_history_array_tasks_never_ran() -> None:
    whole = recorded("history-array-cancelled-while-held").stdout
    array = whole.decode().split("_[")[0]
    seen = told("history-array-cancelled-while-held", f"{array}_2", f"{array}_7", f"{array}_4")
    assert [one.native_id for one in seen] == [f"{array}_2", f"{array}_7"]
    assert {one.failure_kind for one in seen} == {FailureKind.CANCELLED}


def test_history_requeued_job() -> None:
    (seen,) = told("history-requeued")
    assert seen.state is JobState.DONE


def test_history_node_failure_before_requeue() -> None:
    failed = {"State": "NODE_FAIL"}
    again = {"State": "RUNNING", "Submit": "1700000009", "End": "Unknown"}
    assert ended(rows(failed, again)) == ()
    assert ended(rows(failed))[0].failure_kind is FailureKind.NODE_FAILURE


def test_history_job_id_reused() -> None:
    later = {"Submit": "1710000000", "End": "1710000009", "ExitCode": "1:0", "State": "FAILED"}
    assert [seen.state for seen in ended(rows({}, later))] == [JobState.DONE, JobState.FAILED]


def test_history_submission_without_key() -> None:
    for line, keyless in (
        ("", False),
        (f"sbatch --parsable --comment={KEY} -- /srv/run.sh", False),
        ("sbatch --comment=mine run.sh", True),
    ):
        assert [seen.is_keyless for seen in ended(rows({"SubmitLine": line}))] == [keyless]


@pytest.mark.parametrize("case", ["unknown", "array-task-cancelled-while-held"])
def test_history_unknown_job(case: str) -> None:
    assert told(f"history-{case}") == ()


def found(job: str, comment: str, line: str) -> NativeId | None:
    row = "".join(value + DELIMITER for value in (job, "1700000000", comment, line)) + "\n"
    return accounting.find_key(row.encode(), DELIMITER, SubmissionKey(KEY))


@pytest.mark.parametrize(
    "line",
    [
        f"/usr/bin/sbatch --parsable --comment={KEY} --job-name=x -- /s.sh --comment=other",
        f"sbatch --account=a --comment={KEY} --parsable /s.sh",
        f"/opt/slurm 23/bin/sbatch --comment {KEY} /s.sh",
        f"sbatch --parsable --comment={KEY} words of the script --job-name=x -- /s.sh",
    ],
)
def test_find_key_in_submit_line(line: str) -> None:
    assert found("7", "", line) == "7"
    # An administrator has changed the comment.
    assert found("7", "see ticket 12", line) == "7"


def test_find_key_among_script_arguments() -> None:
    assert found("7", "", f"sbatch -- /s.sh --comment={KEY}") is None


@pytest.mark.parametrize("job", ["7", "7_[1-4%2]", "7_3", "7+1"])
def test_find_key_gives_id(job: str) -> None:
    assert found(job, KEY, "") == "7"


def test_find_key_record_without_id() -> None:
    with pytest.raises(OutputParseError, match="our key"):
        found("?", KEY, "")


@pytest.mark.parametrize(
    ("case", "version"),
    [
        ("find-in-accounting", "22.05"),
        ("find-in-accounting-without-comments", "22.05"),
        ("find-in-accounting", "23.11"),
        ("find-in-accounting", "24.11"),
        ("find-in-accounting", "26.11"),
    ],
)
def test_find_key_recorded(case: str, version: str) -> None:
    stdout = recorded(case, version).stdout
    assert accounting.find_key(stdout, DELIMITER, SubmissionKey(KEY)) is not None
    assert accounting.find_key(stdout, DELIMITER, SubmissionKey(f"hpcq-{'f' * 32}")) is None


def test_find_key_recorded_full_path() -> None:
    """Started by its full path, where the site keeps no comments."""
    stdout = recorded("find-in-accounting-without-comments").stdout
    row = [line for line in stdout.split(b"\n") if KEY.encode() in line][-1]
    job, _, comment, line, _ = row.decode().split(DELIMITER)
    assert line.startswith(f"/usr/bin/sbatch --parsable --comment={KEY} ")
    assert comment == ""
    assert accounting.find_key(stdout, DELIMITER, SubmissionKey(KEY)) == job


def test_usage_of_running_job() -> None:
    now = datetime(2024, 1, 1, tzinfo=UTC)
    done = recorded("usage")
    raw = done.stdout.decode().split(".")[0]
    used = parse_usage(done.stdout, {raw: NativeId("12_3")}, now)[NativeId("12_3")]
    assert used.sampled_at == now
    assert used.memory_bytes
    assert used.max_memory_bytes
    assert used.cpu_seconds == 0
    assert used.io_bytes


def test_usage_several_steps() -> None:
    stdout = (
        b"7.batch|100K|cpu=00:01:00,fs/disk=5,mem=50K|fs/disk=1\n"
        b"7.0|300K|cpu=00:00:30,fs/disk=5,mem=200K|fs/disk=1\n"
        b"8.batch||\n"
    )
    ids = {"7": NativeId("7"), "8": NativeId("8")}
    used = parse_usage(stdout, ids, datetime.now(UTC))
    assert set(used) == {"7"}
    seen = used[NativeId("7")]
    assert (seen.cpu_seconds, seen.memory_bytes, seen.io_bytes) == (90, 250 << 10, 12)
    assert seen.max_memory_bytes == 300 << 10


def test_history_truncated() -> None:
    with pytest.raises(OutputParseError):
        accounting.parse_history(rows({})[:-30], DELIMITER, [])


@given(st.binary())
def test_parsers_any_output(stdout: bytes) -> None:
    try:
        accounting.parse_history(stdout, DELIMITER, [])
        accounting.find_key(stdout, DELIMITER, SubmissionKey(KEY))
    except OutputParseError:
        pass
    parse_usage(stdout, {"7": NativeId("7")}, datetime.now(UTC))


@given(st.lists(st.text(alphabet="0123456789:KMGT_[]-%,.=memcpu RUNCOPLETED", max_size=15)))
def test_history_any_columns(values: list[str]) -> None:
    padded = (values + [""] * len(HISTORY_COLUMNS))[: len(HISTORY_COLUMNS)]
    stdout = "".join(value + DELIMITER for value in padded) + "\n"
    accounting.parse_history(stdout.encode(), DELIMITER, [NativeId("1_2")])


def test_history_task_under_array_number() -> None:
    """What sacct showed for a second after the end of 2186_1, 2186_3 (which failed) and 2186_5."""
    nameless = rows({"JobID": "2186", "JobName": "allocation", "Partition": "", "NodeList": ""})
    accounted = accounting.parse_history(nameless, DELIMITER, [NativeId("2186")])
    assert [seen.state for seen in accounted.listing.observations] == [JobState.DONE]
    task = Observation(
        native_id=NativeId("2186_3"), state=JobState.FAILED, array_job_id=NativeId("2186")
    )
    left = without_nameless_tasks(accounted, Listing(observations=[task]))
    assert left.listing.observations == ()
    assert left.unfinished == {"2186"}
    plain = replace(task, array_job_id=None)
    assert without_nameless_tasks(accounted, Listing(observations=[plain])) == accounted
    told = accounting.parse_history(rows({"JobID": "2186"}), DELIMITER, [NativeId("2186")])
    assert without_nameless_tasks(told, Listing(observations=[task])) == told
