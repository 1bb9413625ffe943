"""Refusals of OAR's commands, as 2.5.9 prints them on standard error (recordings)."""

import re

from hpcq.schedulers.command_errors import ErrorKind, ErrorTable

__all__ = ["ERRORS"]

_AWAY = r"DB connection error|Cannot connect to (?:the )?database"

ERRORS = ErrorTable(
    scheduler="OAR",
    words=(
        (re.compile(_AWAY), ErrorKind.UNAVAILABLE),
        (re.compile(r"this job does not exist"), ErrorKind.UNKNOWN_JOB),
        (re.compile(r"[Yy]ou are not the right user|only oar or root"), ErrorKind.FORBIDDEN),
        (re.compile(r"the job is not in the"), ErrorKind.WRONG_STATE),
    ),
    fields=(
        (re.compile(r"The queue \S* does not exist"), "queue"),
        (re.compile(r"not enough resources", re.IGNORECASE), "reservedSlots"),
        (re.compile(r"Bad syntax|^Unknown option", re.MULTILINE), "scriptFile"),
        (re.compile(r"Cannot recognize|\[ADMISSION RULE\]"), None),
    ),
    own_words=re.compile(
        rf"{_AWAY}|ERROR|^/!\\|\[ADMISSION RULE\]|not enough resources|^Unknown option",
        re.MULTILINE | re.IGNORECASE,
    ),
)
