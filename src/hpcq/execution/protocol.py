"""Commands, their results, and the contracts of what runs them and of what looks at files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["DEFAULT_OUTPUT_LIMIT_BYTES", "Command", "Completed", "Files", "Runner"]

DEFAULT_OUTPUT_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command to run; never given to a shell.

    Attributes:
        argv: program and arguments. A program without a slash is looked up in ``search_path``.
        env: the whole environment; nothing is inherited.
        search_path: where programs are looked up, as in ``PATH``; ``env["PATH"]`` when None.
        cwd: the directory it runs in.
        stdin: what it reads, also when it opens ``/dev/stdin``; empty by default.
        mark: the name of a file that the command and its children hold open, by which
            `hpcq.execution.orphans` finds them; empty for none.
        run_as: the account in whose name it runs; None for the service's own.
        timeout_seconds: when it has not ended by then, its whole process group is killed.
        output_limit_bytes: the most it may print on either stream.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    search_path: str | None = None
    cwd: str = "/"
    stdin: bytes = b""
    mark: str = ""
    run_as: str | None = None
    timeout_seconds: float
    output_limit_bytes: int = DEFAULT_OUTPUT_LIMIT_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A command that ended by itself.

    Attributes:
        exit_code: its exit status; negative for the signal that ended it.
    """

    argv: tuple[str, ...]
    exit_code: int
    stdout: bytes
    stderr: bytes


class Runner(Protocol):
    """Runs commands: here, or on a remote login node."""

    async def run(self, command: Command) -> Completed:
        """Run the command to its end, whatever its exit status.

        Raises:
            CommandTimedOut: it did not end in time; it and its children are gone.
            OutputParseError: it printed more than its limit; it and its children are gone.
            CommandMissing: it does not exist or cannot be executed.
            AccountUnavailable: it could not be run in the name of its account.
            InvalidSpec: its account cannot enter the directory.
        """
        ...


class Files(Protocol):
    """Looks at files in the name of one account. All methods may raise OSError."""

    def mode(self, path: str) -> int:
        """Return the type and the permissions of a file (``st_mode``), links followed."""
        ...

    def may(self, path: str, access: int) -> bool:
        """Return whether the account has a kind of access (``os.X_OK``) to a path."""
        ...

    def link(self, path: str) -> str:
        """Return where a symbolic link leads."""
        ...

    def real_path(self, path: str) -> str:
        """Return the path, without links, of what a path leads to at this moment."""
        ...

    def read_folder(self, path: str) -> None:
        """Read the beginning of a folder."""
        ...

    def read(self, path: str, most_bytes: int, within: Sequence[str] = ()) -> bytes | None:
        """Return the content of a file, at most so many bytes; None for what is not a file.

        Args:
            path: the file.
            most_bytes: the length of the longest content.
            within: the folders, without links, of which one has to hold what was opened, or EXDEV
                is raised, as openat2(2) does; none for no bound.
        """
        ...

    def open_below(self, folder: str, names: Sequence[str]) -> tuple[int, int]:
        """Open a regular file below a folder, following no link on the way from there.

        Args:
            folder: an absolute path; links in it are followed.
            names: the names of the folders below it, then that of the file.

        Returns:
            Descriptors of the folder (``O_PATH``) and of the file. Where another account looks,
            they come from that account, and may be anything that it can open.
        """
        ...

    def list_below(self, folder: str, names: Sequence[str], most: int) -> tuple[int, int, bytes]:
        """List a folder below another one, following no link on the way from there.

        Args:
            folder: an absolute path; links in it are followed.
            names: the names of the folders below it; none for itself.
            most: how many entries are listed; one more is if there are more.

        Returns:
            Descriptors (``O_PATH``) as of `open_below`, and the entries, separated by NUL: the
            type (``S_IFMT``; 0 if unknown), the size, the time of the last change in ns, and the
            name, with blanks between them.
        """
        ...
