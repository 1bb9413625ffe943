"""The asynchronous client. ``scripts/sync_client.py`` makes the synchronous one from this file."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import BinaryIO, Self, Unpack

import httpx
import msgspec
from msgspec.json import Decoder

from hpcq.client.address import find_address
from hpcq.client.answers import (
    Cluster,
    Event,
    Folder,
    JobCounts,
    JobData,
    Node,
    OutputPart,
    Plan,
    Program,
    Queue,
    QueueUsage,
    ResourceUsage,
    decode,
    part_of,
)
from hpcq.client.async_connection import SILENCE_SECONDS, AsyncConnection
from hpcq.client.errors import Conflict, Gone, InvalidRequest, NotFound, Unavailable, Unreachable
from hpcq.client.questions import (
    JobChanges,
    JobFilters,
    Submission,
    path_part,
    query_of,
    submission_body,
    wire_name,
)

__all__ = ["AsyncClient", "AsyncJob", "AsyncListingChange", "AsyncOutput"]

# Before the next comment, so that a wait ends when its time is over.
_BOUNDED_SILENCE_SECONDS = 10.0
_POLL_SECONDS = 5.0
# Without anything for so long, all that happened was told.
_PAST_SECONDS = 1.0
_SHORT_PAUSE_SECONDS = 0.5
_PAGE = 1000
# Made while the module is loaded: threads that meet a type first at the same time end the process.
_cluster = Decoder(Cluster)
_counts = Decoder(JobCounts)
_folder = Decoder(Folder)
_job_data = Decoder(JobData)
_nodes = Decoder(list[Node])
_plan = Decoder(Plan)
_programs = Decoder(list[Program])
_queue_usage = Decoder(QueueUsage)
_queues = Decoder(list[Queue])
_samples = Decoder(list[ResourceUsage])


class AsyncJob(JobData, dict=True):
    """A job: its fields, as they were when they were last read, and what can be done with it."""

    def _on(self, connection: AsyncConnection) -> Self:
        self._connection = connection
        return self

    def _take(self, fresh: JobData) -> Self:
        for name in JobData.__struct_fields__:
            setattr(self, name, getattr(fresh, name))
        return self

    @property
    def _path(self) -> str:
        # The service keeps the uids of its own jobs alone for as long as their records.
        is_foreign = self.submit_time is not None and self.submitted_by is None
        name = self.id if is_foreign else self.uid
        return f"/jobs/{path_part(name)}"

    async def refresh(self) -> Self:
        """Read the job again; return it."""
        return self._take(await self._connection.read(self._path, _job_data))

    async def wait(self, timeout: float | None = None) -> Self:
        """Wait until the job is over; return it, with the fields of its end.

        It follows the job's events, and reads the job every few seconds where there are none.

        Args:
            timeout: seconds; None waits as long as it takes.

        Raises:
            TimeoutError: the job is not over yet; it goes on.
        """
        deadline = None if timeout is None else monotonic() + timeout
        last: str | None = None
        while not (await self.refresh()).is_over:
            left = _POLL_SECONDS if deadline is None else deadline - monotonic()
            if left <= 0:
                raise TimeoutError(f"The job {self.id} was not over within {timeout:g} s.")
            silence = SILENCE_SECONDS if deadline is None else min(left, _BOUNDED_SILENCE_SECONDS)
            pause = 0.0
            try:
                path, query = f"{self._path}/events", {"type": "job.state"}
                async with self._connection.connect(path, query, last, silence) as source:
                    if source is None:
                        pause = _SHORT_PAUSE_SECONDS
                    else:
                        async for event in source.aiter_sse():
                            last = event.id or last
            except Unreachable:
                pause = _SHORT_PAUSE_SECONDS
            except (Conflict, Gone, Unavailable):
                # Of a job from elsewhere there are no events; old ones go; too many may follow.
                pause = _POLL_SECONDS
            await asyncio.sleep(min(left, pause))
        return self

    async def delete(self, tasks: str | None = None) -> None:
        """End the job if it is not over, and take it off the listing; it stays readable.

        Args:
            tasks: of an array, only these: ``3-7,9``.
        """
        await self._connection.request("DELETE", self._path, query=query_of({"tasks": tasks}))

    async def change(self, **fields: Unpack[JobChanges]) -> Self:
        """Change what a queued job asks for; return it."""
        body = {wire_name(name): value for name, value in fields.items()}
        answer = await self._connection.request("PATCH", self._path, body=body)
        return self._take(decode(answer, _job_data))

    async def hold(self) -> None:
        """Keep the queued job from starting."""
        await self._act("hold")

    async def release(self) -> None:
        """Let the held job start."""
        await self._act("release")

    async def suspend(self) -> None:
        """Stop the processes of the running job."""
        await self._act("suspend")

    async def resume(self) -> None:
        """Let the suspended job go on."""
        await self._act("resume")

    async def requeue(self) -> None:
        """End the running job and put it back into the queue."""
        await self._act("requeue", is_repeatable=False)

    async def signal(self, name: str) -> None:
        """Send a signal to the running job: ``USR1``."""
        await self._act("signal", {"signal": name}, is_repeatable=False)

    async def _act(
        self, action: str, body: Mapping[str, str] | None = None, *, is_repeatable: bool = True
    ) -> None:
        await self._connection.request(
            "POST", f"{self._path}/{action}", body=body, is_repeatable=is_repeatable
        )

    async def usage(self) -> list[ResourceUsage]:
        """Return what the job used over time: samples, the oldest first."""
        return await self._connection.read(f"{self._path}/usage", _samples)

    def events(
        self, types: Sequence[str] = (), after: int | None = None, *, follow: bool = True
    ) -> AsyncIterator[Event]:
        """Follow what happens to the job, from its first event until it is over.

        Args:
            types: the types of events; all if empty.
            after: the id of an event, to go on behind it.
            follow: False ends with what has happened so far.
        """
        silence = None if follow else _PAST_SECONDS
        return self._connection.follow_events(f"{self._path}/events", types, after, {}, silence)

    async def files(self, path: str = "") -> Folder:
        """Return the entries of the job's working directory, or of a folder in it.

        Raises:
            NotFound: there is no such folder, or the site does not show files.
        """
        return await self._connection.read(f"{self._path}/files", _folder, {"path": path})

    async def fetch(self, path: str, into: BinaryIO) -> None:
        """Write a file of the job's working directory into an open one, byte for byte.

        Raises:
            NotFound: there is no such file, or the site does not show files.
        """
        parts = "/".join(path_part(part) for part in path.split("/") if part != ".")
        await self._connection.save(f"{self._path}/files/{parts}", into)

    def output(self, stream: str = "stdout") -> "AsyncOutput":
        """Return what the job writes to ``stdout`` or ``stderr``, to read or to follow."""
        return AsyncOutput(self._connection, f"{self._path}/output", stream)


_job = Decoder(AsyncJob)
_jobs = Decoder(list[AsyncJob])


class AsyncListingChange(msgspec.Struct, rename="camel"):
    """A change of the listing.

    Attributes:
        is_reload: the copy is no longer good: read the jobs anew, and go on with what follows.
        jobs: those that came or changed, as they are now.
        gone: the `uid` of those that left the listing.
        as_of: the time of the scheduler's last answer.
        stale: that answer is older than it should be.
    """

    is_reload: bool = False
    jobs: list[AsyncJob] = []
    gone: list[str] = []
    as_of: datetime | None = None
    stale: bool = False


_change = Decoder(AsyncListingChange)


class AsyncOutput:
    """The standard output or error of a job."""

    def __init__(self, connection: AsyncConnection, path: str, stream: str) -> None:
        self._connection = connection
        self._path = path
        self._query = {"stream": stream}

    async def read(self, tail: int | None = None) -> bytes:
        """Return what is there by now, byte for byte.

        Args:
            tail: how many of the last lines; all without it.

        Raises:
            NotFound: there is no file, or not yet.
        """
        answer = await self._connection.request("GET", self._path, query=self._with_tail(tail))
        return answer.content

    async def text(self, tail: int | None = None) -> str:
        """Return what is there by now as text."""
        return (await self.read(tail)).decode("utf-8", "replace")

    async def part(self, size: int, begin: int | None = None) -> OutputPart:
        """Return a part of what is there by now: its end, unless told otherwise.

        Args:
            size: how many bytes at most, one at least.
            begin: the first byte; without it, the part ends where the output does.

        Raises:
            NotFound: there is no file, or not yet.
        """
        wanted = f"bytes=-{size}" if begin is None else f"bytes={begin}-{begin + size - 1}"
        try:
            answer = await self._connection.request(
                "GET", self._path, query=self._query, headers={"Range": wanted}
            )
        except InvalidRequest as error:
            # An empty output has no part.
            if error.status == 416 and begin is None:
                return OutputPart(b"", 0, 0)
            raise
        return part_of(answer)

    async def follow(self, tail: int | None = None) -> AsyncIterator[str]:
        """Yield pieces of text until the job is over and all was read; the job may still wait.

        A connection that breaks is made again, and goes on where it was cut.

        Args:
            tail: begins with so many of the last lines; without it, at the beginning.

        Raises:
            NotFound: the job is over, and there never was a file.
        """
        query = {**self._with_tail(tail), "follow": "true"}
        async for event in self._connection.follow(self._path, query):
            data = json.loads(event.data)
            if event.event == "message":
                yield data["text"]
            elif event.event == "end":
                if data["detail"]:
                    raise NotFound(404, {"code": "no_such_file", "detail": data["detail"]})
                return

    def _with_tail(self, tail: int | None) -> dict[str, str]:
        return self._query if tail is None else {**self._query, "tail": str(tail)}


class AsyncClient:
    """A client of the service.

    Requests that failed for the moment (a connection that breaks, an answer with ``Retry-After``)
    are sent again for a while, as far as that is harmless.

    >>> async def run() -> None:
    ...     async with AsyncClient() as client:
    ...         job = await client.submit("study.sh", ["november"], slots=16)
    ...         print((await job.wait()).state)

    Args:
        url: of the service; without it `hpcq.client.address.find_address` finds it.
        token: of the user; not needed on the service's own machine by its own account.
        profile: a section of the profile file.
        patience: for how many seconds a request is sent again.
        timeout: for how many seconds one request may take.

    Raises:
        ProfileError: the address or the profile is wrong.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        profile: str | None = None,
        patience: float = 60.0,
        timeout: float = 60.0,
    ) -> None:
        self._connection = AsyncConnection(find_address(url, token, profile), patience, timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connection.aclose()

    async def submit(
        self,
        script_file: str | Path | None = None,
        args: Sequence[str | float] = (),
        *,
        slots: int = 1,
        working_directory: str | Path | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[Submission],
    ) -> AsyncJob:
        """Submit a script or a program; return the job, of which only the ids are known yet.

        The submission carries a key, so that sending it again never makes a second job.

        >>> async def run(client: AsyncClient) -> None:
        ...     job = await client.submit("study.sh", ["november"], name="november")
        ...     await job.wait(60)
        ...     print(job.state, await job.output().text())

        Args:
            script_file: the script; a relative path begins at the present folder.
            args: of the script.
            slots: how many CPUs to reserve.
            working_directory: of the job; the present folder without it.
            idempotency_key: names this submission, in printable ASCII; made without it.
            fields: more fields of the submission; `program` in place of a script.

        Raises:
            ValueError: the key holds other characters.
        """
        body = submission_body(script_file, args, slots, working_directory, fields)
        key = idempotency_key or str(uuid.uuid4())
        if not (key.isascii() and key.isprintable()):
            raise ValueError(f"The idempotency key {key!r} is not printable ASCII.")
        headers = {"Idempotency-Key": key}
        answer = await self._connection.request("POST", "/jobs", body=body, headers=headers)
        return decode(answer, _job)._on(self._connection)

    async def plan(
        self,
        script_file: str | Path | None = None,
        args: Sequence[str | float] = (),
        *,
        slots: int = 1,
        working_directory: str | Path | None = None,
        **fields: Unpack[Submission],
    ) -> Plan:
        """Check a submission, as `submit` takes it, and return what it would run."""
        body = submission_body(script_file, args, slots, working_directory, fields)
        query = {"dryRun": "true"}
        return decode(
            await self._connection.request("POST", "/jobs", query=query, body=body), _plan
        )

    async def job(self, job_id: str) -> AsyncJob:
        """Return a job by the scheduler's id or by its `uid`, however long ago it ended."""
        job = await self._connection.read(f"/jobs/{path_part(job_id)}", _job)
        return job._on(self._connection)

    async def jobs(
        self,
        *,
        archived: bool | None = None,
        sort: str | None = None,
        usage: bool = False,
        **filters: Unpack[JobFilters],
    ) -> AsyncIterator[AsyncJob]:
        """Yield the jobs of the listing, page by page, each once.

        >>> async def run(client: AsyncClient) -> None:
        ...     print([job.name async for job in client.jobs(state=["DONE", "FAILED"])])

        Args:
            archived: also jobs that ended long ago.
            sort: a field, with ``-`` before it for the greatest first.
            usage: also read what each job uses.
            filters: a job has to fit all of them.
        """
        query = query_of({**filters, "archived": archived, "sort": sort, "limit": _PAGE})
        if usage:
            query["expand"] = "resourceUsage"
        seen: set[str] = set()
        while query:
            answer = await self._connection.request("GET", "/jobs", query=query)
            for job in decode(answer, _jobs):
                if job.uid not in seen:
                    seen.add(job.uid)
                    yield job._on(self._connection)
            following = answer.links.get("next")
            # The link's path has the prefix of a proxy; its query is what leads on.
            query = {} if following is None else dict(httpx.URL(following["url"]).params)

    async def changes(self) -> AsyncIterator[AsyncListingChange]:
        """Follow what changes in the listing, the jobs of other programs too, without an end.

        The first says to read the jobs. A connection that breaks is made again, and misses nothing.

        >>> async def run(client: AsyncClient) -> None:
        ...     async for change in client.changes():
        ...         if change.is_reload:
        ...             known = {job.uid: job async for job in client.jobs()}
        ...         known.update({job.uid: job for job in change.jobs})
        ...         for uid in change.gone:
        ...             known.pop(uid, None)
        """
        async for event in self._connection.follow("/jobs/changes", {}):
            if event.event == "reload":
                yield AsyncListingChange(is_reload=True)
            elif event.event == "jobs":
                change = _change.decode(event.data)
                for job in change.jobs:
                    job._on(self._connection)
                yield change

    async def summary(self, **filters: Unpack[JobFilters]) -> JobCounts:
        """Return how many jobs are in each state."""
        return await self._connection.read("/jobs/summary", _counts, query_of(filters))

    async def programs(self, name: str | None = None, version: str | None = None) -> list[Program]:
        """Return the installed programs, one for each version."""
        query = query_of({"name": name, "version": version})
        return await self._connection.read("/programs", _programs, query)

    async def cluster(self) -> Cluster:
        """Return which scheduler runs the jobs, and what it can do."""
        return await self._connection.read("/cluster", _cluster)

    async def queues(self) -> list[Queue]:
        """Return the queues or partitions."""
        return await self._connection.read("/queues", _queues)

    async def queue_usage(self, name: str, points: int | None = None) -> QueueUsage:
        """Return the load of a queue in the last day."""
        path = f"/queues/{path_part(name)}/usage"
        return await self._connection.read(path, _queue_usage, query_of({"points": points}))

    async def nodes(self) -> list[Node]:
        """Return the hosts that run jobs."""
        return await self._connection.read("/nodes", _nodes)

    def events(
        self,
        types: Sequence[str] = (),
        after: int | None = None,
        *,
        follow: bool = True,
        **filters: Unpack[JobFilters],
    ) -> AsyncIterator[Event]:
        """Follow what happens to all jobs, without an end.

        A connection that breaks is made again, and misses nothing behind its last event.

        Args:
            types: the types of events; all if empty.
            after: the id of an event, to go on behind it; 0 for all that are kept.
            follow: False ends with what has happened so far.
            filters: a job has to fit all of them.
        """
        silence = None if follow else _PAST_SECONDS
        return self._connection.follow_events("/events", types, after, query_of(filters), silence)
