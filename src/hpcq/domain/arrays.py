"""Arrays: what the tasks of one say of the whole, and how some of them are named together."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import JobRecord, NativeId, Observation, Usage
from hpcq.domain.states import FailureKind, JobState

__all__ = [
    "MOST_TASKS_NAMED",
    "TASKS_PATTERN",
    "TASK_VARIABLE",
    "count_tasks",
    "is_whole_array",
    "ranges_of",
    "read_tasks",
    "summarize_array",
    "tasks_by_array",
]

TASK_VARIABLE = "HPCQ_ARRAY_TASK_ID"
"""The variable that tells a script the number of its task, on every scheduler with arrays."""

TASKS_PATTERN = r"^[0-9]{1,9}(-[0-9]{1,9})?(,[0-9]{1,9}(-[0-9]{1,9})?)*$"
"""The form of numbers of tasks in a request: ``3-7,9``."""
MOST_TASKS_NAMED = 10_000
"""So many tasks can be named in one request."""

_T = TypeVar("_T")
_Figure = TypeVar("_Figure", int, float)

_MOST_NAMED = 8


def read_tasks(text: str) -> Sequence[int]:
    """Return the numbers in ``3-7,9``, each once, in ascending order.

    Raises:
        ValueError: it is not of this form.
        InvalidSpec: a range is empty, or they are too many.

    >>> read_tasks("9,3-5,4")
    [3, 4, 5, 9]
    """
    if re.fullmatch(TASKS_PATTERN, text) is None:
        raise ValueError(f"not numbers of tasks: {text[:80]!r}")
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        some = range(int(first), int(last or first) + 1)
        if not some:
            raise InvalidSpec(
                f"The range {part} ends before it begins; write {last}-{first}.", field="tasks"
            )
        if len(numbers) + len(some) > MOST_TASKS_NAMED:
            raise InvalidSpec(
                f"One request names at most {MOST_TASKS_NAMED} tasks. Name fewer, or all by the"
                " array's id alone.",
                field="tasks",
            )
        numbers.update(some)
    return sorted(numbers)


def ranges_of(numbers: Iterable[int]) -> list[str]:
    """Return numbers of tasks as ranges.

    >>> ranges_of([9, 3, 4, 5])
    ['3-5', '9']
    """
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return [str(first) if first == last else f"{first}-{last}" for first, last in runs]


def is_whole_array(seen: Observation) -> bool:
    """Return whether an observation is about a whole array, not about one of its tasks."""
    named = seen.array_task_id is None and seen.array_job_id == seen.native_id
    return seen.is_array is True or named


def tasks_by_array(observations: Iterable[Observation]) -> dict[NativeId, list[Observation]]:
    """Return the observations of each array and its tasks, by its id; others are left out."""
    tasks: dict[NativeId, list[Observation]] = {}
    for seen in observations:
        if seen.array_job_id is not None:
            tasks.setdefault(NativeId(seen.array_job_id), []).append(seen)
    return tasks


def count_tasks(array: JobRecord, known: Mapping[JobState, int]) -> Mapping[JobState, int] | None:
    """Return how many tasks of an array are in each state; None where nothing is known of any.

    A task that no answer of the scheduler has named is in its array's state, if that is one of all
    tasks: waiting, ``DONE`` or cancelled. Else it is ``UNDETERMINED``.

    Args:
        array: the whole.
        known: how many of its tasks are known to be in each state.
    """
    counts = Counter(known)
    waiting = 0 if array.seen is None else array.seen.waiting_tasks or 0
    asked = None if array.spec is None else array.spec.array
    unknown = waiting if asked is None else max(0, len(asked.tasks) - counts.total())
    state, waiting = array.state, min(waiting, unknown)
    counts[state if state.is_queued else JobState.QUEUED] += waiting
    was_asked = array.cancel_requested_at is not None
    is_cancelled = was_asked or array.failure_kind is FailureKind.CANCELLED
    tells = state.is_queued or state is JobState.DONE
    tells |= state.is_final and (is_cancelled or not known)
    counts[state if tells else JobState.UNDETERMINED] += unknown - waiting
    return +counts or None


def summarize_array(native_id: NativeId, tasks: Sequence[Observation]) -> Observation:
    """Return one observation that stands for all tasks of an array.

    It runs from the start of its first task to the end of its last, is ``DONE`` when all tasks
    are, and ``FAILED`` when all are over and one failed: then it has the end of the first such.

    Args:
        native_id: the array's own id.
        tasks: all its tasks, at least one, those that are over too.

    >>> done = Observation(native_id=NativeId("9[1]"), state=JobState.DONE)
    >>> waits = Observation(native_id=NativeId("9[2]"), state=JobState.QUEUED)
    >>> summarize_array(NativeId("9"), [done, waits]).state
    <JobState.RUNNING: 'RUNNING'>
    """
    tasks = sorted(tasks, key=lambda task: task.array_task_id or 0)
    first = tasks[0]
    state = _state(tasks)
    failed = [task for task in tasks if task.state is JobState.FAILED]
    decisive = failed[0] if failed else first
    is_over = state.is_final
    return Observation(
        native_id=native_id,
        state=state,
        native_state=decisive.native_state,
        stage=_shared(task.stage for task in tasks if not task.state.is_final),
        native_reason=_shared(task.native_reason for task in tasks if task.state.is_queued),
        state_reason=_reason(tasks, failed)
        if is_over
        else _shared(task.state_reason for task in tasks if task.state.is_queued),
        reason_code=_shared(task.reason_code for task in tasks if task.state.is_queued),
        start_estimate=min(_known(task.start_estimate for task in tasks), default=None),
        failure_kind=decisive.failure_kind if is_over else None,
        exit_code=decisive.exit_code if is_over else None,
        exit_signal=decisive.exit_signal if is_over else None,
        name=first.name,
        owner=first.owner,
        queue=first.queue,
        account=first.account,
        submit_time=min(_known(task.submit_time for task in tasks), default=None),
        start_time=min(_known(task.start_time for task in tasks), default=None),
        end_time=max(_known(task.end_time for task in tasks), default=None) if is_over else None,
        working_directory=first.working_directory,
        script_file=first.script_file,
        args=first.args,
        slots=first.slots,
        hosts=_hosts(tasks),
        wall_time_limit_seconds=first.wall_time_limit_seconds,
        memory_limit_bytes=first.memory_limit_bytes,
        usage=_usage(tasks),
        depends_on=first.depends_on,
        submission_key=first.submission_key,
        is_array=True,
        waiting_tasks=_sum(task.waiting_tasks for task in tasks),
    )


def _state(tasks: Sequence[Observation]) -> JobState:
    states = {task.state for task in tasks}
    if all(state.is_final for state in states):
        return JobState.FAILED if JobState.FAILED in states else JobState.DONE
    if len(states) == 1:
        return states.pop()
    if JobState.UNDETERMINED in states and JobState.RUNNING not in states:
        return JobState.UNDETERMINED
    if all(state.is_queued for state in states):
        put_back = states & {JobState.REQUEUED, JobState.REQUEUED_HELD}
        return JobState.REQUEUED if put_back else JobState.QUEUED
    # It has begun, and is not over.
    return JobState.RUNNING


def _reason(tasks: Sequence[Observation], failed: Sequence[Observation]) -> str | None:
    if not failed:
        return None
    named = ", ".join(str(task.array_task_id) for task in failed[:_MOST_NAMED])
    more = ", …" if len(failed) > _MOST_NAMED else ""
    summary = f"{len(failed)} of {len(tasks)} tasks failed: {named}{more}."
    why = failed[0].state_reason
    return f"{summary} {failed[0].array_task_id}: {why}" if why else summary


def _shared(values: Iterable[_T]) -> _T | None:
    """Return the value that all of some tasks share; None when they differ or there is none."""
    different = set(values)
    return different.pop() if len(different) == 1 else None


def _known(times: Iterable[datetime | None]) -> list[datetime]:
    return [time for time in times if time is not None]


def _hosts(tasks: Sequence[Observation]) -> tuple[str, ...] | None:
    hosts = dict.fromkeys(host for task in tasks for host in task.hosts or ())
    return tuple(hosts) or None


def _usage(tasks: Sequence[Observation]) -> Usage | None:
    """Return the usage of all tasks together; None while that of an ended one is unknown."""
    if any(t.usage is None for t in tasks if t.state.is_final and t.start_time is not None):
        return None
    known = [task.usage for task in tasks if task.usage is not None]
    if not known:
        return None
    times = _known(usage.sampled_at for usage in known)
    return Usage(
        cpu_seconds=_sum(usage.cpu_seconds for usage in known),
        memory_byte_seconds=_sum(usage.memory_byte_seconds for usage in known),
        memory_bytes=_sum(usage.memory_bytes for usage in known),
        max_memory_bytes=max(
            (u.max_memory_bytes for u in known if u.max_memory_bytes is not None), default=None
        ),
        io_bytes=_sum(usage.io_bytes for usage in known),
        io_wait_seconds=_sum(usage.io_wait_seconds for usage in known),
        sampled_at=max(times) if len(times) == len(known) else None,
    )


def _sum(figures: Iterable[_Figure | None]) -> _Figure | None:
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None
