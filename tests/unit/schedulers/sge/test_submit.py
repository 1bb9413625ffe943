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


def test_submission_plain() -> None:
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
def test_request_options(fields: dict[str, object], said: str) -> None:
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
def test_request_unsupported_names_field(
    fields: dict[str, object], complexes: Complexes, field: str
) -> None:
    with pytest.raises((InvalidSpec, UnsupportedCapability)) as refused:
        build_requests(spec(**fields), complexes)
    assert getattr(refused.value, "field", None) == field


def test_array_options() -> None:
    array = ArrayRange(first=1, last=20, step=2, max_running=5)
    submission = build_qsub(spec(array=array, stdout_path="/srv/a,b", stderr_path="/srv/e"), KEY)
    said = " ".join(submission.argv)
    assert "-o /dev/null -e /srv/e.$TASK_ID -t 1-20:2 -tc 5" in said
    assert submission.wrapped is not None
    wrapper = build_wrapper(b"#!/bin/sh\n", submission.wrapped).decode()
    assert "exec 1>>'/srv/a,b.'\"$SGE_TASK_ID\"''\n" in wrapper
    assert 'export HPCQ_ARRAY_TASK_ID="$SGE_TASK_ID"' in wrapper


def test_array_from_task_0() -> None:
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
def test_output_path_escaped(path: str, said: str) -> None:
    assert outputs(stdout_path=path) == f"-j n -o {said} -e run1.e$JOB_ID"


def test_working_directory_with_variables() -> None:
    argv = build_qsub(spec(working_directory="/srv/$HOME:$USER"), KEY).argv
    assert argv[argv.index("-wd") + 1] == "/srv/$$HOME:$$USER"
    assert outputs(working_directory="/srv/a,b:c").endswith("-o run1.o$JOB_ID -e run1.e$JOB_ID")
    # A relative path would be looked for below /srv/$$HOME.
    named = outputs(working_directory="/srv/$HOME", stdout_path="/srv/$HOME/x")
    assert named == "-j n -o /srv/$$HOME/x -e /srv/$$HOME/run1.e$JOB_ID"


def test_working_directory_comma_and_variable() -> None:
    odd = "/srv/$HOME,x"
    with pytest.raises(InvalidSpec, match="unless both outputs are named") as refused:
        build_qsub(spec(working_directory=odd), KEY)
    assert refused.value.field == "workingDirectory"
    out, err = f"{odd}/out", f"{odd}/err"
    carried = build_qsub(spec(working_directory=odd, stdout_path=out, stderr_path=err), KEY).wrapped
    assert carried is not None
    assert (carried.stdout, carried.stderr) == (out, err)


@pytest.mark.parametrize("path", ["/srv/a,b", "/srv/a\nb"])
def test_output_path_needs_wrapper(path: str) -> None:
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
def test_output_path_with_job_id(path: str, said: str) -> None:
    below = said.replace("/srv/jobs/run1/", "")
    assert outputs(stdout_path=path) == f"-j n -o {below} -e run1.e$JOB_ID"


def test_output_path_with_array_task() -> None:
    array = ArrayRange(first=1, last=2)
    argv = " ".join(build_qsub(spec(array=array, stdout_path="%a.%j", stderr_path="%j"), KEY).argv)
    assert "-o $TASK_ID.$JOB_ID -e $JOB_ID.$TASK_ID" in argv


def test_output_path_in_wrapper_with_job_id() -> None:
    carried = build_qsub(spec(stdout_path="/srv/%j,%%"), KEY).wrapped
    assert carried is not None
    wrapper = build_wrapper(b"#!/bin/sh\n", carried).decode()
    assert "exec 1>>'/srv/'\"$JOB_ID\"',%'\n" in wrapper


def test_output_paths_same_file() -> None:
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
def test_output_path_of_script_kept(script: bytes, fields: dict[str, str], said: str) -> None:
    assert outputs(script, **fields) == said


def test_parallel_environment_of_script_with_slots() -> None:
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
def test_job_shell_script_without_interpreter(script: bytes, interpreter: str | None) -> None:
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
def test_job_shell_in_wrapper(script: bytes, interpreter: str) -> None:
    submission = build_qsub(spec(args=("\n",)), KEY, script, job_shell="/bin/bash")
    assert submission.wrapped is not None
    assert submission.wrapped.interpreter == interpreter


def test_environment_dropped_for_script_with_v_option() -> None:
    script = b"#!/bin/sh\n#$ -V\n"
    carried = build_qsub(spec(environment={"TZ": "UTC"}), KEY, script).wrapped
    assert carried is not None
    assert (carried.dropped, carried.environment) == (("TZ", "LC_ALL"), {"TZ": "UTC"})


