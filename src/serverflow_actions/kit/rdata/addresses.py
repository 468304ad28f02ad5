"""A (RFC 1035 section 3.4.1) and AAAA (RFC 3596)."""

from __future__ import annotations

import re


def a(raw: str) -> str:
    """An IPv4 address of four decimal numbers without leading zeros."""
    octet = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
    if not re.match(rf"{octet}(?:\.{octet}){{3}}\Z", raw, re.ASCII):
        raise ValueError(f"{raw[:60]!a} is not an IPv4 address")
    return raw


def aaaa(raw: str) -> str:
    """An IPv6 address as in RFC 5952, but without dots: PowerDNS 4.7 does not take `::ffff:203.0.113.7` in an AAAA."""
    packed = _packed(raw)
    if packed[:12] == _MAPPED:  # Python 3.13 would write dots
        return f"::ffff:{int.from_bytes(packed[12:14], 'big'):x}:{int.from_bytes(packed[14:], 'big'):x}"
    return _text(packed)


def hint(raw: str) -> str:
    """An IPv6 address as inet_ntop(3) of glibc writes it, with dots where it holds an IPv4 address: PowerDNS takes no
    other form of it in SVCB and HTTPS.
    """
    packed = _packed(raw)
    last = ".".join(map(str, packed[12:]))
    if packed[:12] == _MAPPED:
        return f"::ffff:{last}"
    if packed[:12] == bytes(12) and any(packed[12:14]):
        return f"::{last}"
    return _text(packed)


#: IPv4 addresses in IPv6 begin so (RFC 4291 section 2.5.5.2).
_MAPPED = bytes(10) + b"\xff\xff"


def _packed(raw: str) -> bytes:
    import ipaddress  # costs a few milliseconds

    try:
        if re.match(r"[0-9a-fA-F:.]{2,45}\Z", raw, re.ASCII):
            return ipaddress.IPv6Address(raw).packed
    except ValueError:
        pass
    raise ValueError(f"{raw[:60]!a} is not an IPv6 address")


def _text(packed: bytes) -> str:
    import ipaddress

    return str(ipaddress.IPv6Address(packed))
