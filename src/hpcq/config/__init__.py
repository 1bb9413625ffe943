"""The settings: environment variables, else the ``.env`` file of the installation folder.

Every setting has a default that works. Nothing is guessed: a value that is unknown or malformed
raises `SettingsError`, whose text names the variable, the value and what is allowed.
"""

from hpcq.config.settings import Settings
from hpcq.config.sources import (
    SettingsError,
    deployment_of,
    job_environment,
    load_settings,
    prepare_state_directory,
    scheduler_environment,
    scheduler_options,
)

__all__ = [
    "Settings",
    "SettingsError",
    "deployment_of",
    "job_environment",
    "load_settings",
    "prepare_state_directory",
    "scheduler_environment",
    "scheduler_options",
]
