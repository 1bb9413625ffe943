"""Answers, as the documentation shows them."""

from collections.abc import Sequence
from types import GenericAlias
from typing import Annotated, Any, Literal, get_args, get_type_hints

from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field, JsonValue, create_model

from hpcq.domain.actions import Signal
from hpcq.domain.events import EventKind
from hpcq.domain.principals import Method, Role, Scope
from hpcq.domain.programs import ParameterType
from hpcq.domain.states import JobState, JobStatus
from hpcq.domain.webhooks import DeliveryStatus
from hpcq.services.listing import wire
from hpcq.services.listing.wire import Time, wire_name

__all__ = [
    "Accepted",
    "CapabilitiesOut",
    "CircuitOut",
    "ClusterOut",
    "DeliveryOut",
    "FileOut",
    "FolderOut",
    "Health",
    "Job",
    "JobCounts",
    "JobList",
    "LimitsOut",
    "LoginOut",
    "NodeOut",
    "PartialJobList",
    "ProgramOut",
    "QueueOut",
    "QueuePointOut",
    "QueueUsageOut",
    "ResourceUsage",
    "ServiceOut",
    "SessionOut",
    "SubmissionPlanOut",
    "Submitted",
    "UsageList",
    "WebhookCreated",
    "WebhookOut",
]


class _Wire(BaseModel):
    model_config = ConfigDict(alias_generator=wire_name, populate_by_name=True, extra="forbid")


def _documented(struct: type[Struct], **replaced: Any) -> Any:
    """Return the model that documents a struct of `hpcq.services.listing.wire`.

    Args:
        struct: its fields carry their descriptions and examples.
        replaced: models in the place of structs, by the name of the field that holds one or null.
    """
    hints = get_type_hints(struct, include_extras=True)
    for name, model in replaced.items():
        hints[name] = Annotated[model | None, *get_args(hints[name])[1:]]
    fields: dict[str, Any] = {name: (hint, ...) for name, hint in hints.items()}
    return create_model(struct.__name__, __base__=_Wire, __doc__=struct.__doc__, **fields)


ResourceUsage = _documented(wire.ResourceUsage)
Job = _documented(
    wire.Job,
    resource_usage=ResourceUsage,
    efficiency=_documented(wire.Efficiency),
    tasks=_documented(wire.TaskCounts),
)
JOB_EXAMPLE: dict[str, JsonValue] = {
    wire_name(name): (field.examples or [None])[0] for name, field in Job.model_fields.items()
}
Job.model_config["json_schema_extra"] = {"examples": [JOB_EXAMPLE]}
# As values: type checkers take no variable for a type.
JobList = GenericAlias(list, (Job,))
_optional: dict[str, Any] = {
    name: (info.annotation, None) for name, info in Job.model_fields.items()
}
PartialJob = create_model(
    "PartialJob",
    __base__=_Wire,
    __doc__="The fields of a job that `fields` names.",
    **_optional,
)
PartialJobList = GenericAlias(list, (PartialJob,))
UsageList = GenericAlias(list, (ResourceUsage,))


class Submitted(_Wire):
    """The answer to a submission."""

    job_id: str | None = Field(
        examples=["141"],
        description="null (202) while it is not known whether the scheduler took the job.",
    )
    uid: str = Field(examples=["7d9f0c6e-2f6b-4d0e-9d5c-1f1f6a1f2b3c"])


class SubmissionPlanOut(_Wire):
    """The submission of a job that was not made (`dryRun`)."""

    argv: list[str] = Field(
        description="The command. The mark of the job in it is made up for this answer.",
        examples=[["sbatch", "--parsable", "--ntasks=16", "--", "/home/ana/run.sh"]],
    )
    working_directory: str = Field(description="Where the command runs.")
    directives: list[str] = Field(
        description="The lines of the script that the scheduler reads itself. What `argv` says "
        "wins over them.",
        examples=[["#SBATCH --exclude=node07"]],
    )
    script: str = Field(description="What the scheduler gets: the script, or a wrapper around it.")
    is_wrapped: bool = Field(description="Whether `script` is not the script file as it is.")
    environment: dict[str, str] = Field(
        description="The variables that the job gets besides the scheduler's own. The values of "
        "`JOB_ENVIRONMENT` are hidden."
    )


class Accepted(BaseModel):
    """The answer to a deletion or an action."""

    detail: str = Field(examples=["jobId: 141"])


class SignalRequest(BaseModel):
    """The signal to send to a job."""

    model_config = ConfigDict(extra="forbid")

    signal: Signal = Field(description="Its name without `SIG`.", examples=["USR1"])


