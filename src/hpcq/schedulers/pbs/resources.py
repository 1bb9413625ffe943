"""Resources for ``qsub -l``: those of the request, and what its script asks for besides; pure."""

from collections.abc import Iterator, Set

from hpcq.domain.errors import UnsupportedCapability
from hpcq.domain.jobs import JobSpec
from hpcq.domain.layout import Layout, lay_out, share_of_each_node
from hpcq.domain.units import format_clock
from hpcq.schedulers.pbs.qstat_job import slots_asked
from hpcq.schedulers.pbs_family.directives import Option, read_resources
from hpcq.schedulers.pbs_family.values import parse_pbs_size

__all__ = ["choose_limits", "choose_requests", "has_chunks", "has_memory"]

_SLOTS = frozenset({"select", "nodes", "ncpus", "mpiprocs", "ompthreads", "nodect"})
_OF_SLOTS = frozenset({"ncpus", "mpiprocs", "ompthreads", "ppn"})
_ARRANGEMENTS = frozenset({"free", "pack", "scatter", "vscatter"})
_SHARINGS = frozenset({"excl", "exclhost", "shared"})
_KIBIBYTE = 1024


def has_memory(template: str) -> bool:
    """Return whether a job's limit of memory can be expressed with a template."""
    return "{memory" in template or not template.startswith("select=")


def has_chunks(template: str) -> bool:
    """Return whether a template asks for one chunk, of which a job can have one on each node."""
    return template.startswith("select=1:") and "+" not in template


def choose_requests(spec: JobSpec, options: list[Option], resources: str) -> Iterator[str]:
    """Yield the values of ``-l``: the site's template with the slots, then what else is asked.

    Raises:
        InvalidSpec: a directive cannot be honoured, or not all nodes would get as many GPUs.
        UnsupportedCapability: it asks for a type of GPUs.
    """
    asked = read_resources(options)
    layout = lay_out(spec)
    is_laid_out = layout.nodes is not None or spec.cpus_per_task or spec.gpus is not None
    memory = spec.memory_limit_bytes
    if memory is None and "mem" in asked:
        memory = _size(*asked["mem"])
    chunk = next((name for name in ("select", "nodes") if name in asked), None)
    chunks = "" if chunk is None else asked[chunk][0]
    if (
        chunk is not None
        and not is_laid_out
        and slots_asked({chunk: chunks}) == spec.slots
        and ("mem=" not in chunks or memory is None)
    ):
        # The script says how the slots lie on hosts, and the request says nothing else.
        yield _with_memory(f"{chunk}={chunks}", memory)
        if chunk == "nodes" and memory is not None:
            yield f"mem={_kibibytes(memory)}kb"
    else:
        more = "" if chunk is None else _beside_slots(*asked[chunk], resources, memory, spec)
        yield _chunks_request(spec, layout, resources, memory) + more
        if memory is not None and "{memory" not in resources:
            yield f"mem={_kibibytes(memory)}kb"
    place = _place(asked["place"][0] if "place" in asked else "", layout, spec)
    if place:
        yield f"place={place}"
    if spec.wall_time_limit_seconds is not None:
        yield f"walltime={format_clock(spec.wall_time_limit_seconds)}"
    for name, (value, _) in asked.items():
        if name in _SLOTS or name in ("mem", "place"):
            continue
        if name != "walltime" or spec.wall_time_limit_seconds is None:
            yield f"{name}={value}"


def choose_limits(spec: JobSpec, fields: Set[str], select: str | None) -> Iterator[str]:
    """Yield the values of ``-l`` that give a queued job other limits.

    What its chunks ask for can only be changed with them (qalter(1B)).

    Args:
        spec: the job as it is to be.
        fields: those of its fields that change.
        select: its chunks; None where it asks for none.
    """
    memory = spec.memory_limit_bytes
    if "memory_limit_bytes" in fields and memory is not None:
        chunks = [chunk.split(":") for chunk in select.split("+")] if select else []
        others = [[part for part in chunk if not part.startswith("mem=")] for chunk in chunks]
        if select:
            yield _with_memory(f"select={'+'.join(map(':'.join, others))}", memory)
        else:
            yield f"mem={_kibibytes(memory)}kb"
    if "wall_time_limit_seconds" in fields and spec.wall_time_limit_seconds is not None:
        yield f"walltime={format_clock(spec.wall_time_limit_seconds)}"


