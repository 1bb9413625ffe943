"""Queues and hosts: ``qstat -Q -f -F json``, ``pbsnodes -a -F json``, and both as text."""

import re
from collections.abc import Mapping

from hpcq.domain.errors import OutputParseError
from hpcq.schedulers.base import Node, Queue
from hpcq.schedulers.pbs.json import Attributes, document, member_attributes
from hpcq.schedulers.pbs.parse import nested
from hpcq.schedulers.pbs_family.text import parse_text_records
from hpcq.schedulers.pbs_family.values import (
    parse_duration,
    parse_pbs_size,
    parse_whole,
    read_figure,
)

__all__ = ["parse_nodes", "parse_queues"]

_DOWN = frozenset(
    {
        "down",
        "offline",
        "stale",
        "unresolvable",
        "provisioning",
        "wait-provisioning",
        "initializing",
        "sleep",
        "state-unknown",
        "maintenance",
        "unknown",
    }
)


def parse_queues(output: bytes) -> list[Queue]:
    """Return the queues; one that is enabled and started takes and starts jobs.

    Raises:
        OutputParseError: it tells of no queues.
    """
    return [_queue(name, told) for name, told in _members("qstat -Q", output, "Queue", b"Queue: ")]


def parse_nodes(output: bytes) -> list[Node]:
    """Return the hosts. What is absent among the assigned resources is 0 (a quirk of the writer).

    Raises:
        OutputParseError: it tells of no hosts.
    """
    return [_node(name, told) for name, told in _members("pbsnodes", output, "nodes", b"")]


def _members(
    command: str, output: bytes, section: str, heading: bytes
) -> list[tuple[str, Attributes]]:
    if not output.lstrip().startswith(b"{"):
        records = [(r.name, nested(r.attributes)) for r in parse_text_records(output, heading)]
        if records and any(told for _, told in records):
            return [(name, told) for name, told in records if told]
    found = []
    for member in document(command, output, section).members:
        try:
            found.append((member.name, member_attributes(member)))
        except ValueError as error:
            raise OutputParseError(command, f"{member.name}: {error}", member.text) from error
    return found


def _queue(name: str, told: Attributes) -> Queue:
    states = [
        word
        for word, key in (("disabled", "enabled"), ("stopped", "started"))
        if told.get(key) != "True"
    ]
    limit = read_figure(parse_duration, _group(told, "resources_max").get("walltime"))
    return Queue(
        name=name,
        is_open=not states,
        native_state=" ".join(states) or None,
        slots_used=parse_whole(_group(told, "resources_assigned").get("ncpus")),
        max_wall_time_seconds=None if limit is None else int(limit),
    )


def _node(name: str, told: Attributes) -> Node:
    state = told.get("state")
    words = state if isinstance(state, str) else ""
    available, assigned = _group(told, "resources_available"), _group(told, "resources_assigned")
    queue = told.get("queue")
    slots = parse_whole(available.get("ncpus"))
    return Node(
        name=name,
        is_up=bool(words) and not _DOWN & set(re.split(r"[, ]+", words)),
        native_state=words or None,
        slots_total=slots,
        slots_used=None if slots is None else parse_whole(assigned.get("ncpus")) or 0,
        memory_bytes=read_figure(parse_pbs_size, available.get("mem")),
        queues=(queue,) if isinstance(queue, str) else (),
    )


def _group(told: Attributes, name: str) -> Mapping[str, str]:
    value = told.get(name)
    return value if isinstance(value, dict) else {}
