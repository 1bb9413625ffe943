import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcq.domain.programs import Installation
from hpcq.programs import folders, pool, scanner
from hpcq.programs.layouts import DECOMP, NEWAVE, Look, Product, RootLayout, dessem, pemaws, tuber
from hpcq.programs.scanner import Scan, Scanner

SCRIPT = Path("/jobs/mpi_newave.job")


def scan_root(name: str, root: Path, look: Look, seconds: float = 10) -> Scanner:
    return Scanner(name, RootLayout(root, look), seconds)


def by_tuber(root: Path) -> Scanner:
    return scan_root("NEWAVE", root, tuber(NEWAVE, SCRIPT))


def by_pemaws(root: Path) -> Scanner:
    return scan_root("NEWAVE", root, pemaws(NEWAVE))


def of_dessem(root: Path) -> Scanner:
    return scan_root("DESSEM", root, dessem(Path("/jobs/dessem.sh")))


def versions(reading: Scan) -> list[str]:
    return [found.version for found in reading.installations]


def with_files(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_tuber_script_and_version(tmp_path: Path) -> None:
    (tmp_path / "v28.16.4").mkdir()

    reading = by_tuber(tmp_path).scan()

    assert reading == Scan(
        installations=(
            Installation(
                id_prefix="NW",
                name="NEWAVE",
                version="v28.16.4",
                directory=f"{tmp_path}/v28.16.4",
                script="/jobs/mpi_newave.job",
                words=("28.16.4",),
                parameters=NEWAVE.parameters,
            ),
        )
    )
    assert reading.installations[0].executable_path == "/jobs/mpi_newave.job 28.16.4"
    assert [parameter.name for parameter in NEWAVE.parameters] == ["N_PROC"]


def test_versions_sorted_by_name(tmp_path: Path) -> None:
    for name in ("v31.21", "v28.6.2", "v28.16.4"):
        (tmp_path / name).mkdir()

    assert versions(by_tuber(tmp_path).scan()) == ["v28.16.4", "v28.6.2", "v31.21"]


# A name as a site may have it, and what TUBER's script is told; None for a folder left out.
@pytest.mark.parametrize(
    ("name", "told"),
    [("v29", "29"), ("29", "29"), ("vv1", "v1"), ("V30", "V30"), ("v", None), (".snapshot", None)],
)
def test_tuber_leading_v_removed(name: str, told: str | None, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()

    found = by_tuber(tmp_path).scan().installations

    assert [p.executable_path for p in found] == ([] if told is None else [f"{SCRIPT} {told}"])


def test_dessem_versions_and_option(tmp_path: Path) -> None:
    backups = "dessem_20.1~", "dessem_20.1.bak", "dessem_20.1.old", "#dessem_20.1#"
    names = "dessem_19.0.24", "dessem_20.1", "dessem_2 0", "dessem_", "README", "dessem", *backups
    root = with_files(tmp_path, *names)
    for name in names:
        (root / name).chmod(0o755)
    (root / "dessem_21").mkdir()
    (root / "dessem_22").symlink_to("dessem_20.1")
    (root / "dessem_23").symlink_to("missing")
    (root / "dessem_24").symlink_to("dessem_24")
    os.mkfifo(root / "dessem_25")

    reading = of_dessem(root).scan()
    found = reading.installations

    assert [(p.version, p.executable_path, p.directory) for p in found] == [
        ("19.0.24", "/jobs/dessem.sh 19.0.24", f"{root}/dessem_19.0.24"),
        ("2 0", "/jobs/dessem.sh 2 0", f"{root}/dessem_2 0"),
        ("20.1", "/jobs/dessem.sh 20.1", f"{root}/dessem_20.1"),
        ("22", "/jobs/dessem.sh 22", f"{root}/dessem_22"),
    ]
    assert {(p.id_prefix, p.name) for p in found} == {("DS", "DESSEM")}
    assert [
        (one.name, one.is_optional, one.is_slots, one.default)
        for p in found
        for one in p.parameters
    ] == [("N_PROC", True, False, None)] * 4
    assert reading.problems == ()


@pytest.mark.parametrize(("mode", "is_version"), [(0o100, True), (0o711, True), (0o664, False)])
def test_dessem_version_executable_bit(mode: int, is_version: bool, tmp_path: Path) -> None:
    (with_files(tmp_path, "dessem_1") / "dessem_1").chmod(mode)

    reading = of_dessem(tmp_path).scan()

    assert versions(reading) == (["1"] if is_version else [])
    told = f"The file {tmp_path}/dessem_1 of DESSEM is not executable; it is left out."
    assert reading.problems == (() if is_version else (told,))


@pytest.mark.parametrize("known", [NEWAVE, DECOMP], ids=["NEWAVE", "DECOMP"])
def test_pemaws_single_job_script(known: Product, tmp_path: Path) -> None:
    script = f"mpi_{known.name.lower()}31.21.job"
    folder = with_files(tmp_path / "v31.21", script, "decomp_31.21", "newave31_L", "decomp.lic")

    reading = scan_root(known.name, tmp_path, pemaws(known)).scan()

    assert [p.executable_path for p in reading.installations] == [f"{folder}/{script}"]
    assert [p.name for p in reading.installations[0].parameters] == ["N_PROC"]
    assert reading.problems == ()


def test_pemaws_no_or_several_scripts(tmp_path: Path) -> None:
    with_files(tmp_path / "v1", "newave_L", "mpi_decomp1.job")
    with_files(tmp_path / "v2", "mpi_newave2.job", "mpi_newave2.job.bak")
    with_files(tmp_path / "v3", "mpi_newave3.job")
    (tmp_path / "v4" / "mpi_newave4.job").mkdir(parents=True)
    with_files(tmp_path / "v5")
    (tmp_path / "v5" / "mpi_newave5.job").symlink_to("gone.job")

    reading = by_pemaws(tmp_path).scan()

    assert versions(reading) == ["v3"]
    assert [problem.split(" of NEWAVE holds ")[1][:7] for problem in reading.problems] == [
        "0 files",
        "2 files",
        "0 files",
        "0 files",
    ]


def test_root_with_files_and_links(tmp_path: Path) -> None:
    root = with_files(tmp_path / "root", "README", "v9.tar.gz")
    (tmp_path / "elsewhere").mkdir()
    (root / "v1").symlink_to(tmp_path / "elsewhere")
    (root / "v2").symlink_to(root / "v2")
    (root / "v3").symlink_to("missing")

    assert versions(by_tuber(root).scan()) == ["v1"]


def test_root_with_dangling_link(tmp_path: Path) -> None:
    reader = by_tuber(with_files(tmp_path / "root"))
    (tmp_path / "root" / "v1").symlink_to(tmp_path / "later")
    assert versions(reader.scan()) == []

    (tmp_path / "later").mkdir()

    assert versions(reader.scan()) == ["v1"]


@pytest.mark.parametrize("make", [by_tuber, by_pemaws, of_dessem])
@pytest.mark.parametrize("root", ["missing", "file"])
def test_root_unreadable(make: Callable[[Path], Scanner], root: str, tmp_path: Path) -> None:
    with_files(tmp_path, "file")

    reading = make(tmp_path / root).scan()

    assert reading.installations == ()
    assert f"The folder {tmp_path}/{root} of " in reading.problems[0]
    assert " cannot be read: " in reading.problems[0]


def test_pemaws_version_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_files(tmp_path / "v1", "mpi_newave1.job")
    with_files(tmp_path / "v2", "mpi_newave2.job")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("v1"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    reading = by_pemaws(tmp_path).scan()

    assert versions(reading) == ["v2"]
    assert reading.problems == (
        f"The path {tmp_path}/v1 of NEWAVE cannot be read: Permission denied.",
    )


def test_tuber_version_not_accessible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(os, "access", lambda path, _mode: not path.endswith("v1"))

    reading = by_tuber(tmp_path).scan()

    assert versions(reading) == ["v2"]
    assert reading.problems == (
        f"The path {tmp_path}/v1 of NEWAVE cannot be read: Permission denied.",
    )


@pytest.mark.parametrize("make", [by_tuber, by_pemaws, of_dessem])
def test_link_not_accessible(
    make: Callable[[Path], Scanner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dessem_1").symlink_to("/elsewhere")
    stat = os.stat

    def refuse(path: str) -> os.stat_result:
        if path.endswith("dessem_1"):
            raise PermissionError(13, "Permission denied", path)
        return stat(path)

    monkeypatch.setattr(os, "stat", refuse)
    reading = make(tmp_path).scan()

    assert versions(reading) == []
    assert [problem.partition(" of ")[0] for problem in reading.problems] == [
        f"The path {tmp_path}/dessem_1"
    ]


def in_a_bad_moment(path: str) -> None:
    raise OSError(errno.ESTALE, "Stale file handle", path)


def test_version_io_error_keeps_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("v1", "v2", "v3"):
        with_files(tmp_path / name, "mpi_newave.job")
    reader = by_pemaws(tmp_path)
    reader.scan()
    (tmp_path / "v3" / "mpi_newave.job").unlink()
    with_files(tmp_path / "v4", "mpi_newave.job")
    stat = os.stat

    def fail(path: str) -> os.stat_result:
        if path.endswith(failing):
            in_a_bad_moment(path)
        return stat(path)

    failing: tuple[str, ...] = ("v1", "v4")
    monkeypatch.setattr(os, "stat", fail)
    some = reader.scan()
    failing = ("",)
    none = reader.scan()
    monkeypatch.undo()

    assert versions(some) == versions(none) == ["v1", "v2"]
    cannot = "of NEWAVE cannot be read: Stale file handle."
    assert some.problems[0] == f"The path {tmp_path}/v1 {cannot} What was last known is listed."
    assert "v3 of NEWAVE holds 0 files" in some.problems[1]
    assert some.problems[2] == f"The path {tmp_path}/v4 {cannot}"
    assert none.problems == (f"The folder {tmp_path} {cannot} What was last known is listed.",)
    assert versions(reader.scan()) == ["v1", "v2", "v4"]


def test_root_removed(tmp_path: Path) -> None:
    (tmp_path / "root" / "v1").mkdir(parents=True)
    reader = by_tuber(tmp_path / "root")
    reader.scan()
    (tmp_path / "root").rename(tmp_path / "elsewhere")

    assert versions(reader.scan()) == []


def test_version_hanging_keeps_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
    reader = scan_root("NEWAVE", tmp_path, tuber(NEWAVE, SCRIPT), 0.2)
    before = reader.scan()
    answer = threading.Event()
    access = os.access

    def hang(path: str, mode: int) -> bool:
        return (not path.endswith("v1") or answer.wait(10)) and access(path, mode)

    monkeypatch.setattr(os, "access", hang)
    meanwhile = [reader.scan() for _ in range(3)]
    answer.set()

    assert [versions(reading) for reading in meanwhile] == [versions(before)] * 3
    assert meanwhile[0].problems == (
        f"The path {tmp_path}/v1 of NEWAVE did not answer within 0.2 s. "
        "What was last known is listed.",
    )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (b"v\xff", "v\\xff of NEWAVE is not UTF-8"),
        (b"v\n40", "v\\x0a40 of NEWAVE holds a control character"),
        (b"v\x7f", "v\\x7f of NEWAVE holds a control character"),
    ],
)
def test_version_name_not_text(name: bytes, told: str, tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/" + name)
    (tmp_path / "vé 1").mkdir()

    reading = by_tuber(tmp_path).scan()

    assert versions(reading) == ["vé 1"]
    assert reading.problems == (f"The name {tmp_path}/{told}; it is left out.",)


def test_root_entry_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_MOST_ENTRIES", 2)
    with_files(tmp_path, "a", "b", "c")

    assert "more than 2 entries" in by_tuber(tmp_path).scan().problems[0]


def long_ago(*folders: Path) -> None:
    for folder in folders:
        os.utime(folder, (1_000_000_000, 1_000_000_000))


def test_scan_unchanged_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_COARSEST_TIME_NS", -(10**12))
    read: list[str] = []
    scandir = os.scandir

    def counted(path: str) -> object:
        read.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    for number in range(3):
        with_files(tmp_path / f"v{number}", f"mpi_newave{number}.job")
    reader = by_pemaws(tmp_path)

    assert versions(reader.scan()) == versions(reader.scan()) == ["v0", "v1", "v2"]
    assert len(read) == 4
    with_files(tmp_path / "v1", "mpi_newave.bak")

    assert versions(reader.scan()) == ["v0", "v2"]
    assert read[4:] == [f"{tmp_path}/v1"]


def test_scan_change_within_clock_tick(
    tmp_path: Path,
) -> None:
    reader = by_tuber(tmp_path)
    assert versions(reader.scan()) == []
    (tmp_path / "v1").mkdir()
    long_ago(tmp_path)
    assert versions(reader.scan()) == ["v1"]
    (tmp_path / "v2").mkdir()
    long_ago(tmp_path)

    assert versions(reader.scan()) == ["v1", "v2"]


def test_scan_ten_thousand_versions(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"v{number:05}").mkdir()
    reader = by_tuber(tmp_path)
    assert len(reader.scan().installations) == 10_000

    (tmp_path / "v00500").rmdir()

    assert len(reader.scan().installations) == 9_999


def test_scan_unchanged_same_object(tmp_path: Path) -> None:
    with_files(tmp_path / "v1", "mpi_newave.job")
    reader = by_pemaws(tmp_path)

    assert reader.scan() is reader.scan()


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Versions that are too many to be looked at for each caller."""
    monkeypatch.setattr(pool, "_FEW", 1)
    monkeypatch.setattr(pool, "_REST", 1e9)
    for name in ("v1", "v2"):
        with_files(tmp_path / name, "mpi_newave.job")
    return tmp_path


def test_scan_many_versions_added_or_removed(many: Path) -> None:
    with_files(many / "v0")
    reader = by_pemaws(many)
    problems = reader.scan().problems
    (many / "v1" / "mpi_newave.job").unlink()
    assert versions(reader.scan()) == ["v1", "v2"]

    with_files(many / "v3", "mpi_newave.job")
    (many / "v2").rename(many / "v4")
    reading = reader.scan()

    assert versions(reading) == ["v1", "v3", "v4"]
    assert reading.problems == problems


def test_scan_many_versions_after_one_minute(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = by_pemaws(many)
    reader.scan()
    (many / "v1" / "mpi_newave.job").unlink()
    monkeypatch.setattr(pool, "time", Later)

    assert versions(reader.scan()) == ["v2"]


class Later:
    """The clock, a minute on."""

    @staticmethod
    def monotonic() -> float:
        return time.monotonic() + 60


def test_scan_many_hanging_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: answer.wait(10) and access(path, mode))

    def told(count: int) -> tuple[str, ...]:
        root = tmp_path / str(count)
        for number in range(count):
            (root / f"v{number}").mkdir(parents=True)
        return scan_root("NEWAVE", root, tuber(NEWAVE, SCRIPT), 0.2).scan().problems

    few, many = told(1), told(scanner._MOST_NAMED + 1)
    answer.set()

    assert few == (f"The path {tmp_path}/1/v0 of NEWAVE did not answer within 0.2 s.",)
    assert many == (f"{tmp_path}/6/v0 and 5 more paths of NEWAVE did not answer within 0.2 s.",)
