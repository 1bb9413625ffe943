"""Choices for a job of ``qsub``: the request's, and where it is silent the script's."""

from collections.abc import Mapping
from dataclasses import dataclass

from hpcq.domain.jobs import JobSpec, MailEvent
from hpcq.schedulers.base import ScriptDirectives

__all__ = ["Choices", "Outputs", "mail_options"]

_MAIL_LETTERS = {MailEvent.BEGIN: "b", MailEvent.END: "e", MailEvent.FAIL: "a"}


@dataclass(frozen=True, slots=True)
class Outputs:
    """Paths of both streams.

    Attributes:
        options: what ``qsub`` is told.
        stdout_path: where the job writes itself, because the scheduler would misread the path; see
            `hpcq.schedulers.pbs_family.wrapper_script.build_wrapper`.
        stderr_path: the same for its errors.
        stdout, stderr: patterns of the paths, as `hpcq.domain.outputs` has them.
        task_suffix: see `hpcq.schedulers.base.ScriptDirectives`.
    """

    options: tuple[str, ...]
    stdout_path: str | None
    stderr_path: str | None
    stdout: str
    stderr: str
    task_suffix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Choices for one job.

    Attributes:
        name: complete, as the user gave it.
        named_by_script: the name that the script gives; None when it gives none.
        requests: what ``-l`` asks for.
        queue, account, priority: values of ``-q``, ``-A``, ``-p``.
        array: the value of ``-t`` (Torque) or ``-J`` (PBS).
        hold: whether it is held.
        outputs: where its output goes.
        others: options for the rest of what the request and the script ask for.
        variables: what the script's ``-v`` sets and the request does not.
        args: what the script is given.
        shell: the interpreter that the script's ``-S`` names.
    """

    name: str
    named_by_script: str | None
    requests: tuple[str, ...]
    queue: str | None
    account: str | None
    priority: str | None
    array: str | None
    hold: bool
    outputs: Outputs
    others: tuple[str, ...]
    variables: Mapping[str, str]
    args: tuple[str, ...]
    shell: str | None

    @property
    def directives(self) -> ScriptDirectives:
        """The choices that the record keeps."""
        return ScriptDirectives(
            name=self.named_by_script,
            stdout=self.outputs.stdout,
            stderr=self.outputs.stderr,
            task_suffix=self.outputs.task_suffix,
        )


def mail_options(spec: JobSpec) -> tuple[str, ...]:
    """Return the options for a request's mails: ``-M ana -m be``; nothing for one without."""
    if spec.mail_to is None:
        return ()
    letters = "".join(_MAIL_LETTERS[event] for event in spec.mail_on)
    return ("-M", spec.mail_to, "-m", letters or "n")
