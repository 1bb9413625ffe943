"""Torque 6.1.3 as its recordings show it, on one host that runs the jobs itself.

With ``release="4.2.10"`` it prints as that release does, by what its users have published.
"""

from collections.abc import Sequence
from pathlib import Path

from tests.fakebin.install import install

__all__ = ["COMMANDS", "Torque"]

COMMANDS: Sequence[str] = (
    "qsub",
    "qstat",
    "qdel",
    "qhold",
    "qrls",
    "qrerun",
    "qsig",
    "qalter",
    "qmove",
    "tracejob",
    "pbsnodes",
)


class Torque:
    """One installation.

    Attributes:
        path: the folder with the commands.
        home: the server's folder, with its accounting logs.

    Args:
        directory: where it lives.
        config: ``slots``, ``keep_completed`` (seconds), ``queue``, ``release``, ``operator``
            (whether the account may suspend, resume and requeue jobs), ``exec_with_exec`` (the
            mom's parameter of that name), ``queues`` (more of them) and others.
    """

    def __init__(self, directory: Path, **config: object) -> None:
        self.path = install(Path(__file__).with_name("fake.py"), COMMANDS, directory, **config)
        self._state = directory / "state"
        self.home = self._state / "home"

    def settings(self) -> dict[str, str]:
        """The variables that make a service use it."""
        return {
            "SCHEDULER": "TORQUE",
            "SCHEDULER_PATH": f"{self.path}:/usr/local/bin:/usr/bin:/bin",
            "TORQUE_HOME": str(self.home),
        }

    def forget(self) -> None:
        """Have it forget the completed jobs now, however long it was to keep them."""
        (self._state / "forget").touch()

    def go_away(self) -> None:
        """Stop the server: commands cannot connect; jobs go on."""
        (self._state / "down").touch()

    def come_back(self) -> None:
        """Start the server again."""
        (self._state / "down").unlink()
