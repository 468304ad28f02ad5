"""Zones, records and keys as they stand in PowerDNS' database (generic SQLite backend, schema of 4.7)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..kit import Probe
from ..kit.powerdns import DATABASE
from ..kit.rrset import TYPES, value

#: PowerDNS' words for kinds, in the database and in the API; 5.0 may write the newer ones.
KINDS = {"primary": "Master", "secondary": "Slave", "producer": "Producer", "consumer": "Consumer", "native": "Native"}
_KINDS_FOUND = {**{word.upper(): kind for kind, word in KINDS.items()}, "PRIMARY": "primary", "SECONDARY": "secondary"}

_ZONES = "select id, name, type, master, catalog from domains"
_METADATA = "select domain_id, kind, content from domainmetadata order by kind, content"
_SIGNED = "select distinct domain_id from cryptokeys where active"
_APEX = (
    "select domain_id, records.type, content from records join domains on domains.id=domain_id"
    " where records.name=domains.name and records.type in ('SOA', 'NS') and not disabled order by content"
)


class Zone(NamedTuple):
    """A zone's settings. Names are absolute; `metadata` are those of PowerDNS, by kind."""

    id: int
    name: str
    kind: str
    primaries: list[str]
    catalog: str
    signed: bool
    soa: list[str]
    nameservers: list[str]
    metadata: dict[str, list[str]]

    @property
    def serial(self) -> int:
        """0 for a secondary that has never been transferred."""
        return int(self.soa[2]) if len(self.soa) > 2 and self.soa[2].isdigit() else 0


def zones(probe: Probe) -> list[Zone]:
    """All of them, sorted by name; none when there is no database yet."""
    answers = probe.rows(DATABASE, (f"{_ZONES} order by name", ()), (_METADATA, ()), (_SIGNED, ()), (_APEX, ()))
    if answers is None:
        return []
    found, metadata, signed, apex = answers
    return [_zone(row, metadata, {each for (each,) in signed}, apex) for row in found]


def zone(probe: Probe, name: str) -> Zone | None:
    """One of them."""
    return next((each for each in zones(probe) if each.name == name), None)


def _zone(row: Sequence[Any], metadata: Sequence[Any], signed: set[int], apex: Sequence[Any]) -> Zone:
    number, name, kind, primaries, catalog = row
    own: dict[str, list[str]] = {}
    for at, key, content in metadata:
        if at == number:
            own.setdefault(key, []).append(content or "")
    soa = next((content for at, type_, content in apex if at == number and type_ == "SOA"), "")
    return Zone(
        id=number,
        name=absolute(name),
        kind=_KINDS_FOUND.get(str(kind).upper(), "native"),
        primaries=[each for each in re.split(r"[,\s]+", primaries or "") if each],
        catalog=absolute(catalog) if catalog else "",
        signed=number in signed,
        soa=soa.split(),
        nameservers=[absolute(content) for at, type_, content in apex if at == number and type_ == "NS"],
        metadata=own,
    )


class Key(NamedTuple):
    """A TSIG key (RFC 8945)."""

    algorithm: str
    secret: str


def keys(probe: Probe) -> dict[str, Key]:
    """By their absolute names."""
    answers = probe.rows(DATABASE, ("select name, algorithm, secret from tsigkeys", ()))
    return {absolute(name): Key(algorithm, secret) for name, algorithm, secret in (answers or [[]])[0]}


class Found(NamedTuple):
    """An rrset in the database. `comments` are those of PowerDNS, in order; `values` are canonical and sorted."""

    name: str
    type: str
    ttl: int
    values: tuple[str, ...]
    comments: tuple[str, ...] = ()


class Records(NamedTuple):
    """All rrsets of a zone but its SOA, by name and type; `revision` is another one after any change of them."""

    rrsets: dict[tuple[str, str], Found]
    revision: str


def records(probe: Probe, zone: Zone) -> Records:
    """What the zone has. DNSSEC's records are made while PowerDNS answers, and stand nowhere."""
    import hashlib
    import json

    answers = probe.rows(
        DATABASE,
        (
            "select name, type, content, ttl, prio, disabled from records"
            " where domain_id=? and type is not null and type not in ('', 'SOA') order by 1, 2, 3, 4, 5, 6",
            (zone.id,),
        ),
        ("select name, type, comment from comments where domain_id=? order by 1, 2, 3", (zone.id,)),
    )
    rows, comments = answers or [[], []]
    revision = hashlib.sha256(json.dumps([rows, comments]).encode()).hexdigest()
    said: dict[tuple[str, str], list[str]] = {}
    for name, type_, comment in comments:
        said.setdefault((absolute(name), type_), []).append(comment)
    held: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for name, type_, content, ttl, prio, disabled in rows:
        if not disabled:
            held.setdefault((absolute(name), type_), []).append((ttl, presented(type_, content or "", prio, zone.name)))
    found = {
        key: Found(*key, values[0][0], tuple(sorted({text for _, text in values})), tuple(said.get(key, ())))
        for key, values in held.items()
    }
    return Records(found, revision)


def presented(type: str, content: str, prio: int | None, zone: str) -> str:
    """A value in its canonical presentation format. In the database names have no final dot, and the first number of
    MX and SRV has a column of its own. What cannot be read is given as it stands.
    """
    text = content
    if type in ("MX", "SRV"):
        first, _, name = content.rpartition(" ")
        text = f"{prio or 0} {f'{first} ' if first else ''}{absolute(name)}"
    elif type in ("NS", "CNAME", "PTR"):
        text = absolute(content)
    elif type in ("SVCB", "HTTPS"):
        number, _, rest = content.partition(" ")
        name, space, pairs = rest.partition(" ")
        text = f"{number} {absolute(name)}{space}{pairs}"
    if type not in TYPES:
        return text
    try:
        return value(type, text, zone)
    except ValueError:
        return text


def absolute(name: str) -> str:
    """With its final dot, in lower case; the root is a dot."""
    return f"{name.lower().rstrip('.')}."