class JobCounts(_Wire):
    """The number of jobs, by their states."""

    jobs: int = Field(examples=[5])
    by_state: dict[JobState, int] = Field(description="Every state, with the number of its jobs.")
    by_status: dict[JobStatus, int] = Field(description="Likewise every `status`.")


class WebhookOut(_Wire):
    """A webhook."""

    webhook_id: str = Field(examples=["9f2c1d7a4b3e8f60"])
    url: str = Field(examples=["https://portal.example/jobs"])
    events: list[EventKind] | None = Field(description="The events that it wants; null: all.")
    created_by: str
    created_at: Time
    disabled_at: Time | None = Field(
        description="When its receiver answered 410, after which nothing more is sent."
    )
    pending: int = Field(description="Messages that are still to be sent.", examples=[0])


class WebhookCreated(WebhookOut):
    """A new webhook, with its secret."""

    secret: str = Field(
        description="The key of the signatures, which is shown just once.",
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="],
    )


class DeliveryOut(_Wire):
    """A message to a webhook."""

    message_id: str = Field(
        description="Its header `webhook-id`, the same in each attempt.",
        examples=["msg_9f2c1d7a4b3e8f60_17"],
    )
    event: int = Field(description="The number of the event.", examples=[17])
    type: EventKind | None = Field(description="null when the event is kept no longer.")
    uid: str = Field(description="Of the job.")
    status: DeliveryStatus
    attempts: int = Field(examples=[1])
    last_attempt: Time | None
    last_code: int | None = Field(
        description="The HTTP status of the last answer; null if none came.", examples=[200]
    )
    last_problem: str | None = Field(description="Why the last attempt failed.")
    next_attempt: Time | None = Field(
        description="null if it is over, or waits for an earlier message about the same job."
    )


class CapabilitiesOut(_Wire):
    """The features of the scheduler."""

    fields: list[str] = Field(
        description="The optional fields of a submission.", examples=[["array", "queue"]]
    )
    actions: list[str] = Field(description="Of a job.", examples=[["hold", "release", "suspend"]])
    changes: list[str] = Field(
        description="The fields of a queued job that `PATCH` can change.",
        examples=[["name", "queue", "wallTimeLimit"]],
    )
    removals: list[str] = Field(
        description="Those of them that `PATCH` can take back, with `null`.",
        examples=[["priority"]],
    )
    accounting: bool = Field(description="Whether ended jobs can be asked for.")
    memory_enforced: bool = Field(description="Whether a job above its `memoryLimit` is ended.")
    files: bool = Field(description="Whether the files of jobs are shown (`JOB_FILES`).")


class LimitsOut(_Wire):
    """The most that a request may hold, in bytes."""

    max_request_bytes: int
    max_args_bytes: int
    max_environment_bytes: int
    max_script_bytes: int


class ClusterOut(_Wire):
    """The cluster behind this service."""

    cluster_id: str = Field(examples=["1"])
    scheduler: str = Field(examples=["SLURM"])
    version: str | None = Field(
        description="The scheduler's own words; null while it cannot be asked.",
        examples=["slurm-wlm 22.05.8"],
    )
    capabilities: CapabilitiesOut
    limits: LimitsOut


class FileOut(_Wire):
    """An entry of a folder."""

    name: str
    kind: Literal["file", "folder", "link", "other"]
    size: int | None = Field(description="Bytes; null for what is no file.")
    modified: str | None = Field(description="When it was last changed.")


class FolderOut(_Wire):
    """A folder in the working directory of a job."""

    path: str = Field(description="Below the working directory.", examples=["results"])
    entries: list[FileOut] = Field(description="In the order of their names.")
    is_complete: bool = Field(description="False if there are more than 5000 entries.")


class QueueOut(_Wire):
    """A queue or partition; null stands for what the scheduler does not tell."""

    name: str
    is_open: bool = Field(description="Whether it takes and starts jobs.")
    native_state: str | None = Field(description="The scheduler's own word.")
    slots_total: int | None
    slots_used: int | None
    max_wall_time: int | None = Field(description="Seconds; null also for no limit.")


class QueuePointOut(_Wire):
    """The mean load of a queue over one step."""

    time: Time = Field(description="The beginning of the step.")
    slots_total: float | None = Field(description="null: the scheduler does not tell.")
    slots_used: float
    slots_queued: float = Field(description="The slots that waiting jobs ask for.")
    jobs_running: float
    jobs_queued: float


class QueueUsageOut(_Wire):
    """The load of a queue over a time."""

    queue: str = Field(examples=["batch"])
    since: Time
    until: Time
    step: int = Field(description="From one point to the next, s.", examples=[180])
    points: list[QueuePointOut] = Field(description="The oldest first; none without a sample.")


