"""The recipes of ``docs/client.md``, run in their order against a live service."""

import doctest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.docs.blocks import blocks

from hpcq.client import errors, sync_client
from hpcq.schedulers.testing.service import INSTALLATION, Service

PAGE = INSTALLATION / "docs" / "client.md"


def test_recipes(
    tmp_path: Path,
    start_service: Callable[..., Service],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = tmp_path / "study.sh"
    script.write_text('#!/bin/sh\necho "study $1 of $CASE"\n')
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPCQ_URL", start_service().url)
    names: dict[str, Any] = {}
    recipes = [block.text for block in blocks(PAGE) if block.kind == "python"]
    printed = [_run(recipe, names, capsys) for recipe in recipes]
    uid = names["client"].job("2").uid
    names["client"].close()
    first, submitted, waited, followed, listed, events, together, refused = printed
    assert first == "DONE\n"
    assert submitted.split() == ["2", uid]
    assert waited.startswith("DONE 0 None\nstudy december of december\n")
    assert followed == "study january of \n"
    assert "'DONE': " in listed
    assert events.splitlines()[-1].endswith("1 DONE")
    assert together == "['DONE', 'DONE']\n"
    assert refused.startswith("workingDirectory '/nowhere' cannot be used")


def test_docstring_examples(
    tmp_path: Path,
    start_service: Callable[..., Service],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = tmp_path / "study.sh"
    script.write_text('#!/bin/sh\necho "study $1"\n')
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    printed = []
    with sync_client.Client(start_service().url) as client:
        names: dict[str, Any] = {"Client": sync_client.Client, "client": client}
        for method in (client.submit, client.jobs):
            (example,) = doctest.DocTestParser().get_examples(method.__doc__ or "")
            printed.append(_run(f"{example.source}\nrun(client)", names, capsys))
    assert printed == ["DONE study november\n\n", "['november']\n"]


def test_error_classes_documented() -> None:
    kinds = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.ClientError)
    }
    text = PAGE.read_text()
    assert {name for name in kinds if f"`{name}`" not in text} == set()


def _run(code: str, names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102
    return capsys.readouterr().out
