"""The client's types against those of the API: neither knows a field that the other does not."""

from typing import Any, get_type_hints

import pytest
from pydantic import BaseModel

from hpcq.api import schemas
from hpcq.api.job_query import JobFilterQuery
from hpcq.api.job_submission import JobSubmission
from hpcq.api.routers.job_actions import JobUpdate
from hpcq.client import answers, errors
from hpcq.client.questions import JobChanges, JobFilters, Submission, wire_name

# Parameters of `submit` itself; and the cluster, which a client's address stands for.
OF_SUBMIT = {"workingDirectory", "reservedSlots", "scriptFile", "args", "clusterId"}

ANSWERS = {
    answers.JobData: schemas.Job,
    answers.ResourceUsage: schemas.ResourceUsage,
    answers.JobCounts: schemas.JobCounts,
    answers.Plan: schemas.SubmissionPlanOut,
    answers.Program: schemas.ProgramOut,
    answers.Parameter: schemas.ParameterOut,
    answers.Cluster: schemas.ClusterOut,
    answers.Capabilities: schemas.CapabilitiesOut,
    answers.Limits: schemas.LimitsOut,
    answers.Queue: schemas.QueueOut,
    answers.QueueUsage: schemas.QueueUsageOut,
    answers.QueuePoint: schemas.QueuePointOut,
    answers.Node: schemas.NodeOut,
}
QUESTIONS = [
    (Submission, JobSubmission, OF_SUBMIT),
    (JobChanges, JobUpdate, set()),
    (JobFilters, JobFilterQuery, set()),
]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.__name__)
def test_answer_fields(answer: Any) -> None:
    assert set(answer.__struct_encode_fields__) == _fields(ANSWERS[answer])


@pytest.mark.parametrize(
    ("known", "model", "elsewhere"), QUESTIONS, ids=lambda kind: getattr(kind, "__name__", "")
)
def test_request_fields(known: type, model: type[BaseModel], elsewhere: set[str]) -> None:
    assert {wire_name(name) for name in get_type_hints(known)} == _fields(model) - elsewhere


def test_error_class_of_each_status() -> None:
    invalid = {400, 405, 408, 413, 414, 416, 421, 422, 431}
    known = {status for status in range(400, 600) if _kind(status) is not errors.InvalidRequest}
    assert {int(status) for status in _statuses()} - invalid <= known


def _kind(status: int) -> type[errors.Problem]:
    return errors.KINDS.get(status, errors.InvalidRequest)


def _statuses() -> set[int]:
    from hpcq.api.problems import PROBLEMS, TITLES

    return {*TITLES, *(status for _, status, _, _ in PROBLEMS)}


def _fields(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}