class NodeOut(_Wire):
    """A host that runs jobs; null stands for what the scheduler does not tell."""

    name: str
    is_up: bool = Field(description="Whether it runs jobs, or can.")
    native_state: str | None = Field(description="The scheduler's own word.")
    slots_total: int | None
    slots_used: int | None
    memory: float | None = Field(description="GB.")
    queues: list[str]


PROGRAM_EXAMPLE: dict[str, JsonValue] = {
    "programId": "NW0",
    "name": "NEWAVE",
    "clusterId": "1",
    "version": "v28.16.4",
    "installationDirectory": "/home/pem/versoes/NEWAVE/v28.16.4",
    "isManaged": True,
    "executablePath": "/home/pem/rotinas/tuber/jobs/mpi_newave.job 28.16.4",
    "args": ["N_PROC"],
    "isDefault": None,
    "parameters": [
        {
            "name": "N_PROC",
            "type": "integer",
            "default": "reservedSlots",
            "minimum": 1,
            "maximum": None,
            "choices": None,
            "description": "How many processes to start.",
            "optional": False,
        }
    ],
}


class ParameterOut(_Wire):
    """An argument that a program expects."""

    name: str
    type: ParameterType
    default: str | None = Field(
        description="Taken when no value is given; `reservedSlots` stands for the number of "
        "reserved slots. null: a value has to be given, unless it is `optional`."
    )
    minimum: float | None = Field(description="Of a number; included in its range.")
    maximum: float | None = Field(description="Of a number; included in its range.")
    choices: list[str] | None = Field(description="The only values that are allowed.")
    description: str | None
    optional: bool = Field(description="Whether it is left out when no value is given.")


class ProgramOut(_Wire):
    """One installed version of a program."""

    model_config = ConfigDict(json_schema_extra={"examples": [PROGRAM_EXAMPLE]})

    program_id: str = Field(description="Stays when other versions come and go.")
    name: str
    cluster_id: str
    version: str
    installation_directory: str
    is_managed: bool = Field(description="Whether the site looks after it.")
    executable_path: str = Field(
        description="The script, and after a blank what it is told before `args`."
    )
    args: list[str] = Field(
        description="The names of the arguments that it has to be given, in order."
    )
    is_default: bool | None = Field(
        description="Whether this version is taken when none is named; null when nobody says."
    )
    parameters: list[ParameterOut] = Field(description="`args`, and what it may be given.")


class CircuitOut(_Wire):
    """The circuit of one part of the scheduler: does it answer, and when is it asked next?"""

    state: Literal["closed", "open", "half_open"] = Field(
        description="`closed`: it answers. `open`: it did not, and is left in peace. `half_open`: "
        "it is being asked whether it is back."
    )
    failures: int = Field(description="Unanswered questions in a row.", examples=[0])
    retry_after: int | None = Field(description="Seconds; null while it is closed.")


class Health(_Wire):
    """The health of the service."""

    status: str = Field(examples=["ready"])
    scheduler: str | None = Field(default=None, examples=["LOCAL"])
    as_of: Time | None = Field(default=None, description="When the scheduler last answered.")
    circuits: dict[str, CircuitOut] | None = Field(
        default=None, description="Of the `scheduler` and of its `accounting`."
    )


class LoginOut(_Wire):
    """A way to log in."""

    method: Method = Field(
        description="`token`: send a token of this service to `POST /session`. `oidc`: open `url`, "
        "which leads to the site's accounts, or send a token of them. `peer`: accounts of the "
        "service's machine are recognised without a login."
    )
    url: str | None = Field(
        description="Relative to the service's own address.", examples=["session/login"]
    )


class ServiceOut(_Wire):
    """The facts about the service that a page needs."""

    version: str
    compatibility: Literal["none", "original"]
    job_visibility: Literal["all", "own"] = Field(
        description="`own`: viewers and users see only their own jobs."
    )


class SessionOut(_Wire):
    """Somebody who asks, and the ways to log in."""

    user: str | None = Field(default=None, description="null: nobody whom the service knows.")
    role: Role | None = None
    method: Method | None = Field(
        default=None, description="The way in which the service recognised the request."
    )
    login: Method | None = Field(
        default=None, description="The way in which a browser with a session logged in."
    )
    scopes: list[Scope] = Field(default=[], description="The requests that are allowed.")
    expires_at: Time | None = Field(
        default=None, description="The end of the session or of the token; null for none."
    )
    logins: Sequence[LoginOut]
    service: ServiceOut | None = Field(default=None, description="null for nobody.")
