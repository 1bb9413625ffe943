#!/usr/bin/env python3
"""A private Grid Engine cell on this machine, for tests.

    sge.py up|down|status
    sge.py stop|start|freeze|thaw qmaster|execd
    sge.py renumber N

``up`` installs Debian's gridengine packages when they are missing, starts a qmaster and an
execution daemon of its own (own root, cell, spool and ports; the packaged default cell stays
untouched), waits until a job has really run and stands in the accounting file, and prints one
JSON object on stdout: the environment variables that a client process needs. Everything else
goes to stderr. Called again, it only checks and prints. ``down`` stops what ``up`` started and
removes the cell. ``status`` prints the environment when the cell answers, and exits 1 otherwise.
``stop`` and ``start`` end and begin one daemon, ``freeze`` (SIGSTOP) and ``thaw`` keep it from
answering. ``renumber`` makes N the number of the next job; the qmaster must be stopped.

Exit status: 0 done; 1 not running, or failed; 3 Grid Engine cannot be installed here.

Needs the standard library only, and root (or ``sudo`` without a password): execution daemons
change users. Grid Engine cannot bind to one address; it accepts requests only from hosts in its
own list, which holds this machine alone.

``HPCQ_TEST_SGE_INSTANCE=N`` selects one of several cells (0 by default), for what must be alone
with its own. ``HPCQ_TEST_SGE_DIR`` sets the directory (default ``/var/tmp/hpcq-test-sge``, with
``-N`` behind it for a further instance).
"""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.clusters.machine import (
    PATIENCE_SECONDS,
    become_root,
    install,
    log,
    one_at_a_time,
    wait_for,
)
from tests.clusters.machine import ClusterError as Failed

INSTANCE = int(os.environ.get("HPCQ_TEST_SGE_INSTANCE", "0"))
DIRECTORY = "/var/tmp/hpcq-test-sge" + (f"-{INSTANCE}" if INSTANCE else "")
BASE = Path(os.environ.get("HPCQ_TEST_SGE_DIR", DIRECTORY))
ROOT = BASE / "root"
CELL = "hpcq"
COMMON = ROOT / CELL / "common"
QMASTER_SPOOL = BASE / "spool" / "qmaster"
EXECD_SPOOL = BASE / "spool" / "execd"
STATE_FILE = BASE / "state.json"
PROGRAMS = Path("/usr/lib/gridengine")
SHARE = Path("/usr/share/gridengine")
PACKAGES = ("gridengine-master", "gridengine-exec", "gridengine-client")
ADMIN = "sgeadmin"
SLOTS = 128

BOOTSTRAP = f"""\
admin_user              {ADMIN}
default_domain          none
ignore_fqdn             true
spooling_method         classic
spooling_lib            libspoolc
spooling_params         {COMMON};{QMASTER_SPOOL}
binary_path             {ROOT}/bin
qmaster_spool_dir       {QMASTER_SPOOL}
security_mode           none
listener_threads        2
worker_threads          2
scheduler_threads       1
"""

# What differs from the package's default-configuration, and why.
CONFIGURATION = {
    "execd_spool_dir": str(EXECD_SPOOL),
    "mailer": "/bin/true",
    "min_uid": "0",  # the tests run as whoever runs them, root in containers
    "min_gid": "0",
    "shell_start_mode": "unix_behavior",
    "load_report_time": "00:00:01",
    "reporting_params": "accounting=true reporting=false flush_time=00:00:01 "
    "accounting_flush_time=00:00:00 joblog=false sharelog=00:00:00",
    # Without an additional group there is no way to find a job's processes that left its
    # process group, and a deleted job would leave them behind.
    "execd_params": "ENABLE_ADDGRP_KILL=true",
    "finished_jobs": "0",
    "max_jobs": "0",
    "max_u_jobs": "0",
    "enforce_user": "auto",
    "loglevel": "log_info",
}

