"""Settings of the services: submissions, the watch over the scheduler, and what is kept."""

import ipaddress
import os
import re
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from hpcq.settings import (
    BYTES,
    DAYS,
    SECONDS,
    Bytes,
    Days,
    JobEnvironment,
    Seconds,
    Section,
    lower,
    setting,
    split_words,
)

__all__ = ["Networks", "ServiceSettings"]

_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}")

Accounts = tuple[tuple[str, str], ...]
Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network | Literal["public"], ...]
"""Networks, and ``public`` for all addresses of the internet."""


def _accounts(value: object) -> object:
    """Return the pairs of a list of users and their accounts."""
    if not isinstance(value, str):
        return value
    pairs = [word.rpartition("=") for word in re.split(r"[\s,]+", value.strip())]
    if not all(user and _ACCOUNT.fullmatch(account) for user, _, account in pairs):
        raise ValueError("each has to read USER=ACCOUNT")
    return tuple((user, account) for user, _, account in pairs)


def _folders(value: object) -> object:
    """Return the paths of a list of folders, without doubled slashes and dots."""
    if not isinstance(value, str):
        return value
    folders = value.split(":")
    if not all(folder.startswith("/") for folder in folders):
        raise ValueError("each has to be an absolute path")
    return tuple("/" + os.path.normpath(folder).lstrip("/") for folder in folders)


def _networks(value: object) -> object:
    """Return the networks of a list; ``public`` stands for itself."""
    if not isinstance(value, str):
        return value
    words = re.split(r"[\s,]+", value.strip().lower())
    return tuple(w if w == "public" else ipaddress.ip_network(w) for w in words)


