"""Directives of scripts, whichever scheduler they speak to."""

import pytest

from hpcq.domain.errors import InvalidSpec
from hpcq.schedulers.directives import read_directives, refuse_directive

SCRIPT = b"""#!/bin/bash
#SBATCH --job-name="two words" -n 4 # a comment
#SBATCH
# a plain comment

#SBATCH -o 'logs/%x.out'
echo begun
#SBATCH --hold
"""


def test_read_directives_to_first_command() -> None:
    found = list(read_directives(SCRIPT, "#SBATCH", stops_at_command=True))
    assert [(one.line, one.words) for one in found] == [
        (2, ("--job-name=two words", "-n", "4")),
        (6, ("-o", "logs/%x.out")),
    ]


def test_read_directives_whole_script() -> None:
    found = list(read_directives(SCRIPT, "#SBATCH", stops_at_command=False))
    assert [one.words for one in found][-1] == ("--hold",)


def test_read_directives_unclosed_quotation() -> None:
    with pytest.raises(InvalidSpec, match="line 1") as refused:
        list(read_directives(b"#PBS -N 'x\n", "#PBS", stops_at_command=True))
    assert refused.value.field == "scriptFile"


def test_refuse_directive_option_and_line() -> None:
    (directive,) = read_directives(b"#!/bin/sh\n#SBATCH --wait\n", "#SBATCH", stops_at_command=True)
    error = refuse_directive(directive, "--wait", "The answer would come at the job's end.")
    assert "'--wait' (line 2)" in error.detail
