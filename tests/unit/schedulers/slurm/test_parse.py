from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.schedulers.slurm.recorded import KEY, MARKS, recorded

from hpcq.domain.errors import OutputParseError
from hpcq.domain.jobs import Observation, SubmissionKey
from hpcq.domain.states import FailureKind, JobState, ReasonCode, Stage
from hpcq.schedulers.base import Listing
from hpcq.schedulers.command_line import ParseCache
from hpcq.schedulers.slurm import parse
from hpcq.schedulers.slurm.commands import FIELD


def listed(case: str) -> Sequence[Observation]:
    listing = parse.parse_listing(recorded(case).stdout, MARKS)
    assert not listing.unreadable
    return listing.observations


def named(observations: Sequence[Observation], name: str) -> Observation:
    (found,) = [seen for seen in observations if (seen.name or "").startswith(name)]
    return found


def record(
    name: str = "n",
    job: str = "7",
    comment: str = "(null)",
    state: str = "RUNNING",
    reason: str = "None",
    restarts: int = 0,
) -> str:
    fixed = [job, state, reason, "me", "debug", "acct", "1700000000", "1700000009"]
    plain = FIELD.join([*fixed, "1-00:00:00", "4", "n[1-2]", "(null)", str(restarts)])
    return MARKS.free.join([plain, comment, "/dir", "/s.sh arg", name]) + MARKS.end + "\n"


def test_listing_empty_queue() -> None:
    assert listed("listing-empty") == ()


@pytest.mark.parametrize(
    ("name", "state", "reason"),
    [
        ("wants resources", JobState.QUEUED, "Waiting for resources (Resources)"),
        (
            "has less priority",
            JobState.QUEUED,
            "Jobs with a higher priority wait for the same partition (Priority)",
        ),
        ("held by user", JobState.QUEUED_HELD, "Held by its owner (JobHeldUser)"),
        ("later", JobState.QUEUED, "Its earliest start time is not reached (BeginTime)"),
        ("depends", JobState.QUEUED, "Waiting for another job (Dependency)"),
        ("partition down", JobState.QUEUED, "Its partition is down (PartitionDown)"),
    ],
)
def test_listing_pending_reasons(name: str, state: JobState, reason: str) -> None:
    seen = named(listed("listing-many"), name)
    assert (seen.state, seen.state_reason) == (state, reason)
    assert seen.native_state == "PENDING"
    assert seen.start_time is None
    assert seen.hosts is None


@pytest.mark.parametrize(
    ("name", "code", "native"),
    [
        ("wants resources", ReasonCode.WAITING_FOR_RESOURCES, "Resources"),
        ("has less priority", ReasonCode.WAITING_FOR_PRIORITY, "Priority"),
        ("held by user", ReasonCode.HELD_BY_USER, "JobHeldUser"),
        ("later", ReasonCode.NOT_BEFORE_TIME, "BeginTime"),
        ("depends", ReasonCode.WAITING_FOR_DEPENDENCY, "Dependency"),
        ("partition down", ReasonCode.QUEUE_CLOSED, "PartitionDown"),
        ("demo", None, None),
    ],
)
def test_listing_reason_codes(name: str, code: ReasonCode | None, native: str | None) -> None:
    seen = named(listed("listing-many"), name)
    assert (seen.reason_code, seen.native_reason) == (code, native)
    # The controller's guess moves all the time.
    assert seen.start_estimate is None


def test_details_start_estimate_of_waiting_job() -> None:
    seen = parse.parse_details(recorded("details-many").stdout, MARKS).observations
    waiting = [one for one in seen if one.start_estimate is not None]
    assert waiting
    assert all(one.state.is_queued and one.start_time is None for one in waiting)


def test_listing_running_job_fields() -> None:
    seen = named(listed("listing-many"), "demo")
    assert seen.state is JobState.RUNNING
    assert seen.state_reason is None
    assert seen.submission_key == KEY
    assert (seen.slots, seen.hosts) == (60, ("localhost",))
    assert (seen.owner, seen.queue, seen.account) == ("root", "debug", "root")
    assert seen.wall_time_limit_seconds == 120
    assert seen.working_directory == "/tmp/hpcq-recording"
    assert seen.script_file == "/tmp/hpcq-recording/job.sh"
    assert seen.start_time is not None
    assert seen.submit_time is not None
    assert seen.submit_time <= seen.start_time


