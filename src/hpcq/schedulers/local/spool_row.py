"""A job as the spool holds it: its row, and what was asked for as JSON."""

import functools
import json
from dataclasses import asdict, dataclass, fields

from hpcq.domain.jobs import (
    ArrayRange,
    Dependency,
    DependencyCondition,
    JobSpec,
    JobUid,
    NativeId,
    Outputs,
)
from hpcq.domain.states import JobState
from hpcq.schedulers.local.files import Result

__all__ = ["Phase", "SpoolRow", "end_of", "spec_from_json", "spec_to_json"]


class Phase:
    """The states of a job in the spool."""

    HELD = "held"
    QUEUED = "queued"
    DISPATCHED = "dispatched"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class SpoolRow:
    """One job as the spool holds it; ``spec``, ``result`` and ``started`` are JSON.

    A task has the ``key`` and the ``spec`` of its array, ``array`` is the number of that.
    ``started`` is the shepherd of the last attempt, a `ShepherdStart`; ``request`` is the `Action`
    that was last requested of the job while it ran. The job of a row that is not dispatched does
    not run; it may have run, and been requeued.
    """

    id: int
    key: str
    phase: str
    attempt: int
    boot_id: str | None
    submitted: float
    spec: str
    result: str | None
    started: str | None
    request: str | None
    array: int | None
    task: int | None


def end_of(result: Result) -> JobState:
    """Return the state of a finished job."""
    return JobState.DONE if result["failure_kind"] is None else JobState.FAILED


def spec_to_json(spec: JobSpec) -> str:
    """Return a spec as JSON; bytes that are not UTF-8 stay as they are."""
    content = {field.name: getattr(spec, field.name) for field in fields(spec)}
    outputs = None if spec.outputs is None else asdict(spec.outputs)
    content["environment"] = dict(spec.environment)
    content["depends_on"] = [asdict(dependency) for dependency in spec.depends_on]
    content["array"] = None if spec.array is None else asdict(spec.array)
    # The script stands beside it.
    return json.dumps({**content, "outputs": outputs, "script": None})


@functools.lru_cache(maxsize=16)
def spec_from_json(text: str) -> JobSpec:
    """Return the spec that `spec_to_json` wrote; the same one for all tasks of an array."""
    content = json.loads(text)
    # The rows of earlier releases lack what these did not know.
    content["args"] = tuple(content["args"])
    content["depends_on"] = tuple(
        Dependency(
            native_id=NativeId(one["native_id"]),
            uid=JobUid(one["uid"]),
            condition=DependencyCondition(one["condition"]),
        )
        for one in content.get("depends_on") or ()
    )
    if content.get("array") is not None:
        content["array"] = ArrayRange(**content["array"])
    # LOCAL knows neither features of nodes nor options, and sends no mails.
    content["constraints"] = content["mail_on"] = content["options"] = ()
    if content.get("outputs") is not None:
        content["outputs"] = Outputs(**content["outputs"])
    return JobSpec(**content)
