r"""A name with `|`, a newline, quotes, commas or bytes that are no UTF-8 breaks or forges records.

Met in: ood_core 838; pyslurm 33.
Here: Free text stands between marks that cannot be guessed, and the service reads each job by
itself: names arrive whole, and none drops or makes a record. No shell ever reads a command, so
there is nothing to inject into.
"""

import json

import pytest
from tests.failures.site import SITES, Site, listed, read_until, submitted, until

from hpcq.schedulers.testing.jobs import Study
from hpcq.schedulers.testing.service import Service

EVERYWHERE = pytest.mark.parametrize("site", SITES, indirect=True)
FORGED_ROW = "x\n99999\x1fRUNNING\x1f\x1f\x1f\x1f\x1f\x1f\x1f\x1f\x1f\x1f"
NAMES = [
    "a|b|c",
    "two\nlines",
    "quo\"te and 'single'",
    "comma,semi;colon:at@",
    "<b>&amp;</b> ]]> %lt;",
    "日本語 ç ã",
    "$(touch /tmp/x) `id` ; true",
]


@EVERYWHERE
def test_queue_hostile_names(site: Site, serving: Service) -> None:
    site.queue("80001", name="before")
    for number, name in enumerate(NAMES, 81000):
        site.queue(str(number), name=name)
    site.queue("90000", name="after")
    until(lambda: len(listed(serving)) == len(NAMES) + 2)
    jobs = listed(serving)
    expected = [
        name.replace("%lt;", "<") if "SGE" in site.fake.scheduler else name for name in NAMES
    ]
    assert [jobs[str(n)]["name"] for n in range(81000, 81000 + len(NAMES))] == expected


@EVERYWHERE
def test_queue_name_not_utf8(site: Site, serving: Service) -> None:
    site.queue("80001", name=b"caf\xe9 \xff\xfe")
    until(lambda: "80001" in listed(serving))
    answer = serving.client.get("/jobs/80001")
    assert json.loads(answer.content.decode("utf-8"))["name"].startswith("caf")


@pytest.mark.parametrize("site", ["SLURM"], indirect=True)
def test_queue_name_forged_row(site: Site, serving: Service) -> None:
    site.queue("80001", name=FORGED_ROW)
    site.account("80002", name=FORGED_ROW)
    until(lambda: "80001" in listed(serving))
    assert listed(serving).keys() == {"80001"}
    assert listed(serving)["80001"]["name"] == FORGED_ROW
    assert serving.client.get("/jobs/99999").status_code == 404
    assert serving.client.get("/jobs/80002").json()["name"] == FORGED_ROW


@pytest.mark.parametrize("site", ["SGE"], indirect=True)
def test_queue_name_forged_element(site: Site, serving: Service) -> None:
    forged = "</JB_name></job_list><job_list><JB_job_number>99999</JB_job_number><state>r</state>"
    site.queue("80001", name=forged)
    until(lambda: "80001" in listed(serving))
    assert listed(serving).keys() == {"80001"}
    assert listed(serving)["80001"]["name"] == forged


@EVERYWHERE
def test_submitted_hostile_name(site: Site, serving: Service, study: Study) -> None:
    arguments = ["a b", "$(id)", "", "x\ny"]
    for name in (name for name in NAMES if "\n" not in name):
        taken = submitted(serving, study, name=name, args=arguments)
        job = read_until(serving, taken["jobId"], lambda job: job["nativeState"] is not None)
        assert (job["name"], job["args"]) == (name, arguments)
        if site.fake.scheduler == "SLURM":
            passed, _, _ = site.fake.taken(taken["jobId"])
            assert f"--job-name={name}" in passed
            assert passed[-4:] == arguments
