"""Settings of HTTP: what a request, a connection and a reader of an answer may take."""

from typing import Annotated

from pydantic import Field

from hpcq.settings import BYTES, SECONDS, Bytes, Seconds, Section, setting

__all__ = ["HttpSettings"]


class HttpSettings(Section):
    """The bounds of requests and of connections."""

    max_request_bytes: Bytes = setting(
        2**20,
        "The longest request body that the service accepts.",
        allowed=BYTES,
        example="4M",
        shown="1M",
    )
    max_request_values: Annotated[int, Field(ge=100, le=10**7)] = setting(
        10_000,
        "The most values that a request body may hold, at all levels together: arguments, "
        "variables, dependencies.",
        allowed="a whole number from 100 to 10000000",
        example="50000",
    )
    # The parser of HTTP knows no longer ones.
    max_url_bytes: Annotated[Bytes, Field(le=65535)] = setting(
        8 * 2**10,
        "The longest URL of a request, without the server's name.",
        allowed=f"{BYTES}, at most 65535",
        example="16K",
        shown="8K",
    )
    max_headers_bytes: Bytes = setting(
        32 * 2**10,
        "The longest head of a request: its first line and all headers. Also the longest trailers "
        "of a body.",
        allowed=BYTES,
        example="64K",
        shown="32K",
    )
    max_headers: Annotated[int, Field(ge=10, le=10_000)] = setting(
        100,
        "The most headers of a request.",
        allowed="a whole number from 10 to 10000",
        example="200",
    )
    request_head_seconds: Seconds = setting(
        10.0,
        "The longest time that a client may take to send the head of a request; the service cuts "
        "a slower one off.",
        allowed=SECONDS,
        example="30",
    )
    request_body_seconds: Seconds = setting(
        30.0,
        "The longest time that a client may take to send the body of a request.",
        allowed=SECONDS,
        example="120",
    )
    keep_alive_seconds: Annotated[int, Field(ge=1, le=10**6)] = setting(
        30,
        "The time that a connection without a request stays open for the next one.",
        allowed="whole seconds, at least 1",
        example="5",
    )
    answer_seconds: Seconds = setting(
        30.0,
        "The longest time that a client may take to read 1 MiB of an answer; the service cuts "
        "a slower one off.",
        allowed=SECONDS,
        example="120",
    )
    max_requests_per_second: Annotated[float, Field(gt=0, le=10**6)] | None = setting(
        None,
        "The most requests of one user in a second, on average; ten seconds' worth may come at "
        "once. A further one is answered with 429. Operators have no limit, and `/health` does "
        "not count. Each replica counts for itself. Unset: no limit.",
        allowed="a number above 0, at most 1000000",
        example="20",
        shown="",
    )
    max_answers_bytes: Bytes = setting(
        64 * 2**20,
        "The most memory of large answers that clients have not read whole. A slow client keeps "
        "an old version of the listing there; when versions take more, the service cuts off those "
        "who read the oldest. The two newest always have place.",
        allowed=BYTES,
        example="1G",
        shown="64M",
    )
    max_connections: Annotated[int, Field(ge=10, le=10**6)] = setting(
        4000,
        "The most open connections. A further one takes the place of that which has waited "
        "longest without a whole request; without such a one it is answered with 503. It is "
        "never more than the process may open files, less 256 for the service's own work.",
        allowed="a whole number from 10 to 1000000",
        example="10000",
    )
