"""A whole Slurm cluster on one machine, for tests and benchmarks.

    python tests/clusters/slurm.py up       start it (idempotent), print the client's environment
    python tests/clusters/slurm.py down     stop what `up` started
    python tests/clusters/slurm.py status   print {"running": …} and the daemons' pids
    python tests/clusters/slurm.py stop|start|freeze|thaw DAEMON
                                            the same for one of munged, mariadbd, slurmdbd,
                                            slurmctld, slurmd; frozen (SIGSTOP) it does not answer

`up` prints one JSON object on stdout: the environment variables that a client
process needs (`SLURM_CONF`). Everything else goes to stderr. The cluster has its own
configuration, munge key, database and ports on the loopback interface, all below one
state directory, their logs in its ``log``; a Slurm that the machine already runs is not touched.

``HPCQ_TEST_SLURM_INSTANCE=N`` selects one of several clusters (0 by default), for what must be
alone with its own; ``HPCQ_TEST_SLURM_OPTIONS="MinJobAge=2 …"`` changes its configuration, and
``HPCQ_TEST_SLURM_CLOCK=+5m`` sets its daemons' clocks apart from this machine's.

Exit status: 0; 1 when the cluster does not come up; 2 wrong usage; 3 when Slurm cannot
be installed here.

Standard library only, so that it runs before anything is installed.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.clusters.machine import (
    PATH,
    PATIENCE_SECONDS,
    ClusterError,
    command_line,
    install,
    log,
    make_dir,
    wait_for,
    write_file,
)

WHICH = ("HPCQ_TEST_SLURM_INSTANCE", "HPCQ_TEST_SLURM_OPTIONS", "HPCQ_TEST_SLURM_CLOCK")
INSTANCE = int(os.environ.get("HPCQ_TEST_SLURM_INSTANCE", "0"))
OPTIONS = os.environ.get("HPCQ_TEST_SLURM_OPTIONS", "")
CLOCK = os.environ.get("HPCQ_TEST_SLURM_CLOCK", "")
# A fixed place lets `down` find what `up` made.
STATE = Path("/var/tmp/hpcq-test-slurm" + (f"-{INSTANCE}" if INSTANCE else ""))
CONF = STATE / "etc" / "slurm.conf"
MUNGE_SOCKET = STATE / "munge" / "munge.socket"
MYSQL_SOCKET = STATE / "mysql" / "mysql.socket"
CTLD_PORT, SLURMD_PORT, DBD_PORT, MYSQL_PORT = (
    port + 10 * INSTANCE for port in (26817, 26818, 26819, 23306)
)
CLUSTER = "hpcqtest"
PACKAGES = (
    "slurmctld",
    "slurmd",
    "slurmdbd",
    "slurmrestd",
    "slurm-client",
    "slurm-wlm-basic-plugins",
    "slurm-wlm-jwt-plugin",
    "slurm-wlm-mysql-plugin",
    "munge",
    "mariadb-server",
    "faketime",
)
PROGRAMS = (
    "slurmctld",
    "slurmd",
    "slurmdbd",
    "slurmrestd",
    "sbatch",
    "sacctmgr",
    "munged",
    "mariadbd",
    "mariadb-install-db",
    "faketime",
)

SLURM_CONF = f"""\
ClusterName={CLUSTER}
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={CTLD_PORT}
SlurmdPort={SLURMD_PORT}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=slurm
AuthType=auth/munge
AuthInfo=socket={MUNGE_SOCKET}
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key={STATE}/ctld/jwt.key
StateSaveLocation={STATE}/ctld/state
SlurmdSpoolDir={STATE}/slurmd
SlurmctldPidFile={STATE}/ctld/slurmctld.pid
SlurmdPidFile={STATE}/slurmd/slurmd.pid
SlurmctldLogFile={STATE}/log/slurmctld.log
SlurmdLogFile={STATE}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=200000,bf_interval=1,bf_max_job_test=50,batch_sched_delay=0
PriorityType=priority/basic
MaxJobCount=200000
MaxArraySize=10001
MinJobAge=10
KillWait=5
OverTimeLimit=0
SlurmctldTimeout=300
# With each of its pings, of which three fit into this, slurmd may take the script of a job that is
# just being launched for one left behind, and delete it (seen in 22.05).
SlurmdTimeout=60000
ReturnToService=2
JobRequeue=1
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={DBD_PORT}
AccountingStoragePass={MUNGE_SOCKET}
AccountingStoreFlags=job_comment,job_script
SlurmdParameters=config_overrides
NodeName=localhost NodeHostname=localhost NodeAddr=127.0.0.1 CPUs=64 RealMemory=20000 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=ALL MaxTime=1 State=UP
PartitionName=drained Nodes=ALL MaxTime=INFINITE State=DOWN
"""
for _option in OPTIONS.split():
    _name = _option.partition("=")[0]
    _others = [line for line in SLURM_CONF.splitlines() if line.partition("=")[0] != _name]
    SLURM_CONF = "\n".join([_option, *_others]) + "\n"

SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={munge}
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key={state}/ctld/jwt.key
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
CommunicationParameters=NoInAddrAny
SlurmUser=slurm
PidFile={state}/ctld/slurmdbd.pid
LogFile={state}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mysql_port}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct_db
CommitDelay=1
"""


