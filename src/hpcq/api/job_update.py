"""The changes of a job, as a request has them."""

from pydantic import Field, StrictStr

from hpcq.api.job_submission import memory_bytes
from hpcq.api.requests import Number, RequestModel, WholeNumber

__all__ = ["JobUpdate"]


class JobUpdate(RequestModel):
    """Changes of a job that waits: a JSON merge patch (RFC 7396).

    What is absent stays as it is; `null` takes a limit or the priority back.
    """

    name: StrictStr | None = Field(default=None, examples=["pmo-2026-12"])
    queue: StrictStr | None = None
    account: StrictStr | None = None
    priority: WholeNumber | None = Field(
        default=None, description="Higher runs sooner, in the scheduler's own units."
    )
    wall_time_limit: WholeNumber | None = Field(default=None, examples=[86400], description="s.")
    memory_limit: Number | None = Field(default=None, description="GB, whole job.")

    def values(self) -> dict[str, object]:
        """Return the fields of a `JobSpec` that are to change.

        Raises:
            InvalidSpec: no job can have such a memory limit.
        """
        asked: dict[str, tuple[str, object]] = {
            "name": ("name", self.name),
            "queue": ("queue", self.queue),
            "account": ("account", self.account),
            "priority": ("priority", self.priority),
            "wall_time_limit": ("wall_time_limit_seconds", self.wall_time_limit),
            "memory_limit": ("memory_limit_bytes", memory_bytes(self.memory_limit)),
        }
        return dict(asked[name] for name in asked if name in self.model_fields_set)
