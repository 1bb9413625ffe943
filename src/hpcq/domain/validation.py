"""Validation of a `JobSpec`, for every scheduler."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hpcq.domain.arrays import TASK_VARIABLE
from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import ArrayRange, JobSpec
from hpcq.domain.layout import lay_out

__all__ = ["SizeLimits", "check_content"]

# Slurm drops a variable with a longer name without a word (env_array_from_file, 256 bytes).
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
# Linux: MAX_ARG_STRLEN is 128 KiB for one string, PATH_MAX 4096 bytes with its NUL.
_LONGEST_ARGUMENT_BYTES = 131_071
_LONGEST_PATH_BYTES = 4095
_LONGEST_WORD = 255
# What no scheduler reads as a list, a pattern, an expression or an option.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_MAIL_ADDRESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(@[A-Za-z0-9][A-Za-z0-9.-]*)?")
_MOST_CONSTRAINTS = 32
_MOST_OPTIONS = 64
_LONGEST_OPTION_BYTES = 4096
_MOST_SLOTS = 10_000_000
_MOST_SECONDS = 10 * 366 * 86_400
_LAST_TASK = 2**31 - 1


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """The most that one job may hold.

    Attributes:
        args_bytes: of all arguments, each with the NUL behind it, as a process counts them.
        environment_bytes: of all variables, each as ``NAME=value`` with the NUL behind it.
        array_tasks: tasks of an array.
    """

    args_bytes: int
    environment_bytes: int
    array_tasks: int


def check_content(spec: JobSpec, sizes: SizeLimits) -> None:
    """Make sure that every field holds something that a command can carry.

    Raises:
        InvalidSpec: the first field that does not; it is named as on the wire.
    """
    paths = [("workingDirectory", spec.working_directory)]
    if spec.script is None:
        paths.append(("scriptFile", spec.script_file))
    else:
        _check_characters("script", spec.script)
    for field, path in paths:
        _check_path(field, path)
        if not path.startswith("/"):
            raise InvalidSpec(f"{field} has to be an absolute path; {path!r} is not.", field=field)
    if spec.name:
        _check_word("name", spec.name)
    for field, optional in (("stdoutPath", spec.stdout_path), ("stderrPath", spec.stderr_path)):
        if optional is not None:
            _check_path(field, optional)
    for field, word in (("queue", spec.queue), ("account", spec.account)):
        if word is not None:
            _check_name_of_the_site(field, word)
    for number, argument in enumerate(spec.args):
        _check_text(f"args[{number}]", argument, _LONGEST_ARGUMENT_BYTES)
    _check_environment(spec.environment)
    _check_total("args", spec.args, sizes.args_bytes)
    variables = (f"{name}={value}" for name, value in spec.environment.items())
    _check_total("environment", variables, sizes.environment_bytes)
    _check_range("reservedSlots", spec.slots, 1, _MOST_SLOTS)
    _check_range("wallTimeLimit", spec.wall_time_limit_seconds, 1, _MOST_SECONDS)
    _check_range("memoryLimit", spec.memory_limit_bytes, 1 << 20, 1 << 60)
    _check_range("priority", spec.priority, -(2**31), 2**31 - 1)
    _check_places(spec)
    _check_mail(spec)
    for number, option in enumerate(spec.options):
        _check_option(f"options[{number}]", option)
    if len(spec.options) > _MOST_OPTIONS:
        raise InvalidSpec(f"options holds more than {_MOST_OPTIONS}.", field="options")
    if spec.array is not None:
        _check_array(spec.array, sizes.array_tasks)
        if TASK_VARIABLE in spec.environment:
            raise InvalidSpec(
                f"{TASK_VARIABLE} tells each task of an array its number; leave it out.",
                field="environment",
            )


def _check_characters(field: str, text: str) -> int:
    """Return the size of a text in bytes, if a command or a file of text can hold it."""
    if "\0" in text:
        raise InvalidSpec(
            f"{field} holds a NUL character, which no command can carry.", field=field
        )
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise InvalidSpec(f"{field} is not valid Unicode text.", field=field) from None


def _check_text(field: str, text: str, longest_bytes: int) -> None:
    size = _check_characters(field, text)
    if size > longest_bytes:
        raise InvalidSpec(
            f"{field} is {size} bytes long; at most {longest_bytes} are possible.", field=field
        )


def _check_total(field: str, texts: Iterable[str], most_bytes: int) -> None:
    total = sum(len(text.encode()) + 1 for text in texts)
    if total > most_bytes:
        raise InvalidSpec(
            f"{field} is {total} bytes long in all; at most {most_bytes} are possible here. Put "
            "large content into a file.",
            field=field,
        )


def _check_path(field: str, path: str) -> None:
    if not path:
        raise InvalidSpec(f"{field} is empty; give a path.", field=field)
    _check_text(field, path, _LONGEST_PATH_BYTES)


def _check_word(field: str, word: str) -> None:
    _check_text(field, word, 4 * _LONGEST_WORD)
    if not 0 < len(word) <= _LONGEST_WORD:
        raise InvalidSpec(f"{field} has to have 1 to {_LONGEST_WORD} characters.", field=field)
    if any(ord(c) < 32 or ord(c) == 127 for c in word):
        raise InvalidSpec(f"{field} holds a control character; leave it out.", field=field)


def _check_name_of_the_site(field: str, word: str) -> None:
    _check_word(field, word)
    if word.startswith("-") or any(c.isspace() for c in word):
        raise InvalidSpec(
            f"{field} is {word!r}; such a name has no blanks and does not begin with a hyphen.",
            field=field,
        )


def _check_places(spec: JobSpec) -> None:
    gpus = spec.gpus
    for field, number in (
        ("nodes", spec.nodes),
        ("slotsPerNode", spec.slots_per_node),
        ("cpusPerTask", spec.cpus_per_task),
        ("gpus", None if gpus is None else gpus.count),
    ):
        _check_range(field, number, 1, _MOST_SLOTS)
    lay_out(spec)
    names = [("qos", spec.qos), ("project", spec.project), ("reservation", spec.reservation)]
    names.append(("gpus.type", None if gpus is None else gpus.type))
    names += [(f"constraints[{n}]", feature) for n, feature in enumerate(spec.constraints)]
    for field, name in names:
        if name is not None:
            _check_plain(field, name, _PLAIN_NAME, "letters, digits and . _ -")
    if len(spec.constraints) > _MOST_CONSTRAINTS:
        raise InvalidSpec(
            f"constraints names more than {_MOST_CONSTRAINTS} features.", field="constraints"
        )


def _check_mail(spec: JobSpec) -> None:
    if spec.mail_to is not None:
        _check_plain("mailTo", spec.mail_to, _MAIL_ADDRESS, "one address, such as ana@site.example")
    elif spec.mail_on:
        raise InvalidSpec("mailOn needs an address; give it in mailTo.", field="mailOn")


def _check_option(field: str, option: str) -> None:
    _check_text(field, option, _LONGEST_OPTION_BYTES)
    if not option.startswith("-") or any(ord(c) < 32 or ord(c) == 127 for c in option):
        raise InvalidSpec(
            f"{field} has to begin with a hyphen, and to have no control characters.", field=field
        )


def _check_plain(field: str, text: str, form: re.Pattern[str], allowed: str) -> None:
    if len(text) > _LONGEST_WORD or form.fullmatch(text) is None:
        raise InvalidSpec(
            f"{field} is {text[:99]!r}; it has to be {allowed}, at most {_LONGEST_WORD} characters,"
            " and does not begin with a hyphen.",
            field=field,
        )


def _check_environment(environment: Mapping[str, str]) -> None:
    for name, value in environment.items():
        if _VARIABLE.fullmatch(name) is None:
            raise InvalidSpec(
                f"environment has the name {name[:99]!r}; names are letters, digits and "
                f"underscores, at most {_LONGEST_WORD}, and do not begin with a digit.",
                field="environment",
            )
        _check_text(f"environment[{name!r}]", value, _LONGEST_ARGUMENT_BYTES - len(name) - 2)


def _check_array(array: ArrayRange, most_tasks: int) -> None:
    _check_range("array.first", array.first, 0, _LAST_TASK)
    _check_range("array.last", array.last, array.first, _LAST_TASK)
    _check_range("array.step", array.step, 1, _LAST_TASK)
    _check_range("array.maxRunning", array.max_running, 1, _LAST_TASK)
    if len(array.tasks) > most_tasks:
        raise InvalidSpec(
            f"array has {len(array.tasks)} tasks; at most {most_tasks} are possible here. Split it "
            "into several.",
            field="array",
        )


def _check_range(field: str, value: int | None, least: int, most: int) -> None:
    if value is not None and not least <= value <= most:
        raise InvalidSpec(f"{field} is {value}; it has to be {least} to {most}.", field=field)
