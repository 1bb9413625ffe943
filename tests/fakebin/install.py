"""Puts a stand-in's commands into a folder of their own."""

import functools
import json
import py_compile
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

__all__ = ["install"]


def install(program: Path, commands: Sequence[str], directory: Path, **config: object) -> Path:
    """Install a program under many names; returns the folder that has them and nothing else.

    Args:
        program: run with its state folder, the command's name and the command's arguments.
        commands: the names.
        directory: gets ``bin`` and ``state``.
        config: what the program finds as ``config.json`` in its state folder.
    """
    state, path = directory / "state", directory / "bin"
    for folder in (state, path):
        folder.mkdir(parents=True, exist_ok=True)
    (state / "config.json").write_text(json.dumps(config))
    interpreter = f"{shlex.quote(sys.executable)} -I -S -B {shlex.quote(str(_compiled(program)))}"
    for command in commands:
        script = path / command
        script.write_text(
            f'#!/bin/sh\nexec {interpreter} {shlex.quote(str(state))} {command} "$@"\n'
        )
        script.chmod(0o755)
    return path


@functools.cache
def _compiled(program: Path) -> Path:
    """Compile a program and its ``output``: each command is a process, which would do it anew."""
    folder = Path(_folder().name) / program.parent.name
    for source in (program, program.with_name("output.py")):
        py_compile.compile(str(source), str(folder / f"{source.stem}.pyc"), doraise=True)
    return folder / f"{program.stem}.pyc"


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="hpcq-test-programs-", ignore_cleanup_errors=True)
