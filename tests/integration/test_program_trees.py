"""``GET /programs`` of a service without root's powers, on trees as careless as sites' own."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpcq.schedulers.testing.service import Service


class Tree:
    """A site's folders below a root; what it is told to make is there whatever its mode was."""

    def __init__(self, root: Path) -> None:
        self.newave, self.decomp, self.dessem = (
            root / name for name in ("NEWAVE", "DECOMP", "dessem")
        )
        self.private = root / "private"
        for folder in (self.newave, self.dessem, self.private):
            folder.mkdir(parents=True)

    def version(self, name: str, *files: str, mode: int = 0o755) -> None:
        folder = self.newave / name
        folder.mkdir()
        for file in files:
            (folder / file).touch()
        folder.chmod(mode)

    def settings(self, rule: str) -> dict[str, str]:
        roots = {"NEWAVE": self.newave, "DECOMP": self.decomp, "DESSEM": self.dessem}
        return {
            "PROGRAM_PATH_RULE": rule,
            **{f"{rule}_{name}_ROOT": str(root) for name, root in roots.items()},
        }


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder with a short name: the header that tells of what is left out is not endless."""
    with tempfile.TemporaryDirectory(prefix="hpcq-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def tree(root: Path) -> Tree:
    tree = Tree(root)
    tree.version("v28.16.4", "mpi_newave28.job", "newave28_L")
    tree.version("v28.6.2", "mpi_newave.job", "mpi_newave.job.bak")
    tree.version("29", "mpi_newave29.job")
    tree.version("v30 beta", "mpi_newave 30.job")
    tree.version("v31", "mpi_newave31.job", mode=0o000)
    tree.version("v32", "mpi_newave32.job", mode=0o600)
    tree.version("v33", "mpi_newave33.job", mode=0o300)
    tree.version("v\n34", "mpi_newave34.job")
    tree.version(".snapshot", "mpi_newave.job")
    os.mkdir(os.fsencode(tree.newave) + b"/v\xff")
    (tree.newave / "README").touch()
    (tree.newave / "v35").symlink_to("v28.16.4")
    (tree.newave / "v36").symlink_to("missing")
    (tree.newave / "v37").symlink_to("v37")
    (tree.private / "v38").mkdir()
    (tree.newave / "v38").symlink_to(tree.private / "v38")
    tree.private.chmod(0)
    (tree.dessem / "dessem_19").touch(mode=0o755)
    (tree.dessem / "dessem_20").touch(mode=0o644)
    return tree


def seen(service: Service) -> tuple[list[tuple[str, str, str]], str]:
    answer = service.client.get("/programs")
    assert answer.status_code == 200, answer.text
    fields = ("programId", "version", "executablePath")
    listed = [tuple(program[field] for field in fields) for program in answer.json()]
    return listed, answer.headers["X-Incomplete"]


def test_tuber_tree_entries_and_problems(tree: Tree, start_service: Callable[..., Service]) -> None:
    listed, incomplete = seen(start_service(**tree.settings("TUBER")))

    job = "/home/pem/rotinas/tuber/jobs/mpi_newave.job"
    assert listed == [
        ("NW0", "29", f"{job} 29"),
        ("NW1", "v28.16.4", f"{job} 28.16.4"),
        ("NW2", "v28.6.2", f"{job} 28.6.2"),
        ("NW3", "v30 beta", f"{job} 30 beta"),
        ("NW4", "v33", f"{job} 33"),
        ("NW5", "v35", f"{job} 35"),
        ("DS0", "19", "/home/ESTUDO/PEM/git/tuber/jobs/dessem.sh 19"),
    ]
    assert incomplete == " ".join(
        [
            f"The name {tree.newave}/v\\x0a34 of NEWAVE holds a control character; it is left out.",
            f"The path {tree.newave}/v31 of NEWAVE cannot be read: Permission denied.",
            f"The path {tree.newave}/v32 of NEWAVE cannot be read: Permission denied.",
            f"The path {tree.newave}/v38 of NEWAVE cannot be read: Permission denied.",
            f"The name {tree.newave}/v\\xff of NEWAVE is not UTF-8; it is left out.",
            f"The folder {tree.decomp} of DECOMP cannot be read: No such file or directory.",
            f"The file {tree.dessem}/dessem_20 of DESSEM is not executable; it is left out.",
        ]
    )


def test_pemaws_tree_entries_and_problems(
    tree: Tree, start_service: Callable[..., Service]
) -> None:
    service = start_service(**tree.settings("PEMAWS"))
    listed, incomplete = seen(service)

    assert listed == [
        ("NW0", "29", f"{tree.newave}/29/mpi_newave29.job"),
        ("NW1", "v28.16.4", f"{tree.newave}/v28.16.4/mpi_newave28.job"),
        ("NW2", "v30 beta", f"{tree.newave}/v30 beta/mpi_newave 30.job"),
        ("NW3", "v35", f"{tree.newave}/v35/mpi_newave28.job"),
        ("DS0", "19", "/home/ESTUDO/PEM/git/tuber/jobs/dessem.sh 19"),
    ]
    told = [part.partition(" of ")[0] for part in incomplete.split(". ")]
    assert told[1:5] == [
        f"The folder {tree.newave}/v28.6.2",
        f"The path {tree.newave}/v31",
        f"The path {tree.newave}/v32",
        f"The path {tree.newave}/v33",
    ]

    tree.newave.chmod(0)
    listed, incomplete = seen(service)
    tree.newave.chmod(0o755)

    assert [program_id for program_id, *_ in listed] == ["DS0"]
    assert incomplete.startswith(f"The folder {tree.newave} of NEWAVE cannot be read: Permission")
    assert len(seen(service)[0]) == 5
