"""What to change in a zone so that it is as fleet.toml says, and what is left alone.

Only rrsets with this fleet's mark are ours. Those of others are touched where the zone is declared complete, or where
somebody asks to adopt them; and some are never removed, because what made them still needs them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from serverflow_actions.kit.rrset import rrset

from ..errors import ConfigError
from ..model.zone import Change, Served, ZoneState

#: What providers make when they sign a zone (RFC 4034, 5155, 7344). DS is not among them: the parent's people write it.
DNSSEC = frozenset({"CDNSKEY", "CDS", "DNSKEY", "NSEC", "NSEC3", "NSEC3PARAM", "RRSIG"})
#: A plan may touch so many hundredths of a zone that has so many rrsets.
MOST_PERCENT, SMALL = 30, 10
#: Where things are before where something leads to them; a delegation before the DS that secures it (RFC 4035 2.4).
_ORDER = ("A", "AAAA", "TXT", "CAA", "SSHFP", "TLSA", "CNAME", "MX", "SRV", "SVCB", "HTTPS", "PTR", "NS", "DS")

Key = tuple[str, str]


class TooMuch(ConfigError):
    """The plan would change so much of the zone that it is more likely a mistake."""

    default_code = "too-much"


class NameserversChange(ConfigError):
    """The plan would change who answers for the zone."""

    default_code = "nameservers"


@dataclass(frozen=True)
class ZonePlan:
    """What to do, in an order that can be carried out one by one.

    conflicts   sentences on rrsets that others made and that stand in the way: with any of them, nothing may be done
    unmanaged   how many rrsets of others were left alone, other than those of the provider itself
    notes       sentences on what is not obvious
    """

    zone: str
    changes: tuple[Change, ...] = ()
    conflicts: tuple[str, ...] = ()
    unmanaged: int = 0
    notes: tuple[str, ...] = ()


def diff(wanted: Sequence[Served], state: ZoneState, mark: str, *, complete: bool, adopt: bool) -> ZonePlan:
    """Compare what the file wants with what there is.

    `mark` goes onto all that is made here. `complete`: what the file does not have is removed, whoever made it.
    `adopt`: rrsets of others that the file wants too become ours, their values by the file. A wanted TTL of 0, and any
    TTL of what is proxied, is the provider's affair and no difference. Raises ConfigError when two of the wanted have
    the same name and type.
    """
    ours = {_key(each): each._replace(owner=mark) for each in wanted}
    if len(ours) < len(wanted):
        raise ConfigError(f"{state.name}: one name and type is wanted twice; one rrset has all its values")
    return _Comparison(ours, {_key(each): each for each in state.rrsets}, state.name, mark, complete, adopt).plan()


def check_share(plan: ZonePlan, state: ZoneState) -> None:
    """Raise TooMuch when updates and removals are of more than 30 % of a zone of ten rrsets or more, NameserversChange
    for any change of its NS, unless it had none. Marks alone do not count. Whoever is sure does not call this.
    """
    touched = [change for change in plan.changes if change.before and not _only_mark(change)]
    apex = state.name, "NS"
    if any(_key(before) == apex for before in (change.before for change in touched) if before):
        raise NameserversChange(f"the plan changes the NS of {state.name} itself", hint="if that is meant: --force")
    total = len(state.rrsets)
    if total >= SMALL and 100 * len(touched) > MOST_PERCENT * total:
        removed = sum(change.after is None for change in touched)
        raise TooMuch(
            f"the plan updates {len(touched) - removed} and removes {removed} of the {total} rrsets of {state.name}: "
            f"{100 * len(touched) // total} %, more than {MOST_PERCENT} %",
            hint="if that is meant: --force",
        )


@dataclass(frozen=True)
class _Comparison:
    wanted: Mapping[Key, Served]
    present: Mapping[Key, Served]
    zone: str
    mark: str
    complete: bool
    adopt: bool

    def plan(self) -> ZonePlan:
        in_the_way = dict(self._blockers())
        blockers = {key for keys in in_the_way.values() for key in keys}
        removed = {key for key in self.present if key not in self.wanted and self._goes(key)}
        removed |= {key for key in blockers if self._may_go(key)}
        refused = {key: self._other(key) for key in self.wanted if self._is_others(key)}
        for key, found in in_the_way.items():
            if blocking := [each for each in found if each not in removed]:
                refused[key] = self._in_the_way(key, blocking)
        due = sorted(self.wanted.keys() - refused.keys(), key=_place)
        left = [key for key in self.present if self._is_unmanaged(key) and key not in removed]
        return ZonePlan(
            self.zone,
            tuple(self._ordered(due, removed, in_the_way)),
            tuple(refused[key] for key in sorted(refused, key=_place)),
            len(left),
            tuple(self._notes()),
        )

    def _is_others(self, key: Key) -> bool:
        """Whether somebody else has other values there, and nothing says that they are to go."""
        mine = self._is_ours(key) or self.adopt or self.complete
        return key in self.present and not mine and not self._same(key)

    def _other(self, key: Key) -> str:
        there = self.present[key]
        return f"{' '.join(key)} is there, {_maker(there)} made it, and it differs: {', '.join(there.rrset.values)}"

    def _blockers(self) -> Iterator[tuple[Key, list[Key]]]:
        """What cannot be made while another type of its name is there: an alias stands alone (RFC 1034 3.6.2)."""
        by_name: defaultdict[str, list[Key]] = defaultdict(list)
        for key in sorted(self.present, key=_place):
            if key[1] not in DNSSEC and key not in self.wanted:
                by_name[key[0]].append(key)
        for name, kind in self.wanted.keys() - self.present.keys():
            # A provider that takes an alias at the apex flattens it: all but addresses may be beside it (Cloudflare).
            found = [
                key
                for key in by_name[name]
                if "CNAME" in (kind, key[1]) and (name != self.zone or {kind, key[1]} <= {"CNAME", "A", "AAAA"})
            ]
            if found:
                yield (name, kind), found

    def _in_the_way(self, blocked: Key, keys: Sequence[Key]) -> str:
        told = (
            f"{key[1]} ({'never removed by a plan' if self._is_kept(key) else f'{_maker(self.present[key])} made it'})"
            for key in keys
        )
        return f"{' '.join(blocked)} cannot be beside what is there: {', '.join(told)}"

    def _ordered(
        self, due: Sequence[Key], removed: set[Key], in_the_way: Mapping[Key, Sequence[Key]]
    ) -> Iterator[Change]:
        """What is made, each right after what makes room for it; what is changed; what goes, that which leads to others
        first.
        """
        gone: set[Key] = set()
        for key in due:
            if key not in self.present:
                for old in in_the_way.get(key, ()):
                    if old not in gone:
                        yield Change(self.present[old], None)
                    gone.add(old)
                yield Change(None, self.wanted[key])
        for key in due:
            if key in self.present and not self._same(key):
                yield Change(self.present[key], self.wanted[key])
            elif self.adopt and key in self.present and not self._is_ours(key):
                yield Change(self.present[key], self.present[key]._replace(owner=self.mark))
        for key in sorted(removed - gone, key=_place, reverse=True):
            yield Change(self.present[key], None)

    def _notes(self) -> Iterator[str]:
        equal = sum(self._same(key) and not self._is_ours(key) for key in self.wanted)
        if equal and not (self.adopt or self.complete):
            yield f"{_count(equal)} as wanted, but made by others, and left alone: --adopt makes them ours"
        kept = [key for key in self.present if self._is_kept(key) and self._is_ours(key) and key not in self.wanted]
        for key in sorted(kept, key=_place):
            yield f"{' '.join(key)} is not in the file any more, and is never removed by a plan"
        if self.complete:
            for key in sorted((key for key in self.present if self._is_beyond(key)), key=_place):
                yield f"{' '.join(key)} stays: fleet.toml cannot have such a record"
        fleets = {each.owner for each in self.present.values()} - {"", self.mark}
        if fleets:
            yield f"others have marked rrsets here as theirs: {', '.join(sorted(fleets))}"

    def _goes(self, key: Key) -> bool:
        return not self._is_kept(key) and (self.complete or self._is_ours(key))

    def _may_go(self, key: Key) -> bool:
        return not self._is_kept(key) and (self.complete or self.adopt or self._is_ours(key))

    def _is_ours(self, key: Key) -> bool:
        return key in self.present and self.present[key].owner == self.mark

    def _is_unmanaged(self, key: Key) -> bool:
        return key not in self.wanted and not self._is_ours(key) and not self._is_providers(key)

    def _is_kept(self, key: Key) -> bool:
        """Also what the file could not have, since such names, types or values are beyond our grammar: that it is not
        there says nothing. RFC 2317's names with a / are such.
        """
        return self._is_providers(key) or self._is_beyond(key)

    def _is_beyond(self, key: Key) -> bool:
        found = self.present[key].rrset
        try:
            rrset(found.name, found.type, found.ttl, found.values, self.zone)
        except ValueError:
            return not self._is_providers(key)
        return False

    def _is_providers(self, key: Key) -> bool:
        """The provider's own, and what ACME clients put there to be found within seconds (RFC 8555 section 8.4)."""
        name, kind = key
        return (
            kind == "SOA"
            or kind in DNSSEC
            or (kind == "NS" and name == self.zone)
            or (kind == "TXT" and "_acme-challenge" in name.split("."))
        )

    def _same(self, key: Key) -> bool:
        there, want = self.present.get(key), self.wanted[key]
        if there is None:
            return False
        any_ttl = want.rrset.ttl == 0 or (want.proxied and there.proxied)
        return (
            there.rrset.values == want.rrset.values
            and there.proxied == want.proxied
            and (any_ttl or there.rrset.ttl == want.rrset.ttl)
        )


def _only_mark(change: Change) -> bool:
    before, after = change
    return before is not None and after is not None and before._replace(owner=after.owner) == after


def _key(served: Served) -> Key:
    return served.rrset.name, served.rrset.type


def _place(key: Key) -> tuple[int, list[str], str]:
    """By type, then along the tree of names."""
    name, kind = key
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER), name.split(".")[::-1], kind


def _maker(served: Served) -> str:
    return f"“{served.owner}”" if served.owner else "somebody else"


def _count(number: int) -> str:
    return "1 rrset is" if number == 1 else f"{number} rrsets are"
