"""The sources of settings, and their effects outside this process."""

import difflib
import os
import re
import socket
import stat
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from dotenv.parser import parse_stream
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hpcq.config.settings import Settings, with_plugins
from hpcq.execution.accounts import Accounts
from hpcq.schedulers import registry
from hpcq.schedulers.base import ACCOUNT_VARIABLES, SchedulerOptions
from hpcq.settings import details
from hpcq.storage.migrate import Deployment

__all__ = [
    "SettingsError",
    "deployment_of",
    "job_environment",
    "load_settings",
    "prepare_state_directory",
    "scheduler_environment",
    "scheduler_options",
]

_LONGEST_VALUE = 500

# What a login gives an ordinary account; the service's own PATH may lead into its virtual
# environment, which is no business of its jobs.
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


class SettingsError(Exception):
    """The settings cannot be used; the text lists every problem, one a line."""

    def __init__(self, *problems: str) -> None:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"The settings cannot be used:{lines}")
        self.problems = problems


def load_settings(env_file: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from the environment, else from the ``.env`` file, else the defaults.

    Args:
        env_file: the ``.env`` file; it may be absent. A relative ``STATE_DIRECTORY`` begins at
            its folder.
        environ: the process's environment; variables that are no settings are not looked at.

    Raises:
        SettingsError: something cannot be used; all problems are in it.
    """
    model = Settings
    from_file, problems = _read_env_file(env_file, model)
    scheduler = environ.get("SCHEDULER", from_file.get("SCHEDULER", "LOCAL"))
    if problems or not registry.is_built_in(scheduler):
        try:
            model = with_plugins(registry.load_plugin_settings())
        except (ImportError, AttributeError, TypeError) as error:
            raise SettingsError(f"The settings of a plugin cannot be used: {error}.") from error
        from_file, problems = _read_env_file(env_file, model)
    known = {name.upper(): name for name in model.model_fields}
    from_environment = {name: environ[name] for name in known if name in environ}
    values = from_file | from_environment
    try:
        settings = model.model_validate({known[name]: text for name, text in values.items()})
    except ValidationError as error:
        found = [_problem(e, model, from_environment, env_file) for e in error.errors()]
        # Each part of a list may have one of its own, in the same words.
        problems += dict.fromkeys(found)
    if problems:
        raise SettingsError(*problems)
    _check_catalogue(settings)
    job_environment(settings, environ)
    folder = env_file.absolute().parent / settings.state_directory
    return settings.model_copy(update={"state_directory": folder})


def deployment_of(settings: Settings) -> Deployment:
    """Return the owner of this service's records."""
    scheduler = settings.scheduler
    if scheduler == "LOCAL" and settings.database_url is not None:
        # Its jobs are known to one spool alone: another service's are not its own.
        scheduler = f"LOCAL on {socket.gethostname()} in {settings.state_directory}"
    return Deployment(settings.cluster_id, scheduler)


def _check_catalogue(settings: Settings) -> None:
    if isinstance(settings.program_path_rule, Path):
        # Imported here because only those who have a catalogue need it.
        from hpcq.programs.catalogue import CatalogueError, load_catalogue

        try:
            load_catalogue(settings.program_path_rule)
        except CatalogueError as error:
            raise SettingsError(*error.problems) from None


def prepare_state_directory(settings: Settings) -> None:
    """Create the state directory, for this account only; close one that exists to others.

    Raises:
        SettingsError: it cannot be created or written to, or belongs to another account.
    """
    folder = settings.state_directory
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.stat()
        is_shared = bool(found.st_mode & stat.S_ISVTX)
        if found.st_mode & 0o077 and found.st_uid == os.geteuid() and not is_shared:
            # systemd makes the directory of `StateDirectory=` readable by everybody.
            folder.chmod(0o700)
        elif found.st_mode & 0o077:
            raise SettingsError(
                f"STATE_DIRECTORY={str(folder)!r} is open to other accounts and cannot be closed. "
                "Name a directory that belongs to the service's account alone."
            )
    except OSError as error:
        raise SettingsError(
            f"STATE_DIRECTORY={str(folder)!r} cannot be created: {error.strerror}."
        ) from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise SettingsError(f"STATE_DIRECTORY={str(folder)!r} cannot be written to.")


def scheduler_environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of the scheduler's commands.

    It holds what identifies the account, a plain ``PATH``, and the scheduler's own variables
    (``SGE_ROOT``, ``SLURM_CONF`` …); nothing else of the service's environment reaches a command
    or a job.

    Args:
        settings: they win over ``environ``.
        environ: the process's environment.
    """
    kept = {name: environ[name] for name in ACCOUNT_VARIABLES if environ.get(name)}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name) or environ.get(name.upper())
        if value and details(field)["exported"]:
            kept[name.upper()] = str(value)
    kept["PATH"] = settings.scheduler_path or _DEFAULT_PATH
    return kept


def scheduler_options(settings: Settings, accounts: Accounts | None) -> SchedulerOptions:
    """Return what a backend is made with.

    Args:
        settings: the settings of the whole service.
        accounts: in whose names jobs are submitted; None for the service's own.
    """
    return SchedulerOptions(
        cluster_id=settings.cluster_id,
        state_directory=settings.state_directory,
        environment=scheduler_environment(settings, os.environ),
        command_path=settings.scheduler_path or os.environ.get("PATH") or os.defpath,
        command_timeout_seconds=settings.command_timeout_seconds,
        listing_limit_bytes=settings.listing_limit_bytes,
        submit_options=settings.submit_options,
        job_shell=None if settings.job_shell is None else str(settings.job_shell),
        accounts=accounts,
    )


def job_environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the site gives to every job.

    Args:
        settings: name them.
        environ: the process's environment, where values are taken from.

    Raises:
        SettingsError: a variable that is to be passed on is not set.
    """
    given: dict[str, str] = {}
    for name, value in settings.job_environment or ():
        if value is None and name not in environ:
            raise SettingsError(
                f"JOB_ENVIRONMENT passes {name} on to jobs, and the service's own environment does "
                f"not have it. Set it there, or write {name}=VALUE."
            )
        given[name] = environ[name] if value is None else value
    return given if settings.job_path is None else {**given, "PATH": settings.job_path}


def _read_env_file(path: Path, model: type[Settings]) -> tuple[dict[str, str], list[str]]:
    """Return the file's variables, and a problem for each line that does not set a known one."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}, []
    except (OSError, UnicodeError) as error:
        return {}, [f"{path} cannot be read: {error}."]
    known = [name.upper() for name in model.model_fields]
    values: dict[str, str] = {}
    problems: list[str] = []
    for binding in parse_stream(StringIO(text)):
        if binding.key is None and not binding.error:
            continue  # a comment or blank lines
        original = binding.original
        blank_lines = original.string[: -len(original.string.lstrip()) or None].count("\n")
        where = f"{path}, line {original.line + blank_lines}"
        key = binding.key or ""
        if binding.error or binding.value is None or _NAME.fullmatch(key) is None:
            # Not shown: it may hold a password, or a part of one.
            problems.append(f"{where}: the line is not NAME=value.")
        elif key not in known:
            close = difflib.get_close_matches(key.upper(), known, n=1)
            suggestion = f" Did you mean {close[0]}?" if close else ""
            problems.append(f"{where}: {key} is not a setting.{suggestion}")
        elif key in values:
            problems.append(f"{where}: {key} is set a second time.")
        else:
            values[key] = binding.value
    return values, problems


def _problem(
    error: ErrorDetails,
    model: type[Settings],
    from_environment: Mapping[str, str],
    env_file: Path,
) -> str:
    """Return one sentence for one of pydantic's errors: variable, value, what is allowed."""
    reason = str(error.get("ctx", {}).get("error", ""))
    if not error["loc"]:
        return f"{reason}."
    field = str(error["loc"][0])
    name = field.upper()
    source = "the environment" if name in from_environment else str(env_file)
    more = details(model.model_fields[field])
    value = from_environment.get(name, error["input"])
    shown = name if more["secret"] else f"{name}={str(value)[:_LONGEST_VALUE]!r}"
    because = f": {reason}" if reason else ""
    return f"{shown} (from {source}) is not allowed{because}. Allowed: {more['allowed']}."
