"""The machine's ``sudo``, installed where it is missing. ``up`` prints its path as JSON.

Nothing of it runs, and no rule of it is changed: a test writes and removes its own.
"""

import shutil
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.clusters.machine import CannotInstall, command_line, install


def up() -> dict[str, str]:
    """Install it unless it is there; return where it is."""
    install(("sudo",), lambda: [] if shutil.which("sudo") else ["sudo"])
    found = shutil.which("sudo")
    if found is None:
        raise CannotInstall("the package holds no sudo")
    return {"SUDO": found}


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status."""
    return command_line(
        arguments,
        up if arguments == ["up"] else None,
        usage=__doc__,
        lock=Path("/var/tmp/hpcq-test-sudo.lock"),
        variables=(),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
