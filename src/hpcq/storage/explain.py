"""Why a database cannot be used, in words that say what to do."""

import sqlalchemy as sa

__all__ = ["explain"]

# What SQLite says, and what is to be done about it (https://sqlite.org/rescode.html).
_ADVICE = (
    ("database or disk is full", "The disk is full; make room on it."),
    ("disk i/o error", "The disk cannot be written to or read; see the system's log."),
    ("is locked", "Another program keeps it locked; find out which (fuser), and end it."),
    (
        "is not a database",
        "The file is damaged; move it away, and put back a copy from before if there is one.",
    ),
    (
        "malformed",
        "The file is damaged; move it away, and put back a copy from before if there is one.",
    ),
    ("unable to open", "Its folder is missing, or this account may not write there."),
    ("readonly", "This account may not write to it, or its disk is mounted read-only."),
)


def explain(error: Exception, url: sa.URL) -> str:
    """Return a sentence for an operator; it never holds the password.

    Args:
        error: what the database, its driver or the operating system said.
        url: the database.
    """
    said = " ".join(str(getattr(error, "orig", None) or error).split())
    if url.get_backend_name() == "sqlite":
        advice = next((then for sign, then in _ADVICE if sign in said.lower()), "")
        return f"The records in {url.database} cannot be used: {said}. {advice}".rstrip()
    return (
        f"The records in the database {url.render_as_string(hide_password=True)} cannot be used: "
        f"{said}. Is its server running, and does it let this account in?"
    )
