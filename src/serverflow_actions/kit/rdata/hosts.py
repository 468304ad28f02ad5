"""Types that lead to another name: CNAME, NS, PTR, MX (RFC 1035 section 3.3, RFC 7505), SRV (RFC 2782)."""

from __future__ import annotations

from .names import host, target
from .numbers import fields, number


def name(raw: str, zone: str) -> str:
    """CNAME and PTR."""
    return target(raw, zone)


def ns(raw: str, zone: str) -> str:
    """The name of a name server."""
    return host(raw, zone)


def mx(raw: str, zone: str) -> str:
    """`10 mail`; `0 .` says that there is no mail (RFC 7505)."""
    preference, exchange = fields(raw, 2, "PREFERENCE HOST, such as 10 mail.acme.org.")
    return f"{number(preference, 16, 'a preference')} {host(exchange, zone, root=True)}"


def srv(raw: str, zone: str) -> str:
    """`0 5 5060 sip`; a target of `.` says that there is no such service."""
    priority, weight, port, server = fields(raw, 4, "PRIORITY WEIGHT PORT HOST, such as 0 5 5060 sip.acme.org.")
    numbers = number(priority, 16, "a priority"), number(weight, 16, "a weight"), number(port, 16, "a port")
    return " ".join(map(str, numbers)) + " " + host(server, zone, root=True)
