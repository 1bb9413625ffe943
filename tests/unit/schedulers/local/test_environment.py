"""The environment and the folder of a job."""

import os
import stat
from pathlib import Path

import pytest

from hpcq.domain.jobs import JobSpec, JobUid, SubmissionKey
from hpcq.schedulers.local.environment import JobEnvironment, list_hosts, name_folder
from hpcq.schedulers.local.files import encode_path, remove_tree
from hpcq.schedulers.local.job import LocalJob
from hpcq.schedulers.local.job_folder import make_job_folder
from hpcq.schedulers.local.spool_row import Phase

KEY = SubmissionKey.for_uid(JobUid("00000000-0000-4000-8000-000123456789"))
FOLDER = "/nowhere/f"


def environment(**asked: str) -> dict[str, str]:
    spec = JobSpec(
        name="a study", working_directory="/w d", script_file="/s", slots=3, environment=asked
    )
    job = LocalJob(number=7, key=KEY, spec=spec, submitted=1.0, phase=Phase.DISPATCHED, attempt=2)
    common = JobEnvironment(inherited={"PATH": "/usr/bin", "HOME": "/h"}, host="node")
    assert name_folder(job).rpartition("/")[2] == "hpcq-7.2-000123456789"
    return common.environment(job, FOLDER)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JOB_ID", "7"),
        ("JOB_NAME", "a study"),
        ("NSLOTS", "3"),
        ("NHOSTS", "1"),
        ("QUEUE", "local"),
        ("TMPDIR", f"{FOLDER}/tmp"),
        ("PE_HOSTFILE", f"{FOLDER}/pe_hostfile"),
        ("PBS_NODEFILE", f"{FOLDER}/nodefile"),
        ("PBS_O_WORKDIR", "/w d"),
        ("SGE_O_WORKDIR", "/w d"),
        ("SLURM_SUBMIT_DIR", "/w d"),
    ],
)
def test_environment_variables_for_scripts(name: str, value: str) -> None:
    assert environment()[name] == value
    assert environment(**{name: "mine"})[name] == "mine", "what the request says wins"


def test_environment_no_cluster_detection_by_mpi() -> None:
    """Each of these makes one look for a scheduler's commands or daemons."""
    misleading = {"SLURM_JOB_ID", "SLURM_JOBID", "SLURM_NTASKS", "PBS_JOBID", "PBS_ENVIRONMENT"}
    assert not environment().keys() & (misleading | {"SGE_ROOT", "ARC", "LSB_JOBID"})


def test_environment_precedence() -> None:
    found = environment(PATH="/mine", HPCQ_JOB_ID="1", HPCQ_JOB_KEY="k", A="")
    told = {"PATH", "HOME", "A", "HPCQ_JOB_ID", "HPCQ_JOB_KEY", "HPCQ_JOB_NAME", "HPCQ_SLOTS"}
    assert {name: found[name] for name in told} == {
        "PATH": "/mine",
        "HOME": "/h",
        "A": "",
        "HPCQ_JOB_ID": "7",
        "HPCQ_JOB_KEY": KEY,
        "HPCQ_JOB_NAME": "a study",
        "HPCQ_SLOTS": "3",
    }


def test_job_folder_host_files_and_mode(tmp_path: Path) -> None:
    folder = tmp_path / "ção"
    make_job_folder(str(folder), list_hosts("node", 3))
    assert (folder / "pe_hostfile").read_text() == "node 3 local@node UNDEFINED\n"
    assert (folder / "nodefile").read_text() == "node\nnode\nnode\n"
    assert list((folder / "tmp").iterdir()) == []
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with pytest.raises(FileExistsError):
        make_job_folder(str(folder), list_hosts("node", 3))


def test_job_folder_removed_read_only_and_links(
    tmp_path: Path,
) -> None:
    outside = tmp_path / "outside"
    (outside / "kept").mkdir(parents=True)
    inside = tmp_path / "folder" / "modules" / "deep"
    inside.mkdir(parents=True)
    (inside / "file").write_text("")
    (inside.parent / "link").symlink_to(outside)
    inside.chmod(0)
    inside.parent.chmod(0o500)
    remove_tree(os.fsencode(tmp_path / "folder"))
    assert not (tmp_path / "folder").exists()
    assert (outside / "kept").is_dir()
    remove_tree(encode_path(str(tmp_path / "folder")))
