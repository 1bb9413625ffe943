"""Settings of the LOCAL scheduler."""

from typing import Annotated

from pydantic import Field

from hpcq.schedulers.local.capacity import count_usable_cpus
from hpcq.settings import Section, setting

__all__ = ["LocalSettings"]


class LocalSettings(Section):
    """Its slots, and how it ends jobs."""

    internal_scheduler_max_slots: Annotated[int, Field(ge=1, le=10**6)] = setting(
        count_usable_cpus,
        "How many slots the LOCAL scheduler hands out.",
        allowed="a whole number from 1 to 1000000",
        example="16",
        shown="the CPUs that the service may use",
    )
    cancel_grace_seconds: Annotated[float, Field(ge=0, le=10**9, allow_inf_nan=False)] = setting(
        10.0,
        "LOCAL: how long a cancelled job may take to end after TERM before it gets KILL.",
        allowed="seconds, at least 0",
        example="60",
    )
