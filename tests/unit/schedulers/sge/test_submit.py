import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcq.domain.errors import InvalidSpec, UnsupportedCapability
from hpcq.domain.job_changes import CHANGEABLE
from hpcq.domain.jobs import (
    ArrayRange,
    Dependency,
    DependencyCondition,
    Gpus,
    JobSpec,
    JobUid,
    MailEvent,
    NativeId,
    SubmissionKey,
)
from hpcq.schedulers.sge.actions import build_change, build_qalter
from hpcq.schedulers.sge.names import acceptable_name, job_number
from hpcq.schedulers.sge.resources import Complexes, build_requests
from hpcq.schedulers.sge.submit import build_qsub
from hpcq.schedulers.sge.wrapper_script import Wrapped, build_wrapper, split_environment

KEY = SubmissionKey("hpcq-0123456789abcdef0123456789abcdef")


def spec(**fields: object) -> JobSpec:
    base: dict[str, object] = {
        "name": "run1",
        "working_directory": "/srv/jobs/run1",
        "script_file": "/srv/jobs/run1/job.sh",
    }
    return JobSpec(**(base | fields))  # type: ignore[arg-type]


def test_plain_submission() -> None:
    submission = build_qsub(spec(args=("-x", "@y", "a b", "")), KEY)
    assert " ".join(submission.argv[:17]) == (
        "qsub -terse -sync n -b n -N run1 -wd /srv/jobs/run1"
        f" -A {KEY} -ac hpcq_key={KEY} -pe orte 1"
    )
    assert " ".join(submission.argv[17:23]) == "-j n -o run1.o$JOB_ID -e run1.e$JOB_ID"
    assert submission.argv[23:] == ("/srv/jobs/run1/job.sh", "-x", "@y", "a b", "")
    assert submission.wrapped is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"exclusive": True, "gpus": Gpus(count=2)}, "-l exclusive=true,gpu=2"),
        ({"exclusive": True, "wall_time_limit_seconds": 60}, "-l h_rt=0:01:00,exclusive=true"),
        ({"project": "p1"}, "-P p1"),
        ({"project": "p1", "account": "p1"}, "-P p1"),
        ({"reservation": "17"}, "-ar 17"),
        ({"mail_to": "ana", "mail_on": tuple(MailEvent)}, "-M ana -m bea"),
        ({"mail_to": "ana"}, "-M ana -m n"),
    ],
)
def test_request_becomes_options(fields: dict[str, object], said: str) -> None:
    complexes = Complexes(exclusive="exclusive", gpus="gpu")
    assert " ".join(build_requests(spec(**fields), complexes)) == said
    assert said in " ".join(build_qsub(spec(**fields), KEY, complexes=complexes).argv)


@pytest.mark.parametrize(
    ("fields", "complexes", "field"),
    [
        ({"exclusive": True}, Complexes(gpus="gpu"), "exclusive"),
        ({"gpus": Gpus(count=1)}, Complexes(exclusive="x"), "gpus"),
        ({"gpus": Gpus(count=1, type="a100")}, Complexes(gpus="gpu"), "gpus.type"),
        ({"project": "p1", "account": "p2"}, Complexes(), "project"),
        ({"reservation": "r1"}, Complexes(), "reservation"),
    ],
)
def test_request_that_cannot_be_said_names_the_field(
    fields: dict[str, object], complexes: Complexes, field: str
) -> None:
    with pytest.raises((InvalidSpec, UnsupportedCapability)) as refused:
        build_requests(spec(**fields), complexes)
    assert getattr(refused.value, "field", None) == field


def test_array_of_the_request() -> None:
    array = ArrayRange(first=1, last=20, step=2, max_running=5)
    submission = build_qsub(spec(array=array, stdout_path="/srv/a,b", stderr_path="/srv/e"), KEY)
    said = " ".join(submission.argv)
    assert "-o /dev/null -e /srv/e.$TASK_ID -t 1-20:2 -tc 5" in said
    assert submission.wrapped is not None
    wrapper = build_wrapper(b"#!/bin/sh\n", submission.wrapped).decode()
    assert "exec 1>>'/srv/a,b.'\"$SGE_TASK_ID\"''\n" in wrapper
    assert 'export HPCQ_ARRAY_TASK_ID="$SGE_TASK_ID"' in wrapper


