"""Scripts whose text is in the request: nothing of it is lost, and no file is made for it."""

import shlex
from pathlib import Path

import pytest

from hpcq.schedulers.testing.backend import Backend, those_with
from hpcq.schedulers.testing.contract.hostile import values
from hpcq.schedulers.testing.jobs import (
    RECORD_ARGUMENTS,
    RECORD_ENVIRONMENT,
    Jobs,
    Json,
    Study,
    assert_problem,
)
from hpcq.schedulers.testing.service import Service

takes_texts = those_with(lambda backend: backend.script_texts)


def _job(study: Study, text: str, **fields: object) -> Json:
    body = study.job("", **fields) | {"script": text}
    del body["scriptFile"]
    return body


@takes_texts
def test_script_text_runs_without_file(jobs: Jobs, study: Study) -> None:
    text = "#!/bin/sh\n" + RECORD_ARGUMENTS + RECORD_ENVIRONMENT + "/bin/pwd -P\n"
    args = ["a b", "", "-n", "'", "x\ny", "$HOME"]
    job_id = jobs.submit(_job(study, text, name="text", args=args))
    job = jobs.ended(job_id)
    assert (job["state"], job["name"], job["scriptFile"]) == ("DONE", "text", None)
    assert (job["args"], study.arguments()) == (args, args)
    assert study.environment()["HPCQ_SCRIPT_DIRECTORY"] == str(study.directory)
    assert Path(job["stdoutPath"]).read_text() == f"{study.directory}\n"
    outputs = {Path(job["stdoutPath"]).name, Path(job["stderrPath"]).name}
    assert {path.name for path in study.directory.iterdir()} == {"argv", "environ", *outputs}


@takes_texts
def test_script_text_byte_for_byte(jobs: Jobs, study: Study) -> None:
    hostile = [v for v in values(str(study.directory / "canary")) if "\r\n" not in v]
    # A directive is one in the middle of a script, too.
    hostile = [value for value in hostile if "\n#" not in value] + ["x" * 5000, "\r", "é\\n%j%%"]
    text = "#!/bin/sh\n" + "".join(f"printf '%s\\0' {shlex.quote(v)} >> got\n" for v in hostile)
    job_id = jobs.submit(_job(study, text.removesuffix("\n")))
    assert jobs.ended(job_id)["state"] == "DONE"
    assert (study.directory / "got").read_bytes().decode().split("\0") == [*hostile, ""]
    assert not (study.directory / "canary").exists()


@takes_texts
def test_script_text_without_interpreter_line(jobs: Jobs, study: Study) -> None:
    job_id = jobs.submit(_job(study, 'echo "$1" > ran\nexit 3\n', args=["one"]))
    job = jobs.ended(job_id)
    assert (job["state"], job["exitCode"]) == ("FAILED", 3)
    assert (study.directory / "ran").read_text() == "one\n"


@takes_texts
def test_script_text_directives_where_request_silent(
    jobs: Jobs, study: Study, backend: Backend
) -> None:
    text = "#!/bin/sh\n" + backend.directives + "echo to stdout\n"
    job = jobs.ended(jobs.submit(_job(study, text)))
    is_heard = backend.obeys_directives
    assert (job["state"], job["name"]) == ("DONE", "theirs" if is_heard else "study")
    assert "to stdout\n" in Path(job["stdoutPath"]).read_text()


@takes_texts
@those_with(lambda backend: backend.arrays)
def test_script_text_array(jobs: Jobs, study: Study) -> None:
    text = '#!/bin/sh\n: > "ran-$HPCQ_ARRAY_TASK_ID-$1"\n'
    array = {"first": 1, "last": 2}
    array_id = jobs.submit(_job(study, text, name="many", args=["x"], array=array))
    assert jobs.ended(array_id)["state"] == "DONE"
    assert {path.name for path in study.directory.glob("ran-*")} == {"ran-1-x", "ran-2-x"}


@takes_texts
def test_script_text_with_idempotency_key(service: Service, jobs: Jobs, study: Study) -> None:
    headers = {"Idempotency-Key": f"text of {study.directory}"}
    body = _job(study, "#!/bin/sh\nexit 0\n")
    first = service.client.post("/jobs", json=body, headers=headers)
    assert first.status_code == 201, first.text
    job_id = jobs.accepted(first)
    assert jobs.ended(job_id)["state"] == "DONE"
    again = service.client.post("/jobs", json=body, headers=headers)
    assert again.json() == first.json()
    others = (
        body | {"script": "#!/bin/sh\nexit 1\n"},
        study.job(study.script("exit 0\n")),
    )
    for other in others:
        answer = service.client.post("/jobs", json=other, headers=headers)
        assert_problem(answer, 422)


@takes_texts
def test_script_text_dry_run(service: Service, study: Study) -> None:
    body = _job(study, "#!/bin/sh\n: > ran\n", args=["a b"], name="planned")
    answer = service.client.post("/jobs?dryRun=true", json=body)
    assert answer.status_code == 200, answer.text
    plan = answer.json()
    assert ": > ran" in plan["script"]
    assert any("planned" in word for word in plan["argv"])
    assert plan["environment"]["HPCQ_SCRIPT_DIRECTORY"] == str(study.directory)
    assert list(study.directory.iterdir()) == []


@takes_texts
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"script": "true\r\nfalse\r\n"}, "script"),
        ({"script": ""}, "script"),
        ({"script": None}, "scriptFile"),
        ({"script": "true\n", "scriptFile": "/bin/true"}, "script"),
        ({"script": "", "scriptFile": "/bin/true"}, "script"),
        ({"script": "true\n", "program": "NEWAVE"}, "script"),
        ({"script": "a\0b"}, "script"),
    ],
)
def test_script_text_not_runnable(service: Service, study: Study, fields: Json, field: str) -> None:
    body = _job(study, "true\n") | fields
    assert assert_problem(service.client.post("/jobs", json=body), 400)["field"] == field


@those_with(lambda backend: not backend.script_texts)
def test_script_text_unsupported_by_scheduler(service: Service, study: Study) -> None:
    problem = assert_problem(service.client.post("/jobs", json=_job(study, "true\n")), 501)
    assert problem["field"] == "script"
