"""Output and files over HTTP: ranges, tails, followers, and who may read them."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.unit.api.conftest import App, running

from hpcq.api import streamed_answers
from hpcq.domain.errors import NotAuthenticated
from hpcq.domain.jobs import NativeId
from hpcq.schedulers.testing.waiting import eventually
from hpcq.services.output import followers

pytestmark = pytest.mark.anyio


@dataclass
class Follower:
    """A client that follows a job's output: the events that it got."""

    texts: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=dict)
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def take(self, event: str) -> None:
        fields = dict(line.split(": ", 1) for line in event.split("\n") if not line.startswith(":"))
        if "id" in fields:
            self.ids.append(int(fields["id"]))
        kind = fields.get("event", "message")
        data = json.loads(fields.get("data", "{}"))
        if kind == "message":
            self.texts.append(data.get("text", ""))
        else:
            self.kinds.append(kind)
        if kind == "end":
            self.end = data


@dataclass
class Run:
    """A job of a service over a scheduler in memory, and the file that it writes."""

    app: App
    job_id: NativeId
    folder: Path
    out: Path

    @property
    def url(self) -> str:
        return f"/jobs/{self.job_id}/output"

    async def get(self, query: str = "", **headers: str) -> Any:
        return await self.app.client.get(self.url + query, headers=headers)

    def follow(self, query: str = "", **headers: str) -> tuple[Follower, asyncio.Task[None]]:
        follower = Follower()
        return follower, asyncio.create_task(self._followed(follower, query, headers))

    async def _followed(self, follower: Follower, query: str, headers: dict[str, str]) -> None:
        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                follower.status = message["status"]
            elif follower.status == 200:
                for event in message["body"].decode().split("\n\n")[:-1]:
                    follower.take(event)

        await self.app.stream(f"{self.url}?follow=true{query}", headers, send)

    async def end(self) -> None:
        self.app.scheduler.end(self.job_id)

        async def is_over() -> bool:
            job = (await self.app.client.get(f"/jobs/{self.job_id}")).json()
            return bool(job["state"] == "DONE")

        await eventually(is_over)


async def _run(app: App, **fields: Any) -> Run:
    answer = await app.client.post("/jobs", json=app.body | {"name": "run"} | fields)
    assert answer.status_code == 201, answer.text
    job_id = NativeId(answer.json()["jobId"])
    app.scheduler.run(job_id)

    async def runs() -> bool:
        return bool((await app.client.get(f"/jobs/{job_id}")).json()["state"] == "RUNNING")

    await eventually(runs)
    folder = Path(app.body["workingDirectory"])
    return Run(app, job_id, folder, folder / f"run.o{job_id}")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followers, "_SHORTEST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(followers, "_LONGEST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(followers, "_SAME_FILE_SECONDS", 0.05)
    monkeypatch.setattr(followers, "_LATE_OUTPUT_SECONDS", 0.2)
    monkeypatch.setattr(followers, "_QUIET_SECONDS", 0.1)


@pytest.fixture
async def run(plugin: None, tmp_path: Path) -> AsyncIterator[Run]:
    async with running(tmp_path, job_files="on") as app:
        yield await _run(app)


async def _until(reached: Callable[[], object]) -> None:
    async def look() -> object:
        return reached()

    await eventually(look)


@pytest.mark.parametrize(
    ("asked", "status", "body", "part"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-30", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=5-2", 200, b"0123456789", None),
        ("bytes=0-1,4-5", 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
    ],
)
async def test_output_range(
    run: Run, asked: str, status: int, body: bytes | None, part: str | None
) -> None:
    run.out.write_bytes(b"0123456789")
    answer = await run.get(Range=asked)
    assert answer.status_code == status, answer.text
    assert answer.headers.get("content-range") == part
    if body is None:
        assert answer.json()["code"] == "range_not_satisfiable"
    else:
        assert answer.content == body
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["content-length"] == str(len(body))


async def test_output_verbatim_and_head_length(run: Run) -> None:
    content = bytes(range(256)) * 4000
    run.out.write_bytes(content)
    answer = await run.get()
    assert (answer.status_code, answer.content) == (200, content)
    head = await run.app.client.head(run.url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(content))
    whole = await run.get(Range="bytes=0-1", **{"If-Range": '"1"'})
    assert whole.status_code == 200


