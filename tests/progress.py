"""The progress of a run: each failure, a line every half minute, the slowest files at its end.

``pytest -p tests.progress``. How long the last whole run took is kept in pytest's cache.
"""

import time
from collections import defaultdict

import pytest

__all__ = ["pytest_configure"]

# Of the whole run on two cores that nobody else uses, where none was made before.
_SECONDS_OF_A_TEST = 0.18
_TELLS_EVERY_SECONDS = 30.0
_LONGEST = 15
_KEPT = "progress/seconds-of-a-test"
# A few tests tell nothing of how long all take, nor do the first ones, which take longest.
_TELLING_TESTS = 1000


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Follow the run where its results come together."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if isinstance(reporter, pytest.TerminalReporter) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Progress(config, reporter))


class _Progress:
    def __init__(self, config: pytest.Config, reporter: pytest.TerminalReporter) -> None:
        self._config = config
        self._reporter = reporter
        self._began = self._told = time.monotonic()
        self._tests = 0
        self._done = 0
        self._failed = 0
        self._needs = 0.0
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if session.items:
            self._begin(len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        # Every worker tells the same.
        if not self._tests:
            self._begin(len(ids))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid.partition("::")[0]] += report.duration
        self._failed += report.failed
        if report.failed:
            self._tell(f"failed: {report.nodeid}: {_reason(report)}")
        self._done += report.when == "teardown"
        if time.monotonic() - self._told >= _TELLS_EVERY_SECONDS:
            self._told = time.monotonic()
            spent = self._told - self._began
            line = f"{_minutes(spent)}: {self._done} of {self._tests} tests, {self._failed} failed"
            if self._done >= _TELLING_TESTS:
                # The longest tests are begun first: what is over tells too much of the rest.
                left = self._needs - spent
                if left <= 0:
                    left = spent / self._done * (self._tests - self._done)
                line += f"; about {_minutes(left)} left"
            self._tell(line)

    def pytest_terminal_summary(self) -> None:
        spent = time.monotonic() - self._began
        self._reporter.section("what took how long")
        longest = sorted(self._seconds.items(), key=lambda item: item[1], reverse=True)
        for path, seconds in longest[:_LONGEST]:
            self._reporter.line(f"{seconds:7.1f} s  {path}")
        self._reporter.line(
            f"{self._done} tests in {_minutes(spent)}. They run side by side, and many wait: the "
            "figures of the files add up to more."
        )
        if self._done >= _TELLING_TESTS and self._config.cache is not None:
            self._config.cache.set(_KEPT, spent / self._done)

    def _begin(self, tests: int) -> None:
        self._began = self._told = time.monotonic()
        self._tests = tests
        kept = None if self._config.cache is None else self._config.cache.get(_KEPT, None)
        basis = "two free cores" if kept is None else "this machine, as the last time"
        self._needs = tests * (kept or _SECONDS_OF_A_TEST)
        self._tell(f"{tests} tests: about {_minutes(self._needs)} on {basis}")

    def _tell(self, line: str) -> None:
        self._reporter.ensure_newline()
        self._reporter.write_line(line)


def _reason(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return (crash.message if crash is not None else str(report.longrepr)).partition("\n")[0]


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