def test_listing_hostile_names_and_comments() -> None:
    observations = listed("listing-many")
    seen = named(observations, "new\n")
    assert seen.name == "new\nline | pipe \x1f unit \x1e record 'é€😀\x1b"
    assert named(observations, "xxx").name == "x" * 300
    assert named(observations, "xxx").working_directory == "/tmp/hpcq-recording"


def test_listing_array_tasks() -> None:
    tasks = [seen for seen in listed("listing-many") if seen.name == "array"]
    assert sorted(seen.array_task_id or 0 for seen in tasks) == [1, 2, 3, 7]
    assert {f"{seen.array_job_id}_{seen.array_task_id}" for seen in tasks} == {
        seen.native_id for seen in tasks
    }


def test_listing_heterogeneous_job_components() -> None:
    ids = sorted(seen.native_id for seen in listed("listing-many") if "+" in seen.native_id)
    assert [native_id.split("+")[1] for native_id in ids] == ["0", "1"]


def test_listing_dependency() -> None:
    observations = listed("listing-many")
    assert named(observations, "depends").depends_on == (named(observations, "demo").native_id,)


def test_listing_completing_job() -> None:
    stages = {seen.stage for seen in listed("listing-completing-and-requeued")}
    assert Stage.EXITING in stages


def test_listing_requeued_job() -> None:
    again = named(listed("listing-completing-and-requeued"), "again")
    assert (again.state, again.native_state) == (JobState.REQUEUED, "PENDING")


@pytest.mark.parametrize(
    ("word", "reason", "restarts", "state"),
    [
        ("PENDING", "BeginTime", 0, JobState.QUEUED),
        ("PENDING", "BeginTime", 1, JobState.REQUEUED),
        ("PENDING", "JobHeldUser", 0, JobState.QUEUED_HELD),
        # So printed by 22.05, with underscores by later releases.
        ("PENDING", "job requeued in held state", 1, JobState.REQUEUED_HELD),
        ("CONFIGURING", "None", 2, JobState.REQUEUED),
        ("RUNNING", "None", 2, JobState.RUNNING),
    ],
)
def test_listing_restarts(word: str, reason: str, restarts: int, state: JobState) -> None:
    data = record(state=word, reason=reason, restarts=restarts).encode()
    (seen,) = parse.parse_listing(data, MARKS).observations
    assert (seen.state, seen.native_state) == (state, word)


def test_details_memory_limit_and_output_files() -> None:
    listing = parse.parse_details(recorded("details-held").stdout, MARKS)
    (seen,) = listing.observations
    assert seen.memory_limit_bytes == 100 << 20
    name = 'quote " and_newline é'
    assert seen.stdout_path == f"/tmp/hpcq-recording/{name}.o{seen.native_id}"
    assert seen.stderr_path == f"/tmp/hpcq-recording/{name}.e{seen.native_id}"


def test_details_finished_jobs() -> None:
    listing = parse.parse_details(recorded("details-finished").stdout, MARKS)
    ends = {(o.failure_kind, o.exit_code, o.exit_signal) for o in listing.observations}
    assert ends >= {
        (None, 0, None),
        (FailureKind.NON_ZERO_EXIT, 3, None),
        # sacct says 9 of this one.
        (FailureKind.NON_ZERO_EXIT, 137, None),
        (FailureKind.SIGNAL, None, 11),
        (FailureKind.SCHEDULER_ERROR, None, None),
    }
    assert all(o.state.is_final and o.end_time for o in listing.observations)


def test_raw_ids_of_array_tasks() -> None:
    numbers = parse.raw_ids(recorded("details-finished").stdout, MARKS)
    tasks = {raw: job for raw, job in numbers.items() if "_" in job}
    assert len(tasks) == 3
    assert all("_" not in raw for raw in tasks)


@pytest.mark.parametrize("version", ["22.05", "23.11", "24.11", "26.11"])
def test_find_key_recorded(version: str) -> None:
    stdout = recorded("find-in-queue", version).stdout
    assert parse.find_key(stdout, SubmissionKey(KEY), MARKS) is not None
    assert parse.find_key(stdout, SubmissionKey(f"hpcq-{'f' * 32}"), MARKS) is None


