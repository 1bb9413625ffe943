"""Mails about jobs: the events that make one, and what it says, whatever a job is called."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcq.domain.events import Event, EventKind
from hpcq.domain.jobs import (
    JobRecord,
    JobSpec,
    JobUid,
    MailEvent,
    NativeId,
    Observation,
    Outputs,
    Usage,
)
from hpcq.domain.mails import build_mail, makes_mail
from hpcq.domain.states import FailureKind, JobState

T0 = datetime(2026, 1, 5, 12, tzinfo=UTC)
START = "2026-01-05T12:00:00.000Z"
UID = JobUid("00000000-0000-4000-8000-000000000001")
SPEC = JobSpec(
    name="study",
    working_directory="/srv",
    script_file="/srv/run.sh",
    slots=2,
    mail_to="ana@site.example",
    mail_on=(MailEvent.END,),
    outputs=Outputs(stdout="/srv/study.o%j", stderr="/srv/study.e%j"),
    is_mailed_here=True,
)


def record(**changes: Any) -> JobRecord:
    seen = Observation(
        native_id=NativeId("141"),
        state=JobState.DONE,
        exit_code=0,
        start_time=T0,
        end_time=T0 + timedelta(seconds=100),
        usage=Usage(cpu_seconds=174),
    )
    known = JobRecord(
        uid=UID,
        native_id=NativeId("141"),
        spec=SPEC,
        seen=seen,
        state=JobState.DONE,
        created_at=T0,
        state_changed_at=T0,
    )
    return known.changed(**changes)


def change(before: JobState | None, now: JobState, **more: Any) -> dict[str, Any]:
    return {"jobId": "141", "from": before, "state": now, "startTime": START, **more}


def event(state: JobState = JobState.DONE, **more: Any) -> Event:
    data = {
        **change(JobState.RUNNING, state),
        "stateReason": None,
        "exitCode": 0,
        "exitSignal": None,
        "endTime": "2026-01-05T12:01:40.000Z",
    }
    return Event(number=7, uid=UID, kind=EventKind.STATE, at=T0, data={**data, **more})


def mail(of: Event | None = None, job: JobRecord | None = None, **more: str) -> EmailMessage:
    """The mail as its receiver reads it."""
    arguments = {"cluster_id": "santos", "sender": "hpc@site.example"} | more
    built = build_mail("msg_a_7", of or event(), job or record(), **arguments)
    return message_from_bytes(built.as_bytes(), policy=default)


def text_of(told: EmailMessage) -> str:
    return str(told.get_content()).replace("\r\n", "\n")


def failed(**seen: Any) -> JobRecord:
    done = record()
    assert done.seen is not None
    told = replace(done.seen, state=JobState.FAILED, **{"exit_code": None, **seen})
    return done.changed(state=JobState.FAILED, seen=told)


QUEUED, RUNNING, SUSPENDED = JobState.QUEUED, JobState.RUNNING, JobState.SUSPENDED
DONE, FAILED, UNDETERMINED = JobState.DONE, JobState.FAILED, JobState.UNDETERMINED
BEGIN, END, FAIL = MailEvent.BEGIN, MailEvent.END, MailEvent.FAIL


@pytest.mark.parametrize(
    ("told", "moments"),
    [
        (change(QUEUED, RUNNING), {BEGIN}),
        (change(JobState.REQUEUED, RUNNING), {BEGIN}),
        (change(SUSPENDED, RUNNING), set()),
        (change(RUNNING, RUNNING), set()),
        (change(RUNNING, SUSPENDED), set()),
        (change(RUNNING, JobState.REQUEUED), set()),
        (change(QUEUED, JobState.QUEUED_HELD), set()),
        (change(RUNNING, UNDETERMINED), set()),
        (change(RUNNING, DONE), {END}),
        (change(UNDETERMINED, DONE), {END}),
        (change(DONE, DONE), set()),
        (change(RUNNING, FAILED), {END, FAIL}),
        (change(FAILED, FAILED), set()),
        # It ran between two polls.
        (change(QUEUED, DONE), {BEGIN, END}),
        (change(QUEUED, FAILED, startTime=None), {END, FAIL}),
        # The scheduler refused it at once, or after it had been promised.
        (change(QUEUED, FAILED, startTime=None, jobId=None), set()),
        (change(UNDETERMINED, FAILED, startTime=None, jobId=None), {END, FAIL}),
    ],
)
def test_mail_of_change(told: dict[str, Any], moments: set[MailEvent]) -> None:
    for moment in MailEvent:
        job = record(spec=replace(SPEC, mail_on=(moment,)))
        assert makes_mail(job, told) == (moment in moments), moment
    assert makes_mail(record(spec=replace(SPEC, mail_on=tuple(MailEvent))), told) == bool(moments)


@pytest.mark.parametrize(
    "job",
    [
        record(spec=None),
        record(spec=replace(SPEC, is_mailed_here=False)),
        record(spec=replace(SPEC, mail_on=())),
        record(parent_uid=JobUid("00000000-0000-4000-8000-000000000002")),
    ],
    ids=["somebody else's", "the scheduler's affair", "no moment", "a task of an array"],
)
def test_mail_not_for_job(job: JobRecord) -> None:
    assert not makes_mail(job, change(RUNNING, DONE))


def test_mail_job_done() -> None:
    told = mail()
    assert {name: told[name] for name in ("From", "To", "Subject", "Message-ID")} == {
        "From": "hpc@site.example",
        "To": "ana@site.example",
        "Subject": "[santos] study (141): DONE",
        "Message-ID": "<msg_a_7@site.example>",
    }
    assert told["Auto-Submitted"] == "auto-generated"
    assert told["Date"].datetime == T0
    assert text_of(told) == (
        "The job study (141) on santos has ended.\n"
        "\n"
        "O job study (141) em santos terminou.\n"
        "\n"
        "State / Estado:              DONE\n"
        "Submitted / Submetido:       2026-01-05T12:00:00.000Z\n"
        "Started / Iniciado:          2026-01-05T12:00:00.000Z\n"
        "Ended / Terminado:           2026-01-05T12:01:40.000Z\n"
        "Exit code / Código de saída: 0\n"
        "Output / Saída:              /srv/study.o141\n"
        "Errors / Erros:              /srv/study.e141\n"
        "CPU used / CPU usada:        87%\n"
        f"uid:                         {UID}\n"
    )


@pytest.mark.parametrize(
    ("job", "told", "english", "portuguese"),
    [
        (
            failed(exit_code=3),
            event(FAILED, exitCode=3),
            "It ended with exit code 3.",
            "Terminou com o código de saída 3.",
        ),
        (
            failed(exit_signal=9, failure_kind=FailureKind.SIGNAL),
            event(FAILED, exitCode=None, exitSignal=9),
            "It was ended by signal 9.",
            "Foi encerrado pelo sinal 9.",
        ),
    ],
)
def test_mail_job_failed(job: JobRecord, told: Event, english: str, portuguese: str) -> None:
    assert job.seen is not None
    if job.seen.failure_kind is None:
        job = job.changed(seen=replace(job.seen, failure_kind=FailureKind.NON_ZERO_EXIT))
    text = text_of(mail(told, job))
    assert f"has failed.\n{english}\n\n" in text
    assert f"falhou.\n{portuguese}\n\n" in text


def test_mail_job_changed_since() -> None:
    """The mail server was away while the job ended."""
    text = text_of(mail(event(RUNNING, exitCode=None, endTime=None)))
    assert "has started.\n\nO job study (141) em santos começou.\n" in text
    assert "RUNNING" in text
    assert "CPU used" not in text
    assert "Ended" not in text


HOSTILE = [
    "study\r\nBcc: all@site.example",
    "study\nBcc: all@site.example\n\nHello",
    "a\u2028Bcc: all@site.example",
    "a\x85Bcc: all@site.example",
    "a\x0bBcc: x\x0c\x1c\x00\x7f",
    "ação · 计算 🚀",
    "=?utf-8?q?=0ABcc:_all=40site.example?=",
    "\udce9t\udce9",
    "a,b <c@d>; e:",
    '"quoted" (comment) \\',
    "\u202egnp.exe",
    "x" * 5000,
    "ç" * 5000,
    " " * 300 + "end",
    "=?" * 200,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_mail_job_hostile_name(name: str) -> None:
    told = mail(job=record(spec=replace(SPEC, name=name)), cluster_id=name[:100])
    assert set(told.keys()) == {
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "Auto-Submitted",
        "Content-Type",
        "Content-Transfer-Encoding",
        "MIME-Version",
    }
    assert (told["From"], told["To"]) == ("hpc@site.example", "ana@site.example")
    assert told["Subject"].endswith("(141): DONE")
    assert len(told["Subject"]) < 320
    # The name never begins a line of its own.
    assert len(text_of(told).splitlines()) == 13


PIECES = st.sampled_from(
    ["=?", "?=", "utf-8?q?", "utf-8?b?", "=0A", "=0D=0A", "DQo=", "\n", "Bcc: x@y", " "]
)


@given(st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=20).map("".join))
def test_mail_header_from_name(name: str) -> None:
    job = record(spec=replace(SPEC, name=name, outputs=None))
    built = build_mail("msg_a_7", event(), job, "santos", "hpc@site.example").as_bytes()
    head = built.split(b"\r\n\r\n", 1)[0].decode("ascii")
    assert "\n" not in head.replace("\r\n", "")
    begun = [line.partition(":")[0] for line in head.split("\r\n") if not line.startswith(" ")]
    assert len(begun) == len(set(begun)) == 9, head
    assert "Bcc" not in begun


@pytest.mark.parametrize("name", HOSTILE)
def test_mail_ascii_short_lines(name: str) -> None:
    job = record(spec=replace(SPEC, name=name, outputs=Outputs(stdout=f"/srv/{name}", stderr=None)))
    built = build_mail("msg_a_7", event(), job, "santos", "hpc@site.example")
    lines = built.as_bytes().decode("ascii").split("\r\n")
    assert not any("\n" in line or "\r" in line for line in lines)
    assert max(map(len, lines)) <= 998


def test_mail_non_ascii_names() -> None:
    told = mail(job=record(spec=replace(SPEC, name="ação · 计算 🚀")))
    assert told["Subject"] == "[santos] ação · 计算 🚀 (141): DONE"
    assert "The job ação · 计算 🚀 (141) on santos has ended." in text_of(told)
