"""A PostgreSQL server of one's own on this machine, for tests and benchmarks.

    python tests/clusters/postgres.py up          start it (idempotent), print the settings
    python tests/clusters/postgres.py down        stop it, remove it with all its databases
    python tests/clusters/postgres.py down all    the same for every instance that there is
    python tests/clusters/postgres.py status      print {"running": …} and the processes' ids
    python tests/clusters/postgres.py stop fast|immediate
                                                  end it; immediate is its crash: connections are
                                                  cut, and the next start recovers from its log
    python tests/clusters/postgres.py start       start it again, print the settings

`up` prints one JSON object on stdout: the settings with which a service uses this server
(`DATABASE_URL`). Everything else goes to stderr. Data, configuration, socket and port are the
server's own, the port is open on the loopback interface alone; a PostgreSQL that the machine
already runs is not touched. The account in the URL may make databases, and is no superuser.

``HPCQ_TEST_POSTGRES_INSTANCE=N`` selects one of several servers (0 by default), for what stops it
and has to be alone with its own.

Exit status: 0; 1 when the server does not come up; 2 wrong usage; 3 when PostgreSQL cannot be
installed here.

Standard library only, so that it runs before anything is installed.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
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

WHICH = "HPCQ_TEST_POSTGRES_INSTANCE"
# A fixed place lets `down` find what `up` made.
STATE = Path("/var/tmp/hpcq-test-postgres")
LOCK = STATE.with_suffix(".lock")
FIRST_PORT = 25432
PACKAGES = ("postgresql",)
PROGRAMS = ("initdb", "pg_ctl", "pg_isready", "postgres", "psql")
# Debian's package makes this account; the server refuses to run as root.
ACCOUNT = "postgres"
ROLE = "hpcq"

# Words in a language's order, and a time zone that is not UTC, as where users are: what relies on
# the order of bytes or on naive times shows.
INITDB = (
    f"--username={ACCOUNT}",
    "--auth=peer",
    "--encoding=UTF8",
    "--locale=C.UTF-8",
    "--locale-provider=icu",
    "--icu-locale=en-US",
)
POSTGRESQL_CONF = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{socket}'
max_connections = 200
fsync = on
synchronous_commit = on
full_page_writes = on
timezone = 'America/Sao_Paulo'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %d '
"""
PG_HBA_CONF = f"""\
local  all  {ACCOUNT}                peer
host   all  {ROLE}      127.0.0.1/32  trust
"""


@dataclass(frozen=True)
class Server:
    """One server; it need not exist."""

    state: Path
    port: int

    @property
    def data(self) -> Path:
        return self.state / "data"

    @property
    def socket(self) -> Path:
        return self.state / "socket"

    @property
    def log(self) -> Path:
        return self.state / "log" / "postgresql.log"

    @property
    def made_by(self) -> Path:
        """Says which programs made the data; absent when they did not come to the end."""
        return self.state / "made-by"

    def settings(self) -> dict[str, str]:
        return {"DATABASE_URL": f"postgresql://{ROLE}@127.0.0.1:{self.port}/postgres"}

    def processes(self) -> list[int]:
        """The server's processes, and the programs that make or start it: those that work in its
        data directory."""
        return sorted(
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and works_in(entry, self.data)
        )


def works_in(process: Path, folder: Path) -> bool:
    try:
        return (process / "cwd").readlink() == folder
    except OSError:
        return False


def selected() -> Server:
    instance = int(os.environ.get(WHICH, "0"))
    state = STATE.with_name(f"{STATE.name}-{instance}") if instance else STATE
    return Server(state, FIRST_PORT + instance)


# --- programs -----------------------------------------------------------------------------------


def programs() -> Path | None:
    """The folder of the newest complete installation; Debian keeps one for each version."""
    folders = [Path(f"/usr/lib/postgresql/{version}/bin") for version in versions()]
    complete = (f for f in folders if all((f / name).exists() for name in PROGRAMS))
    return next(complete, None)


def versions() -> list[int]:
    names = [path.name for path in Path("/usr/lib/postgresql").glob("[0-9]*")]
    return sorted((int(name) for name in names if name.isdigit()), reverse=True)


def missing() -> tuple[str, ...]:
    return () if programs() else PACKAGES