@pytest.mark.parametrize("lines", [1, 2, 3, 5])
async def test_tail_last_lines(run: Run, lines: int) -> None:
    for end in ("", "\n"):
        run.out.write_text("one\ntwo\nthree\nfour" + end)
        expected = "\n".join(["one", "two", "three", "four"][-lines:]) + end
        assert (await run.get(f"?tail={lines}")).text == expected


async def test_tail_large_file_single_line(run: Run) -> None:
    with run.out.open("wb") as file:
        file.truncate(10 * 2**30)
    answer = await run.get("?tail=5")
    assert len(answer.content) == 4 * 2**20


async def test_tail_many_blocks(run: Run) -> None:
    text = "".join(f"line {number}\n" for number in range(100_000))
    run.out.write_text(text)
    answer = await run.get("?tail=50000")
    assert answer.text == "".join(f"line {number}\n" for number in range(50_000, 100_000))


async def test_output_missing(run: Run) -> None:
    answer = await run.get()
    assert (answer.status_code, answer.json()["code"]) == (404, "no_such_file")
    assert (await run.get("?stream=stdlog")).status_code == 422
    kept = await _run(run.app, stdoutPath="/dev/null")
    assert "not kept" in (await kept.get()).json()["detail"]
    array = await _run(run.app, array={"first": 1, "last": 2})
    assert "each of its tasks" in (await array.get()).json()["detail"]
    assert (await run.app.client.get("/jobs/999/output")).json()["code"] == "job_not_found"


async def test_output_job_never_started(run: Run) -> None:
    there = run.folder / "precious"
    there.write_text("secret")
    body = run.app.body | {"hold": True, "stdoutPath": str(there)}
    job_id = (await run.app.client.post("/jobs", json=body)).json()["jobId"]
    for _ in range(2):
        answer = await run.app.client.get(f"/jobs/{job_id}/output")
        assert (answer.status_code, "secret" in answer.text) == (404, False)
        await run.app.client.delete(f"/jobs/{job_id}")
        await run.app.asked_again()


async def test_follow_late_creation_growth_end(run: Run) -> None:
    follower, task = run.follow()
    await asyncio.sleep(0.05)
    run.out.write_bytes("on\u00e9".encode())
    await _until(lambda: follower.text == "on\u00e9")
    with run.out.open("ab") as file:
        file.write(b"\xc3")
        file.flush()
        await asyncio.sleep(0.05)
        file.write(b"\xa9 \xff\n")
    await _until(lambda: follower.text.endswith("\n"))
    await run.end()
    await task
    assert follower.text == "on\u00e9\u00e9 \ufffd\n"
    assert follower.kinds == ["end"]
    assert follower.end == {"state": "DONE", "detail": None}
    assert follower.ids[-1] == run.out.stat().st_size
    again, task = run.follow(**{"Last-Event-ID": "4"})
    await task
    assert again.text == "\u00e9 \ufffd\n"


async def test_follow_from_tail(run: Run) -> None:
    run.out.write_text("one\ntwo\nthree\n")
    follower, task = run.follow("&tail=1")
    await _until(lambda: follower.text)
    await run.end()
    await task
    assert follower.text == "three\n"


async def test_follow_truncated_file(run: Run) -> None:
    run.out.write_text("a long line\n")
    follower, task = run.follow()
    await _until(lambda: follower.text)
    run.out.write_text("short\n")
    await _until(lambda: "short" in follower.text)
    await run.end()
    await task
    assert (follower.text, follower.kinds) == ("a long line\nshort\n", ["restart", "end"])


async def test_follow_rotated_file(run: Run) -> None:
    run.out.write_text("first\n")
    follower, task = run.follow()
    await _until(lambda: follower.text)
    run.out.rename(run.folder / "old")
    with (run.folder / "old").open("a") as old:
        old.write("last of the old\n")
    run.out.write_text("new\n")
    await _until(lambda: "new" in follower.text)
    await run.end()
    await task
    assert follower.text == "first\nlast of the old\nnew\n"
    assert follower.kinds == ["restart", "end"]


