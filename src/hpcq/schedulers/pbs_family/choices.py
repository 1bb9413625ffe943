"""Choices for a job of ``qsub``: the request's, and where it is silent the script's.

What the request says wins; what it does not say, the script's ``#PBS`` lines decide; what cannot
be honoured is refused. ``qsub`` gets all of it as options, for the wrapper that it reads has no
directives.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hpcq.domain.jobs import JobSpec, MailEvent
from hpcq.domain.outputs import default_name
from hpcq.schedulers.base import ScriptDirectives
from hpcq.schedulers.pbs_family.directives import read_options, read_shell, read_variables
from hpcq.schedulers.site_options import OptionRules, getopt_letters

__all__ = ["Choices", "OutputOptions", "RequestAndScript", "mail_options", "option_rules"]

_MAIL_LETTERS = {MailEvent.BEGIN: "b", MailEvent.END: "e", MailEvent.FAIL: "a"}


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Paths of both streams.

    Attributes:
        options: those of ``qsub``.
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
    outputs: OutputOptions
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


class RequestAndScript:
    """A request, and the options in the ``#PBS`` lines of its script.

    Args:
        spec: the request; its name may be empty still.
        script: the content of the script.
        letters: the options of ``qsub``, as for ``getopt``.
        refused: the letters of options that cannot be honoured, and why.
        environment: that of the service's commands, from which ``-v NAME`` takes a value;
            ``PBS_DPREFIX`` there is the mark of directives.

    Attributes:
        options: the script's, in their order.
        last: the last of each by its letter.
        name: the job's, complete.

    Raises:
        InvalidSpec: a directive cannot be honoured.
    """

    def __init__(
        self,
        spec: JobSpec,
        script: bytes,
        letters: str,
        refused: Mapping[str, str],
        environment: Mapping[str, str],
    ) -> None:
        self._spec = spec
        self._environment = environment
        self.options = read_options(
            script, letters, refused, environment.get("PBS_DPREFIX") or "#PBS"
        )
        self.last = {option.letter: option for option in self.options}
        self._named = self.value("N", None) or None
        self.name = spec.name or self._named or default_name(spec.working_directory)

    def value(self, letter: str, request: str | None) -> str | None:
        """Return the request's value, else that of the script's last such option."""
        is_said = request is not None or letter not in self.last
        return request if is_said else self.last[letter].value

    def choices(
        self,
        *,
        requests: Iterable[str],
        array: str | None,
        outputs: OutputOptions,
        others: Iterable[str],
        args: tuple[str, ...],
    ) -> Choices:
        """Return the choices, complete with those that Torque and PBS read alike; see `Choices`.

        Raises:
            InvalidSpec: a directive cannot be honoured.
        """
        spec = self._spec
        return Choices(
            name=self.name,
            named_by_script=self._named,
            requests=tuple(requests),
            queue=self.value("q", spec.queue),
            account=self.value("A", spec.account),
            priority=self.value("p", None if spec.priority is None else str(spec.priority)),
            array=array,
            hold=spec.hold or "h" in self.last,
            outputs=outputs,
            others=tuple(others),
            variables=read_variables(self.options, spec.environment, self._environment),
            args=args,
            shell=read_shell(self.last.get("S")),
        )


def option_rules(letters: str, reserved: str, resources: str) -> OptionRules:
    """Return the rules for a site's own options of ``qsub``.

    Args:
        letters: its options, as for ``getopt``.
        reserved: the letters of those that no site may allow.
        resources: a pattern of the resources of ``-l`` that the request has fields for.
    """
    flags, valued = getopt_letters(letters)
    return OptionRules(
        command="qsub",
        flags=flags,
        valued=valued,
        reserved=dict.fromkeys(
            [f"-{letter}" for letter in reserved],
            "the service needs it as it is, or the request has a field for it",
        ),
        reserved_values={"-l": re.compile(rf"(?:^|,)\s*(?:{resources})\b")},
    )


def mail_options(spec: JobSpec) -> tuple[str, ...]:
    """Return the options for a request's mails: ``-M ana -m be``; nothing for one without."""
    if spec.mail_to is None:
        return ()
    letters = "".join(_MAIL_LETTERS[event] for event in spec.mail_on)
    return ("-M", spec.mail_to, "-m", letters or "n")
