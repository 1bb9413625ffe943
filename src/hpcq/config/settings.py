"""All settings: those of the service as a whole, and the sections of its parts."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self, cast
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, create_model, field_validator, model_validator

from hpcq.api.settings import HttpSettings
from hpcq.auth.settings import AuthSettings
from hpcq.domain.principals import Method
from hpcq.programs.settings import ProgramSettings
from hpcq.schedulers import registry
from hpcq.schedulers.local.settings import LocalSettings
from hpcq.schedulers.pbs.settings import PbsSettings
from hpcq.schedulers.sge.settings import SgeSettings
from hpcq.schedulers.slurm.settings import SlurmSettings
from hpcq.schedulers.torque.settings import TorqueSettings
from hpcq.services.mail.settings import MailSettings
from hpcq.services.settings import ServiceSettings
from hpcq.settings import (
    BYTES,
    PATH,
    AbsolutePath,
    Bytes,
    Section,
    details,
    home_expanded,
    lower,
    setting,
    upper,
)

__all__ = ["UNIX_SOCKET", "Settings", "with_plugins"]

UNIX_SOCKET = "unix:"
"""Before the path of a Unix socket in ``HOST``."""


class DeploymentSettings(Section):
    """The scheduler, the address, and the places of files."""

    cluster_id: Annotated[str, Field(min_length=1, max_length=128)] = setting(
        "1",
        "The name of this deployment, `clusterId` in answers; unique among your deployments.",
        allowed="printable text of at most 128 characters",
        example="santos-dumont",
    )
    scheduler: Annotated[str, BeforeValidator(upper)] = setting(
        "LOCAL",
        "The batch scheduler. `LOCAL` is the embedded one; `INTERNAL` is another name for it.",
        allowed="LOCAL (or INTERNAL), SLURM, SGE, TORQUE, PBS, or the name of an installed plugin",
        example="SLURM",
    )
    host: Annotated[
        str, Field(pattern=rf"^({UNIX_SOCKET}/.{{1,106}}|[A-Za-z0-9_.:%-]{{1,253}})$")
    ] = setting(
        "127.0.0.1",
        "The address to listen on. Anyone who reaches it can run commands as the service's "
        "account: leave it on loopback unless something in front of it checks its callers. "
        "`unix:` and a path make a Unix socket there, which every account of the machine may "
        "connect to; with AUTH=none only the service's own. Note that tcsh exports a `HOST` of "
        "its own.",
        allowed="a host name or an address; 0.0.0.0 or :: for every interface; or "
        "unix:/an/absolute/path",
        example="head.cluster.example",
    )
    port: Annotated[int, Field(ge=0, le=65535)] = setting(
        5049,
        "The port to listen on; 0 takes any free one.",
        allowed="a whole number from 0 to 65535",
        example="8080",
    )
    root_path: str = setting(
        "/",
        "The prefix that a reverse proxy puts before every URL; routes answer with and without.",
        allowed="a URL path of letters, digits and . _ ~ -, such as /api/queue",
        example="/api/queue",
        may_be_empty=True,
    )
    compatibility: Annotated[Literal["none", "original"], BeforeValidator(lower)] = setting(
        "none",
        "`original`: for clients of the original implementation; see [Coming from the "
        "original](../from-the-original.md). Times are local, without a zone; "
        "`lastStatusUpdateTime` is the time of the scheduler's last confirmation; `startTime` "
        "of a job that has not started is its submission; the listing holds active jobs only; "
        "unknown parts of a request, and its `clusterId`, are ignored.",
        allowed="none, original",
        example="original",
    )
    state_directory: Annotated[Path, BeforeValidator(home_expanded)] = setting(
        Path("state"),
        "The folder of the service's records and of the LOCAL scheduler's spool. A relative "
        "path begins at the installation folder. The service creates it for its account only "
        "(mode 0700). Put it on a local disk: SQLite's locks are not reliable on NFS. Two "
        "services never share one.",
        allowed="a path this account can write to",
        example="/var/lib/hpcq",
    )
    database_url: str | None = setting(
        None,
        "The database of the records. Unset: an SQLite database in the state directory. "
        "Several services (replicas) in front of one scheduler share a PostgreSQL database: "
        "all of them serve, and one of them polls the scheduler.",
        allowed="postgresql://USER:PASSWORD@HOST:PORT/NAME",
        example="postgresql://hpcq:secret@db.cluster.example/hpcq",
        shown="",
        secret=True,
    )
    scheduler_path: str | None = setting(
        None,
        "The PATH of the scheduler's commands: the service looks them up there, and they and "
        "the LOCAL scheduler's jobs get it. Unset: the service looks them up in its own PATH, "
        "and they get `/usr/local/bin:/usr/bin:/bin`.",
        allowed="absolute folders, separated by colons",
        example="/opt/sge/bin/lx-amd64:/usr/bin:/bin",
        shown="",
    )
    listing_limit_bytes: Bytes = setting(
        256 * 2**20,
        "The longest output of one listing of the queue.",
        allowed=BYTES,
        example="1G",
        shown="256M",
    )
    job_shell: AbsolutePath | None = setting(
        None,
        "The shell of scripts without a `#!` line. Unset: the scheduler's own choice (SGE, "
        "TORQUE, PBS), `/bin/bash` on LOCAL and SLURM.",
        allowed=PATH,
        example="/bin/ksh",
        shown="",
    )
    log_format: Annotated[Literal["console", "json"], BeforeValidator(lower)] = setting(
        "console",
        "The form of log lines on standard error: to read, or one JSON object a line.",
        allowed="console, json",
        example="json",
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(upper)] = (
        setting(
            "INFO",
            "The lowest level of the logged lines.",
            allowed="DEBUG, INFO, WARNING, ERROR",
            example="DEBUG",
        )
    )

    @field_validator("cluster_id")
    @classmethod
    def _check_printable(cls, text: str) -> str:
        if not text.isprintable() or not text.strip():
            raise ValueError("it is blank or holds control characters")
        return text

    @field_validator("scheduler")
    @classmethod
    def _check_scheduler(cls, name: str) -> str:
        if name == "INTERNAL":
            return "LOCAL"
        if not registry.is_available(name):
            raise ValueError("there is no such scheduler")
        return name

    @field_validator("root_path")
    @classmethod
    def _normalise_root_path(cls, text: str) -> str:
        path = "/" + text.strip().strip("/")
        if re.fullmatch(r"/|(?:/(?!\.+(?:/|$))[A-Za-z0-9._~-]+)+", path) is None:
            raise ValueError("it is not a plain URL path")
        return path

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, text: str | None) -> str | None:
        if text is not None and not _names_a_database(text):
            raise ValueError("it is not the URL of a PostgreSQL database")
        return text

    @field_validator("scheduler_path")
    @classmethod
    def _check_scheduler_path(cls, text: str | None) -> str | None:
        if text is not None and not all(part.startswith("/") for part in text.split(":")):
            raise ValueError("one of its folders is not absolute")
        return text


# Pydantic takes the fields of the last base first: this is the order of the reference page.
class Settings(
    ProgramSettings,
    PbsSettings,
    TorqueSettings,
    SlurmSettings,
    SgeSettings,
    LocalSettings,
    MailSettings,
    ServiceSettings,
    HttpSettings,
    AuthSettings,
    DeploymentSettings,
):
    """All settings in one. A part of the service takes them as the section that it reads."""

    @model_validator(mode="after")
    def _check_submit_as(self) -> Self:
        if self.submit_as == "user" and Method.NONE in self.auth:
            raise ValueError(
                "SUBMIT_AS=user needs to know who asks, and with AUTH=none nobody is asked"
            )
        return self

    @property
    def store_url(self) -> str:
        """The URL of the database of the records."""
        return self.database_url or f"sqlite:///{self.state_directory / 'jobs.sqlite3'}"

    @property
    def operator_token(self) -> Path:
        """The file of the operator's token."""
        return self.state_directory / "operator.token"


def with_plugins(sections: Iterable[type[Section]]) -> type[Settings]:
    """Return all settings with the sections of plugins.

    Raises:
        TypeError: a plugin declares a setting that there is already, or not with `setting`.
    """
    model = Settings
    for section in sections:
        if twice := model.model_fields.keys() & section.model_fields.keys():
            names = ", ".join(sorted(name.upper() for name in twice))
            raise TypeError(f"{section.__module__} declares {names}, which is a setting already")
        for field in section.model_fields.values():
            details(field)
        model = create_model(
            "Settings", __base__=cast(tuple[type[Settings], ...], (section, model))
        )
    return model


def _names_a_database(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    is_postgresql = parts.scheme in ("postgresql", "postgres")
    return is_postgresql and has_port and re.fullmatch(r"/[^/]+", parts.path) is not None
