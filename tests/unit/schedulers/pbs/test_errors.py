"""Exit statuses and words of PBS's commands, each with its meaning."""

import pytest
from tests.unit.schedulers.pbs.recorded import recorded

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
from hpcq.schedulers.command_errors import ErrorKind
from hpcq.schedulers.pbs.errors import ERRORS, check_qstat, lacks_dsv, lacks_history, parse_qsub

_JOB = NativeId("7")


def _done(stdout: bytes, stderr: bytes = b"", exit_code: int = 0) -> Completed:
    return Completed(argv=("qsub",), exit_code=exit_code, stdout=stdout, stderr=stderr)


@pytest.mark.parametrize(
    ("case", "error"),
    [
        ("qsub-f.server-down", SchedulerUnavailable),
        ("qsub.server-down", SchedulerUnavailable),
        ("qsub.unknown-server", SchedulerUnavailable),
        ("qsub.PBS_CONF_FILE-missing", SchedulerUnavailable),
        ("qsub.PBS_SERVER-unresolvable", SchedulerUnavailable),
        ("qsub-f.unknown-queue", InvalidSpec),
        ("qsub.unknown-resource", InvalidSpec),
        ("qsub.bad-walltime", InvalidSpec),
        ("qsub.queue-max-ncpus-exceeded", InvalidSpec),
        ("qsub.queue-disabled", InvalidSpec),
        ("qsub.name-unicode", InvalidSpec),
        ("qsub.crlf-script", InvalidSpec),
        ("qsub.queue-max_queued-per-user-reached", QuotaExceeded),
        ("qsub.queue-acl-denied", NotAuthorized),
        ("qsub.as-root", NotAuthorized),
        ("qsub.crash.-v-two-NAMEs-one-value-has-comma", OutputParseError),
    ],
)
def test_qsub_refusals(case: str, error: type[HpcqError]) -> None:
    with pytest.raises(error) as caught:
        parse_qsub(recorded(case))
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("case", "field"),
    [
        ("qsub-f.unknown-queue", "queue"),
        ("qsub.queue-disabled", "queue"),
        ("qsub.queue-name-too-long", "queue"),
        ("qsub.queue-max-walltime-exceeded", "queue"),
        ("qsub.queue-min-ncpus-not-met", "queue"),
        ("qsub.name-unicode", "name"),
        ("qsub.name-too-long-231", "name"),
        ("qsub.bad-priority", "priority"),
        ("qsub.array-bad", "array"),
        ("qsub.array-too-big", "array"),
        ("qsub.bad-walltime", "wallTimeLimit"),
        ("qsub.bad-mem-unit", "memoryLimit"),
        ("qsub.bad-ncpus", "reservedSlots"),
        ("qsub.bad-select-syntax", "reservedSlots"),
        ("qsub.unknown-resource", "scriptFile"),
        ("qsub.unknown-resource-in-select", "scriptFile"),
        ("qsub.bad-place", "scriptFile"),
        ("qsub.bad-mail", "scriptFile"),
        ("qsub.bad-project-char", "scriptFile"),
        ("qsub.mix-select-and-ncpus", "scriptFile"),
        ("qsub.depend.bad-id", "scriptFile"),
        ("qsub.stale-3-bad-W-attr-with-dash-f", "scriptFile"),
        ("qsub.array-dup-of-torque-t", "scriptFile"),
    ],
)
def test_qsub_refusal_names_field(case: str, field: str) -> None:
    done = recorded(case)
    with pytest.raises(InvalidSpec) as caught:
        parse_qsub(done)
    assert caught.value.field == field
    assert "usage" not in str(caught.value)
    assert done.stderr.decode().split("\n")[0].strip() in str(caught.value)


def test_qsub_refusal_dependency() -> None:
    said = b"qsub: Dependency request for job rejected by 7.srv, Unknown Job Id\n"
    with pytest.raises(InvalidSpec) as caught:
        parse_qsub(_done(b"", said, 208))
    assert caught.value.field == "dependsOn"


def test_qsub_job_and_array_ids() -> None:
    assert parse_qsub(recorded("qsub.success.stdin")) == ("3", False)
    assert parse_qsub(_done(b"32[].pbshead\n")) == ("32", True)


@pytest.mark.parametrize(
    "stdout", [b"", b"Welcome to Stampede3\n45.host\n", b"45.host\n46.host\n", b"all\n", b"-1\n"]
)
def test_qsub_output_without_id(stdout: bytes) -> None:
    with pytest.raises(OutputParseError):
        parse_qsub(_done(stdout))


def test_qsub_unreadable_names_program() -> None:
    with pytest.raises(OutputParseError, match="/opt/torque/bin/qsub"):
        parse_qsub(_done(b"Your job 4 has been submitted\n"), "/opt/torque/bin/qsub")


def test_qsub_answer_lost() -> None:
    with pytest.raises(OutputParseError):
        parse_qsub(_done(b"", b"qsub: End of File\n", 255))


@pytest.mark.parametrize(
    ("stdout", "stderr"),
    [(b"45.host\n", b"qsub: Unknown queue\n"), (b"", b"the site's wrapper is out of order\n")],
)
def test_qsub_uncertain_failure(stdout: bytes, stderr: bytes) -> None:
    with pytest.raises(OutputParseError):
        parse_qsub(_done(stdout, stderr, 1))


def test_qsub_id_beside_stale_complaint() -> None:
    stale = recorded("qsub.stale-1-unknown-queue").stderr
    assert parse_qsub(_done(b"45.host\n", stale)) == ("45", False)
    with pytest.raises(OutputParseError):
        parse_qsub(_done(b"", stale))


