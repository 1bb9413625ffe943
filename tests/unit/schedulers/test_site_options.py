"""Options of a request: those that a site allows, and none on which the service relies."""

import pytest

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import JobSpec, SubmissionKey
from hpcq.schedulers.pbs.script import OPTION_RULES as PBS
from hpcq.schedulers.sge.script import OPTION_RULES as SGE
from hpcq.schedulers.sge.submit import build_qsub
from hpcq.schedulers.site_options import OptionRules, SiteOptions
from hpcq.schedulers.slurm.script import OPTION_RULES as SLURM
from hpcq.schedulers.slurm.submit import build_sbatch
from hpcq.schedulers.torque.script import OPTION_RULES as TORQUE

KEY = SubmissionKey("hpcq-" + "0" * 32)
JOB = JobSpec(name="run", working_directory="/srv", script_file="/srv/run.sh")


@pytest.mark.parametrize(
    ("rules", "allowed", "option", "words"),
    [
        (SLURM, "--switches", "--switches=1", ("--switches=1",)),
        (SLURM, "--contiguous", "--contiguous", ("--contiguous",)),
        (SLURM, "--licenses", "--licenses=a:1,b; touch x", ("--licenses=a:1,b; touch x",)),
        (SGE, "-l", "-l licence=1,arch=lx*", ("-l", "licence=1,arch=lx*")),
        (SGE, "-notify", "-notify", ("-notify",)),
        (TORQUE, "-l", "-l software=x y", ("-l", "software=x y")),
        (TORQUE, "-r", "-r n", ("-r", "n")),
        (PBS, "-a", "-a 12312359", ("-a", "12312359")),
    ],
)
def test_site_options_allowed(
    rules: OptionRules, allowed: str, option: str, words: tuple[str, ...]
) -> None:
    assert SiteOptions([allowed], rules).words([option]) == words


@pytest.mark.parametrize(
    ("rules", "allowed", "option"),
    [
        (SLURM, "--switches", "--switch=1"),
        (SLURM, "--switches", "--switches =1"),
        (SLURM, "--switches", "--output=/x"),
        (SLURM, "--switches", "-o /x"),
        (SLURM, "--switches", "--"),
        (SLURM, "--switches", "--Switches=1"),
        (SGE, "-notify", "-notify /bin/sh"),
        (SGE, "-l", "-l"),
        (SGE, "-l", "-l "),
        (SGE, "-l", "-l -o"),
        (SGE, "-l", "-l=x"),
        (SGE, "-l", "-l licence=1,h_rt=1"),
        (SGE, "-l", "-lx"),
        (TORQUE, "-r", "-ro /x"),
        (TORQUE, "-l", "-l software=x,nodes=9"),
        (PBS, "-r", "-rn"),
        (PBS, "-l", "-l select=4"),
        (PBS, "-l", "-l place=excl"),
    ],
)
def test_site_options_not_allowed(rules: OptionRules, allowed: str, option: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        SiteOptions([allowed], rules).words([option])
    assert refused.value.field == "options[0]"


def test_site_options_none_allowed() -> None:
    with pytest.raises(InvalidSpec, match=r"'--switches' is not .*SUBMIT_OPTIONS"):
        SiteOptions((), SLURM).words(["--switches=1"])


@pytest.mark.parametrize(
    ("rules", "names"),
    [
        (
            SLURM,
            "--output --outp --ou --error --job-name --comment --export --ex --export-file --wait"
            " --array --dependency --hold --chdir --clusters --cluster --wrap --parsable --uid"
            " --get-user-env --ntasks --node --test-only -o -J --Switches --help",
        ),
        (SGE, "-o -e -j -N -A -ac -V -v -sync -t -hold_jid -h -wd -cwd -terse -clear -soft -@ -b"),
        (SGE, "--output -unknown -binding"),
        (TORQUE, "-o -e -j -k -N -v -V -W -t -h -d -w -q -l=x -I -S --output -y"),
        (PBS, "-o -e -j -k -R -N -v -V -W -J -h -q -I -S -A -f -z -C --output -y"),
    ],
)
def test_site_options_reserved_by_service(rules: OptionRules, names: str) -> None:
    for name in names.split():
        with pytest.raises(ValueError, match="SUBMIT_OPTIONS"):
            SiteOptions([name], rules)


def test_site_options_before_service_options() -> None:
    argv = build_sbatch(JOB, KEY, b"#!/bin/sh\n", account={}, site_options=("--nice=1",)).argv
    assert argv[1:5] == ("--parsable", f"--comment={KEY}", "--nice=1", "--parsable")
    qsub = build_qsub(JOB, KEY, site_options=("-l", "licence=1")).argv
    assert qsub[:4] == ("qsub", "-terse", "-l", "licence=1")