async def test_follow_job_without_output(run: Run) -> None:
    follower, task = run.follow()
    await run.end()
    await task
    assert follower.kinds == ["end"]
    assert "no such file" in follower.end["detail"]


async def test_follow_readers_share_file_checks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.out.write_text("x\n")
    opened = []
    open_output = type(run.app.context.job_files).open_output

    async def counted(self: Any, *arguments: Any) -> Any:
        opened.append(1)
        return await open_output(self, *arguments)

    monkeypatch.setattr(type(run.app.context.job_files), "open_output", counted)
    monkeypatch.setattr(followers, "_SAME_FILE_SECONDS", 1e9)
    many = [run.follow() for _ in range(40)]
    await _until(lambda: all(follower.text for follower, _ in many))
    assert len(opened) == 1
    assert run.app.context.output_readers.count == 40
    await run.end()
    await asyncio.gather(*(task for _, task in many))
    assert all(follower.text == "x\n" for follower, _ in many)
    assert run.app.context.output_readers.count == 0


async def test_follow_readers_limit(plugin: None, tmp_path: Path) -> None:
    async with running(tmp_path, max_output_readers=4) as app:
        run = await _run(app)
        run.out.write_text("x\n")
        many = [run.follow() for _ in range(4)]
        await _until(lambda: all(follower.text for follower, _ in many))
        for query in ("", "?follow=true"):
            answer = await run.get(query)
            assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        for _, task in many:
            task.cancel()
        await asyncio.gather(*(task for _, task in many), return_exceptions=True)
        assert (await run.get()).status_code == 200


async def test_follow_rights_revoked(
    plugin: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed_answers, "_RECHECKED_SECONDS", 0.0)
    async with running(tmp_path) as app:
        run = await _run(app)
        run.out.write_text("one\n")
        follower, task = run.follow()
        await _until(lambda: follower.text)

        async def refuse(*_: object) -> None:
            raise NotAuthenticated("The token was revoked.")

        monkeypatch.setattr(type(app.context.authenticator), "identify", refuse)
        with run.out.open("a") as file:
            file.write("two\n")
        await task
        assert (follower.text, follower.kinds) == ("one\n", [])


async def test_files_listed_and_read(run: Run) -> None:
    (run.folder / "results").mkdir()
    (run.folder / "results" / "a b é.csv").write_bytes(b"1;2\n")
    (run.folder / "link").symlink_to("/etc")
    os.mkfifo(run.folder / "pipe")
    url = f"/jobs/{run.job_id}/files"
    told = (await run.app.client.get(url)).json()
    kinds = {entry["name"]: entry["kind"] for entry in told["entries"]}
    assert kinds == {"link": "link", "pipe": "other", "results": "folder", "run.sh": "file"}
    inner = (await run.app.client.get(url, params={"path": "results"})).json()
    (entry,) = inner["entries"]
    assert (entry["name"], entry["size"], inner["isComplete"]) == ("a b é.csv", 4, True)
    answer = await run.app.client.get(f"{url}/results/a b é.csv", headers={"Range": "bytes=2-"})
    assert (answer.status_code, answer.content) == (206, b"2\n")
    assert answer.headers["content-disposition"].startswith("attachment")
    head = await run.app.client.head(f"{url}/results/a b é.csv")
    assert head.headers["content-length"] == "4"


async def test_file_line_breaks_in_name(run: Run) -> None:
    contents = {name: name.encode() for name in ("a", "a\n", "a\nb", "\n\n")}
    for name, content in contents.items():
        (run.folder / name).write_bytes(content)
    for name, content in contents.items():
        answer = await run.app.client.get(f"/jobs/{run.job_id}/files/{quote(name)}")
        assert (answer.status_code, answer.content) == (200, content), name
        assert answer.headers["content-disposition"].endswith(f"''{quote(name)}")


async def test_files_disabled_by_default(app: App) -> None:
    run = await _run(app)
    for path in ("", "/run.sh"):
        answer = await app.client.get(f"/jobs/{run.job_id}/files{path}")
        assert answer.status_code == 403
        assert "JOB_FILES" in answer.json()["detail"]
