"""Cloudflare's records as rrsets and back.

Cloudflare keeps single records, each with an id, TTL and comment of its own; names stand without their final dot, a
TTL of 1 is "automatic", and the types with fields have them in `data`. Source: schemas dns-records_* of
https://github.com/cloudflare/api-schemas.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from serverflow_actions.kit import rrset as canonical
from serverflow_actions.kit.rrset import RRset

from ..model.zone import Change, Served

Record = Mapping[str, Any]

#: Cloudflare's "automatic": 300 seconds, or what its proxy takes.
AUTOMATIC = 1

#: The parts of `data` in the order of the presentation format. A trailing dot goes where it says "target".
_DATA = {
    "SRV": ("priority", "weight", "port", "target"),
    "CAA": ("flags", "tag", "value"),
    "TLSA": ("usage", "selector", "matching_type", "certificate"),
    "SSHFP": ("algorithm", "type", "fingerprint"),
    "DS": ("key_tag", "algorithm", "digest_type", "digest"),
    "SVCB": ("priority", "target", "value"),
    "HTTPS": ("priority", "target", "value"),
}
_TEXT = {"target", "tag", "value", "certificate", "fingerprint", "digest"}
_NAMES = {"CNAME", "NS", "PTR"}
_PROXIED = {"A", "AAAA", "CNAME"}


class Batch(NamedTuple):
    """The body of one call to /dns_records/batch. Cloudflare does deletes, patches and posts in this order."""

    deletes: list[dict[str, Any]]
    patches: list[dict[str, Any]]
    posts: list[dict[str, Any]]

    def size(self) -> int:
        """How many operations Cloudflare counts."""
        return len(self.deletes) + len(self.patches) + len(self.posts)


def revision(records: Iterable[Record]) -> str:
    """A hash of every record as it is, those that Cloudflare made included. `meta` is left out: it says how records
    shadow each other and which feature made them.
    """
    rows = sorted(({k: v for k, v in record.items() if k != "meta"} for record in records), key=lambda r: str(r["id"]))
    return hashlib.sha256(json.dumps(rows, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def ours_to_manage(record: Record) -> bool:
    """Not the SOA, nor what a feature such as Email Routing has locked (`meta.read_only`)."""
    meta = record.get("meta")
    return record["type"] != "SOA" and not (isinstance(meta, Mapping) and meta.get("read_only"))


def served(records: Iterable[Record], zone: str) -> tuple[Served, ...]:
    """Single records as rrsets, sorted. An rrset whose records disagree about their TTL has the lowest (RFC 2181
    section 5.2); one whose comments disagree has no owner.
    """
    sets: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if ours_to_manage(record):
            sets.setdefault(_key(record), []).append(record)
    found = []
    for (name, kind), members in sorted(sets.items()):
        ttl = min(_ttl(record) for record in members)
        values = tuple(sorted({value(record, zone) for record in members}))
        owners = {record.get("comment") or "" for record in members}
        proxied = any(record.get("proxied") for record in members)
        found.append(Served(RRset(name, kind, ttl, values), owners.pop() if len(owners) == 1 else "", proxied))
    return tuple(found)


def value(record: Record, zone: str) -> str:
    """The value of a record in its canonical spelling. What we cannot read, such as a type that `sf` does not know,
    stays as Cloudflare writes it.
    """
    try:
        text = _presented(record)
    except (ArithmeticError, AttributeError, TypeError, ValueError):
        return str(record.get("content") or "")
    try:
        return canonical.value(record["type"], text, zone)
    except ValueError:
        return text


def _presented(record: Record) -> str:
    """In presentation format. Raises what Python does for a record that is not as its type has to be."""
    kind, text = record["type"], str(record.get("content") or "")
    data = record.get("data") or {}
    if kind in _NAMES:
        return _absolute(text)
    if kind == "MX":
        return f"{int(record.get('priority', 0))} {_absolute(text)}"
    if kind in _DATA and data:
        return " ".join(_field(kind, part, data.get(part, "")) for part in _DATA[kind]).rstrip()
    return text


def as_kept(wanted: Served) -> Served:
    """As fetch gives it back: what is proxied has no TTL of its own."""
    return wanted._replace(rrset=wanted.rrset._replace(ttl=0)) if wanted.proxied else wanted


def batch(records: Sequence[Record], changes: Iterable[Change], zone: str) -> Batch:
    """What to send for these changes to the records that are there now. A record keeps its id, tags and settings where
    it can: it is patched and not made anew.
    """
    todo = Batch([], [], [])
    sets: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if ours_to_manage(record):
            sets.setdefault(_key(record), []).append(record)
    for change in changes:
        if change.after and change.before and _rrset_key(change.after) != _rrset_key(change.before):
            raise ValueError("a change is of one rrset")
        about = change.after or change.before
        if about:
            _plan(todo, sets.get(_rrset_key(about), []), change.after, zone)
    return todo


def _plan(todo: Batch, present: list[Record], after: Served | None, zone: str) -> None:
    missing = list(after.rrset.values) if after else []
    spare = []
    for record in present:
        now = value(record, zone)
        if now in missing and after:
            missing.remove(now)
            if not _same(record, after):
                todo.patches.append({"id": record["id"], **_body(after, now)})
        else:
            spare.append(record)
    for record in spare:
        if after and missing:
            todo.patches.append({"id": record["id"], **_body(after, missing.pop(0))})
        else:
            todo.deletes.append({"id": record["id"]})
    if after:
        todo.posts.extend(_body(after, text) for text in missing)


def _same(record: Record, after: Served) -> bool:
    return (
        _ttl(record) == as_kept(after).rrset.ttl
        and (record.get("comment") or "") == after.owner
        and bool(record.get("proxied")) == after.proxied
    )


def _body(after: Served, text: str) -> dict[str, Any]:
    kind = after.rrset.type
    body: dict[str, Any] = {
        "name": after.rrset.name.rstrip("."),
        "type": kind,
        "ttl": as_kept(after).rrset.ttl or AUTOMATIC,
        "comment": after.owner,
    }
    if kind in _PROXIED:
        body["proxied"] = after.proxied
    if kind in _DATA:
        parts = text.split(None, len(_DATA[kind]) - 1)
        named = zip(_DATA[kind], parts + [""] * (len(_DATA[kind]) - len(parts)), strict=True)
        body["data"] = {part: _unfield(kind, part, raw) for part, raw in named}
    elif kind == "MX":
        priority, target = text.split()
        body |= {"priority": int(priority), "content": _relative(target)}
    else:
        body["content"] = _relative(text) if kind in _NAMES else text
    return body


def _field(kind: str, part: str, raw: object) -> str:
    if part == "target":
        return _absolute(str(raw))
    if kind == "CAA" and part == "value":
        return '"' + re.sub(r'(["\\])', r"\\\1", str(raw)) + '"'
    return str(raw) if part in _TEXT else str(int(float(str(raw or 0))))


def _unfield(kind: str, part: str, text: str) -> str | int:
    if part == "target":
        return _relative(text)
    if kind == "CAA" and part == "value":
        return re.sub(r"\\(\d{3}|.)", lambda m: m[1] if len(m[1]) == 1 else chr(int(m[1])), text[1:-1])
    return text if part in _TEXT else int(text)


def _key(record: Record) -> tuple[str, str]:
    return _absolute(str(record["name"])).lower(), str(record["type"])


def _rrset_key(served: Served) -> tuple[str, str]:
    return served.rrset.name, served.rrset.type


def _ttl(record: Record) -> int:
    ttl = record.get("ttl") or AUTOMATIC
    return 0 if ttl == AUTOMATIC else int(ttl)


def _absolute(name: str) -> str:
    return name if name.endswith(".") else name + "."


def _relative(name: str) -> str:
    return name.rstrip(".") or "."
