"""Zones as master files (RFC 1035 section 5): what we write any name server reads, and what others write we read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from serverflow_actions.kit import rrset as canonical
from serverflow_actions.kit.rrset import TYPES, RRset, fqdn

from ..errors import ConfigError
from ..model.zone import ZoneState
from .zone_diff import DNSSEC

#: What a file says of records whose TTL is left to the provider: so many seconds Cloudflare takes by itself.
_AUTOMATIC_TTL_S = 300


class ZoneFileError(ConfigError):
    """The text is not a zone file, or one that we do not read."""

    default_code = "zone-file"


class ZoneFile(NamedTuple):
    """What a zone file has. `problems` are sentences on what was left out or taken otherwise than it stands there."""

    rrsets: tuple[RRset, ...]
    problems: tuple[str, ...]


def export(state: ZoneState) -> str:
    """The file's text, along the tree of names. It has no SOA: whoever takes the zone over makes one.

    Read again it is the same, except that a TTL left to the provider is written as 300 seconds, and that only a comment
    says what is proxied. Raises ZoneFileError for a value that is more than a line.
    """
    zone = fqdn(state.name)
    lines = [f"; {zone} without its SOA, which each provider makes", f"$ORIGIN {zone}", f"$TTL {_AUTOMATIC_TTL_S}"]
    for rrset, _, proxied in sorted(state.rrsets, key=lambda each: _place(each.rrset)):
        for value in rrset.values:
            fields = rrset.name, str(rrset.ttl or ""), "IN", rrset.type, value
            if not all(field.isascii() and field.isprintable() for field in fields):
                raise ZoneFileError(f"{rrset.name} {rrset.type} has a value that is more than a line: {value[:60]!a}")
            lines.append("\t".join(fields) + ("\t; proxied" if proxied else ""))
    return "\n".join(lines) + "\n"


def read(text: str, zone: str) -> ZoneFile:
    """Read a file, in which relative names belong to the zone until $ORIGIN says otherwise.

    Only $ORIGIN and $TTL are taken: $INCLUDE would read any file, and $GENERATE make any number of records. Raises
    ZoneFileError with the line for what cannot be read. What can, and has no place in a zone of ours, is a problem.
    """
    import dns.exception
    import dns.name
    import dns.rdataclass
    import dns.tokenizer
    import dns.zonefile

    zone = fqdn(zone)
    records = _Records(dns.name.root)
    tokens = dns.tokenizer.Tokenizer(text, filename="line")
    reader = dns.zonefile.Reader(tokens, dns.rdataclass.IN, _as_any(records), allow_directives=("$ORIGIN", "$TTL"))
    # With the zone as origin of the whole, records outside of it would be dropped without a word.
    reader.current_origin = dns.name.from_text(zone)
    try:
        reader.read()
    except (dns.exception.DNSException, ValueError) as error:
        # Where the end of a line is read already, dnspython names the next one.
        line, _, reason = str(error).removeprefix("line:").partition(": ")
        where = f"at line {line}, or the one before it" if line.isdigit() else "at all"
        told = f"the zone file cannot be read {where}: {reason if line.isdigit() else error}"
        raise ZoneFileError(told, hint=_hint(str(error))) from None
    return _sorted_out(records.found, zone)


class _Found(NamedTuple):
    name: str
    type: str
    ttl: int
    value: str


class _Records:
    """What dnspython's reader fills, as far as it uses a dns.transaction.Transaction. Such a one would merge records
    into rrsets, and refuse an alias beside others, both before we could say anything about it.
    """

    def __init__(self, root: Any) -> None:
        self.found: list[_Found] = []
        self.manager = self
        self._root = root

    def origin_information(self) -> tuple[Any, bool, Any]:
        return self._root, False, self._root

    def check_put_rdataset(self, check: Callable[..., None]) -> None:
        pass

    def _set_origin(self, origin: Any) -> None:
        pass

    def add(self, name: Any, ttl: int, rdata: Any) -> None:
        import dns.rdatatype

        self.found.append(_Found(name.to_text(), dns.rdatatype.to_text(rdata.rdtype), ttl, rdata.to_text()))


def _as_any(records: _Records) -> Any:
    return records


def _sorted_out(records: Iterable[_Found], zone: str) -> ZoneFile:
    made_by_providers: Counter[str] = Counter()
    problems: list[str] = []
    ttls: dict[tuple[str, str], set[int]] = {}
    values: dict[tuple[str, str], list[str]] = {}
    for each in records:
        if each.type == "SOA" or each.type in DNSSEC:
            made_by_providers[each.type] += 1
            continue
        try:
            if each.type not in TYPES:
                raise ValueError("sf has no such type")
            key = canonical.owner(each.name, zone), each.type
            value = canonical.value(each.type, each.value, zone)
        except ValueError as error:
            problems.append(f"{each.name} {each.type} is left out: {error}")
            continue
        values.setdefault(key, []).append(value)
        ttls.setdefault(key, set()).add(each.ttl)
    found = []
    for (name, kind), several in values.items():
        seconds = ttls[name, kind]
        if len(seconds) > 1:
            shown = ", ".join(map(str, sorted(seconds)))
            problems.append(
                f"{name} {kind} has the TTLs {shown}, where one is for all (RFC 2181 5.2): the lowest is taken"
            )
        try:
            found.append(canonical.rrset(name, kind, min(seconds), several, zone))
        except ValueError as error:
            problems.append(f"{name} {kind} is left out: {error}")
    for kind, count in sorted(made_by_providers.items()):
        problems.append(f"{count} × {kind} is left out: providers make it")
    return ZoneFile(tuple(sorted(found, key=_place)), tuple(problems))


def _place(rrset: RRset) -> tuple[list[str], str]:
    return rrset.name.split(".")[::-1], rrset.type


def _hint(error: str) -> str:
    if "directive" in error:
        return "only $ORIGIN and $TTL are taken: write out what the others stand for"
    return "put a line such as $TTL 1h before the first record" if "default TTL" in error else ""
