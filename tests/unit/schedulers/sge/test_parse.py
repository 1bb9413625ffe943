import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.schedulers.sge.recorded import recorded

from hpcq.domain.errors import OutputParseError
from hpcq.domain.jobs import Observation
from hpcq.domain.states import JobState, Stage
from hpcq.schedulers.command_line import ParseCache
from hpcq.schedulers.sge.parse import parse_element, parse_qstat_xml


def listed(case: str, version: str = "8.1.9") -> dict[str, Observation]:
    listing = parse_qstat_xml(recorded(case, version).stdout)
    assert not listing.unreadable
    by_id = {str(seen.native_id): seen for seen in listing.observations}
    assert len(by_id) == len(listing.observations)
    return by_id


def test_listing_running_and_pending_jobs() -> None:
    jobs = {seen.name: seen for seen in listed("qstat_xml_mixed").values()}
    assert {
        name: (seen.native_state, seen.state)
        for name, seen in jobs.items()
        if seen.array_job_id is None and not seen.is_array
    } == {
        "running": ("r", JobState.RUNNING),
        "suspended": ("s", JobState.SUSPENDED),
        "queue_suspended": ("S", JobState.SUSPENDED),
        "rerunning": ("Rr", JobState.RUNNING),
        "too_wide": ("qw", JobState.QUEUED),
        "nodir": ("Eqw", JobState.QUEUED_HELD),
        "noout": ("Eqw", JobState.QUEUED_HELD),
        "errstate": ("Eqw", JobState.QUEUED_HELD),
        "noshell": ("Eqw", JobState.QUEUED_HELD),
        "held": ("hqw", JobState.QUEUED_HELD),
        "dependent": ("hqw", JobState.QUEUED_HELD),
        "odd<&>'\"$;": ("hqw", JobState.QUEUED_HELD),
        "low": ("hqw", JobState.QUEUED_HELD),
        "later": ("qw", JobState.QUEUED),
        "nobodys": ("hqw", JobState.QUEUED_HELD),
    }


def test_listing_hosts_and_times() -> None:
    jobs = listed("qstat_xml_mixed")
    running, pending = jobs["31"], jobs["35"]
    assert (running.queue, running.hosts, running.slots) == ("all.q", ("vm",), 2)
    assert running.start_time == datetime(2026, 11, 23, 0, 9, 6, tzinfo=UTC)
    assert running.submit_time is None
    assert (pending.queue, pending.hosts, pending.slots) == (None, None, 5000)
    assert pending.submit_time == datetime(2026, 11, 23, 0, 9, 6, tzinfo=UTC)
    assert pending.owner == "root"


def test_listing_array_and_tasks() -> None:
    jobs = listed("qstat_xml_mixed")
    assert jobs["39"].state is JobState.RUNNING
    assert jobs["39[1]"].array_task_id == 1
    assert jobs["39[2]"].array_job_id == "39"
    assert (jobs["39[3]"].state, jobs["39[3]"].array_task_id) == (JobState.QUEUED, 3)
    assert jobs["38"].state is JobState.QUEUED_HELD
    whole = jobs["39"]
    assert (whole.is_array, whole.array_job_id, whole.array_task_id) == (True, None, None)


@pytest.mark.parametrize(
    ("tasks", "waiting"), [("1-5000:1", 5000), ("1-4001:2,7", 2002), ("1,2,...", None)]
)
def test_listing_array_task_counts(tasks: str, waiting: int | None) -> None:
    document = recorded("qstat_xml_mixed").stdout.decode()
    changed = re.sub("<tasks>[^<]*</tasks>", f"<tasks>{tasks}</tasks>", document)
    listing = parse_qstat_xml(changed.encode())
    whole = next(seen for seen in listing.observations if seen.native_id == "38")
    assert (whole.is_array, whole.waiting_tasks) == (True, waiting)


@pytest.mark.parametrize(
    ("tasks", "numbers"),
    [
        ("7", [7]),
        ("3,4,6", [3, 4, 6]),
        ("2-20:6", [2, 8, 14, 20]),
        ("1-3:1,9", [1, 2, 3, 9]),
        ("1-100000:1", None),  # too many to be jobs of their own
        ("1,2,3,...", None),
    ],
)
def test_listing_waiting_tasks(tasks: str, numbers: list[int] | None) -> None:
    (whole, *others) = sorted(
        parse_qstat_xml(document(GOOD + f"<tasks>{tasks}</tasks>")).observations,
        key=lambda seen: seen.array_task_id or 0,
    )
    assert (str(whole.native_id), whole.array_task_id, whole.state) == ("1", None, JobState.QUEUED)
    assert [seen.array_task_id for seen in others] == (numbers or [])
    assert {str(seen.native_id) for seen in others} == {f"1[{n}]" for n in numbers or ()}


