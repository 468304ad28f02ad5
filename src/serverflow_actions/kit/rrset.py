"""Resource record sets as both sides write them: absolute names in lower case, values in one canonical spelling.

RFC 1035 section 5.1 is the presentation format, RFC 2181 section 5 the set. The spelling is what PowerDNS takes and
gives back. What is canonical already comes out as it went in, so a server checks by these functions what it is sent.
Each function raises ValueError for what it refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from .rdata import addresses, hashes, hosts, svcb, text
from .rdata.names import fqdn, inside, owner

__all__ = ["TYPES", "RRset", "fqdn", "inside", "owner", "rrset", "ttl", "value"]


class RRset(NamedTuple):
    """`name` is absolute, in lower case, with its final dot. `ttl` in seconds, 0 for what the provider chooses.
    `values` are sorted, each in its canonical presentation format with absolute names.
    """

    name: str
    type: str
    ttl: int
    values: tuple[str, ...]


#: Of types whose values have no names in them, and of those that do.
_READERS: Mapping[str, Callable[[str], str]] = {
    "A": addresses.a,
    "AAAA": addresses.aaaa,
    "CAA": text.caa,
    "DS": hashes.ds,
    "SSHFP": hashes.sshfp,
    "TLSA": hashes.tlsa,
    "TXT": text.txt,
}
_READERS_OF_NAMES: Mapping[str, Callable[[str, str], str]] = {
    "CNAME": hosts.name,
    "HTTPS": svcb.svcb,
    "MX": hosts.mx,
    "NS": hosts.ns,
    "PTR": hosts.name,
    "SRV": hosts.srv,
    "SVCB": svcb.svcb,
}
#: Every type that there is a reader for.
TYPES = tuple(sorted({*_READERS, *_READERS_OF_NAMES}))
#: Characters of one value: PowerDNS' SQLite schema has no longer ones.
_LONGEST = 65_535


def value(type: Any, raw: Any, zone: str) -> str:
    """One value of a type in its canonical form; names in it that are relative belong to the zone."""
    if type not in TYPES:
        raise ValueError(f"{str(type)[:60]!a} is not one of {', '.join(TYPES)}")
    if not isinstance(raw, str) or len(raw) > _LONGEST or any(_breaks(character) for character in raw):
        raise ValueError(f"{str(raw)[:60]!a} is not one line of text without control characters")
    try:
        return _READERS[type](raw) if type in _READERS else _READERS_OF_NAMES[type](raw, zone)
    except ValueError as error:
        raise ValueError(f"{type}: {error}") from None


def ttl(raw: Any) -> int:
    """Seconds, at most 2^31 - 1 (RFC 2181 section 8)."""
    if not isinstance(raw, int) or isinstance(raw, bool) or not 0 <= raw < 1 << 31:
        raise ValueError(f"{str(raw)[:60]!a} is not a TTL (0 to {(1 << 31) - 1} seconds)")
    return raw


def rrset(name: Any, type: Any, ttl: Any, values: Sequence[Any], zone: str) -> RRset:
    """The canonical rrset. Values that are the same in two spellings are one (RFC 2181 section 5)."""
    if isinstance(values, (str, bytes)) or not values:
        raise ValueError(f"{str(name)[:60]!a} {str(type)[:60]!a} has no values")
    found = sorted({value(type, raw, zone) for raw in values})
    if type == "CNAME" and len(found) > 1:
        raise ValueError(f"{str(name)[:60]!a} CNAME has {len(found)} values, and can only be an alias of one name")
    return RRset(owner(name, zone), type, _ttl(ttl), tuple(found))


_ttl = ttl


def _breaks(character: str) -> bool:
    """Control characters, C1 among them, and halves of surrogate pairs, which no encoding has."""
    code = ord(character)
    return code < 32 or 127 <= code < 160 or 0xD800 <= code < 0xE000
