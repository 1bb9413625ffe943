"""Order of the tests, and fixtures that all suites share besides the contract's."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
from _pytest.nodeid import NodeId
from tests.backends import AS_ORIGINAL
from tests.databases import DATABASES, Database
from tests.provider import Provider

from hpcq.schedulers.testing.service import Service

# How long an example takes, or takes to make, says how busy the machine is, not whether the code
# is right.
hypothesis.settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any-machine")
# For `make check`: `--hypothesis-profile quick`.
hypothesis.settings.register_profile("quick", hypothesis.settings.default, max_examples=20)


# What a test is run against: the same file on another of these may run beside it.
_APART = ("backend", "database", "fake", "scheduler")


# What is told of jobs, and what is understood of requests, is the service's own affair.
_TOLD_BY_THE_SERVICE = ("test_deleting", "test_reading", "test_refusals", "test_submission")

# Groups of tests that take longest, above all those that wait: begun last, one of them alone would
# hold up the end of a run. Each stands for those too that its name begins, as `test_chaos` for
# `test_chaos-SQLITE-SLURM`.
_BEGUN_FIRST = (
    "private-slurm",
    "private-sge",
    "test_chaos",
    "test_readme",
    "test_replicas_slurm",
    "slurm-with-another-clock",
    "test_endings",
    "test_04_ids_are_used_again",
    "test_08_accounting_off_or_down",
    "test_hostile_values",
    "test_left_out",
    "test_job_merge_machine",
    "test_reconcile_machine",
    "test_dead_scheduler",
    "test_uncertain_submission",
    "test_migrations",
    "test_samples",
    "test_store",
    "test_submission_machine",
)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None]:
    """Keep the tests of one file on one scheduler together, for they share a service.

    Tests that share more than that, a cluster that they stop, name their group themselves.
    """
    items[:] = [item for item in items if not _is_the_same_for_the_original(item)]
    is_distributed = config.getoption("loadgroup", False)
    for item in items:
        _group(item)
        if is_distributed:
            # pytest-xdist 3.8 sends a group to one worker by its name at the end of the tests'
            # ids, and writes it where pytest 9.2 no longer keeps them.
            item._id = NodeId.parse(f"{item.nodeid}@{_group_of(item)}")
    yield
    if is_distributed:
        items.sort(key=_turn)


def _is_the_same_for_the_original(item: pytest.Item) -> bool:
    """Return whether a test is about the scheduler, and would only run a second time."""
    call = getattr(item, "callspec", None)
    variant = None if call is None else call.params.get("backend")
    return variant == AS_ORIGINAL and item.path.stem not in _TOLD_BY_THE_SERVICE


def _turn(item: pytest.Item) -> int:
    group = _group_of(item)
    turns = enumerate(_BEGUN_FIRST)
    matching = (turn for turn, name in turns if f"{group}-".startswith(f"{name}-"))
    return next(matching, len(_BEGUN_FIRST))


def _group_of(item: pytest.Item) -> str:
    (mark,) = item.iter_markers("xdist_group")
    return str(mark.args[0])


def _group(item: pytest.Item) -> None:
    if item.get_closest_marker("xdist_group") is None:
        call = getattr(item, "callspec", None)
        params = {} if call is None else call.params
        found = (params[name] for name in _APART if name in params)
        # A dataclass shows sets in another order in every process.
        shared = (str(getattr(value, "name", value)) for value in found)
        item.add_marker(pytest.mark.xdist_group("-".join((item.path.stem, *shared))))


@pytest.fixture(
    params=[pytest.param(name, marks=kind.marks) for name, kind in DATABASES.items()],
)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A new database of each kind in turn."""
    with DATABASES[request.param].fresh(tmp_path) as new:
        yield new


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Starts services of a test's own: ``start_service(SCHEDULER="LOCAL", …)``."""
    started: list[Service] = []

    def start(**settings: str) -> Service:
        directory = tmp_path / f"service-{len(started)}"
        service = Service(directory, {"SCHEDULER": "LOCAL", **settings})
        started.append(service)
        service.start()
        return service

    yield start
    for service in started:
        service.stop()


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Run an OpenID Connect provider on loopback that can be told to hang, or to lie."""
    with Provider() as provider:
        yield provider
