"""Another version of the scheduler prints another format, and jobs get lost.

Met in: ood_core 99, 105.
Here: Recordings hold the output of each version, and the whole service reads them again: it lists
every job of a recording, in a known state. It ignores additions of later versions.

To add a version, record it: these tests find it by themselves.
"""

import re
from pathlib import Path

import pytest
from tests.failures.site import Site, listed, read, until
from tests.unit.schedulers.sge import recorded as sge
from tests.unit.schedulers.slurm import recorded as slurm
from tests.unit.schedulers.torque import recorded as torque

from hpcq.execution.protocol import Completed
from hpcq.schedulers.testing.jobs import Json
from hpcq.schedulers.testing.service import Service

ACCOUNTING = sorted(sge.ROOT.glob("*/accounting_file"))
NOT_OVER = ("history-het-pending", "history-incomplete-owner")
HISTORIES = sorted(slurm.ROOT.glob("*/history-*"))
_RESCHEDULED = b"25"
_SGE_NUMBER = re.compile(rb"<JB_job_number>(\d+)<")
_TORQUE_ID = re.compile(rb"<Job_Id>(\d+)")
_SLURM_ID = re.compile(rb"(?:^|\n)([0-9][0-9_+]*)\x1f")


def _name(path: Path) -> str:
    return f"{path.parent.name}-{path.name}"


def _listings(scheduler: str) -> dict[str, Completed]:
    """Return every recorded listing of a queue, of every version, by its name."""
    if scheduler == "SGE":
        paths, read_case = sge.ROOT.glob("*/qstat_xml_*"), sge.recorded
    elif scheduler == "TORQUE":
        paths, read_case = torque.ROOT.glob("*/qstat-x.*"), torque.recorded
    else:
        paths, read_case = slurm.ROOT.glob("*/listing-*"), slurm.recorded
    answers = {_name(path): read_case(path.name, path.parent.name) for path in sorted(paths)}
    return {name: answer for name, answer in answers.items() if answer.exit_code == 0}


def test_queue_recordings_all_jobs(site: Site, serving: Service) -> None:
    pattern = {"SGE": _SGE_NUMBER, "SLURM": _SLURM_ID, "TORQUE": _TORQUE_ID}[site.fake.scheduler]
    listings = _listings(site.fake.scheduler)
    assert len(listings) >= 3
    for name, answer in listings.items():
        expected = {number.decode() for number in pattern.findall(answer.stdout)}
        # Tasks of arrays and components stand beside the whole that they belong to.
        expected |= {re.split("[_+]", job_id)[0] for job_id in expected}
        site.fake.answer(site.fake.list, answer.stdout)
        jobs = _listed_once(serving, expected, name)
        unknown = {job["nativeState"] for job in jobs.values() if job["state"] == "UNDETERMINED"}
        assert unknown == set(), name
    assert "job.unreadable" not in serving.whole_log()


def _listed_once(serving: Service, expected: set[str], name: str) -> dict[str, Json]:
    """Wait until these jobs and no others are listed; return them."""

    def is_shown() -> bool:
        return {job_id.split("[")[0] for job_id in listed(serving)} == expected

    until(is_shown, lambda: f"{name}: {sorted(listed(serving))} is not {sorted(expected)}")
    return listed(serving)


@pytest.mark.parametrize("path", ACCOUNTING, ids=_name)
@pytest.mark.parametrize("site", ["SGE"], indirect=True)
def test_accounting_file_recordings_all_ends(site: Site, serving: Service, path: Path) -> None:
    content = sge.recorded("accounting_file", path.parent.name).stdout
    site.fake.accounting_file.write_bytes(content)
    records = [line.split(b":") for line in content.splitlines() if line.count(b":") > 30]
    # A job of which all records say that it was put back has not ended.
    numbers = {record[5] for record in records if record[11] != _RESCHEDULED}
    assert numbers
    for number in numbers:
        assert read(serving, number.decode())["state"] in ("DONE", "FAILED")


@pytest.mark.parametrize("version", sorted({path.parent.name for path in HISTORIES}))
@pytest.mark.parametrize("site", ["SLURM"], indirect=True)
def test_history_recordings_all_ends(site: Site, serving: Service, version: str) -> None:
    names = (path.name for path in HISTORIES if path.parent.name == version)
    cases = [name for name in names if name not in NOT_OVER]
    ended = {}
    for answer in (slurm.recorded(case, version) for case in cases):
        ids = re.match(rb"[0-9]+(?=\x1f)", answer.stdout)
        if answer.exit_code == 0 and ids:
            site.fake.answer("sacct", answer.stdout, question="some")
            ended[ids[0]] = read(serving, ids[0].decode())["state"]
    assert len(ended) >= 5
    assert set(ended.values()) <= {"DONE", "FAILED"}


@pytest.mark.parametrize("site", ["SGE"], indirect=True)
def test_later_version_extra_fields(site: Site, serving: Service) -> None:
    site.raw(
        "1",
        b'<job_list state="running" new="1"><JB_job_number>1000</JB_job_number><JB_new>x</JB_new>'
        b"<JB_name>n</JB_name><state>r</state><slots>1</slots><a><b>c</b></a></job_list>\n",
    )
    site.account("1001", code=3)
    content = site.fake.accounting_file.read_bytes()
    site.fake.accounting_file.write_bytes(content.replace(b"\n", b":later:0:{}\n"))
    until(lambda: "1000" in listed(serving))
    assert read(serving, "1000")["state"] == "RUNNING"
    assert read(serving, "1001")["exitCode"] == 3


@pytest.mark.parametrize("site", ["SLURM"], indirect=True)
def test_times_as_text(site: Site, serving: Service) -> None:
    """Versions that do not know SLURM_TIME_FORMAT=%s print ISO 8601, in UTC by TZ."""
    site.queue("1000", submit="2026-01-05T12:00:00", start="2026-01-05T12:00:01")
    until(lambda: "1000" in listed(serving))
    assert read(serving, "1000")["startTime"] == "2026-01-05T12:00:01.000Z"
