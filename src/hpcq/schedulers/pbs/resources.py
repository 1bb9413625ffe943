"""Resources for ``qsub -l``: those of the request, and what its script asks for besides; pure."""

from collections.abc import Iterator

from hpcq.domain.jobs import JobSpec
from hpcq.domain.units import format_clock
from hpcq.schedulers.pbs.qstat_job import slots_asked
from hpcq.schedulers.pbs_family.directives import Option, read_resources
from hpcq.schedulers.pbs_family.values import parse_pbs_size

__all__ = ["choose_requests", "has_memory"]

_SLOTS = frozenset({"select", "nodes", "ncpus", "mpiprocs", "ompthreads", "nodect"})
_OF_SLOTS = frozenset({"ncpus", "mpiprocs", "ompthreads", "ppn"})
_KIBIBYTE = 1024


def has_memory(template: str) -> bool:
    """Return whether a job's limit of memory can be expressed with a template."""
    return "{memory" in template or not template.startswith("select=")


def choose_requests(spec: JobSpec, options: list[Option], resources: str) -> Iterator[str]:
    """Yield the values of ``-l``: the site's template with the slots, then what else is asked."""
    asked = read_resources(options)
    memory = spec.memory_limit_bytes
    if memory is None and "mem" in asked:
        memory = _size(*asked["mem"])
    chunk = next((name for name in ("select", "nodes") if name in asked), None)
    chunks = "" if chunk is None else asked[chunk][0]
    if (
        chunk is not None
        and slots_asked({chunk: chunks}) == spec.slots
        and ("mem=" not in chunks or memory is None)
    ):
        # The script says how the slots lie on hosts, and the request says nothing else.
        yield _with_memory(f"{chunk}={chunks}", memory)
        if chunk == "nodes" and memory is not None:
            yield f"mem={_kibibytes(memory)}kb"
    else:
        more = "" if chunk is None else _beside_slots(*asked[chunk], resources, memory)
        whole = "" if memory is None else f":mem={_kibibytes(memory)}kb"
        part = "" if memory is None else f":mem={_kibibytes(-(-memory // spec.slots))}kb"
        request = resources.format(slots=spec.slots, memory=whole, memory_per_slot=part)
        yield request + more
        if memory is not None and "{memory" not in resources:
            yield whole.removeprefix(":")
    if spec.wall_time_limit_seconds is not None:
        yield f"walltime={format_clock(spec.wall_time_limit_seconds)}"
    for name, (value, _) in asked.items():
        if name in _SLOTS or name == "mem":
            continue
        if name != "walltime" or spec.wall_time_limit_seconds is None:
            yield f"{name}={value}"


def _beside_slots(value: str, option: Option, resources: str, memory: int | None) -> str:
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
    ]
    if not others:
        return ""
    is_one = len(chunks) == 1 and (chunks[0][0] == "1" or not chunks[0][0].isdecimal())
    if not is_one or not resources.startswith("select=1:"):
        raise option.refused(
            f"It asks for {':'.join(others)} with another number of slots than reservedSlots:"
            " let both ask for the same number."
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
    """Rounded up, so that a job gets at least what it asked for."""
    return -(-size_bytes // _KIBIBYTE)
