"""One bad record, from one user's job, makes a whole answer unreadable for everybody.

Met in: openpbs 2541, 1255, 2677.
Here: Each record is read by itself, of squeue and sacct, of qstat and the accounting file. A bad
one is logged with its reason and hides no other job; a job of ours whose record is bad is where it
was.

The invalid JSON of PBS (bad escapes, leading zeros, duplicate keys, control characters) is to be
added with that scheduler.
"""

import pytest
from tests.failures.site import Site, key_of, listed, read_until, submitted, until
from tests.jobs import Study
from tests.service import Service

BAD_IN_QUEUE = {
    "SLURM": b"%s\x1fRUNNING\x1fonly three columns\x1d0123456789abcdef\x1d\n",
    "SGE": b"<job_list><JB_job_number>%s</JB_job_number><state>r</state><slots>x</slots>"
    b"</job_list>\n",
    "TORQUE": b"<Job><Job_Id>%s.vm</Job_Id><job_state>R</job_states></Job>",
}
WITHOUT_AN_ID = {
    "SLURM": b"\x1f\x00\xff\x1d0123456789abcdef\x1d\n",
    "SGE": b"<job_list>\x00\xff</job_list>\n",
    "TORQUE": b"<Job>\x00\xff</Job>",
}
BAD_IN_ACCOUNTING = {
    "SLURM": b"not an id" + 24 * b"\x1f0123456789abcdef\x1f" + b"\n",
    "SGE": b"all.q:n1:users:ana:study:%s:sge:no:times:here\n",
    "TORQUE": b"11/22/2026;E;%s.vm;no time at all\n",
}


def test_a_bad_record_in_the_queue_hides_no_other(
    site: Site, serving: Service, study: Study
) -> None:
    site.queue("90001", name="before")
    site.raw("6", BAD_IN_QUEUE[site.fake.scheduler] % b"90002")
    site.raw("7", WITHOUT_AN_ID[site.fake.scheduler])
    taken = submitted(serving, study)
    until(lambda: {"90001", taken["jobId"]} <= listed(serving).keys())
    assert "90002" not in listed(serving)
    until(lambda: serving.log_tail().count("job.unreadable") == 2)
    assert serving.client.get("/health/ready").status_code == 200


def test_a_job_of_ours_whose_record_is_bad_is_where_it_was(
    site: Site, serving: Service, study: Study
) -> None:
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


@pytest.mark.parametrize("first", [True, False], ids=["before it", "after it"])
def test_a_bad_record_in_the_accounting_hides_no_other(
    site: Site, serving: Service, study: Study, first: bool
) -> None:
    taken = submitted(serving, study)
    job_id = taken["jobId"]
    read_until(serving, job_id, lambda job: job["nativeState"] is not None)

    def spoil() -> None:
        bad = BAD_IN_ACCOUNTING[site.fake.scheduler]
        if site.fake.scheduler == "SLURM":
            site.fake.put("sacct.some", "1" if first else "7", bad)
        else:
            with site.fake.accounting_file.open("ab") as file:
                file.write(bad % job_id.encode())

    if first:
        spoil()
    site.account(job_id, key=key_of(taken), code=3)
    if not first:
        spoil()
    site.leave(job_id)
    job = read_until(serving, job_id, lambda job: job["state"] == "FAILED")
    assert job["exitCode"] == 3
