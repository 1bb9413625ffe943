"""The number of CPUs that the service may use, on directories that stand for the kernel's."""

import os
from pathlib import Path

import pytest

from hpcq.schedulers.local.settings import count_usable_cpus

MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 {root} {base}/cpu,cpuacct rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / {base}/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 {root} {base}/unified rw,relatime - cgroup2 cgroup2 rw
"""


def process(
    tmp_path: Path, files: dict[str, str], *, name: str = "/a.slice/b.service", root: str = "/"
) -> Path:
    """Make the directory of a process in ``/proc``, and the groups it stands in."""
    base = tmp_path / "cgroup"
    for tree in ("cpu,cpuacct", "unified"):
        (base / tree / os.path.relpath(name, root)).mkdir(parents=True)
    for file, content in files.items():
        (base / file).write_text(content)
    directory = tmp_path / "proc"
    directory.mkdir()
    (directory / "cgroup").write_text(f"5:memory:/\n4:cpu,cpuacct:{name}\n0::{name}\n")
    (directory / "mountinfo").write_text(MOUNTS.format(base=base, root=root))
    return directory


@pytest.fixture(autouse=True)
def sixteen_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, 16),
        ({"unified/a.slice/b.service/cpu.max": "max 100000\n"}, 16),
        ({"unified/a.slice/b.service/cpu.max": "400000 100000\n"}, 4),
        ({"unified/a.slice/b.service/cpu.max": "250000 100000\n"}, 2),
        ({"unified/a.slice/b.service/cpu.max": "50000 100000\n"}, 1),
        ({"unified/a.slice/b.service/cpu.max": "6400000 100000\n"}, 16),
        (
            {
                "unified/a.slice/b.service/cpu.max": "max 100000\n",
                "unified/a.slice/cpu.max": "30000 10000\n",
            },
            3,
        ),
        (
            {
                "cpu,cpuacct/a.slice/b.service/cpu.cfs_quota_us": "-1\n",
                "cpu,cpuacct/a.slice/b.service/cpu.cfs_period_us": "100000\n",
            },
            16,
        ),
        (
            {
                "cpu,cpuacct/a.slice/cpu.cfs_quota_us": "600000\n",
                "cpu,cpuacct/a.slice/cpu.cfs_period_us": "100000\n",
            },
            6,
        ),
        ({"unified/a.slice/b.service/cpu.max": "garbage\n"}, 16),
    ],
    ids=[
        "no-quota-file",
        "v2-max",
        "v2-quota",
        "v2-part-of-a-cpu",
        "v2-less-than-one",
        "v2-more-than-there-are",
        "v2-quota-of-a-parent",
        "v1-none",
        "v1-quota-of-a-parent",
        "unreadable",
    ],
)
def test_usable_cpus_quota(tmp_path: Path, files: dict[str, str], cpus: int) -> None:
    assert count_usable_cpus(process(tmp_path, files)) == cpus


def test_usable_cpus_quota_in_container(tmp_path: Path) -> None:
    files = {"unified/cpu.max": "200000 100000\n"}
    inside = process(tmp_path, files, name="/docker/8f", root="/docker/8f")
    assert count_usable_cpus(inside) == 2


def test_usable_cpus_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5})
    assert count_usable_cpus(process(tmp_path, {})) == 3


def test_usable_cpus_without_control_groups(tmp_path: Path) -> None:
    assert count_usable_cpus(tmp_path / "no-proc") == 16
