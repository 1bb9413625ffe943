"""Queues and hosts: ``qstat -Q -f``, and ``pbsnodes -x`` or its text."""

import re
from collections.abc import Mapping

from hpcq.domain.errors import OutputParseError
from hpcq.schedulers.base import Node, Queue
from hpcq.schedulers.pbs_family.text import parse_text_records
from hpcq.schedulers.pbs_family.values import parse_duration, parse_pbs_size, parse_whole
from hpcq.schedulers.torque.parse import xml_attributes

__all__ = ["parse_pbsnodes", "parse_queues"]

_NODE = re.compile(rb"<Node>(.*?)</Node>", re.DOTALL)
_SLOT_RANGE = re.compile(r"\s*([0-9]{1,9})(?:-([0-9]{1,9}))?(?:/.*)?", re.DOTALL)
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


def parse_pbsnodes(output: bytes) -> list[Node]:
    """Return the hosts of ``pbsnodes -x``, or of ``pbsnodes``.

    Raises:
        OutputParseError: it is no list of hosts.
    """
    if b"<Data>" in output:
        return [_xml_node(content) for content in _NODE.findall(output)]
    records = [(record.name, record.attributes) for record in parse_text_records(output, b"")]
    nodes = [_node(name, found) for name, found in records if "state" in found]
    if output.strip() and not nodes:
        raise OutputParseError("pbsnodes", "there is no host in it", output)
    return nodes


def _xml_node(content: bytes) -> Node:
    try:
        found = xml_attributes(content)
    except ValueError as error:
        raise OutputParseError("pbsnodes", str(error), content) from error
    return _node(found.get("name", ""), found)


def _node(name: str, found: Mapping[str, str]) -> Node:
    state = found.get("state", "")
    status = dict(pair.partition("=")[::2] for pair in found.get("status", "").split(","))
    return Node(
        name=name,
        is_up=not _OUT_OF_USE.intersection(re.split(r"[, ]+", state)),
        native_state=state or None,
        slots_total=parse_whole(found.get("np")),
        slots_used=_slots_used(found.get("jobs", "")),
        memory_bytes=_bytes(status.get("physmem")),
    )


def _slots_used(jobs: str) -> int:
    """Count the slots in ``0-2/904.vm,5,7/905.vm``."""
    matches = filter(None, map(_SLOT_RANGE.fullmatch, jobs.split(",")))
    return sum(
        max(int(last or first) - int(first) + 1, 0) for first, last in (m.groups() for m in matches)
    )


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
