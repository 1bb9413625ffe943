"""``hpcq mcp`` with the SDK's own client, over standard input and HTTP, against a live service."""

import asyncio
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp.client import Client as McpClient
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from tests.client.terminal import HPCQ, CommandLine

from hpcq.client import Client
from hpcq.schedulers.testing.jobs import Study
from hpcq.schedulers.testing.service import ROOT_PATH, Service
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, until

READS = {
    "list_jobs",
    "get_job",
    "explain_job",
    "read_output",
    "list_programs",
    "describe_cluster",
}
CHANGES = {"submit_job", "cancel_job"}
Json = dict[str, Any]


def over_stdio(
    folder: Path, variables: dict[str, str], *words: str, mode: str = "auto"
) -> McpClient:
    """A client that starts ``hpcq mcp``."""
    line = CommandLine(folder, variables)
    parameters = StdioServerParameters(
        command=HPCQ[0], args=[*HPCQ[1:], "mcp", *words], env=line.environment, cwd=folder
    )
    return McpClient(parameters, mode=mode)


async def answer(client: McpClient, tool: str, **arguments: Any) -> Json:
    """The result of a tool that must succeed."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    structured: Json = result.structured_content
    return structured


async def refusal(client: McpClient, tool: str, **arguments: Any) -> str:
    """The sentence of a tool that must fail."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error, result
    return "".join(getattr(part, "text", "") for part in result.content)


@pytest.fixture(scope="module")
def variables(service: Service) -> dict[str, str]:
    return {"HPCQ_URL": f"{service.url}{ROOT_PATH}"}


