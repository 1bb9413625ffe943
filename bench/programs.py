"""``GET /programs`` with 10,000 versions: the first answer, repeated ones, and after a change.

``python -m bench.programs [VERSIONS]``; 10,000 by default. The service runs as users run it, and
is spoken to over HTTP; the folders lie in the temporary directory.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from bench.listing import resident_mib
from bench.load import Address, Load
from hpcq.schedulers.testing.service import Service

STARTS = 3
CHANGES = 5
PACKED = {"Accept-Encoding": "gzip"}


def measure(versions: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "NEWAVE"
        for number in range(versions):
            (root / f"v{number:05}").mkdir(parents=True)
            (root / f"v{number:05}" / f"mpi_newave{number}.job").touch()
        for rule in ("TUBER", "PEMAWS"):
            of_rule(rule, root, Path(folder) / rule)


def of_rule(rule: str, root: Path, folder: Path) -> None:
    settings = {
        "PROGRAM_PATH_RULE": rule,
        "LOG_LEVEL": "WARNING",
        f"{rule}_NEWAVE_ROOT": str(root),
        f"{rule}_DECOMP_ROOT": str(root / "v00000"),
        f"{rule}_DESSEM_ROOT": str(root / "v00000"),
    }
    firsts = []
    for start in range(STARTS):
        with Service(folder / str(start), settings) as service:
            firsts.append(first_answer(service))
            if start + 1 == STARTS:
                show(f"{rule}, first answer, {STARTS} new services", firsts)
                repeated(rule, service)
                changed(rule, service, root)
                print(f"resident memory of the service: {resident_mib(service.pid)} MiB")


def first_answer(service: Service) -> float:
    return seconds(lambda: get(service.url))


def repeated(rule: str, service: Service) -> None:
    address = Address(port=service.port)
    known = {"If-None-Match": get(service.url).headers["ETag"]}
    loads = {
        "gzip, 1 client": Load(address, "/programs", PACKED),
        "plain, 1 client": Load(address, "/programs"),
        "one version, 1 client": Load(address, "/programs?name=NEWAVE&version=v00042"),
        "unchanged, 1 client": Load(address, "/programs", known),
        "unchanged, 32 clients": Load(address, "/programs", known, 32),
    }
    for title, load in loads.items():
        print(f"{rule}, {title:24} {load.run()}", flush=True)


def changed(rule: str, service: Service, root: Path) -> None:
    """Measure the answer that a new version is in, each time another one."""
    took = []
    for number in range(CHANGES):
        new = root / f"{rule}{number}"
        new.mkdir()
        (new / "mpi_newave.job").touch()
        took.append(seconds(lambda: get(service.url)))
        assert new.name in get(service.url).text
        (new / "mpi_newave.job").unlink()
        new.rmdir()
    show(f"{rule}, a new version", took)


def get(url: str) -> httpx.Response:
    answer = httpx.get(f"{url}/programs", headers=PACKED, timeout=60)
    answer.raise_for_status()
    return answer


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def show(title: str, took: list[float]) -> None:
    median = statistics.median(took) * 1000
    print(f"{title:40} median {median:8.1f} ms, longest {max(took) * 1000:8.1f} ms", flush=True)


if __name__ == "__main__":
    subprocess.run(["uptime"], check=True)
    measure(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