def test_listing_2011() -> None:
    jobs = listed("qstat_xml_mixed", "2011.11")
    assert {i: (seen.native_state, seen.state) for i, seen in jobs.items() if "[" not in i} == {
        "54": ("r", JobState.RUNNING),
        "55": ("hqw", JobState.QUEUED_HELD),
        "56": ("qw", JobState.QUEUED),
        "57": ("hqw", JobState.QUEUED_HELD),
        "58": ("Eqw", JobState.QUEUED_HELD),
        "59": ("r", JobState.RUNNING),
        "60": ("hqw", JobState.QUEUED_HELD),
        "61": ("r", JobState.RUNNING),
        "62": ("r", JobState.RUNNING),
        "63": ("r", JobState.RUNNING),
        "64": ("s", JobState.SUSPENDED),
        "65": ("Rq", JobState.REQUEUED),
        "66": ("r", JobState.RUNNING),
    }
    assert [i for i in jobs if i.startswith("59[")] == [f"59[{n}]" for n in range(1, 7)]
    assert jobs["60[20]"].state is JobState.QUEUED_HELD
    assert (jobs["61"].name, jobs["62"].name) == ('foo<bar>&x;"q"', "estudo-ção")
    assert jobs["59"].submit_time == datetime(2026, 11, 27, 1, 4, 19, tzinfo=UTC)


def test_listing_2011_deleted_jobs() -> None:
    jobs = listed("qstat_xml_deleting", "2011.11")
    assert {i for i, seen in jobs.items() if seen.stage is Stage.CANCELLING} == {
        "54",
        "59[2]",
        "64",
    }
    assert (jobs["54"].state, jobs["64"].state) == (JobState.RUNNING, JobState.SUSPENDED)


def test_listing_deleted_job_stage() -> None:
    jobs = listed("qstat_xml_deleting")
    assert (jobs["31"].native_state, jobs["31"].stage) == ("dr", Stage.CANCELLING)


def test_listing_empty() -> None:
    assert listed("qstat_xml_empty") == {}


def test_listing_older_dialect() -> None:
    jobs = listed("qstat_xml_mixed", "6.2u5")
    assert {i: seen.native_state for i, seen in jobs.items() if not seen.array_task_id} == {
        "155": "r",
        "157": "Eqw",
        "159": "hqw",
    }


@pytest.mark.parametrize(
    "variant", ["qstat_r_xml_mixed", "qstat_gd_xml_mixed", "qstat_ext_r_xml_mixed"]
)
def test_listing_other_qstat_options(variant: str) -> None:
    assert listed(variant)["31"].name == "running"


def document(*elements: str) -> bytes:
    body = "".join(f"<job_list state='pending'>{e}</job_list>" for e in elements)
    return f"<?xml version='1.0'?>\n<job_info><queue_info>{body}</queue_info></job_info>".encode()


GOOD = "<JB_job_number>1</JB_job_number><JAT_prio>0.5</JAT_prio><state>qw</state><slots>1</slots>"


@pytest.mark.parametrize(
    "bad",
    [
        "<JB_job_number>2</JB_job_number><state></state>",
        "<JB_job_number>2</JB_job_number>",
        "<JB_job_number></JB_job_number><state>qw</state>",
        "<JB_job_number>2</JB_job_number><state>qw</state><slots>many</slots>",
        "<JB_job_number>2</JB_job_number><state>qw",
    ],
)
def test_listing_one_bad_job(bad: str) -> None:
    listing = parse_qstat_xml(document(GOOD, bad, GOOD.replace("1</JB", "3</JB")))
    assert [str(seen.native_id) for seen in listing.observations] == ["1", "3"]
    assert len(listing.unreadable) == 1


def test_listing_unclosed_element() -> None:
    text = document(GOOD, GOOD.replace("1</JB", "2</JB")).replace(b"</job_list>", b"", 1)
    listing = parse_qstat_xml(text)
    assert [bad.native_id for bad in listing.unreadable] == ["1"]
    assert [str(seen.native_id) for seen in listing.observations] == ["2"]


@pytest.mark.parametrize("name", ["a\x01b", "a\x1b[31mb", "a & b", "a&nbsp;b"])
def test_listing_invalid_xml_characters(name: str) -> None:
    listing = parse_qstat_xml(document(GOOD + f"<JB_name>{name}</JB_name>", GOOD))
    assert len(listing.observations) == 2
    assert not listing.unreadable


def test_listing_undecodable_bytes() -> None:
    text = document(GOOD + "<JB_name>NAME</JB_name>").replace(b"NAME", b"\xff\xfe")
    assert parse_qstat_xml(text).observations[0].name == "\ufffd\ufffd"


def test_listing_truncated() -> None:
    text = recorded("qstat_xml_mixed").stdout
    with pytest.raises(OutputParseError, match="cut off"):
        parse_qstat_xml(text[: len(text) // 2])


def test_listing_noise_before_document() -> None:
    assert len(parse_qstat_xml(b"warning: clock skew\n" + document(GOOD)).observations) == 1


def test_listing_unchanged_same_object() -> None:
    cache = ParseCache(parse_element)
    first = parse_qstat_xml(document(GOOD), cache).observations[0]
    again = parse_qstat_xml(document(GOOD.replace("0.5", "0.6")), cache).observations[0]
    assert again is first
    changed = parse_qstat_xml(document(GOOD.replace("qw", "hqw")), cache).observations[0]
    assert changed.state is JobState.QUEUED_HELD


@given(st.binary())
def test_listing_any_bytes(output: bytes) -> None:
    try:
        parse_qstat_xml(output)
    except OutputParseError:
        return


@given(st.data())
def test_listing_damaged_document(data: st.DataObject) -> None:
    text = bytearray(recorded("qstat_xml_mixed").stdout)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=8))
    try:
        parse_qstat_xml(bytes(text))
    except OutputParseError:
        return
