"""The schemas of the documentation, against real answers."""

from hpcq.api.schemas import JOB_EXAMPLE, Job


def test_the_documented_job_is_a_job_with_its_fields_in_order() -> None:
    job = Job.model_validate(JOB_EXAMPLE)

    assert list(job.model_dump(by_alias=True)) == list(JOB_EXAMPLE)
