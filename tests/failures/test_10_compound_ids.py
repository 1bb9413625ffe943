"""Ids of arrays, of their tasks and of heterogeneous jobs are cut, merged or taken for others.

Met in: seff-array 15; reframe PR 2376.
Here: An id is a type with a grammar: a number, then at most one task or component, then at most a
host. Anything else reaches no command, so that a command for one job can never reach many. The
service leaves out the server's name in ids of PBS (`12[3].host`).
"""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.failures.site import Site, listed, read, until

from hpcq.domain.jobs import NativeId
from hpcq.schedulers.testing.jobs import assert_problem
from hpcq.schedulers.testing.service import Service

OF_MANY = [
    "123_[9201-10000%500]",
    "136374[]",
    "136374[].host",
    "12[1-3:1]",
    "9.1-3:1",
    "12_",
    "12_3_4",
    "123+",
    "12,13",
    "all",
    "*",
    "-1",
    "12 13",
    "12;13",
    "\uff11\uff12",
]


def test_job_id_compound_reaches_no_command(site: Site, serving: Service) -> None:
    for job_id in OF_MANY:
        path = f"/jobs/{quote(job_id, safe='')}"
        assert_problem(serving.client.get(path), 404)
        assert_problem(serving.client.delete(path), 404)
    assert site.fake.runs("qdel", "qacct", "scancel", "sacct") == 0


@pytest.mark.parametrize("site", ["SLURM"], indirect=True)
def test_listing_slurm_tasks_and_components(site: Site, serving: Service) -> None:
    for job_id in ("12_3", "12_4", "123+0", "123+1"):
        site.queue(job_id)
    # A version that does not split the tasks that wait would print them like this.
    site.queue("40_[9201-10000%500]", state="PENDING")
    site.queue("41")
    until(lambda: "41" in listed(serving))
    # The whole array and the whole heterogeneous job stand beside their parts.
    wholes, parts = {"12", "123"}, {"12_3", "12_4", "123+0", "123+1"}
    assert listed(serving).keys() == {*wholes, *parts, "41"}
    task = read(serving, "12_3")
    assert (task["arrayJobId"], task["arrayTaskId"]) == ("12", 3)
    until(lambda: "40_[9201-10000%500]" in serving.log_tail())


@pytest.mark.parametrize("site", ["SGE"], indirect=True)
def test_listing_grid_engine_tasks(site: Site, serving: Service) -> None:
    task = (
        "<job_list><JB_job_number>9</JB_job_number><JB_name>a</JB_name><state>{state}</state>"
        "<slots>1</slots><tasks>{tasks}</tasks></job_list>\n"
    )
    site.raw("1", task.format(state="r", tasks="2").encode())
    site.raw("2", task.format(state="qw", tasks="3-10000:1").encode())
    until(lambda: listed(serving))
    assert listed(serving).keys() == {"9", "9[2]"}
    assert read(serving, "9[2]")["arrayTaskId"] == 2
    assert read(serving, "9")["state"] == "RUNNING"


@pytest.mark.parametrize("site", ["PBS"], indirect=True)
def test_listing_pbs_tasks(site: Site, serving: Service) -> None:
    site.queue("9[]", state="B", name="array")
    site.queue("9[2]", state="R")
    site.queue("9[3]", state="Q")
    until(lambda: listed(serving))
    assert listed(serving).keys() == {"9", "9[2]", "9[3]"}
    task = read(serving, "9[2]")
    assert (task["arrayJobId"], task["arrayTaskId"], task["state"]) == ("9", 2, "RUNNING")
    assert (read(serving, "9")["state"], read(serving, "9[3]")["state"]) == ("RUNNING", "QUEUED")
    runs = site.fake.runs("qdel", "qhold", "qrls")
    for job_id in OF_MANY:
        assert_problem(serving.client.delete(f"/jobs/{quote(job_id, safe='')}"), 404)
    assert site.fake.runs("qdel", "qhold", "qrls") == runs == 0


@given(
    number=st.integers(0, 10**18 - 1),
    part=st.sampled_from(["", "_3", "[3]", "+0"]),
    host=st.sampled_from(["", ".host", ".pbs-1.example.org"]),
)
def test_native_id_of_each_scheduler(number: int, part: str, host: str) -> None:
    assert NativeId(f"{number}{part}{host}") == f"{number}{part}{host}"


@given(st.sampled_from(OF_MANY), st.sampled_from(["", ".host"]))
def test_native_id_of_many_jobs(text: str, host: str) -> None:
    with pytest.raises(ValueError, match="not a job id"):
        NativeId(text + host)
