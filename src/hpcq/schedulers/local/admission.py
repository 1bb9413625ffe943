"""What a job must be for LOCAL to take it. Reads files: not for the event loop."""

import os
from collections.abc import Iterable

from hpcq.domain.errors import InvalidSpec, UnsupportedCapability
from hpcq.domain.jobs import JobSpec
from hpcq.schedulers.local.entry import QUEUE_NAME
from hpcq.schedulers.local.files import encode_path

__all__ = ["check"]


def check(spec: JobSpec, total_slots: int) -> None:
    """Raise if a job can never run here.

    Raises:
        InvalidSpec: its content cannot be run on this machine.
        UnsupportedCapability: it asks for something that LOCAL does not know.
    """
    _check_texts(spec)
    for field, value in (("account", spec.account), ("priority", spec.priority)):
        if value is not None:
            raise UnsupportedCapability(field, "LOCAL")
    if spec.queue not in (None, QUEUE_NAME):
        raise InvalidSpec(f"The only queue is {QUEUE_NAME!r}.", field="queue")
    if spec.slots > total_slots:
        raise InvalidSpec(
            f"The job asks for {spec.slots} slots and the machine has {total_slots}.",
            field="reservedSlots",
        )
    if not os.path.isdir(encode_path(spec.working_directory)):
        raise InvalidSpec(
            f"There is no directory {spec.working_directory!r}.", field="workingDirectory"
        )
    if any(not name or "=" in name for name in spec.environment):
        raise InvalidSpec(
            "The name of an environment variable is empty or holds '='.", field="environment"
        )


def _check_texts(spec: JobSpec) -> None:
    outputs = (("stdoutPath", spec.stdout_path), ("stderrPath", spec.stderr_path))
    _check_text("name", [spec.name])
    _check_text("workingDirectory", [spec.working_directory])
    _check_text("scriptFile", [spec.script_file])
    _check_text("args", spec.args)
    _check_text("environment", (*spec.environment, *spec.environment.values()))
    for field, path in outputs:
        _check_text(field, [path or ""])


def _check_text(field: str, texts: Iterable[str]) -> None:
    for text in texts:
        try:
            encoded = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            encoded = b"\0"
        if b"\0" in encoded:
            raise InvalidSpec(
                f"{text!r} holds a NUL or a character that no program can be given.", field=field
            )
