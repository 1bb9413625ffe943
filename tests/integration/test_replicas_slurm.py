"""Several services as processes on one PostgreSQL and a real Slurm: one dies, another goes on."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import psycopg
import pytest
from tests.backends import BACKENDS
from tests.databases import DATABASES, PostgreSQL, new_postgresql_database
from tests.faults.fake import counting_wrapper

from hpcq.schedulers.testing.jobs import Json, Study
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, until

pytestmark = [pytest.mark.postgres, pytest.mark.slurm]

# Long enough that none of them loses it on a busy machine while it is alive.
LEASE_SECONDS = 15.0


class Replica(Service):
    """A service whose queries for the queue are counted."""

    def __init__(self, directory: Path, settings: dict[str, str]) -> None:
        counting_wrapper(directory / "bin", Path("/usr/bin/squeue"))
        path = f"{directory}/bin:/usr/bin:/bin"
        super().__init__(directory, {**settings, "SCHEDULER_PATH": path})
        self._count = directory / "bin" / "squeue.runs"

    @property
    def asked(self) -> int:
        """Return the number of its queries for the queue."""
        with contextlib.suppress(FileNotFoundError):
            return self._count.stat().st_size
        return 0

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def job(self, job_id: str) -> Json:
        answer = self.client.get(f"/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        job: Json = answer.json()
        return job

    def listed(self) -> dict[str, Json]:
        answer = self.client.get("/jobs")
        assert answer.status_code == 200, answer.text
        return {job["uid"]: job for job in answer.json()}


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[list[Replica]]:
    """Three on one database; the first one asks."""
    tmp_path.chmod(0o755)
    with DATABASES["POSTGRESQL"].fresh(tmp_path) as database:
        settings = {
            **BACKENDS["SLURM"].settings(),
            **database.settings,
            "REPLICA_LEASE_SECONDS": str(LEASE_SECONDS),
        }
        with contextlib.ExitStack() as stack:
            found = []
            for number in range(3):
                replica = Replica(tmp_path / f"replica-{number}", settings)
                found.append(stack.enter_context(replica))
            until(lambda: found[0].asked > 1)
            yield found


def events(replica: Replica) -> list[tuple[int, str, str, Json]]:
    """All that is told in the database: number, uid, kind, data."""
    with psycopg.connect(replica.settings["DATABASE_URL"]) as connection:
        rows = connection.execute("SELECT number, uid, kind, data FROM events ORDER BY number")
        return [(number, uid, kind, json.loads(data)) for number, uid, kind, data in rows]


def assert_told_once(replica: Replica, uids: set[str]) -> None:
    """Check that each job has one unbroken history from its intent to its end."""
    told = events(replica)
    assert [number for number, *_ in told] == list(range(1, len(told) + 1))
    for uid in uids:
        history = [data for _, of, _, data in told if of == uid and "from" in data]
        assert [data["from"] for data in history[1:]] == [data["state"] for data in history[:-1]]
        ends = [data for data in history if data["state"] in ("DONE", "FAILED")]
        assert len([data for data in ends if data["from"] != data["state"]]) == 1, history


def sent(replica: Replica, body: Json, key: str) -> Json:
    """Submit a job as the documentation tells clients to: what is to be sent again, is."""
    while True:
        answer = replica.client.post("/jobs", json=body, headers={"Idempotency-Key": key})
        # A replica that is frozen while it writes keeps the others from writing for some seconds.
        if answer.status_code not in (409, 503):
            assert answer.status_code == 201, answer.text
            job: Json = answer.json()
            return job
        assert "retry-after" in answer.headers
        time.sleep(0.05)


def submitted(replica: Replica, study: Study, key: str, body: str = "exit 0\n") -> Json:
    return sent(replica, study.job(study.script(body, f"{key}.sh")), key)


def let_the_lease_expire(replica: Replica) -> None:
    """Have all the time pass for which the lease is good."""
    with psycopg.connect(replica.settings["DATABASE_URL"]) as connection:
        connection.execute("UPDATE leases SET until = 0")


def ended(replica: Replica, uids: set[str]) -> Callable[[], bool]:
    def are() -> bool:
        listed = replica.listed()
        return all(uid in listed and listed[uid]["status"] == "STOPPED" for uid in uids)

    return are


def test_leader_single_listing_same(replicas: list[Replica], study: Study) -> None:
    uids = {submitted(r, study, f"job-{i}")["uid"] for i, r in enumerate(replicas * 2)}
    for replica in replicas:
        until(ended(replica, uids))
    assert [replica.asked for replica in replicas[1:]] == [0, 0]
    ids = [{u: job["jobId"] for u, job in r.listed().items() if u in uids} for r in replicas]
    assert ids[0] == ids[1] == ids[2]
    assert_told_once(replicas[0], uids)


def test_keys_concurrent_on_all_replicas(replicas: list[Replica], study: Study) -> None:
    body = study.job(study.script("echo >> ran\n"))
    keys = [f"key-{number}" for number in range(12)]
    with ThreadPoolExecutor(9) as pool:
        calls = {key: [pool.submit(sent, r, body, key) for r in replicas] for key in keys}
    uids = {key: {call.result()["uid"] for call in made} for key, made in calls.items()}
    assert all(len(found) == 1 for found in uids.values())
    every = {uid for found in uids.values() for uid in found}
    assert len(every) == len(keys)
    until(ended(replicas[1], every))
    assert (study.directory / "ran").read_text() == "\n" * len(keys)
    assert_told_once(replicas[0], every)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_leader_stopped_replaced(
    replicas: list[Replica], study: Study, how: signal.Signals
) -> None:
    first, *others = replicas
    uids = {submitted(r, study, f"job-{i}", "sleep 4\n")["uid"] for i, r in enumerate(replicas)}
    match how:
        case signal.SIGKILL:
            first.kill9()
        case signal.SIGTERM:
            first.stop()
        case _:
            first.signal(how)
    if how is not signal.SIGTERM:  # at which it is given back
        let_the_lease_expire(first)
    until(lambda: any(other.asked for other in others))
    assert sorted(other.asked > 0 for other in others) == [False, True]
    uids.add(submitted(others[0], study, "afterwards")["uid"])
    if how is signal.SIGSTOP:
        asked = first.asked
        first.signal(signal.SIGCONT)
        until(lambda: "lease.lost" in first.log_tail(10**6))
        # What it was about to ask when it was frozen, and no more.
        assert first.asked <= asked + 1
        until(ended(first, uids))
    for other in others:
        until(ended(other, uids))
    assert_told_once(others[0], uids)
    assert sum(other.asked > 0 for other in others) == 1


def test_cancel_on_one_seen_by_others(replicas: list[Replica], study: Study) -> None:
    job = submitted(replicas[2], study, "long", "sleep 300\n")
    until(lambda: replicas[2].job(job["uid"])["status"] == "RUNNING")
    answer = replicas[1].client.delete(f"/jobs/{job['jobId']}")
    assert answer.status_code == 202
    for replica in replicas:
        until(partial(_is_cancelled, replica, job["uid"]))
        assert job["uid"] not in replica.listed()


def test_postgresql_down_then_leader_again(tmp_path: Path, study: Study) -> None:
    tmp_path.chmod(0o755)
    with PostgreSQL.alone() as server, new_postgresql_database(server.url) as database:
        settings = {
            **BACKENDS["SLURM"].settings(),
            **database.settings,
            "REPLICA_LEASE_SECONDS": str(LEASE_SECONDS),
        }
        first = Replica(tmp_path / "first", settings)
        second = Replica(tmp_path / "second", settings)
        with first, second:
            uid = submitted(first, study, "before", "sleep 3\n")["uid"]
            until(lambda: uid in second.listed())
            server.stop("immediate")
            for replica in (first, second):
                until(partial(_is_not_ready, replica))
                assert uid in replica.listed()
                refused = replica.client.post(
                    "/jobs",
                    json=study.job(study.script("echo >> again\n", "again.sh")),
                    headers={"Idempotency-Key": f"away-{replica.port}"},
                )
                assert refused.status_code == 503, refused.text
            server.start()
            for replica in (first, second):
                until(partial(_is_ready, replica))
                until(ended(replica, {uid}))
            assert not (study.directory / "again").exists()
            asked = first.asked, second.asked
            until(lambda: first.asked + second.asked > sum(asked) + 4)
            assert (first.asked == asked[0]) != (second.asked == asked[1])
            assert_told_once(first, {uid})


def _is_ready(replica: Replica) -> bool:
    return httpx.get(f"{replica.url}/health/ready", timeout=PATIENCE_SECONDS).status_code == 200


def _is_not_ready(replica: Replica) -> bool:
    return not _is_ready(replica)


def _is_cancelled(replica: Replica, uid: str) -> bool:
    return bool(replica.job(uid)["failureKind"] == "CANCELLED")
