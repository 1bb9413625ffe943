import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from hpcq.api.large_answers import LargeAnswers
from hpcq.schedulers.testing.waiting import eventually
from hpcq.services.listing.job_listing import Pieces

pytestmark = pytest.mark.anyio

MEBIBYTE = 2**20


class Reader:
    """A client that takes pieces when it is let."""

    def __init__(self, answers: LargeAnswers, body: Pieces) -> None:
        self.received = b""
        self.pieces: list[int] = []
        self.is_complete = False
        self._may_read = asyncio.Event()
        response = answers.response(body, {"ETag": "1"})
        self.task = asyncio.ensure_future(response({"type": "http"}, self._receive, self._send))

    def read(self) -> None:
        self._may_read.set()

    async def _receive(self) -> Any:
        raise AssertionError("a reader sends nothing")

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            headers: Mapping[bytes, bytes] = dict(message["headers"])
            assert headers[b"etag"] == b"1"
            self.length = int(headers[b"content-length"])
            return
        await self._may_read.wait()
        self.received += message["body"]
        self.pieces.append(len(message["body"]))
        self.is_complete = not message.get("more_body", False)


def version(number: int, size: int = 4 * MEBIBYTE) -> Pieces:
    return (bytes([number]) * size,)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1, 3 * 2**20, 2**22 + 7])
async def test_large_answer_in_bounded_pieces(size: int) -> None:
    body = version(1, size)
    reader = Reader(LargeAnswers(MEBIBYTE), body)
    reader.read()
    await reader.task
    assert (reader.received, reader.length, reader.is_complete) == (*body, size, True)
    assert max(reader.pieces) <= 2**20


async def test_large_answer_memory_shared_by_readers() -> None:
    answers, body = LargeAnswers(MEBIBYTE), version(1)
    readers = [Reader(answers, body) for _ in range(10)]
    await eventually(lambda: _true(all(hasattr(reader, "length") for reader in readers)))
    for reader in readers:
        reader.read()
    await asyncio.gather(*(reader.task for reader in readers))
    assert all((reader.received,) == body for reader in readers)


async def test_large_answer_oldest_version_cut_off() -> None:
    answers = LargeAnswers(12 * MEBIBYTE)
    readers = [Reader(answers, version(number)) for number in (1, 1, 2, 3, 4, 5)]
    await asyncio.gather(readers[0].task, readers[1].task, readers[2].task)
    for reader in readers:
        reader.read()
    await asyncio.gather(*(reader.task for reader in readers))
    assert [reader.is_complete for reader in readers] == [False] * 3 + [True] * 3


async def test_large_answer_shared_pieces_count_once() -> None:
    answers, shared = LargeAnswers(12 * MEBIBYTE), version(0, 10 * MEBIBYTE)
    readers = [Reader(answers, (*shared, bytes([number]))) for number in range(1, 9)]
    await eventually(lambda: _true(all(hasattr(reader, "length") for reader in readers)))
    for reader in readers:
        reader.read()
    await asyncio.gather(*(reader.task for reader in readers))
    assert [reader.received[-1] for reader in readers] == list(range(1, 9))
    assert all(reader.is_complete for reader in readers)


async def test_large_answer_two_newest_versions_over_limit() -> None:
    answers = LargeAnswers(1024)
    readers = [Reader(answers, version(number)) for number in (1, 2)]
    await eventually(lambda: _true(all(hasattr(reader, "length") for reader in readers)))
    for reader in readers:
        reader.read()
    await asyncio.gather(*(reader.task for reader in readers))
    assert all(reader.is_complete for reader in readers)


async def test_large_answer_memory_freed() -> None:
    answers = LargeAnswers(8 * MEBIBYTE)
    for number in range(20):
        reader = Reader(answers, version(number))
        reader.read()
        await reader.task
        assert reader.is_complete


async def _true(value: bool) -> bool:
    return value
