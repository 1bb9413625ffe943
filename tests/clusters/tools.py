"""Tools of Debian that packages are examined with; ``up`` installs those that are missing.

It prints their paths as JSON. Nothing of them runs afterwards: no daemon is started.
"""

import shutil
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.clusters.machine import command_line, install

PACKAGES = {"promtool": "prometheus", "systemd-analyze": "systemd", "setpriv": "util-linux"}


def up() -> dict[str, str]:
    """Install what is missing; return where each is."""
    install(list(PACKAGES.values()), lambda: [name for name in PACKAGES if not shutil.which(name)])
    return {name: str(shutil.which(name)) for name in PACKAGES}


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status."""
    return command_line(
        arguments,
        up if arguments == ["up"] else None,
        usage=__doc__,
        lock=Path("/var/tmp/hpcq-test-tools.lock"),
        variables=(),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
