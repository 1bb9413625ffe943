"""Mails about jobs: which events make one, and its text, in English and Portuguese. Pure."""

from collections.abc import Iterator, Mapping
from email.message import EmailMessage
from email.policy import SMTP

from hpcq.domain.efficiency import efficiency_of
from hpcq.domain.events import Event
from hpcq.domain.explanation import explain, reason_code
from hpcq.domain.jobs import JobRecord, MailEvent
from hpcq.domain.outputs import output_path
from hpcq.domain.states import FailureKind, JobState, ReasonCode
from hpcq.domain.units import format_share, format_time

__all__ = ["build_mail", "makes_mail"]

_LONGEST_NAME = 100
_HAPPENED: Mapping[JobState, tuple[str, str]] = {
    JobState.RUNNING: ("has started", "começou"),
    JobState.DONE: ("has ended", "terminou"),
    JobState.FAILED: ("has failed", "falhou"),
}
# As `explain` says it in English; other reasons are the scheduler's own words.
_IN_PORTUGUESE: Mapping[ReasonCode | FailureKind, str] = {
    ReasonCode.DEPENDENCY_NEVER_SATISFIED: (
        "Nunca começou: um job do qual depende não terminou como exigido."
    ),
    FailureKind.NON_ZERO_EXIT: "Terminou com o código de saída {exit_code}.",
    FailureKind.SIGNAL: "Foi encerrado pelo sinal {exit_signal}.",
    FailureKind.TIME_LIMIT: "Passou do limite de tempo.",
    FailureKind.OUT_OF_MEMORY: "Passou do limite de memória.",
    FailureKind.CANCELLED: "Foi cancelado.",
    FailureKind.NODE_FAILURE: "Falhou um nó do cluster.",
}


def makes_mail(record: JobRecord, change: Mapping[str, object]) -> bool:
    """Return whether a mail tells of a change of a job's state.

    An array is mailed about as a whole: its tasks make no mails.

    Args:
        record: the job.
        change: the data of the event (`EventKind.STATE`).
    """
    spec = record.spec
    if spec is None or not spec.is_mailed_here or record.parent_uid is not None:
        return False
    return not _moments(change).isdisjoint(spec.mail_on)


def _moments(change: Mapping[str, object]) -> set[MailEvent]:
    """Return the moments of a job that a change of its state is."""
    now = JobState(str(change["state"]))
    before = None if change["from"] is None else JobState(str(change["from"]))
    if now is before:
        return set()
    was_waiting = before is None or before.is_queued
    if change["jobId"] is None and was_waiting:
        # Whoever submitted it got the scheduler's refusal as the answer.
        return set()
    moments = set()
    is_running = now is JobState.RUNNING and before is not JobState.SUSPENDED
    # One that ended before it was seen running has begun as well.
    if is_running or (was_waiting and now.is_final and change["startTime"] is not None):
        moments.add(MailEvent.BEGIN)
    if now.is_final:
        moments.add(MailEvent.END)
    if now is JobState.FAILED:
        moments.add(MailEvent.FAIL)
    return moments


def build_mail(
    message_id: str, event: Event, record: JobRecord, cluster_id: str, sender: str
) -> EmailMessage:
    """Return the mail about an event.

    Args:
        message_id: names it, the same in every attempt.
        event: one for which `makes_mail` is true.
        record: its job.
        cluster_id: the name of the deployment.
        sender: the address that the mail comes from.
    """
    spec, state = record.spec, JobState(str(event.data["state"]))
    if spec is None or spec.mail_to is None:
        raise ValueError("only a job with an address makes mails")
    job = f"{_line(spec.name)[:_LONGEST_NAME]} ({event.data['jobId'] or record.uid})"
    mail = EmailMessage(policy=SMTP)
    mail["From"] = sender
    mail["To"] = spec.mail_to
    # The library would decode what looks like an encoded word (RFC 2047), line ends and all.
    mail["Subject"] = f"[{_line(cluster_id)}] {job}: {state}".replace("=?", "= ?")
    mail["Date"] = event.at
    mail["Message-ID"] = f"<{message_id}@{sender.rpartition('@')[2]}>"
    # RFC 3834: nothing answers it by itself.
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(_text(job, state, event, record, cluster_id), cte="quoted-printable")
    return mail


def _text(job: str, state: JobState, event: Event, record: JobRecord, cluster_id: str) -> str:
    english, portuguese = _HAPPENED[state]
    cluster = _line(cluster_id)
    # The job may have got on since: the event's own words are the older ones.
    is_current = record.state is state
    reason = explain(record) if is_current else event.data["stateReason"]
    translation = _explain_in_portuguese(record, event) if is_current else None
    lines = [f"The job {job} on {cluster} {english}."]
    lines += [_line(reason)] if reason else []
    lines += ["", f"O job {job} em {cluster} {portuguese}."]
    lines += [translation] if translation else []
    facts = [(name, value) for name, value in _facts(state, event, record) if value is not None]
    width = max(len(name) for name, _ in facts) + 2
    lines += ["", *(f"{name + ':':{width}}{_line(value)}" for name, value in facts)]
    return "\n".join(lines) + "\n"


def _facts(state: JobState, event: Event, record: JobRecord) -> Iterator[tuple[str, object | None]]:
    """Yield names, in both languages, and values; None for what is not known."""
    efficiency = efficiency_of(record) if state.is_final else None
    yield "State / Estado", state
    yield "Submitted / Submetido", format_time(record.submit_time)
    yield "Started / Iniciado", event.data["startTime"]
    if state.is_final:
        yield "Ended / Terminado", event.data["endTime"]
        yield "Exit code / Código de saída", event.data["exitCode"]
        yield "Signal / Sinal", event.data["exitSignal"]
    yield "Output / Saída", output_path(record, "stdout")
    yield "Errors / Erros", output_path(record, "stderr")
    if efficiency is not None:
        yield "CPU used / CPU usada", format_share(efficiency.cpu)
        yield "Memory used / Memória usada", format_share(efficiency.memory)
    yield "uid", record.uid


def _explain_in_portuguese(record: JobRecord, event: Event) -> str | None:
    code = reason_code(record)
    sentence = None if code is None else _IN_PORTUGUESE.get(code)
    if sentence is None:
        return None
    known = {"exit_code": event.data["exitCode"], "exit_signal": event.data["exitSignal"]}
    is_told = all(known[name] is not None for name in known if f"{{{name}}}" in sentence)
    return sentence.format_map(known) if is_told else None


def _line(value: object) -> str:
    """Return a value as one line of text; a header ends with its line."""
    return "".join(c if c.isprintable() else " " for c in str(value))
