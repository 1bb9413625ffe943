"""Makes the recordings in this directory from a real Slurm: one command for a new version.

    python tests/recorded/slurm/record.py                   the version that this machine installs
    python tests/recorded/slurm/record.py CONF FOLDER       another one: its slurm.conf, and the
                                                            folder of its commands

Each case is `<version>/<case>/` with `stdout`, `stderr` (bytes as printed) and `meta.toml`
(argv, environment besides PATH, exit status, version). The commands are the ones that the
adapter runs, started as the service starts them, with a fixed mark instead of a random one.

Another cluster must be a throwaway one, with nothing else on it, of which this account is root.
What takes its daemons down, or changes its configuration, is left out there.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hpcq.domain.actions import Action
from hpcq.domain.errors import CommandTimedOut
from hpcq.domain.jobs import JobSpec, NativeId, SubmissionKey
from hpcq.execution.local import LocalRunner
from hpcq.execution.protocol import Command, Completed
from hpcq.schedulers.abilities import SubmissionPlan
from hpcq.schedulers.slurm import commands
from hpcq.schedulers.slurm.submit import build_sbatch

HERE = Path(__file__).resolve().parent
CLUSTER = HERE.parents[1] / "clusters" / "slurm.py"
WORK = Path("/tmp/hpcq-recording")
MARKS = commands.Marks(free="\x1e0123456789abcdef\x1e", end="\x1d0123456789abcdef\x1d")
DELIMITER = "\x1f0123456789abcdef\x1f"
KEY = SubmissionKey("hpcq-00000000000000000000000000000001")
STRANGER = "games"


# Jobs are told by their number and daemons are stopped: it must be alone with its cluster.
os.environ["HPCQ_TEST_SLURM_INSTANCE"] = "1"


class Recorder:
    def __init__(self, slurm_conf: str, folder: str = "/usr/bin") -> None:
        self.conf = Path(slurm_conf)
        path = ":".join(dict.fromkeys((folder, "/usr/bin", "/bin")))
        self.environment = {"PATH": path, "SLURM_CONF": slurm_conf, "TZ": "UTC"}
        self.version = self.run(["sbatch", "--version"]).stdout.decode().split()[1]
        self.target = HERE / self.version.rsplit(".", 1)[0]
        shutil.rmtree(self.target, ignore_errors=True)
        shutil.rmtree(WORK, ignore_errors=True)
        WORK.mkdir()
        WORK.chmod(0o777)

    def run(
        self,
        argv: Sequence[str],
        extra: Mapping[str, str] | None = None,
        *,
        stdin: bytes = b"",
        user: str | None = None,
        seconds: float = 120,
    ) -> Completed:
        environment = {**self.environment, **(extra or {})}
        if user is not None:
            program = str(shutil.which(argv[0], path=self.environment["PATH"]))
            argv = [
                "setpriv",
                f"--reuid={user}",
                f"--regid={user}",
                "--clear-groups",
                program,
                *argv[1:],
            ]
        command = Command(argv=tuple(argv), env=environment, stdin=stdin, timeout_seconds=seconds)
        try:
            return asyncio.run(LocalRunner().run(command))
        except CommandTimedOut as error:
            return Completed(
                argv=tuple(argv),
                exit_code=-signal.SIGKILL,
                stdout=error.stdout,
                stderr=error.stderr,
            )

    def record(
        self,
        case: str,
        argv: Sequence[str],
        extra: Mapping[str, str] | None = None,
        *,
        stdin: bytes = b"",
        user: str | None = None,
        seconds: float = 120,
    ) -> bytes:
        done = self.run(argv, extra, stdin=stdin, user=user, seconds=seconds)
        folder = self.target / case
        folder.mkdir(parents=True)
        (folder / "stdout").write_bytes(done.stdout)
        (folder / "stderr").write_bytes(done.stderr)
        meta = [
            f"argv = {json.dumps(list(argv))}",
            f"exit_status = {done.exit_code}",
            f'version = "{self.version}"',
            "[environment]",
            *(f"{name} = {json.dumps(value)}" for name, value in (extra or {}).items()),
        ]
        (folder / "meta.toml").write_text("\n".join(meta) + "\n")
        return done.stdout

    # The adapter's commands -------------------------------------------------------------------

    def script(self, body: str, name: str = "job.sh") -> str:
        path = WORK / name
        path.write_text(body)
        path.chmod(0o755)
        return str(path)

    def spec(self, body: str = "#!/bin/sh\ntrue\n", **fields: object) -> JobSpec:
        base = JobSpec(
            name="demo", working_directory=str(WORK), script_file=self.script(body), slots=1
        )
        return replace(base, **fields)  # type: ignore[arg-type]

    def submit(self, spec: JobSpec, case: str | None = None) -> str:
        built = self.built(spec)
        environment = {"SLURM_CONF": str(self.conf)}
        if case is not None:
            out = self.record(case, built.argv, environment, stdin=built.stdin)
        else:
            out = self.run(built.argv, environment, stdin=built.stdin).stdout
        return out.decode().strip()

    def built(self, spec: JobSpec) -> SubmissionPlan:
        script = Path(spec.script_file)
        content = script.read_bytes() if script.exists() else b"#!/bin/sh\n"
        return build_sbatch(spec, KEY, content, account=self.environment)

    def sbatch(self, *options: str, user: str | None = None, body: str = "true") -> str:
        """A submission that does not come from the adapter."""
        argv = ["sbatch", "--parsable", f"--chdir={WORK}", "--output=/dev/null", *options]
        script = f"#!/bin/sh\n{body}\n".encode()
        return self.run(argv, stdin=script, user=user).stdout.decode().strip()

    def state(self, job: str) -> str:
        done = self.run(["squeue", "-h", "-t", "all", "-j", job, "-o", "%T"])
        return done.stdout.decode().split("\n")[0]

    def until(self, job: str, *states: str) -> None:
        wait(f"{job} {states}", lambda: self.state(job) in states)

    def listing(self, case: str) -> None:
        self.record(case, *commands.build_listing(MARKS))

    def details(self, case: str, *ids: str, finished: bool = False) -> None:
        built = commands.build_details(map(NativeId, ids), MARKS, finished=finished)
        self.record(case, *built)

    def history(self, case: str, *ids: str) -> None:
        argv = commands.build_history(map(NativeId, ids), DELIMITER)
        self.record(case, argv, commands.EPOCH_TIMES)

    def settle(self, *jobs: str) -> None:
        """Waits until accounting has the last word on these jobs."""
        for job in jobs:
            argv = ["sacct", "-nXP", "-j", job, "-o", "end,partition,state"]
            wait(job, lambda argv=argv: is_settled(self.run(argv).stdout))  # type: ignore[misc]

    def refused(self) -> str:
        """Submits a job that is refused; the number it leaves behind is the next one's less 1."""
        self.submit(self.spec(memory_limit_bytes=1 << 45), "sbatch-too-much-memory")
        later = self.sbatch("--hold")
        self.drop(later)
        return str(int(later) - 1)

    def drop(self, *jobs: str) -> None:
        for job in jobs:
            self.run(["scancel", job])


