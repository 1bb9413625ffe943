"""A directory or file that another machine has just made is not visible yet (NFS).

Met in: nextflow 931.
Here: The service reads the folders above it, which makes an NFS client forget that the name was
missing, and waits up to `PATH_WAIT_SECONDS`. Then it answers 400 with the field and the time
waited. Other requests go on meanwhile.

The same for the output of a job is still to come, with the reading of outputs.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from tests.unit.services.kit import service_settings

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import JobSpec
from hpcq.schedulers.testing import FakeScheduler
from hpcq.schedulers.testing.jobs import Json, Study, assert_problem
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, until
from hpcq.services.submission.paths import PathChecker


class RememberedAbsences:
    """The look-ups of an NFS client: what was absent stays so until its folder is read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self._root = str(root)
        self._absent: set[str] = set()
        self._stat, self._scandir = os.stat, os.scandir
        monkeypatch.setattr(os, "stat", self.stat)
        monkeypatch.setattr(os, "scandir", self.scandir)
        monkeypatch.setattr(Path, "stat", lambda path: self.stat(str(path)))

    def stat(self, path: str, *args: object, **kwargs: object) -> os.stat_result:
        text = str(path)
        for above in (text, *map(str, Path(text).parents)):
            if above in self._absent:
                raise FileNotFoundError(2, "No such file or directory", text)
        try:
            return self._stat(path, *args, **kwargs)  # type: ignore[arg-type]
        except FileNotFoundError:
            if text.startswith(self._root):
                self._absent.add(text)
            raise

    def scandir(self, path: str) -> "os._ScandirIterator[str]":
        self.stat(path)
        entries: os._ScandirIterator[str] = self._scandir(path)
        self._absent = {name for name in self._absent if os.path.dirname(name) != str(path)}
        return entries


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def spec(tmp_path: Path) -> JobSpec:
    """A job whose directory, two levels deep, is not there yet."""
    directory = tmp_path / "run" / "1"
    return JobSpec(
        name="x", working_directory=str(directory), script_file=str(directory / "run.sh")
    )


@pytest.fixture
def checker() -> Iterator[PathChecker]:
    checker = PathChecker(FakeScheduler(), service_settings())
    yield checker
    checker.close()


@pytest.mark.anyio
async def test_path_cached_absence(
    tmp_path: Path, spec: JobSpec, checker: PathChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = RememberedAbsences(monkeypatch, tmp_path)
    with pytest.raises(InvalidSpec, match="cannot be used") as refused:
        await checker.check(spec)
    assert refused.value.field == "workingDirectory"
    for name in ("run", "run/1", "run/1/run.sh"):
        with pytest.raises(FileNotFoundError):
            client.stat(str(tmp_path / name))
    _make(Path(spec.working_directory))
    with pytest.raises(FileNotFoundError):
        client.stat(spec.script_file)
    await checker.check(spec)


def _body(directory: Path) -> Json:
    return {
        "workingDirectory": str(directory),
        "reservedSlots": 1,
        "scriptFile": str(directory / "run.sh"),
    }


def _make(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "run.new").write_text("#!/bin/sh\ntrue\n")
    (directory / "run.new").rename(directory / "run.sh")


def test_path_appears_in_time(
    start_service: Callable[..., Service], study: Study, tmp_path: Path
) -> None:
    service = start_service(PATH_WAIT_SECONDS="60")
    late = [tmp_path / "late" / str(number) for number in range(40)]
    body = study.job(study.script("true\n"))

    def submit(directory: Path) -> httpx.Response:
        return httpx.post(f"{service.url}/jobs", json=_body(directory), timeout=PATIENCE_SECONDS)

    with ThreadPoolExecutor(len(late)) as pool:
        waiting = [pool.submit(submit, directory) for directory in late]
        # More are waited for than there are threads to look, and another one is answered.
        until(lambda: service.client.post("/jobs", json=body).status_code == 201)
        assert not any(answer.done() for answer in waiting)
        for directory in late:
            _make(directory)
        answers = [answer.result() for answer in waiting]
    assert {answer.status_code for answer in answers} == {201}


@pytest.mark.parametrize("missing", ["workingDirectory", "scriptFile"])
def test_path_never_appears(
    start_service: Callable[..., Service], tmp_path: Path, study: Study, missing: str
) -> None:
    service = start_service(PATH_WAIT_SECONDS="0.3")
    body = study.job(study.script("true\n"))
    body[missing] = str(tmp_path / "never" / "made")
    problem = assert_problem(service.client.post("/jobs", json=body), 400)
    assert problem["field"] == missing
    assert "No such file" in problem["detail"]
    assert "The service waited 0.3 s for it." in problem["detail"]


def test_path_wrong_kind_no_wait(start_service: Callable[..., Service], study: Study) -> None:
    service = start_service(PATH_WAIT_SECONDS="60")
    body = study.job(study.directory)
    problem = assert_problem(service.client.post("/jobs", json=body), 400)
    assert problem["field"] == "scriptFile"
    assert "waited" not in problem["detail"]
