"""``python -m tests.chaos``: crash campaigns of any size, each to be repeated by its seed."""

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.accounts import made_accounts
from tests.backends import BACKENDS
from tests.chaos.campaign import AS_USER, SUBMIT, Result, run_campaign
from tests.chaos.plan import Form, make_plan
from tests.databases import DATABASES

# Only root can make the accounts of people.
SUBMIT_AS = ("service", "user") if os.geteuid() == 0 else ("service",)
COLUMNS = (
    "scheduler",
    "database",
    "form",
    "submit as",
    "jobs",
    "kills",
    "requests",
    "retries",
    "duplicates",
    "lost",
    "wrong",
    "other",
    "seconds",
)


class Case(NamedTuple):
    """One campaign."""

    scheduler: str
    database: str
    form: Form
    submit_as: str
    jobs: int

    def command(self, seed: int) -> str:
        """The command that repeats it."""
        return (
            f"python -m tests.chaos --scheduler {self.scheduler} --database {self.database} "
            f"--form {self.form} --submit-as {self.submit_as} --jobs {self.jobs} --seed {seed}"
        )


def cases(
    schedulers: Sequence[str],
    databases: Sequence[str],
    forms: Sequence[Form],
    submit_as: Sequence[str],
    jobs: int,
) -> list[Case]:
    """Return the campaigns in which each scheduler runs this many jobs altogether."""
    found = []
    for scheduler in schedulers:
        shares = [
            (database, form, account)
            for database in databases
            for form in forms
            for account in submit_as
            if (form is Form.KILLS or scheduler in SUBMIT)
            and (account == "service" or scheduler in AS_USER)
        ]
        for number, share in enumerate(shares):
            found.append(Case(scheduler, *share, (jobs + number) // len(shares)))
    return found


def run(case: Case, seed: int, directory: Path) -> Result:
    """Carry out one campaign; what it leaves is in the directory."""
    settings = BACKENDS[case.scheduler].settings()
    plan = make_plan(seed, case.form, case.jobs, token=secrets.token_hex(4))
    with DATABASES[case.database].fresh(directory) as database, contextlib.ExitStack() as stack:
        account = None
        if case.submit_as == "user":
            directory.chmod(0o711)
            (account,) = stack.enter_context(made_accounts(1, directory))
        return run_campaign(plan, {**settings, **database.settings}, directory, account)


def _row(case: Case, result: Result) -> tuple[str, ...]:
    kinds = ("duplicate", "lost", "wrong")
    counts = [result.count(kind) for kind in kinds]
    figures = (case.jobs, result.kills, result.requests, result.retries, *counts)
    others = len(result.findings) - sum(counts)
    return (*case[:4], *map(str, figures), str(others), f"{result.seconds:.0f}")


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    for row in (COLUMNS, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000, help="for each scheduler")
    parser.add_argument("--scheduler", choices=BACKENDS, action="append", help="default: all")
    parser.add_argument("--database", choices=DATABASES, action="append", help="default: all")
    parser.add_argument("--form", choices=list(Form), type=Form, action="append")
    parser.add_argument("--submit-as", choices=SUBMIT_AS, action="append", help="default: all")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    return parser.parse_args(arguments)


def _report(case: Case, seed: int) -> tuple[tuple[str, ...] | None, bool]:
    """Carry out a campaign and tell of it; return its row, and whether all was well."""
    print(f"{', '.join(case[:4])}: {case.jobs} jobs", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="hpcq-chaos-", dir="/var/tmp"))
    row, problems = None, []
    try:
        result = run(case, seed, directory)
    except (pytest.skip.Exception, pytest.fail.Exception, AssertionError) as problem:
        problems.append(f"it could not be carried out: {problem}")
    else:
        row = _row(case, result)
        problems += [f"{found.kind}: job {found.task}: {found.text}" for found in result.findings]
        for what, counts in (("answers", result.kinds), ("commands", result.modes)):
            if counts:
                print(f"  {what}: " + ", ".join(f"{n} {kind}" for kind, n in counts.items()))
    for line in problems:
        print(f"  {line}")
    if problems:
        print(f"  kept: {directory}\n  repeat: {case.command(seed)}", flush=True)
    else:
        shutil.rmtree(directory)
    return row, not problems


def main(arguments: Sequence[str]) -> int:
    """Carry out all campaigns that are asked for; return 1 when anything was found."""
    asked = _arguments(arguments)
    # What ends this program also ends the service that it runs.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(f"seed {asked.seed}", flush=True)
    chosen = cases(
        asked.scheduler or list(BACKENDS),
        asked.database or list(DATABASES),
        asked.form or list(Form),
        asked.submit_as or SUBMIT_AS,
        asked.jobs,
    )
    reports = [_report(case, asked.seed) for case in chosen]
    _print_table([row for row, _ in reports if row is not None])
    return int(not all(good for _, good in reports))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