class ServiceSettings(Section):
    """Intervals, patience, the environment of jobs, and how long records are kept."""

    idempotency_keys_kept_seconds: Seconds = setting(
        86400.0,
        "The time that the service remembers an `Idempotency-Key`.",
        allowed=SECONDS,
        example="604800",
    )
    records_kept_days: Days | None = setting(
        None,
        "The time that the service keeps the record of a job that was submitted through it "
        "after the job's end, with the samples of its usage, and in the spool of LOCAL. "
        "Unset: for ever. It is never shorter than FINISHED_JOBS_LISTED_SECONDS or "
        "IDEMPOTENCY_KEYS_KEPT_SECONDS.",
        allowed=DAYS,
        example="3650",
        shown="",
    )
    events_kept_days: Days = setting(
        30.0,
        "The time that the service keeps the events of jobs. Their numbers are never used again.",
        allowed=DAYS,
        example="7",
    )
    webhook_networks: Annotated[Networks, BeforeValidator(_networks)] = setting(
        (),
        "The addresses to which operators may have events sent by webhooks: networks, and `public` "
        "for all of the internet. No message goes anywhere else, whatever a name resolves to. "
        "Unset: no webhooks.",
        allowed="`public`, and addresses and networks, separated by blanks or commas",
        example="public,10.20.0.0/16",
        shown="",
    )
    queue_usage_kept_days: Days = setting(
        7.0,
        "The time that the service keeps the load of the queues, one sample a minute.",
        allowed=DAYS,
        example="90",
    )
    submission_wait_seconds: Annotated[float, Field(ge=0, le=10**9, allow_inf_nan=False)] = setting(
        5.0,
        "The time that a request waits until its job is found, if the scheduler's answer to "
        "the submission was lost, before you get 202.",
        allowed="seconds, at least 0",
        example="20",
    )
    submission_settle_seconds: Seconds = setting(
        60.0,
        "The time after an interrupted submission in which its job may show in the scheduler. "
        "A job that does not show by then was certainly not taken; the service submits it "
        "again or gives it up.",
        allowed=SECONDS,
        example="300",
    )
    undetermined_rechecked_seconds: Seconds = setting(
        7 * 86400.0,
        "The time that the service asks the scheduler about a job that left the queue and "
        "that the accounting does not know.",
        allowed=SECONDS,
        example="86400",
    )
    replica_lease_seconds: Annotated[Seconds, Field(ge=0.5)] = setting(
        3.0,
        "PostgreSQL: the time that the replica that polls the scheduler may be silent before "
        "another one takes over.",
        allowed="seconds, at least 0.5",
        example="10",
    )
    poll_interval_seconds: Annotated[Seconds, Field(ge=0.1)] = setting(
        5.0,
        "The interval at which the service polls the scheduler's queue, however many clients "
        "there are.",
        allowed="seconds, at least 0.1",
        example="10",
    )
    usage_interval_seconds: Annotated[Seconds, Field(ge=0.1)] = setting(
        15.0,
        "The interval at which the service reads the resource usage of running jobs.",
        allowed="seconds, at least 0.1",
        example="60",
    )
    stale_after_seconds: Seconds = setting(
        30.0,
        "The age at which answers are marked `stale`; more than POLL_INTERVAL_SECONDS.",
        allowed=SECONDS,
        example="120",
    )
    command_timeout_seconds: Seconds = setting(
        30.0,
        "The longest time of one command of the scheduler; the service ends a command that "
        "takes longer.",
        allowed=SECONDS,
        example="60",
    )
    circuit_breaker_failures: Annotated[int, Field(ge=1, le=10**6)] = setting(
        5,
        "The number of commands in a row without an answer after which the service stops "
        "calling the scheduler: requests that need it fail at once with 503, and only the "
        "query for the queue, once every POLL_INTERVAL_SECONDS, tries whether it is back.",
        allowed="a whole number from 1 to 1000000",
        example="3",
    )
    finished_jobs_listed_seconds: Annotated[float, Field(ge=0, le=10**9, allow_inf_nan=False)] = (
        setting(
            86400.0,
            "The time that a finished job stays in `GET /jobs`. You can always read its record by "
            "id.",
            allowed="seconds, at least 0",
            example="3600",
        )
    )
    submit_as: Annotated[Literal["service", "user"], BeforeValidator(lower)] = setting(
        "service",
        "The account that submits jobs, and whose jobs they are. `user`: the account of whoever "
        "asks; the scheduler and the file systems then decide what it may do. See "
        "[Security](../security.md#submitting-as-the-person).",
        allowed="service, user",
        example="user",
    )
    submit_as_accounts: Annotated[Accounts, BeforeValidator(_accounts)] | None = setting(
        None,
        "`SUBMIT_AS=user`: the account of each user; others cannot submit. Unset: the name of a "
        "user is the name of the account.",
        allowed="a list of USER=ACCOUNT",
        example="ana@site.example=ana,portal-17=ben",
        shown="",
    )
    submit_as_min_uid: Annotated[int, Field(ge=1, lt=2**32)] = setting(
        1000,
        "`SUBMIT_AS=user`: the lowest number of an account that may submit; those below are the "
        "system's.",
        allowed="a whole number from 1",
        example="5000",
    )
    allowed_directories: Annotated[tuple[str, ...], BeforeValidator(_folders)] = setting(
        (),
        "The folders in which the script, the working directory and the output of a job have to "
        "be, wherever links lead; also the scripts of programs. Write them without links in them. "
        "See [Security](../security.md#where). Unset: everywhere.",
        allowed="absolute paths, separated by colons",
        example="/home:/srv/studies",
        shown="",
    )
    job_files: Annotated[Literal["off", "on"], BeforeValidator(lower)] = setting(
        "off",
        "Whether `GET /jobs/{jobId}/files` shows the working directories of jobs to their owners "
        "and to operators. See [Security](../security.md#output-and-files). The output of jobs is "
        "always shown to them.",
        allowed="off, on",
        example="on",
    )
    max_output_readers: Annotated[int, Field(ge=4, le=10**5)] = setting(
        200,
        "The most answers with output or files of jobs that are under way at the same time, those "
        "that follow a job among them. A quarter of them may be for one user who is no operator. "
        "A further one is answered with 503.",
        allowed="a whole number from 4 to 100000",
        example="1000",
    )
    max_event_readers: Annotated[int, Field(ge=4, le=10**5)] = setting(
        1000,
        "The most streams of events at the same time. A quarter of them may be for one user who "
        "is no operator. A further one is answered with 503.",
        allowed="a whole number from 4 to 100000",
        example="5000",
    )
    job_environment: JobEnvironment | None = setting(
        None,
        "Variables of every job, on every scheduler; the request wins over them. A name alone "
        "passes on the service's own value.",
        allowed="names and NAME=value, separated by blanks or commas; quote a value that holds one",
        example="OMP_NUM_THREADS=1,LC_NUMERIC=C",
        shown="",
        secret=True,
    )
    job_path: Annotated[str, Field(pattern=r"^/[^:\s]*(:/[^:\s]*)*$")] | None = setting(
        None,
        "The `PATH` of every job, on every scheduler; the request wins over it. Unset: the "
        "scheduler's own; a plain system path on LOCAL and SLURM.",
        allowed="absolute folders, separated by colons",
        example="/opt/mpi/bin:/usr/local/bin:/usr/bin:/bin",
        shown="",
    )
    submit_options: Annotated[tuple[str, ...], BeforeValidator(split_words)] = setting(
        (),
        "The options of the scheduler's submission command that a request may give in `options`, "
        "by name: on SLURM `--name`, elsewhere `-x`. Options that the service needs, such as "
        "those of the output or the job's name, stop the start. Unset: none.",
        allowed="names of options, separated by blanks or commas",
        example="--switches,--licenses",
        shown="",
    )
    max_jobs_per_user: Annotated[int, Field(ge=1, le=10**6)] | None = setting(
        None,
        "The most jobs of one user that were submitted through this service and are not over. A "
        "further submission is answered with 429. An array counts as one job. Operators have no "
        "limit. Unset: no limit but the scheduler's own.",
        allowed="a whole number from 1 to 1000000",
        example="500",
        shown="",
    )
    max_array_tasks: Annotated[int, Field(ge=1, le=10**6)] = setting(
        75_000,
        "The most tasks of an array, if the scheduler does not take less. The default is that of "
        "Grid Engine (`max_aj_tasks`).",
        allowed="a whole number from 1 to 1000000",
        example="1000",
    )
    max_args_bytes: Bytes = setting(
        128 * 2**10,
        "The most bytes of all arguments of a job together, each with a NUL behind it. They are "
        "in every listing of the job.",
        allowed=BYTES,
        example="1M",
        shown="128K",
    )
    max_environment_bytes: Bytes = setting(
        128 * 2**10,
        "The most bytes of all variables of a job's `environment` together, each as `NAME=value` "
        "with a NUL behind it.",
        allowed=BYTES,
        example="1M",
        shown="128K",
    )
    max_script_bytes: Bytes = setting(
        8 * 2**20,
        "The largest script of a job, if the scheduler does not take less. The service reads it "
        "whole, and LOCAL keeps a copy for each job.",
        allowed=BYTES,
        example="64M",
        shown="8M",
    )
    path_check_timeout_seconds: Seconds = setting(
        5.0,
        "The longest time to look up a submitted directory or script (a slow NFS server).",
        allowed=SECONDS,
        example="20",
    )
    path_wait_seconds: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = setting(
        1.0,
        "The time that the service waits for a submitted directory or script that is not "
        "there (a network file system shows changes of other machines a little later). 0: it "
        "refuses at once.",
        allowed="seconds, 0 to 60",
        example="5",
    )

    @model_validator(mode="after")
    def _check_stale_after(self) -> Self:
        if self.stale_after_seconds <= self.poll_interval_seconds:
            raise ValueError(
                f"STALE_AFTER_SECONDS={self.stale_after_seconds:g} must be more than "
                f"POLL_INTERVAL_SECONDS={self.poll_interval_seconds:g}, or every answer is stale"
            )
        return self