SCHEDULER = {
    "schedule_interval": "0:0:1",
    "flush_submit_sec": "1",
    "flush_finish_sec": "1",
    "schedd_job_info": "true",
    "job_load_adjustments": "NONE",
    "load_adjustment_decay_time": "0:0:0",
    "maxujobs": "0",
}

PARALLEL_ENVIRONMENT = """\
pe_name            {name}
slots              100000
user_lists         NONE
xuser_lists        NONE
start_proc_args    NONE
stop_proc_args     NONE
allocation_rule    $fill_up
control_slaves     TRUE
job_is_first_task  FALSE
urgency_slots      min
accounting_summary {summary}
qsort_args         NONE
"""

QUEUE = """\
qname                 {name}
hostlist              {host}
seq_no                {seq}
load_thresholds       NONE
suspend_thresholds    NONE
nsuspend              1
suspend_interval      00:05:00
priority              0
min_cpu_interval      00:05:00
processors            UNDEFINED
qtype                 BATCH INTERACTIVE
ckpt_list             NONE
pe_list               orte mpi
rerun                 FALSE
slots                 {slots}
tmpdir                /tmp
shell                 /bin/sh
prolog                NONE
epilog                NONE
shell_start_mode      unix_behavior
starter_method        NONE
suspend_method        NONE
resume_method         NONE
terminate_method      NONE
notify                00:00:05
owner_list            NONE
user_lists            NONE
xuser_lists           NONE
subordinate_list      NONE
complex_values        NONE
projects              NONE
xprojects             NONE
calendar              NONE
initial_state         default
s_rt                  INFINITY
h_rt                  {h_rt}
s_cpu                 INFINITY
h_cpu                 INFINITY
s_fsize               INFINITY
h_fsize               INFINITY
s_data                INFINITY
h_data                INFINITY
s_stack               INFINITY
h_stack               INFINITY
s_core                INFINITY
h_core                INFINITY
s_rss                 INFINITY
h_rss                 INFINITY
s_vmem                INFINITY
h_vmem                INFINITY
"""

PROJECT = """\
name climate
oticket 0
fshare 0
acl NONE
xacl NONE
"""


ATTEMPTS = 3


def run(*argv: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run to the end, output captured; the environment is the cell's unless given."""
    options.setdefault("env", daemon_environment())
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        argv,
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE_SECONDS,
        **options,
    )


def checked(*argv: str, **options: object) -> str:
    done = run(*argv, **options)
    if done.returncode:
        raise Failed(f"{' '.join(argv)} exited {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


# --- environment -----------------------------------------------------------------------------


def read_state() -> dict[str, str]:
    try:
        return dict(json.loads(STATE_FILE.read_text()))
    except (OSError, ValueError):
        return {}


def client_environment(state: dict[str, str]) -> dict[str, str]:
    """Return the environment that talks to the cell; the binaries are those in /usr/bin."""
    return {
        "SGE_ROOT": str(ROOT),
        "SGE_CELL": CELL,
        "SGE_QMASTER_PORT": state["qmaster_port"],
        "SGE_EXECD_PORT": state["execd_port"],
    }


def daemon_environment() -> dict[str, str]:
    """A clean environment: the execution daemon hands its own on to the jobs."""
    clean = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"}
    state = read_state()
    return clean | (client_environment(state) if state else {})


def free_port(wanted: int) -> int:
    for port in range(wanted, wanted + 200, 2):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("", port))  # as the daemon will
                return port
    raise Failed(f"no free port from {wanted} on")


# --- installation ----------------------------------------------------------------------------


def missing_programs() -> list[str]:
    needed = (PROGRAMS / "sge_qmaster", PROGRAMS / "sge_execd", Path("/usr/bin/qsub"))
    return [path.name for path in needed if not path.exists()]


# --- processes -------------------------------------------------------------------------------


