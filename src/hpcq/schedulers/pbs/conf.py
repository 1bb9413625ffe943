"""``pbs.conf``: where PBS is installed, and where it keeps its files."""

import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["command_path", "read_conf"]

_DEFAULT = "/etc/pbs.conf"
_LINE = re.compile(r"^[ \t]*(PBS_[A-Z0-9_]+)=[\"']?([^\s\"']+)", re.MULTILINE)


def read_conf(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what is set there; nothing where there is no such file.

    Args:
        environment: ``PBS_CONF_FILE`` says where it is.
    """
    path = Path(environment.get("PBS_CONF_FILE") or _DEFAULT)
    try:
        return dict(_LINE.findall(path.read_text(encoding="utf-8", errors="replace")))
    except OSError:
        return {}


def command_path(search_path: str, environment: Mapping[str, str]) -> str:
    """Return where commands are looked for: first where PBS says that it is installed.

    Its packages put its commands into a folder of their own, ``/opt/pbs/bin``, which only login
    shells know. Another scheduler's ``qstat`` may stand in the usual folders.

    Args:
        search_path: the usual folders, as in ``PATH``.
        environment: ``PBS_CONF_FILE`` says where PBS is configured.
    """
    installed = read_conf(environment).get("PBS_EXEC")
    return search_path if installed is None else f"{installed}/bin:{search_path}"
