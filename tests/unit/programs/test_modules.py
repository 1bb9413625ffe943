"""The output of ``module avail`` of Environment Modules 5.2.0 and Lmod 8.6.19, and worse."""

import os
from pathlib import Path

import pytest

from hpcq.programs.modules import find_modules, signature_of
from hpcq.programs.scanner import Scan

SCRIPT = Path("/jobs/module.job")
MODULES = b"""\
/opt/mf:
gcc/tools/12
gromacs/2023.1(default)
gromacs/2024.1
gromacs/latest(@)
single
"""
LMOD = b"""\
gnu(@gcc/tools/12)
/opt/mf:
gcc/tools/
gcc/tools/stable(@gcc/tools/12)
gcc/tools/12
gromacs/
gromacs/2023.1
gromacs/2024.1
single
"""
DEFAULTS = b"""\
/opt/mf:
gcc/tools/12
gromacs/2023.1
single
"""


def shown(reading: Scan) -> list[tuple[str, str, str, bool | None]]:
    found = reading.installations
    return [(one.name, one.version, one.directory, one.is_default) for one in found]


@pytest.mark.parametrize("printed", [MODULES, LMOD], ids=["Environment Modules", "Lmod"])
def test_modules_listed(printed: bytes) -> None:
    reading = find_modules(printed, DEFAULTS, SCRIPT)

    assert reading.problems == ()
    assert shown(reading) == [
        ("gcc/tools", "12", "/opt/mf/gcc/tools", True),
        ("gromacs", "2023.1", "/opt/mf/gromacs", True),
        ("gromacs", "2024.1", "/opt/mf/gromacs", False),
        ("single", "", "/opt/mf/single", True),
    ]
    assert reading.installations[0].executable_path == "/jobs/module.job gcc/tools/12"


def test_modules_duplicate_first_folder() -> None:
    reading = find_modules(b"/a:\nx/1\n\n/b:\nx/1\nx/2\n", b"/a:\nx/1\n\n/b:\nx/2\n", SCRIPT)

    assert shown(reading) == [("x", "1", "/a/x", True), ("x", "2", "/b/x", False)]


def test_modules_name_with_colon() -> None:
    reading = find_modules(b"/a:\nx/1:2\nError:\n", b"", SCRIPT)

    assert shown(reading) == [("x", "1:2", "/a/x", False)]
    assert reading.problems == ("The line 'Error:' of module avail is no module.",)


def test_modules_empty_output() -> None:
    assert find_modules(b"", b"", SCRIPT) == Scan(installations=())


def test_modules_invalid_line() -> None:
    reading = find_modules(b"/a:\nx/1\nWARNING: cache is old\n\xff\xfe (\nx/2\n", b"", SCRIPT)

    assert [one.version for one in reading.installations] == ["1", "2"]
    assert len(reading.problems) == 2


def test_signature_changed_files(tmp_path: Path) -> None:
    def look() -> object:
        return signature_of([str(tmp_path), str(tmp_path / "missing")])

    seen = [look()]
    assert look() == seen[0]
    (tmp_path / "x").mkdir()
    seen.append(look())
    (tmp_path / "x" / ".version").write_text("")
    seen.append(look())
    os.utime(tmp_path / "x" / ".version", (1, 1))
    seen.append(look())

    assert len(set(map(repr, seen))) == 4


def test_signature_links_and_loops(tmp_path: Path) -> None:
    (tmp_path / "site" / "x").mkdir(parents=True)
    root = tmp_path / "modulefiles"
    root.mkdir()
    (root / "x").symlink_to(tmp_path / "site" / "x")
    (tmp_path / "site" / "x" / "up").symlink_to(root)
    before = signature_of([str(root)])

    (tmp_path / "site" / "x" / "1").write_text("")

    assert signature_of([str(root)]) != before
