import re

import pytest

from hpcq.domain.errors import (
    CommandFailed,
    HpcqError,
    InvalidSpec,
    JobNotFound,
    NotAuthorized,
    OutputParseError,
    QuotaExceeded,
    SchedulerUnavailable,
    WrongState,
)
from hpcq.domain.jobs import NativeId
from hpcq.execution.protocol import Completed
from hpcq.schedulers.command_errors import ErrorKind, ErrorTable
from hpcq.schedulers.command_line import ParseCache, batches

ERRORS = ErrorTable(
    scheduler="Some",
    words=(
        (re.compile("away"), ErrorKind.UNAVAILABLE),
        (re.compile("lost"), ErrorKind.ANSWER_LOST),
        (re.compile("unknown job"), ErrorKind.UNKNOWN_JOB),
        (re.compile("not yours"), ErrorKind.FORBIDDEN),
        (re.compile("over"), ErrorKind.WRONG_STATE),
    ),
    statuses={25: ErrorKind.LIMIT_REACHED, 26: ErrorKind.FORBIDDEN},
    fields=((re.compile("queue"), "queue"),),
    field_statuses={30: "account"},
    own_words=re.compile("^sub: ", re.MULTILINE),
    noise=re.compile(r"^usage:.*", re.MULTILINE | re.DOTALL),
)
JOB_ID = re.compile(rb"[0-9]+\n")


def ended(exit_code: int, stderr: str = "", stdout: str = "") -> Completed:
    return Completed(
        argv=("sub",), exit_code=exit_code, stdout=stdout.encode(), stderr=stderr.encode()
    )


@pytest.mark.parametrize(
    ("done", "error"),
    [
        (ended(1, "away"), SchedulerUnavailable),
        (ended(1, "lost"), SchedulerUnavailable),
        (ended(1, "unknown job"), JobNotFound),
        (ended(1, "not yours"), NotAuthorized),
        (ended(26), NotAuthorized),
        (ended(26, "over"), WrongState),
        (ended(25), QuotaExceeded),
        (ended(1, stdout="away"), CommandFailed),
    ],
)
def test_check_failed_command(done: Completed, error: type[HpcqError]) -> None:
    with pytest.raises(error):
        ERRORS.check(done, NativeId("1"))


@pytest.mark.parametrize(
    ("done", "error"),
    [
        (ended(1, "sub: lost"), OutputParseError),
        (ended(1, "sub: no queue", "12\n"), OutputParseError),
        (ended(-9, "sub: no queue"), OutputParseError),
        (ended(1, "no queue"), OutputParseError),
        (ended(1, "sub: no queue"), InvalidSpec),
        (ended(30, "sub: "), InvalidSpec),
        (ended(1, "sub: no queue: away"), SchedulerUnavailable),
        (ended(25, "sub: no queue"), QuotaExceeded),
        (ended(1, "sub: unknown job"), CommandFailed),
    ],
)
def test_check_submission_failed(done: Completed, error: type[HpcqError]) -> None:
    with pytest.raises(error):
        ERRORS.check_submission(done, JOB_ID)


def test_check_succeeded() -> None:
    ERRORS.check(ended(0, "away"))
    ERRORS.check_submission(ended(0, "away"), JOB_ID)


def test_message_without_noise() -> None:
    assert ERRORS.message_of(ended(1, "sub: no\nusage: sub\n -x")) == "sub: no"
    assert ERRORS.message_of(ended(1, "usage: sub")) == "usage: sub"
    assert ERRORS.message_of(ended(1, stdout="no")) == "no"


def test_parse_cache_changed_records() -> None:
    parsed: list[bytes] = []

    def parse(record: bytes) -> list[bytes]:
        parsed.append(record)
        return [record]

    cache = ParseCache(parse)
    first = cache.read([b"a", b"b"])
    assert cache.read([b"c"], remember=False) == [[b"c"]]
    again = cache.read([b"b", b"a"])
    assert again == [[b"b"], [b"a"]]
    assert again[0] is first[1]
    cache.read([b"a"])
    cache.read([b"b"])
    assert parsed == [b"a", b"b", b"c", b"b"]


def test_batches_of_distinct_ids() -> None:
    ids = [NativeId(i) for i in "11232"]
    assert list(batches(ids, 2)) == [["1", "2"], ["3"]]
