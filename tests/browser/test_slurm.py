"""The page on a real Slurm, with jobs of the service and of others."""

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect
from tests.backends import BACKENDS
from tests.browser.conftest import Reader, submit

from hpcq.schedulers.testing.service import Service

pytestmark = pytest.mark.slurm


@pytest.fixture
def service(start_service: Callable[..., Service]) -> Service:
    return start_service(**BACKENDS["SLURM"].settings())


@pytest.fixture
def foreign_job(service: Service) -> Iterator[str]:
    """A job that somebody submits with ``sbatch``, while the page is open."""
    environment = {**os.environ, "SLURM_CONF": service.settings["SLURM_CONF"]}

    def slurm(*command: str) -> str:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, cwd="/tmp"
        )
        return done.stdout.strip()

    job = slurm(
        *("sbatch", "--parsable", "--job-name=by-hand", "--output=/dev/null", "--hold"),
        *("--wrap", "sleep 1"),
    )
    yield job
    slurm("scancel", job)


def test_list_jobs_of_others(
    service: Service, reader: Reader, request: pytest.FixtureRequest
) -> None:
    # The service keeps neither events nor output of others' jobs.
    page = reader(service, expected=("404", "409"))
    expect(page.locator(".connection.live")).to_be_visible()
    foreign = request.getfixturevalue("foreign_job")
    row = page.get_by_role("row", name="by-hand")
    expect(row).to_contain_text("Held")
    row.click()
    expect(page.get_by_text(f"Job {foreign}", exact=False).first).to_be_visible()
    expect(page.locator(".timeline")).to_contain_text("Submitted")


def test_slurm_job_form_to_end(service: Service, reader: Reader) -> None:
    job = submit(service, name="study", script="#!/bin/sh\necho computed\n")
    page = reader(service, f"#/jobs/{job['uid']}")
    expect(page.locator(".timeline")).to_contain_text("Done")
    expect(page.get_by_role("log")).to_contain_text("computed")
    page.get_by_role("link", name="Submit again").click()
    expect(page.get_by_label("Name")).to_have_value("study")
    page = reader(service, "#/queues")
    expect(page.locator("tbody tr").first).to_be_visible()
