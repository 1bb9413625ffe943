"""Settings of Slurm."""

from hpcq.settings import PATH, AbsolutePath, Section, setting

__all__ = ["SlurmSettings"]


class SlurmSettings(Section):
    """The place of its configuration."""

    slurm_conf: AbsolutePath | None = setting(
        None,
        "SLURM: the configuration file, if it is not in its usual place.",
        allowed=PATH,
        example="/etc/slurm/slurm.conf",
        shown="",
        exported=True,
    )
