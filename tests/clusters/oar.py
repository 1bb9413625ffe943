#!/usr/bin/env python3
"""An OAR of one's own on this machine, for tests.

    oar.py up       start it (idempotent), print the settings of a service that uses it
    oar.py down     stop what `up` started and remove it
    oar.py status   print {"running": …} and the daemon's processes

``up`` installs Debian's OAR 2.5 packages when they are missing, makes a PostgreSQL of OAR's own
(`tests.clusters.postgres`), and starts OAR's daemon with a configuration, a state directory and a
port of its own on the loopback interface; an OAR that the machine already runs is not touched. It
waits until a job has really run. The answer is one JSON object on stdout: ``SCHEDULER`` and the
``SCHEDULER_PATH`` in which OAR's commands are found. Everything else goes to stderr.

Five things differ from a site's OAR:

- OAR's commands are setuid programs that know one configuration, ``/etc/oar/oar.conf``. Their
  copies below the state directory hold the path of ours in its place.
- The only node is this machine; where OAR calls ``ssh``, a script runs the command here.
- The account that runs the tests may submit, also as root.
- The daemon looks every second, not every ten, for jobs that are past their wall time.
- A job's bash does not begin with the account's ``~/.bashrc``, which OAR has each bash in a job
  read: one that runs a bash script itself would never come to an end.

Exit status: 0; 1 when it does not come up; 2 wrong usage; 3 when OAR cannot be installed here.

Standard library only, so that it runs before anything is installed.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.clusters import postgres
from tests.clusters.machine import (
    PATIENCE_SECONDS,
    ClusterError,
    command_line,
    install,
    log,
    make_dir,
    wait_for,
    write_file,
)

STATE = Path("/var/tmp/hpcq-test-oar")
BIN = STATE / "bin"
HOME = STATE / "home"
RUNTIME = STATE / "runtime"
LOG = STATE / "oar.log"
DATABASE = postgres.Server(STATE / "postgres", 25532)
PORT = 26666
PROGRAMS = Path("/usr/lib/oar")
TOOLS = Path("/usr/share/perl5/OAR/Tools.pm")
DAEMON = STATE / "lib"
PACKAGES = (
    "oar-server",
    "oar-server-pgsql",
    "oar-node",
    "oar-user",
    "oar-user-pgsql",
    "libjson-perl",
    *postgres.PACKAGES,
)
COMMANDS = ("oardel", "oarhold", "oarnodes", "oarresume", "oarstat", "oarsub")
ACCOUNT = "oar"
# The copies of the commands hold this path in the place of the packaged one: as many bytes.
PACKAGED_CONF = b"/etc/oar/oar.conf"
CONF = Path("/run/hpcqoar.conf")
CONFIGURATION = f"""\
DB_TYPE="Pg"
DB_HOSTNAME="127.0.0.1"
DB_PORT="{DATABASE.port}"
DB_BASE_NAME="oar"
DB_BASE_LOGIN="{postgres.ROLE}"
DB_BASE_PASSWD=""
DB_BASE_LOGIN_RO="{postgres.ROLE}"
DB_BASE_PASSWD_RO=""
SERVER_HOSTNAME="127.0.0.1"
SERVER_PORT="{PORT}"
OARSUB_DEFAULT_RESOURCES="/resource_id=1"
OARSUB_NODES_RESOURCES="network_address"
OARSUB_FORCE_JOB_KEY="no"
LOG_LEVEL="2"
LOG_CATEGORIES="all"
LOG_FILE="{LOG}"
OAREXEC_DEBUG_MODE="0"
OAR_RUNTIME_DIRECTORY="{RUNTIME}"
DEPLOY_HOSTNAME="127.0.0.1"
COSYSTEM_HOSTNAME="127.0.0.1"
DETACH_JOB_FROM_SERVER="0"
OPENSSH_CMD="{STATE}/on-this-machine"
PINGCHECKER_GENERIC_COMMAND="/bin/true"
FINAUD_FREQUENCY="0"
SCHEDULER_TIMEOUT="60"
SCHEDULER_NB_PROCESSES="1"
SCHEDULER_JOB_SECURITY_TIME="1"
SCHEDULER_MIN_TIME_BETWEEN_2_CALLS="0"
SCHEDULER_RESOURCE_ORDER="state_num ASC, resource_id ASC"
SCHEDULER_PRIORITY_HIERARCHY_ORDER="network_address/resource_id"
SCHEDULER_FAIRSHARING_MAX_JOB_PER_USER="1000"
MAX_CONCURRENT_JOBS_STARTING_OR_TERMINATING="200"
ENERGY_SAVING_INTERNAL="no"
"""
ENVIRONMENT = {
    "PATH": f"/bin:/sbin:/usr/bin:/usr/sbin:{PROGRAMS}/oardodo",
    "HOME": str(HOME),
    "LANG": "C.UTF-8",
    "SHELL": "/bin/sh",
    "USER": ACCOUNT,
    "LOGNAME": ACCOUNT,
    "OARDIR": str(DAEMON),
    "OARUSER": ACCOUNT,
    "OARDO_USER": ACCOUNT,
    "OARCONFFILE": str(CONF),
}
# What OAR calls as ``ssh OPTION… HOST COMMAND…``.
ON_THIS_MACHINE = """\
#!/bin/sh
while case $1 in -*) true ;; *) false ;; esac; do shift; done
shift
cd {home} || exit 255
exec env -i {environment} /bin/sh -c "$*"
"""
# The commands answer at once where a user's account may submit; OAR's own rule refuses root.
STATEMENTS = """\
DELETE FROM admission_rules WHERE rule LIKE '%root and oar users are not allowed%';
UPDATE queues SET scheduler_policy = 'oar_sched_gantt_with_timesharing';
INSERT INTO resources (network_address, cpuset)
    SELECT '127.0.0.1', number::text FROM generate_series(1, 64) AS number;