def start_daemon(program: Path, log: Path) -> None:
    """Start a daemon, which leaves our session by itself and holds nothing of the caller's."""
    with log.open("ab") as output:
        done = subprocess.run(
            [str(program)],
            env=daemon_environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    if done.returncode:
        raise Failed(f"{program.name} exited {done.returncode}: {log.read_text()[-2000:]}")


def pid_in(spool: Path, name: str) -> str:
    """The process id that a daemon wrote below its spool directory; empty when it did not."""
    for path in (spool / name, *spool.glob(f"*/{name}")):
        with contextlib.suppress(OSError):
            return path.read_text().strip()
    return ""


def is_alive(pid: str, program: str) -> bool:
    """Return whether the process is this cell's daemon (ids are reused after a reboot)."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError, IndexError):
        return False
    ours = f"SGE_ROOT={ROOT}".encode() in environment.split(b"\0")
    return Path(command).name == program and ours and state not in "ZX"


def our_processes() -> list[int]:
    """Daemons, shepherds and jobs of this cell: those whose environment names its root."""
    mark = f"SGE_ROOT={ROOT}".encode()
    programs = {"sge_qmaster", "sge_execd", "sge_shepherd", "sge_coshepherd"}
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            name = Path((entry / "cmdline").read_bytes().split(b"\0")[0].decode()).name
        except (OSError, ValueError):
            continue
        shepherd = name.partition("-")[0] in programs or name in programs
        if mark in environment and (shepherd or any(v.startswith(b"JOB_ID=") for v in environment)):
            found.append(int(entry.name))
    return found


def stop_processes() -> None:
    for number, patience in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 60.0)):
        for pid in our_processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        end = time.monotonic() + patience
        while our_processes() and time.monotonic() < end:
            time.sleep(0.1)


# --- the cell --------------------------------------------------------------------------------


def ensure_host_resolves() -> None:
    """The machine's own name must have an address; host_aliases takes care of the way back."""
    name = socket.gethostname()
    with contextlib.suppress(OSError):
        socket.gethostbyname(name)
        return
    log(f"adding {name} to /etc/hosts, for it has no address")
    with Path("/etc/hosts").open("a") as hosts:
        hosts.write(f"127.0.0.1 {name}\n")


def aliases() -> str:
    """One line: the name to use, then every name its address may be turned back into."""
    name = socket.gethostname()
    address = socket.gethostbyname(name)
    names = [name]
    with contextlib.suppress(OSError):
        canonical, others, _ = socket.gethostbyaddr(address)
        names += [canonical, *others]
    names += ["localhost"] if address.startswith("127.") else []
    return " ".join(dict.fromkeys(names)) + "\n"


def write_cell() -> None:
    """Create root, cell and spool from nothing: a stale one is never repaired."""
    ports = {
        "qmaster_port": str(free_port(16444 + 400 * INSTANCE)),
        "execd_port": str(free_port(16445 + 400 * INSTANCE)),
        "user": os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name,
    }
    shutil.rmtree(BASE, ignore_errors=True)
    for directory in (COMMON, QMASTER_SPOOL / "job_scripts", EXECD_SPOOL):
        directory.mkdir(parents=True)
    STATE_FILE.write_text(json.dumps(ports))
    architecture = checked(str(SHARE / "util" / "arch")).strip()
    for folder in ("bin", "lib", "utilbin"):
        (ROOT / folder).mkdir()
        (ROOT / folder / architecture).symlink_to(PROGRAMS)
    (ROOT / "util").symlink_to(SHARE / "util")
    (COMMON / "bootstrap").write_text(BOOTSTRAP)
    (COMMON / "act_qmaster").write_text(socket.gethostname() + "\n")
    (COMMON / "host_aliases").write_text(aliases())
    (BASE / "configuration").write_text(configuration())
    owner, group = pwd.getpwnam(ADMIN).pw_uid, grp.getgrnam(ADMIN).gr_gid
    for path in (BASE, *BASE.rglob("*")):
        os.chown(path, owner, group, follow_symlinks=False)
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)


