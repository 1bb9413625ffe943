"""A stand-in of the service with many jobs, which no scheduler had to take: pages of a listing."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import msgspec

from hpcq.client import Job

__all__ = ["many_jobs"]


@contextmanager
def many_jobs(job: Job, count: int) -> Iterator[str]:
    """Serve a listing of so many copies of a job, whose names end with their number.

    Yields:
        the address.
    """
    fields = msgspec.to_builtins(job)
    jobs = [
        {**fields, "uid": f"uid-{n}", "jobId": str(100_000 + n), "name": f"study-{n}"}
        for n in range(count)
    ]
    is_over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            if asked.path == "/jobs/changes":
                self._answer(
                    b"event: reload\nid: 1\ndata: {}\n\n"
                    b'event: jobs\nid: 2\ndata: {"jobs":[],"gone":[]}\n\n',
                    "text/event-stream",
                )
                is_over.wait()
            elif asked.path == "/jobs":
                query = parse_qs(asked.query)
                size, begin = int(query["limit"][0]), int(query.get("cursor", ["0"])[0])
                following = begin + size
                link = f'</jobs?limit={size}&cursor={following}>; rel="next"'
                self._answer(
                    json.dumps(jobs[begin:following]).encode(),
                    "application/json",
                    link if following < count else "",
                )
            else:
                self._answer(b"[]", "application/json")

        def _answer(self, body: bytes, kind: str, link: str = "") -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            if link:
                self.send_header("Link", link)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            is_over.set()
            server.shutdown()
            thread.join()
