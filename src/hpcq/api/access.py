"""Rules of access: the kind of each route, and the sites and names by which a browser may come."""

import re
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi.routing import APIRoute

from hpcq.auth.settings import AuthSettings
from hpcq.domain.principals import Method, Scope

__all__ = [
    "FILE",
    "FOR_NOBODY_TOO",
    "LOGINS",
    "OPEN",
    "OPEN_FOLDERS",
    "RULES",
    "UNCOUNTED",
    "AccessRules",
    "Names",
    "Target",
    "is_foreign_site",
    "tells_its_site",
]

RULES: Mapping[str, Scope | None] = {
    "healthReady": None,
    "submitJob": Scope.JOBS_WRITE,
    "listJobs": Scope.JOBS_READ,
    "summarizeJobs": Scope.JOBS_READ,
    "followListing": Scope.JOBS_READ,
    "getJob": Scope.JOBS_READ,
    "getJobUsage": Scope.JOBS_READ,
    "getJobOutput": Scope.JOBS_READ,
    "listJobFiles": Scope.JOBS_READ,
    "getJobFile": Scope.JOBS_READ,
    "deleteJob": Scope.JOBS_WRITE,
    "updateJob": Scope.JOBS_WRITE,
    "holdJob": Scope.JOBS_WRITE,
    "releaseJob": Scope.JOBS_WRITE,
    "requeueJob": Scope.JOBS_WRITE,
    "suspendJob": Scope.JOBS_WRITE,
    "resumeJob": Scope.JOBS_WRITE,
    "signalJob": Scope.JOBS_WRITE,
    "listEvents": Scope.EVENTS_READ,
    "listJobEvents": Scope.EVENTS_READ,
    "createWebhook": Scope.ADMIN,
    "listWebhooks": Scope.ADMIN,
    "getWebhook": Scope.ADMIN,
    "deleteWebhook": Scope.ADMIN,
    "listWebhookDeliveries": Scope.ADMIN,
    "getCluster": Scope.JOBS_READ,
    "listQueues": Scope.JOBS_READ,
    "getQueueUsage": Scope.JOBS_READ,
    "listNodes": Scope.JOBS_READ,
    "listPrograms": Scope.PROGRAMS_READ,
    "getMetrics": Scope.METRICS_READ,
    "firecrestSystems": Scope.JOBS_READ,
    "firecrestNodes": Scope.JOBS_READ,
    "firecrestPartitions": Scope.JOBS_READ,
    "firecrestSubmitJob": Scope.JOBS_WRITE,
    "firecrestJobs": Scope.JOBS_READ,
    "firecrestJob": Scope.JOBS_READ,
    "firecrestJobMetadata": Scope.JOBS_READ,
    "firecrestCancelJob": Scope.JOBS_WRITE,
    "firecrestView": Scope.JOBS_READ,
    "firecrestHead": Scope.JOBS_READ,
    "firecrestTail": Scope.JOBS_READ,
    "firecrestStat": Scope.JOBS_READ,
    "firecrestDownload": Scope.JOBS_READ,
    "getSession": None,
    "createSession": None,
    "deleteSession": None,
    "beginLogin": None,
    "finishLogin": None,
}
"""The scope that each route asks for, by its operation id; None where any principal will do.

`OPEN`, `OPEN_FOLDERS` and `FOR_NOBODY_TOO` ask for no principal. A route without a rule keeps the
service from starting.
"""
FILE = "getJobFile"
"""The route whose path ends with the name of a file, as a job wrote it."""
OPEN = "healthLive"
OPEN_FOLDERS = ("/", "/assets", "/help")
"""The folders of files that hold no data of the site: the page itself, and the documentation."""
FOR_NOBODY_TOO = frozenset({"getSession", "deleteSession", "beginLogin", "finishLogin"})
"""The routes that answer those too whom the service does not know: a page has to show its login."""
LOGINS = {"createSession": Method.TOKEN, "finishLogin": Method.OIDC}
"""The routes of logins, whose refusals (401) count as failed ones, and what each takes."""
UNCOUNTED = frozenset({"healthReady"})
"""The routes whose requests do not count for ``MAX_REQUESTS_PER_SECOND``."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Target:
    """The route that a request goes to.

    Attributes:
        operation: its operation id; None for what is documented nowhere, and for nothing at all.
        job_id: the job that the path names.
        is_open: true when nobody is asked who they are.
    """

    operation: str | None = None
    job_id: str | None = None
    is_open: bool = False

    @property
    def scope(self) -> Scope | None:
        """The scope that the route asks for."""
        return None if self.operation is None else RULES.get(self.operation)


class AccessRules:
    """The rules of all routes.

    Raises:
        LookupError: a route has none.
    """

    def __init__(self, routes: Sequence[APIRoute]) -> None:
        self._routes = routes
        for route in routes:
            if route.operation_id != OPEN and route.operation_id not in RULES:
                raise LookupError(f"hpcq.api.access.RULES has no rule for {route.operation_id}")

    def target(self, method: str, path: str) -> Target:
        """Return where a request goes.

        Args:
            method: of the request.
            path: decoded, with one slash at its beginning and none at its end.
        """
        method = "GET" if method == "HEAD" else method
        for route in self._routes:
            found = route.path_regex.match(path)
            if found is not None and method in (route.methods or ()):
                operation = route.operation_id
                return Target(operation, found.groupdict().get("jobId"), operation == OPEN)
        folder = f"/{path.split('/', 2)[1]}"
        return Target(is_open=method == "GET" and folder in OPEN_FOLDERS)


class Names:
    """The names under which clients may reach the service.

    Args:
        settings: more names, or ``*``.
        host: the address that it listens on, as in the settings.
    """

    def __init__(self, settings: AuthSettings, host: str) -> None:
        own = {"localhost", "127.0.0.1", "::1", socket.gethostname().lower()}
        self._names = own | {host.lower(), *(_bare(name) for name in settings.allowed_hosts)}
        self._is_any = "*" in settings.allowed_hosts
        # A name server that is away answers after many seconds; the start does not wait for it.
        threading.Thread(target=self._add_full_name, daemon=True).start()

    def _add_full_name(self) -> None:
        self._names.add(socket.getfqdn().lower())

    def include(self, host: str, server: str | None) -> bool:
        """Return whether a ``Host`` header names this service.

        Args:
            host: the header's value.
            server: our end's address; a client may always write the address that it reached.
        """
        if self._is_any:
            return True
        found = _HOST.fullmatch(host.lower())
        if found is None:
            return False
        name = _bare(found[1])
        return name.rstrip(".") in self._names or (server is not None and name == server)


def _bare(name: str) -> str:
    return name.strip("[]")


def tells_its_site(headers: Mapping[str, str]) -> bool:
    """Return whether a request says which page made it, as browsers do."""
    return "origin" in headers or "sec-fetch-site" in headers


def is_foreign_site(headers: Mapping[str, str], allowed: Sequence[str]) -> bool:
    """Return whether a page of another site made a browser send this request.

    Browsers say so in ``Origin`` and ``Sec-Fetch-Site``; other clients send neither.

    Args:
        headers: of the request, names in lower case.
        allowed: origins that may.
    """
    origin = headers.get("origin")
    if origin is not None:
        if origin.lower() in allowed:
            return False
        try:
            return urlsplit(origin.lower()).netloc != headers.get("host", "").lower()
        except ValueError:
            # No site of a browser is written so.
            return True
    return headers.get("sec-fetch-site", "none").lower() not in ("none", "same-origin")
