"""Queues and hosts: ``qstat -g c -xml``, ``qconf -sq``, ``qhost -q -xml``."""

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from hpcq.domain.errors import OutputParseError
from hpcq.domain.units import parse_clock
from hpcq.schedulers.base import Node, Queue
from hpcq.schedulers.sge.states import memory_specifier

__all__ = ["parse_qhost_xml", "parse_queue_limits", "parse_queue_summary"]

_QUEUE_LINE = re.compile(r"^(qname|h_rt)\s+(\S+)", re.MULTILINE)


def parse_queue_summary(output: bytes, limits: dict[str, int]) -> list[Queue]:
    """Return the queues of ``qstat -g c -xml``.

    A queue is open unless all its slots are out of use, for a while (``temp_disabled``: load,
    calendar, subordination) or until someone acts (``manual_intervention``: disabled, suspended,
    unreachable, in error).

    Args:
        output: what the command printed.
        limits: the queues' longest wall times in seconds, from `parse_queue_limits`.

    Raises:
        OutputParseError: it is no such document.
    """
    queues = []
    for summary in _document("qstat -g c", output).iter("cluster_queue_summary"):
        name = (summary.findtext("name") or "").strip()
        total = _count(summary, "total")
        waiting, broken = _count(summary, "temp_disabled"), _count(summary, "manual_intervention")
        states = (f"temp_disabled={waiting}", f"manual_intervention={broken}")
        queues.append(
            Queue(
                name=name,
                is_open=waiting + broken < total,
                native_state=" ".join(s for s in states if not s.endswith("=0")) or None,
                slots_total=total,
                slots_used=_count(summary, "used"),
                max_wall_time_seconds=limits.get(name),
            )
        )
    return queues


def parse_queue_limits(output: bytes) -> dict[str, int]:
    """Return the ``h_rt`` in seconds of the queues that ``qconf -sq A,B`` printed.

    A queue without a limit is absent; limits of single hosts (``INFINITY,[node=1:0:0]``) are not
    regarded.
    """
    limits: dict[str, int] = {}
    name = ""
    for field, value in _QUEUE_LINE.findall(output.decode("utf-8", "replace")):
        if field == "qname":
            name = value
            continue
        try:
            limits[name] = int(parse_clock(value.partition(",")[0]))
        except ValueError:
            continue  # INFINITY
    return limits


def parse_qhost_xml(output: bytes) -> list[Node]:
    """Return the hosts of ``qhost -q -xml``.

    A host is up when it reports a load. Its slots are the sum over its queues, which may share
    the same processors.

    Raises:
        OutputParseError: it is no such document.
    """
    return [
        _node(host)
        for host in _document("qhost", output).iter("host")
        if host.get("name") != "global"
    ]


def _node(host: ElementTree.Element) -> Node:
    values = {value.get("name"): (value.text or "").strip() for value in host.iter("hostvalue")}
    queues = list(host.iter("queue"))
    states = [_queue_value(queue, "state_string") for queue in queues]
    return Node(
        name=host.get("name") or "",
        is_up=values.get("load_avg", "-") != "-",
        native_state=" ".join(dict.fromkeys(filter(None, states))) or None,
        slots_total=_sum(queues, "slots"),
        slots_used=_sum(queues, "slots_used"),
        memory_bytes=_memory(values.get("mem_total")),
        queues=tuple(queue.get("name") or "" for queue in queues),
    )


def _sum(queues: Sequence[ElementTree.Element], name: str) -> int | None:
    return sum(_whole("qhost", _queue_value(q, name)) for q in queues) if queues else None


def _queue_value(queue: ElementTree.Element, name: str) -> str:
    for value in queue.iter("queuevalue"):
        if value.get("name") == name:
            return (value.text or "").strip()
    return ""


def _memory(text: str | None) -> int | None:
    try:
        return int(memory_specifier(text or ""))
    except ValueError:
        return None


def _count(element: ElementTree.Element, name: str) -> int:
    return _whole("qstat -g c", (element.findtext(name) or "").strip())


def _whole(command: str, text: str) -> int:
    """Return a number of slots; 0 where none stands."""
    try:
        return int(text or 0)
    except ValueError as error:
        reason = "a number of slots is no whole number"
        raise OutputParseError(command, reason, text.encode()) from error


def _document(command: str, output: bytes) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(output.strip())  # noqa: S314 - entities are not expanded
    except ElementTree.ParseError as error:
        raise OutputParseError(command, f"it is not XML: {error}", output) from error
