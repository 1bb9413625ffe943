"""The facts: the scheduler's own accounting, the jobs' own files, the store."""

import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from tests.chaos.plan import Task

from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS

__all__ = [
    "Events",
    "EvidenceError",
    "Run",
    "accounting",
    "read_events",
    "wait_for_accounting",
    "written",
]

_PAUSE_SECONDS = 0.3
_SLURM_FIELDS = 5
_SGE_NAME, _SGE_NUMBER, _SGE_ACCOUNT, _SGE_EXIT = 4, 5, 6, 12


class EvidenceError(Exception):
    """The evidence is not complete; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Run:
    """One record of the scheduler's accounting.

    Attributes:
        key: the mark that the service gave the job; None where accounting does not keep it.
    """

    job_id: str
    name: str
    key: str | None
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class Events:
    """The store's events of one deployment.

    Attributes:
        numbers: of all events.
        submitted: the uid of each ``job.submitted``, as often as there is one.
    """

    numbers: Sequence[int]
    submitted: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Source:
    """One scheduler's own word.

    Attributes:
        queued: the names of the jobs that have not ended.
        records: the accounting of all jobs that have ended, or ended within a day.
        marker: submits a job of this name, which does nothing.
    """

    queued: Callable[[], list[str]]
    records: Callable[[], list[Run]]
    marker: Callable[[str], None]


def accounting(settings: Mapping[str, str], state_directory: Path, prefix: str) -> list[Run]:
    """Return the records of all jobs whose names begin so.

    Args:
        settings: of the service, which has stopped: the spool of LOCAL is its own while it runs.
    """
    if settings["SCHEDULER"] == "LOCAL":
        runs = _spooled(state_directory / "local" / "spool.db")
    else:
        runs = _source(settings).records()
    return [run for run in runs if run.name.startswith(prefix)]


def wait_for_accounting(settings: Mapping[str, str], prefix: str) -> None:
    """Wait until every job whose name begins so has ended and stands in the accounting.

    All accountings are written in the order in which jobs end: when the record of a job that
    was submitted after the others had left the queue is there, theirs are.

    Raises:
        EvidenceError: that takes too long, or a command fails.
    """
    if settings["SCHEDULER"] == "LOCAL":
        return  # its spool is never late
    source = _source(settings)
    _until(
        "jobs stayed in the queue", lambda: not any(n.startswith(prefix) for n in source.queued())
    )
    marker = f"end-of-{prefix}"
    source.marker(marker)
    _until(
        "the accounting did not show the last job",
        lambda: any(run.name == marker for run in source.records()),
    )


def written(directory: Path, task: Task) -> list[str]:
    """The ids of the jobs that ran for a task, as they wrote them themselves."""
    path = directory / str(task.number) / f"run-{task.key}"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def read_events(settings: Mapping[str, str], state_directory: Path) -> Events:
    """Read the events of the deployment that these settings are of."""
    engine = sa.create_engine(_database_url(settings, state_directory))
    query = (
        "SELECT {what} FROM events JOIN deployments ON deployments.id = events.deployment_id"
        " WHERE deployments.cluster_id = :cluster {condition} ORDER BY number"
    )
    cluster = {"cluster": settings["CLUSTER_ID"]}
    numbers = sa.text(query.format(what="number", condition=""))
    submitted = sa.text(query.format(what="uid", condition="AND kind = 'job.submitted'"))
    with engine.connect() as connection:
        found = Events(
            numbers=list(connection.scalars(numbers, cluster)),
            submitted=list(connection.scalars(submitted, cluster)),
        )
    engine.dispose()
    return found


def _database_url(settings: Mapping[str, str], state_directory: Path) -> sa.URL:
    given = settings.get("DATABASE_URL")
    if given is None:
        return sa.URL.create("sqlite", database=str(state_directory / "jobs.sqlite3"))
    return sa.make_url(given).set(drivername="postgresql+psycopg")


def _source(settings: Mapping[str, str]) -> _Source:
    own = {name: v for name, v in settings.items() if name.startswith(("SGE_", "SLURM_"))}
    environment = {**os.environ, **own}

    def said(*argv: str, stdin: str = "") -> str:
        done = subprocess.run(
            argv,
            input=stdin,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE_SECONDS,
            check=False,
            cwd="/",
        )
        if done.returncode:
            raise EvidenceError(f"{argv[0]} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    if settings["SCHEDULER"] == "SLURM":
        return _slurm(said)
    if settings["SCHEDULER"] == "TORQUE":
        return _torque(said, Path(settings["TORQUE_HOME"]))
    if settings["SCHEDULER"] == "PBS":
        return _pbs(said, Path(settings["PBS_CONF_FILE"]).parent)
    return _grid_engine(
        said, Path(settings["SGE_ROOT"]) / settings["SGE_CELL"] / "common" / "accounting"
    )


def _slurm(said: Callable[..., str]) -> _Source:
    columns = "JobIDRaw,JobName,Comment,State,ExitCode"
    # Duplicates: records of requeued jobs, which sacct leaves out otherwise.
    sacct = ("sacct", "-nPXD", "--delimiter=\t", "-S", "now-1days", "-o", columns)

    def records() -> list[Run]:
        # Names of other jobs in a cluster that is shared may hold tabs and newlines.
        lines = (line.split("\t") for line in said(*sacct).split("\n"))
        return [
            Run(fields[0], fields[1], fields[2], int(fields[4].partition(":")[0]))
            for fields in lines
            if len(fields) == _SLURM_FIELDS and fields[3] not in ("PENDING", "RUNNING")
        ]

    def marker(name: str) -> None:
        said("sbatch", "-J", name, "-D", "/", "-o", "/dev/null", "--wrap=true")

    return _Source(lambda: said("squeue", "-h", "-a", "-o", "%j").splitlines(), records, marker)


def _grid_engine(said: Callable[..., str], path: Path) -> _Source:
    def records() -> list[Run]:
        lines = path.read_text("utf-8", "replace").splitlines()
        fields = [line.split(":") for line in lines if not line.startswith("#")]
        return [
            Run(f[_SGE_NUMBER], f[_SGE_NAME], f[_SGE_ACCOUNT], int(f[_SGE_EXIT])) for f in fields
        ]

    def queued() -> list[str]:
        listing = said("qstat", "-u", "*", "-xml")
        parts = listing.split("<JB_name>")[1:]
        return [part.partition("</JB_name>")[0] for part in parts]

    def marker(name: str) -> None:
        said("qsub", "-N", name, "-o", "/dev/null", "-j", "y", "-b", "y", "/bin/true")

    return _Source(queued, records, marker)


def _torque(said: Callable[..., str], home: Path) -> _Source:
    """The stand-in's accounting logs and queue."""
    qsub, qstat = (str(home.parent.parent / "bin" / name) for name in ("qsub", "qstat"))

    def records() -> list[Run]:
        logs = sorted((home / "server_priv" / "accounting").iterdir())
        lines = [line for log in logs for line in log.read_text("utf-8", "replace").splitlines()]
        return [_torque_run(line) for line in lines if line.split(";")[1] == "E"]

    def queued() -> list[str]:
        jobs = said(qstat, "-x").split("<Job>")[1:]
        ahead = [job for job in jobs if "<job_state>C</job_state>" not in job]
        return [job.partition("<Job_Name>")[2].partition("</")[0] for job in ahead]

    def marker(name: str) -> None:
        said(qsub, "-N", name, "-o", "/dev/null", "-e", "/dev/null", stdin="true\n")

    return _Source(queued, records, marker)


