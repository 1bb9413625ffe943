"""Canaille, a real OpenID Connect provider, on this machine.

    python tests/clusters/oidc.py up        start it (idempotent), print what a client needs
    python tests/clusters/oidc.py rotate    sign with a new key from now on; the old one stays known
    python tests/clusters/oidc.py stop      end it, as an outage does; `up` starts it again
    python tests/clusters/oidc.py client ID URL
                                            have a client for the login of browsers, sent to URL
    python tests/clusters/oidc.py down      end it and remove it with its users and keys

`up` prints one JSON object: ``issuer``. The users are ana (in the group planners), rui (guests) and
eva (in none), each with the password ``secret-of-NAME``; the clients ``hpc-queue`` and ``other``,
with the secret ``secret``, get tokens for themselves (RFC 6749, 4.3) that name them as audience.

Exit status: 0; 1 when it does not come up; 2 wrong usage; 3 when it cannot be installed here.
Standard library only, so that it runs before anything is installed.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.clusters.machine import CannotInstall, command_line, log, wait_for

# A fixed place lets `down` find what `up` made.
STATE = Path("/var/tmp/hpcq-test-oidc")
LOCK = STATE.with_suffix(".lock")
VENV = STATE / "venv"
LOCKED = Path(__file__).with_name("oidc-requirements.txt")
PORT = 25480
ISSUER = f"http://127.0.0.1:{PORT}"

CONFIGURATION = """\
SECRET_KEY = "of a provider for tests"
SERVER_NAME = "127.0.0.1:{port}"
PREFERRED_URL_SCHEME = "http"
[CANAILLE]
DATABASE = "sql"
[CANAILLE_SQL]
DATABASE_URI = "sqlite:///{state}/provider.db"
"""

CONTENT = """
from canaille import create_app
from canaille.app import models
from canaille.backends import Backend

app = create_app()
with app.app_context(), Backend.instance.session():
    def add(kind, **fields):
        made = kind(**fields)
        Backend.instance.save(made)
        return made

    users = {
        name: add(
            models.User, user_name=name, display_name=name, family_name=name,
            password=f"secret-of-{name}", emails=[f"{name}@example.org"],
        )
        for name in ("ana", "rui", "eva")
    }
    add(models.Group, display_name="planners", members=[users["ana"]])
    add(models.Group, display_name="guests", members=[users["rui"]])
    for name in ("hpc-queue", "other"):
        client = add(
            models.Client, client_id=name, client_secret="secret", client_name=name,
            client_uri="http://127.0.0.1", redirect_uris=["http://127.0.0.1/callback"],
            grant_types=["password"], response_types=["code"],
            scope=["openid", "profile", "groups"],
            token_endpoint_auth_method="client_secret_basic",
            id_token_signed_response_alg="RS256",
        )
        client.audience = [client]
        Backend.instance.save(client)
"""


BROWSERS = """
import sys
from canaille import create_app
from canaille.app import models
from canaille.backends import Backend

app = create_app()
with app.app_context(), Backend.instance.session():
    _, name, url = sys.argv
    client = Backend.instance.get(models.Client, client_id=name) or models.Client(client_id=name)
    client.client_secret = "secret"
    client.client_name = name
    client.client_uri = "http://127.0.0.1"
    client.redirect_uris = [url]
    client.grant_types = ["authorization_code"]
    client.response_types = ["code"]
    client.scope = ["openid", "profile", "groups"]
    client.token_endpoint_auth_method = "client_secret_basic"
    client.id_token_signed_response_alg = "RS256"
    Backend.instance.save(client)
    client.audience = [client]
    Backend.instance.save(client)