"""


def missing() -> list[str]:
    needed = (PROGRAMS / "Almighty", *(Path("/usr/bin") / name for name in COMMANDS))
    absent = [path.name for path in needed if not path.exists()]
    if subprocess.run(["perl", "-MJSON", "-e1"], stderr=subprocess.DEVNULL).returncode:
        absent.append("JSON.pm")
    return [*absent, *postgres.missing()]


def settings() -> dict[str, str]:
    return {"SCHEDULER": "OAR", "SCHEDULER_PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin"}


def processes() -> list[int]:
    """OAR's daemon and what it started, jobs too."""
    marks = (f"OARCONFFILE={CONF}\0".encode(), f"OAR_NODEFILE={RUNTIME}/".encode())
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # A title of its own takes the place of a process's environment.
                is_ours = (entry / "cwd").readlink() in (HOME, RUNTIME)
                environment = (entry / "environ").read_bytes()
                if is_ours or any(mark in environment for mark in marks):
                    found.append(int(entry.name))
    return found


def is_up() -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", PORT)) == 0


# --- making it ----------------------------------------------------------------------------------


def make() -> None:
    """Lay out files and database, unless that was done already."""
    write_file(CONF, CONFIGURATION, ACCOUNT, 0o600)
    if (STATE / "made").exists():
        return
    make_dir(STATE, "root", 0o755)
    for folder in (HOME, RUNTIME):
        make_dir(folder, ACCOUNT, 0o755)
    environment = " ".join(f"{name}='{value}'" for name, value in ENVIRONMENT.items())
    script = ON_THIS_MACHINE.format(home=HOME, environment=environment)
    write_file(STATE / "on-this-machine", script, "root", 0o755)
    write_file(LOG, b"", ACCOUNT, 0o644)
    copy_daemon()
    make_dir(BIN, "root", 0o755)
    for name in COMMANDS:
        copy_command(name)
    psql("postgres", "DROP DATABASE IF EXISTS oar")
    psql("postgres", "CREATE DATABASE oar ENCODING 'UTF8' TEMPLATE template0")
    for file in ("pg_structure", "default_data", "pg_default_admission_rules"):
        psql("oar", (PROGRAMS / "database" / f"{file}.sql").read_text())
    psql("oar", STATEMENTS)
    (STATE / "made").touch()


