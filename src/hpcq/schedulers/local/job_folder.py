"""The folder of a job: its temporary files and the lists of its hosts.

The folder of a job that runs as another account is root's and holds its script too::

    hpcq-17.1-000123456789/     root's; everybody may enter it, nobody may list it
    ├── pe_hostfile, nodefile   root's; everybody may read them
    ├── script                  the account's, closed to everybody else
    └── tmp/                    the account's, closed to everybody else: TMPDIR

So the job can put nothing into the place of what root makes, gives away and removes here. What is
below ``tmp`` is the account's, and only a process of the account removes it: whatever links and
folders it finds there, the kernel decides with the account's rights.

Standard library only. Run as a program, ``job_folder.py PATH`` removes such a folder.
"""

import contextlib
import errno
import os
import select
import signal
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

if __name__ == "__main__":
    # Isolated mode (-I -S) knows the standard library only; this package comes after it.
    sys.path.append(str(Path(__file__).resolve().parents[3]))

from hpcq.execution.privileges import become
from hpcq.schedulers.local.accounts import AccountIds, AccountUnusable
from hpcq.schedulers.local.files import encode_path, remove_tree

__all__ = [
    "SCRIPT",
    "TEMPORARY",
    "check_place",
    "give_away",
    "make_job_folder",
    "remove_job_folder",
    "remove_job_folder_of_account",
]

TEMPORARY = "tmp"
SCRIPT = "script"

_REMOVAL_SECONDS = 120.0
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def check_place(folder: bytes) -> None:
    """Check that other accounts can enter a folder, and cannot replace what root makes there.

    Args:
        folder: an absolute path without symbolic links.

    Raises:
        AccountUnusable: they can, here or in a folder above.
    """
    path = Path(os.fsdecode(folder))
    for place in (path, *path.parents):
        found = place.stat()
        others_may_write = found.st_mode & _OTHERS_MAY_WRITE and not found.st_mode & stat.S_ISVTX
        if found.st_uid not in (0, os.geteuid()) or others_may_write:
            raise AccountUnusable(
                f"Another account could replace the folders of jobs in {str(path)!r}, because "
                f"{str(place)!r} is not closed to it. Set TMPDIR for the service to another folder."
            )
        if not found.st_mode & stat.S_IXOTH:
            raise AccountUnusable(
                f"Jobs of other accounts cannot enter their folders in {str(path)!r}, because "
                f"{str(place)!r} is closed. Set TMPDIR for the service to another folder."
            )


def make_job_folder(path: str, lists: Mapping[str, str]) -> None:
    """Make a job's folder, an empty one for its temporary files, and the lists of its hosts.

    Args:
        path: the folder.
        lists: the content of each list by its name.

    Raises:
        OSError: it cannot be made.
    """
    os.mkdir(encode_path(path), 0o700)
    os.mkdir(encode_path(f"{path}/{TEMPORARY}"), 0o700)
    for name, content in lists.items():
        with open(encode_path(f"{path}/{name}"), "w", encoding="utf-8") as file:
            file.write(content)


def give_away(path: str, script: bytes, owner: AccountIds) -> None:
    """Put a script into a folder that was just made, and let an account use both.

    Until the last step the folder is closed to everybody but root.

    Raises:
        OSError: this is not possible.
    """
    folder = os.open(encode_path(path), os.O_RDONLY | _FOLDER)
    try:
        for name in os.listdir(folder):
            os.chmod(name, 0o644 if name != TEMPORARY else 0o700, dir_fd=folder)
        new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(SCRIPT, new, 0o500, dir_fd=folder), "wb") as file:
            file.write(script)
            os.fchmod(file.fileno(), 0o500)
            os.fchown(file.fileno(), owner["uid"], owner["gid"])
        os.chown(TEMPORARY, owner["uid"], owner["gid"], dir_fd=folder, follow_symlinks=False)
        os.fchmod(folder, 0o711)
    finally:
        os.close(folder)


def remove_job_folder(path: bytes) -> None:
    """Remove the folder of a job of this account, or what the job has put into its place."""
    with contextlib.suppress(OSError):
        # Another account may have put something there to keep the job from starting.
        if os.lstat(path).st_uid == os.geteuid():
            remove_tree(path)


def remove_job_folder_of_account(path: bytes) -> None:
    """Remove the folder of a job that ran as another account. For a process of a single thread.

    What the account itself may not remove stays, and so does what takes longer than two minutes.
    """
    with contextlib.suppress(OSError):
        folder = os.open(path, os.O_RDONLY | _FOLDER)
        try:
            found = os.fstat(folder)
            if found.st_uid != os.geteuid() or found.st_mode & _OTHERS_MAY_WRITE:
                return
            if not _remove_empty(folder):
                _empty_as_owner(folder)
            for name in os.listdir(folder):
                remove = os.rmdir if name == TEMPORARY else os.unlink
                with contextlib.suppress(OSError):
                    remove(name, dir_fd=folder)
        finally:
            os.close(folder)
        os.rmdir(path)


def _remove_empty(folder: int) -> bool:
    """Remove the temporary folder if nothing is in it, which saves a process; return whether."""
    try:
        os.rmdir(TEMPORARY, dir_fd=folder)
    except OSError as error:
        return error.errno == errno.ENOENT
    return True


def _empty_as_owner(folder: int) -> None:
    """Remove what is in the temporary folder, in a process of the account that owns it."""
    temporary = os.open(TEMPORARY, os.O_PATH | _FOLDER, dir_fd=folder)
    try:
        owner = os.fstat(temporary)
        if owner.st_uid == os.geteuid():
            # It was not given away yet.
            return
        pid = os.fork()
        if pid == 0:
            _remove_all(temporary, AccountIds(uid=owner.st_uid, gid=owner.st_gid, groups=[]))
    finally:
        os.close(temporary)
    with open(os.pidfd_open(pid), "rb") as process:
        # The account can stop this process, or serve files that never answer (FUSE).
        if not select.select([process], [], [], _REMOVAL_SECONDS)[0]:
            os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _remove_all(temporary: int, owner: AccountIds) -> None:
    try:
        os.dup2(temporary, 0)
        # Nothing of root's stays open; what a shepherd has is far below this number.
        os.closerange(1, 256)
        become(**owner)
        os.chmod("/proc/self/fd/0", 0o700)
        os.fchdir(0)
        for name in os.listdir(b"."):
            remove_tree(name)
    finally:
        os._exit(0)


if __name__ == "__main__":
    remove_job_folder_of_account(os.fsencode(sys.argv[1]))