def test_array_that_begins_with_task_0_is_refused() -> None:
    with pytest.raises(InvalidSpec) as caught:
        build_qsub(spec(array=ArrayRange(first=0, last=3)), KEY)
    assert caught.value.field == "array.first"


def outputs(script: bytes = b"", **fields: object) -> str:
    argv = build_qsub(spec(**fields), KEY, script).argv
    return " ".join(argv[argv.index("-j") :]).partition(" /srv/jobs/run1/job.sh")[0]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/srv/jobs/run1/out.txt", "out.txt"),
        ("/srv/jobs/run1/-x", "./-x"),
        ("/srv/jobs/run2/out.txt", "/srv/jobs/run2/out.txt"),
        ("/srv/a$b", "/srv/a$b"),
        ("/srv/$HOME/$JOB_ID.txt", "/srv/$$HOME/$$JOB_ID.txt"),
        ("/srv/a$$USER", "/srv/a$$$$USER"),
        ("/srv/host:a", ":/srv/host:a"),
        ("/srv/jobs/run1/host:a", ":host:a"),
    ],
)
def test_output_path_is_written_so_that_grid_engine_changes_nothing(path: str, said: str) -> None:
    assert outputs(stdout_path=path) == f"-j n -o {said} -e run1.e$JOB_ID"


def test_variables_in_the_folder_change_nothing() -> None:
    argv = build_qsub(spec(working_directory="/srv/$HOME:$USER"), KEY).argv
    assert argv[argv.index("-wd") + 1] == "/srv/$$HOME:$$USER"
    assert outputs(working_directory="/srv/a,b:c").endswith("-o run1.o$JOB_ID -e run1.e$JOB_ID")
    # A relative path would be looked for below /srv/$$HOME.
    named = outputs(working_directory="/srv/$HOME", stdout_path="/srv/$HOME/x")
    assert named == "-j n -o /srv/$$HOME/x -e /srv/$$HOME/run1.e$JOB_ID"


def test_folder_with_a_comma_and_a_variable_needs_both_outputs_named() -> None:
    odd = "/srv/$HOME,x"
    with pytest.raises(InvalidSpec, match="unless both outputs are named") as refused:
        build_qsub(spec(working_directory=odd), KEY)
    assert refused.value.field == "workingDirectory"
    out, err = f"{odd}/out", f"{odd}/err"
    carried = build_qsub(spec(working_directory=odd, stdout_path=out, stderr_path=err), KEY).wrapped
    assert carried is not None
    assert (carried.stdout, carried.stderr) == (out, err)


@pytest.mark.parametrize("path", ["/srv/a,b", "/srv/a\nb"])
def test_output_path_that_qsub_cannot_take_is_carried(path: str) -> None:
    submission = build_qsub(spec(stdout_path=path), KEY)
    assert submission.wrapped is not None
    assert (submission.wrapped.stdout, submission.wrapped.stderr) == (path, None)
    both = build_qsub(spec(stdout_path=path, stderr_path=path), KEY)
    assert both.wrapped is not None
    assert (both.wrapped.stdout, both.wrapped.stderr) == (path, path)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/srv/%x.%j", "/srv/run1.$JOB_ID"),
        ("logs/%j_1", "/srv/jobs/run1/logs/$JOB_ID_1"),
        # The dollar of the request is no variable's.
        ("/srv/$%j$JOB_ID", "/srv/$$$JOB_ID$$JOB_ID"),
        ("/srv/20%j:a", ":/srv/20$JOB_ID:a"),
    ],
)
def test_output_path_with_the_number_of_the_job(path: str, said: str) -> None:
    below = said.replace("/srv/jobs/run1/", "")
    assert outputs(stdout_path=path) == f"-j n -o {below} -e run1.e$JOB_ID"


def test_output_path_with_the_task_of_an_array() -> None:
    array = ArrayRange(first=1, last=2)
    argv = " ".join(build_qsub(spec(array=array, stdout_path="%a.%j", stderr_path="%j"), KEY).argv)
    assert "-o $TASK_ID.$JOB_ID -e $JOB_ID.$TASK_ID" in argv


