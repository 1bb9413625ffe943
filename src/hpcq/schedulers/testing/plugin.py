"""Plugin of pytest that runs the contract's tests against a scheduler.

::

    pytest -p hpcq.schedulers.testing.plugin --scheduler MODULE:NAME

The name is a `Backend` in that module, or a mapping of several by the names that tests show. Unless
files or folders are named, the contract's tests run too.
"""

from collections.abc import Generator, Iterator, Mapping
from importlib import import_module
from pathlib import Path

import pytest

from hpcq.schedulers.testing import contract
from hpcq.schedulers.testing.backend import Backend
from hpcq.schedulers.testing.jobs import Jobs, Study
from hpcq.schedulers.testing.service import CANARY, ROOT_PATH, Service

_BACKENDS = pytest.StashKey[dict[str, Backend]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--scheduler``."""
    parser.addoption(
        "--scheduler",
        action="append",
        default=[],
        metavar="MODULE:NAME",
        help="a hpcq.schedulers.testing.backend.Backend to run the contract's tests against, or "
        "a mapping of several",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Load the schedulers, and add the contract's tests where no files or folders are named."""
    config.addinivalue_line("markers", "those_with(quality): for schedulers that have it")
    backends: dict[str, Backend] = {}
    for place in config.getoption("scheduler"):
        backends |= _load(place)
    config.stash[_BACKENDS] = backends
    if backends and config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args.append(str(Path(contract.__file__).parent))


def _load(place: str) -> Mapping[str, Backend]:
    module, _, name = place.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise pytest.UsageError(f"--scheduler {place}: {error}") from error
    return {found.name: found} if isinstance(found, Backend) else dict(found)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that uses a scheduler once for each that has what the test is about."""
    has_its_own = hasattr(metafunc.module, "backend") or _chooses(metafunc)
    if "backend" not in metafunc.fixturenames or has_its_own:
        return
    qualities = [mark.args[0] for mark in metafunc.definition.iter_markers("those_with")]
    cases = [
        pytest.param(name, marks=backend.marks)
        for name, backend in metafunc.config.stash[_BACKENDS].items()
        if all(quality(backend) for quality in qualities)
    ]
    metafunc.parametrize("backend", cases, indirect=True, scope="session")


def _chooses(metafunc: pytest.Metafunc) -> bool:
    marks = metafunc.definition.iter_markers("parametrize")
    return any("backend" in str(mark.args[0]).split(",") for mark in marks)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what no scheduler has the quality for; pytest would call it skipped."""
    items[:] = [item for item in items if _has_a_case(item)]


def _has_a_case(item: pytest.Item) -> bool:
    call = getattr(item, "callspec", None)
    return call is None or isinstance(call.params.get("backend", ""), (str, Backend))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the end of each running service's log into the report of a test that failed."""
    report = yield
    if report.failed:
        for service in Service.running:
            title = f"log of the service ({service.settings['SCHEDULER']})"
            report.sections.append((title, service.log_tail()))
    return report


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each scheduler in turn."""
    return request.config.stash[_BACKENDS][request.param]


@pytest.fixture(scope="session")
def service(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service in front of `backend`, shared by all tests on it."""
    settings = {**backend.settings(), "ROOT_PATH": ROOT_PATH, "SECRET_TOKEN": CANARY}
    with Service(tmp_path_factory.mktemp(f"service-{backend.name}"), settings) as running:
        yield running


@pytest.fixture
def jobs(service: Service) -> Iterator[Jobs]:
    """A client of `service`."""
    client = Jobs(service)
    yield client
    client.clean_up()


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """An empty working directory with the name ``study``."""
    return Study(tmp_path / "study")
