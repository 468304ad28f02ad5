"""Where SSH connects: hosts and jump hosts."""

from __future__ import annotations

from dataclasses import dataclass

from serverflow_actions.kit import grammar


def is_ip(host: str) -> bool:
    """Whether this is an IPv4 or IPv6 literal, without a zone or a mask."""
    from ipaddress import ip_address

    try:
        ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def host(raw: str) -> str:
    """A host name or an IP literal. Raises ValueError."""
    if ":" in raw or raw.rpartition(".")[2].isdigit():  # no top-level domain is all digits (RFC 3696, section 2)
        if not is_ip(raw):
            raise ValueError(f"{raw[:60]!a} is not an IP address")
        return raw
    return grammar.hostname(raw)


@dataclass(frozen=True)
class Jump:
    """A host to go through. `user` is "" for the operator's own login name."""

    user: str
    host: str
    port: int


def parse_jump(raw: str) -> Jump:
    """`[user@]host[:port]`, an IPv6 literal in brackets. Raises ValueError; the account serverflow is refused.

    That account exists only for the forced command, which forbids forwarding.
    """
    user, at, rest = raw.rpartition("@")
    if at and grammar.username(user) == "serverflow":
        raise ValueError("a jump host needs a login of its own, never serverflow")
    if rest.startswith("["):
        name, _, tail = rest[1:].partition("]")
        if not is_ip(name) or (tail and not tail.startswith(":")):
            raise ValueError(f"{raw[:60]!a} is not [user@]host[:port]")
        return Jump(user, name, grammar.port(tail[1:]) if tail else 22)
    name, colon, port = rest.partition(":")
    return Jump(user, host(name), grammar.port(port) if colon else 22)
