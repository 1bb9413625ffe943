"""A submission, as a request has it."""

import functools
from collections.abc import Set
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from hpcq.api.requests import (
    Argument,
    Number,
    RequestModel,
    WholeNumber,
    is_unknown_ignored,
    require,
)
from hpcq.api.schemas import Job
from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import ArrayRange, DependencyCondition, Gpus, JobSpec, MailEvent
from hpcq.domain.units import GIBIBYTE
from hpcq.services.listing.wire import wire_name
from hpcq.services.programs.request import ProgramRequest
from hpcq.services.programs.service import ProgramService
from hpcq.services.submission.dependencies import DependencyRequest

__all__ = ["ArrayIn", "DependencyIn", "JobSubmission", "SubmissionQuery", "memory_bytes"]


def _program_arg(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise PydanticCustomError("program_arg", "it has to be text or a number")
    return value


# Checked before the types are, each of which would name the field in a way of its own.
_ProgramArg = Annotated[StrictStr | StrictInt | StrictFloat | None, BeforeValidator(_program_arg)]


class DependencyIn(RequestModel):
    """A job that has to come first; its id alone stands for its success."""

    job_id: StrictStr = Field(
        examples=["141"], description="The scheduler's id, of a job or a whole array, or the uid."
    )
    condition: DependencyCondition = Field(
        default=DependencyCondition.SUCCESS,
        description="`success`: it is DONE. `failure`: it is FAILED. `any`: it is over. "
        "`started`: it runs, or is over.",
    )

    @model_validator(mode="before")
    @classmethod
    def _an_id_alone(cls, value: object) -> object:
        return {"jobId": value} if isinstance(value, str) else value


class ArrayIn(RequestModel):
    """The tasks of an array: `first`, `first + step` … up to `last`."""

    first: WholeNumber = Field(examples=[1], description="At least 0.")
    last: WholeNumber = Field(examples=[12])
    step: WholeNumber = 1
    max_running: WholeNumber | None = Field(
        default=None, description="How many tasks may run at the same time."
    )

    def to_range(self) -> ArrayRange:
        """Return it as the domain has it; whether it makes sense is seen there."""
        return ArrayRange(
            first=self.first, last=self.last, step=self.step, max_running=self.max_running
        )


class GpusIn(RequestModel):
    """GPUs of the whole job; a number alone stands for any type."""

    count: WholeNumber = Field(examples=[2], description="At least 1.")
    type: StrictStr | None = Field(
        default=None, examples=["a100"], description="The site's name for a model."
    )

    @model_validator(mode="before")
    @classmethod
    def _a_number_alone(cls, value: object) -> object:
        is_number = isinstance(value, int | float | str) and not isinstance(value, bool)
        return {"count": value} if is_number else value


class SubmissionQuery(RequestModel):
    """The query parameters of a submission."""

    dry_run: bool = Field(
        default=False, description="`true`: tell what would run, and submit nothing."
    )


class JobSubmission(RequestModel):
    """A job to submit. Fields of a `Job` that only answers carry are accepted and ignored.

    A number may be given as text (`"4"`), a whole one as `4.0`, and one in `args` stands for its
    text.
    """

    model_config = ConfigDict(json_schema_extra=lambda schema: _complete(schema))

    working_directory: Annotated[StrictStr, BeforeValidator(require)] = Field(
        description="Absolute path; the job starts in it."
    )
    reserved_slots: Annotated[WholeNumber, BeforeValidator(require)] = Field(
        description="How many CPUs to reserve, at least 1."
    )
    program_id: StrictStr | None = Field(
        default=None,
        description="Instead of `scriptFile`: a program of `GET /programs`.",
        examples=["NW0"],
    )
    program: StrictStr | None = Field(
        default=None,
        description="Instead of `programId`: the program's name.",
        examples=["NEWAVE"],
    )
    version: StrictStr | None = Field(
        default=None,
        description="Of `program`. Default: its default version, or the only one.",
        examples=["v28.16.4"],
    )
    program_args: dict[StrictStr, _ProgramArg] | None = Field(
        default=None,
        fail_fast=True,
        description="Of the program, by the names in its `args`. One that is absent or null gets "
        "its default.",
        examples=[{"N_PROC": 16}],
    )
    script: StrictStr | None = Field(
        default=None,
        description="Instead of `scriptFile`: the script's text.",
        examples=["#!/bin/sh\nmpirun ./model\n"],
    )
    script_file: StrictStr | None = Field(
        default=None,
        description="Absolute path of the script. Mandatory unless `script` or a program is given.",
    )
    name: StrictStr | None = Field(
        default=None, description="Default: the working directory's last part."
    )
    args: list[Argument] | None = Field(
        default=None, fail_fast=True, description="Reach the script byte for byte."
    )
    cluster_id: StrictStr | None = Field(default=None, description="When given, this deployment's.")
    queue: StrictStr | None = None
    account: StrictStr | None = None
    priority: WholeNumber | None = Field(
        default=None, description="Higher runs sooner, in its own units."
    )
    wall_time_limit: WholeNumber | None = Field(
        default=None, description="s; the job is ended then."
    )
    memory_limit: Number | None = Field(default=None, description="GB, whole job.")
    environment: dict[StrictStr, StrictStr] | None = Field(
        default=None,
        fail_fast=True,
        description="What the job's environment holds besides the scheduler's own.",
    )
    stdout_path: StrictStr | None = Field(
        default=None,
        description="Default: NAME.oID in the directory. In the file's name, %j stands for the "
        "job's number, %a for the task's, %x for the job's name and %% for a per cent sign.",
    )
    stderr_path: StrictStr | None = Field(
        default=None, description="Default: NAME.eID in the directory; as stdoutPath."
    )
    hold: StrictBool | None = Field(default=None, description="Wait until released.")
    depends_on: list[DependencyIn] | None = Field(
        default=None,
        fail_fast=True,
        max_length=1000,
        description="The jobs that have to come first.",
    )
    array: ArrayIn | None = Field(
        default=None, description="Run the script once for each of these numbers."
    )
    nodes: WholeNumber | None = Field(
        default=None,
        description="How many nodes; `reservedSlots` are spread evenly over them.",
    )
    slots_per_node: WholeNumber | None = Field(
        default=None, description="How many of the `reservedSlots` on each node."
    )
    cpus_per_task: WholeNumber | None = Field(
        default=None, description="How many of the `reservedSlots` each task gets. Default: 1."
    )
    gpus: GpusIn | None = Field(default=None, description="GPUs of the whole job.")
    exclusive: StrictBool | None = Field(
        default=None, description="No other job on the same nodes."
    )
    qos: StrictStr | None = Field(default=None, description="Quality of service.")
    project: StrictStr | None = None
    reservation: StrictStr | None = Field(
        default=None, description="A reservation that the site has made."
    )
    constraints: list[StrictStr] | None = Field(
        default=None, fail_fast=True, description="Features that each node has to have."
    )
    mail_to: StrictStr | None = Field(
        default=None, description="One address, for mails about the job."
    )
    mail_on: list[MailEvent] | None = Field(
        default=None,
        min_length=1,
        max_length=len(MailEvent),
        fail_fast=True,
        description="When `mailTo` gets a mail. Default: `end` and `fail`.",
    )

    options: list[StrictStr] | None = Field(
        default=None,
        fail_fast=True,
        examples=[["--switches=1"]],
        description="The scheduler's own options, each one text: `--name`, `--name=value` or "
        "`-x value`. The site allows them by name.",
    )

    @model_validator(mode="before")
    @classmethod
    def _absent_is_null(cls, body: object) -> object:
        # A default would be validated under the field's Python name, which no client knows.
        mandatory = dict.fromkeys(("workingDirectory", "reservedSlots", "scriptFile"))
        if not isinstance(body, dict):
            return body
        asked = {name: value for name, value in body.items() if name not in _ignored()}
        return {**mandatory, **asked}

    @field_validator("cluster_id", mode="before")
    @classmethod
    def _any_cluster_for_the_original(cls, cluster_id: object) -> object:
        return None if is_unknown_ignored() else cluster_id

    @field_validator("script")
    @classmethod
    def _is_not_empty(cls, script: str | None) -> str | None:
        return None if script is None else require(script)  # type: ignore[return-value]

    @field_validator("script_file")
    @classmethod
    def _there_is_something_to_run(cls, path: str | None, info: ValidationInfo) -> str | None:
        others = ("program_id", "program", "script")
        is_needed = all(info.data.get(name, "") is None for name in others)
        return require(path) if is_needed else path  # type: ignore[return-value]

    def from_program(self, programs: ProgramService) -> ProgramRequest | None:
        """Return the program that is to run, or None when a script is.

        Raises:
            InvalidSpec: it cannot be said which of them, or which script.
        """
        if self.program_id is None and self.program is None:
            for field, value in (("version", self.version), ("programArgs", self.program_args)):
                if value is not None:
                    raise InvalidSpec(
                        f"{field} belongs to a program; name it by programId or program.",
                        field=field,
                    )
            if self.script is not None and self.script_file:
                raise InvalidSpec(
                    "script is the script's text and scriptFile its path: give one of them.",
                    field="script",
                )
            return None
        own = (("script", self.script), ("scriptFile", self.script_file), ("args", self.args))
        for field, given in own:
            if given:
                raise InvalidSpec(
                    f"A program has its own script and arguments: leave {field} out; its arguments "
                    "are given in programArgs.",
                    field=field,
                )
        return ProgramRequest(
            programs=programs,
            program_id=self.program_id,
            name=self.program,
            version=self.version,
            values=self.program_args or {},
        )

    def to_spec(self, cluster_id: str) -> JobSpec:
        """Return what the scheduler is to run; without a script when a program is named.

        Raises:
            InvalidSpec: it is meant for another deployment.
        """
        if self.cluster_id not in (None, cluster_id):
            raise InvalidSpec(
                f"clusterId is {self.cluster_id!r}; this deployment is {cluster_id!r}.",
                field="clusterId",
            )
        return JobSpec(
            name=self.name or "",
            working_directory=self.working_directory,
            script_file=self.script_file or "",
            args=tuple(self.args or ()),
            slots=self.reserved_slots,
            queue=self.queue,
            account=self.account,
            priority=self.priority,
            wall_time_limit_seconds=self.wall_time_limit,
            memory_limit_bytes=memory_bytes(self.memory_limit),
            environment=self.environment or {},
            stdout_path=self.stdout_path,
            stderr_path=self.stderr_path,
            hold=bool(self.hold),
            array=None if self.array is None else self.array.to_range(),
            nodes=self.nodes,
            slots_per_node=self.slots_per_node,
            cpus_per_task=self.cpus_per_task,
            gpus=None if self.gpus is None else Gpus(count=self.gpus.count, type=self.gpus.type),
            exclusive=bool(self.exclusive),
            qos=self.qos,
            project=self.project,
            reservation=self.reservation,
            constraints=tuple(self.constraints or ()),
            mail_to=self.mail_to,
            mail_on=self._mail_events(),
            options=tuple(self.options or ()),
            script=self.script,
        )

    def _mail_events(self) -> tuple[MailEvent, ...]:
        default = () if self.mail_to is None else (MailEvent.END, MailEvent.FAIL)
        asked = default if self.mail_on is None else self.mail_on
        return tuple(event for event in MailEvent if event in asked)

    def dependency_requests(self) -> list[DependencyRequest]:
        """Return the jobs that have to come first, as they were named."""
        return [
            DependencyRequest(job_id=dependency.job_id, condition=dependency.condition)
            for dependency in self.depends_on or ()
        ]


@functools.cache
def _ignored() -> Set[str]:
    """Return the names of the fields of a `Job` that a submission does not have."""
    return {wire_name(name) for name in Job.model_fields} - JobSubmission.names()


def _complete(schema: dict[str, Any]) -> None:
    """Add the ignored fields, and examples, to the schema of a submission."""
    ignored = {name: {"description": "Accepted and ignored."} for name in sorted(_ignored())}
    schema["properties"] = {**schema["properties"], **ignored}
    study = {"workingDirectory": "/home/ana/estudos/pmo-2026-11", "reservedSlots": 16}
    script = "/home/pem/rotinas/tuber/jobs/mpi_newave.job"
    program = {"program": "NEWAVE", "version": "v28.16.4", "programArgs": {"N_PROC": 16}}
    schema["examples"] = [
        {**study, "scriptFile": script, "args": ["28.16", "16"], "wallTimeLimit": 43200},
        {**study, **program},
        {**study, "script": "#!/bin/sh\nmpirun ./model\n"},
    ]


def memory_bytes(gibibytes: float | None) -> int | None:
    """Return a memory limit in bytes; None stays None.

    Raises:
        InvalidSpec: no job can have it.
    """
    if gibibytes is None:
        return None
    if not 1 / 1024 <= gibibytes <= GIBIBYTE:
        raise InvalidSpec(
            f"memoryLimit is {gibibytes:g} GB; it has to be 1/1024 to {GIBIBYTE} GB.",
            field="memoryLimit",
        )
    return round(gibibytes * GIBIBYTE)
