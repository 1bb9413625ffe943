"""The pictures of the documentation; ``make screenshots`` keeps them in ``docs/images``."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from tests.browser.conftest import Reader, submit

from hpcq.schedulers.testing.service import INSTALLATION, Service

STUDY = """#!/bin/sh
for number in 1 2 3 4 5 6 7 8 9 10; do
    echo "iteration $number: cost between $((6000 + number * 30)) and $((7000 - number * 60))"
    end=$(($(date +%s) + 1)); while [ "$(date +%s)" -lt "$end" ]; do :; done
done
sleep 600
"""
CASES = "#!/bin/sh\n[ $((HPCQ_ARRAY_TASK_ID % 7)) -ne 0 ]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    kept = os.environ.get("SCREENSHOTS")
    return tmp_path if kept is None else INSTALLATION / kept


def take(page: Page, path: Path) -> None:
    page.screenshot(path=path, animations="disabled", scale="css")
    assert path.stat().st_size > 10_000


def test_documentation_screenshots(
    start_service: Callable[..., Service], reader: Reader, folder: Path
) -> None:
    service = start_service(INTERNAL_SCHEDULER_MAX_SLOTS="4")
    study = submit(service, name="newave-pmo", script=STUDY, wallTimeLimit=7200, memoryLimit=2)
    cases = submit(service, name="dessem-cases", script=CASES, array={"first": 1, "last": 60})
    submit(service, name="decomp-rv0", script="#!/bin/sh\nexit 3\n")
    submit(service, name="newave-rv1", hold=True)
    submit(service, name="newave-large", reservedSlots=4)

    page = reader(service, f"#/jobs/{study['uid']}")
    expect(page.get_by_role("log")).to_contain_text("iteration 10", timeout=180_000)
    expect(page.locator(".chart canvas")).to_have_count(3)
    take(page, folder / "job.png")
    page = reader(service)
    expect(page.get_by_role("row", name="decomp-rv0")).to_contain_text("Failed")
    expect(page.get_by_role("row", name="dessem-cases")).to_contain_text("60 of 60")
    take(page, folder / "jobs.png")
    page = reader(service, f"#/jobs/{cases['uid']}", language="pt", dark=True)
    expect(page.locator(".tasks a.state-FAILED")).to_have_count(8)
    page.locator(".tasks").scroll_into_view_if_needed()
    take(page, folder / "array.png")
