"""The address of the service, as the doctor finds it: free, taken, or answered by a service."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from hpcq.cli.findings import Finding, good, problem, warning
from hpcq.cli.serve import open_socket
from hpcq.cli.texts import translated as _
from hpcq.client import Client
from hpcq.client.errors import ClientError, Problem
from hpcq.config import Settings
from hpcq.config.settings import UNIX_SOCKET

__all__ = ["examine_address"]


def examine_address(settings: Settings) -> Iterator[Finding]:
    """Yield whether the service can listen, or whether what listens is this service."""
    part, host, port = _("address"), settings.host, settings.port
    is_path = host.startswith(UNIX_SOCKET)
    shown = host if is_path else f"{host}:{port}"
    url = host if is_path else f"http://{f'[{host}]' if ':' in host else host}:{port}"
    try:
        if not is_path or Path(host.removeprefix(UNIX_SOCKET)).exists():
            _try_address(host, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            text = _("Nothing can listen on {shown}: {why}.")
            remedy = _("Set HOST and PORT to an address of this machine.")
            yield problem(part, text.format(shown=shown, why=error.strerror or error), remedy)
            return
        running = _service_at(url)
        if running is None:
            text = _("What listens on {shown} does not answer as this service.")
            remedy = _(
                "Choose another PORT, or stop it: `ss -ltnp`, as root, names it. If it is this"
                " service, its log tells more: `journalctl -u hpc-queue-api`."
            )
            yield problem(part, text.format(shown=shown), remedy)
            return
        cluster, scheduler = running
        if scheduler not in ("", settings.scheduler.upper()):
            text = _("The service on {shown} runs with SCHEDULER={scheduler}.")
            remedy = _("Restart it, as with `systemctl restart hpc-queue-api`.")
            yield warning(part, text.format(shown=shown, scheduler=scheduler), remedy)
            return
        text = _("The service of the cluster {cluster} runs on {shown}.")
        yield good(part, text.format(cluster=cluster, shown=shown))
        return
    yield good(part, _("{shown} is free.").format(shown=shown))


def _try_address(host: str, port: int) -> None:
    """Raise OSError if nothing can listen at an address."""
    if host.startswith(UNIX_SOCKET):
        # Whoever listens may not be disturbed, and what is left over is taken away at the start.
        if _service_at(host) is not None:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        return
    open_socket(host, port).close()


def _service_at(url: str) -> tuple[str, str] | None:
    """Return the cluster of a service and its scheduler; None if none answers."""
    try:
        with Client(url, patience=0, timeout=5) as client:
            cluster = client.cluster()
            return cluster.cluster_id, cluster.scheduler.upper()
    except Problem:
        return "?", ""  # it does not know us
    except ClientError:
        return None
