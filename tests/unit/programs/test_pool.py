import threading
from collections.abc import Iterator

import pytest

from hpcq.programs import pool
from hpcq.programs.pool import TimeLimitedPool


@pytest.fixture
def answer() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_map_all_answers() -> None:
    assert TimeLimitedPool[int](10).map(range(1000), lambda n: n * n) == {
        n: n * n for n in range(1000)
    }


def test_map_empty() -> None:
    assert TimeLimitedPool[int](10).map([], lambda n: n) == {}


def test_map_one_hanging(
    answer: threading.Event,
) -> None:
    looked: list[int] = []

    def look(number: int) -> int:
        looked.append(number)
        if number == 3:
            answer.wait(10)
        return number

    threads = TimeLimitedPool[int](0.2)

    assert sorted(threads.map(range(20), look)) == [n for n in range(20) if n != 3]
    assert sorted(threads.map(range(20), look)) == [n for n in range(20) if n != 3]
    assert looked.count(3) == 1


def test_map_all_hanging(answer: threading.Event) -> None:
    looked: list[int] = []

    def look(number: int) -> bool:
        looked.append(number)
        return answer.wait(10)

    threads = TimeLimitedPool[int](0.2)

    assert threads.map(range(100), look) == {}
    assert threads.map(range(100), look) == {}
    assert len(looked) == pool._MOST_THREADS


def test_map_exception() -> None:
    with pytest.raises(ZeroDivisionError):
        TimeLimitedPool[int](10).map([1, 0], lambda n: 1 // n)
