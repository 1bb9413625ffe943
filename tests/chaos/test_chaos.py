"""A hundred jobs for each scheduler, while the service is killed: each runs exactly once."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.accounts import made_accounts
from tests.backends import BACKENDS
from tests.chaos.campaign import AS_USER, SUBMIT, Result, run_campaign
from tests.chaos.plan import Form, make_plan
from tests.databases import DATABASES

JOBS_OF_A_CAMPAIGN = 50
# What PostgreSQL does differs with no scheduler; all of them on it are for ``make chaos``.
ON_POSTGRESQL = "SLURM"


def _cases() -> Iterator[object]:
    for name, backend in BACKENDS.items():
        forms = list(Form) if name in SUBMIT else [Form.KILLS]
        for database, kind in DATABASES.items():
            if database != "SQLITE" and name != ON_POSTGRESQL:
                continue
            group = pytest.mark.xdist_group(f"test_chaos-{database}-{name}")
            marks = (*backend.marks, *kind.marks, group)
            for form in forms:
                yield pytest.param(
                    name, form, database, marks=marks, id=f"{database}-{name}-{form}"
                )


@pytest.mark.parametrize(("scheduler", "form", "database"), list(_cases()))
def test_chaos_each_job_runs_once(
    scheduler: str, form: Form, database: str, tmp_path: Path
) -> None:
    seed = secrets.randbelow(10**6)
    plan = make_plan(seed, form, JOBS_OF_A_CAMPAIGN, token=secrets.token_hex(4))
    with DATABASES[database].fresh(tmp_path) as fresh:
        settings = {**BACKENDS[scheduler].settings(), **fresh.settings}
        result = run_campaign(plan, settings, tmp_path)
    _check(result)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make accounts")
@pytest.mark.parametrize(
    "scheduler", [pytest.param(name, marks=BACKENDS[name].marks) for name in AS_USER]
)
def test_chaos_each_job_of_user_runs_once(scheduler: str) -> None:
    seed = secrets.randbelow(10**6)
    form = Form.MISBEHAVING if scheduler in SUBMIT else Form.KILLS
    plan = make_plan(seed, form, JOBS_OF_A_CAMPAIGN, token=secrets.token_hex(4))
    # Others cannot enter pytest's own folders.
    directory = Path(tempfile.mkdtemp(prefix="hpcq-t-", dir="/var/tmp"))
    directory.chmod(0o711)
    try:
        with made_accounts(1, directory) as (account,):
            settings = BACKENDS[scheduler].settings()
            result = run_campaign(plan, settings, directory / "campaign", account)
    finally:
        shutil.rmtree(directory)
    _check(result)


def _check(result: Result) -> None:
    findings = "\n".join(f"{f.kind}: job {f.task}: {f.text}" for f in result.findings)
    assert not findings, f"--seed {result.plan.seed}, answers {dict(result.kinds)}\n{findings}"
    assert result.kills > 0
