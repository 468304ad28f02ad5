"""Lines for journald, from what runs without a session."""

from __future__ import annotations


def note(message: str) -> None:
    """One line, without control characters. Never a secret, and nothing that a stranger sent."""
    import syslog

    syslog.openlog("serverflow")
    syslog.syslog(syslog.LOG_WARNING, "".join(c if c.isprintable() else "?" for c in message)[:500])