def test_output_path_that_is_carried_with_the_number_of_the_job() -> None:
    carried = build_qsub(spec(stdout_path="/srv/%j,%%"), KEY).wrapped
    assert carried is not None
    wrapper = build_wrapper(b"#!/bin/sh\n", carried).decode()
    assert "exec 1>>'/srv/'\"$JOB_ID\"',%'\n" in wrapper


def test_same_file_for_both_outputs_is_joined() -> None:
    both = outputs(stdout_path="/srv/log", stderr_path="/srv/log")
    assert both == "-j y -o /srv/log -e /srv/log"


@pytest.mark.parametrize(
    ("script", "fields", "said"),
    [
        (b"#$ -o logs/ -j y\n", {}, "-j y"),
        (b"#$ -o logs/\n", {"stdout_path": "/srv/x"}, "-j n -o /srv/x -e run1.e$JOB_ID"),
        (b"#$ -j y\n", {"stderr_path": "/srv/x"}, "-j n -o run1.o$JOB_ID -e /srv/x"),
        (b"#$ -j y\n", {"stdout_path": "/srv/x"}, "-j y -o /srv/x"),
        (b"#$ -t 1-3\n", {}, "-j n -o run1.o$JOB_ID.$TASK_ID -e run1.e$JOB_ID.$TASK_ID -S /bin/sh"),
        (b"#$ -e err.$JOB_ID\n", {}, "-j n -o run1.o$JOB_ID"),
    ],
)
def test_output_that_the_script_names_stands(
    script: bytes, fields: dict[str, str], said: str
) -> None:
    assert outputs(script, **fields) == said


def test_parallel_environment_of_the_script_stands_with_the_slots_of_the_request() -> None:
    argv = build_qsub(spec(slots=4), KEY, b"#$ -pe mpi 16\n").argv
    assert argv[argv.index("-pe") : argv.index("-pe") + 3] == ("-pe", "mpi", "4")


@pytest.mark.parametrize(
    ("script", "interpreter"),
    [
        (b"echo\n", "/bin/bash"),
        (b"#!/bin/sh\necho\n", None),
        (b"#$ -S /bin/tcsh\necho\n", None),
    ],
)
def test_job_shell_runs_scripts_that_name_none(script: bytes, interpreter: str | None) -> None:
    carried = build_qsub(spec(), KEY, script, job_shell="/bin/bash").wrapped
    assert (None if carried is None else carried.interpreter) == interpreter


@pytest.mark.parametrize(
    ("script", "interpreter"),
    [
        (b"echo\n", "/bin/bash"),
        (b"#$ -S host:/bin/tcsh,/bin/csh\necho\n", "/bin/tcsh"),
        (b"#!/bin/sh\necho\n", "/bin/sh"),
    ],
)
def test_carried_script_has_the_same_shell(script: bytes, interpreter: str) -> None:
    submission = build_qsub(spec(args=("\n",)), KEY, script, job_shell="/bin/bash")
    assert submission.wrapped is not None
    assert submission.wrapped.interpreter == interpreter


def test_environment_of_the_command_is_dropped_where_the_script_takes_it() -> None:
    script = b"#!/bin/sh\n#$ -V\n"
    carried = build_qsub(spec(environment={"TZ": "UTC"}), KEY, script).wrapped
    assert carried is not None
    assert (carried.dropped, carried.environment) == (("TZ", "LC_ALL"), {"TZ": "UTC"})


def after(job: str, condition: str) -> Dependency:
    return Dependency(
        native_id=NativeId(job), uid=JobUid.new(), condition=DependencyCondition(condition)
    )


def test_jobs_that_come_first_are_named() -> None:
    argv = build_qsub(spec(depends_on=(after("7", "any"), after("12", "any"))), KEY).argv
    assert argv[argv.index("-hold_jid") + 1] == "7,12"


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (after("7", "success"), "'any', not 'success'"),
        (after("7", "failure"), "'any', not 'failure'"),
        (after("7", "started"), "'any', not 'started'"),
        (after("7[2]", "any"), "only for its whole array"),
    ],
)
def test_what_cannot_be_waited_for_is_refused(first: Dependency, said: str) -> None:
    with pytest.raises(UnsupportedCapability, match=said) as caught:
        build_qsub(spec(depends_on=(first,)), KEY)
    assert caught.value.field == "dependsOn"


