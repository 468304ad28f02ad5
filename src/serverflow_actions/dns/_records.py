"""Changes of rrsets: all of them at once or none, and only to the zone that they were made for."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..kit import Change, Host, Probe, Refused
from ..kit.rrset import TYPES, owner, rrset
from ..kit.undo import Footprint, irreversible
from ._rows import Found, Zone, records
from ._zone import tell

#: Seconds, for an rrset whose TTL is left to us.
DEFAULT_TTL_S = 3600
_KEYS = frozenset({"name", "type", "ttl", "values", "mark"})
#: How a comment begins that is a mark; all others are somebody's notes, and stay.
_MARK = re.compile(r"serverflow [0-9a-f]{8}\Z")
#: Bytes of changes at once: as PowerDNS' API has them they are twice as long, and frames of a run end at 2 MiB.
LIMIT = 512 * 1024


class Wanted(NamedTuple):
    """An rrset after the change: without values it is gone. `mark` is its comment, "" for none; a TTL of 0 is the one
    that it has, else the default.
    """

    name: str
    type: str
    ttl: int
    values: tuple[str, ...]
    mark: str


def read(text: str, zone: str) -> tuple[Wanted, ...]:
    """The changes in a JSON list of `{"name", "type", "ttl", "values", "mark"}` with absolute names. Raises Refused for
    what is no rrset of the zone, or is named twice.
    """
    wanted: dict[tuple[str, str], Wanted] = {}
    for entry in _entries(text):
        try:
            found = _one(entry, zone)
        except ValueError as error:
            raise Refused(f"changes: {error}") from None
        if (found.name, found.type) in wanted:
            raise Refused(f"changes: {found.name} {found.type} is there twice")
        wanted[found.name, found.type] = found
    return tuple(wanted.values())


def _entries(text: str) -> list[Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise Refused("changes: not a JSON list")
    return found


def _one(entry: Any, zone: str) -> Wanted:
    if not isinstance(entry, dict) or not {"name", "type"} <= set(entry) <= _KEYS:
        raise ValueError(f"{str(entry)[:80]!a} is not an object with name, type, ttl, values and mark")
    name, type_, values, mark = entry["name"], entry["type"], entry.get("values", []), entry.get("mark", "")
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise ValueError(f"{str(name)[:60]!a}: values are a list of texts")
    if not isinstance(mark, str) or (mark and not _MARK.match(mark)):
        raise ValueError(f"{str(name)[:60]!a}: a mark is `serverflow` and 8 hexadecimal digits")
    if not isinstance(name, str) or not name.endswith("."):
        raise ValueError(f"{str(name)[:60]!a} is not an absolute name")
    if not values:
        if type_ not in TYPES:
            raise ValueError(f"{str(type_)[:20]!a} is not one of {', '.join(TYPES)}")
        if (type_, owner(name, zone)) == ("NS", zone):
            raise ValueError(f"{zone} NS: without its name servers nobody finds a zone")
        return Wanted(owner(name, zone), type_, 0, (), "")
    found = rrset(name, type_, entry.get("ttl", 0), values, zone)
    return Wanted(found.name, found.type, found.ttl, found.values, mark)


@dataclass(frozen=True)
class ZoneRecords:
    """These rrsets as they are wanted, if the zone is still at `revision`. What is so already needs no revision: so a
    command that is sent again does no harm.
    """

    zone: Zone
    revision: str
    wanted: tuple[Wanted, ...]

    def _due(self, probe: Probe) -> list[tuple[Found | None, Wanted]]:
        """Raises Refused when another change came in between."""
        now = records(probe, self.zone)
        pairs = [(now.rrsets.get((each.name, each.type)), each) for each in self.wanted]
        due = [(found, _with_ttl(found, each)) for found, each in pairs if _differs(found, _with_ttl(found, each))]
        if due and now.revision != self.revision:
            raise Refused(f"{self.zone.name} is not what it was when the change was planned", "zone-changed")
        return due

    def check(self, probe: Probe) -> Change | None:
        fields = {
            f"{want.name} {want.type}": (
                _shown(found.ttl, found.values, found.comments) if found else None,
                _shown(want.ttl, want.values, _comments(found, want)),
            )
            for found, want in self._due(probe)
        }
        return Change("update", "records", self.zone.name, fields) if fields else None

    def apply(self, host: Host) -> None:
        # What goes comes first: PowerDNS reads them in order, and where a CNAME is nothing else may be.
        due = sorted(self._due(host), key=lambda pair: bool(pair[1].values))
        host.powerdns_do("records", {"rrsets": [_as_api(*pair) for pair in due]}, zone=self.zone.name)
        tell(host, self.zone.name, "notify")

    def footprint(self, _: Probe) -> Footprint:
        raise irreversible("zones in PowerDNS' database are not kept")


def _with_ttl(found: Found | None, want: Wanted) -> Wanted:
    return want if want.ttl else want._replace(ttl=found.ttl if found else DEFAULT_TTL_S)


def _differs(found: Found | None, want: Wanted) -> bool:
    if not found or not want.values:
        return bool(found) != bool(want.values)
    return (found.ttl, found.values, found.comments) != (want.ttl, want.values, _comments(found, want))


def _comments(found: Found | None, want: Wanted) -> tuple[str, ...]:
    """As they are afterwards: sorted, like those that are found."""
    kept = [each for each in (found.comments if found else ()) if not _MARK.match(each)]
    return tuple(sorted([*kept, want.mark] if want.mark else kept))


def _shown(ttl: int, values: Sequence[str], comments: Sequence[str]) -> str | None:
    return " ".join([str(ttl), ", ".join(values), *(f"({each})" for each in comments)]) if values else None


def _as_api(found: Found | None, want: Wanted) -> dict[str, Any]:
    about = {"name": want.name, "type": want.type}
    if not want.values:
        return {**about, "changetype": "DELETE"}
    return {
        **about,
        "ttl": want.ttl,
        "changetype": "REPLACE",
        "records": [{"content": each, "disabled": False} for each in want.values],
        "comments": [{"content": each, "account": ""} for each in _comments(found, want)],
    }