def run(folder: Path, name: str, *arguments: str, check: bool = True) -> bool:
    """Run one of PostgreSQL's programs as its account in a folder; whether it succeeded."""
    account = pwd.getpwnam(ACCOUNT)
    done = subprocess.run(
        [str(newest() / name), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": account.pw_dir},
        cwd=folder,
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    if check and done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise ClusterError(f"{name} exited {done.returncode}: {said}")
    return done.returncode == 0


def newest() -> Path:
    found = programs()
    if found is None:
        raise ClusterError("PostgreSQL is not installed; `up` installs it")
    return found


# --- the server ---------------------------------------------------------------------------------


def make(server: Server) -> None:
    """Create the data, unless these programs did so already."""
    if server.made_by.exists() and server.made_by.read_text() == str(newest()):
        return
    end(server, signal.SIGQUIT)
    shutil.rmtree(server.state, ignore_errors=True)
    make_dir(server.state, ACCOUNT, 0o755)
    for folder in (server.data, server.socket, server.log.parent):
        make_dir(folder, ACCOUNT, 0o700)
    run(server.data, "initdb", *INITDB, f"--pgdata={server.data}")
    conf = POSTGRESQL_CONF.format(port=server.port, socket=server.socket)
    write_file(server.data / "postgresql.conf", conf, ACCOUNT, 0o600)
    write_file(server.data / "pg_hba.conf", PG_HBA_CONF, ACCOUNT, 0o600)
    launch(server)
    statement = f"CREATE ROLE {ROLE} LOGIN CREATEDB"
    run(server.data, "psql", "-X", *place(server), f"--command={statement}", "postgres")
    write_file(server.made_by, str(newest()), ACCOUNT, 0o644)


def place(server: Server) -> tuple[str, ...]:
    """The options for its programs: the socket, for another server may have the port."""
    return f"--host={server.socket}", f"--port={server.port}"


def is_up(server: Server) -> bool:
    made = programs() is not None and server.made_by.exists()
    return made and run(server.data, "pg_isready", *place(server), check=False)


def launch(server: Server) -> None:
    """Start the server and wait until it takes connections."""
    end(server, signal.SIGQUIT)
    # The number in them may be another process's by now, and the server would not start.
    for stale in (server.data / "postmaster.pid", *server.socket.glob(".s.PGSQL.*.lock")):
        stale.unlink(missing_ok=True)
    options = ("--wait", "--silent", f"--pgdata={server.data}", f"--log={server.log}")
    try:
        run(server.data, "pg_ctl", "start", *options)
    except ClusterError as error:
        told = server.log.read_text(errors="replace")[-2000:] if server.log.exists() else ""
        raise ClusterError(f"{error}\n{told}") from None


def end(server: Server, number: signal.Signals) -> None:
    """Send the first process a signal, and wait until all are gone."""
    running = server.processes()
    first = first_process(server)
    if first in running:
        os.kill(first, number)
    else:
        # What an `up` left that was killed itself, or a server whose first process was.
        for pid in running:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    wait_for("the end of the server", lambda: not server.processes())


def first_process(server: Server) -> int:
    """The id that the server noted, whose process may be gone; 0 for none."""
    try:
        return int((server.data / "postmaster.pid").read_text().split()[0])
    except (OSError, IndexError, ValueError):
        return 0


# --- verbs --------------------------------------------------------------------------------------


def up(server: Server) -> dict[str, str]:
    install(PACKAGES, missing)
    if not is_up(server):
        make(server)
        start(server)
        log("up")
    return server.settings()


def start(server: Server) -> dict[str, str]:
    if not server.made_by.exists():
        raise ClusterError("there is no server to start; `up` makes it")
    if not is_up(server):
        launch(server)
    return server.settings()


def down(server: Server) -> None:
    end(server, signal.SIGQUIT)
    shutil.rmtree(server.state, ignore_errors=True)
    log(f"down: {server.state.name}")


def down_all() -> None:
    for state in STATE.parent.glob(f"{STATE.name}*/"):
        down(Server(state, 0))


def status(server: Server) -> dict[str, object]:
    return {"running": is_up(server), "processes": server.processes()}


def action_of(arguments: Sequence[str]) -> Callable[[], object] | None:
    server = selected()
    match arguments:
        case ["up"]:
            return lambda: up(server)
        case ["down"]:
            return lambda: down(server)
        case ["down", "all"]:
            return down_all
        case ["status"]:
            return lambda: status(server)
        case ["stop", "fast"]:
            return lambda: end(server, signal.SIGINT)
        case ["stop", "immediate"]:
            return lambda: end(server, signal.SIGQUIT)
        case ["start"]:
            return lambda: start(server)
    return None


if __name__ == "__main__":
    arguments = sys.argv[1:]
    what = action_of(arguments)
    sys.exit(command_line(arguments, what, usage=__doc__, lock=LOCK, variables=[WHICH]))