def configuration() -> str:
    lines = []
    for line in (SHARE / "default-configuration").read_text().splitlines():
        name = line.split()[0] if line.split() else ""
        lines.append(f"{name} {CONFIGURATION[name]}" if name in CONFIGURATION else line)
    return "\n".join(lines) + "\n"


def fill_spool() -> None:
    options = {"user": ADMIN, "group": ADMIN, "extra_groups": [], "cwd": str(BASE)}
    params = f"{COMMON};{QMASTER_SPOOL}"
    checked(str(PROGRAMS / "spoolinit"), "classic", "libspoolc", params, "init", **options)
    resources = SHARE / "util" / "resources"
    for arguments in (
        ("configuration", str(BASE / "configuration")),
        ("complexes", str(resources / "centry")),
        ("usersets", str(resources / "usersets")),
        ("managers", ADMIN, "root", read_state()["user"]),
    ):
        checked(str(PROGRAMS / "spooldefaults"), *arguments, **options)


def qconf(*arguments: str) -> str:
    return checked(str(PROGRAMS / "qconf"), *arguments)


def qconf_file(option: str, content: str) -> None:
    path = BASE / "qconf.tmp"
    path.write_text(content)
    qconf(option, str(path))
    path.unlink()


def master_answers() -> bool:
    return run(str(PROGRAMS / "qconf"), "-sh").returncode == 0


def configure() -> None:
    host = socket.gethostname()
    qconf("-as", host)
    scheduler = [
        f"{line.split()[0]} {SCHEDULER.get(line.split()[0], line.split(None, 1)[1])}"
        for line in qconf("-ssconf").splitlines()
        if len(line.split()) > 1
    ]
    qconf_file("-Msconf", "\n".join(scheduler) + "\n")
    qconf_file("-Ap", PARALLEL_ENVIRONMENT.format(name="orte", summary="FALSE"))
    qconf_file("-Ap", PARALLEL_ENVIRONMENT.format(name="mpi", summary="TRUE"))
    qconf_file("-Aprj", PROJECT)


def configure_queues() -> None:
    host = socket.gethostname()
    qconf_file("-Aq", QUEUE.format(name="all.q", host=host, seq=0, slots=SLOTS, h_rt="INFINITY"))
    # For what needs a queue of its own: limits, suspension, disabling.
    qconf_file("-Aq", QUEUE.format(name="other.q", host=host, seq=9, slots=8, h_rt="24:00:00"))


def start() -> None:
    ensure_host_resolves()
    write_cell()
    fill_spool()
    state = read_state()
    start_one("qmaster")
    configure()
    start_one("execd")
    configure_queues()
    wait_for_a_job(state["user"])


def execution_host_is_known() -> bool:
    return socket.gethostname() in run(str(PROGRAMS / "qconf"), "-sel").stdout.split()


def start_one(name: str) -> None:
    daemon = DAEMONS[name]
    start_daemon(PROGRAMS / daemon.program, BASE / "daemons.log")

    def is_ready() -> bool:
        # Until it has written its own, the file has the number of the one before it.
        return is_alive(pid_in(daemon.spool, f"{name}.pid"), daemon.program) and daemon.is_ready()

    wait_for(f"the start of {daemon.program}", is_ready)
    pid = pid_in(daemon.spool, f"{name}.pid")
    STATE_FILE.write_text(json.dumps(read_state() | {f"{name}_pid": pid}))


def signal_one(name: str, number: signal.Signals) -> None:
    pid = read_state().get(f"{name}_pid", "")
    if not is_alive(pid, DAEMONS[name].program):
        raise Failed(f"{name} does not run")
    os.kill(int(pid), number)


def stop_one(name: str) -> None:
    pid = read_state().get(f"{name}_pid", "")
    signal_one(name, signal.SIGTERM)
    wait_for(f"the end of {name}", lambda: not is_alive(pid, DAEMONS[name].program))


@dataclass(frozen=True)
class Daemon:
    program: str
    spool: Path
    is_ready: Callable[[], bool]


