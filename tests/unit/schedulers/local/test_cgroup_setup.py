"""Finding and dividing the delegated group, on a directory that stands for the kernel's tree."""

import os
from pathlib import Path

import pytest

from hpcq.schedulers.local import cgroup_setup
from hpcq.schedulers.local.cgroup import CgroupNotFound, find_cgroup
from hpcq.schedulers.local.cgroup_setup import CgroupsUnusable, claim, release, remove_unused

HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / {point} rw,relatime shared:9 - cgroup2 cgroup2 rw
"""
CONTAINER = "41 31 0:38 /docker/8f {point} rw - cgroup2 cgroup rw,nsdelegate\n"


def process(tmp_path: Path, cgroup: str, mounts: str = HYBRID) -> Path:
    directory = tmp_path / "proc"
    directory.mkdir()
    (directory / "cgroup").write_text(cgroup)
    point = str(tmp_path / "c g").replace(" ", "\\040")
    (directory / "mountinfo").write_text(mounts.format(point=point))
    return directory


def group(tmp_path: Path, name: str, **files: str) -> Path:
    path = tmp_path / "c g" / name
    path.mkdir(parents=True)
    kernel = {"type": "domain", "procs": "", "controllers": "", "subtree_control": ""}
    for file, content in (kernel | files).items():
        (path / f"cgroup.{file}").write_text(content)
    return path


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a kernel can measure a process in a group."""
    monkeypatch.setattr(cgroup_setup, "_probe", lambda _: None)


@pytest.mark.parametrize(
    ("cgroup", "mounts", "below"),
    [
        ("4:memory:/elsewhere\n0::/a.slice/b c.service\n", HYBRID, "a.slice/b c.service"),
        ("0::/\n", HYBRID, ""),
        # A container that sees the host's names, with its own part mounted.
        ("0::/docker/8f/x\n", CONTAINER, "x"),
    ],
)
def test_find_cgroup_own(tmp_path: Path, cgroup: str, mounts: str, below: str) -> None:
    path = group(tmp_path, below)
    assert find_cgroup(process(tmp_path, cgroup, mounts)).path == path


@pytest.mark.parametrize(
    ("cgroup", "mounts", "word"),
    [
        ("4:memory:/\n1:name=systemd:/\n", HYBRID, "no cgroup v2"),
        ("0::/a\n", "31 23 0:28 / /x rw - tmpfs tmpfs rw\n", "not mounted"),
        ("0::/docker/other\n", CONTAINER, "not mounted"),
        ("0::/../outside\n", HYBRID, "not mounted"),
        ("0::/gone\n", HYBRID, "not mounted"),
    ],
)
def test_find_cgroup_not_visible(tmp_path: Path, cgroup: str, mounts: str, word: str) -> None:
    group(tmp_path, "")
    group(tmp_path, "outside")
    with pytest.raises(CgroupNotFound, match=word):
        find_cgroup(process(tmp_path, cgroup, mounts))


def test_claim_not_delegated(
    tmp_path: Path, measured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    path = group(tmp_path, "a.service")
    with pytest.raises(CgroupsUnusable, match="not delegated"):
        claim("hpcq-1", process(tmp_path, "0::/a.service\n"))
    assert not (path / "hpcq-1").exists()


def test_claim_not_writable(tmp_path: Path) -> None:
    path = group(tmp_path, "")
    (path / "hpcq-1").write_text("in the way")
    with pytest.raises(CgroupsUnusable, match="hpcq-1"):
        claim("hpcq-1", process(tmp_path, "0::/\n"))


def test_claim_without_controllers(tmp_path: Path) -> None:
    path = group(tmp_path, "")
    with pytest.raises(CgroupsUnusable):
        claim("hpcq-1", process(tmp_path, "0::/\n"))
    assert not (path / "hpcq-service").exists()


def test_claim_moves_service_only(tmp_path: Path, measured: None) -> None:
    top = group(tmp_path, "", controllers="cpu io memory", procs=f"{os.getpid()}\n")
    service = group(tmp_path, "hpcq-service")
    group(tmp_path, "hpcq-1")
    claimed = claim("hpcq-1", process(tmp_path, "0::/\n"))
    assert claimed.path == top / "hpcq-1"
    assert claimed.switched_on == ("memory", "io")
    assert (service / "cgroup.procs").read_text() == str(os.getpid())


def test_claim_with_other_processes(tmp_path: Path, measured: None) -> None:
    top = group(tmp_path, "", controllers="io memory", procs=f"1\n{os.getpid()}\n")
    group(tmp_path, "hpcq-1")
    claimed = claim("hpcq-1", process(tmp_path, "0::/\n"))
    assert (claimed.controllers, claimed.switched_on) == ((), ())
    assert not (top / "hpcq-service").exists()
    assert (top / "cgroup.subtree_control").read_text() == ""


def test_claim_root_cgroup(tmp_path: Path, measured: None) -> None:
    top = group(tmp_path, "", controllers="io memory")
    (top / "cgroup.type").unlink()
    group(tmp_path, "hpcq-1")
    assert claim("hpcq-1", process(tmp_path, "0::/\n")).switched_on == ()


def test_claim_controllers_already_on(tmp_path: Path, measured: None) -> None:
    group(tmp_path, "", controllers="cpu io memory", subtree_control="cpu memory")
    group(tmp_path, "hpcq-1")
    claimed = claim("hpcq-1", process(tmp_path, "0::/\n"))
    assert claimed.controllers == ("memory",)
    assert "memory" not in claimed.switched_on


def test_claim_second_start(tmp_path: Path, measured: None) -> None:
    top = group(tmp_path, "")
    group(tmp_path, "hpcq-service")
    group(tmp_path, "hpcq-1")
    assert claim("hpcq-1", process(tmp_path, "0::/hpcq-service\n")).path == top / "hpcq-1"


def test_release_switches_off_below_first(tmp_path: Path) -> None:
    top = group(tmp_path, "")
    base = group(tmp_path, "hpcq-1")
    release(base, ("memory",))
    assert (base / "cgroup.subtree_control").read_text() == "-memory"
    assert (top / "cgroup.subtree_control").read_text() == "-memory"
    release(tmp_path / "gone" / "hpcq-1", ("memory",))


def test_remove_unused_groups(tmp_path: Path) -> None:
    base = tmp_path / "hpcq-1"
    for name in ("1.1", "2.1/inner", "3.1"):
        (base / name).mkdir(parents=True)
    remove_unused(base, {"1.1"})
    assert os.listdir(base) == ["1.1"]
    remove_unused(tmp_path / "gone", ())