def _chunks_request(spec: JobSpec, layout: Layout, resources: str, memory: int | None) -> str:
    """Return the site's template, filled in: a chunk for each node where the request counts them.

    ``select=2:ncpus=4:mem=1048576kb:mpiprocs=2:ompthreads=2:ngpus=1``
    """
    nodes = layout.nodes or 1
    slots = spec.slots // nodes
    each = "" if memory is None else f":mem={_kibibytes(-(-memory // nodes))}kb"
    part = "" if memory is None else f":mem={_kibibytes(-(-memory // spec.slots))}kb"
    template = resources if nodes == 1 else resources.replace("select=1:", f"select={nodes}:", 1)
    request = template.format(slots=slots, memory=each, memory_per_slot=part)
    if spec.cpus_per_task is not None:
        request += f":mpiprocs={slots // layout.cpus_per_task}:ompthreads={layout.cpus_per_task}"
    elif layout.nodes is not None and "mpiprocs=" not in resources:
        # As many lines in the file of nodes as there are tasks.
        request += f":mpiprocs={slots}"
    if spec.gpus is not None:
        if spec.gpus.type is not None:
            raise UnsupportedCapability("gpus.type", "PBS")
        request += f":ngpus={share_of_each_node(spec.gpus.count, nodes, 'gpus')}"
    return request


def _place(asked: str, layout: Layout, spec: JobSpec) -> str:
    """Return ``place`` as the script asks for it, with what the request says in its stead."""
    scatters = layout.nodes is not None and layout.nodes > 1
    words = asked.split(":") if asked else []
    arrangement = ["scatter"] if scatters else [word for word in words if word in _ARRANGEMENTS]
    sharing = ["exclhost"] if spec.exclusive else [word for word in words if word in _SHARINGS]
    others = [word for word in words if word not in _ARRANGEMENTS | _SHARINGS]
    return ":".join([*arrangement, *sharing, *others])


def _beside_slots(
    value: str, option: Option, resources: str, memory: int | None, spec: JobSpec
) -> str:
    """Return what a ``select`` of the script asks for besides slots: ``:ngpus=1``.

    Raises:
        InvalidSpec: it cannot be said together with the request's number of slots.
    """
    chunks = [chunk.split(":") for chunk in value.split("+")]
    others = [
        part
        for chunk in chunks
        for part in (chunk[1:] if chunk[0].isdecimal() else chunk)
        if part.partition("=")[0] not in _OF_SLOTS
        and not (memory is not None and part.startswith("mem="))
        and not (spec.gpus is not None and part.startswith("ngpus="))
    ]
    if not others:
        return ""
    is_one = len(chunks) == 1 and (chunks[0][0] == "1" or not chunks[0][0].isdecimal())
    if not is_one or not resources.startswith("select=1:") or (lay_out(spec).nodes or 1) > 1:
        raise option.refused(
            f"It asks for {':'.join(others)} with another number of slots or nodes than the"
            " request: let both ask for the same."
        )
    return "".join(f":{part}" for part in others)


def _with_memory(request: str, memory: int | None) -> str:
    """Return a script's ``select`` with the memory that the request limits the job to."""
    if memory is None or request.startswith("nodes="):
        return request
    chunks = request.removeprefix("select=").split("+")
    counts = [int(head) if head.isdecimal() else 1 for head in (c.split(":")[0] for c in chunks)]
    each = _kibibytes(-(-memory // sum(counts)))
    return "select=" + "+".join(f"{chunk}:mem={each}kb" for chunk in chunks)


def _size(text: str, option: Option) -> int:
    try:
        return parse_pbs_size(text)
    except ValueError:
        raise option.refused(f"{text!r} is not a size such as 4gb.") from None


def _kibibytes(size_bytes: int) -> int:
    """Return a size in KiB, rounded up: a job gets at least what it asked for."""
    return -(-size_bytes // _KIBIBYTE)
