"""Commands of Grid Engine for jobs in its queue: qdel(1), qhold(1), qrls(1), qmod(1), qalter(1)."""

from collections.abc import Iterable, Mapping, Set

from hpcq.domain.actions import Action
from hpcq.domain.jobs import JobSpec, NativeId
from hpcq.schedulers.sge.names import acceptable_name, job_number
from hpcq.schedulers.sge.resources import LIMITS, check_name, join_resources, limits_of

__all__ = ["ACTIONS", "build_change", "build_qalter", "build_qdel_tasks"]

ACTIONS: Mapping[Action, tuple[str, ...]] = {
    Action.HOLD: ("qhold",),
    Action.RELEASE: ("qrls",),
    Action.REQUEUE: ("qmod", "-rj"),
    Action.SUSPEND: ("qmod", "-sj"),
    Action.RESUME: ("qmod", "-usj"),
}
"""The commands of actions, without the job; Grid Engine has none that sends it a signal."""


def build_change(command: tuple[str, ...], native_id: NativeId) -> tuple[str, ...]:
    """Return ``qdel``, ``qhold`` and the like of one job or of one array task (``9[2]``).

    Raises:
        ValueError: the id is not one of Grid Engine's.
    """
    number = job_number(native_id)
    task = native_id.removeprefix(number)
    return (*command, f"{number}.{task[1:-1]}" if task else number)


def build_qdel_tasks(array: NativeId, words: Iterable[str]) -> tuple[str, ...]:
    """Return the ``qdel`` of some tasks of an array.

    Args:
        array: its number.
        words: the tasks: ``3-7``, ``9``.
    """
    return ("qdel", *(f"{array}.{word}" for word in words))


def build_qalter(spec: JobSpec, fields: Set[str], requests: Mapping[str, str]) -> tuple[str, ...]:
    """Return the ``qalter`` that changes a pending job, without the job; it makes all or none.

    Args:
        spec: the job as it is to be.
        fields: those of its fields that change.
        requests: the job's resources now; a new ``-l`` replaces them all.

    Raises:
        InvalidSpec: a value that Grid Engine would read as something else.
    """
    argv = ["qalter"]
    if "name" in fields:
        argv += ["-N", acceptable_name(spec.name)]
    if "queue" in fields and spec.queue is not None:
        argv += ["-q", check_name(spec.queue, "queue")]
    if "account" in fields and spec.account is not None:
        argv += ["-P", check_name(spec.account, "account")]
    if "priority" in fields:
        argv += ["-p", str(spec.priority or 0)]
    replaced = {LIMITS[field] for field in fields & LIMITS.keys()}
    if replaced:
        kept = {name: value for name, value in requests.items() if name not in replaced}
        limits = {name: value for name, value in limits_of(spec).items() if name in replaced}
        argv += ["-l", join_resources(kept | limits)]
    return tuple(argv)