DAEMONS = {
    "qmaster": Daemon("sge_qmaster", QMASTER_SPOOL, master_answers),
    "execd": Daemon("sge_execd", EXECD_SPOOL, execution_host_is_known),
}


def wait_for_a_job(user: str) -> None:
    """Submit /bin/true until one has run, as the user the tests run as."""
    options: dict[str, object] = {"cwd": "/"}
    if user != "root":
        options |= {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
    argv = ("-terse", "-b", "y", "-N", "probe", "-o", "/dev/null", "-e", "/dev/null", "-pe")
    number = checked(str(PROGRAMS / "qsub"), *argv, "orte", "1", "/bin/true", **options).strip()
    accounting = COMMON / "accounting"

    def ended() -> bool:
        with contextlib.suppress(OSError):
            lines = [line.split(":") for line in accounting.read_text().splitlines()]
            return any(line[5] == number for line in lines if len(line) > 5)
        return False

    wait_for("the first job", ended)


# --- verbs -----------------------------------------------------------------------------------


def is_up() -> bool:
    state = read_state()
    alive = all(is_alive(state.get(f"{name}_pid", ""), d.program) for name, d in DAEMONS.items())
    return alive and master_answers()


def alone() -> AbstractContextManager[None]:
    """Two test runs that start at once must not build the cell twice."""
    return one_at_a_time(Path(f"{BASE}.lock"))


def start_patiently() -> None:
    """A cell that takes no job, its port taken between look and use for one, is built anew."""
    for attempt in range(1, ATTEMPTS + 1):
        stop_processes()
        try:
            start()
        except Failed as error:
            log(f"attempt {attempt} of {ATTEMPTS}: {error}")
            for told in (QMASTER_SPOOL / "messages", *EXECD_SPOOL.rglob("messages")):
                if told.exists():
                    log(f"{told.parent.name}: " + told.read_text(errors="replace")[-1500:])
            if attempt == ATTEMPTS:
                raise
        else:
            return


def up() -> int:
    if not is_up():
        with alone():
            if not is_up():
                install(PACKAGES, missing_programs)
                start_patiently()
                log("up")
    print(json.dumps(client_environment(read_state())))
    return 0


def down() -> int:
    with alone():
        stop_processes()
        shutil.rmtree(BASE, ignore_errors=True)
    log("down")
    return 0


def status() -> int:
    if not is_up():
        log("not running")
        return 1
    print(json.dumps(client_environment(read_state())))
    return 0


def act(verb: str, name: str) -> int:
    """Do one thing to one daemon."""
    with alone():
        if verb == "start":
            start_one(name)
        elif verb == "stop":
            stop_one(name)
        else:
            signal_one(name, {"freeze": signal.SIGSTOP, "thaw": signal.SIGCONT}[verb])
    return 0


def renumber(number: int) -> int:
    """Make this the number of the next job."""
    with alone():
        if is_alive(read_state().get("qmaster_pid", ""), DAEMONS["qmaster"].program):
            raise Failed("the qmaster runs, and would not notice")
        # It holds the number of the last one.
        (QMASTER_SPOOL / "jobseqnum").write_text(f"{number - 1}\n")
    return 0


def action_of(arguments: Sequence[str]) -> Callable[[], int] | None:
    match arguments:
        case ["up"]:
            return up
        case ["down"]:
            return down
        case ["status"]:
            return status
        case ["stop" | "start" | "freeze" | "thaw" as verb, name] if name in DAEMONS:
            return lambda: act(verb, name)
        case ["renumber", number] if number.isdecimal():
            return lambda: renumber(int(number))
    return None


def main() -> int:
    action = action_of(sys.argv[1:])
    if action is None:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        become_root(sys.argv[1:], ("HPCQ_TEST_SGE_DIR", "HPCQ_TEST_SGE_INSTANCE"))
        return action()
    except Failed as error:
        log(str(error))
        return error.code


if __name__ == "__main__":
    sys.exit(main())
