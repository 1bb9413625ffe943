"""The Python client of the service; it needs httpx, httpx-sse and msgspec alone.

>>> def run() -> None:
...     with Client() as client:
...         job = client.submit("study.sh", ["november"], slots=16)
...         for text in job.output().follow():
...             print(text, end="")
...         print(job.wait().state)
"""

from hpcq.client.address import Address, find_address
from hpcq.client.async_client import AsyncClient, AsyncJob, AsyncListingChange, AsyncOutput
from hpcq.client.sync_client import Client, Job, ListingChange, Output

__all__ = [
    "Address",
    "AsyncClient",
    "AsyncJob",
    "AsyncListingChange",
    "AsyncOutput",
    "Client",
    "Job",
    "ListingChange",
    "Output",
    "find_address",
]
