"""The schemas of the documentation, against real answers."""

from hpcq.api.schemas import JOB_EXAMPLE, Job


def test_job_schema_example_and_field_order() -> None:
    job = Job.model_validate(JOB_EXAMPLE)

    assert list(job.model_dump(by_alias=True)) == list(JOB_EXAMPLE)
