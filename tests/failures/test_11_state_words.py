"""A state's word is unknown, compound or cut off, and the job is lost or taken for finished.

Met in: galaxy PR 6007; nextflow 1480.
Here: A table holds every code of each scheduler. A word that is not in the table is `UNDETERMINED`,
with the raw word in `nativeState`; it ends no job and hides none.
"""

import pytest
from tests.failures.site import SITES, Site, key_of, listed, read, read_until, submitted, until

from hpcq.schedulers.slurm.states import STATES
from hpcq.schedulers.testing.jobs import Study
from hpcq.schedulers.testing.service import Service

EVERYWHERE = pytest.mark.parametrize("site", SITES, indirect=True)
IN_QUEUE = {
    "SLURM": {
        "CONFIGURING": "QUEUED",
        "COMPLETING": "RUNNING",
        "SUSPENDED": "SUSPENDED",
        "SPECIAL_EXIT": "REQUEUED_HELD",
        "RESV_DEL_HOLD": "QUEUED_HELD",
        "REVOKED": "UNDETERMINED",
        "COMPLETI": "UNDETERMINED",
        "Läuft": "UNDETERMINED",
    },
    "SGE": {
        "Eqw": "QUEUED_HELD",
        "hRwq": "REQUEUED_HELD",
        "hqw": "QUEUED_HELD",
        "tS": "SUSPENDED",
        "Rr": "RUNNING",
        "dr": "RUNNING",
        "dT": "SUSPENDED",
        "rx": "UNDETERMINED",
        "rr": "UNDETERMINED",
    },
    "TORQUE": {
        "H": "QUEUED_HELD",
        "W": "QUEUED",
        "T": "QUEUED",
        "E": "RUNNING",
        "S": "SUSPENDED",
        "X": "UNDETERMINED",
        "Läuft": "UNDETERMINED",
    },
    "PBS": {
        "Q": "QUEUED",
        "W": "QUEUED",
        "T": "QUEUED",
        "H": "QUEUED_HELD",
        "R": "RUNNING",
        "B": "RUNNING",
        "E": "RUNNING",
        "S": "SUSPENDED",
        "U": "SUSPENDED",
        "M": "UNDETERMINED",
        "r": "UNDETERMINED",
        "Running": "UNDETERMINED",
    },
}


# Jobs that another cluster or server has now.
SAID_OTHERWISE = ("REVOKED", "M")


@EVERYWHERE
def test_state_word_each_in_queue(site: Site, serving: Service) -> None:
    words = IN_QUEUE[site.fake.scheduler]
    for number, word in enumerate(words, 1000):
        site.queue(str(number), state=word)
    until(lambda: len(listed(serving)) == len(words))
    jobs = [listed(serving)[str(number)] for number in range(1000, 1000 + len(words))]
    assert {job["nativeState"]: job["state"] for job in jobs} == words
    for job in jobs:
        if words[job["nativeState"]] == "UNDETERMINED":
            assert job["status"] == "UNKNOWN"
            assert job["stateReason"]
            if job["nativeState"] not in SAID_OTHERWISE:
                assert job["nativeState"] in job["stateReason"]


@EVERYWHERE
def test_state_word_unknown(site: Site, serving: Service, study: Study) -> None:
    taken = submitted(serving, study)
    job_id, key = taken["jobId"], key_of(taken)
    site.queue(job_id, key=key, state="XYZ")
    read_until(serving, job_id, lambda job: job["nativeState"] == "XYZ")
    site.polled(3)
    assert read(serving, job_id)["state"] == "UNDETERMINED"
    site.queue(job_id, key=key)
    read_until(serving, job_id, lambda job: job["state"] == "RUNNING")


ENDED = [
    ("CANCELLED by 1000", "0:0", "CANCELLED"),
    ("OUT_OF_MEMORY", "0:125", "OUT_OF_MEMORY"),
    ("OUT_OF_MEMORY", "0:0", "OUT_OF_MEMORY"),
    ("TIMEOUT", "0:0", "TIME_LIMIT"),
    ("NODE_FAIL", "0:0", "NODE_FAILURE"),
    ("PREEMPTED", "0:0", "CANCELLED"),
    ("DEADLINE", "0:0", "TIME_LIMIT"),
]


@pytest.mark.parametrize("site", ["SLURM"], indirect=True)
def test_state_word_with_exit_status_0(site: Site, serving: Service) -> None:
    for number, (word, exit_status, _) in enumerate(ENDED, 1000):
        site.account(str(number), state=word, exit=exit_status)
    for number, (word, _, kind) in enumerate(ENDED, 1000):
        job = read(serving, str(number))
        assert (job["nativeState"], job["state"], job["failureKind"]) == (word, "FAILED", kind)


@pytest.mark.parametrize("site", ["SLURM"], indirect=True)
def test_state_word_truncated(site: Site, serving: Service, study: Study) -> None:
    cut = {submitted(serving, study)["jobId"]: w for w in ("CANCELLED+", "OUT_OF_ME+", "COMPLETE")}
    assert not set(cut.values()) & STATES.keys()
    for job_id, word in cut.items():
        read_until(serving, job_id, lambda job: job["nativeState"] is not None)
        site.account(job_id, state=word)
        site.leave(job_id)
        job = read_until(serving, job_id, lambda job: job["state"] != "QUEUED")
        assert (job["state"], job["exitCode"], job["failureKind"]) == ("UNDETERMINED", None, None)
