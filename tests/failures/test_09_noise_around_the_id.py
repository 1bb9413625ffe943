"""Banners and messages surround the submission's answer, and a word is taken for the id.

Met in: maestrowf 441; dask-jobqueue 209 ("Stampede3" was taken for job 3).
Here: The service asks for the machine format, and takes only an id for an id. Noise on standard
error does no harm; with noise around the id itself the service finds the job by its key.
"""

import pytest
from tests.failures.site import Site, key_of, listed, until

from hpcq.schedulers.testing.jobs import Study
from hpcq.schedulers.testing.service import Service


def test_submit_output_banner(site: Site, serving: Service, study: Study) -> None:
    site.takes("banner")
    answer = serving.client.post("/jobs", json=study.job(study.script("true\n")))
    assert answer.status_code == 201, answer.text
    found = until(lambda: (jobs := listed(serving)) and jobs)
    assert found.keys() == {answer.json()["jobId"]}
    arguments, _, _ = site.fake.taken(answer.json()["jobId"])
    assert key_of(answer.json()) in " ".join(arguments)
    assert site.fake.runs(site.fake.submit) == 1


def test_submit_output_stderr_noise(site: Site, serving: Service, study: Study) -> None:
    site.takes("noisy")
    answer = serving.client.post("/jobs", json=study.job(study.script("true\n")))
    assert answer.status_code == 201, answer.text
    until(lambda: answer.json()["jobId"] in listed(serving))


def test_submit_machine_format_option(site: Site, serving: Service, study: Study) -> None:
    answer = serving.client.post("/jobs", json=study.job(study.script("true\n")))
    arguments, _, _ = site.fake.taken(answer.json()["jobId"])
    # Torque has none: its answer is the id alone.
    expected = {"SLURM": ["--parsable"], "SGE": ["-terse"], "TORQUE": []}[site.fake.scheduler]
    assert all(option in arguments for option in expected)


@pytest.mark.parametrize("site", ["SLURM"], indirect=True)
def test_submit_output_cluster_name(site: Site, serving: Service, study: Study) -> None:
    site.takes("with-cluster")
    answer = serving.client.post("/jobs", json=study.job(study.script("true\n")))
    assert answer.status_code == 201, answer.text
    until(lambda: answer.json()["jobId"] in listed(serving))
