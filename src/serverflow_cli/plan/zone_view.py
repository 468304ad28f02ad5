"""What a zone answers, as far as it knows: wildcards, delegations and aliases. RFC 1034 section 4.3.2, RFC 4592."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from serverflow_actions.kit.rrset import RRset, inside

ADDRESSES = ("A", "AAAA")


class ZoneView:
    """The rrsets of one zone by name and type. Names are absolute."""

    def __init__(self, zone: str, rrsets: Iterable[RRset]) -> None:
        self.zone = zone
        self._sets: dict[str, dict[str, RRset]] = {}
        for each in rrsets:
            self._sets.setdefault(each.name, {})[each.type] = each
        # What is only on the way to a name exists too, without data (RFC 4592 section 2.2.2).
        self._existing = {zone, *(parent for name in self._sets for parent in ancestors(name, zone))}

    def exactly(self, name: str) -> Mapping[str, RRset]:
        """What is written at a name, whether or not it is ever answered."""
        return self._sets.get(name, {})

    def at(self, name: str) -> Mapping[str, RRset]:
        """What is answered for a name: its own rrsets, or those of the wildcard that covers it."""
        if name in self._existing:
            return self.exactly(name)
        closest = next((parent for parent in ancestors(name, self.zone) if parent in self._existing), self.zone)
        return self.exactly(f"*.{closest}")

    def cut(self, name: str) -> str:
        """The delegation that a name is at or below; "" for none."""
        cuts = [parent for parent in ancestors(name, self.zone) if parent != self.zone and "NS" in self.exactly(parent)]
        return cuts[-1] if cuts else ""

    def knows(self, name: str) -> bool:
        """Whether nobody but this zone can say what is there."""
        return inside(name, self.zone) and not self.cut(name)

    def chain(self, name: str) -> list[str]:
        """A name and where its aliases lead, until they leave the zone, end, or come back to a name of the chain, which
        is then the last one again.
        """
        found = [name]
        while self.knows(found[-1]) and (alias := self.at(found[-1]).get("CNAME")) and alias.values:
            found.append(alias.values[0])
            if found[-1] in found[:-1]:
                break
        return found


def ancestors(name: str, zone: str) -> Iterator[str]:
    """A name in the zone, its parents, and the zone itself."""
    while inside(name, zone):
        yield name
        name = name.partition(".")[2]