def _pbs(said: Callable[..., str], state: Path) -> _Source:
    """The stand-in's: its accounting logs, and the variables of the jobs that it keeps."""
    qsub, qstat = (str(state.parent / "bin" / name) for name in ("qsub", "qstat"))

    def records() -> list[Run]:
        logs = sorted((state / "server_priv" / "accounting").iterdir())
        lines = [line for log in logs for line in log.read_text("utf-8", "replace").splitlines()]
        return [_pbs_run(state, line) for line in lines if line.split(";")[1] == "E"]

    def queued() -> list[str]:
        lines = said(qstat, "-f", "-F", "dsv", "-D", "\x1f").splitlines()
        told = [dict(word.partition("=")[::2] for word in line.split("\x1f")) for line in lines]
        return [job["Job_Name"] for job in told]

    def marker(name: str) -> None:
        said(qsub, "-N", name, "-o", "/dev/null", "-e", "/dev/null", "-", stdin="true\n")

    return _Source(queued, records, marker)


def _torque_run(line: str) -> Run:
    told = dict(word.partition("=")[::2] for word in line.split())
    number = line.split(";")[2].partition(".")[0]
    return Run(number, told["jobname"], None, int(told["Exit_status"]))


def _pbs_run(state: Path, line: str) -> Run:
    number = line.split(";")[2].partition(".")[0]
    told = dict(word.partition("=")[::2] for word in line.split())
    job = json.loads((state / "jobs" / f"{number}.json").read_text())
    key = dict(job["variables"]).get("HPCQ_KEY", "")
    return Run(number, told["jobname"], key, int(told["Exit_status"]))


def _spooled(path: Path) -> list[Run]:
    query = "SELECT id, spec ->> 'name', key, result ->> 'exit_code' FROM job ORDER BY id"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        rows = connection.execute(query).fetchall()
    return [Run(str(number), name, key, exit_code) for number, name, key, exit_code in rows]


def _until(problem: str, reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        if time.monotonic() > deadline:
            raise EvidenceError(f"{problem} for {PATIENCE_SECONDS:.0f} s")
        time.sleep(_PAUSE_SECONDS)
