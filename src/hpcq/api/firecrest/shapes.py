"""Jobs, queues and hosts as FirecREST 2 tells them, and its submissions."""

import argparse
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from pydantic import AliasChoices, Field

from hpcq.api.job_submission import JobSubmission
from hpcq.api.requests import RequestModel
from hpcq.domain.errors import InvalidSpec
from hpcq.domain.states import FailureKind, JobState
from hpcq.schedulers.base import Node, Queue
from hpcq.schedulers.directives import read_directives

__all__ = [
    "FirecrestJob",
    "FirecrestSubmission",
    "job_of",
    "metadata_of",
    "node_of",
    "partition_of",
    "state_of",
]

_STATES: Mapping[str, str] = {
    JobState.UNDETERMINED: "UNKNOWN",
    JobState.QUEUED: "PENDING",
    JobState.QUEUED_HELD: "PENDING",
    JobState.REQUEUED: "PENDING",
    JobState.REQUEUED_HELD: "PENDING",
    JobState.RUNNING: "RUNNING",
    JobState.SUSPENDED: "SUSPENDED",
    JobState.DONE: "COMPLETED",
    JobState.FAILED: "FAILED",
}
_FAILURES: Mapping[str, str] = {
    FailureKind.CANCELLED: "CANCELLED",
    FailureKind.TIME_LIMIT: "TIMEOUT",
    FailureKind.OUT_OF_MEMORY: "OUT_OF_MEMORY",
    FailureKind.NODE_FAILURE: "NODE_FAIL",
}


def _named(snake: str, camel: str) -> Any:
    """Return a field that FirecREST takes under both names."""
    return Field(default=None, validation_alias=AliasChoices(camel, snake))


class FirecrestJob(RequestModel):
    """A job to submit: a script, or the path of one, with the resources in its directives."""

    name: str | None = None
    working_directory: Annotated[
        str, Field(validation_alias=AliasChoices("workingDirectory", "working_directory"))
    ]
    script: str | None = None
    script_path: str | None = _named("script_path", "scriptPath")
    standard_output: str | None = _named("standard_output", "standardOutput")
    standard_error: str | None = _named("standard_error", "standardError")
    env: dict[str, str] | None = None
    account: str | None = None
    partition: str | None = None
    reservation: str | None = None

    def to_submission(self, *, is_slurm: bool) -> JobSubmission:
        """Return the same submission as this service's own API takes it.

        FirecREST has no field for slots. On Slurm they are what the directives of the script ask
        for; elsewhere, and in a script that is named by its path, there is one.

        Raises:
            InvalidSpec: neither or both of ``script`` and ``scriptPath`` are there, or a directive
                has no whole number.
        """
        if (self.script is None) == (self.script_path is None):
            raise InvalidSpec(
                "Give script, the text, or scriptPath, the path of a file.", field="script"
            )
        asked: dict[str, object] = {
            "workingDirectory": self.working_directory,
            "reservedSlots": 1,
            "name": self.name,
            "script": self.script,
            "scriptFile": self.script_path,
            "stdoutPath": self.standard_output,
            "stderrPath": self.standard_error,
            "environment": self.env,
            "account": self.account,
            "queue": self.partition,
            "reservation": self.reservation,
        }
        if is_slurm and self.script is not None:
            asked |= _slots_in(self.script)
        return JobSubmission.model_validate(
            {name: value for name, value in asked.items() if value is not None}
        )


class FirecrestSubmission(RequestModel):
    """The body of a submission."""

    job: FirecrestJob


def _slots_in(script: str) -> Mapping[str, object]:
    """Return the slots that a script of Slurm asks for, and their places."""
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for short, long in (("-n", "--ntasks"), ("-c", "--cpus-per-task"), ("-N", "--nodes")):
        reader.add_argument(short, long, type=int)
    reader.add_argument("--ntasks-per-node", type=int)
    directives = read_directives(
        script.encode("utf-8", "surrogatepass"), "#SBATCH", stops_at_command=True
    )
    words = [word for directive in directives for word in directive.words]
    try:
        asked, _ = reader.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise InvalidSpec(f"A directive of the script: {error}.", field="script") from None
    nodes, per_node, cpus = asked.nodes, asked.ntasks_per_node, asked.cpus_per_task
    tasks = asked.ntasks or (nodes or 1) * (per_node or 1)
    found: dict[str, object] = {"reservedSlots": tasks * (cpus or 1)}
    if nodes is not None:
        found["nodes"] = nodes
    if cpus is not None:
        found["cpusPerTask"] = cpus
    return found


def state_of(job: Mapping[str, Any]) -> str:
    """Return the state of a job in the words of Slurm, which FirecREST uses."""
    if job["state"] == JobState.FAILED and job["failureKind"] is not None:
        return _FAILURES.get(job["failureKind"], "FAILED")
    return _STATES[job["state"]]


def job_of(job: Mapping[str, Any]) -> Mapping[str, object]:
    """Return a job; what is not known, and what this service does not tell, is null.

    Args:
        job: as this service's own API answers it.
    """
    hosts, limit = job["hosts"], job["wallTimeLimit"]
    return {
        "jobId": job["jobId"] or job["uid"],
        "name": job["name"],
        "status": {
            "state": state_of(job),
            "stateReason": job["explanation"] or job["stateReason"],
            "exitCode": job["exitCode"],
            "interruptSignal": job["exitSignal"],
        },
        "tasks": None,
        "time": {
            "submission": _seconds(job["submitTime"]),
            "start": _seconds(job["startTime"]),
            "end": _seconds(job["endTime"]),
            "elapsed": job["elapsed"],
            "suspended": None,
            # Slurm's unit.
            "limit": None if limit is None else -(-limit // 60),
        },
        "account": job["account"],
        "allocationNodes": None if hosts is None else len(hosts),
        "cluster": job["clusterId"],
        "group": None,
        "nodes": None if hosts is None else ",".join(hosts),
        "partition": job["queue"],
        "priority": None,
        "killRequestUser": None,
        "user": job["owner"] or job["submittedBy"],
        "workingDirectory": job["workingDirectory"],
    }


def _seconds(time: str | None) -> int | None:
    return None if time is None else int(datetime.fromisoformat(time).timestamp())


def metadata_of(job: Mapping[str, Any]) -> Mapping[str, object]:
    """Return the files of a job."""
    return {
        "jobId": job["jobId"] or job["uid"],
        "script": None,
        "standardInput": None,
        "standardOutput": job["stdoutPath"],
        "standardError": job["stderrPath"],
    }


def node_of(node: Node) -> Mapping[str, object]:
    """Return a host."""
    used, total = node.slots_used, node.slots_total
    state = "DOWN"
    if node.is_up:
        state = "IDLE" if not used else "ALLOCATED" if used == total else "MIXED"
    return {
        "name": node.name,
        "state": [state],
        "cpus": total,
        "allocCpus": used,
        "idleCpus": None if total is None or used is None else total - used,
        "partitions": list(node.queues),
    }


def partition_of(queue: Queue, nodes: Sequence[Node]) -> Mapping[str, object]:
    """Return a queue, with its hosts counted."""
    return {
        "name": queue.name,
        "totalCpus": queue.slots_total,
        "totalNodes": sum(queue.name in node.queues for node in nodes),
        "state": ["UP" if queue.is_open else "DOWN"],
    }
