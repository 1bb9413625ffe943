import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from hpcq.api.app import program_readers
from hpcq.config import ProgramPathRule, Settings
from hpcq.domain.errors import StoreUnavailable
from hpcq.domain.programs import Program
from hpcq.programs import Reading
from hpcq.services.programs import ProgramService


def program(name: str, version: str) -> Program:
    return Program(
        program_id="X0",
        name=name,
        version=version,
        installation_directory="/x",
        is_managed=True,
        executable_path="/x/run",
        args=(),
    )


NEWAVE = Reading(programs=(program("NEWAVE", "v1"), program("NEWAVE", "v2")), problems=())
DECOMP = Reading(programs=(program("DECOMP", "v1"),), problems=("v9 is left out.",))


def service(*readers: Callable[[], Reading], cache_seconds: float = 60.0) -> ProgramService:
    return ProgramService(readers, timeout_seconds=0.2, cache_seconds=cache_seconds)


class Hanging:
    """A root whose file server answers once ``answer`` is set."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.answer = threading.Event()
        self.calls = 0

    def __call__(self) -> Reading:
        self.calls += 1
        self.answer.wait(10)
        return self.reading


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    root = Hanging(DECOMP)
    yield root
    root.answer.set()


@pytest.fixture(autouse=True)
def default_logging() -> None:
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("name", "version", "found"),
    [
        (None, None, ["NEWAVE v1", "NEWAVE v2", "DECOMP v1"]),
        ("NEWAVE", None, ["NEWAVE v1", "NEWAVE v2"]),
        (None, "v1", ["NEWAVE v1", "DECOMP v1"]),
        ("NEWAVE", "v2", ["NEWAVE v2"]),
        ("newave", None, []),
        ("", None, []),
    ],
)
def test_filters_match_exactly(name: str | None, version: str | None, found: list[str]) -> None:
    programs = asyncio.run(service(lambda: NEWAVE, lambda: DECOMP).list(name, version))

    assert [f"{p.name} {p.version}" for p in programs] == found


def test_one_reading_serves_many_callers_until_it_is_old() -> None:
    calls = 0

    def read() -> Reading:
        nonlocal calls
        calls += 1
        return NEWAVE

    async def ask(cache_seconds: float) -> None:
        programs = service(read, cache_seconds=cache_seconds)
        await asyncio.gather(*(programs.list() for _ in range(20)))
        await programs.list()

    asyncio.run(ask(60))
    assert calls == 1
    asyncio.run(ask(0))
    assert calls == 3


def test_a_root_that_hangs_costs_one_thread_and_hides_no_other(hanging: Hanging) -> None:
    async def ask() -> list[int]:
        programs = service(lambda: NEWAVE, hanging)
        return [len(await programs.list()) for _ in range(3)]

    with capture_logs() as logs:
        assert asyncio.run(ask()) == [2, 2, 2]

    assert hanging.calls == 1
    assert {line["event"] for line in logs} == {"programs.unanswered"}


def test_when_no_root_ever_answered_that_is_said_instead_of_an_empty_list(
    hanging: Hanging,
) -> None:
    with pytest.raises(StoreUnavailable, match=r"within 0\.2 s"):
        asyncio.run(service(hanging).list())


def test_a_root_that_hangs_later_gives_what_it_gave_last(hanging: Hanging) -> None:
    hanging.answer.set()

    async def ask() -> tuple[int, int]:
        programs = service(hanging, cache_seconds=0)
        before = len(await programs.list())
        hanging.answer.clear()
        return before, len(await programs.list())

    assert asyncio.run(ask()) == (1, 1)


def test_an_answer_that_came_too_late_serves_the_next_caller(hanging: Hanging) -> None:
    async def ask() -> int:
        programs = service(lambda: NEWAVE, hanging)
        await programs.list()
        hanging.answer.set()
        return len(await programs.list())

    assert asyncio.run(ask()) == 3


def test_the_same_problems_are_logged_once() -> None:
    async def ask() -> None:
        programs = service(lambda: DECOMP, cache_seconds=0)
        await programs.list()
        await programs.list()

    with capture_logs() as logs:
        asyncio.run(ask())

    assert [line["problem"] for line in logs] == ["v9 is left out."]


def test_an_unexpected_error_reaches_the_caller() -> None:
    def read() -> Reading:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(service(read).list())


@pytest.mark.parametrize("rule", list(ProgramPathRule))
def test_every_rule_of_the_settings_reads_newave_then_decomp(
    rule: ProgramPathRule, tmp_path: Path
) -> None:
    for name in ("newave", "decomp"):
        (tmp_path / name / "v1").mkdir(parents=True)
        (tmp_path / name / "v1" / f"mpi_{name}1.job").touch()
    roots = {f"{rule.lower()}_{name}_root": tmp_path / name for name in ("newave", "decomp")}
    settings = Settings.model_validate({"program_path_rule": rule, **roots})

    read = [p.name for reader in program_readers(settings) for p in reader().programs]

    assert read == ["NEWAVE", "DECOMP"]
