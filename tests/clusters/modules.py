"""Environment Modules and Lmod, real ones, beside each other.

Debian's packages exclude one another, so they are unpacked into folders of their own below
``/var/tmp/hpcq-test-modules`` and only what they need is installed. ``up`` prints the path of each
system's command as JSON.
"""

import shutil
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.clusters.machine import CannotInstall, command_line, install

HOME = Path("/var/tmp/hpcq-test-modules")
PACKAGES = ("environment-modules", "lmod")
NEEDED = ("tcl", "tcl8.6", "lua5.3", "lua-filesystem", "lua-json", "lua-posix", "lua-term")


def up() -> dict[str, str]:
    """Unpack both unless they are there; return their commands by the name of their setting."""
    install(NEEDED, _missing)
    for package in PACKAGES:
        if not (HOME / package).is_dir():
            _unpack(package)
    return {
        "MODULES_CMD": str(_command("environment-modules", "usr/lib/*/modulecmd.tcl")),
        "LMOD_CMD": str(_command("lmod", "usr/share/lmod/*/libexec/lmod")),
    }


def _missing() -> list[str]:
    return [name for name in ("tclsh", "lua5.3") if shutil.which(name) is None] + [
        name for name in ("posix", "lfs", "term", "json") if not _lua_has(name)
    ]


def _lua_has(module: str) -> bool:
    lua = shutil.which("lua5.3")
    command = [lua or "lua5.3", "-e", f"require('{module}')"]
    return lua is not None and subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0


def _unpack(package: str) -> None:
    unfinished = HOME / f"{package}.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for step in (["update"], ["download", package]):
        done = subprocess.run(["apt-get", "-q", *step], cwd=unfinished, stdout=sys.stderr)
    if done.returncode:
        raise CannotInstall(f"apt-get could not download {package}")
    (lookup,) = unfinished.glob("*.deb")
    subprocess.run(["dpkg", "-x", lookup, unfinished], check=True, stdout=sys.stderr)
    unfinished.rename(HOME / package)


def _command(package: str, pattern: str) -> Path:
    found = sorted(path for path in (HOME / package).glob(pattern) if path.is_file())
    if not found:
        raise CannotInstall(f"{package} holds no {pattern}")
    return found[0]


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status."""
    return command_line(
        arguments,
        up if arguments == ["up"] else None,
        usage="modules.py up",
        lock=HOME.with_suffix(".lock"),
        variables=(),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
