"""Choices for a job of PBS; see `hpcq.schedulers.pbs_family.choices`."""

import os.path
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hpcq.domain.jobs import ArrayRange, JobSpec, NativeId
from hpcq.domain.outputs import UNKNOWN, as_pattern, render, requested_pattern
from hpcq.schedulers.pbs.qstat_job import PLACEHOLDER
from hpcq.schedulers.pbs.resources import choose_requests
from hpcq.schedulers.pbs_family.choices import (
    Choices,
    OutputOptions,
    RequestAndScript,
    mail_options,
    option_rules,
)
from hpcq.schedulers.pbs_family.directives import (
    NEVER_INTERACTIVE,
    Option,
    job_attributes,
    joined_streams,
)
from hpcq.schedulers.pbs_family.values import path_of
from hpcq.schedulers.pbs_family.wrapper_script import ARRAY_INDEX, JOB_NUMBER

__all__ = ["OPTION_RULES", "acceptable_name", "choose", "tasks_of"]

LETTERS = "a:A:c:C:e:fGhIj:J:k:l:m:M:N:o:p:P:q:r:R:S:u:VW:v:Xz"
"""The options of OpenPBS's ``qsub`` (recording qsub.bad-option)."""
_AS_THEY_ARE = frozenset("acmMPrRu")
_REFUSED = {
    **dict.fromkeys("IXG", NEVER_INTERACTIVE),
    "C": "Which lines are directives cannot change among them; remove it.",
}
OPTION_RULES = option_rules(
    LETTERS,
    reserved="ACefGhIjJkNoqRSuVWvXzmMPp",
    resources="select|place|nodes|ncpus|mem|walltime",
)
_NAME_LIMIT = 230
"""Characters of a job name (recording qsub.name-too-long-231)."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._+-]+")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./@+=-]*(?<!/)")
_RANGE = re.compile(r"([0-9]{1,9})-([0-9]{1,9})(?::([0-9]{1,9}))?(?:%[0-9]+)?")
_MOST_TASKS = 10_000


@dataclass(frozen=True, slots=True)
class _Stream:
    """File of one stream.

    Attributes:
        option: what ``-o`` or ``-e`` says; None for PBS's own choice.
        own: the path that the job writes itself, where PBS would misread it; see
            `hpcq.schedulers.pbs_family.wrapper_script`.
        pattern: where it can be read, as `hpcq.domain.outputs` has it.
    """

    option: str | None
    own: str | None
    pattern: str


def choose(spec: JobSpec, script: bytes, resources: str, environment: Mapping[str, str]) -> Choices:
    """Return the choices of a request and its script.

    Args:
        spec: the request; its name may be empty still.
        script: the content of the script.
        resources: the site's template for ``-l``, see `hpcq.schedulers.pbs.resources`.
        environment: that of the service's commands.

    Raises:
        InvalidSpec: a directive cannot be honoured.
    """
    asked = RequestAndScript(spec, script, LETTERS, _REFUSED, environment)
    array = asked.value("J", None if spec.array is None else _range(spec.array))
    name = acceptable_name(asked.name)
    return asked.choices(
        requests=choose_requests(spec, asked.options, resources),
        array=array,
        outputs=_outputs(spec, asked.last, name, array is not None),
        others=_others(spec, asked.options),
        args=spec.args,
    )


def tasks_of(native_id: NativeId, array: str | None) -> list[NativeId]:
    """Return the ids of an array's tasks.

    Args:
        native_id: the array.
        array: the value of ``-J``: ``1-10:4%2``; another form gives no ids.

    >>> tasks_of(NativeId("9"), "1-10:4%2")
    ['9[1]', '9[5]', '9[9]']
    """
    match = _RANGE.fullmatch(array or "")
    if match is None:
        return []
    numbers = range(int(match[1]), int(match[2]) + 1, int(match[3] or 1) or 1)
    return [NativeId(f"{native_id}[{number}]") for number in numbers[:_MOST_TASKS]]


def _range(array: ArrayRange) -> str:
    """Return ``1-10:4%2``. PBS refuses ``3-3``: one task is the first of two steps."""
    last, step = array.last, array.step
    if len(array.tasks) == 1:
        last, step = array.first + 1, 2
    limit = "" if array.max_running is None else f"%{array.max_running}"
    return f"{array.first}-{last}" + (f":{step}" if step > 1 else "") + limit


def acceptable_name(name: str) -> str:
    r"""Return a job name that PBS takes.

    It refuses blanks, ``/ : @ [ ] " ' \ $ , ; # = |``, control characters, what is not ASCII and
    more than 230 characters (recordings qsub.name-*). A leading hyphen is replaced although 23.06
    takes it.

    >>> acceptable_name("2024/run 1")
    '2024_run_1'
    """
    cleaned = _NOT_IN_NAMES.sub("_", name)[:_NAME_LIMIT]
    return "_" + cleaned[1:] if not cleaned or cleaned.startswith("-") else cleaned


def _others(spec: JobSpec, options: list[Option]) -> Iterator[str]:
    # Left out are -f and -z, which are about qsub itself, and -V, which would hand over the
    # environment of the service's commands.
    yield from mail_options(spec)
    if spec.project is not None:
        yield from ("-P", spec.project)
    decided = frozenset("" if spec.mail_to is None else "mM") | frozenset(
        "" if spec.project is None else "P"
    )
    for option in options:
        if option.letter in _AS_THEY_ARE - decided:
            yield from (f"-{option.letter}", option.value)
        elif option.letter == "k":
            kept = _kept_letters(spec, option)
            yield from ("-k", kept) if kept else ()
        elif option.letter == "W":
            yield from job_attributes(option, has_dependencies=bool(spec.depends_on))


# ---- outputs


def _outputs(spec: JobSpec, last: Mapping[str, Option], name: str, is_array: bool) -> OutputOptions:
    suffix = ".%a" if is_array else None
    asked_out = requested_pattern(spec, "stdout", suffix)
    asked_err = requested_pattern(spec, "stderr", suffix)
    out = _output(spec, asked_out, last, "o", name, is_array)
    err = _output(spec, asked_err, last, "e", name, is_array)
    joined = joined_streams(last, spec)
    if joined is None and out.pattern == err.pattern and out.pattern != UNKNOWN:
        joined = "o"  # the default names differ, so the same path was given for both
    if joined is not None:
        out = err = out if joined == "o" else err
    options = [
        *(["-j", "oe"] if joined is not None else []),
        *(["-o", out.option] if out.option is not None else []),
        *(["-e", err.option] if err.option is not None and joined is None else []),
    ]
    return OutputOptions(tuple(options), out.own, err.own, out.pattern, err.pattern, suffix)


def _output(
    spec: JobSpec,
    asked: str | None,
    last: Mapping[str, Option],
    letter: str,
    name: str,
    is_array: bool,
) -> _Stream:
    if asked is not None:
        # PBS has no word for the number of a job. In other text it would read a host, a list or a
        # placeholder.
        is_plain = _PLAIN_PATH.fullmatch(render(asked, "\0", ""))
        if is_plain is None:
            return _Stream("/dev/null", render(asked, JOB_NUMBER, ARRAY_INDEX), asked)
        return _Stream(render(asked, "", PLACEHOLDER), None, asked)
    kept = last.get("k")
    if kept is not None and "d" not in kept.value and letter in kept.value:
        return _Stream(last[letter].value if letter in last else None, None, UNKNOWN)
    if letter not in last:
        return _Stream(None, None, f"{name}.{letter}%j" + (".%a" if is_array else ""))
    value = last[letter].value
    told = path_of(value) or ""
    path = os.path.join(spec.working_directory, told)
    shares = is_array and PLACEHOLDER not in path and path != "/dev/null"
    if shares or not told or path.endswith("/") or re.search(r"[$~]", path):
        return _Stream(value, None, UNKNOWN)
    pattern = as_pattern(path).replace(PLACEHOLDER, "%a")
    if told != value or PLACEHOLDER in path or _PLAIN_PATH.fullmatch(path) is not None:
        return _Stream(value if told != value else path, None, pattern)
    return _Stream("/dev/null", path, pattern)


def _kept_letters(spec: JobSpec, option: Option) -> str:
    """Return ``-k`` without the streams whose path the request gives."""
    if "d" in option.value:
        return option.value
    given = ("o" if spec.stdout_path is not None else "") + (
        "e" if spec.stderr_path is not None else ""
    )
    return "".join(letter for letter in option.value if letter not in given)