def copy_daemon() -> None:
    """Copy the daemon's programs, changed as this module's description says."""
    shutil.copytree(PROGRAMS, DAEMON, ignore=shutil.ignore_patterns("oardodo"))
    for name in ("read_commands_timeout", "villainstimeout"):
        replace_in(DAEMON / "Almighty", f"${name} = 10;", f"${name} = 1;")
    tools = DAEMON / "Tools.pm"
    shutil.copy(TOOLS, tools)
    replace_in(tools, "~oar/.batch_job_bashrc", "/dev/null")
    replace_in(DAEMON / "bipbip", f'"{TOOLS}"', f'"{tools}"')


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    if text.count(old) != 1:
        raise ClusterError(f"{path.name} holds {old} not once, as in the versions that are known")
    path.write_text(text.replace(old, new))


def copy_command(name: str) -> None:
    """Copy one of OAR's setuid programs, with our configuration's path in it."""
    program = (Path("/usr/bin") / name).read_bytes()
    ours = str(CONF).encode()
    if program.count(PACKAGED_CONF + b"\0") != 1 or len(ours) != len(PACKAGED_CONF):
        raise ClusterError(f"{name} names its configuration in another way than is known")
    path = BIN / name
    write_file(path, program.replace(PACKAGED_CONF, ours), "root", 0o755)
    shutil.chown(path, "root", ACCOUNT)
    path.chmod(0o6755)


def psql(database: str, statements: str) -> None:
    done = subprocess.run(
        [
            *("psql", "-X", "--quiet", "--set=ON_ERROR_STOP=1", "--host=127.0.0.1"),
            *(f"--port={DATABASE.port}", f"--username={postgres.ROLE}", database),
        ],
        input=statements,
        text=True,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
    )
    if done.returncode:
        raise ClusterError(f"psql exited {done.returncode}: {done.stderr.strip()}")


def launch() -> None:
    """Start the daemon and wait until it takes orders."""
    as_account = ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups"]
    subprocess.Popen(
        [*as_account, "perl", str(DAEMON / "Almighty")],
        env=ENVIRONMENT,
        cwd=HOME,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for("the start of OAR's daemon", is_up)


def command(name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(BIN / name), *arguments],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **(environment or {})},
        cwd="/",
        stdin=subprocess.DEVNULL,
        text=True,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
    )
    if done.returncode:
        raise ClusterError(f"{name} exited {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def run_a_job() -> None:
    said = command("oarsub", "-d", "/", "-O", "/dev/null", "-E", "/dev/null", "/bin/true")
    number = said.rpartition("OAR_JOB_ID=")[2].strip()
    wait_for(
        f"the end of job {number}", lambda: "Terminated" in command("oarstat", "-s", "-j", number)
    )


# --- verbs --------------------------------------------------------------------------------------


def up() -> dict[str, str]:
    install(PACKAGES, missing)
    postgres.up(DATABASE)
    make()
    if not is_up():
        launch()
        run_a_job()
        log("up")
    return settings()


def down() -> None:
    running = processes()
    for pid in running:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for("the end of OAR's daemon", lambda: not processes())
    postgres.down(DATABASE)
    shutil.rmtree(STATE, ignore_errors=True)
    CONF.unlink(missing_ok=True)
    log("down")


def status() -> dict[str, object]:
    return {"running": is_up(), "processes": processes()}


if __name__ == "__main__":
    arguments = sys.argv[1:]
    verbs = {"up": up, "down": down, "status": status}
    sys.exit(
        command_line(
            arguments,
            verbs.get(" ".join(arguments)),
            usage=__doc__,
            lock=STATE.with_suffix(".lock"),
            variables=(),
        )
    )
