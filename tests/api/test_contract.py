"""The HTTP contract, whichever scheduler is behind it: here the embedded one."""

import gzip
import json
import re
import socket
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from hpcq.schedulers.testing.jobs import Jobs, Json, Study, assert_problem
from hpcq.schedulers.testing.service import ROOT_PATH, Service
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, until

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
MAX_REQUEST_BYTES = 100_000
OPERATIONS = {
    ("/jobs", "get"),
    ("/jobs", "post"),
    ("/jobs/{jobId}", "get"),
    ("/jobs/{jobId}", "delete"),
    ("/jobs/{jobId}/usage", "get"),
    ("/jobs/{jobId}/hold", "post"),
    ("/jobs/{jobId}/release", "post"),
    ("/programs", "get"),
    ("/health/live", "get"),
    ("/health/ready", "get"),
}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for this file."""
    settings = {
        "SCHEDULER": "INTERNAL",
        "ROOT_PATH": ROOT_PATH,
        "MAX_REQUEST_BYTES": str(MAX_REQUEST_BYTES),
    }
    with Service(tmp_path_factory.mktemp("service"), settings) as service:
        yield service


@pytest.fixture
def client(local: Service) -> httpx.Client:
    """A client of `local`."""
    return local.client


@pytest.fixture
def jobs(local: Service) -> Iterator[Jobs]:
    """The jobs of `local`."""
    own = Jobs(local)
    yield own
    own.clean_up()


@pytest.fixture(scope="module")
def finished(local: Service, tmp_path_factory: pytest.TempPathFactory) -> Json:
    """A job that is over."""
    study = Study(tmp_path_factory.mktemp("finished") / "study")
    jobs = Jobs(local)
    return jobs.ended(jobs.submit(study.job(study.script("echo done\n"), args=["São", 'a"b'])))


@pytest.fixture(scope="module")
def schema(local: Service) -> Json:
    """``/openapi.json``."""
    answer = local.client.get("/openapi.json")
    assert answer.status_code == 200
    document: Json = answer.json()
    return document


def _raw(service: Service, request: bytes) -> bytes:
    """Send bytes that no HTTP library would; returns all that comes back."""
    with socket.create_connection(
        ("127.0.0.1", service.port), timeout=PATIENCE_SECONDS
    ) as connection:
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


# --- the listing ------------------------------------------------------------------------------


def test_listing_age(client: httpx.Client, finished: Json) -> None:
    for path in ("/jobs", f"/jobs/{finished['jobId']}"):
        answer = client.get(path)
        assert answer.headers["content-type"] == "application/json"
        assert TIME.fullmatch(answer.headers["x-as-of"])
        assert answer.headers["x-stale"] == "false"


def test_listing_unchanged(client: httpx.Client, jobs: Jobs, study: Study, finished: Json) -> None:
    # What tests before this one deleted may be on its way out.
    until(lambda: all(job["status"] == "STOPPED" for job in jobs.listed().values()))
    first = client.get("/jobs")
    tag = first.headers["etag"]
    for known in (tag, f'"other", {tag}', "*"):
        again = client.get("/jobs", headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
        assert TIME.fullmatch(again.headers["x-as-of"])
    assert client.get("/jobs", headers={"if-none-match": '"other"'}).status_code == 200
    jobs.polled(2)
    assert client.get("/jobs", headers={"if-none-match": tag}).status_code == 304
    job_id = jobs.submit(study.job(study.script("true\n"), hold=True))
    changed = client.get("/jobs", headers={"if-none-match": tag})
    assert changed.status_code == 200
    assert job_id in changed.text
    assert changed.headers["etag"] != tag


def test_listing_page_links(client: httpx.Client, jobs: Jobs, study: Study) -> None:
    script = study.script("true\n")
    held = [jobs.submit(study.job(script, hold=True)) for _ in range(3)]
    url, found = f"{ROOT_PATH}/jobs?limit=1", []
    while url:
        answer = client.get(url)
        (job,) = answer.json()
        found.append(job["jobId"])
        url = answer.links.get("next", {}).get("url", "")
        assert not url or url.startswith(f"{ROOT_PATH}/jobs?limit=1&cursor=")
    assert [job_id for job_id in found if job_id in held] == held
    assert found == [job["jobId"] for job in client.get("/jobs").json()]
    assert assert_problem(client.get("/jobs?limit=1&cursor=x"), 422)["field"] == "cursor"


def test_listing_expanded_etag(client: httpx.Client, finished: Json) -> None:
    plain, expanded = client.get("/jobs"), client.get("/jobs?expand=resourceUsage")
    assert plain.headers["etag"] != expanded.headers["etag"]
    tag = {"if-none-match": plain.headers["etag"]}
    assert client.get("/jobs?expand=resourceUsage", headers=tag).status_code == 200


def test_listing_compressed(client: httpx.Client, jobs: Jobs, study: Study, finished: Json) -> None:
    for _ in range(5):
        jobs.submit(study.job(study.script("true\n"), hold=True))

    def listed(encoding: str) -> tuple[str | None, str, list[Json]]:
        request = client.build_request("GET", "/jobs", headers={"accept-encoding": encoding})
        answer = client.send(request, stream=True)
        body = b"".join(answer.iter_raw())
        packed = answer.headers.get("content-encoding")
        assert "accept-encoding" in answer.headers["vary"].lower()
        content = gzip.decompress(body) if packed else body
        return packed, answer.headers["etag"], [_timeless(job) for job in json.loads(content)]

    def of_one_moment() -> tuple[list[Json], list[Json]] | None:
        """The plain and the packed listing, unless a job has changed between them."""
        plain, packed = listed("identity"), listed("gzip")
        assert (plain[0], packed[0]) == (None, "gzip")
        return (plain[2], packed[2]) if plain[1] == packed[1] else None

    plain, packed = until(of_one_moment)
    assert packed == plain
    assert listed("deflate, gzip;q=0.5")[0] == "gzip"
    assert listed("gzip;q=0")[0] is None
    assert listed("br")[0] is None


def _timeless(job: Json) -> Json:
    return {name: value for name, value in job.items() if name not in ("asOf", "elapsed")}


def test_job_read_same_as_listed(client: httpx.Client, finished: Json) -> None:
    listed = {job["jobId"]: job for job in client.get("/jobs?expand=resourceUsage").json()}
    read = client.get(f"/jobs/{finished['jobId']}").json()
    assert _timeless(listed[finished["jobId"]]) == _timeless(read)
    assert list(listed[finished["jobId"]]) == list(read)


@pytest.mark.parametrize("path", ["/jobs", "/docs", "/openapi.json", "/programs"])
def test_head_same_as_get(client: httpx.Client, finished: Json, path: str) -> None:
    plain = {"accept-encoding": "identity"}
    answer, got = client.head(path, headers=plain), client.get(path, headers=plain)
    assert (answer.status_code, answer.content, got.status_code) == (200, b"", 200)
    assert answer.headers.keys() == got.headers.keys()
    assert answer.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize("root", ["", ROOT_PATH, f"/{ROOT_PATH}", f"{ROOT_PATH}/"])
@pytest.mark.parametrize("path", ["/jobs", "//jobs/", "/jobs/", "/docs-assets/swagger-ui.css"])
def test_slashes_doubled(local: Service, finished: Json, root: str, path: str) -> None:
    request = f"GET {root}{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert b"HTTP/1.1 200" in _raw(local, request.encode())


@pytest.mark.parametrize(
    "address",
    [
        "/jobs?colour=blue",
        "/jobs?expand=everything",
        "/jobs?expand=",
        "/jobs?Expand=resourceUsage",
        "/jobs/1?expand=resourceUsage",
        "/programs?colour=blue",
    ],
)
def test_query_parameter_unknown(client: httpx.Client, address: str) -> None:
    problem = assert_problem(client.get(address), 422)
    name = address.partition("?")[2].partition("=")[0]
    assert name in problem.get("field", "") + problem["detail"]


def test_query_parameter_unknown_no_side_effect(
    client: httpx.Client, jobs: Jobs, study: Study
) -> None:
    job_id = jobs.submit(study.job(study.script("true\n"), hold=True))
    before = jobs.listed().keys()
    answer = client.post("/jobs?x=1", json=study.job(study.script("true\n"), hold=True))
    assert_problem(answer, 422)
    assert_problem(client.delete(f"/jobs/{job_id}?x=1"), 422)
    assert jobs.listed().keys() == before
    assert jobs.read(job_id)["status"] == "START_REQUESTED"


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/nothing", 404),
        ("GET", "/jobs/1/nothing", 404),
        ("GET", "/JOBS", 404),
        ("GET", "/api", 404),
        ("GET", "/docs-assets/nothing.js", 404),
        ("GET", "/docs-assets/..%2f..%2f..%2fetc%2fpasswd", 404),
        ("PUT", "/jobs", 405),
        ("DELETE", "/jobs", 405),
        ("DELETE", "/jobs/", 405),
        ("PUT", "/jobs/1", 405),
        ("POST", "/jobs/1", 405),
        ("POST", "/programs", 405),
        ("GET", "/jobs/1/hold", 405),
        ("TRACE", "/jobs", 405),
    ],
)
def test_route_unknown(client: httpx.Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    if (method, path) == ("GET", "/") and answer.status_code in (200, 307, 302):
        return  # a page of its own, or the way to the documentation
    assert_problem(answer, status)
    if status == 405:
        assert answer.headers["allow"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"1",
        b"\xff\xfe{}",
        b'{"workingDirectory": "\xff"}',
        b"{'single': 1}",
        b'{"a": NaN}',
        b'{"reservedSlots": 1e400}',
        b'{"reservedSlots": ' + b"9" * 10000 + b"}",
        b"[" * 50000,
        b'{"a":' * 20000,
        b"--boundary\r\n",
    ],
    ids=lambda content: repr(content[:20]),
)
def test_body_invalid_job(client: httpx.Client, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    problem = assert_problem(client.post("/jobs", content=content, headers=headers), 400, 422)
    assert len(problem["detail"]) < 2000


def test_body_content_type_unsupported(client: httpx.Client, study: Study) -> None:
    body = study.job(study.script("true\n"))
    content = json.dumps(body).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = client.post("/jobs", content=content, headers={"content-type": kind})
        assert_problem(answer, 415, 422)


def test_body_too_long(client: httpx.Client, jobs: Jobs, study: Study) -> None:
    body = study.job(study.script("true\n"), hold=True, args=["x" * MAX_REQUEST_BYTES])
    assert_problem(client.post("/jobs", json=body), 413)

    def chunks() -> Iterator[bytes]:
        for _ in range(30):
            yield b" " * 10_000

    headers = {"content-type": "application/json"}
    assert_problem(client.post("/jobs", content=chunks(), headers=headers), 413)
    short = study.job(study.script("true\n"), hold=True, args=["x" * (MAX_REQUEST_BYTES // 2)])
    jobs.submit(short)


def test_content_length_invalid(local: Service) -> None:
    head = (
        b"POST /jobs HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nConnection: close\r\n"
    )
    for length in (b"-1", b"99999999999999999999", b"abc"):
        assert b"HTTP/1.1 4" in _raw(local, head + b"Content-Length: " + length + b"\r\n\r\n{}")
    assert local.client.get("/health/live").status_code == 200


def test_job_unknown(client: httpx.Client) -> None:
    problem = assert_problem(client.get("/jobs/99999999"), 404)
    assert problem["code"] == "job_not_found"
    assert "99999999" in problem["detail"]


def test_problem_field(client: httpx.Client, study: Study) -> None:
    body = study.job("/absent/script")
    problem = assert_problem(client.post("/jobs", json=body), 400)
    assert (problem["field"], problem["code"]) == ("scriptFile", "invalid_content")
    assert "/absent/script" in problem["detail"]


@pytest.mark.parametrize("field", ["account", "priority"])
def test_scheduler_unsupported_field(client: httpx.Client, study: Study, field: str) -> None:
    body = study.job(study.script("true\n")) | {field: 1 if field == "priority" else "x"}
    answer = client.post("/jobs", json=body)
    problem = assert_problem(answer, 501)
    assert (problem["field"], problem["code"]) == (field, "unsupported")


# --- documentation ----------------------------------------------------------------------------


class _Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href") and value]


@pytest.mark.parametrize("prefix", ["", ROOT_PATH])
@pytest.mark.parametrize("slash", ["", "/"])
def test_documentation_no_external_resources(client: httpx.Client, prefix: str, slash: str) -> None:
    page = client.get(f"{prefix}/docs{slash}")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    parser = _Addresses()
    parser.feed(page.text)
    assert [a for a in parser.found if a.endswith(".js")]
    assert [a for a in parser.found if a.endswith(".css")]
    assert re.findall(r"https?://", page.text) == []
    for address in parser.found:
        asset = client.get(address)
        assert asset.status_code == 200, address
        assert len(asset.content) > 100
        if address.endswith(".css"):
            assert re.findall(rb"url\(\s*['\"]?https?://", asset.content) == []
    assert "/openapi.json" in page.text


def test_schema_valid(schema: Json) -> None:
    assert schema["openapi"].startswith("3.1")
    operations = {
        (path, method): operation
        for path, item in schema["paths"].items()
        for method, operation in item.items()
    }
    assert operations.keys() >= OPERATIONS
    identities = [operation["operationId"] for operation in operations.values()]
    assert len(set(identities)) == len(identities)
    assert all(re.fullmatch(r"[a-z][A-Za-z]+", identity) for identity in identities)
    for operation in operations.values():
        assert operation["summary"]
    for name, component in schema["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(component)
        assert name


def test_schema_references(schema: Json) -> None:
    references = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(schema))
    assert references
    for reference in references:
        found: Any = schema
        for part in reference.split("/"):
            found = found[part]


def test_schema_errors_are_problems(schema: Json) -> None:
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            for status, answer in operation["responses"].items():
                if status[0] in "45":
                    assert list(answer["content"]) == ["application/problem+json"], (path, method)


def test_schema_examples_present(schema: Json) -> None:
    submission = schema["paths"]["/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert "example" in json.dumps(submission) + json.dumps(schema["components"]["schemas"])


def _validator(schema: Json, name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": schema["components"]}
    )


def test_schema_matches_answers(
    client: httpx.Client, jobs: Jobs, study: Study, finished: Json, schema: Json
) -> None:
    held = jobs.submit(study.job(study.script("true\n"), hold=True, environment={"A": "b"}))
    running = jobs.submit(study.job(study.script("sleep 60\n"), wallTimeLimit=100))
    jobs.running(running)
    failed = jobs.submit(study.job(study.script("exit 3\n")))
    jobs.ended(failed)
    job = _validator(schema, "Job")
    declared = list(schema["components"]["schemas"]["Job"]["properties"])
    for address in ("/jobs", "/jobs?expand=resourceUsage"):
        listed = client.get(address).json()
        assert {held, running, failed, finished["jobId"]} <= {one["jobId"] for one in listed}
        for one in listed:
            job.validate(one)
            assert list(one) == declared
    for job_id in (held, running, failed):
        job.validate(client.get(f"/jobs/{job_id}").json())


def test_schema_matches_problems(client: httpx.Client, schema: Json) -> None:
    problem = _validator(schema, "Problem")
    for answer in (
        client.get("/jobs/99999999"),
        client.get("/jobs?x=1"),
        client.get("/nothing"),
        client.post("/jobs", json={}),
    ):
        problem.validate(assert_problem(answer, 400, 404, 422))


def test_schema_matches_programs(schema: Json, start_service: Any, tmp_path: Path) -> None:
    for version in ("v28.16", "v29"):
        (tmp_path / "newave" / version).mkdir(parents=True)
    service = start_service(
        TUBER_NEWAVE_ROOT=str(tmp_path / "newave"), TUBER_DECOMP_ROOT=str(tmp_path / "decomp")
    )
    answer = service.client.get("/programs")
    assert answer.status_code == 200
    validator = _validator(schema, "ProgramOut")
    for program in answer.json():
        validator.validate(program)
    assert service.client.get("/programs?name=nothing").json() == []


# --- operation --------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", ROOT_PATH])
def test_health_live(client: httpx.Client, prefix: str) -> None:
    for path in ("live", "ready"):
        answer = client.get(f"{prefix}/health/{path}")
        assert answer.status_code == 200
        assert isinstance(answer.json()["status"], str)


def test_root_path_lookalike(client: httpx.Client) -> None:
    assert_problem(client.get(f"{ROOT_PATH}x/jobs"), 404)
    assert_problem(client.get(f"/x{ROOT_PATH}/jobs"), 404)
