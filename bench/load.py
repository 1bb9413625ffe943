"""Keep-alive clients on plain sockets, cheap enough not to be what is measured."""

import asyncio
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Address", "Load", "Report"]


@dataclass(frozen=True)
class Address:
    """The address of a server: a TCP port on loopback, or a Unix socket."""

    port: int = 0
    path: Path | None = None

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.path is not None:
            return await asyncio.open_unix_connection(self.path, limit=1 << 26)
        return await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 26)


@dataclass
class Report:
    """The results of a load."""

    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    body_bytes: int = 0
    wall_seconds: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.wall_seconds

    @property
    def median_ms(self) -> float:
        return statistics.median(self.seconds) * 1000

    @property
    def p99_ms(self) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000

    def __str__(self) -> str:
        return (
            f"{self.per_second:8.1f}/s  median {self.median_ms:8.2f} ms  p99 {self.p99_ms:8.2f} ms"
            f"  body {self.body_bytes:>10,} B  {self.statuses}"
        )


@dataclass(frozen=True)
class Load:
    """The same request again and again, from several clients, for some seconds."""

    address: Address
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    clients: int = 1
    seconds: float = 5.0

    def run(self) -> Report:
        return asyncio.run(self._run())

    async def _run(self) -> Report:
        report = Report()
        began = time.perf_counter()
        deadline = began + self.seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(self.clients):
                group.create_task(self._client(report, deadline))
        report.wall_seconds = time.perf_counter() - began
        return report

    async def _client(self, report: Report, deadline: float) -> None:
        reader, writer = await self.address.connect()
        lines = [f"GET {self.target} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        request = ("\r\n".join(lines) + "\r\n\r\n").encode()
        while (began := time.perf_counter()) < deadline:
            writer.write(request)
            status, size = await _answer(reader)
            report.seconds.append(time.perf_counter() - began)
            report.statuses[status] = report.statuses.get(status, 0) + 1
            report.body_bytes = size
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, int]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head.split(None, 2)[1])
    _, found, rest = head.partition(b"content-length:")
    size = int(rest.split(b"\r\n", 1)[0]) if found and status != 304 else 0
    left = size
    while left:
        left -= len(await reader.read(left))
    return status, size
