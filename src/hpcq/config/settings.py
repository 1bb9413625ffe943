"""Every setting: its type, default, meaning and what is allowed."""

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from hpcq.config.fields import (
    BYTES,
    DAYS,
    PATH,
    PATH_OR_NOTHING,
    PORT,
    SECONDS,
    AbsolutePath,
    Bytes,
    Days,
    JobEnvironment,
    Port,
    Seconds,
    home_expanded,
    lower,
    setting,
    upper,
)
from hpcq.schedulers import registry
from hpcq.schedulers.local.capacity import count_usable_cpus
from hpcq.schedulers.torque.resources import check_template

__all__ = ["ProgramPathRule", "Settings"]


_PBS_RESOURCES = (
    r"^[A-Za-z][A-Za-z0-9_.]*=(?:[A-Za-z0-9_.:=+-]|\{memory(?:_per_slot)?\})*"
    r"\{slots\}(?:[A-Za-z0-9_.:=+-]|\{(?:slots|memory(?:_per_slot)?)\})*$"
)


class ProgramPathRule(StrEnum):
    """How a site lays out the programs that ``GET /programs`` lists."""

    TUBER = "TUBER"
    PEMAWS = "PEMAWS"
    MODULES = "MODULES"


def _rule(value: object) -> object:
    if not isinstance(value, str) or isinstance(value, ProgramPathRule):
        return value
    if "/" in value:
        path = Path(os.path.expanduser(value.strip()))
        if not path.is_absolute():
            raise ValueError("the path of a catalogue file has to be absolute")
        return path
    try:
        return ProgramPathRule(value.strip().upper())
    except ValueError:
        raise ValueError("there is no such rule") from None


