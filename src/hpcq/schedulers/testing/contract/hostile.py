"""Values that turn into commands, options, paths or records where text is handled carelessly."""

from collections.abc import Sequence
from itertools import chain, islice

__all__ = ["UNSENDABLE", "file_name", "pairs", "values"]

# {canary} is a file that must never come into being.
_TEMPLATES = [
    # shells
    "; touch {canary}",
    "x; touch {canary}; true",
    "& touch {canary} &",
    "&& touch {canary}",
    "|| touch {canary}",
    "| touch {canary}",
    "$(touch {canary})",
    "`touch {canary}`",
    "${{IFS}}$(touch${{IFS}}{canary})",
    "$((`touch {canary}`))",
    "'; touch {canary}; '",
    '"; touch {canary}; "',
    "'\"'; touch {canary}; \"'\"",
    "\\'; touch {canary}; \\'",
    "x\ntouch {canary}",
    "x\ntouch {canary}\n",
    "x\r\ntouch {canary}\r\n",
    "x'\ntouch {canary}\n'",
    'x"\ntouch {canary}\n"',
    "\\\ntouch {canary}",
    "> {canary}",
    ">{canary}",
    "2>{canary}",
    "<(touch {canary})",
    "<<EOF\n$(touch {canary})\nEOF",
    "() {{ :; }}; touch {canary}",
    "#\ntouch {canary}",
    "{{touch,{canary}}}",
    "!!:s/x/touch {canary}/",
    "eval touch {canary}",
    "$'\\ntouch {canary}'",
    "%0Atouch%20{canary}",
    # options of the schedulers' commands
    "-o{canary}",
    "-o {canary}",
    "--output={canary}",
    "--wrap=touch {canary}",
    "--help",
    "--",
    "-",
    "-h",
    "-t 1-1000",
    "-sync y",
    "-@ {canary}",
    "@{canary}",
    "@/etc/hostname",
    # the schedulers' own languages
    "#!/bin/sh\ntouch {canary}",
    "#$ -o {canary}",
    "x\n#$ -o {canary}\n",
    "x\n#SBATCH --output={canary}\n",
    "x\n#PBS -o {canary}\n",
    "%j%x%N%u%A%a%%",
    "$JOB_ID$HOME$USER",
    "a,b=c,SHELL=/bin/false",
    "ALL,NIL",
    "NONE",
    "a:b:c",
    "node:/tmp/x",
    "key=value",
    "1-10:2",
    "a|b|COMPLETED|0:0",
    "a\x1fb\x1eRUNNING\x1f",
    "</JB_name></job_list><job_list state='running'>",
    "<!ENTITY x SYSTEM 'file:///etc/hostname'>&x;",
    '{{"state": "DONE"}}',
    # patterns and paths
    "*",
    "?[!a-z]*",
    "~root",
    "..",
    "a/../../b",
    "~/../x",
    "{{a,b}}",
    # SQL, logs and terminals
    "'); DROP TABLE jobs; --",
    "x' OR '1'='1",
    "{{}} %s %(x)s {{0}} ${{jndi:ldap://127.0.0.1/x}}",
    "\x1b[2J\x1b]0;title\x07",
    "\x01\x02\x7f",
    "\x0b\x0c\x85",
    "\t",
    " ",
    "  leading and trailing  ",
    # Unicode
    "São Paulo",
    "e\u0301\u0327",
    "\u202etxt.exe\u202c",
    "\u200b\ufeff",
    "\uff1b touch {canary}",
    "\u2028touch {canary}\u2029",
    "\ud7ff\ue000\uffff",
    "\U0001f4a7\U0010ffff",
    "İıſß",
    # long
    "x" * 256,
    "é" * 1000,
    "; touch {canary} " * 60,
]

UNSENDABLE = ["nul\0inside", "\0", "trailing nul\0", "\ud800", "\udcff\udc80"]
"""No command line, environment or UTF-8 file can carry these: they are refused everywhere."""


def values(canary: str) -> list[str]:
    """Return all values that text can hold, each with the canary's path in it."""
    return [template.format(canary=canary) for template in _TEMPLATES]


def pairs(values: Sequence[str], number: int) -> list[str]:
    """Return so many of the values and of two of them in a row, each another one."""
    orders = (
        zip(values, [*values[step:], *values[:step]], strict=True) for step in range(1, len(values))
    )
    joined = (one + other for order in orders for one, other in order)
    return list(islice(dict.fromkeys(chain(values, joined)), number))


def file_name(value: str) -> str | None:
    """Return the value as the name of a file, or None when no file can be called so."""
    if value in ("", ".", "..") or "/" in value or "\0" in value or len(value.encode()) > 200:
        return None
    return value