def test_every_field_is_expressed() -> None:
    argv = build_qsub(
        spec(
            slots=4,
            queue="all.q",
            account="climate",
            priority=-10,
            wall_time_limit_seconds=3661,
            memory_limit_bytes=10,
            stdout_path="out.txt",
            stderr_path="/x/a:b",
            hold=True,
            environment={"A": "1", "B": "x y"},
        ),
        KEY,
        parallel_environment="mpi",
    ).argv
    text = " ".join(argv)
    assert "-pe mpi 4 -q all.q -P climate -p -10 -l h_rt=1:01:01,h_vmem=3 -j n -o out.txt" in text
    assert " -e :/x/a:b -h -v A=1,B=x y " in text  # a colon would end a host name


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("run1", "run1"),
        ("1run", "_1run"),
        ("a/b:c@d*e?f\\g h", "a_b_c_d_e_f_g_h"),
        ("été", "_t_"),
        ("", "_"),
        ("-x", "_-x"),
        ("none", "none_"),
        ("ALL", "ALL_"),
        ("x" * 500, "x" * 200),
    ],
)
def test_names_are_made_acceptable(name: str, accepted: str) -> None:
    assert acceptable_name(name) == accepted


@given(st.text())
def test_any_name_becomes_acceptable(name: str) -> None:
    made = acceptable_name(name)
    assert made.isascii()
    assert made[0].isalpha() or made[0] == "_"
    assert not set(made) & set("/:@*?\\ \n\t\r")


