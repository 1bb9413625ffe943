"""The tests that a run left out, in plain words at its end: ``pytest -p tests.left_out``.

With ``HPCQ_REQUIRE_REAL`` set, a run that left out a test which needs one of `REAL` fails.
"""

import os
from collections import Counter

import pytest

__all__ = ["pytest_sessionfinish", "pytest_terminal_summary"]

REAL = {
    "slurm": "Slurm",
    "sge": "Grid Engine",
    "oar": "OAR",
    "modules": "Environment Modules and Lmod",
    "sudo": "sudo",
    "tools": "promtool and systemd-analyze",
    "postgres": "PostgreSQL",
    "oidc": "an OpenID Connect provider",
    "chromium": "Chromium",
    "tmux": "tmux",
    "workflows": "Snakemake and Jupyter",
}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which tests did not run, and why."""
    skipped = terminalreporter.stats.get("skipped", [])
    terminalreporter.section("tests left out")
    if not skipped:
        real = ", ".join(REAL.values())
        terminalreporter.line(f"None. What needs one of these had a real one: {real}.")
        return
    counts = Counter((_needs(report), _reason(report)) for report in skipped)
    for (needs, reason), count in sorted(counts.items()):
        terminalreporter.line(f"{count} that need {needs}: {reason}")
    if _real_ones(terminalreporter) and os.environ.get("HPCQ_REQUIRE_REAL"):
        terminalreporter.line("HPCQ_REQUIRE_REAL is set, so this run has failed.", red=True)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that had to have the real ones and had not."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not isinstance(reporter, pytest.TerminalReporter) or hasattr(session.config, "workerinput"):
        return
    if os.environ.get("HPCQ_REQUIRE_REAL") and _real_ones(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _real_ones(reporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    skipped = reporter.stats.get("skipped", [])
    return [report for report in skipped if REAL.keys() & report.keywords.keys()]


def _needs(report: pytest.TestReport | pytest.CollectReport) -> str:
    keywords = getattr(report, "keywords", {})
    found = [name for mark, name in REAL.items() if mark in keywords]
    return "a real " + " and ".join(found) if found else "something else"


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    where = report.longrepr
    text = where[2] if isinstance(where, tuple) else str(where)
    return text.removeprefix("Skipped: ")
