"""Grid Engine's XML is malformed, partial or about unknown jobs, and the reader falls over.

Met in: ood_core; qtoolkit 50; torque 357.
Here: An unknown id is a 404, not an error. An error in one job's element hides no other job. Half a
document, which would seem to end the missing jobs, is an error and changes nothing.

Torque's documents are covered too: an empty one, none at all, two in a row.
"""

import pytest
from tests.failures.site import Site, key_of, listed, read, read_until, submitted, until
from tests.unit.schedulers.sge.recorded import recorded

from hpcq.schedulers.testing.jobs import Study, assert_problem
from hpcq.schedulers.testing.service import Service

of_grid_engine = pytest.mark.parametrize("site", ["SGE"], indirect=True)
of_torque = pytest.mark.parametrize("site", ["TORQUE"], indirect=True)

BAD = [
    # no state
    b"<job_list><JB_job_number>90001</JB_job_number></job_list>\n",
    # not closed
    b"<job_list><JB_job_number>90002</JB_job_number><state>r\n",
    # no number
    b"<job_list><JB_name>x</JB_name><state>r</state></job_list>\n",
    # slots that are no number
    b"<job_list><JB_job_number>90003</JB_job_number><state>r</state><slots>many</slots>"
    b"</job_list>\n",
]
ODD = [b"\x01\x08 & \xff <", b"&nbsp;&#0;&bogus;", b"]]>"]


@of_grid_engine
def test_qstat_malformed_elements(site: Site, serving: Service, study: Study) -> None:
    taken = submitted(serving, study)
    site.queue("80001", name="before")
    site.raw("6", b"".join(BAD))
    site.raw(
        "7-90009", b"<job_list><JB_job_number>90009</JB_job_number><state>r</state></job_list>"
    )
    until(lambda: {"80001", "90009", taken["jobId"]} <= listed(serving).keys())
    assert listed(serving).keys() == {"80001", "90009", taken["jobId"]}
    until(lambda: serving.log_tail().count("job.unreadable") == len(BAD))
    assert serving.client.get("/health/ready").status_code == 200


@of_grid_engine
def test_qstat_name_invalid_xml(site: Site, serving: Service) -> None:
    for number, spoilt in enumerate(ODD, 80001):
        site.raw(
            f"2-{number}",
            b"<job_list><JB_job_number>%d</JB_job_number><JB_name>%s</JB_name><state>r</state>"
            b"</job_list>\n" % (number, spoilt),
        )
    site.queue("90000")
    until(lambda: "90000" in listed(serving))
    assert {i: job["state"] for i, job in listed(serving).items()} == dict.fromkeys(
        ("80001", "80002", "80003", "90000"), "RUNNING"
    )


@of_grid_engine
def test_qstat_unknown_id(site: Site, serving: Service) -> None:
    unknown = recorded("qstat_j_xml_unknown")
    site.fake.answer("qstat", unknown.stdout, question="some", exit_status=unknown.exit_code)
    assert_problem(serving.client.get("/jobs/999999"), 404)


@of_grid_engine
def test_qstat_unknown_job_in_accounting(site: Site, serving: Service, study: Study) -> None:
    unknown = recorded("qstat_j_xml_unknown")
    site.fake.answer("qstat", unknown.stdout, question="some", exit_status=unknown.exit_code)
    taken = submitted(serving, study)
    site.fake.put(site.listing, "5-" + taken["jobId"], b"")
    site.account(taken["jobId"], key=key_of(taken))
    job = read_until(serving, taken["jobId"], lambda job: job["state"] == "DONE")
    assert job["uid"] == taken["uid"]


@of_grid_engine
def test_qstat_truncated_document(site: Site, serving: Service, study: Study) -> None:
    taken = submitted(serving, study)
    site.queue(taken["jobId"])
    read_until(serving, taken["jobId"], lambda job: job["state"] == "RUNNING")
    whole = recorded("qstat_xml_mixed").stdout
    site.fake.answer("qstat", whole[: len(whole) // 2])
    read_until(serving, taken["jobId"], lambda job: job["stale"])
    assert read(serving, taken["jobId"])["state"] == "RUNNING"
    assert listed(serving).keys() == {taken["jobId"]}


@of_torque
def test_qstat_several_documents_or_none(site: Site, serving: Service, study: Study) -> None:
    first, second = submitted(serving, study), submitted(serving, study)
    for taken in (first, second):
        site.queue(taken["jobId"], key=key_of(taken))
    for taken in (first, second):  # of both together, usage is asked for: two documents
        read_until(serving, taken["jobId"], lambda job: job["state"] == "RUNNING")
    assert "details." not in serving.log_tail()
    site.fake.answer("qstat", b"")
    for taken in (first, second):
        read_until(serving, taken["jobId"], lambda job: job["state"] == "UNDETERMINED")
    assert listed(serving).keys() == {first["jobId"], second["jobId"]}


@of_torque
@pytest.mark.parametrize("cut", [b"<Data>", b"<Data><Job><Job_Id>", b"Welcome\n"])
def test_qstat_truncated_document_torque(
    site: Site, serving: Service, study: Study, cut: bytes
) -> None:
    taken = submitted(serving, study)
    site.queue(taken["jobId"], key=key_of(taken))
    read_until(serving, taken["jobId"], lambda job: job["state"] == "RUNNING")
    site.fake.answer("qstat", cut)
    job = read_until(serving, taken["jobId"], lambda job: job["stale"])
    assert job["state"] == "RUNNING"


@of_torque
def test_qstat_invalid_byte(site: Site, serving: Service, study: Study) -> None:
    site.queue("80001", name=b"caf\xe9 \x01 name")
    site.queue("80002", name="after")
    until(lambda: len(listed(serving)) == 2)
    assert listed(serving)["80002"]["name"] == "after"
    assert "job.unreadable" not in serving.whole_log()
