"""Settings of the services: submissions, the watch over the scheduler, and what is kept."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from hpcq.settings import DAYS, SECONDS, Days, JobEnvironment, Seconds, Section, setting

__all__ = ["ServiceSettings"]


class ServiceSettings(Section):
    """Intervals, patience, the environment of jobs, and how long records are kept."""

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
    finished_jobs_listed_seconds: Annotated[float, Field(ge=0, le=10**9, allow_inf_nan=False)] = (
        setting(
            86400.0,
            "How long a finished job stays in `GET /jobs`. Its record stays readable by id.",
            allowed="seconds, at least 0",
            example="3600",
        )
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

    @model_validator(mode="after")
    def _check_stale_after(self) -> Self:
        if self.stale_after_seconds <= self.poll_interval_seconds:
            raise ValueError(
                f"STALE_AFTER_SECONDS={self.stale_after_seconds:g} must be more than "
                f"POLL_INTERVAL_SECONDS={self.poll_interval_seconds:g}, or every answer is stale"
            )
        return self
