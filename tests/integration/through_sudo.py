"""A part of a service that is not root: runs the commands that a test sends, through ``sudo``.

Each line of standard input is a command as JSON, or ``{"end": [ACCOUNT, MARK]}``, or ``{"read":
[ACCOUNT, PATH]}``, or ``{"open": [ACCOUNT, FOLDER, NAME]}``; each gets a line with its outcome. The
system's Python runs it, for the test's own may lie where others cannot enter: standard library
only.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2] / "src"))

from hpcq.domain.errors import HpcqError
from hpcq.execution import account_process
from hpcq.execution.account_files import AccountFiles
from hpcq.execution.local import LocalRunner
from hpcq.execution.opened import Bounds, check_opened
from hpcq.execution.protocol import Command


async def _outcome(runner: LocalRunner, request: dict[str, Any]) -> object:
    try:
        if "end" in request:
            account_process.end_orphans_of(*request["end"])
            return None
        if "read" in request:
            account, path = request["read"]
            with AccountFiles(account, 60.0) as files:
                return (files.read(path, 1 << 20) or b"").decode()
        if "open" in request:
            account, folder, name = request["open"]
            with AccountFiles(account, 60.0) as files:
                base, found = files.open_below(folder, [name])
                listed = files.list_below(folder, [], 10)[2]
            check_opened(base, found, os.fstat(found).st_uid, Bounds(), is_foreign_allowed=False)
            return [os.pread(found, 100, 0).decode(), name in listed.decode()]
        stdin = request.pop("stdin", "").encode()
        command = Command(env={"PATH": "/usr/bin:/bin"}, stdin=stdin, **request)
        done = await runner.run(command)
        return [done.exit_code, done.stdout.decode(), done.stderr.decode()]
    except (HpcqError, OSError) as error:
        return {"error": type(error).__name__, "detail": str(error)}


def main(program: str) -> None:
    account_process.PROGRAM = Path(program)
    runner = LocalRunner()
    for line in sys.stdin:
        print(json.dumps(asyncio.run(_outcome(runner, json.loads(line)))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
