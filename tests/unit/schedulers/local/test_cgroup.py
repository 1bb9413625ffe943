"""Groups as files in a directory, with the content that a kernel with all controllers gives."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcq.schedulers.local.cgroup import JobCgroup, flat_keyed, nested_total
from hpcq.schedulers.local.usage_meter import UsageMeter

MIB = 1 << 20

CPU_STAT = "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnice_usec 0\n"
IO_STAT = (
    "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n"
    "8:0 rbytes=800 wbytes=0 rios=1 wios=0 dbytes=9 dios=1\n"
    "254:0 \n"
)
IO_BYTES = 1459200 + 314773504 + 800


def memory(current: int, *, file: int = 0, shmem: int = 0, peak: int = 0) -> dict[str, str]:
    return {
        "memory.current": f"{current}\n",
        "memory.peak": f"{peak or current}\n",
        "memory.stat": f"anon {current - file}\nfile {file}\nkernel 0\nshmem {shmem}\n",
        "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n",
        "memory.max": "max\n",
        "memory.swap.max": "max\n",
        "memory.oom.group": "0\n",
    }


def group(path: Path, *parts: dict[str, str]) -> Path:
    path.mkdir(exist_ok=True)
    for name, content in {"cpu.stat": CPU_STAT, "cgroup.procs": ""}.items():
        (path / name).write_text(content)
    for part in parts:
        for name, content in part.items():
            (path / name).write_text(content)
    return path


def leaf(path: Path, limit_bytes: float | None = None) -> JobCgroup:
    made = JobCgroup.make(path, limit_bytes)
    assert made is not None
    return made


def test_cgroup_without_controllers(tmp_path: Path) -> None:
    job = leaf(group(tmp_path / "1.1"), 100 * MIB)
    assert job.usage() == (2.5, None, None, None)
    assert not job.limits_memory
    assert job.out_of_memory() is None
    assert leaf(tmp_path / "empty").usage() == (None, None, None, None)


def test_cgroup_not_creatable(tmp_path: Path) -> None:
    assert JobCgroup.make(tmp_path / "no" / "such", None) is None


def test_usage_page_cache_and_shared_memory(tmp_path: Path) -> None:
    path = group(tmp_path, memory(900 * MIB, file=800 * MIB, shmem=50 * MIB, peak=1000 * MIB))
    seen = leaf(path).usage()
    assert seen.memory_bytes == 150 * MIB
    assert seen.max_memory_bytes == 250 * MIB


def test_usage_peak_memory(tmp_path: Path) -> None:
    path = group(tmp_path, memory(300 * MIB))
    job = leaf(path)
    assert job.usage().max_memory_bytes == 300 * MIB
    # Between two samples it was higher, which only the kernel saw.
    group(path, memory(10 * MIB, peak=500 * MIB))
    assert job.usage() == (2.5, 10 * MIB, 500 * MIB, None)
    # Before Linux 5.19.
    (path / "memory.peak").unlink()
    assert job.usage().max_memory_bytes == 300 * MIB


def test_memory_limit_of_group(tmp_path: Path) -> None:
    path = group(tmp_path, memory(0))
    job = leaf(path, 100.0 * MIB)
    assert job.limits_memory
    written = {name: (path / f"memory.{name}").read_text().strip() for name in ("max", "oom.group")}
    assert written == {"max": str(100 * MIB), "oom.group": "1"}
    assert (path / "memory.swap.max").read_text().startswith("0")


@pytest.mark.parametrize(
    ("limit", "events", "words"),
    [
        (100, "oom 0\noom_kill 0\n", None),
        # The limit was hit, and something could be reclaimed after all.
        (100, "oom 3\noom_kill 0\n", None),
        (100, "oom 1\noom_kill 4\noom_group_kill 1\n", "limit of 100 bytes"),
        (100, "oom 0\noom_kill 1\n", "machine ran out"),
        (None, "oom 0\noom_kill 1\n", "machine ran out"),
    ],
)
def test_out_of_memory_reason(
    tmp_path: Path, limit: float | None, events: str, words: str | None
) -> None:
    path = group(tmp_path, memory(0))
    job = leaf(path, limit)
    (path / "memory.events").write_text(events)
    reason = job.out_of_memory()
    assert (words is None and reason is None) or (words or "") in (reason or "")
    assert (reason is None) == (words is None)


def test_usage_controller_switched_off(tmp_path: Path) -> None:
    path = group(tmp_path, memory(300 * MIB))
    job = leaf(path, 400 * MIB)
    meter = UsageMeter(job)
    assert meter.sample([])["memory_bytes"] == 300 * MIB
    (path / "memory.current").write_text("")
    assert not meter.sample([])["memory_bytes"]
    assert not job.limits_memory
    (path / "memory.current").write_text("5\n")
    assert job.usage().memory_bytes is None
    assert meter.final()["max_memory_bytes"] >= 300 * MIB


def test_usage_figures_per_controller(tmp_path: Path) -> None:
    job = leaf(group(tmp_path, memory(300 * MIB), {"io.stat": IO_STAT}))
    meter = UsageMeter(job)
    during, final = meter.sample([]), meter.final()
    for seen in (during, final):
        assert seen["cpu_seconds"] == 2.5
        assert seen["max_memory_bytes"] == 300 * MIB
        assert seen["memory_byte_seconds"] == 2.5 * 300 * MIB
        assert seen["io_bytes"] >= IO_BYTES
    assert (during["memory_bytes"], final["memory_bytes"]) == (300 * MIB, 0.0)


def test_members_visible_pids(tmp_path: Path) -> None:
    job = leaf(group(tmp_path, {"cgroup.procs": "12\n0\n345\n"}))
    assert job.members() == [12, 345]


def test_remove_nested_groups(tmp_path: Path) -> None:
    job = leaf(tmp_path / "1.1")
    (tmp_path / "1.1" / "a" / "b").mkdir(parents=True)
    job.remove()
    assert os.listdir(tmp_path) == []
    job.remove()


def test_io_stat_all_devices() -> None:
    assert nested_total(IO_STAT, ("rbytes", "wbytes")) == IO_BYTES
    assert nested_total("", ("rbytes",)) == 0


@given(st.text())
def test_readers_any_text(text: str) -> None:
    assert all(isinstance(value, int) for value in flat_keyed(text).values())
    assert nested_total(text, ("rbytes", "wbytes")) >= 0