def after(job: str, condition: str) -> Dependency:
    return Dependency(
        native_id=NativeId(job), uid=JobUid.new(), condition=DependencyCondition(condition)
    )


def test_dependencies_hold_jid() -> None:
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
def test_dependency_unsupported(first: Dependency, said: str) -> None:
    with pytest.raises(UnsupportedCapability, match=said) as caught:
        build_qsub(spec(depends_on=(first,)), KEY)
    assert caught.value.field == "dependsOn"


def test_submission_every_field() -> None:
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
def test_job_name_made_acceptable(name: str, accepted: str) -> None:
    assert acceptable_name(name) == accepted


@given(st.text())
def test_job_name_made_acceptable_any(name: str) -> None:
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
def test_field_invalid(field: str, value: str, wire: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        build_qsub(spec(**{field: value}), KEY)
    assert refused.value.field == wire


def test_environment_variables_of_qsub_carried() -> None:
    names = ("LD_PRELOAD", "SGE_ROOT", "PATH", "HOME", "IFS", "BASH_ENV", "TMPDIR", "JOB_ID")
    plain, carried = split_environment({**dict.fromkeys(names, "x"), "LIST": "1,2", "OK": "a=b"})
    assert plain == {"OK": "a=b"}
    assert set(carried) == {*names, "LIST"}


@pytest.mark.parametrize("name", ["", "A=B", "A\0"])
def test_environment_invalid_variable_name(name: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        split_environment({name: "x"})
    assert refused.value.field == "environment"


def test_wrapper_for_argument_with_newline() -> None:
    submission = build_qsub(spec(args=("a\nb",), environment={"X": "y"}), KEY)
    assert submission.argv[-4:] == ("-v", "X=y", "-S", "/bin/sh")
    assert submission.wrapped == Wrapped(args=("a\nb",))


def test_change_of_job_or_task() -> None:
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
def test_wrapper_any_bytes(
    tmp_path_factory: pytest.TempPathFactory, args: list[str], value: str
) -> None:
    env = {"LD_TEST": value, "TMPDIR": "/requested"}
    shown = run_wrapper(tmp_path_factory.mktemp("wrapper"), SHOW, args, env)
    assert shown.split(b"\0") == [a.encode() for a in (*args, value, "/requested", "0", "")]


def test_wrapper_no_injected_directives() -> None:
    evil = Wrapped(
        args=("x\n#$ -q other.q",), environment={"V": "\n#$ -N evil"}, stdout="\n#$ -N x"
    )
    made = build_wrapper(b"#!/bin/sh\n", evil)
    assert not [line for line in made.splitlines() if line.startswith(b"#$")]


def test_wrapper_keeps_script_directives() -> None:
    assert b"\n#$ -N shown\n" in build_wrapper(SHOW, Wrapped(args=("a\nb",)))


def test_wrapper_script_without_interpreter(tmp_path: Path) -> None:
    script = b'printf "%s" "${BASH_VERSION:+bash}$1"\n'
    assert run_wrapper(tmp_path, script, ["\n"], {}, interpreter="/bin/bash") == b"bash\n"
    assert run_wrapper(tmp_path, b'printf "%s" "$1"\n', ["\n"], {}) == b"\n"


def test_environment_variable_not_shell_name(tmp_path: Path) -> None:
    # A shell script would not do: dash forgets such variables.
    script = f"#!{sys.executable}\nimport os\nprint(os.environ['a.b'])\n".encode()
    assert run_wrapper(tmp_path, script, [], {"a.b": "1,2"}) == b"1,2\n"
    submission = build_qsub(spec(args=("\n",), environment={"a.b": "1", "ok": "2"}), KEY)
    assert submission.wrapped is not None
    assert submission.wrapped.environment == {"a.b": "1"}


def test_wrapper_output_files(tmp_path: Path) -> None:
    out, err = tmp_path / "a,\nb", tmp_path / "e'r"
    script = b"#!/bin/sh\necho out; echo err >&2; echo ${DROPPED-none}\n"
    shown = run_wrapper(
        tmp_path, script, [], {}, stdout=str(out), stderr=str(err), dropped=("DROPPED",)
    )
    assert (shown, out.read_text(), err.read_text()) == (b"", "out\nnone\n", "err\n")


def test_qalter_keeps_other_resources() -> None:
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
def test_qalter_queue_pattern(queue: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        build_qalter(spec(queue=queue), {"queue"}, {})
    assert caught.value.field == "queue"