@pytest.mark.parametrize(
    ("field", "value", "wire"),
    [
        ("working_directory", "/srv/a\nb", "workingDirectory"),
        ("stdout_path", "/srv/out/", "stdoutPath"),
        ("script_file", "job.sh", "scriptFile"),
        ("queue", "-x", "queue"),
        ("queue", "*", "queue"),
        ("queue", "a|b", "queue"),
        ("stdout_path", "x" * 256, "stdoutPath"),
        ("account", "", "account"),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(field: str, value: str, wire: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        build_qsub(spec(**{field: value}), KEY)
    assert refused.value.field == wire


def test_nothing_of_the_environment_can_reach_qsub_itself() -> None:
    names = ("LD_PRELOAD", "SGE_ROOT", "PATH", "HOME", "IFS", "BASH_ENV", "TMPDIR", "JOB_ID")
    plain, carried = split_environment({**dict.fromkeys(names, "x"), "LIST": "1,2", "OK": "a=b"})
    assert plain == {"OK": "a=b"}
    assert set(carried) == {*names, "LIST"}


@pytest.mark.parametrize("name", ["", "A=B", "A\0"])
def test_impossible_variable_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        split_environment({name: "x"})
    assert refused.value.field == "environment"


def test_argument_with_a_newline_needs_the_wrapper() -> None:
    submission = build_qsub(spec(args=("a\nb",), environment={"X": "y"}), KEY)
    assert submission.argv[-4:] == ("-v", "X=y", "-S", "/bin/sh")
    assert submission.wrapped == Wrapped(args=("a\nb",))


def test_changes_name_one_job_or_one_task() -> None:
    assert build_change(("qdel",), NativeId("9")) == ("qdel", "9")
    assert build_change(("qhold",), NativeId("9[2]")) == ("qhold", "9.2")
    assert job_number(NativeId("9[2]")) == "9"
    with pytest.raises(ValueError, match="12_3"):
        job_number(NativeId("12_3"))


def run_wrapper(
    folder: Path, script: bytes, args: list[str], env: dict[str, str], **more: Any
) -> bytes:
    wrapper = folder / "wrapper"
    wrapper.write_bytes(build_wrapper(script, Wrapped(args=tuple(args), environment=env, **more)))
    done = subprocess.run(
        ["/bin/sh", str(wrapper)],
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(folder)},
        capture_output=True,
        check=False,
    )
    assert done.stderr == b""
    return done.stdout


SHOW = b"""#!/bin/sh
#$ -N shown
for a in "$@"; do printf '%s\\0' "$a"; done
printf '%s\\0%s\\0%s\\0' "$LD_TEST" "$TMPDIR" "$(env | grep -c '^[^=]*hpcq')"
"""
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@settings(max_examples=30, deadline=None)
@given(args=st.lists(TEXT, max_size=4), value=TEXT)
def test_wrapper_brings_every_byte(
    tmp_path_factory: pytest.TempPathFactory, args: list[str], value: str
) -> None:
    env = {"LD_TEST": value, "TMPDIR": "/requested"}
    shown = run_wrapper(tmp_path_factory.mktemp("wrapper"), SHOW, args, env)
    assert shown.split(b"\0") == [a.encode() for a in (*args, value, "/requested", "0", "")]


def test_no_line_of_the_wrapper_is_taken_for_a_directive() -> None:
    evil = Wrapped(
        args=("x\n#$ -q other.q",), environment={"V": "\n#$ -N evil"}, stdout="\n#$ -N x"
    )
    made = build_wrapper(b"#!/bin/sh\n", evil)
    assert not [line for line in made.splitlines() if line.startswith(b"#$")]


def test_directives_of_the_script_stay() -> None:
    assert b"\n#$ -N shown\n" in build_wrapper(SHOW, Wrapped(args=("a\nb",)))


def test_script_without_interpreter_line_runs_with_its_own_shell(tmp_path: Path) -> None:
    script = b'printf "%s" "${BASH_VERSION:+bash}$1"\n'
    assert run_wrapper(tmp_path, script, ["\n"], {}, interpreter="/bin/bash") == b"bash\n"
    assert run_wrapper(tmp_path, b'printf "%s" "$1"\n', ["\n"], {}) == b"\n"


def test_variable_that_is_no_shell_name(tmp_path: Path) -> None:
    # A shell script would not do: dash forgets such variables.
    script = f"#!{sys.executable}\nimport os\nprint(os.environ['a.b'])\n".encode()
    assert run_wrapper(tmp_path, script, [], {"a.b": "1,2"}) == b"1,2\n"
    submission = build_qsub(spec(args=("\n",), environment={"a.b": "1", "ok": "2"}), KEY)
    assert submission.wrapped is not None
    assert submission.wrapped.environment == {"a.b": "1"}


def test_wrapper_writes_to_the_files_named(tmp_path: Path) -> None:
    out, err = tmp_path / "a,\nb", tmp_path / "e'r"
    script = b"#!/bin/sh\necho out; echo err >&2; echo ${DROPPED-none}\n"
    shown = run_wrapper(
        tmp_path, script, [], {}, stdout=str(out), stderr=str(err), dropped=("DROPPED",)
    )
    assert (shown, out.read_text(), err.read_text()) == (b"", "out\nnone\n", "err\n")


def test_a_change_is_one_qalter_that_keeps_the_other_resources() -> None:
    wanted = spec(
        name="2024/run 1",
        queue="long.q",
        account="climate",
        priority=-5,
        wall_time_limit_seconds=90,
        memory_limit_bytes=(1 << 30) + 1,
        slots=2,
    )
    requests = {"h_rt": "600", "arch": "lx*", "h_vmem": "100M", "exclusive": "true"}
    assert build_qalter(wanted, set(CHANGEABLE), requests) == (
        *("qalter", "-N", "_2024_run_1", "-q", "long.q", "-P", "climate", "-p", "-5"),
        *("-l", "arch=lx*,exclusive=true,h_rt=0:01:30,h_vmem=536870913"),
    )
    assert build_qalter(wanted, {"memory_limit_bytes"}, requests)[1:] == (
        *("-l", "h_rt=600,arch=lx*,exclusive=true,h_vmem=536870913"),
    )
    assert build_qalter(spec(), {"priority", "wall_time_limit_seconds"}, {"h_rt": "600"}) == (
        *("qalter", "-p", "0", "-l", ""),
    )


@pytest.mark.parametrize("queue", ["*", "a|b", "!x", "all.q@*", "-q"])
def test_a_change_to_a_pattern_of_queues_is_refused(queue: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        build_qalter(spec(queue=queue), {"queue"}, {})
    assert caught.value.field == "queue"
