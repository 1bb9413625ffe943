"""Real accounts of this machine, made for a test and removed after it. Only root can make them."""

import contextlib
import os
import pwd
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Account", "made_accounts", "make_folder", "run_as"]

Account = pwd.struct_passwd

_ATTEMPTS = 100
_PAUSE_SECONDS = 0.1


def make_folder(prefix: str, place: Path | None = None) -> Path:
    """Make a folder that other accounts can enter, as they cannot enter pytest's own.

    Args:
        prefix: of its name.
        place: the folder for it, in place of the system's.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    folder.chmod(0o755)
    return folder


@contextlib.contextmanager
def made_accounts(count: int, homes: Path) -> Iterator[list[Account]]:
    """Make accounts with homes of their own; they share one group beside their primary ones.

    Args:
        count: of accounts.
        homes: the folder for their homes, which others can enter.
    """
    names = [f"hpcq-t{os.getpid()}-{number}" for number in range(count)]
    group = f"hpcq-t{os.getpid()}-all"
    try:
        _change("groupadd", group)
        for name in names:
            home = ("--home-dir", str(homes / name))
            _change("useradd", "--create-home", "--user-group", "--groups", group, *home, name)
        yield [pwd.getpwnam(name) for name in names]
    finally:
        for name in names:
            with contextlib.suppress(subprocess.CalledProcessError):
                _change("userdel", "--force", name)
        _change("groupdel", group)


def run_as(account: Account, command: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command as an account, outside of any job; return it with its output."""
    return subprocess.run(
        ["/bin/sh", "-c", command],
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )


def _change(*command: str) -> None:
    # Other tests change the files of accounts at the same time; one of two finds them locked.
    for _ in range(_ATTEMPTS):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if "lock" not in done.stderr:
            break
        time.sleep(_PAUSE_SECONDS)
    done.check_returncode()
