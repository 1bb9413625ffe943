"""Reading: what a job looks like, and ids that are no job's."""

import re
from typing import Any
from urllib.parse import quote

import pytest

from hpcq.schedulers.testing.jobs import Jobs, Study, assert_problem
from hpcq.schedulers.testing.service import Service

BASE_FIELDS = [
    "jobId",
    "status",
    "name",
    "startTime",
    "lastStatusUpdateTime",
    "endTime",
    "clusterId",
    "workingDirectory",
    "reservedSlots",
    "scriptFile",
    "args",
    "resourceUsage",
]
EXTENSION_FIELDS = {
    "uid",
    "state",
    "nativeState",
    "stateReason",
    "explanation",
    "reasonCode",
    "nativeReason",
    "startEstimate",
    "failureKind",
    "exitCode",
    "exitSignal",
    "efficiency",
    "submitTime",
    "owner",
    "submittedBy",
    "queue",
    "account",
    "hosts",
    "wallTimeLimit",
    "memoryLimit",
    "elapsed",
    "stdoutPath",
    "stderrPath",
    "arrayJobId",
    "arrayTaskId",
    "tasks",
    "dependsOn",
    "asOf",
    "stale",
}
USAGE_FIELDS = [
    "cpuSeconds",
    "memoryCpuSeconds",
    "instantTotalMemory",
    "maxTotalMemory",
    "processIO",
    "processIOWaiting",
    "timeInstant",
    "unknown",
]
EFFICIENCY_FIELDS = ["cpu", "memory"]
FIGURES = USAGE_FIELDS[:6]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
LOCAL_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?")

NO_IDS = [
    "99999999",
    "0",
    "-1",
    "all",
    "*",
    "45[]",
    "45[1-3]",
    "45[",
    "1_2_3",
    "1;2",
    "1 2",
    "1,2",
    "1\n2",
    "1|2",
    "-u",
    "--help",
    "$(id)",
    "`id`",
    "../jobs",
    "..",
    ".",
    "1/../2",
    "%00",
    "\0",
    "١٢",
    "1.",
    "1e5",
    "9" * 19,
    "9" * 5000,
    "x" * 5000,
    "00000000-0000-4000-8000-000000000000",
]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_job_not_an_id(service: Service, jobs: Jobs, study: Study, method: str) -> None:
    bystander = jobs.submit(study.job(study.script("true\n"), hold=True))
    for job_id in NO_IDS:
        # The path is sent exactly so: httpx would resolve the dots.
        address = f"/jobs/{quote(job_id, safe='')}".replace(".", "%2E")
        answer = service.client.request(method, address)
        assert_problem(answer, 404, *([414] * (len(job_id) > 1000)))
        assert jobs.read(bystander)["status"] == "START_REQUESTED", job_id


def test_job_fields_in_order(jobs: Jobs, study: Study, service: Service) -> None:
    job_id = jobs.submit(study.job(study.script("true\n"), args=["a"], hold=True))
    for job in (jobs.read(job_id), jobs.listed()[job_id]):
        assert list(job)[: len(BASE_FIELDS)] == BASE_FIELDS
        assert set(job) == EXTENSION_FIELDS | set(BASE_FIELDS)
        assert job["clusterId"] == "conformance"
        assert job["workingDirectory"] == str(study.directory)
        assert job["scriptFile"] == str(study.directory / "study.sh")
        assert (job["reservedSlots"], job["args"]) == (1, ["a"])
        assert job["startTime"] == (job["submitTime"] if service.is_original else None)
        assert job["endTime"] is None
        assert job["exitCode"] is None
        assert job["exitSignal"] is None
        assert job["failureKind"] is None
        assert job["wallTimeLimit"] is None or job["wallTimeLimit"] > 0
        assert job["stale"] is False


def test_job_finished_fields(jobs: Jobs, study: Study) -> None:
    job_id = jobs.submit(study.job(study.script("true\n"), args=["a b"], wallTimeLimit=3600))
    job = jobs.ended(job_id)
    assert list(job)[: len(BASE_FIELDS)] == BASE_FIELDS
    assert (job["status"], job["state"], job["exitCode"]) == ("STOPPED", "DONE", 0)
    assert (job["args"], job["wallTimeLimit"]) == (["a b"], 3600)
    assert job["workingDirectory"] == str(study.directory)
    _assert_usage(job)
    assert job["resourceUsage"]["instantTotalMemory"] == 0.0
    assert "instantTotalMemory" not in job["resourceUsage"]["unknown"]
    assert list(job["efficiency"]) == EFFICIENCY_FIELDS
    assert job["hosts"]
    assert job["owner"]


