"""The cost of counting a request, and of making the text of ``GET /metrics``, in CPU time.

``python -m bench.metrics``
"""

import statistics
import subprocess
import time
from collections.abc import Callable

from hpcq.api.access import RULES
from hpcq.api.metrics import Metrics

TURNS = 9
REQUESTS = 5_000
TEXTS = 20


def each(times: int, do: Callable[[], object]) -> float:
    """Return the CPU seconds of one call, the median of all turns."""
    turns = []
    for _ in range(TURNS):
        began = time.process_time()
        for _ in range(times):
            do()
        turns.append((time.process_time() - began) / times)
    return statistics.median(turns)


def main() -> None:
    metrics = Metrics("SLURM")
    for operation in RULES:
        for status in (200, 404, 503):
            scope = {"method": "GET", "state": {"operation": operation}}
            metrics.observe_request(scope, status, 0.01)
    scope = {"method": "GET", "state": {"operation": "listJobs"}}
    counting = each(REQUESTS, lambda: metrics.observe_request(scope, 200, 0.003))
    print(f"one request counted: {counting * 1e6:.1f} µs")
    for accept in ("text/plain", "application/openmetrics-text"):
        seconds = each(TEXTS, lambda accept=accept: metrics.text(accept))  # type: ignore[misc]
        print(f"{accept}: {seconds * 1e3:.1f} ms, {len(metrics.text(accept)[0])} bytes")


if __name__ == "__main__":
    subprocess.run(["uptime"], check=True)
    main()