"""


def up() -> dict[str, str]:
    """Install, fill and start it, as far as that was not done."""
    if not (VENV / "installed").exists():
        install()
    if not (STATE / "filled").exists():
        fill()
    if not answers():
        start()
    return {"issuer": ISSUER}


def install() -> None:
    """Install it into an environment of its own: its libraries are no concern of the service's."""
    shutil.rmtree(STATE, ignore_errors=True)
    STATE.mkdir(mode=0o700)
    log("installing Canaille")
    for command in (
        [sys.executable, "-m", "venv", str(VENV)],
        [str(VENV / "bin" / "pip"), "install", "--quiet", "--require-hashes", "-r", str(LOCKED)],
    ):
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
            raise CannotInstall("Canaille cannot be installed")
    (VENV / "installed").touch()


def fill() -> None:
    """Make its configuration, its first key, and its users and clients."""
    for old in STATE.glob("provider.db*"):
        old.unlink()
    (STATE / "keys.json").write_text("[]")
    configure()
    run("canaille", "install")
    run("python", "-c", CONTENT)
    (STATE / "filled").touch()


def configure() -> None:
    """Write the configuration, with a new key before those that there are."""
    keys = json.loads((STATE / "keys.json").read_text())
    # Made without the configuration, which it needs none of.
    keys.insert(0, json.loads(run("canaille", "jwk", "create", "rsa", configured=False)))
    (STATE / "keys.json").write_text(json.dumps(keys))
    parts = [CONFIGURATION.format(port=PORT, state=STATE)]
    for number, key in enumerate(keys):
        parts.append(f"[[CANAILLE_OIDC.{'INACTIVE' if number else 'ACTIVE'}_JWKS]]\n")
        parts += [f'{name} = "{value}"\n' for name, value in key.items()]
    (STATE / "config.toml").write_text("".join(parts))


def start() -> None:
    """Start it and wait until it answers."""
    with open(STATE / "log", "ab") as output:
        process = subprocess.Popen(
            [VENV / "bin" / "canaille", "run", "--bind", f"127.0.0.1:{PORT}"],
            env=environment(),
            cwd=STATE,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    (STATE / "pid").write_text(str(process.pid))
    wait_for("the start of the provider", lambda: answers() or process.poll() is not None)
    if not answers():
        raise OSError(f"the provider ended: {(STATE / 'log').read_text()[-2000:]}")


def answers() -> bool:
    """Return whether it serves."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
    with suppress(OSError, http.client.HTTPException), closing(connection):
        connection.request("GET", "/.well-known/openid-configuration")
        return bool(json.load(connection.getresponse())["issuer"] == ISSUER)
    return False


def stop() -> None:
    """End it with all of its processes."""
    with suppress(FileNotFoundError):
        pid = int((STATE / "pid").read_text())
        if str(VENV).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.killpg(pid, signal.SIGKILL)
        (STATE / "pid").unlink()
    wait_for("the end of the provider", lambda: not answers())


def client(name: str, url: str) -> None:
    """Have a client that may lead browsers back to an address."""
    run("python", "-c", BROWSERS, name, url)


def rotate() -> None:
    """Sign with a new key from now on."""
    stop()
    configure()
    start()


def down() -> None:
    """End it and remove all but what was installed."""
    stop()
    for path in STATE.iterdir() if STATE.exists() else ():
        if path != VENV:
            path.unlink()


def run(program: str, *arguments: str, configured: bool = True) -> str:
    """Run one of its commands and return what it printed.

    Raises:
        OSError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [VENV / "bin" / program, *arguments],
            env=environment() if configured else {"PATH": os.environ["PATH"]},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise OSError(f"{program} failed: {done.stderr[-2000:]}")
    return done.stdout


def environment() -> dict[str, str]:
    """Return the variables that it runs with."""
    return {"PATH": os.environ["PATH"], "CANAILLE_CONFIG": str(STATE / "config.toml")}


if __name__ == "__main__":
    arguments = sys.argv[1:]
    verbs: dict[str, Callable[[], object]] = {
        "up": up,
        "rotate": rotate,
        "stop": stop,
        "down": down,
    }
    action = verbs.get(arguments[0]) if len(arguments) == 1 else None
    if len(arguments) == 3 and arguments[0] == "client":
        action = partial(client, *arguments[1:])
    sys.exit(command_line(arguments, action, usage=__doc__, lock=LOCK, variables=()))
