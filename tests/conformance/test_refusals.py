"""Requests that cannot be jobs: they are refused with a reason and leave nothing behind."""

from pathlib import Path
from typing import Any

import pytest
from tests.backends import AS_ORIGINAL

from hpcq.schedulers.testing.jobs import Study, assert_problem
from hpcq.schedulers.testing.service import Service

# What is refused before any scheduler has a part in it.
ON_ONE = pytest.mark.parametrize("backend", ["LOCAL", AS_ORIGINAL], indirect=True)


@pytest.mark.parametrize("field", ["stdoutPath", "stderrPath"])
def test_output_path_unwritable(service: Service, study: Study, field: str) -> None:
    script = study.script("true\n")
    for path in (f"{study.directory}/absent/out", "absent/out", f"{script}/out", "..", "/"):
        answer = service.client.post("/jobs", json=study.job(script) | {field: path})
        assert assert_problem(answer, 400)["field"] == field


def _missing(study: Study, kind: str) -> Path:
    path = study.directory / kind
    if kind == "a directory":
        path.mkdir()
    elif kind == "unreadable":
        path.write_text("#!/bin/sh\n")
        path.chmod(0)
    return path


@pytest.mark.parametrize("kind", ["absent", "a directory", "unreadable"])
def test_script_unreadable(service: Service, study: Study, kind: str) -> None:
    body = study.job(_missing(study, kind))
    problem = assert_problem(service.client.post("/jobs", json=body), 400)
    assert problem["field"] == "scriptFile"


def test_directory_missing(service: Service, study: Study) -> None:
    script = study.script("true\n")
    for path in (study.directory / "absent", script):
        body = study.job(script) | {"workingDirectory": str(path)}
        problem = assert_problem(service.client.post("/jobs", json=body), 400)
        assert problem["field"] == "workingDirectory"


IGNORED_FOR_THE_ORIGINAL = {"clusterId", "colour", "working_directory"}


@ON_ONE
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"workingDirectory": "study"}, 400),
        ({"workingDirectory": ""}, 400),
        ({"workingDirectory": None}, 400),
        ({"workingDirectory": 7}, 422),
        ({"workingDirectory": "/nul\0"}, (400, 422)),
        ({"scriptFile": "study.sh"}, 400),
        ({"scriptFile": "./study.sh"}, 400),
        ({"scriptFile": ""}, 400),
        ({"scriptFile": None}, 400),
        ({"scriptFile": ["x"]}, 422),
        ({"reservedSlots": 0}, 400),
        ({"reservedSlots": -1}, 400),
        ({"reservedSlots": "four"}, 422),
        ({"reservedSlots": 2.5}, 422),
        ({"reservedSlots": True}, 422),
        ({"reservedSlots": None}, 400),
        ({"reservedSlots": 10**30}, (400, 422)),
        ({"args": "one"}, 422),
        ({"args": [True]}, 422),
        ({"args": [None]}, 422),
        ({"args": ["nul\0"]}, (400, 422)),
        ({"name": 1}, 422),
        ({"name": "nul\0"}, (400, 422)),
        ({"clusterId": "another"}, 400),
        ({"clusterId": 1}, 422),
        ({"environment": []}, 422),
        ({"environment": {"A": 1}}, 422),
        ({"environment": {"A": "nul\0"}}, (400, 422)),
        ({"environment": {"": "x"}}, (400, 422)),
        ({"environment": {"A=B": "x"}}, (400, 422)),
        ({"hold": "yes"}, 422),
        ({"wallTimeLimit": 0}, (400, 422)),
        ({"wallTimeLimit": "1h"}, 422),
        ({"memoryLimit": -1}, (400, 422)),
        ({"memoryLimit": "4G"}, 422),
        ({"colour": "blue"}, 422),
        ({"working_directory": "/"}, 422),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_content_invalid(
    service: Service,
    study: Study,
    fields: dict[str, Any],
    status: int | tuple[int, ...],
) -> None:
    if service.is_original and fields.keys() & IGNORED_FOR_THE_ORIGINAL:
        body = study.job("/nowhere") | fields
        problem = assert_problem(service.client.post("/jobs", json=body), 400)
        assert problem["field"] == "scriptFile", "nothing else is wrong"
        return
    body = study.job(study.script("true\n")) | fields
    before = service.client.get("/jobs").json()
    problem = assert_problem(
        service.client.post("/jobs", json=body), *([status] if isinstance(status, int) else status)
    )
    field = next(iter(fields))
    assert field in problem.get("field", "") + problem["detail"]
    named = {job["jobId"] for job in service.client.get("/jobs").json() if _is_in(job, study)}
    assert named == {job["jobId"] for job in before if _is_in(job, study)}


def _is_in(job: dict[str, Any], study: Study) -> bool:
    return bool(job["workingDirectory"] == str(study.directory))


@ON_ONE
def test_fields_by_wire_name_only(service: Service, study: Study) -> None:
    body = study.job(study.script("true\n"))
    body["script_file"] = body.pop("scriptFile")
    # A field that is not known is wrong, or else the mandatory one is missing.
    assert_problem(service.client.post("/jobs", json=body), 400 if service.is_original else 422)


@ON_ONE
@pytest.mark.parametrize("field", ["workingDirectory", "reservedSlots", "scriptFile"])
def test_fields_mandatory(service: Service, study: Study, field: str) -> None:
    body = study.job(study.script("true\n"))
    del body[field]
    problem = assert_problem(service.client.post("/jobs", json=body), 400)
    assert problem["field"] == field
