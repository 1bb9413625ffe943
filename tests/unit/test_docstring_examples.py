"""The examples in docstrings, run."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

import hpcq

_ROOT = Path(hpcq.__file__).parent
_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _examples_in(module: Path) -> int:
    source = module.read_text()
    if ">>> " not in source:
        return 0
    texts = (
        ast.get_docstring(node) or ""
        for node in ast.walk(ast.parse(source))
        if isinstance(node, _DOCUMENTED)
    )
    return sum(len(doctest.DocTestParser().get_examples(text)) for text in texts)


_EXAMPLES = {
    ".".join(path.relative_to(_ROOT.parent).with_suffix("").parts): count
    for path in sorted(_ROOT.rglob("*.py"))
    if (count := _examples_in(path))
}


@pytest.mark.parametrize("module", _EXAMPLES)
def test_docstring_examples(module: str) -> None:
    results = doctest.testmod(importlib.import_module(module.removesuffix(".__init__")))
    # None of them stands where doctest does not look.
    assert results == (0, _EXAMPLES[module])
