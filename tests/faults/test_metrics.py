"""``GET /metrics`` of a service whose scheduler hangs."""

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.faults.fake import FakeScheduler

from hpcq.schedulers.testing.jobs import Study
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until


def value(service: Service, name: str, **labels: str) -> float:
    """Return the value of one sample, 0 if there is none."""
    answer = service.client.get("/metrics")
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.text)
    samples = [sample for family in families for sample in family.samples]
    found = [s.value for s in samples if (s.name, s.labels) == (name, labels)]
    return found[0] if found else 0.0


@pytest.mark.parametrize("fake", ["SLURM"], indirect=True)
def test_metrics_commands_hang(fake: FakeScheduler, impatient: Service, study: Study) -> None:
    def commands(program: str, outcome: str) -> float:
        return value(impatient, "hpcq_commands_total", program=program, outcome=outcome)

    job = study.job(study.script("true\n"))
    assert impatient.client.post("/jobs", json=job).status_code == 201
    assert commands("sbatch", "success") >= 1
    assert commands("squeue", "success") >= 1
    assert value(impatient, "hpcq_scheduler_up") == 1
    fake.behave_all("hang")
    until(lambda: value(impatient, "hpcq_scheduler_up") == 0)
    assert commands("squeue", "timeout") >= 1
    assert value(impatient, "hpcq_polls_total", outcome="failed") >= 1
    assert value(impatient, "hpcq_submissions_total", outcome="accepted") == 1
