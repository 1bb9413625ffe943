"""Checks of what a job asks for, against what LOCAL and this machine have."""

import os
from collections.abc import Iterable

from hpcq.domain.errors import InvalidSpec, UnsupportedCapability
from hpcq.domain.jobs import JobSpec
from hpcq.domain.layout import lay_out
from hpcq.schedulers.local.files import encode_path
from hpcq.schedulers.local.job import QUEUE_NAME

__all__ = ["check_job", "check_queue", "check_text"]


def check_job(spec: JobSpec, total_slots: int) -> None:
    """Raise if a job can never run here. Reads files: not for the event loop.

    Raises:
        InvalidSpec: this machine cannot run it.
        UnsupportedCapability: it asks for something that LOCAL does not have.
    """
    check_text("name", [spec.name])
    check_text("workingDirectory", [spec.working_directory])
    check_text("scriptFile", [spec.script_file])
    check_text("args", spec.args)
    check_text("environment", (*spec.environment, *spec.environment.values()))
    check_text("stdoutPath", [spec.stdout_path or ""])
    check_text("stderrPath", [spec.stderr_path or ""])
    for field, value in (("account", spec.account), ("priority", spec.priority)):
        if value is not None:
            raise UnsupportedCapability(field, "LOCAL")
    check_queue(spec)
    if spec.slots > total_slots:
        raise InvalidSpec(
            f"The job asks for {spec.slots} slots and the machine has {total_slots}.",
            field="reservedSlots",
        )
    if lay_out(spec).nodes not in (None, 1):
        raise InvalidSpec(
            "This machine is one node: all slots of a job are there.",
            field="slotsPerNode" if spec.nodes is None else "nodes",
        )
    # The folder of another account is looked at with that one's rights: when the job starts.
    if spec.run_as is None and not os.path.isdir(encode_path(spec.working_directory)):
        raise InvalidSpec(
            f"There is no directory {spec.working_directory!r}.", field="workingDirectory"
        )
    if any(not name or "=" in name for name in spec.environment):
        raise InvalidSpec(
            "The name of an environment variable is empty or holds '='.", field="environment"
        )


def check_queue(spec: JobSpec) -> None:
    """Raise `InvalidSpec` if a job asks for another queue than the one there is."""
    if spec.queue not in (None, QUEUE_NAME):
        raise InvalidSpec(f"The only queue is {QUEUE_NAME!r}.", field="queue")


def check_text(field: str, texts: Iterable[str]) -> None:
    """Raise `InvalidSpec` if a program cannot be given one of these texts of a field."""
    for text in texts:
        try:
            encoded = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            encoded = b"\0"
        if b"\0" in encoded:
            raise InvalidSpec(
                f"{text!r} holds a NUL or a character that no program can be given.", field=field
            )
