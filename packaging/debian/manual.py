"""Print the manual page hpcq(1), from what the commands say of themselves in their help."""

from collections.abc import Iterator
from typing import Any

import typer

from hpcq import __version__
from hpcq.cli.main import app

__all__ = ["manual"]

_HEAD = """\
.TH HPCQ 1 "" "hpc-queue-api {version}" "User Commands"
.SH NAME
hpcq \\- submit, list and follow the jobs of a cluster through its REST API
.SH SYNOPSIS
.B hpcq
[\\fB\\-\\-profile\\fR \\fINAME\\fR] \\fICOMMAND\\fR [\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]
.SH DESCRIPTION
On the machine of the service it works without any configuration.
Where root calls
.BR "hpcq serve" ,
.B hpcq doctor
or
.BR "hpcq token" ,
it acts with the settings, as the account and in the environment of the installed service.
.SH COMMANDS
"""

_TAIL = """\
.SH EXIT STATUS
0 for success, 1 for a refusal (of the doctor too), 2 for a mistake in the command,
3 where the service is away, 4 where it does not know or allow the caller,
124 for a wait that was too long.
.BR "hpcq wait" ,
.B submit \\-\\-wait
and
.B submit \\-\\-follow
exit as the job does.
.SH ENVIRONMENT
.TP
.B HPCQ_URL
The address of the service.
.TP
.B HPCQ_TOKEN
A token for it, as
.B hpcq token create
prints it.
.SH FILES
.TP
.I /etc/hpc\\-queue\\-api/hpcq.env
The settings of the service, each explained.
.TP
.I /var/lib/hpc\\-queue\\-api
Its records, for its account alone.
.TP
.I /usr/share/hpc\\-queue\\-api
Drop\\-ins for its unit, alerts for Prometheus, a dashboard for Grafana.
.SH SEE ALSO
The documentation, which the service shows under
.I /help
at its address: http://127.0.0.1:5049/help/
"""


def manual() -> str:
    """Return the page, in the language of man(7)."""
    group = typer.main.get_command(app)
    return _HEAD.format(version=__version__) + "".join(_commands(group, "hpcq")) + _TAIL


def _commands(group: Any, path: str) -> Iterator[str]:
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from _commands(one, f"{path} {name}")
            continue
        yield f'.SS "{_text(path)} {_text(name)}"\n{_text(one.help)}\n'
        context = one.make_context(name, [], resilient_parsing=True)
        for parameter in one.get_params(context):
            words, told = parameter.get_help_record(context)
            yield f".TP\n.B {_text(words)}\n{_text(told)}\n"


def _text(text: str) -> str:
    """Return text without a meaning of its own to man(7)."""
    line = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{line}" if line.startswith((".", "'")) else line


if __name__ == "__main__":
    print(manual(), end="")
