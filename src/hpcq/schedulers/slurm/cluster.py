"""sinfo's answers as queues and nodes; pure."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from hpcq.schedulers.base import Node, Queue
from hpcq.schedulers.slurm import fields
from hpcq.schedulers.slurm.commands import FIELD

__all__ = ["parse_nodes", "parse_queues"]

_MEBIBYTE = 1 << 20
# sinfo(1), NODE STATE CODES: the states in which a node runs jobs or can.
_UP = frozenset(
    {"allocated", "completing", "idle", "mixed", "planned", "reserved", "blocked", "power_up"}
)
# Signs behind a state that take it back: not responding, powered off or about to be, rebooting.
_TAKEN_BACK = "*~%^@"


def parse_queues(stdout: bytes) -> Sequence[Queue]:
    """Return partitions from what `commands.build_queues` made sinfo print.

    A partition is a line: name, availability, CPUs, time limit. A line of another shape is
    nothing that could be shown and is left out.
    """
    return tuple(
        Queue(
            name=name,
            is_open=available == "up",
            native_state=available,
            slots_total=_cpus(cpus, 3),
            slots_used=_cpus(cpus, 0),
            # sinfo writes "infinite" for no limit.
            max_wall_time_seconds=fields.limit_seconds(limit),
        )
        for name, available, cpus, limit in _lines(stdout, 4)
    )


def parse_nodes(stdout: bytes) -> Sequence[Node]:
    """Return nodes from what `commands.build_nodes` made sinfo print.

    A node stands once for each of its partitions: name, state, CPUs, memory in MiB, partition.
    """
    nodes: dict[str, Node] = {}
    for name, state, cpus, memory, queue in _lines(stdout, 5):
        known = nodes.get(name)
        if known is not None:
            nodes[name] = replace(known, queues=(*known.queues, queue))
            continue
        mebibytes = fields.integer(memory.rstrip("+"))
        nodes[name] = Node(
            name=name,
            is_up=state.rstrip("$+-#") in _UP and not any(c in state for c in _TAKEN_BACK),
            native_state=state,
            slots_total=_cpus(cpus, 3),
            slots_used=_cpus(cpus, 0),
            memory_bytes=None if mebibytes is None else mebibytes * _MEBIBYTE,
            queues=(queue,),
        )
    return tuple(nodes.values())


def _lines(stdout: bytes, columns: int) -> Iterator[list[str]]:
    for line in fields.decode(stdout).splitlines():
        values = [value.strip() for value in line.split(FIELD)]
        if len(values) == columns:
            yield values


def _cpus(text: str, position: int) -> int | None:
    """Read ``allocated/idle/other/total``."""
    counts = text.split("/")
    return fields.integer(counts[position]) if len(counts) == 4 else None
