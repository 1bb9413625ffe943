"""Parts of the client: patience, queries, and what it can be imported with."""

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from hpcq.client.errors import Conflict, Unavailable, Unreachable
from hpcq.client.patience import Patience
from hpcq.client.questions import query_of, submission_body
from hpcq.schedulers.testing.service import INSTALLATION

CLIENT = "httpx httpx_sse msgspec httpcore h11 anyio sniffio idna certifi typing_extensions"
COMMAND_LINE = f"{CLIENT} typer rich markdown_it mdurl pygments shellingham annotated_doc click"
FORBID = """
import sys

class Forbidding:
    def find_spec(self, name, path=None, target=None):
        top, _, below = name.partition(".")
        allowed = {{*sys.stdlib_module_names, "hpcq", *"{others}".split()}}
        part = below.partition(".")[0]
        if top not in allowed or (top == "hpcq" and part not in ("", *"{parts}".split())):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Forbidding())
{code}
try:
    import pydantic
except ModuleNotFoundError:
    print("as it should be")
"""
USE_CLIENT = """
import asyncio
from hpcq.client import AsyncClient, Client
Client().close()
asyncio.run(AsyncClient().aclose())
"""
USE_COMMAND_LINE = "import hpcq.cli.main"


@pytest.mark.parametrize(
    ("code", "parts", "others"),
    [(USE_CLIENT, "client", CLIENT), (USE_COMMAND_LINE, "client cli domain", COMMAND_LINE)],
    ids=["client", "command line"],
)
def test_import_without_the_service(code: str, parts: str, others: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORBID.format(code=code, parts=parts, others=others)],
        env={"PYTHONPATH": str(INSTALLATION / "src")},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.returncode) == ("as it should be\n", 0), done.stderr


def test_patience_retry_after() -> None:
    busy = Unavailable(503, {"detail": "…", "retryAfter": 7})
    assert Patience(60).pause_after(busy) == 7
    with pytest.raises(Unavailable):
        Patience(6).pause_after(busy)


def test_patience_grows_and_ends() -> None:
    patience, cut = Patience(60), Unreachable("cut")
    assert [patience.pause_after(cut) for _ in range(6)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    with pytest.raises(Unreachable):
        Patience(0).pause_after(cut)


def test_patience_permanent_error() -> None:
    with pytest.raises(Conflict):
        Patience(60).pause_after(Conflict(409, {"detail": "…"}))


def test_query() -> None:
    since = datetime(2026, 11, 22, 12, tzinfo=UTC)
    asked = {"state": ["RUNNING", "QUEUED"], "active": True, "submitted_after": since, "name": None}
    assert query_of(asked) == {
        "state": "RUNNING,QUEUED",
        "active": "true",
        "submittedAfter": "2026-11-22T12:00:00+00:00",
    }


def test_submission_body_only_given_fields() -> None:
    body = submission_body("/s.sh", (), 2, "/w", {"wall_time_limit": 60, "queue": None})
    assert body == {
        "workingDirectory": "/w",
        "reservedSlots": 2,
        "scriptFile": "/s.sh",
        "wallTimeLimit": 60,
    }
