"""A shell in which the commands of a page are run in their order, each block beside its answer."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.client.terminal import CommandLine
from tests.docs.blocks import Block, blocks

from hpcq.schedulers.testing.service import INSTALLATION, Service

__all__ = ["read_page"]

_END = "=== end of a block ==="
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}")


def read_page(
    page: str, folder: Path, service: Service, moved: Mapping[str, str] | None = None
) -> None:
    """Run the ``sh`` blocks of a page in one shell, and compare each output with what follows.

    An answer is a block of the kind ``text``, or ``json``, in which each uid stands for any.

    Args:
        page: its path in ``docs``.
        folder: the home of whoever runs them; the shell begins there.
        service: answers ``hpcq`` and the addresses with the usual port.
        moved: what the page names, and what stands for it here.
    """
    program = folder / ".bin" / "hpcq"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hpcq "$@"\n')
    program.chmod(0o755)
    environment = CommandLine(folder, {"HPCQ_URL": service.url}).environment
    environment["PATH"] = f"{program.parent}:{environment['PATH']}"
    moves = {"localhost:5049": f"127.0.0.1:{service.port}", "5049": str(service.port)}
    moves |= moved or {}

    def here(text: str) -> str:
        for name, value in moves.items():
            text = text.replace(name, value)
        return text

    found = blocks(INSTALLATION / "docs" / page)
    commands = [block for block in found if block.kind == "sh"]
    script = "".join(f"{here(block.text)}\necho '{_END}'\n" for block in commands)
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    printed = done.stdout.split(f"{_END}\n")
    assert len(printed) > len(commands), (
        f"{page}, line {commands[len(printed) - 1].line}: {printed[-1]}{done.stderr}"
    )
    for block, output in zip(commands, printed, strict=False):
        following = next((one for one in found if one.line > block.line), None)
        if following is not None and following.kind in ("json", "text"):
            expected = here(following.text)
            assert _comparable(output, following) == _comparable(expected, following), (
                f"{page}, line {following.line}: {output}"
            )


def _comparable(text: str, block: Block) -> Any:
    return json.loads(_UID.sub("uid", text)) if block.kind == "json" else text
