"""Output files: as options of ``sbatch``, and as ``squeue`` shows them; the job's name."""

import re
from collections.abc import Mapping

from hpcq.domain.jobs import JobSpec, NativeId, Outputs
from hpcq.domain.outputs import UNKNOWN, as_pattern
from hpcq.schedulers.slurm.fields import array_of, base_id, known
from hpcq.schedulers.slurm.script import ScriptOptions

__all__ = ["expand_output_path", "job_name", "output_options", "output_patterns", "read_pattern"]

MAX_NAME_BYTES = 200
"""A file name may have 255 bytes, and ``.o`` with the job's id has to fit behind the name."""

_MARK = re.compile(r"%(?:([0-9]+)?([A-Za-z%])|(.?))", re.DOTALL)
_SUBSTITUTE = re.compile(r"%(?:([0-9]+)?([AajuxNJnstb%])|(.?))")
_OUR_MARK = re.compile(r"%([ja%])")


def job_name(name: str) -> str:
    """Return the name as Slurm gets it: without control characters, at most 200 bytes.

    Slurm would take a newline, and every listing made for people would break on it.
    """
    printable = "".join(c if c.isprintable() else "_" for c in name)
    short = printable.encode("utf-8", "replace")[:MAX_NAME_BYTES].decode("utf-8", "ignore")
    return short or "job"


def output_patterns(
    spec: JobSpec, options: ScriptOptions, account: Mapping[str, str]
) -> tuple[str, str]:
    """Return the script's patterns of its outputs, else the defaults."""
    found = {
        stream: read_pattern(
            options.values[stream],
            job_name(spec.name),
            account.get("USER"),
            is_array=options.is_array,
        )
        for stream in ("output", "error")
        if stream in options.values
    }
    return (
        found.get("output", _default_pattern(spec.name, "o", is_array=options.is_array)),
        found.get("error", _default_pattern(spec.name, "e", is_array=options.is_array)),
    )


def _default_pattern(name: str, kind: str, *, is_array: bool) -> str:
    r"""Return the pattern of ``NAME.oID``, of ``NAME.oID.TASK`` for an array.

    ``/`` and ``\`` become ``_``: the first would name a directory, the second makes Slurm leave
    all patterns alone (sbatch(1), FILENAME PATTERN).
    """
    flat = job_name(name).replace("/", "_").replace("\\", "_")
    return f"{as_pattern(flat)}.{kind}%j{'.%a' if is_array else ''}"


def output_options(
    outputs: Outputs, spec: JobSpec, options: ScriptOptions
) -> tuple[list[str], dict[str, str]]:
    """Return the options that tell sbatch where outputs go, and those that the job opens itself."""
    told, written = [], {}
    for option, stream, pattern in (
        ("output", "stdout", outputs.stdout),
        ("error", "stderr", outputs.stderr),
    ):
        if pattern is None:
            value = _in_folder(options, option, spec.working_directory)
            told += [] if value is None else [f"--{option}={value}"]
        elif "\\" in pattern:
            # A backslash turns Slurm's patterns off, and is itself removed: one of two up to 24.11,
            # all of them in 26.05.
            told.append(f"--{option}=/dev/null")
            written[stream] = pattern
        else:
            told.append(f"--{option}={_slurm_pattern(pattern, is_array=options.is_array)}")
    return told, written


def _in_folder(options: ScriptOptions, option: str, folder: str) -> str | None:
    """Return a script's own relative pattern with the working directory as it is before it.

    Slurm expands patterns in the folder too. None where there is nothing to expand, or the script
    says nothing.
    """
    text = options.values.get(option)
    if text is None or text.startswith("/") or not set("%\\") & set(folder):
        return None
    if "\\" in folder:
        raise options.refusal(
            option,
            "In a folder whose name has a backslash, Slurm expands none but %j, %A, %a, %x and %u.",
        )
    return f"{folder.replace('%', '%%')}/{text}"


def _slurm_pattern(pattern: str, *, is_array: bool) -> str:
    """Return Slurm's pattern for one of ours (`hpcq.domain.outputs`), absolute."""
    array_id = "%A" if is_array else "%j"
    return _OUR_MARK.sub(lambda mark: array_id if mark[1] == "j" else mark[0], pattern)


def read_pattern(text: str, name: str, owner: str | None, *, is_array: bool) -> str:
    r"""Return our pattern for one of Slurm's (sbatch(1), FILENAME PATTERN); `UNKNOWN` for others.

    Args:
        text: the value of ``--output`` or ``--error``. A backslash in it turns patterns off.
        name: the job's name.
        owner: the account that the job runs as.
        is_array: whether it is an array, in which ``%j`` is another number for each task.

    >>> read_pattern("%x-%j.out", "case", "ana", is_array=False)
    'case-%j.out'
    """
    if "\\" in text:
        return as_pattern(re.sub(r"\\(.?)", r"\1", text, flags=re.DOTALL))
    values = {"%": "%%", "x": as_pattern(name), "u": owner and as_pattern(owner)}
    values |= {"A": "%j", "a": "%a"} if is_array else {"j": "%j"}
    parts, position = [], 0
    for mark in _MARK.finditer(text):
        value = values.get(mark[2])
        if value is None or mark[1]:
            return UNKNOWN
        parts += [text[position : mark.start()], value]
        position = mark.end()
    return "".join([*parts, text[position:]])


def expand_output_path(
    pattern: str,
    native_id: NativeId,
    raw_id: str,
    name: str,
    owner: str | None,
    directory: str | None = None,
) -> str | None:
    """Return the path that an output file gets (sbatch(1), FILENAME PATTERN).

    Args:
        pattern: as squeue prints it; with patterns and relative by version.
        native_id: the job, as users know it.
        raw_id: the number that Slurm gives each array task.
        name: the job's name.
        owner: the user's name.
        directory: where a relative one begins.

    None when it depends on more than that, such as the node.
    """
    if known(pattern) is None:
        return None
    if not pattern.startswith("/"):
        path = expand_output_path(f"/{pattern}", native_id, raw_id, name, owner, None)
        return None if path is None or directory is None else directory.rstrip("/") + path
    if "\\" in pattern:
        return re.sub(r"\\(.?)", r"\1", pattern)
    _, task = array_of(native_id)
    values = {
        "A": base_id(native_id),
        "a": str(task or 0),
        "j": raw_id,
        "x": name,
        "u": owner,
        "%": "%",
    }
    parts, position = [], 0
    for match in _SUBSTITUTE.finditer(pattern):
        value = values.get(match[2])
        if value is None and match[2] is not None:
            return None
        width = min(int(match[1] or 0), 10)
        text = match[0] if value is None else value.zfill(width) if match[2] in "Aaj" else value
        parts += [pattern[position : match.start()], text]
        position = match.end()
    return "".join([*parts, pattern[position:]])