@pytest.mark.parametrize("job", ["7", "7_3", "7+1"])
def test_find_key_gives_id(job: str) -> None:
    for comment in (KEY, f"{KEY} words of the script"):
        record = f"{job}{MARKS.free}{comment}{MARKS.end}\n".encode()
        assert parse.find_key(record, SubmissionKey(KEY), MARKS) == "7"


def test_find_key_unreadable_record() -> None:
    record = f"?{MARKS.free}{KEY}{MARKS.end}\n".encode()
    with pytest.raises(OutputParseError, match="our key"):
        parse.find_key(record, SubmissionKey(KEY), MARKS)


@pytest.mark.parametrize(
    ("stdout", "job"), [(b"141\n", "141"), (b"141;cluster\n", "141"), (b" 7 ", "7")]
)
def test_job_id_valid(stdout: bytes, job: str) -> None:
    assert parse.parse_job_id(stdout) == job


@pytest.mark.parametrize(
    "stdout",
    [b"", b"Submitted batch job 12", b"12 13", b"Stampede3\n12", "\u0661".encode(), b"12_3"],
)
def test_job_id_invalid(stdout: bytes) -> None:
    with pytest.raises(OutputParseError):
        parse.parse_job_id(stdout)


def test_listing_one_bad_record() -> None:
    bad = record().replace(FIELD, "|")
    data = (record(job="1") + bad + record(job="0x3") + record(job="4")).encode()
    listing = parse.parse_listing(data, MARKS)
    assert [seen.native_id for seen in listing.observations] == ["1", "4"]
    assert len(listing.unreadable) == 2


def test_listing_truncated() -> None:
    with pytest.raises(OutputParseError):
        parse.parse_listing(record().encode()[:-20], MARKS)


def test_listing_unlisted_state() -> None:
    (seen,) = parse.parse_listing(record(state="LEVITATING").encode(), MARKS).observations
    assert seen.state is JobState.UNDETERMINED
    assert seen.native_state == "LEVITATING"
    assert "LEVITATING" in (seen.state_reason or "")


def test_listing_bytes_not_text() -> None:
    data = record(name="caf\udce9").encode("utf-8", "surrogateescape")
    (seen,) = parse.parse_listing(data, MARKS).observations
    assert seen.name == "caf\\xe9"


def test_listing_times_seconds_or_utc() -> None:
    (seen,) = parse.parse_listing(
        record().replace("1700000000", "2023-11-14T22:13:20").encode(), MARKS
    ).observations
    assert seen.submit_time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert seen.hosts == ("n1", "n2")
    assert seen.wall_time_limit_seconds == 86400


def test_parse_cache_unchanged_records() -> None:
    cache = ParseCache(partial(parse.parse_record, marks=MARKS))

    def read(records: str) -> Listing:
        return parse.parse_listing(records.encode(), MARKS, cache)

    first = read(record(job="1") + record(job="2"))
    second = read(record(job="2") + record(job="1", name="other"))
    assert second.observations[0] is first.observations[1]
    assert second.observations[1].name == "other"
    third = read(record(job="3"))
    assert [seen.native_id for seen in third.observations] == ["3"]


@given(st.binary())
def test_parsers_any_output(stdout: bytes) -> None:
    for read in (parse.parse_listing, parse.parse_details):
        try:
            read(stdout, MARKS)
        except OutputParseError:
            continue


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text())
def test_listing_any_name_and_comment(name: str, comment: str) -> None:
    data = record(name=name, comment=comment).encode("utf-8", "replace")
    listing = parse.parse_listing(data + record(job="8").encode(), MARKS)
    assert [(seen.native_id) for seen in listing.observations] == ["7", "8"]
    assert listing.observations[0].name == name


@given(st.lists(st.text(alphabet="0123456789_+[]:-/(), azRUNING", max_size=12), min_size=13))
def test_listing_any_columns(values: list[str]) -> None:
    plain = FIELD.join(values[:13])
    texts = MARKS.free.join([plain, "c", "d", "e", "n"])
    listing = parse.parse_listing((texts + MARKS.end + "\n").encode(), MARKS)
    assert len(listing.observations) + len(listing.unreadable) == 1
