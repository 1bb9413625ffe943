"""OpenPBS 23.06 as its recordings show it, on one host that runs the jobs itself."""

from collections.abc import Sequence
from pathlib import Path

from tests.fakebin.install import install

__all__ = ["COMMANDS", "Pbs"]

COMMANDS: Sequence[str] = (
    "qsub",
    "qstat",
    "qselect",
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


class Pbs:
    """One installation.

    Attributes:
        path: the folder with the commands.
        conf: its ``pbs.conf``, by which its accounting logs are found.

    Args:
        directory: where it lives.
        config: ``history`` (finished jobs are kept), ``dsv`` (``-F dsv`` is known), ``ncpus``,
            ``kill_delay_seconds``, ``exit_seconds`` (how long a job is in state E), ``groups_ids``
            (``qstat -E`` is known), ``limits_arrays`` (``-J 1-5%2`` is known), ``operator`` (the
            account may suspend, resume and requeue jobs), ``queues`` (more of them), ``release``
            (bytes printed as the release of June 2023 does, not as the build of April 2026 does).
    """

    def __init__(self, directory: Path, **config: object) -> None:
        self.path = install(Path(__file__).with_name("fake.py"), COMMANDS, directory, **config)
        self._state = directory / "state"
        (self._state / "server_priv" / "accounting").mkdir(parents=True)
        self.conf = self._state / "pbs.conf"
        self.conf.write_text(f"PBS_SERVER=pbshead\nPBS_HOME={self._state}\n")

    def settings(self, *, accounting: bool = False) -> dict[str, str]:
        """The variables that make a service use it, and read its accounting logs or not."""
        conf = self.conf if accounting else self._state / "none.conf"
        return {
            "SCHEDULER": "PBS",
            "SCHEDULER_PATH": f"{self.path}:/usr/local/bin:/usr/bin:/bin",
            "PBS_CONF_FILE": str(conf),
        }

    def go_away(self) -> None:
        """Stop the server: commands cannot connect; jobs go on."""
        (self._state / "down").touch()

    def come_back(self) -> None:
        """Start the server again."""
        (self._state / "down").unlink()
