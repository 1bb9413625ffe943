"""Scripts: what is checked before they are submitted, what they decide, and where output goes."""

from pathlib import Path

import pytest

from hpcq.schedulers.testing.backend import Backend
from hpcq.schedulers.testing.jobs import Jobs, Study, assert_problem, own_words
from hpcq.schedulers.testing.service import Service

SPEAKS = "echo to stdout\necho to stderr >&2\n"
FOLDERS = ["PLD +20%Norte", "100%j", "back\\slash", "two  blanks", "São José", "%x%%"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_output_folder_odd_names(jobs: Jobs, study: Study, folder: str) -> None:
    odd = Study(study.directory / folder)
    job_id = jobs.submit(odd.job(odd.script(SPEAKS), name="run"))
    told = jobs.read(job_id)
    job = jobs.ended(job_id)
    paths = (job["stdoutPath"], job["stderrPath"])
    assert job["state"] == "DONE"
    assert paths == (told["stdoutPath"], told["stderrPath"])
    assert paths == (f"{odd.directory}/run.o{job_id}", f"{odd.directory}/run.e{job_id}")
    assert [own_words(Path(path)) for path in paths] == ["to stdout\n", "to stderr\n"]


def test_output_path_relative(jobs: Jobs, study: Study) -> None:
    (study.directory / "100% logs").mkdir()
    script = study.script(SPEAKS)
    job_id = jobs.submit(study.job(script, stdoutPath="100% logs/out", stderrPath="err"))
    job = jobs.ended(job_id)
    out, err = study.directory / "100% logs" / "out", study.directory / "err"
    assert (job["state"], job["stdoutPath"], job["stderrPath"]) == ("DONE", str(out), str(err))
    assert (own_words(out), own_words(err)) == ("to stdout\n", "to stderr\n")


@pytest.mark.parametrize(
    ("asked", "file"),
    [
        ("%x-%j.log", "Caso 1-{id}.log"),
        ("%j", "{id}"),
        ("$%j, %x:%%j$JOB_ID", "${id}, Caso 1:%j$JOB_ID"),
        ("back\\%j_1", "back\\{id}_1"),
        ("PLD +20%Norte 20%acima 100%", "PLD +20%Norte 20%acima 100%"),
    ],
)
def test_output_path_patterns(
    service: Service, jobs: Jobs, study: Study, asked: str, file: str
) -> None:
    # In the name of a folder nothing stands for anything else.
    folder = study.directory / "100%j %a%x"
    folder.mkdir()
    body = study.job(study.script(SPEAKS), name="Caso 1", stderrPath=f"err {asked}")
    job_id = jobs.submit(body | {"stdoutPath": f"{folder}/{asked}"})
    told = jobs.read(job_id)
    job = jobs.ended(job_id)
    paths = (job["stdoutPath"], job["stderrPath"])
    expected = file.format(id=job_id)
    assert (job["state"], paths) == ("DONE", (told["stdoutPath"], told["stderrPath"]))
    assert paths == (f"{folder}/{expected}", f"{study.directory}/err {expected}")
    assert [own_words(Path(path)) for path in paths] == ["to stdout\n", "to stderr\n"]
    assert service.client.get(f"/jobs/{job_id}/output?stream=stdout").text == "to stdout\n"


@pytest.mark.parametrize("field", ["stdoutPath", "stderrPath"])
def test_output_path_task_pattern_without_array(service: Service, study: Study, field: str) -> None:
    body = study.job(study.script(SPEAKS), **{field: "%x.%a"})
    problem = assert_problem(service.client.post("/jobs", json=body), 400)
    assert (problem["field"], "no array" in problem["detail"]) == (field, True)


@pytest.mark.parametrize("stderr", ["both", "./both"])
def test_output_both_streams_one_file(jobs: Jobs, study: Study, stderr: str) -> None:
    script = study.script(SPEAKS * 3)
    job_id = jobs.submit(study.job(script, stdoutPath="both", stderrPath=stderr))
    assert jobs.ended(job_id)["state"] == "DONE"
    assert own_words(study.directory / "both") == "to stdout\nto stderr\n" * 3


def test_output_both_streams_one_file_with_job_id(jobs: Jobs, study: Study) -> None:
    script = study.script(SPEAKS * 3)
    job_id = jobs.submit(study.job(script, stdoutPath="20%-%j", stderrPath="./20%%-%j"))
    job = jobs.ended(job_id)
    assert job["state"] == "DONE"
    assert job["stderrPath"] == job["stdoutPath"] == f"{study.directory}/20%-{job_id}"
    assert own_words(Path(job["stdoutPath"])) == "to stdout\nto stderr\n" * 3


def test_script_dos_line_ends(service: Service, study: Study) -> None:
    script = study.directory / "dos.sh"
    script.write_bytes(b"#!/bin/sh\r\necho\r\n")
    problem = assert_problem(service.client.post("/jobs", json=study.job(script)), 400)
    assert problem["field"] == "scriptFile"
    assert "DOS line ends" in problem["detail"]


def test_script_in_read_only_folder(service: Service, study: Study) -> None:
    script = study.script("true\n")
    study.directory.chmod(0o555)
    problem = assert_problem(service.client.post("/jobs", json=study.job(script)), 400)
    study.directory.chmod(0o755)
    assert problem["field"] == "workingDirectory"
    assert "may not be written to" in problem["detail"]


def test_script_directives_where_request_silent(jobs: Jobs, study: Study, backend: Backend) -> None:
    job_id = jobs.submit(study.job(_directing_script(study, backend)))
    job = jobs.ended(job_id)
    is_heard = backend.obeys_directives
    out = "theirs.out" if is_heard else f"study.o{job_id}"
    assert (job["state"], job["name"]) == ("DONE", "theirs" if is_heard else "study")
    assert job["stdoutPath"] == f"{study.directory}/{out}"
    assert own_words(Path(job["stdoutPath"])) == "to stdout\n"
    assert own_words(Path(job["stderrPath"])) == "to stderr\n"


def test_script_directives_overridden_by_request(
    jobs: Jobs, study: Study, backend: Backend
) -> None:
    script = _directing_script(study, backend)
    job_id = jobs.submit(study.job(script, name="ours", stdoutPath="ours.out"))
    job = jobs.ended(job_id)
    assert (job["state"], job["name"]) == ("DONE", "ours")
    assert (study.directory / "ours.out").read_text() == "to stdout\n"
    assert not (study.directory / "theirs.out").exists()


def _directing_script(study: Study, backend: Backend) -> Path:
    """Write a script that names itself and its output by directives."""
    return study.script(backend.directives + SPEAKS)
