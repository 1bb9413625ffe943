"""Queues and hosts: ``qstat -Q -f`` and ``pbsnodes -x``."""

import re

from hpcq.domain.errors import OutputParseError
from hpcq.schedulers.base import Node, Queue
from hpcq.schedulers.pbs_family.text import parse_text_records
from hpcq.schedulers.pbs_family.values import parse_duration, parse_pbs_size
from hpcq.schedulers.torque.parse import xml_attributes

__all__ = ["parse_pbsnodes_xml", "parse_queues"]

_NODE = re.compile(rb"<Node>(.*?)</Node>", re.DOTALL)
_SLOT_RANGES = re.compile(r"(?:^|,)\s*((?:[0-9]+(?:-[0-9]+)?,?)+)/")
_OUT_OF_USE = frozenset({"down", "offline", "unknown", "state-unknown"})


def parse_queues(output: bytes) -> list[Queue]:
    """Return the queues of ``qstat -Q -f``. One that is disabled or stopped is not open.

    Raises:
        OutputParseError: it is no list of queues.
    """
    records = parse_text_records(output, b"Queue: ")
    if output.strip() and not records:
        raise OutputParseError("qstat -Q", "there is no queue in it", output)
    queues = []
    for record in records:
        found = record.attributes
        enabled, started = found.get("enabled") == "True", found.get("started") == "True"
        states = [*([] if enabled else ["disabled"]), *([] if started else ["stopped"])]
        queues.append(
            Queue(
                name=record.name,
                is_open=enabled and started,
                native_state=" ".join(states) or None,
                max_wall_time_seconds=_seconds(found.get("resources_max.walltime")),
            )
        )
    return queues


def parse_pbsnodes_xml(output: bytes) -> list[Node]:
    """Return the hosts of ``pbsnodes -x``.

    Raises:
        OutputParseError: it is no list of hosts.
    """
    if output.strip() and b"<Data>" not in output:
        raise OutputParseError("pbsnodes", "there is no Data element in it", output)
    return [_node(content) for content in _NODE.findall(output)]


def _node(content: bytes) -> Node:
    try:
        found = xml_attributes(content)
    except ValueError as error:
        raise OutputParseError("pbsnodes", str(error), content) from error
    state = found.get("state", "")
    status = dict(pair.partition("=")[::2] for pair in found.get("status", "").split(","))
    slots = found.get("np", "")
    return Node(
        name=found.get("name", ""),
        is_up=not _OUT_OF_USE.intersection(re.split(r"[, ]+", state)),
        native_state=state or None,
        slots_total=int(slots) if slots.isdecimal() else None,
        slots_used=_slots_used(found.get("jobs", "")),
        memory_bytes=_bytes(status.get("physmem")),
    )


def _slots_used(jobs: str) -> int:
    """Count the slots in ``0-2/904.vm,5/905.vm``."""
    used = 0
    for ranges in _SLOT_RANGES.findall(jobs):
        for one in filter(None, ranges.split(",")):
            first, _, last = one.partition("-")
            used += int(last or first) - int(first) + 1
    return used


def _seconds(text: str | None) -> int | None:
    try:
        return None if text is None else int(parse_duration(text))
    except ValueError:
        return None


def _bytes(text: str | None) -> int | None:
    try:
        return None if text is None else parse_pbs_size(text)
    except ValueError:
        return None