def test_efficiency_after_end(jobs: Jobs, study: Study) -> None:
    script = study.directory / "busy.py"
    script.write_text(
        "#!/usr/bin/env python3\n"
        "import os, time\n"
        "while not os.path.exists('go'):\n"
        "    time.sleep(0.2)\n"
        "while time.process_time() < 2:\n"
        "    sum(range(10000))\n"
    )
    script.chmod(0o755)
    job_id = jobs.submit(study.job(script, memoryLimit=1))
    assert jobs.running(job_id)["efficiency"] is None
    (study.directory / "go").touch()
    job = jobs.ended(job_id)
    usage, efficiency = job["resourceUsage"], job["efficiency"]
    for share, figure in (("cpu", "cpuSeconds"), ("memory", "maxTotalMemory")):
        assert (efficiency[share] is None) == (figure in usage["unknown"]), job
    # Schedulers tell whole seconds.
    assert efficiency["cpu"] is None or 0 < efficiency["cpu"] < 2
    assert efficiency["memory"] is None or 0 < efficiency["memory"] < 1


def test_times_utc_milliseconds_ordered(jobs: Jobs, study: Study, service: Service) -> None:
    job_id = jobs.submit(study.job(study.script("sleep 1\n")))
    job = jobs.ended(job_id)
    times = ["submitTime", "startTime", "endTime", "lastStatusUpdateTime", "asOf"]
    form = LOCAL_TIME if service.is_original else TIME
    assert all(form.fullmatch(job[name]) for name in times), {name: job[name] for name in times}
    # Schedulers tell whole seconds, this service milliseconds.
    assert job["submitTime"][:19] <= job["startTime"][:19] <= job["endTime"][:19]
    assert job["elapsed"] in (1, 2, 3)


def test_job_by_uid(service: Service, jobs: Jobs, study: Study) -> None:
    job_id = jobs.submit(study.job(study.script("true\n"), hold=True))
    uid = jobs.read(job_id)["uid"]
    assert service.client.get(f"/jobs/{uid}").json()["jobId"] == job_id


def test_usage_in_listing_on_request(jobs: Jobs, study: Study, service: Service) -> None:
    job_id = jobs.submit(study.job(study.script("true\n")))
    assert jobs.ended(job_id)["resourceUsage"] is not None
    if service.is_original:
        job_id = jobs.submit(study.job(study.script("exec sleep 60\n")))
        jobs.running(job_id)
        jobs.wait(job_id, lambda job: job["resourceUsage"] is not None)
    assert jobs.listed()[job_id]["resourceUsage"] is None
    assert jobs.listed("?expand=resourceUsage")[job_id]["resourceUsage"] is not None


def test_usage_grows_while_running(service: Service, jobs: Jobs, study: Study) -> None:
    script = study.directory / "busy.py"
    script.write_text(
        "#!/usr/bin/env python3\n"
        "import time\n"
        "held = bytearray(b'x') * (100 << 20)\n"
        "end = time.monotonic() + 3600\n"
        "while time.monotonic() < end:\n"
        "    sum(range(10000))\n"
    )
    script.chmod(0o755)
    job_id = jobs.submit(study.job(script, memoryLimit=1))
    jobs.running(job_id)
    first = jobs.wait(job_id, lambda job: _used(job, "cpuSeconds") > 0)
    seconds = _used(first, "cpuSeconds")
    second = jobs.wait(job_id, lambda job: _used(job, "cpuSeconds") >= seconds + 1)
    assert first["status"] == second["status"] == "RUNNING"
    assert second["startTime"] is not None
    usage = jobs.wait(job_id, lambda job: _used(job, "maxTotalMemory") > 0.09)["resourceUsage"]
    assert 0.09 < usage["maxTotalMemory"] < 2
    assert "instantTotalMemory" in usage["unknown"] or 0 < usage["instantTotalMemory"] < 2
    for sample in service.client.get(f"/jobs/{job_id}/usage").json():
        _assert_usage({"resourceUsage": sample})
    jobs.delete(job_id)
    final = jobs.ended(job_id)["resourceUsage"]
    assert "cpuSeconds" in final["unknown"] or final["cpuSeconds"] >= seconds


def _used(job: dict[str, Any], figure: str) -> float:
    _assert_usage(job)
    usage = job["resourceUsage"] or {}
    return float(usage.get(figure, 0))


def _assert_usage(job: dict[str, Any]) -> None:
    """Check that the figures are numbers, or that there are none at all."""
    usage = job["resourceUsage"]
    if usage is None:
        return
    assert list(usage) == USAGE_FIELDS
    assert all(isinstance(usage[name], int | float) for name in FIGURES)
    assert set(usage["unknown"]) <= set(FIGURES)
    assert all(usage[name] == 0.0 for name in usage["unknown"])
    assert TIME.fullmatch(usage["timeInstant"]) or LOCAL_TIME.fullmatch(usage["timeInstant"])
