"""The meaning of refusals."""

import pytest
from tests.unit.schedulers.torque.recorded import cases, recorded

from hpcq.domain.errors import (
    CommandFailed,
    CommandMissing,
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
from hpcq.schedulers.torque.errors import check_completed, check_is_torque, parse_qsub

ANSWERS = {
    "qdel.unknown": JobNotFound,
    "qdel.unknown-full-id": JobNotFound,
    "qdel.after-keep-completed": JobNotFound,
    "qdel.array-without-brackets": JobNotFound,
    "qdel.malformed-id": JobNotFound,
    "qdel.complete": WrongState,
    "qdel.exiting": WrongState,
    "qdel.queued-again": WrongState,
    "qdel.not-owner": NotAuthorized,
    "qdel.purge-not-allowed": NotAuthorized,
    "qhold.system": NotAuthorized,
    "qrls.not-owner": NotAuthorized,
    "qdel.server-down": SchedulerUnavailable,
    "qdel.trqauthd-down": SchedulerUnavailable,
    "qdel.mom-hung": SchedulerUnavailable,
    "qstat.server-down": SchedulerUnavailable,
    "qstat.trqauthd-down": SchedulerUnavailable,
    "qstat.wrong-server-env": SchedulerUnavailable,
    "qstat-f.server-busy-3": SchedulerUnavailable,
    "qstat-f.server-busy-4": SchedulerUnavailable,
    "qstat-f.unknown": JobNotFound,
    "pbsnodes.server-down": SchedulerUnavailable,
    "qsub.unknown-queue": CommandFailed,
    "qsub.queue-disabled": CommandFailed,
    "qsub.bad-resource-name": CommandFailed,
    "qsub.nodes-2": CommandFailed,
    "qsub.crlf-script": CommandFailed,
    "qsub.acl-user": NotAuthorized,
    "qsub.root": NotAuthorized,
    "qsub.max-queuable": QuotaExceeded,
    "qsub.max-user-queuable": QuotaExceeded,
    "qsub.server-down": SchedulerUnavailable,
    "qsub.trqauthd-down": SchedulerUnavailable,
    "qsub.unknown-server": SchedulerUnavailable,
}


@pytest.mark.parametrize(("case", "error"), ANSWERS.items())
def test_check_completed_refusals(case: str, error: type[HpcqError]) -> None:
    with pytest.raises(HpcqError) as caught:
        check_completed(recorded(case), NativeId("1"))
    assert type(caught.value) is error


@pytest.mark.parametrize("case", ["qstat-f.server-busy-1", "qstat-f.server-busy-2", "qdel.queued"])
def test_check_completed_late_success(case: str) -> None:
    check_completed(recorded(case))


@pytest.mark.parametrize(
    "case", [name for name in cases("qsub.") if recorded(name).exit_code not in (0,)]
)
def test_qsub_every_refusal(case: str) -> None:
    with pytest.raises(HpcqError) as caught:
        parse_qsub(recorded(case))
    assert not isinstance(caught.value, OutputParseError)


@pytest.mark.parametrize(
    ("exit_code", "stderr"),
    [
        (1, b""),
        (1, b"filter: cannot reach the accounting\n"),
        (185, b"pbs_submit: Communication failure.\n"),
        (1, b"Connection to server timed out, please try again\n"),
    ],
)
def test_qsub_uncertain(exit_code: int, stderr: bytes) -> None:
    done = Completed(argv=("qsub",), exit_code=exit_code, stdout=b"", stderr=stderr)
    with pytest.raises(OutputParseError):
        parse_qsub(done)


def test_qsub_job_and_array_ids() -> None:
    assert parse_qsub(recorded("qsub.ok")).short.isdigit()
    array = parse_qsub(recorded("qsub.array"))
    assert array.is_array
    assert array.short == array.number


def _said(stdout: bytes, exit_code: int = 0) -> Completed:
    return Completed(argv=("qsub",), exit_code=exit_code, stdout=stdout, stderr=b"")


@pytest.mark.parametrize(
    "stdout", [b"", b"all\n", b"Welcome\n45.vm\n", b"45.vm\n46.vm\n", b"Stampede3\n", b"\xff45"]
)
def test_qsub_invalid_id(stdout: bytes) -> None:
    with pytest.raises(OutputParseError):
        parse_qsub(_said(stdout))
    with pytest.raises(OutputParseError):
        parse_qsub(_said(b"45.vm\n", -9))


@pytest.mark.parametrize(
    ("exit_code", "said", "error"),
    [
        (153, "qdel: Unknown Job Id 7.srv", JobNotFound),
        (206, "qdel: unknown job id after clean init 7.srv", JobNotFound),
        (234, "qdel: Unknown Array ID 7[].srv", JobNotFound),
        (168, "qdel: Request invalid for state of job 7.srv", WrongState),
        (204, "qdel: Job already in exit state 7.srv", WrongState),
        (159, "qdel: Unauthorized Request  MSG=operation not permitted 7.srv", NotAuthorized),
        (177, "qsub: submit error (Bad UID for job execution MSG=ruserok failed)", NotAuthorized),
        (176, "qsub: submit error (Access to queue is denied)", NotAuthorized),
        (160, "qsub: submit error (trqauthd unable to authenticate)", SchedulerUnavailable),
        (1, "qsub: submit error (Pbs Server is currently too busy)", SchedulerUnavailable),
        (
            214,
            "qsub: submit error (Request not allowed: Server shutting down)",
            SchedulerUnavailable,
        ),
        (171, "qstat: cannot connect to server (null) (errno=15137)", SchedulerUnavailable),
        (248, "qstat: Unable to get connection to socket", SchedulerUnavailable),
        (200, "qsub: submit error (Maximum number of jobs already in queue)", QuotaExceeded),
        (190, "qsub: Job exceeds queue resource limits MSG=cannot locate nodes", CommandFailed),
        (191, "qsub: submit error (No default queue specified)", CommandFailed),
        (224, "qdel: Server could not connect to MOM 7.srv", SchedulerUnavailable),
        (211, "qdel: MOM does not answer 7.srv", SchedulerUnavailable),
        (195, "qsub: submit error (Execution server rejected request)", SchedulerUnavailable),
        (1, "qstat: Error communicating with pbs_mom on n1", SchedulerUnavailable),
    ],
)
def test_check_completed_error_table(exit_code: int, said: str, error: type[HpcqError]) -> None:
    done = Completed(argv=("x",), exit_code=exit_code, stdout=b"", stderr=said.encode() + b"\n")
    with pytest.raises(error) as caught:
        check_completed(done, NativeId("7"))
    assert type(caught.value) is error


FIELDS = {
    "qsub.unknown-queue": "queue",
    "qsub.queue-disabled": "queue",
    "qsub.bad-resource-name": "scriptFile",
    "qsub.W-bad": "scriptFile",
    "qsub.res-L": "scriptFile",
    "qsub.bad-mem": "memoryLimit",
    "qsub.bad-walltime": "wallTimeLimit",
    "qsub.mem-over-queue-max": "memoryLimit",
    "qsub.walltime-over-queue-max": "wallTimeLimit",
    "qsub.walltime-under-queue-min": "wallTimeLimit",
    "qsub.ncpus-over-queue-max": "reservedSlots",
    "qsub.nodect-over-queue-max": "reservedSlots",
    "qsub.nodes-2": "reservedSlots",
    "qsub.nodes-negative": "reservedSlots",
    "qsub.ppn-9": "reservedSlots",
    "qsub.bad-priority": "priority",
    "qsub.array-bad": "array",
    "qsub.depend-unknown": "dependsOn",
    "qsub.depend-malformed": "dependsOn",
    "qsub.depend-bad-type": "dependsOn",
}


@pytest.mark.parametrize(("case", "field"), FIELDS.items())
def test_qsub_refusal_names_field(case: str, field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_qsub(recorded(case))
    assert caught.value.field == field
    words = recorded(case).stderr.decode().strip().splitlines()[0]
    assert words in caught.value.detail
    assert "usage:" not in caught.value.detail
    assert "-A account_string" not in caught.value.detail


@pytest.mark.parametrize(
    ("exit_code", "said", "field"),
    [
        (203, "qsub: submit error (Invalid Account MSG=no such project)", "account"),
        (203, "qsub: submit error (no)", "account"),
        (193, "qsub: submit error (Route rejected by all possible destinations)", "queue"),
        (191, "qsub: submit error (No default queue specified)", "queue"),
    ],
)
def test_qsub_unrecorded_refusal_names_field(exit_code: int, said: str, field: str) -> None:
    done = Completed(argv=("qsub",), exit_code=exit_code, stdout=b"", stderr=said.encode())
    with pytest.raises(InvalidSpec) as caught:
        parse_qsub(done)
    assert caught.value.field == field


def test_qsub_unknown_refusal_without_usage() -> None:
    with pytest.raises(CommandFailed) as caught:
        parse_qsub(recorded("qsub.script-name-space"))
    assert type(caught.value) is CommandFailed
    assert "cannot form a valid job name" in caught.value.detail
    assert "usage:" not in caught.value.detail


@pytest.mark.parametrize(
    ("stdout", "stderr"),
    [
        (b"pbs_version = 23.06.06\n", b""),
        (b"", b'error: ERROR! invalid option argument "--version"\nSGE 8.1.9\nusage: qstat\n'),
        (b"OGS/GE 2011.11p1\nusage: qstat [options]\n", b""),
        (b"", b"GE 6.2u5\nusage: qstat\n"),
    ],
)
def test_check_is_torque_other_scheduler(stdout: bytes, stderr: bytes) -> None:
    done = Completed(argv=("qstat",), exit_code=0, stdout=stdout, stderr=stderr)
    with pytest.raises(CommandMissing, match="/opt/pbs/bin/qstat is not Torque's") as caught:
        check_is_torque("/opt/pbs/bin/qstat", done)
    assert "SCHEDULER_PATH" in caught.value.detail


@pytest.mark.parametrize("said", [b"Version: 6.1.3.h5\n", b"version: 4.2.10\n", b"", b"site v2\n"])
def test_check_is_torque_accepted(said: bytes) -> None:
    check_is_torque("qstat", Completed(argv=("qstat",), exit_code=0, stdout=said, stderr=b""))