@pytest.mark.parametrize(
    ("case", "error"),
    [
        ("qdel.unknown", JobNotFound),
        ("qdel.bad-id", JobNotFound),
        ("qhold.unknown", JobNotFound),
        ("qdel.other-users-job", NotAuthorized),
        ("qdel.server-down", SchedulerUnavailable),
        ("qdel.running-but-mom-down", SchedulerUnavailable),
    ],
)
def test_change_refused(case: str, error: type[HpcqError]) -> None:
    done = recorded(case)
    assert ERRORS.kind_of(done) is not ErrorKind.WRONG_STATE
    with pytest.raises(error) as caught:
        ERRORS.check(done, _JOB)
    assert type(caught.value) is error


@pytest.mark.parametrize("case", ["qdel.finished", "qdel.exiting", "qdel.array-finished"])
def test_change_of_ended_job(case: str) -> None:
    assert ERRORS.kind_of(recorded(case)) is ErrorKind.WRONG_STATE


@pytest.mark.parametrize("case", ["qdel.queued", "qdel.running", "qhold.queued", "qrls.not-held"])
def test_change_without_output(case: str) -> None:
    ERRORS.check(recorded(case), _JOB)


@pytest.mark.parametrize("case", ["empty", "unknown", "finished-without-x", "two-ids-one-unknown"])
def test_qstat_no_jobs(case: str) -> None:
    check_qstat(recorded(f"qstat-f-json.{case}"))


@pytest.mark.parametrize("case", ["unknown", "finished-without-x", "two-ids-one-unknown"])
def test_qstat_dsv_no_jobs(case: str) -> None:
    check_qstat(recorded(f"qstat-f-dsv.{case}", "23.06.06"))


@pytest.mark.parametrize(
    ("case", "version"), [("qstat-f-json.server-down", "2026.04"), ("qstat.server-down", "2026.04")]
)
def test_qstat_server_down(case: str, version: str) -> None:
    with pytest.raises(SchedulerUnavailable):
        check_qstat(recorded(case, version))


def test_qstat_server_down_exit_status_0() -> None:
    away = recorded("qstat-f-json.server-down")
    with pytest.raises(SchedulerUnavailable):
        check_qstat(_done(away.stdout, away.stderr))


def test_qstat_bad_id() -> None:
    with pytest.raises(CommandFailed):
        check_qstat(recorded("qstat-f-json.bad-id"))


def test_qstat_missing_history_or_dsv() -> None:
    none = _done(b"", b"qstat: PBS is not configured to maintain job history\n", 36)
    assert lacks_history(none)
    assert lacks_dsv(_done(b"", b"qstat: invalid option -- 'F'\nusage:\n", 2))
    for case in ("empty", "unknown", "server-down"):
        assert not lacks_history(recorded(f"qstat-f-json.{case}"))
        assert not lacks_dsv(recorded(f"qstat-f-json.{case}"))


@pytest.mark.parametrize(
    ("exit_code", "said", "error"),
    [
        (159, "qsub: Unauthorized Request", NotAuthorized),
        (160, "qsub: Access from host not allowed, or unknown host", NotAuthorized),
        (174, "qsub: Access to queue is denied", NotAuthorized),
        (197, "qsub: Bad GID for job execution", NotAuthorized),
        (38, "qsub: would exceed complex's per-user limit of jobs in 'Q' state", QuotaExceeded),
        (198, "qsub: Maximum number of jobs already in queue", QuotaExceeded),
        (40, "qsub: attribute value out of range", InvalidSpec),
        (185, "qsub: No free connections", SchedulerUnavailable),
        (212, "qsub: Request not allowed: Server shutting down", SchedulerUnavailable),
        (
            1,
            "Connection refused\nqsub: cannot connect to server srv (errno=15010)",
            SchedulerUnavailable,
        ),
        (170, "qsub: Unknown queue", InvalidSpec),
        (188, "qsub: Job violates queue and/or server resource limits", InvalidSpec),
        (1, "qsub: Failed to recv data from background qsub", OutputParseError),
    ],
)
def test_qsub_error_table(exit_code: int, said: str, error: type[HpcqError]) -> None:
    with pytest.raises(error) as caught:
        parse_qsub(_done(b"", said.encode() + b"\n", exit_code))
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("exit_code", "said"),
    [
        (35, "qdel: Job has finished 7.srv"),
        (35, "qdel: Job 7.srv has finished"),
        (168, "qdel: Request invalid for state of job 7.srv"),
        (202, "qdel: Job already in exit state 7.srv"),
        (237, "qdel: Delete already in progress"),
        (55, "qdel: Request invalid for finished array subjob 7[1].srv"),
    ],
)
def test_wrong_state_error_table(exit_code: int, said: str) -> None:
    for code in (exit_code, 1):
        done = _done(b"", said.encode() + b"\n", code)
        assert ERRORS.kind_of(done) is ErrorKind.WRONG_STATE


@pytest.mark.parametrize(
    ("case", "field", "error"),
    [
        ("qalter.bad", "wall_time_limit_seconds", InvalidSpec),
        ("qalter.bad", "name", CommandFailed),
        ("qmove.to-unknown-queue", "queue", InvalidSpec),
        ("qalter.unknown", "name", JobNotFound),
        ("qalter.finished", "name", WrongState),
    ],
)
def test_alteration_refused(case: str, field: str, error: type[HpcqError]) -> None:
    with pytest.raises(error):
        ERRORS.check_alteration(recorded(case), _JOB, {field})


@pytest.mark.parametrize("case", ["qalter.held", "qmove.to-workq"])
def test_alteration_succeeded(case: str) -> None:
    ERRORS.check_alteration(recorded(case), _JOB, {"name", "queue"})
