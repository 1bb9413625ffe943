"""Output files: as options of ``qsub``, and as the record of a job shows them."""

import os
import re
from collections.abc import Mapping

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import JobSpec
from hpcq.domain.outputs import UNKNOWN, Stream, as_pattern, render, requested_pattern
from hpcq.schedulers.sge.script import ScriptOptions
from hpcq.schedulers.sge.wrapper_script import size

__all__ = ["PATH_VARIABLE", "escaped", "output_options", "place_outputs"]

# What 8.1.9 puts in their place in output paths; two dollars are one.
PATH_VARIABLE = re.compile(r"\$(\$|HOME|USER|JOB_ID|JOB_NAME|HOSTNAME|TASK_ID)")
# Stand for variables of ours while the dollars of a path are escaped; no path can hold them.
_JOB_ID, _TASK_ID = "\0j", "\0a"
# Dollars that Grid Engine would read as the beginning of a variable, in output paths and in the
# working directory; a second one before it makes it a plain one (both seen on 8.1.9).
_PSEUDO_VARIABLES = re.compile(r"\$(?=\$|\0|HOME|USER|JOB_ID|JOB_NAME|HOSTNAME|TASK_ID)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONG_COMPONENT_BYTES = 255


def place_outputs(
    spec: JobSpec, stem: str, options: ScriptOptions, account: Mapping[str, str]
) -> tuple[str, str]:
    """Return the patterns of both outputs' paths: the request's, else the script's.

    Args:
        spec: the job.
        stem: the job's name in Grid Engine.
        options: what its script asks for.
        account: the variables ``HOME`` and ``USER`` of the account that jobs run as.
    """
    stdout, stderr = (
        requested_pattern(spec, stream, options.task_suffix)
        or _place(own, letter, spec.working_directory, stem, options, account)
        for stream, own, letter in _streams(options)
    )
    if options.joins and spec.stderr_path is None:
        stderr = stdout
    return stdout, stderr


def _streams(options: ScriptOptions) -> tuple[tuple[Stream, str | None, str], ...]:
    """Return both streams, each with the script's path for it and its letter."""
    return (("stdout", options.stdout, "o"), ("stderr", options.stderr, "e"))


def _place(
    path: str | None,
    letter: str,
    directory: str,
    stem: str,
    options: ScriptOptions,
    account: Mapping[str, str],
) -> str:
    """Return the pattern of a path as written behind ``-o``, or of the default.

    It may be ``host:/logs/$JOB_ID``, relative to the directory, or a folder, on this machine.
    """
    file = f"{as_pattern(stem)}.{letter}%j" + (".%a" if options.is_array else "")
    if path is None:
        return file
    host, colon, behind = path.partition(":")
    place = behind if colon else path
    values = {
        "$": "$",
        "JOB_ID": "%j",
        "JOB_NAME": as_pattern(stem),
        "TASK_ID": "%a" if options.is_array else "0",
        **{name: as_pattern(value) for name, value in account.items() if name in ("HOME", "USER")},
    }
    unknown = any(found[1] not in values for found in PATH_VARIABLE.finditer(place))
    if unknown or "," in path or (colon and host):
        return UNKNOWN
    is_folder = place.endswith("/") or os.path.isdir(os.path.join(directory, place))
    pattern = PATH_VARIABLE.sub(lambda found: values[found[1]], as_pattern(place))
    return os.path.join(pattern, file) if is_folder else pattern


def output_options(
    spec: JobSpec, stem: str, options: ScriptOptions
) -> tuple[list[str], str | None, str | None]:
    """Return the options of ``qsub``, and the patterns of files that only a wrapper can open.

    The command names options that neither the request nor the script gives, too: a site's
    defaults may differ.

    Args:
        spec: the job.
        stem: its name in Grid Engine.
        options: what its script asks for.

    Raises:
        InvalidSpec: a path that no option of Grid Engine can express.
    """
    joins = options.joins if spec.stderr_path is None else spec.stderr_path == spec.stdout_path
    task = ".$TASK_ID" if options.is_array else ""
    argv = ["-j", "y" if joins else "n"]
    wrapped: list[str | None] = []
    for stream, own, letter in _streams(options):
        asked = requested_pattern(spec, stream, options.task_suffix)
        if asked is None and joins and letter == "e":
            wrapped.append(None)
            continue
        if asked is not None:
            _check_output(render(asked, "1", "1"), f"{stream}Path")
            path = escaped(_seen_from(spec.working_directory, render(asked, _JOB_ID, _TASK_ID)))
            path = path.replace(_JOB_ID, "$JOB_ID").replace(_TASK_ID, "$TASK_ID")
        else:
            folder = escaped(_seen_from(spec.working_directory, spec.working_directory + "/x"))
            path = folder.removesuffix("x") + f"{stem}.{letter}$JOB_ID{task}"
        must_be_wrapped = "," in path or _CONTROL.search(path) is not None
        if must_be_wrapped and asked is None and own is None:
            raise InvalidSpec(
                "Grid Engine cannot take a working directory with both a comma and a variable of"
                f" its own in its name, {spec.working_directory!r}, unless both outputs are named.",
                field="workingDirectory",
            )
        wrapped.append(asked if must_be_wrapped and asked is not None else None)
        if wrapped[-1] is not None:
            argv += [f"-{letter}", "/dev/null"]
        elif asked is not None or own is None:
            # What stands before a colon is taken for a host; nothing before it is any host.
            argv += [f"-{letter}", f":{path}" if ":" in path else path]
    stdout, stderr = wrapped
    return argv, stdout, stdout if joins else stderr


def _seen_from(directory: str, path: str) -> str:
    """Return an output path as Grid Engine is to be given it.

    Below the working directory it is relative, so that nothing is read into the names of the
    folders above. Where the directory itself has to be escaped, Grid Engine does not find it again
    for a relative path (seen on 8.1.9).
    """
    above = directory.rstrip("/") + "/"
    if path.startswith(above) and escaped(directory) == directory:
        below = path.removeprefix(above).lstrip("/")
        return f"./{below}" if below.startswith("-") else below
    return path


def _check_output(path: str, wire: str) -> None:
    if path.endswith("/"):
        raise InvalidSpec(f"The {wire} names a folder; name a file.", field=wire)
    if any(size(part) > _LONG_COMPONENT_BYTES for part in path.split("/")):
        raise InvalidSpec(f"A file name in the {wire} is too long.", field=wire)
    if not path or "\0" in path:
        raise InvalidSpec(f"The {wire} is empty, or holds a NUL character.", field=wire)


def escaped(path: str) -> str:
    """Return a path in which Grid Engine finds no variables.

    >>> escaped("/home/$USER/study")
    '/home/$$USER/study'
    """
    return _PSEUDO_VARIABLES.sub("$$", path)
