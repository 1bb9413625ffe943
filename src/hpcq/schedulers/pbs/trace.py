"""How a job ended, by what ``tracejob`` finds in the server's logs.

It works on the server's host alone. For ordinary users it leaves the accounting out without a
word (recording tracejob.as-ordinary-user), but the server's own log has the exit status.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from hpcq.domain.jobs import NativeId, Observation, Usage
from hpcq.schedulers.pbs.states import end_of
from hpcq.schedulers.pbs_family.accounting import parse_attributes
from hpcq.schedulers.pbs_family.values import (
    parse_duration,
    parse_job_id,
    parse_pbs_size,
    read_figure,
)

__all__ = ["parse_tracejob"]

_HEADING = re.compile(r"Job: (\S+)")
_LINE = re.compile(r"([0-9]{2}/[0-9]{2}/[0-9]{4} [0-9:]{8})(?:\.[0-9]+)?  S    (.*)")
_EVENTS = {
    "queued": re.compile(
        r"Job Queued at request of \S+, owner = ([^@\s]+)\S*, job name = (\S+), queue = (\S+)$"
    ),
    "begun": re.compile(r"Job Run at request of "),
    "put back": re.compile(r"Job Rerun at request of |Job requeued"),
    "deleted": re.compile(r"Job to be deleted at request of (\S+)"),
    "hopeless": re.compile(
        r"Job deleted as result of dependency|Dependency request .* rejected"
        r"|\S+ Finished job did not satisfy dependency"
    ),
    "ended": re.compile(r"Exit_status=(-?[0-9]{1,6})(?: |$)"),
}
_SOURCE = "by the server's log"


def parse_tracejob(output: bytes, wanted: NativeId) -> Observation | None:
    """Return how a job ended; None where that is not told.

    Of a job that ran several times the last run counts.

    Args:
        output: what it printed; its times are the server's local ones, taken for this machine's.
        wanted: whose end is asked for.
    """
    heading = None
    told: dict[str, tuple[datetime, re.Match[str]]] = {}
    for line in output.decode("utf-8", "replace").split("\n"):
        heading = _HEADING.match(line) or heading
        found = _LINE.fullmatch(line)
        if found is None or heading is None or not _is_same(heading[1], wanted):
            continue
        for event, pattern in _EVENTS.items():
            match = pattern.match(found[2])
            if match is not None:
                told[event] = _moment(found[1]), match
    decisive = next((event for event in ("ended", "hopeless", "deleted") if event in told), None)
    if decisive is None or (decisive == "deleted" and "begun" in told):
        return None  # it waits or runs, or is being deleted
    at = told[decisive][0]
    if "put back" in told and told["put back"][0] >= at:
        return None
    return _observation(wanted, told, at)


def _observation(
    wanted: NativeId, told: dict[str, tuple[datetime, re.Match[str]]], at: datetime
) -> Observation:
    times = {event: moment for event, (moment, _) in told.items()}
    words = {event: match.groups() for event, (_, match) in told.items()}
    status = int(words["ended"][0]) if "ended" in words else None
    end = end_of(
        status,
        comment=f"x and terminated by {words['deleted'][0]}" if "deleted" in words else "",
        has_dependency="hopeless" in words,
        began="begun" in words,
    )
    owner, name, queue = words.get("queued", (None, None, None))
    task = parse_job_id(wanted)
    return Observation(
        native_id=wanted,
        state=end.state,
        native_state="F" if status is None else f"Exit_status={status}",
        state_reason=f"{end.reason}, {_SOURCE}" if end.reason else None,
        failure_kind=end.kind,
        exit_code=end.exit_code,
        exit_signal=end.exit_signal,
        owner=owner,
        name=name,
        queue=queue,
        submit_time=times.get("queued"),
        start_time=times.get("begun"),
        end_time=at,
        usage=_usage(parse_attributes(told["ended"][1].string), at) if "ended" in told else None,
        array_job_id=task.number if task.task else None,
        array_task_id=int(task.task) if task.task else None,
    )


def _usage(used: Mapping[str, str], at: datetime) -> Usage:
    return Usage(
        cpu_seconds=read_figure(parse_duration, used.get("resources_used.cput")),
        max_memory_bytes=read_figure(parse_pbs_size, used.get("resources_used.mem")),
        sampled_at=at,
    )


def _is_same(text: str, wanted: NativeId) -> bool:
    try:
        return parse_job_id(text).short == wanted
    except ValueError:
        return False


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%m/%d/%Y %H:%M:%S").astimezone(UTC)
