"""Makes recordings of a Torque's answers; run it on a login node, as an ordinary user.

    python tests/recorded/torque/record.py [FOLDER]

It submits small jobs, which end within about two minutes, and deletes what is left of them. Each
case is ``VERSION/CASE/`` below the folder (that of this file by default), with ``stdout``,
``stderr`` (bytes as printed) and ``meta.toml``. The jobs are submitted as the adapter submits them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcq.domain.jobs import ArrayRange, JobSpec, NativeId, SubmissionKey
from hpcq.schedulers.torque.script import choose
from hpcq.schedulers.torque.submit import build_change, build_qstat, build_qsub

HERE = Path(__file__).resolve().parent
KEY = SubmissionKey("hpcq-00000000000000000000000000000001")
VERSION = re.compile(r"version:\s*([0-9]+(?:\.[0-9]+)*)", re.IGNORECASE)
PATIENCE_SECONDS = 180
ENDS = {
    "exit0": "exit 0\n",
    "exit3": "exit 3\n",
    "exit137": "exit 137\n",
    "sig9": "kill -9 $$\n",
    "sig15": "kill -15 $$\n",
    "wallkill": "sleep 600\n",
}


@dataclass
class Recorder:
    """Runs commands and keeps what they print.

    Attributes:
        target: the folder of the version's cases.
        version: as ``qstat --version`` says it.
        work: the jobs' directory.
        ids: the jobs that were submitted.
    """

    target: Path
    version: str
    work: Path
    ids: list[str] = field(default_factory=list)

    def record(self, case: str, argv: Sequence[str], stdin: bytes = b"") -> bytes:
        done = run(argv, self.work, stdin)
        folder = self.target / case
        folder.mkdir(parents=True)
        (folder / "stdout").write_bytes(done.stdout)
        (folder / "stderr").write_bytes(done.stderr)
        meta = {
            "scheduler": "torque",
            "version": self.version,
            "origin": "recorded",
            "argv": list(argv),
            "exit_status": done.returncode,
        }
        lines = (f"{name} = {json.dumps(value)}\n" for name, value in meta.items())
        (folder / "meta.toml").write_text("".join(lines))
        return done.stdout

    def submit(self, name: str, body: str, **fields: Any) -> str:
        """Submit as the adapter does; returns the id without the server, ``45`` for an array."""
        spec = JobSpec(
            name=name, working_directory=str(self.work), script_file="/s", slots=1, **fields
        )
        script = f"#!/bin/sh\n{body}".encode()
        choices = choose(
            spec, script, template="nodes={nodes}:ppn={ppn}", slots_per_node=None, environment={}
        )
        submission = build_qsub(spec, KEY, script, choices)
        printed = self.record(f"qsub.{name}", submission.argv, submission.stdin).decode()
        job_id = printed.partition(".")[0].removesuffix("[]")
        if not job_id.isdecimal():
            raise SystemExit(f"qsub printed {printed!r}; see {self.target / f'qsub.{name}'}")
        self.ids.append(job_id)
        return job_id

    def state(self, job_id: str) -> bytes:
        document = run(build_qstat(NativeId(job_id)), self.work).stdout
        found = re.search(rb"<job_state>([A-Z])", document)
        return found[1] if found else b""

    def until(self, job_id: str, *states: bytes) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.state(job_id) not in states:
            if time.monotonic() > deadline:
                raise SystemExit(f"the job {job_id} did not reach one of {states}")
            time.sleep(0.5)

    def show(self, case: str, job_id: str) -> None:
        self.record(f"qstat-x.{case}", build_qstat(NativeId(job_id)))
        self.record(f"qstat-f.{case}", ("qstat", "-f", job_id))

    def record_all(self) -> None:
        self.record("qstat.version", ("qstat", "--version"))
        self.record("qstat-x.unknown", build_qstat(NativeId("999999999")))
        self.record("qdel.unknown", build_change(("qdel",), NativeId("999999999"), is_array=False))
        self.record("qsub.unknown-queue", ("qsub", "-q", "nosuchqueue"), b"true\n")
        self.record("qsub.bad-resource-name", ("qsub", "-l", "foo=1"), b"true\n")
        held = self.submit("held", "true\n", hold=True)
        self.show("held", held)
        self.record("qdel.queued", build_change(("qdel",), NativeId(held), is_array=False))
        running = self.submit("running", "sleep 600\n")
        array = self.submit("array", "sleep 600\n", array=ArrayRange(first=1, last=2))
        self.until(running, b"R")
        self.show("running", running)
        self.record("qstat-x-t.arrays", build_qstat())
        self.record("qstat-x-t.id-array", build_qstat(NativeId(array), are_arrays=True))
        self.record("qdel.running", build_change(("qdel",), NativeId(running), is_array=False))
        self.record("qdel.array", build_change(("qdel",), NativeId(array), is_array=True))
        limits = {"wallkill": {"wall_time_limit_seconds": 5}}
        ends = {
            name: self.submit(name, body, **limits.get(name, {})) for name, body in ENDS.items()
        }
        for name, job_id in {"deleted": running, "deleted-queued": held, **ends}.items():
            self.until(job_id, b"C", b"")
            self.show(f"complete-{name}", job_id)
            self.record(f"tracejob.complete-{name}", ("tracejob", "-n", "2", job_id))
        self.record("pbsnodes.pbsnodes-x", ("pbsnodes", "-x"))
        self.record("qstat_-Q_-f", ("qstat", "-Q", "-f"))

    def clean_up(self) -> None:
        for job_id in self.ids:
            for is_array in (False, True):
                run(build_change(("qdel",), NativeId(job_id), is_array=is_array), self.work)


def run(argv: Sequence[str], cwd: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        argv, input=stdin, cwd=cwd, env=environment, capture_output=True, check=False
    )


def main(folder: Path) -> None:
    for command in ("qsub", "qstat", "qdel", "tracejob", "pbsnodes"):
        if shutil.which(command) is None:
            raise SystemExit(f"There is no {command} here; run this where Torque's commands are.")
    done = run(("qstat", "--version"), Path("/"))
    found = VERSION.search((done.stdout + done.stderr).decode("utf-8", "replace"))
    if found is None:
        raise SystemExit(f"This qstat is not Torque's: {done.stdout!r} {done.stderr!r}")
    target = folder / found[1]
    if target.exists():
        raise SystemExit(f"{target} is there already; remove it, or give another folder.")
    with tempfile.TemporaryDirectory(prefix="hpcq-recording-", dir=Path.home()) as work:
        recorder = Recorder(target, found[1], Path(work))
        try:
            recorder.record_all()
        finally:
            recorder.clean_up()
    sys.stdout.write(f"{target}: {len(list(target.iterdir()))} cases\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
