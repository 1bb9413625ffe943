import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from hpcq.config import Settings
from hpcq.domain.errors import CommandFailed, StoreUnavailable
from hpcq.domain.programs import Installation, ProgramKey
from hpcq.execution.local import LocalRunner
from hpcq.programs.scanner import Scan
from hpcq.programs.settings import ProgramPathRule
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS
from hpcq.services.programs.service import Catalogue, ProgramService
from hpcq.services.programs.sources import CatalogueFile, Source, in_thread, program_sources


def installed(name: str, version: str) -> Installation:
    return Installation(
        id_prefix=name[:2], name=name, version=version, directory="/x", script="/x/run"
    )


NEWAVE = Scan(installations=(installed("NEWAVE", "v1"), installed("NEWAVE", "v2")))
DECOMP = Scan(installations=(installed("DECOMP", "v1"),), problems=("v9 is left out.",))


class CountedNumbers:
    """Numbers in the order of asking; away while ``away``."""

    def __init__(self) -> None:
        self.given: dict[ProgramKey, int] = {}
        self.away = False

    async def of(self, programs: Sequence[ProgramKey]) -> Mapping[ProgramKey, int]:
        if self.away:
            raise StoreUnavailable("The disk is full.")
        for program in programs:
            self.given.setdefault(program, len(self.given))
        return self.given


def service(
    *readers: Callable[[], Scan],
    timeout_seconds: float = 2.0,
    numbers: CountedNumbers | None = None,
) -> ProgramService:
    sources = [Source(f"place {n}", in_thread(read)) for n, read in enumerate(readers)]
    return ProgramService(
        sources, (numbers or CountedNumbers()).of, timeout_seconds=timeout_seconds
    )


def shown(catalogue: Catalogue) -> list[str]:
    found = [(p.program_id, p.installation) for p in catalogue.programs]
    return [f"{program_id} {one.name} {one.version}" for program_id, one in found]


class Hanging:
    """A place whose file server answers once ``answer`` is set."""

    def __init__(self, reading: Scan) -> None:
        self.reading = reading
        self.answer = threading.Event()
        self.calls = 0

    def __call__(self) -> Scan:
        self.calls += 1
        self.answer.wait(PATIENCE_SECONDS)
        return self.reading


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    root = Hanging(DECOMP)
    yield root
    root.answer.set()


@pytest.fixture(autouse=True)
def default_logging() -> None:
    structlog.reset_defaults()


SILENT = "did not answer within 2 s; is its file server slow or away?"


def test_catalogue_order_and_problems() -> None:
    catalogue = asyncio.run(service(lambda: NEWAVE, lambda: DECOMP).catalogue())

    assert shown(catalogue) == ["NE0 NEWAVE v1", "NE1 NEWAVE v2", "DE2 DECOMP v1"]
    assert catalogue.problems == ["v9 is left out."]


def test_catalogue_concurrent_callers() -> None:
    calls = 0

    def read() -> Scan:
        nonlocal calls
        calls += 1
        return NEWAVE

    async def ask() -> None:
        programs = service(read)
        await asyncio.gather(*(programs.catalogue() for _ in range(20)))
        assert calls == 1
        await programs.catalogue()

    asyncio.run(ask())
    assert calls == 2


def test_catalogue_hanging_source(hanging: Hanging) -> None:
    async def ask() -> list[Catalogue]:
        programs = service(lambda: NEWAVE, hanging)
        return [await programs.catalogue() for _ in range(3)]

    with capture_logs() as logs:
        catalogues = asyncio.run(ask())

    assert [len(catalogue.programs) for catalogue in catalogues] == [2, 2, 2]
    assert [catalogue.problems for catalogue in catalogues] == [[f"place 1 {SILENT}"]] * 3
    assert hanging.calls == 1
    assert [line["event"] for line in logs] == ["programs.unanswered"]


