"""Records what a Grid Engine prints when the adapter asks; run it for another version.

    python tests/recorded/sge/record.py [FOLDER]

It asks the Grid Engine that ``SGE_ROOT`` and ``SGE_CELL`` name; without them it starts a private
cell of Debian's packages. It needs a parallel environment ``orte``, changes nothing but jobs of its
own, and takes two minutes. Each case is ``FOLDER/VERSION/CASE/``, here by default, with ``stdout``,
``stderr`` (bytes as printed) and ``meta.toml`` (argv, exit status, version); a case that is there
already is replaced.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from hpcq.domain.jobs import JobSpec, NativeId, SubmissionKey
from hpcq.schedulers.sge.actions import build_change
from hpcq.schedulers.sge.submit import build_qsub

HERE = Path(__file__).resolve().parent
CLUSTER = HERE.parents[1] / "clusters" / "sge.py"
KEY = SubmissionKey("hpcq-0123456789abcdef0123456789abcdef")
ENDS = {
    "ok": "true",
    "exit3": "exit 3",
    "exit100": "exit 100",
    "exit137": "exit 137",
    "kill9": "kill -9 $$",
    "segv": "kill -SEGV $$",
    "h_rt": "#$ -l h_rt=0:0:2\nsleep 60",
    "s_rt": "#$ -l s_rt=0:0:2\nsleep 60",
    "h_cpu": "#$ -l h_cpu=0:0:2\nwhile :; do :; done",
    "s_cpu": "#$ -l s_cpu=0:0:2\nwhile :; do :; done",
    "in_turn": "#$ -t 1-2 -tc 1\nsleep 2",
    "interpreter": "",
}
WAITING = {
    "held": "#$ -h",
    "too_wide": "#$ -l h_vmem=9999999G",
    "held_array": "#$ -h -t 2-20:2",
}
RUNNING = {"running": "sleep 90", "array": "#$ -t 1-3\nsleep 90", "child": 'qsub -V -h "$0"'}


class Recorder:
    """Runs commands against one cell and keeps what they print."""

    def __init__(self, cell: Mapping[str, str], folder: Path, target: Path) -> None:
        self.target = target
        self.environment = {"PATH": os.environ["PATH"], "TZ": "UTC", "LC_ALL": "C.UTF-8", **cell}
        self.folder = folder
        help_text = self.run("qstat", "-help").stdout.decode().split("\n", 1)[0]
        self.version = help_text.split()[-1]
        self.jobs: dict[str, str] = {}

    def run(self, *argv: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            argv, env=self.environment, cwd=self.folder, capture_output=True, check=False
        )

    def record(self, case: str, *argv: str) -> subprocess.CompletedProcess[bytes]:
        done = self.run(*argv)
        target = self.target / self.version / case
        target.mkdir(parents=True, exist_ok=True)
        (target / "stdout").write_bytes(done.stdout)
        (target / "stderr").write_bytes(done.stderr)
        meta = {"argv": list(argv), "exit_status": done.returncode, "version": self.version}
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in meta.items())
        (target / "meta.toml").write_text('scheduler = "sge"\norigin = "recorded"\n' + text)
        print(f"{case}: {done.returncode}", file=sys.stderr)
        return done

    def submit(self, name: str, body: str, *, record: bool = False) -> None:
        script = self.folder / f"{name}.sh"
        first = "#!/no/such/interpreter" if name == "interpreter" else "#!/bin/sh"
        script.write_text(f"{first}\n{body}\n")
        script.chmod(0o755)
        spec = JobSpec(name=name, working_directory=str(self.folder), script_file=str(script))
        argv = build_qsub(spec, KEY, script.read_bytes()).argv
        done = self.record(f"qsub_{name}", *argv) if record else self.run(*argv)
        self.jobs[name] = done.stdout.decode().strip().partition(".")[0]

    def wait_until_over(self, *names: str) -> None:
        for name in names:
            for _ in range(120):
                if b"<djob_info" not in self.run("qstat", "-j", self.jobs[name], "-xml").stdout:
                    break
                time.sleep(0.5)

    def change(self, case: str, command: str, name: str, task: str = "") -> None:
        self.record(case, *build_change((command,), NativeId(self.jobs.get(name, name) + task)))


def main() -> None:
    cell = {n: v for n, v in os.environ.items() if n.startswith("SGE_")}
    if "SGE_ROOT" not in cell:
        private = {**os.environ, "HPCQ_TEST_SGE_INSTANCE": "1"}
        started = subprocess.run(
            [sys.executable, CLUSTER, "up"], env=private, stdout=subprocess.PIPE, check=True
        )
        cell = json.loads(started.stdout)
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(cell, Path(folder), Path(sys.argv[1]) if sys.argv[1:] else HERE)
        try:
            record_all(recorder)
        finally:
            recorder.run("qdel", *filter(None, recorder.jobs.values()))
    print(f"recorded {recorder.version}", file=sys.stderr)


def record_all(to: Recorder) -> None:
    to.record("qstat_help", "qstat", "-help")
    to.record("qconf_sconf", "qconf", "-sconf")
    for name, body in (RUNNING | WAITING).items():
        to.submit(name, body, record=True)
    for name, body in ENDS.items():
        to.submit(name, body)
    for case, line in (
        ("no_such_queue", "-q nosuch.q"),
        ("no_such_project", "-P nosuch"),
        ("no_such_resource", "-l nosuch=1"),
        ("bad_option", "-nosuch"),
        ("too_many_tasks", "-t 1-99999999"),
        ("positive_priority", "-p 10"),
    ):
        to.submit(case, f"#$ {line}", record=True)
    time.sleep(5)
    to.record("qstat_xml_mixed", "qstat", "-u", "*", "-xml")
    asked = [*RUNNING, *WAITING, "interpreter"]
    for name in asked:
        to.record(f"qstat_j_xml_{name}", "qstat", "-j", to.jobs[name], "-xml")
    several = ",".join(to.jobs[name] for name in asked)
    to.record("qstat_j_xml_several", "qstat", "-j", f"{several},999999", "-xml")
    to.record("qstat_j_xml_unknown", "qstat", "-j", "999999", "-xml")
    for command in ("qhold", "qrls", "qdel"):
        to.change(f"{command}_unknown", command, "999999")
    to.change("qhold_running", "qhold", "running")
    to.change("qrls_running", "qrls", "running")
    to.change("qhold_task", "qhold", "held_array", "[4]")
    to.change("qdel_task", "qdel", "array", "[2]")
    to.change("qdel_error_state", "qdel", "interpreter")
    for name in ("running", "held", "held_array"):
        to.change(f"qdel_{name}", "qdel", name)
    to.change("qdel_again", "qdel", "running")
    to.record("qstat_xml_deleting", "qstat", "-u", "*", "-xml")
    ended = [name for name in ENDS if name not in ("interpreter", "exit100")]
    to.wait_until_over("running", *ended)
    time.sleep(20)  # the qmaster's flush_time
    for name in (*ENDS, "running", "held"):
        to.record(f"qacct_{name}", "qacct", "-j", to.jobs[name])
    to.record("qacct_account", "qacct", "-A", KEY, "-j")
    to.record("qacct_account_unknown", "qacct", "-A", "nosuch", "-j")
    cell = to.environment.get("SGE_CELL", "default")
    path = Path(to.environment["SGE_ROOT"]) / cell / "common" / "accounting"
    numbers = "|".join(filter(None, to.jobs.values()))
    to.record("accounting_of_jobs", "grep", "-E", f"^([^:]*:){{5}}({numbers}):", str(path))
    port = to.environment.get("SGE_QMASTER_PORT")
    to.environment["SGE_QMASTER_PORT"] = "1"
    for case, argv in (
        ("qstat_xml_down", ("qstat", "-u", "*", "-xml")),
        ("qstat_j_xml_down", ("qstat", "-j", "1", "-xml")),
        ("qdel_down", ("qdel", "1")),
    ):
        to.record(case, *argv)
    to.environment.pop("SGE_QMASTER_PORT")
    if port is not None:
        to.environment["SGE_QMASTER_PORT"] = port


if __name__ == "__main__":
    main()
