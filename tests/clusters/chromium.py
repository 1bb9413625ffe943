"""Debian's Chromium, installed where it is missing. ``up`` prints its path as JSON.

Playwright starts it for each test; its own builds would come from another place.
"""

import shutil
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.clusters.machine import CannotInstall, command_line, install

# A page without fonts shows boxes.
PACKAGES = ("chromium", "fonts-dejavu-core")


def up() -> dict[str, str]:
    """Install it unless it is there; return where it is."""
    install(PACKAGES, lambda: [] if shutil.which("chromium") else ["chromium"])
    found = shutil.which("chromium")
    if found is None:
        raise CannotInstall("the package holds no chromium")
    return {"CHROMIUM": found}


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status."""
    return command_line(
        arguments,
        up if arguments == ["up"] else None,
        usage=__doc__,
        lock=Path("/var/tmp/hpcq-test-chromium.lock"),
        variables=(),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
