"""Makes recordings in this directory from a real PBS; run it for another version.

    python tests/recorded/pbs/record.py 2022.1

It runs as an ordinary user on a host of an idle PBS that keeps history, with a queue that takes
everything. Each case is ``VERSION/CASE/`` with ``stdout``, ``stderr`` (bytes as printed) and
``meta.toml``. The name of the version is given, for builds that differ call themselves the same.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hpcq.domain.jobs import JobSpec, NativeId, SubmissionKey
from hpcq.schedulers.command_line import new_delimiter
from hpcq.schedulers.pbs.parse import Reader
from hpcq.schedulers.pbs.qstat_job import Record
from hpcq.schedulers.pbs.script import choose
from hpcq.schedulers.pbs.settings import command_path
from hpcq.schedulers.pbs.submit import build_qstat, build_qsub, build_stdin

HERE = Path(__file__).resolve().parent
KEY = SubmissionKey("hpcq-00000000000000000000000000000001")
RESOURCES = "select=1:ncpus={slots}{memory}"
PATIENCE_SECONDS = 120
WAITS = "sleep 300"
PEACEFUL = "trap 'exit 0' TERM; while :; do sleep 0.2; done"

# Scripts by the name of the case that shows their end.
ENDS = {
    "ok": "exit 0",
    "exit3": "exit 3",
    "exit137": "exit 137",
    "exit255": "exit 255",
    "signal9": "kill -9 $$",
    "no-command": "/no/such/command",
    "walltime-killed": f"#PBS -l walltime=3\n{WAITS}",
    "cput-killed": "#PBS -l cput=2\nwhile :; do :; done",
    "array-last-ok": "#PBS -J 1-2\n[ $PBS_ARRAY_INDEX = 2 ] || exit 4; sleep 10",
}
REFUSALS = {
    "unknown-queue": ["-q", "nosuch"],
    "unknown-resource": ["-l", "nosuch=3"],
    "bad-walltime": ["-l", "walltime=abc"],
    "bad-priority": ["-p", "5000"],
    "bad-name": ["-N", "a b"],
    "array-bad": ["-J", "3-1"],
    "bad-dependency": ["-W", "depend=afterok:abc"],
    "bad-option": ["-t", "1-3"],
}


class Recorder:
    """Runs commands of PBS and keeps what they print.

    Args:
        version: the folder of the recordings.
    """

    def __init__(self, version: str) -> None:
        self.version = version
        self.target = HERE / version
        self.directory = Path(tempfile.mkdtemp(prefix="hpcq-recording-", dir=Path.home()))
        path = command_path(os.environ.get("PATH", os.defpath), os.environ)
        self.environment = {**os.environ, "PATH": path, "TZ": "UTC", "LC_ALL": "C.UTF-8"}

    def run(self, argv: Sequence[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            env=self.environment,
            cwd=self.directory,
            check=False,
        )

    def record(self, case: str, argv: Sequence[str], stdin: bytes = b"") -> bytes:
        done = self.run(argv, stdin)
        folder = self.target / case
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "stdout").write_bytes(done.stdout)
        (folder / "stderr").write_bytes(done.stderr)
        (folder / "meta.toml").write_text(
            f'scheduler = "pbs"\nversion = "{self.version}"\norigin = "recorded"\n'
            f"argv = {json.dumps(list(argv))}\nexit_status = {done.returncode}\n"
        )
        return done.stdout

    def submit(self, case: str, body: str, *options: str) -> str:
        """Submit a script as the service does; return the id as printed."""
        script = f"#!/bin/sh\n{body}\n".encode()
        spec = JobSpec(name=case, working_directory=str(self.directory), script_file="/unused")
        choices = choose(spec, script, RESOURCES, self.environment)
        argv = [*build_qsub(spec, choices, KEY, key_is_account=False), *options]
        return (
            self.record(f"qsub.{case}", argv, build_stdin(spec, choices, script)).decode().strip()
        )

    def job(self, job_id: str) -> Record | None:
        delimiter = new_delimiter()
        done = self.run(build_qstat([job_id], delimiter, history=True))
        records = Reader(None).read(done.stdout, delimiter, None).records
        return records[0] if records else None

    def until(self, job_id: str, holds: Callable[[Record], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (job := self.job(job_id)) is None or not holds(job):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{job_id}: {job}")
            time.sleep(0.5)

    def end(self, case: str, job_id: str) -> None:
        """Record what is told of a job that has ended, in every form."""
        self.until(job_id, lambda job: job.is_over)
        tasks = "[]" in job_id
        ask = build_qstat([job_id], new_delimiter(), history=True, tasks=tasks)
        self.record(f"qstat-x-f-dsv.{case}", ask)
        self.record(f"qstat-x-f.{case}", ["qstat", "-x", *(["-t"] if tasks else []), "-f", job_id])
        self.record(f"tracejob.{case}", ["tracejob", job_id])


def _is_running(job: Record) -> bool:
    return job.observation.native_state in ("R", "B")


def main(version: str) -> None:
    """Record everything that the tests ask for, in a few minutes."""
    to = Recorder(version)
    to.record("version.qstat", ["qstat", "--version"])
    to.record("qstat-f-dsv.empty", build_qstat([], new_delimiter()))
    for case, options in REFUSALS.items():
        to.record(f"qsub.{case}", ["qsub", "-f", *options], b"true\n")
    ended = {case: to.submit(case, body) for case, body in ENDS.items()}
    held = to.submit("deleted-held", "exit 0", "-h")
    hopeless = to.submit("dependency", "exit 0", "-W", f"depend=afterok:{held}")
    to.record("qstat-f-dsv.held", build_qstat([held], new_delimiter()))
    to.record("qstat-f-dsv.held-by-dependency", build_qstat([hopeless], new_delimiter()))
    to.record("qdel.held", ["qdel", held])
    ended |= {"deleted-held": held}
    for case, body in (("deleted-running", WAITS), ("deleted-exits-with-0", PEACEFUL)):
        ended[case] = to.submit(case, body)
        to.until(ended[case], _is_running)
        to.record(f"qstat-f-dsv.{case}", build_qstat([ended[case]], new_delimiter()))
        to.record(f"qstat-f.{case}", ["qstat", "-f", ended[case]])
        to.record(f"qdel.{case}", ["qdel", ended[case]])
    to.record("qstat-t-f-dsv.mixed", build_qstat([], new_delimiter()))
    for case, job_id in ended.items():
        to.end(case, job_id)
    to.record("qdel.finished", ["qdel", ended["ok"]])
    to.run(["qdel", hopeless])
    for command in ("qstat", "qdel", "qhold", "qrls"):
        to.record(f"{command}.unknown", [command, NativeId("999999999")])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
