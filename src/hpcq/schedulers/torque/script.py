"""Choices for a job of Torque; see `hpcq.schedulers.pbs_family.choices`."""

import re
import shlex
from collections.abc import Iterator, Mapping

from hpcq.domain.errors import InvalidSpec, UnsupportedCapability
from hpcq.domain.jobs import ArrayRange, JobSpec
from hpcq.domain.layout import lay_out, share_of_each_node
from hpcq.schedulers.pbs_family.choices import Choices, RequestAndScript, mail_options, option_rules
from hpcq.schedulers.pbs_family.directives import (
    NEVER_INTERACTIVE,
    Option,
    job_attributes,
    read_resources,
)
from hpcq.schedulers.torque.outputs import place
from hpcq.schedulers.torque.qstat_job import slots_of

__all__ = [
    "OPTION_RULES",
    "acceptable_name",
    "array_range",
    "choose",
    "has_nodes",
    "limits_of",
    "slots_request",
]

LETTERS = "a:A:b:c:C:d:D:e:EfF:hIj:J:k:K:l:L:m:M:nN:o:p:P:q:r:S:t:T:u:v:Vw:W:xXz"
"""The options of Torque's ``qsub`` (recording qsub.unknown-option, and its manual)."""
_AS_THEY_ARE = frozenset("acEKmMnrTu")
_REFUSED = {
    **dict.fromkeys("IXx", NEVER_INTERACTIVE),
    "C": "Which lines are directives cannot change among them; remove it.",
    "D": "The script is not found below another root directory; remove it.",
    "L": "Torque does not take it together with the slots of a request; use -l.",
    "P": "Jobs are submitted for the service's own account; remove it.",
    "J": "It is for jobs of another account; use -t for an array.",
}
OPTION_RULES = option_rules(
    LETTERS,
    reserved="CdDefFhIjJkLNoPqStuvVwWxXzbAmMp",
    resources="nodes|procs|ncpus|mem|walltime",
)
_NAME_LIMIT = 200
"""Characters of a job name: Torque takes 236; with ``.o`` and a number it has to fit a file."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._+-]+")
_LONGEST_RANGE = 60_000
"""Characters of ``-t``: half of what one argument of a command may have."""
_SLOTS = ("nodes", "procs", "ncpus")
_PLAIN_CHUNK = re.compile(r"[0-9]+(?::ppn=[0-9]+)?(?:\+[0-9]+(?::ppn=[0-9]+)?)*")


def choose(
    spec: JobSpec,
    script: bytes,
    *,
    template: str,
    slots_per_node: int | None,
    environment: Mapping[str, str],
) -> Choices:
    """Return the choices of a request and its script.

    Args:
        spec: the request; its name may be empty still.
        script: the content of the script.
        template: how slots are asked for, see `slots_request`.
        slots_per_node: how many slots a host has; None: as many as any job asks for.
        environment: that of the service's commands.

    Raises:
        InvalidSpec: a directive, or the array, cannot be honoured.
    """
    asked = RequestAndScript(spec, script, LETTERS, _REFUSED, environment)
    array = asked.value("t", None if spec.array is None else array_range(spec.array))
    name = acceptable_name(asked.name)
    return asked.choices(
        requests=_requests(spec, asked.options, template, slots_per_node),
        array=array,
        outputs=place(spec, asked.last, name, is_array=array is not None),
        others=_others(spec, asked.options),
        args=spec.args or _args(asked.last.get("F")),
    )


def acceptable_name(name: str) -> str:
    """Return a job name that every Torque takes.

    6.1.3 refuses blanks and what is not ASCII, older releases a leading digit too.

    >>> acceptable_name("2024/run 1")
    'J2024_run_1'
    """
    cleaned = _NOT_IN_NAMES.sub("_", name)
    if not cleaned[:1].isalpha():
        cleaned = "J" + cleaned
    return cleaned[:_NAME_LIMIT]


def array_range(array: ArrayRange) -> str:
    """Return what ``-t`` takes: ``1-5%2``; with a step a list, for Torque knows none.

    Raises:
        InvalidSpec: the list is too long for a command.

    >>> array_range(ArrayRange(first=1, last=9, step=4, max_running=2))
    '1,5,9%2'
    """
    whole = f"{array.first}-{array.last}"
    text = whole if array.step == 1 else ",".join(map(str, array.tasks))
    if len(text) > _LONGEST_RANGE:
        raise InvalidSpec(
            "Torque knows no step, and the list of so many jobs is too long for it.",
            field="array",
        )
    return text if array.max_running is None else f"{text}%{array.max_running}"


def _others(spec: JobSpec, options: list[Option]) -> Iterator[str]:
    yield from mail_options(spec)
    if spec.exclusive:
        yield "-n"
    decided = frozenset() if spec.mail_to is None else frozenset("mM")
    for option in options:
        if option.letter in _AS_THEY_ARE - decided:
            yield f"-{option.letter}"
            if option.raw:
                yield option.value
        elif option.letter == "W":
            yield from job_attributes(option, has_dependencies=bool(spec.depends_on))


def _args(option: Option | None) -> tuple[str, ...]:
    """Return the arguments of ``-F "one two"``."""
    if option is None:
        return ()
    try:
        return tuple(shlex.split(option.value))
    except ValueError:
        raise option.refused("It has a quotation that does not end.") from None


def _requests(
    spec: JobSpec, options: list[Option], template: str, slots_per_node: int | None
) -> Iterator[str]:
    """Yield the items of ``-l``: the slots, the limits, then what else the script asks for."""
    asked = read_resources(options)
    layout = next((name for name in _SLOTS if name in asked), None)
    value, option = asked[layout] if layout is not None else ("", None)
    is_placed = lay_out(spec).nodes is not None or spec.gpus is not None or bool(spec.constraints)
    is_same = layout is not None and slots_of({f"Resource_List.{layout}": value}) == spec.slots
    if is_same and not is_placed:
        yield f"{layout}={value}"  # how the slots lie on hosts; the request says nothing else
    else:
        if option is not None and layout == "nodes" and not _PLAIN_CHUNK.fullmatch(value):
            raise option.refused(
                f"It asks for {value!r}, and the request for {spec.slots} slots in"
                " reservedSlots: let both ask for the same number, and only one of them for nodes."
            )
        yield _nodes_request(spec, template, slots_per_node)
    limits = limits_of(spec)
    yield from limits.values()
    decided = {*_SLOTS, "nodect", *(limit.partition("=")[0] for limit in limits.values())}
    for name, (value, _) in asked.items():
        if name not in decided:
            yield f"{name}={value}" if value else name


def limits_of(spec: JobSpec) -> dict[str, str]:
    """Return the limits of a request as items of ``-l``, by the fields of a `JobSpec`."""
    limits = {}
    if spec.wall_time_limit_seconds is not None:
        limits["wall_time_limit_seconds"] = f"walltime={spec.wall_time_limit_seconds}"
    if spec.memory_limit_bytes is not None:
        # Rounded up.
        limits["memory_limit_bytes"] = f"mem={-(-spec.memory_limit_bytes // 1024)}kb"
    return limits


def has_nodes(template: str) -> bool:
    """Return whether nodes and what they have to have can be asked for with a template."""
    return template.startswith("nodes={nodes}:ppn={ppn}") and not set("+#") & set(template)


def _nodes_request(spec: JobSpec, template: str, slots_per_node: int | None) -> str:
    """Return the request for slots, GPUs and features: ``nodes=2:ppn=4:gpus=1:fast``.

    Raises:
        InvalidSpec: not all nodes would get as many GPUs.
        UnsupportedCapability: it asks for a type of GPUs.
    """
    nodes = lay_out(spec).nodes or _hosts(spec.slots, slots_per_node)
    parts = [slots_request(template, spec.slots, slots_per_node, nodes)]
    if spec.gpus is not None:
        if spec.gpus.type is not None:
            raise UnsupportedCapability("gpus.type", "TORQUE")
        parts.append(f"gpus={share_of_each_node(spec.gpus.count, nodes, 'gpus')}")
    return ":".join([*parts, *spec.constraints])


def _hosts(slots: int, slots_per_node: int | None) -> int:
    return 1 if slots_per_node is None else -(-slots // slots_per_node)


def slots_request(
    template: str, slots: int, slots_per_node: int | None, nodes: int | None = None
) -> str:
    """Return the request for a number of slots.

    Args:
        template: may hold ``{slots}``, ``{nodes}`` and ``{ppn}``.
        slots: how many.
        slots_per_node: what a host has. All hosts get the same number, so that slots which do
            not divide evenly are rounded up.
        nodes: how many hosts; None: as many as are necessary.

    >>> slots_request("nodes={nodes}:ppn={ppn}", 10, slots_per_node=4)
    'nodes=3:ppn=4'
    """
    nodes = nodes or _hosts(slots, slots_per_node)
    return template.format(slots=slots, nodes=nodes, ppn=-(-slots // nodes))
