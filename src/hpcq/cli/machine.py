"""The machine's part in what the settings ask for: the audit log, sudo's rule, open files."""

import os
import resource
import subprocess
from collections.abc import Iterator

from hpcq.cli.remedies import account_name
from hpcq.cli.texts import translated as _
from hpcq.config import Settings
from hpcq.execution.account_process import PROGRAM, missing_means
from hpcq.execution.descriptors import RESERVED

__all__ = ["few_files", "lacking"]

_SUDO_SECONDS = 30


def lacking(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Yield what keeps the service from starting or submitting: the part, a sentence, a remedy."""
    account = account_name(os.geteuid())
    log = settings.audit_log
    if log is not None and not os.access(log if log.exists() else log.parent, os.W_OK):
        text = _("{account} cannot write {file}.").format(account=account, file=log)
        remedy = _(
            "Call `install -d -m 700 -o {account} /var/log/hpcq` as root, and set "
            "AUDIT_LOG=/var/log/hpcq/audit.jsonl."
        )
        yield _("audit log"), text, remedy.format(account=account)
    if settings.submit_as == "user":
        yield from _sudo(account)


def _sudo(account: str) -> Iterator[tuple[str, str, str]]:
    part = _("accounts")
    missing = missing_means()
    if missing is not None:
        remedy = _("Call `apt-get install sudo` as root, or run the service as root.")
        yield part, missing, remedy
    elif os.geteuid() != 0 and not _is_allowed():
        text = _("SUBMIT_AS=user: sudo does not let {account} run {program}.")
        remedy = _(
            'Write `{account} ALL=(%GROUP) NOPASSWD: {program} ""` into /etc/sudoers.d/hpcq, with '
            "the group of all who may submit; the unit then needs NoNewPrivileges=no (setuid.conf)."
        )
        names = {"account": account, "program": PROGRAM}
        yield part, text.format(**names), remedy.format(**names)


def _is_allowed() -> bool:
    try:
        listed = subprocess.run(
            ["sudo", "-n", "-l"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SUDO_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return listed.returncode == 0 and str(PROGRAM).encode() in listed.stdout


def few_files(settings: Settings) -> tuple[str, str, str] | None:
    """Return what there is to say of a limit of open files too low for ``MAX_CONNECTIONS``."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    needed = settings.max_connections + RESERVED
    if limit == resource.RLIM_INFINITY or limit >= needed:
        return None
    text = _("The service may open {limit} files, too few for MAX_CONNECTIONS={most}.")
    remedy = _(
        "Set LimitNOFILE={needed} in the unit, or call `ulimit -n {needed}` before `hpcq serve`."
    )
    return (
        _("open files"),
        text.format(limit=limit, most=settings.max_connections),
        remedy.format(needed=needed),
    )
