"""Resources that a request asks for, as options of ``qsub``: queue, limits, GPUs, mails."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hpcq.domain.errors import InvalidSpec, UnsupportedCapability
from hpcq.domain.jobs import Dependency, DependencyCondition, JobSpec, MailEvent
from hpcq.domain.units import format_clock

__all__ = ["LIMITS", "Complexes", "build_requests", "check_name", "join_resources", "limits_of"]

_NAMES = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9_.@,+-]*")  # all.q, all.q@node7, a.q,b.q, @rack1
_MAIL_LETTERS = {MailEvent.BEGIN: "b", MailEvent.END: "e", MailEvent.FAIL: "a"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Complexes:
    """Names that a site gave to resources; None where it has no such resource.

    Attributes:
        exclusive: hosts without other jobs.
        gpus: GPUs of the whole job.
    """

    exclusive: str | None = None
    gpus: str | None = None


LIMITS: Mapping[str, str] = {"wall_time_limit_seconds": "h_rt", "memory_limit_bytes": "h_vmem"}
"""The resources that limit a job, by the fields of a `JobSpec`."""


def build_requests(spec: JobSpec, complexes: Complexes) -> list[str]:
    """Return the options for the request's queue, limits, resources and mails.

    Raises:
        InvalidSpec: a value that Grid Engine would read as something else.
        UnsupportedCapability: Grid Engine, or the site, has no such thing.
    """
    limits = limits_of(spec)
    if spec.exclusive:
        limits[_configured(complexes.exclusive, "exclusive")] = "true"
    if spec.gpus is not None:
        if spec.gpus.type is not None:
            raise UnsupportedCapability("gpus.type", "SGE")
        limits[_configured(complexes.gpus, "gpus")] = str(spec.gpus.count)
    return [
        *(["-q", check_name(spec.queue, "queue")] if spec.queue is not None else []),
        *_project(spec),
        *(["-p", str(spec.priority)] if spec.priority is not None else []),
        *(["-l", join_resources(limits)] if limits else []),
        *(["-ar", _reservation(spec.reservation)] if spec.reservation is not None else []),
        *(["-M", spec.mail_to, "-m", _mail_letters(spec)] if spec.mail_to is not None else []),
        *(["-hold_jid", ",".join(map(_predecessor, spec.depends_on))] if spec.depends_on else []),
    ]


def limits_of(spec: JobSpec) -> dict[str, str]:
    """Return the limits of a request, by the names of Grid Engine's resources."""
    limits = {}
    if spec.wall_time_limit_seconds is not None:
        limits["h_rt"] = format_clock(spec.wall_time_limit_seconds)
    if spec.memory_limit_bytes is not None:
        # h_vmem is counted per slot; rounded up, so that a job gets at least what it asked for.
        limits["h_vmem"] = str(-(-spec.memory_limit_bytes // spec.slots))
    return limits


def join_resources(resources: Mapping[str, str]) -> str:
    """Return the value of ``-l``."""
    return ",".join(f"{name}={value}" for name, value in resources.items())


def check_name(text: str, wire: str) -> str:
    """Return the name of a queue or a project.

    Raises:
        InvalidSpec: it is none. Patterns (``*``, ``a|b``, ``!x``) would mean any queue, not one.
    """
    if _NAMES.fullmatch(text) is None:
        raise InvalidSpec(f"{text!r} cannot be a name in Grid Engine.", field=wire)
    return text


def _configured(name: str | None, field: str) -> str:
    if name is None:
        raise UnsupportedCapability(field, "SGE")
    return name


def _project(spec: JobSpec) -> list[str]:
    if None not in (spec.project, spec.account) and spec.project != spec.account:
        raise InvalidSpec(
            "In Grid Engine account and project are the same thing, and a job has but one. Leave"
            " one of them out.",
            field="project",
        )
    if spec.account is not None:
        return ["-P", check_name(spec.account, "account")]
    return [] if spec.project is None else ["-P", spec.project]


def _reservation(number: str) -> str:
    if not number.isdecimal():
        raise InvalidSpec(
            f"The reservation is {number!r}; in Grid Engine it is a number (`qrstat`).",
            field="reservation",
        )
    return number


def _mail_letters(spec: JobSpec) -> str:
    return "".join(_MAIL_LETTERS[event] for event in spec.mail_on) or "n"


def _predecessor(dependency: Dependency) -> str:
    if dependency.condition is not DependencyCondition.ANY:
        raise UnsupportedCapability(
            "dependsOn",
            "SGE",
            "Grid Engine can wait for a job to be over, however it ended: the condition has to be "
            f"'any', not {str(dependency.condition)!r}.",
        )
    if not dependency.native_id.isdigit():
        raise UnsupportedCapability(
            "dependsOn",
            "SGE",
            f"Grid Engine cannot wait for {dependency.native_id}, only for its whole array.",
        )
    return dependency.native_id
