"""The sentences of the command line: every one exists in both languages."""

import ast
import string
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import hpcq.cli
from hpcq.api.problems import PROBLEMS, TITLES
from hpcq.cli.portuguese import ERRORS, REASONS, SENTENCES
from hpcq.cli.texts import is_portuguese
from hpcq.domain.states import FailureKind, ReasonCode

FILES = sorted(Path(hpcq.cli.__file__).parent.glob("*.py"))


def sentences() -> Iterator[str]:
    """Yield what is shown: the arguments of ``_``, and the help of commands."""
    for file in FILES:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        commands = {name for node in ast.walk(tree) for name in _commands(node)}
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Name(id="_"), args=[ast.Constant(value=str(text))]):
                    yield text
                case ast.FunctionDef(name=name) if name in commands:
                    yield (ast.get_docstring(node) or "").partition("\n")[0]


def _commands(node: ast.AST) -> Iterator[str]:
    """Yield the names of functions that a node makes commands."""
    match node:
        case ast.FunctionDef(name=name, decorator_list=[ast.Call(func=ast.Name(id="command"))]):
            yield name
        case ast.Call(func=ast.Call(func=ast.Name(id="command")), args=[ast.Name(id=name)]):
            yield name
        case ast.For(target=ast.Name(id="function"), iter=ast.Tuple(elts=names)):
            yield from (name.id for name in names if isinstance(name, ast.Name))


def test_translations_complete() -> None:
    assert [text for text in sentences() if text not in SENTENCES] == []


def test_translations_unused() -> None:
    assert SENTENCES.keys() - set(sentences()) == set()


def test_translations_same_placeholders() -> None:
    def values(text: str) -> set[str | None]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}

    assert {text for text, told in SENTENCES.items() if values(text) != values(told)} == set()


def test_translations_each_reason() -> None:
    unknown = {FailureKind.UNKNOWN}
    assert {*ReasonCode, *FailureKind} - unknown == REASONS.keys()


def test_translations_each_error() -> None:
    codes = {*(code for _, _, code, _ in PROBLEMS), *(code for code, _ in TITLES.values())}
    assert codes | {"ProfileError", "Unreachable", "Unreadable"} == ERRORS.keys()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"LANG": "pt_BR.UTF-8"}, True),
        ({"LANG": "pt_BR.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "pt_PT"}, True),
        ({"LANG": "pt_BR.UTF-8", "LC_ALL": ""}, True),
    ],
)
def test_language(environment: Mapping[str, str], expected: bool) -> None:
    assert is_portuguese(environment) is expected
