"""Queues and hosts: the text of ``qstat -Q -f`` and ``pbsnodes -a``."""

import re
from collections.abc import Mapping

from hpcq.domain.errors import OutputParseError
from hpcq.schedulers.base import Node, Queue
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
    return [_queue(name, told) for name, told in _records("qstat -Q", output, b"Queue: ")]


def parse_nodes(output: bytes) -> list[Node]:
    """Return the hosts. What is absent among the assigned resources is 0.

    Raises:
        OutputParseError: it tells of no hosts.
    """
    return [_node(name, told) for name, told in _records("pbsnodes", output, b"")]


def _records(command: str, output: bytes, heading: bytes) -> list[tuple[str, Mapping[str, str]]]:
    records = [(r.name, r.attributes) for r in parse_text_records(output, heading)]
    told = [(name, attributes) for name, attributes in records if attributes]
    if not told:
        raise OutputParseError(command, "it tells of nothing", output)
    return told


def _queue(name: str, told: Mapping[str, str]) -> Queue:
    states = [
        word
        for word, key in (("disabled", "enabled"), ("stopped", "started"))
        if told.get(key) != "True"
    ]
    limit = read_figure(parse_duration, told.get("resources_max.walltime"))
    return Queue(
        name=name,
        is_open=not states,
        native_state=" ".join(states) or None,
        slots_used=parse_whole(told.get("resources_assigned.ncpus")),
        max_wall_time_seconds=None if limit is None else int(limit),
    )


def _node(name: str, told: Mapping[str, str]) -> Node:
    state = told.get("state", "")
    queue = told.get("queue")
    slots = parse_whole(told.get("resources_available.ncpus"))
    return Node(
        name=name,
        is_up=bool(state) and not _DOWN & set(re.split(r"[, ]+", state)),
        native_state=state or None,
        slots_total=slots,
        slots_used=None
        if slots is None
        else parse_whole(told.get("resources_assigned.ncpus")) or 0,
        memory_bytes=read_figure(parse_pbs_size, told.get("resources_available.mem")),
        queues=(queue,) if queue else (),
    )