def client_env() -> dict[str, str]:
    """The variables that a process talking to this cluster needs."""
    return {"SLURM_CONF": str(CONF)}


def full_env() -> dict[str, str]:
    return {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", **client_env()}


def daemon_env(name: str) -> dict[str, str]:
    """The client's environment, and the cluster's own clock if it has one (faketime(1))."""
    if not CLOCK or not name.startswith("slurm"):
        return full_env()
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    fake = {"FAKETIME": CLOCK, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "LD_PRELOAD": str(library)}
    return {**full_env(), **fake}


def run(argv: Sequence[str], *, stdin: str = "", check: bool = True) -> str:
    """Standard output of a command; `ClusterError` with its stderr when it fails."""
    done = subprocess.run(
        argv,
        input=stdin,
        capture_output=True,
        text=True,
        env=full_env(),
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    if check and done.returncode:
        raise ClusterError(
            f"{argv[0]} exited {done.returncode}: {(done.stderr or done.stdout).strip()}"
        )
    return done.stdout


# --- installing ---------------------------------------------------------------------------------


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]


# --- files --------------------------------------------------------------------------------------


def write_files() -> None:
    make_dir(STATE, "root", 0o755)
    for name, owner, mode in (
        ("etc", "root", 0o755),
        ("log", "slurm", 0o755),
        ("run", "root", 0o755),
        ("munge", "munge", 0o755),
        ("mysql", "mysql", 0o755),
        ("ctld", "slurm", 0o755),
        ("ctld/state", "slurm", 0o700),
        ("slurmd", "root", 0o755),
    ):
        make_dir(STATE / name, owner, mode)
    for path, owner in ((STATE / "munge/munge.key", "munge"), (STATE / "ctld/jwt.key", "slurm")):
        if not path.exists():
            write_file(path, secrets.token_bytes(128), owner, 0o600)
    password = STATE / "etc" / "database.password"
    if not password.exists():
        write_file(password, secrets.token_hex(16), "root", 0o600)
    write_file(CONF, SLURM_CONF, "root", 0o644)
    dbd = SLURMDBD_CONF.format(
        munge=MUNGE_SOCKET,
        state=STATE,
        port=DBD_PORT,
        mysql_port=MYSQL_PORT,
        password=password.read_text(),
    )
    # slurmdbd refuses a configuration that others may read or that SlurmUser does not own.
    write_file(CONF.with_name("slurmdbd.conf"), dbd, "slurm", 0o600)


# --- daemons ------------------------------------------------------------------------------------


def pid_file(name: str) -> Path:
    return STATE / "run" / f"{name}.pid"


def is_ours(pid: int, name: str) -> bool:
    """Return whether that process is our daemon: pids are reused, most of all after a reboot."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return Path(os.fsdecode(command[0])).name == name and f"SLURM_CONF={CONF}".encode() in environ


def running_pid(name: str) -> int | None:
    try:
        pid = int(pid_file(name).read_text())
    except (OSError, ValueError):
        return None
    return pid if is_ours(pid, name) else None


def start(name: str, argv: Sequence[str], user: str = "root") -> bool:
    """Starts a daemon detached from the caller; False when it runs already."""
    if running_pid(name) is not None:
        return False
    account = pwd.getpwnam(user)
    with open(STATE / "log" / f"{name}.out", "ab") as out:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=daemon_env(name),
            cwd="/",
            start_new_session=True,
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[account.pw_gid],
        )
    write_file(pid_file(name), str(process.pid), "root", 0o644)
    return True


def stop(name: str, seconds: float = 120) -> None:
    pid = running_pid(name)
    for sig, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 60)):
        if pid is None or not is_ours(pid, name):
            break
        with suppress(ProcessLookupError):
            os.kill(pid, sig)
        deadline = time.monotonic() + patience
        while is_ours(pid, name) and time.monotonic() < deadline:
            time.sleep(0.05)
    pid_file(name).unlink(missing_ok=True)


def start_munged() -> None:
    if running_pid("munged") is None:
        for leftover in ("munge.socket", "munge.socket.lock", "munged.pid"):
            (STATE / "munge" / leftover).unlink(missing_ok=True)
    here = STATE / "munge"
    options = (
        f"--socket={MUNGE_SOCKET} --key-file={here}/munge.key --log-file={here}/munged.log "
        f"--pid-file={here}/munged.pid --seed-file={here}/munged.seed"
    )
    start("munged", ["/usr/sbin/munged", "--foreground", *options.split()], "munge")
    wait_for("munge", lambda: bool(run(["munge", "-n", "-S", str(MUNGE_SOCKET)], check=False)))


def sql(statement: str, *, check: bool = True) -> str:
    client = ["mariadb", "--no-defaults", f"--socket={MYSQL_SOCKET}", "--user=root"]
    return run(client, stdin=statement, check=check)


def start_mariadbd() -> None:
    data = STATE / "mysql" / "data"
    complete = STATE / "mysql" / "installed"
    if not complete.exists():
        # A killed installation leaves a directory that the server refuses to start on.
        shutil.rmtree(data, ignore_errors=True)
        make_dir(data, "mysql", 0o700)
        log("creating the database")
        tool = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=mysql"]
        run([*tool, "--auth-root-authentication-method=socket", "--skip-test-db"])
        complete.touch()
    options = [
        f"--datadir={data}",
        f"--socket={MYSQL_SOCKET}",
        f"--pid-file={STATE}/mysql/mariadbd.pid",
        "--bind-address=127.0.0.1",
        f"--port={MYSQL_PORT}",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-use-native-aio=0",
        "--innodb-lock-wait-timeout=900",
        "--innodb-buffer-pool-size=128M",
        "--skip-name-resolve",
    ]
    started = start("mariadbd", ["/usr/sbin/mariadbd", "--no-defaults", *options], "mysql")
    wait_for("the database", lambda: "1" in sql("SELECT 1", check=False))
    if started:
        password = (STATE / "etc" / "database.password").read_text()
        sql(
            f"CREATE OR REPLACE USER slurm@'127.0.0.1' IDENTIFIED BY '{password}';"
            "GRANT ALL ON slurm_acct_db.* TO slurm@'127.0.0.1';"
        )


def start_slurmdbd() -> None:
    started = start("slurmdbd", ["/usr/sbin/slurmdbd", "-D"], "slurm")
    show = ["sacctmgr", "-P", "show", "cluster", "format=cluster"]
    wait_for("slurmdbd", lambda: "Cluster" in run(show, check=False))
    if started and CLUSTER not in run(show):
        run(["sacctmgr", "-i", "add", "cluster", CLUSTER])


def node_works() -> bool:
    state = run(["sinfo", "-h", "-p", "debug", "-o", "%T"], check=False).strip()
    return state in {"idle", "mixed", "allocated", "completing", "planned"}


def start_slurmctld() -> None:
    start("slurmctld", ["/usr/sbin/slurmctld", "-D"], "slurm")
    wait_for("slurmctld", lambda: "UP" in run(["scontrol", "ping"], check=False))


def start_slurmd() -> None:
    start("slurmd", ["/usr/sbin/slurmd", "-D", "-N", "localhost"])
    wait_for("the node", node_works)


# In the order in which they start; `down` goes the other way.
STARTS: Mapping[str, Callable[[], None]] = {
    "munged": start_munged,
    "mariadbd": start_mariadbd,
    "slurmdbd": start_slurmdbd,
    "slurmctld": start_slurmctld,
    "slurmd": start_slurmd,
}


def signal_daemon(name: str, number: signal.Signals) -> None:
    pid = running_pid(name)
    if pid is None:
        raise ClusterError(f"{name} does not run")
    os.kill(pid, number)


def prove() -> None:
    """Runs a job and waits for its accounting record: only then is the cluster of use."""
    script = "#!/bin/sh\ntrue\n"
    submit = ["sbatch", "--parsable", "-D", "/", "-o", "/dev/null", "-J", "up", "-t", "1"]
    job = run(submit, stdin=script).strip()
    # Its clock may be ahead of ours.
    sacct = ["sacct", "-nPX", "-j", job, "-E", "now+1days", "-o", "state"]
    wait_for("the first job", lambda: run(sacct, check=False).strip() == "COMPLETED")


def is_up() -> bool:
    if any(running_pid(name) is None for name in STARTS):
        return False
    if CONF.read_text() != SLURM_CONF or not (STATE / "run" / "proved").exists():
        return False
    return node_works()


def up() -> dict[str, str]:
    install(PACKAGES, missing_programs)
    if not is_up():
        bring_up()
    return client_env()


def bring_up() -> None:
    if CONF.exists() and CONF.read_text() != SLURM_CONF:
        stop_all()
    write_files()
    (STATE / "run" / "proved").unlink(missing_ok=True)
    for begin in STARTS.values():
        begin()
    prove()
    (STATE / "run" / "proved").touch()
    log("up")


def stop_all() -> None:
    for name in reversed(list(STARTS)):
        stop(name)


def down() -> None:
    if node_works():
        run(["scancel", "--full", "-t", "RUNNING,PENDING,SUSPENDED"], check=False)
    stop_all()
    log("down")


def status() -> dict[str, object]:
    return {"running": is_up(), "daemons": {name: running_pid(name) for name in STARTS}}


ACTIONS: Mapping[str, Callable[[], object]] = {"up": up, "down": down, "status": status}
ONE_DAEMON: Mapping[str, Callable[[str], None]] = {
    "stop": stop,
    "start": lambda name: STARTS[name](),
    "freeze": lambda name: signal_daemon(name, signal.SIGSTOP),
    "thaw": lambda name: signal_daemon(name, signal.SIGCONT),
}


def action_of(arguments: Sequence[str]) -> Callable[[], object] | None:
    match arguments:
        case [verb] if verb in ACTIONS:
            return ACTIONS[verb]
        case [verb, name] if verb in ONE_DAEMON and name in STARTS:
            return lambda: ONE_DAEMON[verb](name)
    return None


if __name__ == "__main__":
    arguments = sys.argv[1:]
    what = action_of(arguments)
    sys.exit(command_line(arguments, what, usage=__doc__, lock=STATE / "lock", variables=WHICH))
