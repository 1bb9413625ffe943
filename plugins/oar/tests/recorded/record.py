"""Make the recordings in this directory from a real OAR.

    python plugins/oar/tests/recorded/record.py

Each case is `<version>/<case>/` with `stdout`, `stderr` (bytes as printed) and `meta.toml` (argv,
exit status). The commands are the ones that the adapter runs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4]))

from tests.clusters import oar

from hpcq.domain.jobs import JobSpec, SubmissionKey
from hpcq_oar.submit import build_oarsub

HERE = Path(__file__).resolve().parent
KEY = SubmissionKey("hpcq-00000000000000000000000000000001")
FULL = ("oarstat", "--full", "--json")


def run(argv: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    path = oar.settings()["SCHEDULER_PATH"]
    program = shutil.which(argv[0], path=path)
    assert program is not None, argv
    environment = {"PATH": path, "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    return subprocess.run([program, *argv[1:]], env=environment, cwd="/", capture_output=True)


def record(case: str, argv: Sequence[str]) -> bytes:
    done = run(argv)
    folder = HERE / version() / case
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stdout").write_bytes(done.stdout)
    (folder / "stderr").write_bytes(done.stderr)
    meta = f"argv = {json.dumps(list(argv))}\nexit_status = {done.returncode}\n"
    (folder / "meta.toml").write_text(meta)
    return done.stdout


def version() -> str:
    return run(("oarstat", "--version")).stdout.decode().split()[3]


def submit(*options: str) -> str:
    outputs = ("-d", "/", "-O", "/dev/null", "-E", "/dev/null")
    said = run(("oarsub", *outputs, *options)).stdout.decode()
    return said.rpartition("OAR_JOB_ID=")[2].strip()


def wait(state: str, number: str) -> None:
    while state not in run(("oarstat", "-s", "-j", number)).stdout.decode():
        time.sleep(0.2)


def selected(*numbers: str) -> tuple[str, ...]:
    return (*FULL, f"--sql=job_id IN ({', '.join(numbers)})")


def main() -> None:
    shutil.rmtree(HERE / version(), ignore_errors=True)
    record("version", ("oarstat", "--version"))
    record("nodes", ("oarnodes", "--json"))
    work = Path("/tmp/hpcq-oar-recording")
    work.mkdir(exist_ok=True)
    script = work / "study.sh"
    script.write_text("#!/bin/sh\nexit 0\n")
    spec = JobSpec(
        name="São João",
        working_directory=str(work),
        script_file=str(script),
        args=("two words",),
        slots=2,
        wall_time_limit_seconds=90,
    )
    argv = build_oarsub(
        spec, KEY, script.read_bytes(), account={}, resources="/resource_id={slots}"
    )
    ours = record("oarsub", argv).decode().rpartition("OAR_JOB_ID=")[2].strip()
    record("oarsub-no-queue", ("oarsub", "-q", "nowhere", "/bin/true"))
    record("oarsub-too-many", ("oarsub", "-l", "/resource_id=100000", "/bin/true"))
    record("oarsub-bad-resource", ("oarsub", "-l", "/slots=two", "/bin/true"))
    record("oarsub-rule", ("oarsub", "-l", "/drain=1", "/bin/true"))
    held = submit("--hold", "-n", "held", "--project", "climate", "/bin/true")
    running = submit("-n", "running", "sleep 600")
    waits = submit("-n", "waits", "-a", running, "/bin/true")
    cases = {name: submit(command) for name, command in ENDS.items()}
    limited = submit("-l", "/resource_id=1,walltime=0:0:1", "sleep 600")
    nowhere = submit("-d", "/no/such/directory", "/bin/true")
    wait("Running", running)
    record("listing", ("oarstat", "--json"))
    record("listing-full", FULL)
    record("oarhold-running", ("oarhold", running))
    record("oarhold-unknown", ("oarhold", "99999999"))
    record("oarresume-unknown", ("oarresume", "99999999"))
    record("oardel-unknown", ("oardel", "99999999"))
    record("oarhold-other", as_stranger("oarhold", held))
    record("oardel-other", as_stranger("oardel", held))
    record("oardel", ("oardel", running))
    record("oardel-again", ("oardel", running))
    run(("oardel", held))
    for number in (running, held, limited, nowhere):
        wait("Error", number)
    for number in (ours, waits, *cases.values()):
        wait("Terminated", number)
    numbers = [ours, *cases.values(), running, held, limited, nowhere]
    record("ended", selected(*numbers))
    record("find", (*FULL, f"--sql=command LIKE '%{KEY}%'"))
    record("none", selected("99999999"))


ENDS = {
    "zero": "exit 0",
    "three": "exit 3",
    "killed": "kill -9 $$",
}


def as_stranger(*argv: str) -> tuple[str, ...]:
    """Return the command as another account runs it."""
    program = shutil.which(argv[0], path=oar.settings()["SCHEDULER_PATH"])
    assert program is not None
    return ("setpriv", "--reuid=games", "--regid=games", "--clear-groups", program, *argv[1:])


if __name__ == "__main__":
    os.umask(0o022)
    oar.up()
    main()