def is_settled(stdout: bytes) -> bool:
    """Return whether the end is known and, unlike at first, the partition too."""
    lines = [line.split(b"|") for line in stdout.splitlines()]
    return bool(lines) and all(b"20" in end and partition for end, partition, _ in lines)


def wait(what: str, ready: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise SystemExit(f"gave up waiting for {what}")
        time.sleep(0.2)


def record_submissions(r: Recorder) -> None:
    held = r.submit(r.spec(hold=True, name='quote " and\nnewline é'), "sbatch-held")
    done = r.submit(r.spec(), "sbatch-ok")
    r.record("sbatch-no-shebang", ["sbatch", "--parsable", r.script("echo no shebang\n")])
    r.submit(r.spec("#!/bin/sh\r\ntrue\r\n"), "sbatch-dos-line-ends")
    r.submit(r.spec("#!/bin/sh\n", script_file=str(WORK / "absent")), "sbatch-no-script")
    r.submit(r.spec(queue="nowhere"), "sbatch-unknown-partition")
    r.submit(r.spec(account="nobody-pays"), "sbatch-unknown-account")
    never = r.submit(r.spec(slots=1000), "sbatch-too-many-slots")
    refused = r.refused()
    r.details("details-refused", refused, finished=True)
    r.history("history-refused", refused)
    closed = r.submit(r.spec(queue="drained", hold=True), "sbatch-partition-down")
    r.record("sbatch-bad-time", ["sbatch", "--parsable", "--time=soon", "/etc/hostname"])
    r.record("sbatch-bad-option", ["sbatch", "--parsable", "--no-such-option"])
    r.record(
        "sbatch-negative-nice-as-user",
        ["sbatch", "--parsable", "--nice=-5", "--wrap=true"],
        user=STRANGER,
    )
    for name in ("sbatch", "squeue", "scontrol"):
        r.record(f"{name}-version", [name, "--version"])
    r.record("scontrol-show-job", ["scontrol", "show", "job", held])
    r.details("details-held", held)
    r.drop(held, never, closed)
    wait("accounting", lambda: b"20" in r.run(["sacct", "-nXPj", held, "-o", "end"]).stdout)
    r.history("history-incomplete-at-first", held, done)
    r.settle(held, done)
    r.history("history-cancelled-while-held", held)
    r.history("history-completed", done)


def record_queue(r: Recorder) -> None:
    r.listing("listing-empty")
    long = r.submit(r.spec("#!/bin/sh\nsleep 60\n", slots=60, wall_time_limit_seconds=90))
    r.until(long, "RUNNING")
    jobs = [
        long,
        r.sbatch("--ntasks=30", "--job-name=wants resources"),
        r.sbatch("--ntasks=30", "--job-name=has less priority"),
        r.sbatch("--hold", "--job-name=held by user"),
        r.sbatch("--begin=now+1hour", "--job-name=later"),
        r.sbatch(f"--dependency=afterok:{long}", "--job-name=depends"),
        r.sbatch("--partition=drained", "--job-name=partition down"),
        r.sbatch("--partition=short", "--time=10", "--job-name=limit too high", user=STRANGER),
        r.sbatch("--array=1-3,7%2", "--hold", "--job-name=array"),
        r.sbatch("--job-name=new\nline | pipe \x1f unit \x1e record 'é€😀\x1b", "--hold"),
        r.sbatch("--job-name=" + "x" * 300, "--hold", "--comment=two\nlines|\x1f\x1e"),
        r.sbatch("--ntasks=1", "--hold", ":", "--ntasks=2"),
    ]
    wait("reasons", lambda: b"Resources" in r.run(["squeue", "-h", "-o", "%r"]).stdout)
    r.listing("listing-many")
    r.record("find-in-queue", *commands.build_find_in_queue(MARKS, None))
    r.details("details-many", *(j for j in jobs if j), "99999")
    r.record("usage", commands.build_usage([NativeId(long)]))
    r.record("sinfo-queues", commands.build_queues())
    r.record("sinfo-nodes", commands.build_nodes())
    r.drop(*jobs)
    wait("the end", lambda: not r.run(["squeue", "-h"]).stdout)
    r.settle(long)
    wait("accounting", lambda: b"PENDING" not in r.run(["sacct", "-nX", "-o", "state"]).stdout)
    r.history("history-cancelled-while-running", long)
    r.history("history-names", *jobs[-3:-1])
    r.history("history-het-cancelled-while-held", jobs[-1])
    r.history("history-array-cancelled-while-held", jobs[8])
    r.history("history-array-task-cancelled-while-held", f"{jobs[8]}_2")


def record_ends(r: Recorder) -> None:
    memory = 'exec python3 -c "import time; b = bytearray(200 << 20); time.sleep(30)"'
    ends = {
        "exit-3": r.submit(r.spec("#!/bin/sh\nexit 3\n")),
        "exit-128": r.submit(r.spec("#!/bin/sh\nexit 128\n")),
        "exit-137": r.submit(r.spec("#!/bin/sh\nexit 137\n")),
        "exit-255": r.submit(r.spec("#!/bin/sh\nexit 255\n")),
        "signal": r.submit(r.spec("#!/bin/sh\nkill -SEGV $$\n")),
        "shell-reports-signal": r.submit(r.spec("#!/bin/sh\nsh -c 'kill -9 $$'\n")),
        "out-of-memory": r.submit(r.spec(f"#!/bin/sh\n{memory}\n", memory_limit_bytes=50 << 20)),
        "steps": r.submit(r.spec("#!/bin/sh\nsrun -n2 sh -c 'head -c 9000000 /dev/zero | sort'\n")),
        "array": r.sbatch("--array=1-3", body="exit $SLURM_ARRAY_TASK_ID"),
        "no-such-output-directory": r.submit(r.spec(stdout_path="/nonexistent/out")),
        "no-such-working-directory": r.sbatch("--chdir=/nonexistent/here"),
    }
    r.settle(*ends.values())
    for name, job in ends.items():
        r.history(f"history-{name}", job)
    r.history("history-array-task", f"{ends['array']}_2")
    r.history("history-several", ends["exit-3"], ends["signal"], "99999")
    r.details("details-finished", *ends.values(), finished=True)
    late = r.submit(r.spec("#!/bin/sh\nsleep 300\n", wall_time_limit_seconds=60))
    gone = r.submit(r.spec("#!/bin/sh\ntrap '' TERM\nsleep 30 &\nwait\nsleep 30\n"))
    again = r.sbatch("--job-name=again", body="sleep 4")
    r.until(again, "RUNNING")
    r.run(["scontrol", "requeue", again])
    r.until(gone, "RUNNING")
    r.drop(gone)
    r.until(gone, "COMPLETING")
    r.listing("listing-completing-and-requeued")
    r.until(again, "PENDING")
    r.run(["scontrol", "update", f"jobid={again}", "starttime=now"])
    r.settle(gone, again)
    r.history("history-killed", gone)
    wait("the second run", lambda: b"COMPLETED" in r.run(["sacct", "-nXPj", again]).stdout)
    r.history("history-requeued", again)
    built = r.built(r.spec())
    r.settle(r.run(built.argv, stdin=built.stdin, user=STRANGER).stdout.decode().strip())
    r.record("find-in-accounting", commands.build_find_in_accounting(DELIMITER, STRANGER))
    # Comments are kept when a job ends: of one that runs there is the line alone, as where a site
    # keeps none.
    body = "#!/bin/sh\nsleep 20\n"
    runs = r.submit(r.spec(body, environment={"LD_LIBRARY_PATH": "/x"}, args=("a", "b")))
    r.until(runs, "RUNNING")
    r.record(
        "find-in-accounting-without-comments", commands.build_find_in_accounting(DELIMITER, "root")
    )
    r.run(["scontrol", "update", f"jobid={runs}", "comment=see ticket 12"])
    r.listing("listing-changed-comment")
    r.drop(runs)
    r.settle(runs)
    r.history("history-changed-comment", runs)
    record_dependency(r)
    wait("the time limit", lambda: r.state(late) in {"TIMEOUT", ""}, 150)
    r.settle(late)
    r.history("history-timeout", late)
    r.history("history-unknown", "99999")


def record_dependency(r: Recorder) -> None:
    first = r.sbatch("--begin=now+3", body="exit 1")
    after = f"--dependency=afterok:{first}"
    never = r.sbatch(after, "--kill-on-invalid-dep=yes")
    r.settle(first, never)
    r.details("details-dependency-never-satisfied", never, finished=True)
    r.history("history-dependency-never-satisfied", never)
    array = r.sbatch("--array=1-3%1", body="sleep 4")
    r.until(f"{array}_1", "RUNNING")
    r.run(["scancel", f"{array}_2"])
    r.settle(f"{array}_3")
    r.history("history-array-task-cancelled-while-waiting", array)


def record_actions(r: Recorder) -> None:
    held = r.sbatch("--hold", "--begin=now+1hour")
    running = r.sbatch(body="sleep 60")
    done = r.sbatch()
    r.until(running, "RUNNING")
    r.until(done, "COMPLETED")
    for argv, word in (
        (commands.build_scancel(NativeId("99999")), "unknown"),
        (commands.build_scancel(NativeId(done)), "finished"),
        (commands.build_action(Action.RELEASE, NativeId("99999"), None), "unknown"),
        (commands.build_action(Action.RELEASE, NativeId(held), None), "held"),
        (commands.build_action(Action.HOLD, NativeId("99999"), None), "unknown"),
        (commands.build_action(Action.HOLD, NativeId(done), None), "finished"),
        (commands.build_action(Action.HOLD, NativeId(held), None), "queued"),
        (commands.build_action(Action.HOLD, NativeId(running), None), "running"),
    ):
        r.record(f"{'-'.join(argv[:-1]).replace('--', '')}-{word}", argv)
    r.record("scancel-verbose-stranger", commands.build_scancel(NativeId(held)), user=STRANGER)
    r.record(
        "scontrol-uhold-stranger",
        commands.build_action(Action.HOLD, NativeId(held), None),
        user=STRANGER,
    )
    r.record("scancel-verbose-queued", commands.build_scancel(NativeId(held)))
    r.record("scancel-verbose-running", commands.build_scancel(NativeId(running)))
    r.record("scancel-malformed", ["scancel", "--verbose", "all"])
    r.details("details-unknown", "99999")
    r.record("usage-nothing-runs", commands.build_usage([NativeId(held)]))


def stop_daemon(name: str) -> None:
    status = subprocess.run(
        [sys.executable, str(CLUSTER), "status"], capture_output=True, check=True
    )
    pid = json.loads(status.stdout)["daemons"][name]
    os.kill(pid, signal.SIGTERM)
    wait(name, lambda: not Path(f"/proc/{pid}").exists() or b"\0" not in cmdline(pid))


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def record_limits(r: Recorder) -> None:
    """Record the words of sbatch at a limit of the site, with a configuration for that."""
    conf = r.conf.read_text()
    enforced = conf.replace("MaxJobCount=200000", "MaxJobCount=6")
    restart(r, enforced + "AccountingStorageEnforce=limits,qos\n")
    for words in (
        "add account small parent=root",
        "add user root account=small maxsubmitjobs=1",
        "add qos tiny maxtresperjob=cpu=2 flags=DenyOnLimit",
        "modify user root account=small set qos=normal,tiny",
    ):
        r.run(["sacctmgr", "-i", *words.split()])
    base = ["sbatch", "--parsable", "--hold", "--output=/dev/null", "--wrap=true"]
    jobs = [r.run([*base, "--account=small"]).stdout.decode().strip()]
    r.record("sbatch-too-many-jobs", [*base, "--account=small"])
    r.record("sbatch-too-many-cpus", [*base, "--account=small", "--qos=tiny", "--ntasks=3"])
    r.record("sbatch-unknown-qos", [*base, "--qos=nope"])
    r.record("sbatch-refused-account", [*base, "--account=nobody-pays"])
    r.record("sbatch-bad-dependency", [*base, "--dependency=afterok:x"])
    r.record("sbatch-array-too-large", [*base, "--array=1-20000"])
    r.record("sbatch-bad-gres", [*base, "--gres=gpu:9"])
    r.record("sbatch-nice-out-of-range", [*base, "--nice=99999999999"])
    r.record("sbatch-bad-feature", [*base, "--constraint=nope"])
    missing = {"SLURM_CONF": "/nonexistent/slurm.conf"}
    r.record("sbatch-no-configuration-file", base, missing, seconds=90)
    while job := r.run(base, seconds=5).stdout.decode().strip():
        jobs.append(job)
    r.record("sbatch-queue-full", base, seconds=5)
    r.drop(*jobs)
    restart(r, conf)


def restart(r: Recorder, conf: str) -> None:
    stop_daemon("slurmctld")
    r.conf.write_text(conf)
    subprocess.run([sys.executable, str(CLUSTER), "start", "slurmctld"], check=True)
    wait("the node", lambda: b"idle" in r.run(["sinfo", "-h", "-o", "%T"]).stdout)


def record_outages(r: Recorder) -> None:
    done = r.sbatch()
    r.settle(done)
    stop_daemon("slurmdbd")
    r.history("history-database-down", done)
    r.record("find-in-accounting-down", commands.build_find_in_accounting(DELIMITER, None))
    r.details("details-database-down", done, finished=True)
    stop_daemon("slurmctld")
    r.submit(r.spec(), "sbatch-controller-down")
    r.listing("listing-controller-down")
    r.details("details-controller-down", done)
    for argv in (
        commands.build_scancel(NativeId(done)),
        commands.build_action(Action.HOLD, NativeId(done), None),
        commands.build_action(Action.RELEASE, NativeId(done), None),
        commands.build_usage([NativeId(done)]),
        commands.build_queues(),
    ):
        r.record(f"{argv[0]}-{argv[1].strip('-')}-controller-down", argv)


def up() -> str:
    done = subprocess.run([sys.executable, str(CLUSTER), "up"], stdout=subprocess.PIPE, check=True)
    return str(json.loads(done.stdout)["SLURM_CONF"])


def main() -> None:
    parts = [record_submissions, record_queue, record_ends, record_actions]
    if sys.argv[1:]:
        r = Recorder(*sys.argv[1:])
    else:
        r = Recorder(up())
        parts += [record_limits, record_outages]
    for part in parts:
        print(part.__name__, file=sys.stderr)
        part(r)
    if not sys.argv[1:]:
        subprocess.run([sys.executable, str(CLUSTER), "down"], check=True)


if __name__ == "__main__":
    main()
