"""Times as they are stored and shown in JSON."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(milliseconds: int) -> str:
    """UTC, RFC 3339, from milliseconds since 1970."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