def test_catalogue_hanging_source_later_callers(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[int] = []
    wait = asyncio.wait

    async def counted(waited_for: list[asyncio.Future[None]], **limit: Any) -> object:
        waits.append(len(waited_for))
        return await wait(waited_for, **limit)

    monkeypatch.setattr(asyncio, "wait", counted)

    async def ask() -> None:
        programs = service(hanging)
        for _ in range(3):
            await programs.catalogue()

    asyncio.run(ask())
    assert waits == [1]


def test_catalogue_all_sources_hanging(hanging: Hanging) -> None:
    assert asyncio.run(service(hanging).catalogue()) == Catalogue([], [f"place 0 {SILENT}"])


def test_catalogue_source_hanging_later(hanging: Hanging) -> None:
    hanging.answer.set()

    async def ask() -> list[Catalogue]:
        programs = service(hanging)
        before = await programs.catalogue()
        hanging.answer.clear()
        return [before, await programs.catalogue()]

    before, meanwhile = asyncio.run(ask())

    assert shown(meanwhile) == shown(before) == ["DE0 DECOMP v1"]
    assert meanwhile.problems[0] == f"place 0 {SILENT} What was last known is listed."


def test_catalogue_late_answer(hanging: Hanging) -> None:
    async def ask() -> Catalogue:
        programs = service(lambda: NEWAVE, hanging)
        await programs.catalogue()
        late = programs._states[1]._running
        assert late is not None
        hanging.answer.set()
        await late
        return await programs.catalogue()

    with capture_logs() as logs:
        assert len(asyncio.run(ask()).programs) == 3
    assert [line["event"] for line in logs][:2] == ["programs.unanswered", "programs.answers"]


def test_catalogue_unchanged_same_object() -> None:
    readings = [NEWAVE, NEWAVE, DECOMP]

    async def ask() -> list[Catalogue]:
        programs = service(lambda: readings.pop(0))
        return [await programs.catalogue() for _ in range(3)]

    first, second, third = asyncio.run(ask())

    assert first is second
    assert shown(third) == ["DE2 DECOMP v1"]


def test_program_ids_concurrent_callers() -> None:
    class Slow(CountedNumbers):
        calls = 0

        async def of(self, programs: Sequence[ProgramKey]) -> Mapping[ProgramKey, int]:
            self.calls += 1
            await asyncio.sleep(0)
            return await super().of(programs)

    numbers = Slow()

    async def ask() -> None:
        programs = service(lambda: NEWAVE, numbers=numbers)
        await asyncio.gather(*(programs.catalogue() for _ in range(20)))

    asyncio.run(ask())
    assert numbers.calls == 1


def test_problems_logged_once() -> None:
    async def ask() -> None:
        programs = service(lambda: DECOMP)
        await programs.catalogue()
        await programs.catalogue()

    with capture_logs() as logs:
        asyncio.run(ask())

    assert [line["problem"] for line in logs] == ["v9 is left out."]


def test_problems_log_limit() -> None:
    many = Scan(installations=(), problems=tuple(f"v{n} is left out." for n in range(1000)))

    with capture_logs() as logs:
        asyncio.run(service(lambda: many).catalogue())

    assert len(logs) == 21
    assert logs[-1]["more"] == 980


def test_catalogue_unexpected_error() -> None:
    def read() -> Scan:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(service(read).catalogue())


def test_catalogue_source_failing_later() -> None:
    failing = False

    def read() -> Scan:
        if failing:
            raise CommandFailed(("module",), 1, b"no such thing")
        return NEWAVE

    async def ask() -> Catalogue:
        nonlocal failing
        programs = service(read)
        await programs.catalogue()
        failing = True
        return await programs.catalogue()

    catalogue = asyncio.run(ask())

    assert shown(catalogue) == ["NE0 NEWAVE v1", "NE1 NEWAVE v2"]
    assert catalogue.problems[0].startswith("place 0 could not be read: ")


def test_catalogue_programs_without_id() -> None:
    numbers = CountedNumbers()
    reading = NEWAVE

    async def ask() -> list[Catalogue]:
        nonlocal reading
        programs = service(lambda: reading, numbers=numbers)
        before = await programs.catalogue()
        reading = Scan(installations=(installed("NEWAVE", "v0"), *NEWAVE.installations))
        numbers.away = True
        meanwhile = await programs.catalogue()
        numbers.away = False
        return [before, meanwhile, await programs.catalogue()]

    before, meanwhile, after = asyncio.run(ask())

    assert shown(before) == shown(meanwhile) == ["NE0 NEWAVE v1", "NE1 NEWAVE v2"]
    assert meanwhile.problems == ["1 programs have no id yet: The disk is full."]
    assert shown(after) == ["NE2 NEWAVE v0", "NE0 NEWAVE v1", "NE1 NEWAVE v2"]


@pytest.mark.parametrize("rule", [ProgramPathRule.TUBER, ProgramPathRule.PEMAWS])
def test_path_rules_all_programs(rule: ProgramPathRule, tmp_path: Path) -> None:
    for name in ("newave", "decomp"):
        (tmp_path / name / "v1").mkdir(parents=True)
        (tmp_path / name / "v1" / f"mpi_{name}1.job").touch()
    (tmp_path / "dessem").mkdir()
    (tmp_path / "dessem" / "dessem_1").touch(mode=0o755)
    roots = {
        f"{rule.lower()}_{name}_root": tmp_path / name for name in ("newave", "decomp", "dessem")
    }
    settings = Settings.model_validate({"program_path_rule": rule, **roots})

    async def ask() -> Catalogue:
        numbers = CountedNumbers()
        return await ProgramService(
            program_sources(settings, LocalRunner()), numbers.of, timeout_seconds=PATIENCE_SECONDS
        ).catalogue()

    catalogue = asyncio.run(ask())

    assert [p.installation.name for p in catalogue.programs] == ["NEWAVE", "DECOMP", "DESSEM"]
    assert catalogue.problems == []


def test_program_root_unset() -> None:
    settings = Settings.model_validate({"tuber_dessem_root": "", "tuber_decomp_root": None})

    sources = program_sources(settings, LocalRunner())
    assert not isinstance(sources, CatalogueFile)
    assert [source.name for source in sources] == ["NEWAVE"]