class Settings(BaseModel):
    """All settings. The variable of a field is its name in upper case, without a prefix."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False)

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
    program_path_rule: Annotated[ProgramPathRule | Path, BeforeValidator(_rule)] = setting(
        ProgramPathRule.TUBER,
        "How the site lays out its programs, or where it has written that down: see "
        "[Programs](../programs.md).",
        allowed="TUBER, PEMAWS, MODULES, or the absolute path of a catalogue file",
        example="PEMAWS",
    )
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:%-]{1,253}$")] = setting(
        "127.0.0.1",
        "The address to listen on. Anyone who reaches it can run commands as the service's "
        "account: leave it on loopback unless something in front of it asks who is calling. "
        "Note that tcsh exports a `HOST` of its own.",
        allowed="a host name or an address; 0.0.0.0 or :: for every interface",
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
    )
    compatibility: Annotated[Literal["none", "original"], BeforeValidator(lower)] = setting(
        "none",
        "`original`: for clients of the original implementation; see "
        "[Coming from the original](../from-the-original.md). Times are local, without a zone; "
        "`lastStatusUpdateTime` is when the scheduler last confirmed the status; `startTime` of a "
        "job that has not started is its submission; the listing holds active jobs only; what is "
        "not known in a request is ignored, and so is its `clusterId`.",
        allowed="none, original",
        example="original",
    )
    state_directory: Annotated[Path, BeforeValidator(home_expanded)] = setting(
        Path("state"),
        "Where the service keeps its records and the LOCAL scheduler its spool. A relative path "
        "begins at the installation folder. Created for this account only (mode 0700) on a "
        "local disk: SQLite's locks are not reliable on NFS. Two services never share one.",
        allowed="a path this account can write to",
        example="/var/lib/hpcq",
    )
    database_url: str | None = setting(
        None,
        "Where the records are kept. Unset: in an SQLite database in the state directory. Several "
        "services (replicas) before one scheduler share a PostgreSQL database: all of them serve, "
        "and one of them asks the scheduler.",
        allowed="postgresql://USER:PASSWORD@HOST:PORT/NAME",
        example="postgresql://hpcq:secret@db.cluster.example/hpcq",
        shown="",
    )
    idempotency_keys_kept_seconds: Seconds = setting(
        86400.0,
        "How long an `Idempotency-Key` is remembered.",
        allowed=SECONDS,
        example="604800",
    )
    records_kept_days: Days | None = setting(
        None,
        "How long the record of a job that was submitted through this service is kept after its "
        "end, with the samples of its usage, and in the spool of LOCAL. Unset: for ever. It is "
        "never shorter than FINISHED_JOBS_LISTED_SECONDS or IDEMPOTENCY_KEYS_KEPT_SECONDS.",
        allowed=DAYS,
        example="3650",
        shown="",
    )
    events_kept_days: Days = setting(
        30.0,
        "How long events (what happened to jobs) are kept. Their numbers go on without reuse.",
        allowed=DAYS,
        example="7",
    )
    submission_wait_seconds: Annotated[float, Field(ge=0, le=10**9, allow_inf_nan=False)] = setting(
        5.0,
        "How long a request waits for its job to be found when the scheduler's answer to the "
        "submission was lost, before it is answered with 202.",
        allowed="seconds, at least 0",
        example="20",
    )
    submission_settle_seconds: Seconds = setting(
        60.0,
        "How long after an interrupted submission a job may take to show in the scheduler. One "
        "that is not there by then surely was not taken, and is handed over again or given up.",
        allowed=SECONDS,
        example="300",
    )
    undetermined_rechecked_seconds: Seconds = setting(
        7 * 86400.0,
        "How long the scheduler is asked about a job that left its queue and that its accounting "
        "does not know.",
        allowed=SECONDS,
        example="86400",
    )
    replica_lease_seconds: Annotated[Seconds, Field(ge=0.5)] = setting(
        3.0,
        "PostgreSQL: how long the replica that asks the scheduler may be silent before another "
        "one takes over.",
        allowed="seconds, at least 0.5",
        example="10",
    )
    internal_scheduler_max_slots: Annotated[int, Field(ge=1, le=10**6)] = setting(
        count_usable_cpus,
        "How many slots the LOCAL scheduler hands out.",
        allowed="a whole number from 1 to 1000000",
        example="16",
        shown="the CPUs that the service may use",
    )
    poll_interval_seconds: Annotated[Seconds, Field(ge=0.1)] = setting(
        5.0,
        "How often the scheduler is asked for its queue, however many clients there are.",
        allowed="seconds, at least 0.1",
        example="10",
    )
    usage_interval_seconds: Annotated[Seconds, Field(ge=0.1)] = setting(
        15.0,
        "How often the resource usage of running jobs is read.",
        allowed="seconds, at least 0.1",
        example="60",
    )
    stale_after_seconds: Seconds = setting(
        30.0,
        "Answers older than this are marked `stale`; more than POLL_INTERVAL_SECONDS.",
        allowed=SECONDS,
        example="120",
    )
    command_timeout_seconds: Seconds = setting(
        30.0,
        "How long one command of the scheduler may take before it is ended.",
        allowed=SECONDS,
        example="60",
    )
    circuit_breaker_failures: Annotated[int, Field(ge=1, le=10**6)] = setting(
        5,
        "After so many commands in a row that the scheduler did not answer, it is left in peace: "
        "requests that need it fail at once with 503, and only the query for its queue, once every "
        "POLL_INTERVAL_SECONDS, sees whether it is back.",
        allowed="a whole number from 1 to 1000000",
        example="3",
    )
    listing_limit_bytes: Bytes = setting(
        256 * 2**20,
        "The most that one listing of the queue may print.",
        allowed=BYTES,
        example="1G",
        shown="256M",
    )
    finished_jobs_listed_seconds: Annotated[float, Field(ge=0, le=10**9, allow_inf_nan=False)] = (
        setting(
            86400.0,
            "How long a finished job stays in `GET /jobs`. Its record stays readable by id.",
            allowed="seconds, at least 0",
            example="3600",
        )
    )
    cancel_grace_seconds: Annotated[float, Field(ge=0, le=10**9, allow_inf_nan=False)] = setting(
        10.0,
        "LOCAL: how long a cancelled job may take to end after TERM before it gets KILL.",
        allowed="seconds, at least 0",
        example="60",
    )
    job_environment: JobEnvironment | None = setting(
        None,
        "Variables that every job starts with, on every scheduler, unless its request says "
        "otherwise: a name alone passes the service's own value on.",
        allowed="names and NAME=value, separated by blanks or commas; quote a value that holds one",
        example="OMP_NUM_THREADS=1,LC_NUMERIC=C",
        shown="",
    )
    job_path: Annotated[str, Field(pattern=r"^/[^:\s]*(:/[^:\s]*)*$")] | None = setting(
        None,
        "The `PATH` that every job starts with, on every scheduler, unless its request says "
        "otherwise. Unset: what the scheduler gives its jobs; a plain system path on LOCAL and "
        "SLURM.",
        allowed="absolute folders, separated by colons",
        example="/opt/mpi/bin:/usr/local/bin:/usr/bin:/bin",
        shown="",
    )
    job_shell: AbsolutePath | None = setting(
        None,
        "What runs scripts whose first line is no `#!`. Unset: what the scheduler takes (SGE, "
        "TORQUE, PBS), `/bin/bash` on LOCAL and SLURM.",
        allowed=PATH,
        example="/bin/ksh",
        shown="",
    )
    max_request_bytes: Bytes = setting(
        2**20,
        "The longest request body that is accepted.",
        allowed=BYTES,
        example="4M",
        shown="1M",
    )
    path_check_timeout_seconds: Seconds = setting(
        5.0,
        "How long a submitted directory or script may take to be found (a slow NFS server).",
        allowed=SECONDS,
        example="20",
    )
    path_wait_seconds: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = setting(
        1.0,
        "How long a submitted directory or script that is not there may take to appear (a network "
        "file system shows what another machine has made a little later). 0: it is refused at "
        "once.",
        allowed="seconds, 0 to 60",
        example="5",
    )
    sge_parallel_environment: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.*?-]*$")] = (
        setting(
            "orte",
            "SGE: the parallel environment that slots are asked from (`qconf -spl` lists them).",
            allowed="a name of letters, digits and . _ - * ?",
            example="mpi",
        )
    )
    sge_root: AbsolutePath | None = setting(
        None, "SGE: its installation folder.", allowed=PATH, example="/opt/sge", shown=""
    )
    sge_cell: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] | None = setting(
        None,
        "SGE: the cell's name.",
        allowed="a name of letters, digits and . _ -",
        example="default",
        shown="",
    )
    sge_cluster_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] | None = setting(
        None,
        "SGE: the cluster's name.",
        allowed="a name of letters, digits and . _ -",
        example="p6444",
        shown="",
    )
    sge_qmaster_port: Port | None = setting(
        None, "SGE: the port of sge_qmaster.", allowed=PORT, example="6444", shown=""
    )
    sge_execd_port: Port | None = setting(
        None, "SGE: the port of sge_execd.", allowed=PORT, example="6445", shown=""
    )
    slurm_conf: AbsolutePath | None = setting(
        None,
        "SLURM: the configuration file, when it is not in its usual place.",
        allowed=PATH,
        example="/etc/slurm/slurm.conf",
        shown="",
    )
    torque_resources: str = setting(
        "nodes={nodes}:ppn={ppn}",
        "TORQUE: how slots are asked for (`qsub -l`). `{slots}` is their number, `{nodes}` on how "
        "many hosts they are by TORQUE_SLOTS_PER_NODE, `{ppn}` how many on each. `nodes={slots}` "
        "asks for as many hosts, `procs={slots}` for slots anywhere.",
        allowed="a resource list with {slots}, {nodes} or {ppn} in it",
        example="procs={slots}",
    )
    torque_slots_per_node: Annotated[int, Field(ge=1, le=10**6)] | None = setting(
        None,
        "TORQUE: how many slots one host has. Unset: the slots of a job are always on one host.",
        allowed="a whole number from 1 to 1000000",
        example="24",
        shown="",
    )
    torque_home: AbsolutePath = setting(
        Path("/var/spool/torque"),
        "TORQUE: the folder of the server (`PBS_HOME`), whose accounting logs are read where that "
        "is allowed.",
        allowed=PATH,
        example="/opt/torque/spool",
    )
    pbs_default: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:,-]*$")] | None = setting(
        None,
        "TORQUE: the host of the server, when the client's `server_name` does not say so.",
        allowed="a host name",
        example="head.cluster.example",
        shown="",
    )
    pbs_resources: Annotated[str, Field(pattern=_PBS_RESOURCES)] = setting(
        "select=1:ncpus={slots}{memory}",
        "PBS: what a job asks for with `qsub -l`. `{slots}` is its number of slots; `{memory}` is "
        "`:mem=…kb` where it has a limit of memory, else nothing; `{memory_per_slot}` the same "
        "divided by the slots.",
        allowed="a resource and its value, with {slots} in it",
        example="select={slots}:ncpus=1{memory_per_slot}",
    )
    pbs_conf_file: AbsolutePath | None = setting(
        None,
        "PBS: the configuration file, when it is not `/etc/pbs.conf`.",
        allowed=PATH,
        example="/opt/pbs/etc/pbs.conf",
        shown="",
    )
    pbs_server: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,253}$")] | None = setting(
        None,
        "PBS: the server's host, when it is not the one in the configuration file.",
        allowed="a host name",
        example="pbs.cluster.example",
        shown="",
    )
    scheduler_path: str | None = setting(
        None,
        "The PATH in which the scheduler's commands are looked up, and which they and the LOCAL "
        "scheduler's jobs get. Unset: they are looked up in the service's own PATH, and get "
        "`/usr/local/bin:/usr/bin:/bin`.",
        allowed="absolute folders, separated by colons",
        example="/opt/sge/bin/lx-amd64:/usr/bin:/bin",
        shown="",
    )
    log_format: Annotated[Literal["console", "json"], BeforeValidator(lower)] = setting(
        "console",
        "How log lines look on standard error: to read, or one JSON object a line.",
        allowed="console, json",
        example="json",
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(upper)] = (
        setting(
            "INFO",
            "The least important lines that are logged.",
            allowed="DEBUG, INFO, WARNING, ERROR",
            example="DEBUG",
        )
    )
    tuber_newave_root: AbsolutePath | None = setting(
        Path("/home/pem/versoes/NEWAVE"),
        "TUBER: the folder that holds one folder for each version of NEWAVE.",
        allowed=PATH_OR_NOTHING,
        example="/opt/newave",
    )
    tuber_decomp_root: AbsolutePath | None = setting(
        Path("/home/pem/versoes/DECOMP"),
        "TUBER: the folder that holds one folder for each version of DECOMP.",
        allowed=PATH_OR_NOTHING,
        example="/opt/decomp",
    )
    tuber_newave_script: AbsolutePath = setting(
        Path("/home/pem/rotinas/tuber/jobs/mpi_newave.job"),
        "TUBER: the job script that runs NEWAVE.",
        allowed=PATH,
        example="/opt/tuber/mpi_newave.job",
    )
    tuber_decomp_script: AbsolutePath = setting(
        Path("/home/pem/rotinas/tuber/jobs/mpi_decomp.job"),
        "TUBER: the job script that runs DECOMP.",
        allowed=PATH,
        example="/opt/tuber/mpi_decomp.job",
    )
    tuber_dessem_root: AbsolutePath | None = setting(
        Path("/home/SW/dessem"),
        "TUBER: the folder that holds one file `dessem_VERSION` for each version of DESSEM.",
        allowed=PATH_OR_NOTHING,
        example="/opt/dessem",
    )
    tuber_dessem_script: AbsolutePath = setting(
        Path("/home/ESTUDO/PEM/git/tuber/jobs/dessem.sh"),
        "TUBER: the job script that runs DESSEM.",
        allowed=PATH,
        example="/opt/tuber/dessem.sh",
    )
    pemaws_newave_root: AbsolutePath | None = setting(
        Path("/home/pem/versoes/NEWAVE"),
        "PEMAWS: the folder that holds one folder for each version of NEWAVE.",
        allowed=PATH_OR_NOTHING,
        example="/opt/newave",
    )
    pemaws_decomp_root: AbsolutePath | None = setting(
        Path("/home/pem/versoes/DECOMP"),
        "PEMAWS: the folder that holds one folder for each version of DECOMP.",
        allowed=PATH_OR_NOTHING,
        example="/opt/decomp",
    )
    pemaws_dessem_root: AbsolutePath | None = setting(
        Path("/home/SW/dessem"),
        "PEMAWS: the folder that holds one file `dessem_VERSION` for each version of DESSEM.",
        allowed=PATH_OR_NOTHING,
        example="/opt/dessem",
    )
    pemaws_dessem_script: AbsolutePath = setting(
        Path("/home/ESTUDO/PEM/git/tuber/jobs/dessem.sh"),
        "PEMAWS: the job script that runs DESSEM.",
        allowed=PATH,
        example="/opt/jobs/dessem.sh",
    )
    modules_cmd: AbsolutePath | None = setting(
        None,
        "MODULES: `modulecmd.tcl` of Environment Modules, which exports this variable itself.",
        allowed=PATH,
        example="/usr/lib/x86_64-linux-gnu/modulecmd.tcl",
        shown="",
    )
    lmod_cmd: AbsolutePath | None = setting(
        None,
        "MODULES: `lmod` of Lmod, which exports this variable itself. Wins over MODULES_CMD.",
        allowed=PATH,
        example="/usr/share/lmod/lmod/libexec/lmod",
        shown="",
    )
    modulepath: str | None = setting(
        None,
        "MODULES: where modules are looked for; both systems export this variable.",
        allowed="folders, separated by colons",
        example="/opt/modulefiles:/usr/share/modules/modulefiles",
        shown="",
    )
    modules_script: AbsolutePath | None = setting(
        None,
        "MODULES: the job script that runs a module's program; its first argument is the module's "
        "full name (`gromacs/2024.1`).",
        allowed=PATH,
        example="/opt/jobs/module.job",
        shown="",
    )
    programs_timeout_seconds: Seconds = setting(
        5.0,
        "How long a request waits for the folders of programs. What has not been read by then is "
        "left out, or answered as it was last.",
        allowed=SECONDS,
        example="20",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_unset_where_that_is_possible(cls, value: object, info: Any) -> object:
        if value != "" or info.field_name == "root_path":
            return value
        if type(None) in get_args(cls.model_fields[info.field_name].annotation):
            return None
        raise ValueError("it is empty; leave the variable out for its default")

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

    @field_validator("torque_resources")
    @classmethod
    def _check_torque_resources(cls, text: str) -> str:
        check_template(text)
        return text

    @field_validator("scheduler_path")
    @classmethod
    def _check_scheduler_path(cls, text: str | None) -> str | None:
        if text is not None and not all(part.startswith("/") for part in text.split(":")):
            raise ValueError("one of its folders is not absolute")
        return text

    @model_validator(mode="after")
    def _check_stale_after(self) -> Self:
        if self.stale_after_seconds <= self.poll_interval_seconds:
            raise ValueError(
                f"STALE_AFTER_SECONDS={self.stale_after_seconds:g} must be more than "
                f"POLL_INTERVAL_SECONDS={self.poll_interval_seconds:g}, or every answer is stale"
            )
        return self

    @model_validator(mode="after")
    def _check_modules(self) -> Self:
        if self.program_path_rule is ProgramPathRule.MODULES:
            needed = {
                "MODULES_CMD or LMOD_CMD": self.modules_cmd or self.lmod_cmd,
                "MODULEPATH": self.modulepath,
                "MODULES_SCRIPT": self.modules_script,
            }
            missing = [name for name, value in needed.items() if value is None]
            if missing:
                raise ValueError(f"PROGRAM_PATH_RULE=MODULES needs {', '.join(missing)} too")
        return self


def _names_a_database(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    is_postgresql = parts.scheme in ("postgresql", "postgres")
    return is_postgresql and has_port and re.fullmatch(r"/[^/]+", parts.path) is not None
