"""Debian's tmux, the terminal of the tests, installed where it is missing.

``up`` prints its path as JSON.
"""

import shutil
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.clusters.machine import CannotInstall, command_line, install


def up() -> dict[str, str]:
    """Install it unless it is there; return where it is."""
    install(("tmux",), lambda: [] if shutil.which("tmux") else ["tmux"])
    found = shutil.which("tmux")
    if found is None:
        raise CannotInstall("the package holds no tmux")
    return {"TMUX_COMMAND": found}


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status."""
    return command_line(
        arguments,
        up if arguments == ["up"] else None,
        usage=__doc__,
        lock=Path("/var/tmp/hpcq-test-tmux.lock"),
        variables=(),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
