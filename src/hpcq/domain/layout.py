"""Places of a job's slots: how many nodes, how many slots on each, how many CPUs for each task."""

from dataclasses import dataclass

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import JobSpec

__all__ = ["Layout", "lay_out", "share_of_each_node"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A job's slots, spread evenly.

    Attributes:
        slots: all of them.
        nodes: the number of nodes; None where the scheduler chooses.
        cpus_per_task: the slots of each task.

    >>> Layout(slots=8, nodes=2, cpus_per_task=2).tasks_per_node
    2
    """

    slots: int
    nodes: int | None = None
    cpus_per_task: int = 1

    @property
    def slots_per_node(self) -> int | None:
        """The slots on each node; None where the scheduler chooses."""
        return None if self.nodes is None else self.slots // self.nodes

    @property
    def tasks(self) -> int:
        """The tasks on all nodes."""
        return self.slots // self.cpus_per_task

    @property
    def tasks_per_node(self) -> int | None:
        """The tasks on each node; None where the scheduler chooses."""
        return None if self.nodes is None else self.tasks // self.nodes


def lay_out(spec: JobSpec) -> Layout:
    """Return the places of a job's slots; ``reservedSlots`` is always their total.

    Raises:
        InvalidSpec: the numbers contradict each other; the field that has to change is named.
    """
    slots, nodes, per_node = spec.slots, spec.nodes, spec.slots_per_node
    cpus = spec.cpus_per_task or 1
    if nodes is not None and slots % nodes:
        raise InvalidSpec(
            f"reservedSlots counts the slots of the whole job, and {slots} of them cannot be spread"
            f" evenly over {nodes} nodes. Ask for a multiple of {nodes}.",
            field="nodes",
        )
    if per_node is not None:
        if slots % per_node:
            raise InvalidSpec(
                f"reservedSlots counts the slots of the whole job, and {slots} is no multiple of"
                f" slotsPerNode, {per_node}.",
                field="slotsPerNode",
            )
        if nodes is not None and nodes * per_node != slots:
            raise InvalidSpec(
                f"{nodes} nodes with {per_node} slots each are {nodes * per_node} slots, and"
                f" reservedSlots is {slots}. Leave one of them out, or let them agree.",
                field="slotsPerNode",
            )
        nodes = slots // per_node
    if (slots if nodes is None else slots // nodes) % cpus:
        where = f"{slots} slots" if nodes is None else f"the {slots // nodes} slots of a node"
        raise InvalidSpec(
            f"cpusPerTask is {cpus}, and {where} are no whole number of such tasks.",
            field="cpusPerTask",
        )
    return Layout(slots=slots, nodes=nodes, cpus_per_task=cpus)


def share_of_each_node(total: int, nodes: int, field: str) -> int:
    """Return the part of each node of something that all nodes get alike, such as GPUs.

    Raises:
        InvalidSpec: they cannot.
    """
    if total % nodes:
        raise InvalidSpec(
            f"{field} counts those of the whole job, and {total} cannot be spread evenly over"
            f" {nodes} nodes.",
            field=field,
        )
    return total // nodes
