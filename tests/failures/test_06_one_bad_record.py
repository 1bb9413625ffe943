"""One bad record, from one user's job, makes a whole answer unreadable for everybody.

Met in: openpbs 2541, 1255, 2677.
Here: Each record is read by itself, of squeue and sacct, of qstat and the accounting file. A bad
one is logged with its reason and hides no other job; a job of ours whose record is bad is where it
was. The answer of PBS is divided into jobs by a delimiter that no user knows.
"""

import pytest
from tests.failures.site import SITES, Site, key_of, listed, read_until, submitted, until

from hpcq.schedulers.testing.jobs import Study
from hpcq.schedulers.testing.service import Service

BAD_IN_QUEUE = {
    "SLURM": b"%s\x1fRUNNING\x1fonly three columns\x1d0123456789abcdef\x1d\n",
    "SGE": b"<job_list><JB_job_number>%s</JB_job_number><state>r</state><slots>x</slots>"
    b"</job_list>\n",
    "TORQUE": b"<Job><Job_Id>%s.vm</Job_Id><job_state>R</job_states></Job>",
    "PBS": b"Job Id: %s.pbshead\x1f0123456789abcdef\x1fJob_Name=no state\n",
}
WITHOUT_AN_ID = {
    "SLURM": b"\x1f\x00\xff\x1d0123456789abcdef\x1d\n",
    "SGE": b"<job_list>\x00\xff</job_list>\n",
    "TORQUE": b"<Job>\x00\xff</Job>",
    "PBS": b"Job Id: \x00\xff\x1f0123456789abcdef\x1fJob_Name=no id\n",
}
BAD_IN_ACCOUNTING = {
    "SLURM": b"not an id" + 24 * b"\x1f0123456789abcdef\x1f" + b"\n",
    "SGE": b"all.q:n1:users:ana:study:%s:sge:no:times:here\n",
    "TORQUE": b"11/22/2026;E;%s.vm;no time at all\n",
    "PBS": b"Job Id: not an id\x1f0123456789abcdef\x1fJob_Name=n\n",
}
EVERYWHERE = pytest.mark.parametrize("site", SITES, indirect=True)


@EVERYWHERE
def test_queue_bad_record(site: Site, serving: Service, study: Study) -> None:
    site.queue("90001", name="before")
    site.raw("6", BAD_IN_QUEUE[site.fake.scheduler] % b"90002")
    site.raw("7", WITHOUT_AN_ID[site.fake.scheduler])
    taken = submitted(serving, study)
    until(lambda: {"90001", taken["jobId"]} <= listed(serving).keys())
    assert "90002" not in listed(serving)
    until(lambda: serving.log_tail().count("job.unreadable") == 2)
    assert serving.client.get("/health/ready").status_code == 200


@EVERYWHERE
def test_queue_bad_record_own_job(site: Site, serving: Service, study: Study) -> None:
    taken = submitted(serving, study)
    job_id = taken["jobId"]
    site.queue(job_id, key=key_of(taken))
    read_until(serving, job_id, lambda job: job["state"] == "RUNNING")
    site.raw(f"5-{job_id}", BAD_IN_QUEUE[site.fake.scheduler] % job_id.encode())
    until(lambda: "job.unreadable" in serving.log_tail())
    site.polled(3)
    assert listed(serving)[job_id]["state"] == "RUNNING"
    site.leave(job_id)
    site.account(job_id, key=key_of(taken))
    read_until(serving, job_id, lambda job: job["state"] == "DONE")


@EVERYWHERE
@pytest.mark.parametrize("first", [True, False], ids=["before it", "after it"])
def test_accounting_bad_record(site: Site, serving: Service, study: Study, first: bool) -> None:
    taken = submitted(serving, study)
    job_id = taken["jobId"]
    read_until(serving, job_id, lambda job: job["nativeState"] is not None)

    def spoil() -> None:
        bad = BAD_IN_ACCOUNTING[site.fake.scheduler]
        if site.fake.scheduler in ("SGE", "TORQUE"):
            with site.fake.accounting_file.open("ab") as file:
                file.write(bad % job_id.encode())
        else:
            site.fake.put(f"{site.accounting_command}.some", "1" if first else "7", bad)

    if first:
        spoil()
    site.account(job_id, key=key_of(taken), code=3)
    if not first:
        spoil()
    site.leave(job_id)
    job = read_until(serving, job_id, lambda job: job["state"] == "FAILED")
    assert job["exitCode"] == 3


# Values in other users' jobs. The release of June 2023 prints the byte 0xCA as caret and newline.
SPOILT = [
    rb"bad escape \q \033 \x41",
    b"\xff\xfe caf\xe9",
    b"raw \x01\x1b[31m control",
    b"007",
    b"^\nJob Id: 99999.pbshead",
    b"a\nJob Id: 99999.pbshead|Job_Name=forged|job_state=R",
    rb"ends with a backslash\\",
]


@pytest.mark.parametrize("site", ["PBS"], indirect=True)
def test_queue_spoilt_value(site: Site, serving: Service) -> None:
    mark = b"\x1f0123456789abcdef\x1f"
    for number, value in enumerate(SPOILT, 80001):
        fields = (b"Job Id: %d.pbshead" % number, b"Job_Name=" + value, b"job_state=R")
        site.raw(f"2-{number}", mark.join(fields) + b"\n")
    site.queue("90000", name="after")
    until(lambda: "90000" in listed(serving))
    assert listed(serving).keys() == {str(80001 + n) for n in range(len(SPOILT))} | {"90000"}
    assert "job.unreadable" not in serving.whole_log()
