"""Addresses: with and without the root path, with and without a slash at the end."""

import pytest
from tests.backends import AS_ORIGINAL

from hpcq.schedulers.testing.jobs import Jobs, Study
from hpcq.schedulers.testing.service import ROOT_PATH, Service


@pytest.mark.parametrize("backend", ["LOCAL", AS_ORIGINAL], indirect=True)
@pytest.mark.parametrize("prefix", ["", ROOT_PATH])
@pytest.mark.parametrize("slash", ["", "/"])
def test_address_each_form(
    service: Service, jobs: Jobs, study: Study, prefix: str, slash: str
) -> None:
    client = service.client
    body = study.job(study.script("true\n"), hold=True)
    answer = client.post(f"{prefix}/jobs{slash}", json=body)
    assert answer.status_code == 201
    job_id = jobs.accepted(answer)
    assert job_id in {job["jobId"] for job in client.get(f"{prefix}/jobs{slash}").json()}
    assert client.get(f"{prefix}/jobs/{job_id}{slash}").json()["jobId"] == job_id
    assert client.get(f"{prefix}/programs{slash}").status_code == 200
    deleted = client.delete(f"{prefix}/jobs/{job_id}{slash}")
    assert (deleted.status_code, deleted.json()) == (202, {"detail": f"jobId: {job_id}"})