@pytest.fixture
def make_token(service: Service) -> Callable[[str, str], str]:
    """Make a token of a user with a role."""

    def make(user: str, role: str) -> str:
        done = CommandLine(service.directory, service.settings).in_pipe(
            *HPCQ, "token", "create", "--user", user, "--role", role
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return make


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_tools_over_stdio(
    mode: str, client: Client, study: Study, tmp_path: Path, variables: dict[str, str]
) -> None:
    script = study.script("echo began $*\necho trouble >&2\nexit 3\n")

    async def run() -> None:
        async with over_stdio(tmp_path, variables, "--allow-changes", mode=mode) as mcp:
            listed = (await mcp.list_tools()).tools
            assert {tool.name for tool in listed} == READS | CHANGES
            for tool in listed:
                assert tool.annotations is not None
                assert tool.annotations.read_only_hint is (tool.name in READS)
                assert tool.annotations.destructive_hint is (tool.name in CHANGES)
            asked = {
                "idempotency_key": f"one-{mode}",
                "working_directory": str(study.directory),
                "script_file": str(script),
                "args": ["a", "b c"],
                "name": f"nov-{mode}",
            }
            plan = (await answer(mcp, "submit_job", **asked, dry_run=True))["plan"]
            assert plan["argv"][-1] == "b c"
            job = (await answer(mcp, "submit_job", **asked))["job"]
            assert (await answer(mcp, "submit_job", **asked))["job"]["uid"] == job["uid"]
            client.job(job["uid"]).wait()
            shown = (await answer(mcp, "get_job", job_id=job["jobId"]))["job"]
            assert (shown["state"], shown["exitCode"], shown["args"]) == ("FAILED", 3, ["a", "b c"])
            told = await answer(mcp, "explain_job", job_id=job["uid"])
            assert (told["failureKind"], told["exitCode"]) == (shown["failureKind"], 3)
            assert told["explanation"]
            as_number = await answer(mcp, "get_job", job_id=int(job["jobId"]))
            assert as_number["job"]["uid"] == job["uid"]
            output = await answer(mcp, "read_output", job_id=job["uid"])
            assert output["text"] == "began a b c\n"
            assert "untrusted" in output["notice"]
            errors = await answer(mcp, "read_output", job_id=job["uid"], stream="stderr")
            assert errors["text"] == "trouble\n"
            found = await answer(mcp, "list_jobs", name=f"nov-{mode}")
            assert [one["uid"] for one in found["jobs"]] == [job["uid"]]
            assert found["isComplete"] is True
            assert "over" in await refusal(mcp, "cancel_job", job_id=job["uid"])
            assert (await answer(mcp, "list_programs"))["programs"] == []
            cluster = await answer(mcp, "describe_cluster")
            assert cluster["cluster"]["scheduler"] == "LOCAL"
            assert [queue["name"] for queue in cluster["queues"]] == ["local"]
            assert cluster["jobs"]["jobs"] >= 1

    asyncio.run(run())


def test_cancel(
    client: Client, study: Study, tmp_path: Path, variables: dict[str, str], waiting_script: str
) -> None:
    job = client.submit(waiting_script, working_directory=study.directory)

    async def run() -> None:
        async with over_stdio(tmp_path, variables, "--allow-changes") as mcp:
            await answer(mcp, "cancel_job", job_id=job.uid)

    asyncio.run(run())
    assert job.wait().failure_kind == "CANCELLED"


def test_changes_disabled_by_default(
    client: Client, study: Study, tmp_path: Path, variables: dict[str, str]
) -> None:
    async def run() -> None:
        async with over_stdio(tmp_path, variables) as mcp:
            assert {tool.name for tool in (await mcp.list_tools()).tools} == READS
            said = await refusal(
                mcp,
                "submit_job",
                idempotency_key="two",
                working_directory=str(study.directory),
                script="#!/bin/sh\n",
            )
            assert "submit_job" in said
            assert "cancel_job" in await refusal(mcp, "cancel_job", job_id="1")

    asyncio.run(run())
    assert list(client.jobs(working_directory=str(study.directory))) == []


def test_output_hostile_and_long(
    client: Client, study: Study, tmp_path: Path, variables: dict[str, str]
) -> None:
    script = study.script(
        "head -c 100000000 /dev/zero | tr '\\0' x\n"
        "printf '\\n\\033[2J\\302\\233\\342\\200\\256\\363\\240\\201\\201\\377 '\n"
        "printf 'end\\r\\n\\ttab\\n'\n"
    )
    job = client.submit(script, working_directory=study.directory, name="a\u202eb").wait()

    async def run() -> None:
        async with over_stdio(tmp_path, variables) as mcp:
            output = await answer(mcp, "read_output", job_id=job.uid, max_bytes=50)
            assert output["text"].endswith("x\n\ufffd[2J\ufffd\ufffd\ufffd\ufffd end\n\ttab\n")
            assert output["end"] == output["total"] == output["begin"] + 50
            first = await answer(mcp, "read_output", job_id=job.uid, begin=0, max_bytes=4)
            assert (first["text"], first["begin"], first["end"]) == ("xxxx", 0, 4)
            behind = await refusal(mcp, "read_output", job_id=job.uid, begin=output["total"])
            assert "behind the end" in behind
            none = await answer(mcp, "read_output", job_id=job.uid, stream="stderr")
            assert (none["text"], none["total"]) == ("", 0)
            assert (await answer(mcp, "get_job", job_id=job.uid))["job"]["name"] == "a\ufffdb"

    asyncio.run(run())


def test_error_messages_from_service(tmp_path: Path, variables: dict[str, str]) -> None:
    async def run() -> None:
        async with over_stdio(tmp_path, variables, "--allow-changes") as mcp:
            assert "99999999" in await refusal(mcp, "get_job", job_id="99999999")
            nowhere = {"idempotency_key": "three", "working_directory": "/nowhere"}
            assert "/nowhere" in await refusal(mcp, "submit_job", **nowhere, script="#!/bin/sh\n")
            relative = {"idempotency_key": "four", "working_directory": "here"}
            said = await refusal(mcp, "submit_job", **relative, script="#!/bin/sh\n")
            assert "working_directory" in said
            foreign = {"idempotency_key": "é", "working_directory": "/tmp"}
            said = await refusal(mcp, "submit_job", **foreign, script="#!/bin/sh\n")
            assert "printable ASCII" in said
            assert "limit" in await refusal(mcp, "list_jobs", limit=0)
            # A misspelt argument is none that may be left out.
            assert "directory" in await refusal(mcp, "list_jobs", directory="/tmp")

    asyncio.run(run())


def test_roles_and_audit(
    service: Service,
    study: Study,
    tmp_path: Path,
    variables: dict[str, str],
    make_token: Callable[[str, str], str],
) -> None:
    asked = {"working_directory": str(study.directory), "script": "#!/bin/sh\n"}

    async def submit(token: str, key: str, ask: Callable[..., Awaitable[Any]]) -> Any:
        named = {**variables, "HPCQ_TOKEN": token}
        async with over_stdio(tmp_path, named, "--allow-changes") as mcp:
            await answer(mcp, "list_jobs")
            return await ask(mcp, "submit_job", idempotency_key=key, **asked)

    said = asyncio.run(submit(make_token("vera", "viewer"), "five", refusal))
    assert "viewer" in said
    job = asyncio.run(submit(make_token("ana", "user"), "six", answer))["job"]
    assert job["submittedBy"] == "ana"
    audited = until(lambda: lines_about(service, job["jobId"]))
    assert [(line["user"], line["action"]) for line in audited] == [("ana", "submitJob")]


def lines_about(service: Service, job_id: str) -> list[Json]:
    """The lines of the audit log about a job."""
    text = (service.state_directory / "audit.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return [line for line in lines if line["job"] == job_id]


@pytest.fixture(scope="module")
def http_url(tmp_path_factory: pytest.TempPathFactory, variables: dict[str, str]) -> Iterator[str]:
    """The address of a ``hpcq mcp --port`` whose own rights are those of an operator."""
    with serving(tmp_path_factory.mktemp("mcp"), variables) as url:
        yield url


@contextmanager
def serving(folder: Path, variables: dict[str, str]) -> Iterator[str]:
    """Run ``hpcq mcp --port`` on a free port; its address."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    words = [*HPCQ, "mcp", "--allow-changes", "--port", str(port), "--name", "mcp.example"]
    environment = CommandLine(folder, variables).environment
    process = subprocess.Popen(words, cwd=folder, env=environment, stderr=subprocess.PIPE)
    try:

        def listens() -> bool:
            assert process.poll() is None, process.communicate()
            with socket.socket() as one:
                return one.connect_ex(("127.0.0.1", port)) == 0

        until(listens)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        _, complaints = process.communicate()
        assert b"Traceback" not in complaints, complaints.decode()


@asynccontextmanager
async def over_http(url: str, token: str, mode: str = "auto") -> AsyncIterator[McpClient]:
    """A client that shows a token."""
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False) as http,
        McpClient(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_http_rights_of_caller(
    mode: str, service: Service, study: Study, http_url: str, make_token: Callable[[str, str], str]
) -> None:
    asked = {"working_directory": str(study.directory), "script": "#!/bin/sh\n"}

    async def run() -> None:
        async with over_http(http_url, make_token("vera", "viewer"), mode) as viewer:
            assert {tool.name for tool in (await viewer.list_tools()).tools} == READS | CHANGES
            await answer(viewer, "list_jobs")
            said = await refusal(viewer, "submit_job", idempotency_key=f"7-{mode}", **asked)
            assert "viewer" in said
        async with over_http(http_url, make_token("ana", "user"), mode) as user:
            job = (await answer(user, "submit_job", idempotency_key=f"8-{mode}", **asked))["job"]
            assert job["submittedBy"] == "ana"

    asyncio.run(run())


LIST_TOOLS = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
SUBMIT = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {
        "name": "submit_job",
        "arguments": {
            "idempotency_key": "stranger",
            "working_directory": "/tmp",
            "script": "#!/bin/sh\n",
        },
    },
}


@pytest.mark.parametrize("message", [LIST_TOOLS, SUBMIT], ids=["list", "submit"])
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Basic cm9vdDo=",
        "Bearer hpcq_wrong_wrong",
        "Bearer e.y.J",
        "Bearer são",
    ],
)
def test_http_without_valid_token(
    authorization: str | None, message: Json, client: Client, http_url: str
) -> None:
    before = client.summary().jobs
    headers = [(b"Accept", b"application/json, text/event-stream")]
    if authorization is not None:
        headers.append((b"Authorization", authorization.encode()))
    with httpx.Client(trust_env=False, timeout=PATIENCE_SECONDS) as stranger:
        said = stranger.post(http_url, json=message, headers=headers)
    assert (said.status_code, said.headers["www-authenticate"]) == (401, "Bearer")
    assert said.json().keys() == {"jsonrpc", "id", "error"}
    assert client.summary().jobs == before


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "mcp.example"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1:80@evil.example"}, 421),
        ({"Host": "127.0.0.1:x.evil.example"}, 421),
        ({"Host": "[::1]:80"}, 200),
        ({"Origin": "http://evil.example"}, 403),
    ],
)
def test_http_from_web_page(
    headers: dict[str, str], status: int, http_url: str, make_token: Callable[[str, str], str]
) -> None:
    headers = {
        "Accept": "application/json, text/event-stream",
        "Authorization": f"Bearer {make_token('vera', 'viewer')}",
        **headers,
    }
    with httpx.Client(trust_env=False, timeout=PATIENCE_SECONDS) as browser:
        said = browser.post(http_url, json=LIST_TOOLS, headers=headers)
    assert said.status_code == status, said.text


def test_service_restarted(tmp_path: Path, study: Study, unused_settings: dict[str, str]) -> None:
    with Service(tmp_path / "service", unused_settings) as service:
        variables = {"HPCQ_URL": service.url}

        async def run() -> None:
            async with over_stdio(tmp_path, variables) as mcp, over_http(url, token) as web:
                await answer(mcp, "list_jobs")
                await answer(web, "list_jobs")
                service.stop()
                assert "cannot be reached" in await refusal(mcp, "list_jobs")
                with pytest.raises(MCPError, match="cannot be reached"):
                    await web.call_tool("list_jobs", {})
                service.start()
                await answer(mcp, "list_jobs")
                await answer(web, "list_jobs")

        token = (service.state_directory / "operator.token").read_text().strip()
        with serving(tmp_path, variables) as url:
            asyncio.run(run())


@pytest.fixture
def unused_settings() -> dict[str, str]:
    """Settings of a service that listens on the same port after each start."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return {"SCHEDULER": "LOCAL", "PORT": str(one.getsockname()[1])}


def test_http_with_auth_none(tmp_path: Path) -> None:
    with Service(tmp_path / "service", {"SCHEDULER": "LOCAL", "AUTH": "none"}) as service:
        line = CommandLine(tmp_path, {"HPCQ_URL": service.url})
        done = line.in_pipe(*HPCQ, "mcp", "--port", "5050")
        assert (done.returncode, done.stdout) == (2, "")
        assert "AUTH=none" in done.stderr
    done = line.in_pipe(*HPCQ, "mcp", "--port", "5050")
    assert (done.returncode, done.stdout) == (3, "")
    assert "cannot be reached" in done.stderr


def test_port_taken(service: Service, tmp_path: Path, variables: dict[str, str]) -> None:
    done = CommandLine(tmp_path, variables).in_pipe(*HPCQ, "mcp", "--port", str(service.port))
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be listened on: Address already in use" in done.stderr
    assert done.stderr.count("\n") == 1


def test_wrong_token(tmp_path: Path, variables: dict[str, str]) -> None:
    async def run() -> None:
        async with over_stdio(tmp_path, {**variables, "HPCQ_TOKEN": "hpcq_wrong_wrong"}) as mcp:
            assert "token" in await refusal(mcp, "list_jobs")

    asyncio.run(run())


@pytest.mark.parametrize("words", [["--host", "::1"], ["--name", "mcp.example"]])
def test_http_options_without_port(words: list[str], tmp_path: Path) -> None:
    done = CommandLine(tmp_path).done("mcp", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "need --port" in done.stderr


def test_package_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcq.cli.mcp.find_spec", lambda name: None)
    done = CommandLine(tmp_path).done("mcp")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "pip install 'hpc-queue-api[mcp]'" in done.stderr
    assert done.stderr.count("\n") == 1
