"""Waiting for what is to come. One patience for all tests: it costs nothing when all goes well."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

__all__ = ["PATIENCE_SECONDS", "cut_off", "eventually", "until", "until_there"]

_T = TypeVar("_T")

# For a machine of which others have taken nearly all, not for what is slow by itself.
PATIENCE_SECONDS = 300.0
_PAUSE_SECONDS = 0.05


def until(
    reached: Callable[[], _T | None], seen: Callable[[], object] = lambda: "it did not come to this"
) -> _T:
    """Ask again and again until the answer is true, and return it.

    Args:
        reached: asked again and again.
        seen: says what there is instead, should it never be so.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (answer := reached()):
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:g} s: {seen()}"
        time.sleep(_PAUSE_SECONDS)
    return answer


async def eventually(look: Callable[[], Awaitable[_T | None]]) -> _T:
    """Ask again and again until the answer is true, and return it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (answer := await look()):
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:g} s: {answer}"
        await asyncio.sleep(_PAUSE_SECONDS)
    return answer


def until_there(*paths: Path) -> None:
    """Wait until these files are there."""
    until(lambda: all(path.exists() for path in paths), lambda: f"not all there: {paths}")


@contextmanager
def cut_off(call: Callable[[], object]) -> Iterator[None]:
    """Run a request meanwhile that its service does not answer before it ends."""
    with ThreadPoolExecutor(1) as thread:
        sent = thread.submit(call)
        yield
        with pytest.raises(httpx.TransportError):
            sent.result()
