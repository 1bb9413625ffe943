"""Sentences that explain why a database cannot be used, and what to do."""

import sqlalchemy as sa

__all__ = ["explain"]

_DAMAGED = "The file is damaged; move it away, and put back a copy from before if there is one."
# What SQLite and the operating system say (https://sqlite.org/rescode.html).
_SQLITE = (
    ("disk is full", "The disk is full; make room on it."),
    ("no space left", "The disk is full; make room on it."),
    ("disk i/o error", "The disk cannot be written to or read; see the system's log."),
    ("is locked", "Another program keeps it locked; find out which (fuser), and end it."),
    ("is not a database", _DAMAGED),
    ("malformed", _DAMAGED),
    ("unable to open", "Its folder is missing, or this account may not write there."),
    ("no such file", "Its folder is missing."),
    ("permission denied", "This account may not write there."),
    ("readonly", "This account may not write to it, or its disk is mounted read-only."),
    ("read-only", "Its disk is mounted read-only."),
)
# What PostgreSQL's server and its client library say.
_POSTGRESQL = (
    ("password", "Correct the user or the password in DATABASE_URL."),
    ("pg_hba.conf", "Have its server let this account and this machine in (pg_hba.conf)."),
    ("database system is", "Its server is starting or stopping; wait until it is up."),
    ("disk full", "The disk of its server is full; make room on it."),
    ("no space left", "The disk of its server is full; make room on it."),
    ("permission denied", "Give this account the right to make tables there, and to use them."),
    ("read-only", "Name the primary server in DATABASE_URL: this one only follows another."),
    ("lock timeout", "Another replica, or a person, keeps it locked."),
    ("role", "Create the role, or correct the user in DATABASE_URL."),
    ("does not exist", "Create it, or correct DATABASE_URL."),
    ("connection", "Is its server running, and does DATABASE_URL name its host and port?"),
)


def explain(error: Exception, url: sa.URL) -> str:
    """Return a sentence for an operator; it never holds the password.

    Args:
        error: what the database, its driver or the operating system said.
        url: the database.
    """
    said = " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".")
    if url.get_backend_name() == "sqlite":
        where, signs = str(url.database), _SQLITE
    else:
        # Options may hold a password too.
        where = url.set(query={}).render_as_string(hide_password=True)
        where, signs = where.replace("+psycopg", ""), _POSTGRESQL
        for secret in filter(None, (url.password, url.query.get("password"))):
            said = said.replace(str(secret), "***")
    advice = next((then for sign, then in signs if sign in said.lower()), "")
    return f"The records in {where} cannot be used: {said}. {advice}".rstrip()
