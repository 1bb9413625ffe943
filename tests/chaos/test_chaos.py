"""Two hundred jobs for each scheduler, while the service is killed: each runs exactly once."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.backends import BACKENDS
from tests.chaos.campaign import SUBMIT, run_campaign
from tests.chaos.plan import Form, make_plan
from tests.databases import DATABASES, Database

JOBS_PER_SCHEDULER = 200


def _cases() -> Iterator[object]:
    for name, backend in BACKENDS.items():
        forms = list(Form) if name in SUBMIT else [Form.KILLS]
        jobs = JOBS_PER_SCHEDULER // (len(forms) * len(DATABASES))
        for form in forms:
            yield pytest.param(name, form, jobs, marks=backend.marks, id=f"{name}-{form}")


@pytest.mark.parametrize(("scheduler", "form", "jobs"), list(_cases()))
def test_every_job_runs_exactly_once(
    scheduler: str, form: Form, jobs: int, database: Database, tmp_path: Path
) -> None:
    seed = secrets.randbelow(10**6)
    plan = make_plan(seed, form, jobs, token=secrets.token_hex(4))
    settings = {**BACKENDS[scheduler].settings(), **database.settings}
    result = run_campaign(plan, settings, tmp_path)
    findings = "\n".join(f"{f.kind}: job {f.task}: {f.text}" for f in result.findings)
    assert not findings, f"--seed {seed}, answers {dict(result.kinds)}\n{findings}"
    assert result.kills > 0
