import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcq.domain.programs import Installation
from hpcq.programs import (
    DECOMP,
    NEWAVE,
    Reading,
    VersionReader,
    dessem,
    folders,
    layout,
    pemaws,
    tuber,
)
from hpcq.programs.products import Product

SCRIPT = Path("/jobs/mpi_newave.job")


def by_tuber(root: Path) -> VersionReader:
    return VersionReader("NEWAVE", root, tuber(NEWAVE, SCRIPT), 10)


def by_pemaws(root: Path) -> VersionReader:
    return VersionReader("NEWAVE", root, pemaws(NEWAVE), 10)


def of_dessem(root: Path) -> VersionReader:
    return VersionReader("DESSEM", root, dessem(Path("/jobs/dessem.sh")), 10)


def versions(reading: Reading) -> list[str]:
    return [found.version for found in reading.installations]


def with_files(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_tuber_gives_the_job_script_and_the_version_without_its_v(tmp_path: Path) -> None:
    (tmp_path / "v28.16.4").mkdir()

    reading = by_tuber(tmp_path).read()

    assert reading == Reading(
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


def test_versions_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("v31.21", "v28.6.2", "v28.16.4"):
        (tmp_path / name).mkdir()

    assert versions(by_tuber(tmp_path).read()) == ["v28.16.4", "v28.6.2", "v31.21"]


# A name as a site may have it, and what TUBER's script is told; None for a folder left out.
@pytest.mark.parametrize(
    ("name", "told"),
    [("v29", "29"), ("29", "29"), ("vv1", "v1"), ("V30", "V30"), ("v", None), (".snapshot", None)],
)
def test_only_one_leading_v_is_taken_off(name: str, told: str | None, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()

    found = by_tuber(tmp_path).read().installations

    assert [p.executable_path for p in found] == ([] if told is None else [f"{SCRIPT} {told}"])


def test_dessem_has_a_file_for_each_version_and_no_arguments(tmp_path: Path) -> None:
    root = with_files(tmp_path, "dessem_19.0.24", "dessem_20.1", "dessem_", "README", "dessem")
    (root / "dessem_21").mkdir()
    (root / "dessem_22").symlink_to("dessem_20.1")
    (root / "dessem_23").symlink_to("missing")

    found = of_dessem(root).read().installations

    assert [(p.version, p.executable_path, p.directory) for p in found] == [
        ("19.0.24", "/jobs/dessem.sh 19.0.24", f"{root}/dessem_19.0.24"),
        ("20.1", "/jobs/dessem.sh 20.1", f"{root}/dessem_20.1"),
        ("22", "/jobs/dessem.sh 22", f"{root}/dessem_22"),
    ]
    assert {(p.id_prefix, p.name, p.parameters) for p in found} == {("DS", "DESSEM", ())}


@pytest.mark.parametrize("known", [NEWAVE, DECOMP], ids=["NEWAVE", "DECOMP"])
def test_pemaws_gives_the_one_job_script_of_the_folder(known: Product, tmp_path: Path) -> None:
    script = f"mpi_{known.name.lower()}31.21.job"
    folder = with_files(tmp_path / "v31.21", script, "decomp_31.21", "newave31_L", "decomp.lic")

    reading = VersionReader(known.name, tmp_path, pemaws(known), 10).read()

    assert [p.executable_path for p in reading.installations] == [f"{folder}/{script}"]
    assert [p.name for p in reading.installations[0].parameters] == ["N_PROC"]
    assert reading.problems == ()


def test_pemaws_leaves_out_folders_with_no_script_or_several_and_says_so(tmp_path: Path) -> None:
    with_files(tmp_path / "v1", "newave_L", "mpi_decomp1.job")
    with_files(tmp_path / "v2", "mpi_newave2.job", "mpi_newave2.job.bak")
    with_files(tmp_path / "v3", "mpi_newave3.job")
    (tmp_path / "v4" / "mpi_newave4.job").mkdir(parents=True)
    with_files(tmp_path / "v5")
    (tmp_path / "v5" / "mpi_newave5.job").symlink_to("gone.job")

    reading = by_pemaws(tmp_path).read()

    assert versions(reading) == ["v3"]
    assert [problem.split(" of NEWAVE holds ")[1][:7] for problem in reading.problems] == [
        "0 files",
        "2 files",
        "0 files",
        "0 files",
    ]


def test_files_among_the_folders_are_ignored_and_links_are_followed(tmp_path: Path) -> None:
    root = with_files(tmp_path / "root", "README", "v9.tar.gz")
    (tmp_path / "elsewhere").mkdir()
    (root / "v1").symlink_to(tmp_path / "elsewhere")
    (root / "v2").symlink_to(root / "v2")
    (root / "v3").symlink_to("missing")

    assert versions(by_tuber(root).read()) == ["v1"]


def test_a_link_that_leads_somewhere_only_later_is_a_version_then(tmp_path: Path) -> None:
    reader = by_tuber(with_files(tmp_path / "root"))
    (tmp_path / "root" / "v1").symlink_to(tmp_path / "later")
    assert versions(reader.read()) == []

    (tmp_path / "later").mkdir()

    assert versions(reader.read()) == ["v1"]


@pytest.mark.parametrize("make", [by_tuber, by_pemaws, of_dessem])
@pytest.mark.parametrize("root", ["missing", "file"])
def test_a_root_that_cannot_be_read_gives_no_programs_and_a_problem(
    make: Callable[[Path], VersionReader], root: str, tmp_path: Path
) -> None:
    with_files(tmp_path, "file")

    reading = make(tmp_path / root).read()

    assert reading.installations == ()
    assert f"The folder {tmp_path}/{root} of " in reading.problems[0]
    assert " cannot be read: " in reading.problems[0]


def test_a_version_folder_that_cannot_be_read_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_files(tmp_path / "v1", "mpi_newave1.job")
    with_files(tmp_path / "v2", "mpi_newave2.job")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("v1"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    reading = by_pemaws(tmp_path).read()

    assert versions(reading) == ["v2"]
    assert reading.problems == (
        f"The folder {tmp_path}/v1 of NEWAVE cannot be read: Permission denied.",
    )


def test_a_name_that_is_not_utf8_is_left_out(tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/v\xff")
    (tmp_path / "vé").mkdir()

    reading = by_tuber(tmp_path).read()

    assert versions(reading) == ["vé"]
    assert reading.problems == (
        f"The name {tmp_path}/v\\xff of NEWAVE is not UTF-8; it is left out.",
    )


def test_a_root_that_is_far_too_large_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_MOST_ENTRIES", 2)
    with_files(tmp_path, "a", "b", "c")

    assert "more than 2 entries" in by_tuber(tmp_path).read().problems[0]


def long_ago(*folders: Path) -> None:
    for folder in folders:
        os.utime(folder, (1_000_000_000, 1_000_000_000))


def test_what_has_not_changed_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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

    assert versions(reader.read()) == versions(reader.read()) == ["v0", "v1", "v2"]
    assert len(read) == 4
    with_files(tmp_path / "v1", "mpi_newave.bak")

    assert versions(reader.read()) == ["v0", "v2"]
    assert read[4:] == [f"{tmp_path}/v1"]


def test_a_change_within_the_same_tick_of_the_file_systems_clock_is_noticed(
    tmp_path: Path,
) -> None:
    reader = by_tuber(tmp_path)
    assert versions(reader.read()) == []
    (tmp_path / "v1").mkdir()
    long_ago(tmp_path)
    assert versions(reader.read()) == ["v1"]
    (tmp_path / "v2").mkdir()
    long_ago(tmp_path)

    assert versions(reader.read()) == ["v1", "v2"]


def test_ten_thousand_versions_are_listed_and_a_change_among_them_is_found(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"v{number:05}").mkdir()
    reader = by_tuber(tmp_path)
    assert len(reader.read().installations) == 10_000

    (tmp_path / "v00500").rmdir()

    assert len(reader.read().installations) == 9_999


def test_many_that_do_not_answer_are_counted_and_few_are_named() -> None:
    assert layout.late("NEWAVE", ["/v1"], 10) == [
        "The path /v1 of NEWAVE did not answer within 10 s."
    ]
    assert layout.late("NEWAVE", ["/v1"] * (layout._MOST_NAMED + 1), 10) == [
        "/v1 and 5 more paths of NEWAVE did not answer within 10 s."
    ]
