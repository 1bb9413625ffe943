"""What time it is; aware, in UTC."""

from datetime import UTC, datetime

__all__ = ["now"]


def now() -> datetime:
    """Return the present, aware, in UTC."""
    return datetime.now(UTC)
