import os
from pathlib import Path

import pytest

from hpcq.domain.programs import Program
from hpcq.programs import Reading, decomp, layout, newave, read_pemaws, read_tuber

SCRIPT = Path("/jobs/mpi_newave.job")


def versions(reading: Reading) -> list[str]:
    return [program.version for program in reading.programs]


def with_files(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_tuber_gives_the_job_script_and_the_version_without_its_v(tmp_path: Path) -> None:
    (tmp_path / "v28.16.4").mkdir()

    assert read_tuber(newave(tmp_path), SCRIPT) == Reading(
        programs=(
            Program(
                program_id="NW0",
                name="NEWAVE",
                version="v28.16.4",
                installation_directory=f"{tmp_path}/v28.16.4",
                is_managed=True,
                executable_path="/jobs/mpi_newave.job 28.16.4",
                args=("N_PROC",),
            ),
        ),
        problems=(),
    )


def test_ids_count_in_the_order_of_the_version_names(tmp_path: Path) -> None:
    for name in ("v31.21", "v28.6.2", "v28.16.4"):
        (tmp_path / name).mkdir()

    programs = read_tuber(decomp(tmp_path), SCRIPT).programs

    assert [(p.program_id, p.version) for p in programs] == [
        ("DC0", "v28.16.4"),
        ("DC1", "v28.6.2"),
        ("DC2", "v31.21"),
    ]


# A name as a site may have it, and what TUBER's script is told; None for a folder left out.
@pytest.mark.parametrize(
    ("name", "told"),
    [("v29", "29"), ("29", "29"), ("vv1", "v1"), ("V30", "V30"), ("v", None), (".snapshot", None)],
)
def test_only_one_leading_v_is_taken_off(name: str, told: str | None, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()

    programs = read_tuber(newave(tmp_path), SCRIPT).programs

    assert [p.executable_path for p in programs] == ([] if told is None else [f"{SCRIPT} {told}"])


@pytest.mark.parametrize("name", ["NEWAVE", "DECOMP"])
def test_pemaws_gives_the_one_job_script_of_the_folder(name: str, tmp_path: Path) -> None:
    script = f"mpi_{name.lower()}31.21.job"
    folder = with_files(tmp_path / "v31.21", script, "decomp_31.21", "newave31_L", "decomp.lic")
    product = newave(tmp_path) if name == "NEWAVE" else decomp(tmp_path)

    reading = read_pemaws(product)

    assert [p.executable_path for p in reading.programs] == [f"{folder}/{script}"]
    assert reading.programs[0].args == ("N_PROC",)
    assert reading.problems == ()


def test_pemaws_leaves_out_folders_with_no_script_or_several_and_says_so(tmp_path: Path) -> None:
    with_files(tmp_path / "v1", "newave_L", "mpi_decomp1.job")
    with_files(tmp_path / "v2", "mpi_newave2.job", "mpi_newave2.job.bak")
    with_files(tmp_path / "v3", "mpi_newave3.job")
    (tmp_path / "v4" / "mpi_newave4.job").mkdir(parents=True)

    reading = read_pemaws(newave(tmp_path))

    assert [(p.program_id, p.version) for p in reading.programs] == [("NW0", "v3")]
    assert [problem.split(" of NEWAVE holds ")[1][:7] for problem in reading.problems] == [
        "0 files",
        "2 files",
        "0 files",
    ]


def test_files_among_the_folders_are_ignored_and_links_are_followed(tmp_path: Path) -> None:
    root = with_files(tmp_path / "root", "README", "v9.tar.gz")
    (tmp_path / "elsewhere").mkdir()
    (root / "v1").symlink_to(tmp_path / "elsewhere")
    (root / "v2").symlink_to(root / "v2")
    (root / "v3").symlink_to("missing")

    assert versions(read_tuber(newave(root), SCRIPT)) == ["v1"]


@pytest.mark.parametrize("root", ["missing", "file"])
def test_a_root_that_cannot_be_read_gives_no_programs_and_a_problem(
    root: str, tmp_path: Path
) -> None:
    with_files(tmp_path, "file")

    for reading in (
        read_tuber(newave(tmp_path / root), SCRIPT),
        read_pemaws(newave(tmp_path / root)),
    ):
        assert reading.programs == ()
        assert reading.problems[0].startswith(f"The folder {tmp_path}/{root} of NEWAVE cannot be")


def test_a_version_folder_that_cannot_be_read_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_files(tmp_path / "v1", "mpi_newave1.job")
    with_files(tmp_path / "v2", "mpi_newave2.job")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if path.name == "v1":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    reading = read_pemaws(newave(tmp_path))

    assert versions(reading) == ["v2"]
    assert reading.problems == (
        f"The folder {tmp_path}/v1 of NEWAVE cannot be read: Permission denied.",
    )


def test_a_name_that_is_not_utf8_is_left_out(tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/v\xff")
    (tmp_path / "vé").mkdir()

    reading = read_tuber(newave(tmp_path), SCRIPT)

    assert versions(reading) == ["vé"]
    assert reading.problems == (
        f"The name {tmp_path}/v\\xff of NEWAVE is not UTF-8; it is left out.",
    )


def test_a_root_that_is_far_too_large_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "_MOST_ENTRIES", 2)
    with_files(tmp_path, "a", "b", "c")

    assert "more than 2 entries" in read_tuber(newave(tmp_path), SCRIPT).problems[0]
