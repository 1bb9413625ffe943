import pytest

from hpcq.domain.states import FailureKind, JobState, ReasonCode, Stage
from hpcq.schedulers.slurm.states import STATES, Reason, meaning_of, outcome_of, reason_of

# squeue(1) and sacct(1), JOB STATE CODES, 22.05.
DOCUMENTED = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "CONFIGURING",
    "COMPLETING",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PENDING",
    "PREEMPTED",
    "RUNNING",
    "RESV_DEL_HOLD",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "REQUEUED",
    "RESIZING",
    "REVOKED",
    "SIGNALING",
    "SPECIAL_EXIT",
    "STAGE_OUT",
    "STOPPED",
    "SUSPENDED",
    "TIMEOUT",
)


@pytest.mark.parametrize("word", DOCUMENTED)
def test_states_all_documented(word: str) -> None:
    assert word in STATES


@pytest.mark.parametrize("word", STATES)
def test_states_failure_kind_and_reason(word: str) -> None:
    meaning = STATES[word]
    if meaning.state is JobState.FAILED and word != "FAILED":
        assert meaning.failure_kind is not None
        assert meaning.reason
    else:
        assert meaning.failure_kind is None


@pytest.mark.parametrize(
    ("word", "reason", "state", "stage"),
    [
        ("PENDING", "Resources", JobState.QUEUED, None),
        ("PENDING", "JobHeldUser", JobState.QUEUED_HELD, None),
        ("PENDING", "JobHeldAdmin", JobState.QUEUED_HELD, None),
        ("PENDING", "(launch failed requeued held)", JobState.QUEUED_HELD, None),
        ("CONFIGURING", None, JobState.QUEUED, Stage.DISPATCHING),
        ("RUNNING", "JobHeldUser", JobState.RUNNING, None),
        ("COMPLETING", None, JobState.RUNNING, Stage.EXITING),
        ("SUSPENDED", None, JobState.SUSPENDED, None),
        ("REQUEUE_HOLD", None, JobState.REQUEUED_HELD, None),
        ("REVOKED", None, JobState.UNDETERMINED, None),
        ("", None, JobState.UNDETERMINED, None),
    ],
)
def test_meaning_of_state(
    word: str, reason: str | None, state: JobState, stage: Stage | None
) -> None:
    meaning = meaning_of(word, reason)
    assert (meaning.state, meaning.stage) == (state, stage)


@pytest.mark.parametrize(
    ("reason", "words", "code"),
    [
        (
            "Priority",
            "Jobs with a higher priority wait for the same partition (Priority)",
            ReasonCode.WAITING_FOR_PRIORITY,
        ),
        (
            "QOSMaxCpuPerUserLimit",
            "A limit of the account or quality of service is reached (QOSMaxCpuPerUserLimit)",
            ReasonCode.LIMIT_REACHED,
        ),
        (
            "AssocGrpMemMinutes",
            "A limit of the account or quality of service is reached (AssocGrpMemMinutes)",
            ReasonCode.LIMIT_REACHED,
        ),
        (
            "ReqNodeNotAvail, UnavailableNodes:n1",
            "A node it asks for is not available (ReqNodeNotAvail, UnavailableNodes:n1)",
            ReasonCode.NODES_UNAVAILABLE,
        ),
        ("Something new", "Something new", None),
    ],
)
def test_reason_of_words_and_code(reason: str, words: str, code: ReasonCode | None) -> None:
    assert reason_of(reason) == Reason(words, code)


@pytest.mark.parametrize("reason", [None, "None", ""])
def test_reason_of_none(reason: str | None) -> None:
    assert reason_of(reason) is None


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("Resources", ReasonCode.WAITING_FOR_RESOURCES),
        ("Dependency", ReasonCode.WAITING_FOR_DEPENDENCY),
        ("DependencyNeverSatisfied", ReasonCode.DEPENDENCY_NEVER_SATISFIED),
        ("JobHeldUser", ReasonCode.HELD_BY_USER),
        ("JobHeldAdmin", ReasonCode.HELD_BY_OPERATOR),
        ("launch failed requeued held", ReasonCode.HELD_BY_SYSTEM),
        ("BeginTime", ReasonCode.NOT_BEFORE_TIME),
        ("PartitionDown", ReasonCode.QUEUE_CLOSED),
        ("PartitionTimeLimit", ReasonCode.CANNOT_RUN),
        ("WaitingForScheduling", None),
    ],
)
def test_reason_of_code(reason: str, code: ReasonCode | None) -> None:
    told = reason_of(reason)
    assert told is not None
    assert told.code is code


@pytest.mark.parametrize(
    ("state", "code", "signal", "kind", "exit_code", "exit_signal"),
    [
        ("COMPLETED", 0, 0, None, 0, None),
        ("FAILED", 7, 0, FailureKind.NON_ZERO_EXIT, 7, None),
        ("FAILED", 0, 15, FailureKind.SIGNAL, None, 15),
        ("FAILED", 0, 53, FailureKind.SCHEDULER_ERROR, None, None),
        ("FAILED", 0, 0, FailureKind.UNKNOWN, None, None),
        # With cgroups: 125 is Slurm's mark and no signal.
        ("OUT_OF_MEMORY", 0, 125, FailureKind.OUT_OF_MEMORY, None, None),
        ("OUT_OF_MEMORY", 0, 0, FailureKind.OUT_OF_MEMORY, None, None),
        ("TIMEOUT", 0, 0, FailureKind.TIME_LIMIT, None, None),
        ("TIMEOUT", 0, 1, FailureKind.TIME_LIMIT, None, 1),
        ("PREEMPTED", 0, 0, FailureKind.CANCELLED, None, None),
        ("NODE_FAIL", 0, 0, FailureKind.NODE_FAILURE, None, None),
    ],
)
def test_outcome_of_exit_status(
    state: str,
    code: int,
    signal: int,
    kind: FailureKind | None,
    exit_code: int | None,
    exit_signal: int | None,
) -> None:
    outcome = outcome_of(state, code, signal)
    assert outcome.failure_kind is kind
    assert (outcome.exit_code, outcome.exit_signal) == (exit_code, exit_signal)
    assert (outcome.reason is None) == (kind is None)
