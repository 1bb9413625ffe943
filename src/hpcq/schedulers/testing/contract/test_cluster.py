"""The scheduler, its queues and hosts, and the number of jobs."""

from hpcq.schedulers.testing.backend import Backend
from hpcq.schedulers.testing.jobs import Jobs, Study, assert_problem
from hpcq.schedulers.testing.service import Service


def test_cluster_capabilities(service: Service, backend: Backend) -> None:
    answer = service.client.get("/cluster")
    assert answer.status_code == 200, answer.text
    cluster = answer.json()
    assert cluster["clusterId"] == service.settings["CLUSTER_ID"]
    assert cluster["scheduler"] == backend.settings()["SCHEDULER"]
    assert cluster["version"], cluster
    capabilities = cluster["capabilities"]
    assert ("array" in capabilities["fields"]) == backend.arrays
    assert ("account" in capabilities["fields"]) == backend.accounts
    assert ("dependsOn" in capabilities["fields"]) == bool(backend.conditions)
    assert {"hold", "release"} <= set(capabilities["actions"])


def test_queues_and_nodes_up(service: Service) -> None:
    queues, nodes = service.client.get("/queues"), service.client.get("/nodes")
    for answer in (queues, nodes):
        assert answer.status_code == 200, answer.text
        assert answer.headers["X-Stale"] == "false"
        assert answer.headers["X-As-Of"]
    names = {queue["name"] for queue in queues.json() if queue["isOpen"]}
    # Some schedulers have none, or tell users of none.
    assert bool(names) == bool(queues.json())
    up = [node for node in nodes.json() if node["isUp"]]
    assert up
    assert all(node["slotsTotal"] and node["memory"] != 0 for node in up)
    in_queues = {name for node in nodes.json() for name in node["queues"]}
    assert not in_queues or in_queues & names


def test_queue_load(service: Service) -> None:
    for queue in service.client.get("/queues").json():
        answer = service.client.get(f"/queues/{queue['name']}/usage")
        assert answer.status_code == 200, answer.text
        usage = answer.json()
        assert usage["queue"] == queue["name"]
        assert usage["since"] < usage["until"]
        for point in usage["points"]:
            assert usage["since"][:16] <= point["time"][:16] < usage["until"][:16]
            assert point["slotsTotal"] == queue["slotsTotal"]
    assert_problem(service.client.get("/queues/there-is-no-such-queue/usage"), 404)


def test_summary_counts(service: Service, jobs: Jobs, study: Study) -> None:
    job_id = jobs.submit(study.job(study.script("sleep 0.1\n")))
    jobs.ended(job_id)
    summary = service.client.get("/jobs/summary")
    assert summary.status_code == 200, summary.text
    counts = summary.json()
    assert counts["byState"]["DONE"] >= 1
    assert counts["jobs"] == sum(counts["byState"].values()) == sum(counts["byStatus"].values())
