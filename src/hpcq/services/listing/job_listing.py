"""The listing of all jobs, or of one user's, as of one moment.

A `JobListing` is immutable, and its JSON is encoded once for all readers, in a thread.
"""

import asyncio
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import attrgetter

from hpcq.domain.states import JobState, JobStatus
from hpcq.services.listing.job_entry import Freshness, JobEntry

__all__ = ["JobListing", "Pieces", "as_list", "pack"]

Pieces = tuple[bytes, ...]
"""The bytes of a body, in order; bodies may share some of them."""

# Level 1 packs a listing of similar jobs thirtyfold in a third of the default level's time.
_GZIP_LEVEL = 1
_GZIP_CONTAINER = 16 + zlib.MAX_WBITS
# The JSON of a smaller job is copied faster than it is sent by itself.
_SHARED_BYTES = 32 * 1024
# Sorted within 0.1 ms, which is what a thread costs.
_SORTED_AT_ONCE = 200


class JobListing:
    """The listed jobs as of one moment; immutable.

    Attributes:
        version: changes whenever anything but the passage of time has changed.
        as_of: the time of the scheduler's newest answer; None before its first.
        complete_since: the listing holds all jobs submitted here that ended after this; None when
            none was left out.
    """

    def __init__(
        self,
        entries: Sequence[JobEntry],
        version: str,
        as_of: datetime | None,
        complete_since: datetime | None,
    ) -> None:
        self.version = version
        self.as_of = as_of
        self.complete_since = complete_since
        self._entries = entries
        self._sorted: asyncio.Future[Sequence[JobEntry]] | None = None
        self._counts: asyncio.Future[Counter[tuple[JobState, JobStatus]]] | None = None
        self._bodies: dict[tuple[bool, bool, bool], asyncio.Future[Pieces]] = {}

    def at(self, as_of: datetime | None, complete_since: datetime | None) -> "JobListing":
        """Return the same jobs as of another moment."""
        later = JobListing(self._entries, self.version, as_of, complete_since)
        later._sorted = self._sorted
        later._counts = self._counts
        return later

    async def in_order(self) -> Sequence[JobEntry]:
        """Return the listed jobs by `JobEntry.arrival`, sorted once for all readers."""
        if len(self._entries) <= _SORTED_AT_ONCE:
            return _in_order(self._entries)
        if self._sorted is None:
            self._sorted = asyncio.ensure_future(asyncio.to_thread(_in_order, self._entries))
        return await asyncio.shield(self._sorted)

    async def counts(self) -> Counter[tuple[JobState, JobStatus]]:
        """Return how many listed jobs are in each state, counted once for all readers."""
        if self._counts is None:
            self._counts = asyncio.ensure_future(asyncio.to_thread(_count, self._entries))
        return await asyncio.shield(self._counts)

    async def json(self, freshness: Freshness, *, usage: bool, gzip: bool) -> Pieces:
        """Return the JSON array of all listed jobs, encoded once for all readers.

        Args:
            freshness: of the table.
            usage: whether ``resourceUsage`` is filled in.
            gzip: whether to return it compressed.
        """
        wanted = (freshness.stale, usage, gzip)
        body = self._bodies.get(wanted)
        if body is None:
            body = asyncio.ensure_future(self._encode(freshness, usage=usage, gzip=gzip))
            self._bodies[wanted] = body
        return await asyncio.shield(body)

    async def _encode(self, freshness: Freshness, *, usage: bool, gzip: bool) -> Pieces:
        if gzip:
            plain = await self.json(freshness, usage=usage, gzip=False)
            return await asyncio.to_thread(pack, plain)
        return await asyncio.to_thread(as_list, await self.in_order(), freshness, usage=usage)


def _in_order(entries: Sequence[JobEntry]) -> Sequence[JobEntry]:
    listed = [entry for entry in entries if entry.is_listed]
    return sorted(listed, key=attrgetter("arrival"))


def _count(entries: Sequence[JobEntry]) -> Counter[tuple[JobState, JobStatus]]:
    listed = (entry.record for entry in entries if entry.is_listed)
    return Counter((record.state, record.status) for record in listed)


def as_list(entries: Iterable[JobEntry], freshness: Freshness, *, usage: bool) -> Pieces:
    """Return jobs as a JSON array, in pieces.

    All versions of a listing share the JSON of a large job, however many of them are being read.
    """
    pieces: list[bytes] = []
    parts = [b"["]
    for entry in entries:
        stable, volatile = entry.json_parts(freshness, usage=usage)
        if len(stable) < _SHARED_BYTES:
            parts.append(stable)
        else:
            pieces += (b"".join(parts), stable)
            parts.clear()
        parts += (volatile, b",")
    if parts[-1] == b",":
        parts.pop()
    # Joined once: each further step would copy the whole listing.
    pieces.append(b"".join((*parts, b"]")))
    return tuple(pieces)


def pack(body: Pieces) -> Pieces:
    """Return a body compressed with gzip, in one piece."""
    packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_CONTAINER)
    return (b"".join((*map(packer.compress, body), packer.flush())),)
