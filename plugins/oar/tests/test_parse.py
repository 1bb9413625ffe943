import json
from datetime import UTC, datetime

import pytest

from hpcq.domain.errors import InvalidSpec, OutputParseError
from hpcq.domain.jobs import NativeId, Observation, SubmissionKey, Usage
from hpcq.domain.states import FailureKind, JobState, Stage
from hpcq_oar import parse
from hpcq_oar.errors import ERRORS
from recordings import recorded

KEY = SubmissionKey("hpcq-00000000000000000000000000000001")


def read(case: str) -> dict[str, Observation]:
    listing = parse.parse_jobs(recorded(case).stdout)
    assert not listing.unreadable
    return {seen.native_id: seen for seen in listing.observations}


def test_listing_empty_output() -> None:
    assert read("none") == {}


def test_listing_each_state() -> None:
    jobs = read("listing-full")
    states = {seen.native_state: (seen.state, seen.stage) for seen in jobs.values()}
    assert states == {
        "Hold": (JobState.QUEUED_HELD, None),
        "Waiting": (JobState.QUEUED, None),
        "Running": (JobState.RUNNING, None),
        "Finishing": (JobState.RUNNING, Stage.EXITING),
    }


def test_listing_foreign_job() -> None:
    held = read("listing-full")["4"]
    assert (held.name, held.owner, held.account, held.queue) == (
        "held",
        "root",
        "climate",
        "default",
    )
    assert (held.working_directory, held.stdout_path) == ("/", "/dev/null")
    assert held.is_keyless
    assert held.start_time is None


def test_listing_running_job_hosts_and_slots() -> None:
    running = read("listing-full")["5"]
    assert (running.hosts, running.slots) == (("127.0.0.1",), 1)
    assert running.wall_time_limit_seconds == 7200
    assert running.start_time == datetime(2026, 11, 27, 8, 14, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("number", "state", "kind", "code", "number_of_signal"),
    [
        ("7", JobState.DONE, None, 0, None),
        ("8", JobState.FAILED, FailureKind.NON_ZERO_EXIT, 3, None),
        ("9", JobState.FAILED, FailureKind.SIGNAL, None, 9),
        ("5", JobState.FAILED, FailureKind.CANCELLED, None, None),
        ("4", JobState.FAILED, FailureKind.CANCELLED, None, None),
        ("10", JobState.FAILED, FailureKind.TIME_LIMIT, None, None),
        ("11", JobState.FAILED, FailureKind.SCHEDULER_ERROR, None, None),
    ],
    ids=["zero", "three", "killed", "deleted", "deleted-held", "wall-time", "directory"],
)
def test_end_each_kind(
    number: str,
    state: JobState,
    kind: FailureKind | None,
    code: int | None,
    number_of_signal: int | None,
) -> None:
    seen = read("ended")[number]
    assert (seen.state, seen.failure_kind) == (state, kind)
    assert (seen.exit_code, seen.exit_signal) == (code, number_of_signal)
    assert (seen.state_reason is None) == (state is JobState.DONE)
    assert seen.end_time is not None
    assert seen.usage == Usage()


def test_end_job_never_ran() -> None:
    held = read("ended")["4"]
    assert held.start_time is None
    assert held.end_time is not None


def test_key_own_job_only() -> None:
    listing = parse.parse_jobs(recorded("ended").stdout)
    assert parse.find_key(listing, KEY, "root") == "2"
    assert parse.find_key(listing, KEY, "somebody") is None
    assert [seen.native_id for seen in listing.observations if not seen.is_keyless] == ["2"]


def test_key_in_other_command() -> None:
    document = json.loads(recorded("listing-full").stdout)
    document["4"]["command"] = f"echo {KEY}"
    listing = parse.parse_jobs(json.dumps(document).encode())
    assert parse.find_key(listing, KEY, None) is None


def test_record_without_id() -> None:
    document = json.loads(recorded("listing-full").stdout)
    del document["4"]["Job_Id"]
    listing = parse.parse_jobs(json.dumps(document).encode())
    assert [bad.native_id for bad in listing.unreadable] == ["4"]
    assert len(listing.observations) == len(document) - 1


def test_text_latin_1() -> None:
    document = json.loads(recorded("listing-full").stdout)
    document["4"]["name"] = "São João"
    text = json.dumps(document, ensure_ascii=False)
    for encoding in ("utf-8", "latin-1"):
        listing = parse.parse_jobs(text.encode(encoding))
        assert "São João" in {seen.name for seen in listing.observations}


@pytest.mark.parametrize("stdout", [b"DB error", b"[]", b'{"4": '])
def test_document_invalid(stdout: bytes) -> None:
    with pytest.raises(OutputParseError):
        parse.parse_jobs(stdout)


def test_oarsub_id_after_rule_output() -> None:
    assert parse.parse_oarsub(recorded("oarsub")) == NativeId("2")


@pytest.mark.parametrize(
    ("case", "field"),
    [("oarsub-no-queue", "queue"), ("oarsub-too-many", "reservedSlots")],
)
def test_oarsub_refusal_field(case: str, field: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        parse.parse_oarsub(recorded(case))
    assert error.value.field == field


def test_nodes_by_host() -> None:
    (node,) = parse.parse_nodes(recorded("nodes").stdout)
    assert (node.name, node.is_up, node.slots_total) == ("127.0.0.1", True, 64)


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("oarhold-unknown", "JobNotFound"),
        ("oarresume-unknown", "JobNotFound"),
        ("oarhold-other", "NotAuthorized"),
        ("oardel-other", "NotAuthorized"),
        ("oarhold-running", "WrongState"),
    ],
)
def test_error_for_each_refusal(case: str, name: str) -> None:
    with pytest.raises(Exception) as error:
        ERRORS.check(recorded(case), NativeId("4"))
    assert type(error.value).__name__ == name
