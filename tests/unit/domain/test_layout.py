from dataclasses import replace

import pytest

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import JobSpec
from hpcq.domain.layout import lay_out, share_of_each_node

JOB = JobSpec(name="study", working_directory="/srv", script_file="/srv/run.sh", slots=12)


@pytest.mark.parametrize(
    ("fields", "nodes", "slots_per_node", "tasks", "tasks_per_node"),
    [
        ({}, None, None, 12, None),
        ({"nodes": 3}, 3, 4, 12, 4),
        ({"slots_per_node": 6}, 2, 6, 12, 6),
        ({"nodes": 2, "slots_per_node": 6}, 2, 6, 12, 6),
        ({"cpus_per_task": 4}, None, None, 3, None),
        ({"nodes": 3, "cpus_per_task": 2}, 3, 4, 6, 2),
        ({"nodes": 1, "slots_per_node": 12, "cpus_per_task": 12}, 1, 12, 1, 1),
    ],
)
def test_layout_slots_evenly(
    fields: dict[str, int],
    nodes: int | None,
    slots_per_node: int | None,
    tasks: int,
    tasks_per_node: int | None,
) -> None:
    layout = lay_out(replace(JOB, **fields))  # type: ignore[arg-type]
    assert (layout.slots, layout.nodes, layout.slots_per_node) == (12, nodes, slots_per_node)
    assert (layout.tasks, layout.tasks_per_node) == (tasks, tasks_per_node)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"nodes": 5}, "nodes"),
        ({"nodes": 24}, "nodes"),
        ({"slots_per_node": 5}, "slotsPerNode"),
        ({"nodes": 3, "slots_per_node": 6}, "slotsPerNode"),
        ({"cpus_per_task": 5}, "cpusPerTask"),
        # Six tasks of two CPUs fit the job, and not its four nodes.
        ({"nodes": 4, "cpus_per_task": 2}, "cpusPerTask"),
    ],
)
def test_layout_contradiction_field(fields: dict[str, int], field: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        lay_out(replace(JOB, **fields))  # type: ignore[arg-type]
    assert refused.value.field == field


def test_layout_share_of_each_node() -> None:
    assert share_of_each_node(4, 2, "gpus") == 2
    with pytest.raises(InvalidSpec) as refused:
        share_of_each_node(3, 2, "gpus")
    assert refused.value.field == "gpus"
