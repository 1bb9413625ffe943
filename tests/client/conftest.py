"""A service on LOCAL, and clients of it."""

from collections.abc import Iterator

import pytest

from hpcq.client import Client
from hpcq.schedulers.testing.jobs import Study
from hpcq.schedulers.testing.service import ROOT_PATH, Service

__all__ = ["client", "service", "waiting_script"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {"SCHEDULER": "LOCAL", "ROOT_PATH": ROOT_PATH}
    with Service(tmp_path_factory.mktemp("service"), settings) as running:
        yield running


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(f"{service.url}{ROOT_PATH}") as new:
        yield new
        for job in new.jobs(active=True):
            job.delete()


@pytest.fixture
def waiting_script(study: Study) -> str:
    """A script that says so, and waits for a file ``go``."""
    body = "echo began\nwhile [ ! -e go ]; do sleep 0.05; done\necho ended\nexit 3\n"
    return str(study.script(body))
