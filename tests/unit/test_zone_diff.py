"""Plans of zones: what is ours, what is not, in which order, and when it is too much."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverflow_actions.kit.rrset import RRset, rrset
from serverflow_cli.errors import ConfigError
from serverflow_cli.model.zone import Change, Served, ZoneState
from serverflow_cli.plan.zone_diff import DNSSEC, NameserversChange, TooMuch, ZonePlan, check_share, diff

ZONE, MARK = "acme.app.", "serverflow 0123abcd"
_VALUES = {"A": "192.0.2.1", "CNAME": "acme.org.", "MX": "10 mx.acme.org.", "TXT": "hello", "NS": "ns.acme.org."}


def want(name: str, type: str = "A", value: str = "", ttl: int = 300, proxied: bool = False) -> Served:
    return Served(rrset(name, type, ttl, [value or _VALUES[type]], ZONE), "", proxied)


def ours(*args: object, **named: object) -> Served:
    return want(*args, **named)._replace(owner=MARK)  # type: ignore[arg-type]


def other(name: str, type: str) -> Served:
    """Of a type that we cannot write."""
    found = want(name)
    return found._replace(rrset=found.rrset._replace(type=type))


def plan(wanted: Sequence[Served], present: Sequence[Served], complete: bool = False, adopt: bool = False) -> ZonePlan:
    return diff(wanted, ZoneState(ZONE, tuple(present), "1", ()), MARK, complete=complete, adopt=adopt)


def told(changes: Sequence[Change]) -> list[str]:
    signs = {(True, False): "-", (False, True): "+", (True, True): "~"}
    found = []
    for before, after in changes:
        about = after or before
        assert about
        found.append(
            f"{signs[before is not None, after is not None]}{about.rrset.name.removesuffix(ZONE)}{about.rrset.type}"
        )
    return found


def test_what_is_missing_is_made_with_our_mark() -> None:
    found = plan([want("www")], [])
    assert found.changes == (Change(None, ours("www")),)
    assert not found.conflicts and not found.notes


def test_what_is_ours_follows_the_file() -> None:
    found = plan([want("www", value="192.0.2.9")], [ours("www"), ours("old")])
    assert found.changes == (Change(ours("www"), ours("www", value="192.0.2.9")), Change(ours("old"), None))


def test_what_is_as_wanted_is_left_alone() -> None:
    assert plan([want("www")], [ours("www")]).changes == ()
    assert plan([want("www")], [ours("www")], adopt=True).changes == ()


def test_ttl_and_proxy_are_part_of_it() -> None:
    assert told(plan([want("www", ttl=60)], [ours("www")]).changes) == ["~www.A"]
    assert told(plan([want("www", proxied=True)], [ours("www")]).changes) == ["~www.A"]
    assert told(plan([want("www", ttl=60)], [ours("www", ttl=0)]).changes) == ["~www.A"]


def test_a_ttl_that_is_the_providers_is_no_drift() -> None:
    assert not plan([want("www", ttl=0)], [ours("www", ttl=300)]).changes
    assert not plan([want("www", ttl=60, proxied=True)], [ours("www", ttl=0, proxied=True)]).changes


# What others made


def test_others_are_never_touched() -> None:
    foreign = [want("a"), want("b", "TXT"), want("c")._replace(owner="serverflow ffffffff")]
    found = plan([], foreign)
    assert not found.changes and not found.conflicts
    assert found.unmanaged == 3
    assert found.notes == ("others have marked rrsets here as theirs: serverflow ffffffff",)


def test_other_values_by_others_are_a_conflict() -> None:
    found = plan([want("www", value="192.0.2.9"), want("new")], [want("www")])
    assert found.conflicts == ("www.acme.app. A is there, somebody else made it, and it differs: 192.0.2.1",)
    assert told(found.changes) == ["+new.A"]


def test_a_conflict_with_another_fleet_names_its_mark() -> None:
    theirs = want("www")._replace(owner="serverflow ffffffff")
    assert "“serverflow ffffffff” made it" in plan([want("www", value="192.0.2.9")], [theirs]).conflicts[0]


def test_equal_ones_of_others_are_left_and_told() -> None:
    found = plan([want("www")], [want("www")])
    assert not found.changes and not found.conflicts and not found.unmanaged
    assert found.notes == ("1 rrset is as wanted, but made by others, and left alone: --adopt makes them ours",)


def test_adopting_takes_over_what_the_file_has_and_no_more() -> None:
    wanted = [want("www", value="192.0.2.9"), want("same", ttl=0)]
    found = plan(wanted, [want("www"), want("same"), want("else")], adopt=True)
    assert found.changes == (
        Change(want("same"), ours("same")),  # the mark alone: its TTL stays too
        Change(want("www"), ours("www", value="192.0.2.9")),
    )
    assert found.unmanaged == 1 and not found.conflicts


def test_a_complete_zone_has_what_the_file_has() -> None:
    found = plan([want("www", value="192.0.2.9")], [want("www"), want("else"), want("mail", "MX")], complete=True)
    assert told(found.changes) == ["~www.A", "-mail.MX", "-else.A"]
    assert not found.conflicts and not found.unmanaged and not found.notes


@pytest.mark.parametrize(
    "odd",
    [
        other("loc", "LOC"),
        RRset("0/25.acme.app.", "A", 300, ("192.0.2.1",)),  # RFC 2317
        RRset("a\\.b.acme.app.", "A", 300, ("192.0.2.1",)),
        RRset("1.acme.app.", "CNAME", 300, ("1.0/25.acme.app.",)),
        RRset("empty.acme.app.", "A", 300, ("",)),
    ],
)
def test_what_the_file_could_not_have_is_never_touched(odd: Served | RRset) -> None:
    there = odd if isinstance(odd, Served) else Served(odd)
    for complete, adopt in (True, False), (False, True), (True, True):
        found = plan([], [there], complete=complete, adopt=adopt)
        assert not found.changes and found.unmanaged == 1
        assert bool(found.notes) is complete
    # Asked for by name and type it is as any other of somebody else.
    assert plan([want("0")], [there]).changes == (Change(None, ours("0")),)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("mark", ["", MARK])
def test_some_are_never_removed(complete: bool, mark: str) -> None:
    kept = [
        other("@", "SOA"),
        want("@", "NS"),
        want("_acme-challenge", "TXT"),
        want("_acme-challenge.www", "TXT"),
        want("x._acme-challenge.www", "TXT"),
        *(other("@", type) for type in DNSSEC),
    ]
    found = plan([], [each._replace(owner=mark) for each in kept], complete=complete, adopt=True)
    assert not found.changes and not found.unmanaged
    assert bool(found.notes) is bool(mark)  # ours, and not in the file: that is worth a word


def test_what_only_looks_like_those_is_removed() -> None:
    gone = [
        want("sub", "NS"),
        want("_acme-challengex", "TXT"),
        want("_acme-challenge", "CNAME"),
        want("sub", "DS", "12345 13 2 " + "ab" * 32),
    ]
    assert len(plan([], gone, complete=True).changes) == 4


def test_apex_ns_and_challenges_that_the_file_has_follow_it() -> None:
    wanted = [want("@", "NS", "ns9.acme.org."), want("_acme-challenge", "TXT", "new")]
    present = [ours("@", "NS"), ours("_acme-challenge", "TXT")]
    assert told(plan(wanted, present).changes) == ["~_acme-challenge.TXT", "~NS"]


# Aliases stand alone


def test_room_is_made_for_an_alias_right_before_it() -> None:
    found = plan([want("www", "CNAME"), want("a")], [ours("www"), ours("www", "TXT"), ours("z")])
    assert told(found.changes) == ["+a.A", "-www.A", "-www.TXT", "+www.CNAME", "-z.A"]


def test_room_is_made_by_an_alias() -> None:
    found = plan([want("www"), want("www", "TXT")], [ours("www", "CNAME")])
    assert told(found.changes) == ["-www.CNAME", "+www.A", "+www.TXT"]


def test_an_alias_that_another_one_is_in_the_way_of() -> None:
    present = [want("www"), ours("www", "TXT")]
    found = plan([want("www", "CNAME")], present)
    assert found.conflicts == ("www.acme.app. CNAME cannot be beside what is there: A (somebody else made it)",)
    assert "+www.CNAME" not in told(found.changes)
    assert told(plan([want("www", "CNAME")], present, adopt=True).changes) == ["-www.A", "-www.TXT", "+www.CNAME"]
    assert told(plan([want("www", "CNAME")], present, complete=True).changes) == ["-www.A", "-www.TXT", "+www.CNAME"]


def test_others_alias_is_in_the_way() -> None:
    assert "cannot be beside what is there: CNAME" in plan([want("www")], [want("www", "CNAME")]).conflicts[0]


@pytest.mark.parametrize("mark", ["", MARK])
def test_a_challenge_is_never_removed_for_an_alias(mark: str) -> None:
    left_over = want("_acme-challenge", "TXT")._replace(owner=mark)
    found = plan([want("_acme-challenge", "CNAME")], [left_over], complete=True, adopt=True)
    assert not found.changes
    assert "TXT (never removed by a plan)" in found.conflicts[0]


def test_signatures_may_be_beside_an_alias() -> None:
    assert told(plan([want("www", "CNAME")], [other("www", "NSEC"), other("www", "RRSIG")]).changes) == ["+www.CNAME"]


def test_an_alias_at_the_apex_is_in_the_way_of_addresses_alone() -> None:
    present = [want("@", "NS"), want("@", "MX"), ours("@")]
    assert told(plan([want("@", "CNAME")], present).changes) == ["-A", "+CNAME"]
    assert told(plan([want("@", "MX")], [want("@", "CNAME")]).changes) == ["+MX"]
    assert plan([want("@")], [want("@", "CNAME")]).conflicts


# Order


def test_targets_come_before_what_leads_to_them_and_go_after_it() -> None:
    types = ("A", "TXT", "CNAME", "MX", "NS")
    wanted = [want(f"n{at}", type) for at, type in enumerate(types)]
    made = told(plan(wanted[::-1], []).changes)
    assert made == ["+n0.A", "+n1.TXT", "+n2.CNAME", "+n3.MX", "+n4.NS"]
    gone = told(plan([], [each._replace(owner=MARK) for each in wanted]).changes)
    assert gone == [each.replace("+", "-") for each in made[::-1]]


NAMES, TYPES = ("@", "a", "b", "_acme-challenge.a"), ("A", "CNAME", "TXT", "MX", "NS")
SETS = st.lists(
    st.tuples(
        st.sampled_from(list(product(NAMES, TYPES))), st.sampled_from(["", MARK, "x"]), st.sampled_from([0, 300])
    ),
    unique_by=lambda each: each[0],
    max_size=12,
).map(lambda found: [want(*key, ttl=ttl)._replace(owner=mark) for key, mark, ttl in found])


def standing_alone(sets: Sequence[Served]) -> list[Served]:
    """Without what is beside an alias, and without an alias at the apex."""
    aliases = {each.rrset.name for each in sets if each.rrset.type == "CNAME"} - {ZONE}
    return [each for each in sets if (each.rrset.type == "CNAME") == (each.rrset.name in aliases)]


@given(SETS.map(standing_alone), SETS.map(standing_alone), st.booleans(), st.booleans())
def test_any_plan_can_be_carried_out_one_by_one(
    wanted: list[Served], present: list[Served], complete: bool, adopt: bool
) -> None:
    found = plan(wanted, present, complete, adopt)
    assert found == plan(wanted[::-1], present[::-1], complete, adopt)  # whatever the order of what comes in
    zone = {(each.rrset.name, each.rrset.type): each for each in present}
    for before, after in found.changes:
        about = after or before
        assert about
        key = about.rrset.name, about.rrset.type
        assert zone.get(key) == before
        if after:
            zone[key] = after
            aliases = {name for name, type in zone if type == "CNAME"} - {ZONE}
            assert not [each for each in zone if each[0] in aliases and each[1] != "CNAME"]
        else:
            assert before and (complete or adopt or before.owner == MARK)
            del zone[key]
    if not found.conflicts:
        again = plan(wanted, list(zone.values()), complete, adopt)
        assert not again.changes and not again.conflicts
        assert {(each.rrset.name, each.rrset.type) for each in wanted} <= zone.keys()
    if not (complete or adopt):
        assert [each for each in present if each.owner != MARK] == [
            each for each in present if each.owner != MARK and each in zone.values()
        ]


def test_one_name_and_type_is_wanted_once() -> None:
    with pytest.raises(ConfigError, match="twice"):
        plan([want("www"), want("www", value="192.0.2.9")], [])


# Too much


def guarded(changed: int, total: int, made: int = 0) -> None:
    """Half of the changes are updates, and the other half removals."""
    present = [ours(f"n{at}") for at in range(total)]
    updated = changed // 2
    wanted = [want(f"n{at}", value="192.0.2.9" if at < updated else "") for at in range(total - (changed - updated))]
    state = ZoneState(ZONE, tuple(present), "1", ())
    wanted += [want(f"new{at}") for at in range(made)]
    found = diff(wanted, state, MARK, complete=False, adopt=False)
    assert len(found.changes) == changed + made
    check_share(found, state)


@pytest.mark.parametrize(("changed", "total"), [(3, 10), (9, 9), (0, 100), (30, 100), (1, 1)])
def test_so_much_is_fine(changed: int, total: int) -> None:
    guarded(changed, total, made=20)


@pytest.mark.parametrize(("changed", "total"), [(4, 10), (4, 11), (31, 100), (100, 100)])
def test_so_much_is_too_much(changed: int, total: int) -> None:
    with pytest.raises(TooMuch) as refused:
        guarded(changed, total)
    updated = changed // 2
    assert f"updates {updated} and removes {changed - updated} of the {total} rrsets" in refused.value.message
    assert "--force" in refused.value.hint


def test_marks_alone_are_not_much() -> None:
    present = tuple(want(f"n{at}") for at in range(20))
    state = ZoneState(ZONE, (*present, want("@", "NS")), "1", ())
    found = diff([*present, want("@", "NS")], state, MARK, complete=False, adopt=True)
    assert len(found.changes) == 21
    check_share(found, state)


def test_the_nameservers_of_a_zone_are_not_changed_by_the_way() -> None:
    state = ZoneState(ZONE, (ours("@", "NS"),), "1", ())
    for value, ttl in ("ns9.acme.org.", 300), ("", 60):
        found = diff([want("@", "NS", value, ttl)], state, MARK, complete=False, adopt=False)
        with pytest.raises(NameserversChange) as refused:
            check_share(found, state)
        assert refused.value.exit_code == 3 and refused.value.code == "nameservers"
    check_share(plan([want("@", "NS"), want("sub", "NS")], []), ZoneState(ZONE, (), "1", ()))  # its first ones
