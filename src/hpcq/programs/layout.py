"""What the rules share: a root folder for each program, in it an entry for each version."""

from collections.abc import Callable, Sequence
from pathlib import Path

from hpcq.domain.programs import Installation
from hpcq.programs.folders import Entry, Folders, shown
from hpcq.programs.patience import Patience
from hpcq.programs.reading import Reading

__all__ = ["Found", "VersionReader", "because", "late"]

Found = Installation | str | None
"""A version, a sentence about why it is left out, or nothing to speak of."""

# Those that did not answer are named one by one only while they are few.
_MOST_NAMED = 5


class VersionReader:
    """Reads the versions of one program, again and again.

    Args:
        name: the program's.
        root: the folder that holds its versions.
        look: what an entry of the root is; it may read further folders. Called in threads.
        seconds: how long all of them may take.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        look: Callable[[Entry, Folders], Found],
        seconds: float,
    ) -> None:
        self.name = name
        self._root = str(root)
        self._look = look
        self._seconds = seconds
        self._folders = Folders()
        self._patience = Patience[Entry](seconds)

    def read(self) -> Reading:
        """Return what is there now. Hidden entries (a file server's ``.snapshot``) are left out."""
        try:
            entries = self._folders.entries(self._root)
        except OSError as error:
            problem = f"The folder {shown(self._root)} of {self.name} {because(error)}."
            return Reading(installations=(), problems=(problem,))
        visible = [entry for entry in entries if not entry.name.startswith(".")]
        readable = [entry for entry in visible if entry.is_text()]
        problems = [
            f"The name {shown(entry.path)} of {self.name} is not UTF-8; it is left out."
            for entry in visible
            if not entry.is_text()
        ]
        found = self._patience.each(readable, lambda entry: self._look(entry, self._folders))
        self._folders.forget_others({self._root, *(entry.path for entry in found)})
        problems += [found[e] for e in readable if isinstance(found.get(e), str)]  # type: ignore[misc]
        silent = [entry.path for entry in readable if entry not in found]
        problems += late(self.name, silent, self._seconds)
        installations = [found.get(entry) for entry in readable]
        return Reading(
            installations=tuple(
                sorted(
                    (one for one in installations if isinstance(one, Installation)),
                    key=lambda one: one.version,
                )
            ),
            problems=tuple(problems),
        )


def late(name: str, paths: Sequence[str], seconds: float) -> list[str]:
    """Return what is said of the paths of a program that did not answer."""
    silent = f"of {name} did not answer within {seconds:g} s"
    if len(paths) > _MOST_NAMED:
        return [f"{paths[0]} and {len(paths) - 1} more paths {silent}."]
    return [f"The path {path} {silent}." for path in paths]


def because(error: OSError) -> str:
    """Return why a folder is left out, to be put after its name."""
    return f"cannot be read: {error.strerror}"
