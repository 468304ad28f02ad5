"""What every DnsProvider promises, whichever it is. A test module subclasses DnsContract and gives a fixture `seam`."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import pytest

from serverflow_actions.kit.rrset import TYPES, RRset, rrset
from serverflow_cli.errors import SfError
from serverflow_cli.model.zone import Change, Served, ZoneState
from serverflow_cli.providers.dns import DnsProvider
from serverflow_cli.providers.errors import NoZone, ProviderFailed, ZoneChanged

MARK = "serverflow 0123abcd"

#: Of each type something that providers have got wrong before.
VALUES: dict[str, list[str]] = {
    "A": ["192.0.2.1", "192.0.2.77"],
    "AAAA": ["2001:db8::1", "2001:db8:0:0:1::2"],
    "CNAME": ["other.example.net."],
    "MX": ["10 mail.example.net.", "20 mail2.example.net."],
    "TXT": ["v=spf1 -all", 'it is "quoted" \\ here; and = there', "grün ünd 東京", " blanks  kept "],
    "SRV": ["0 5 5060 sip.example.net.", "10 0 443 ."],
    "CAA": ['0 issue "ca.example.net"', '128 issuewild ";"', '0 iodef "mailto:a@example.net"'],
    "NS": ["ns1.example.net.", "ns2.example.net."],
    "PTR": ["host.example.net."],
    "TLSA": ["3 1 1 " + "0123456789abcdef" * 4],
    "SSHFP": ["4 2 " + "fedcba9876543210" * 4],
    "SVCB": ["1 svc.example.net. alpn=h2,h3 port=8443"],
    "HTTPS": ["1 . alpn=h2,h3 ipv4hint=192.0.2.1", "0 alias.example.net."],
    "DS": ["12345 13 2 " + "0123456789abcdef" * 4],
}


class Seam(NamedTuple):
    """How to reach the provider, and a zone that it does not have yet. `apex` has its final dot."""

    open: Callable[[], AbstractAsyncContextManager[DnsProvider]]
    apex: str

    def play(self, story: Callable[[DnsProvider], Awaitable[None]], *, add: bool = True) -> None:
        """One story about a new zone, and the zone gone after it."""

        async def whole() -> None:
            async with self.open() as dns:
                if add:
                    await dns.add(self.apex)
                try:
                    await story(dns)
                finally:
                    if self.apex in await dns.zones():
                        await dns.remove(self.apex)

        asyncio.run(whole())

    def served(self, owner: str, kind: str, values: Iterable[str], ttl: int = 300, mark: str = MARK) -> Served:
        """An rrset of the zone, as `sf` makes it."""
        return Served(rrset(owner, kind, ttl, list(values), self.apex), mark)

    def make(self, *wanted: Served) -> list[Change]:
        """Changes that make these."""
        return [Change(None, one) for one in wanted]


class DnsContract:
    """One test for each promise of providers/dns.py."""

    # Zones

    def test_a_zone_is_added_and_removed(self, seam: Seam) -> None:
        async def story(dns: DnsProvider) -> None:
            assert seam.apex not in await dns.zones()
            await dns.add(seam.apex)
            assert seam.apex in await dns.zones()
            state = await dns.fetch(seam.apex)
            assert state.name == seam.apex
            assert _but_apex_ns(state) == set()
            await dns.remove(seam.apex)
            assert seam.apex not in await dns.zones()

        seam.play(story, add=False)

    def test_a_zone_that_is_there_is_added_without_loss(self, seam: Seam) -> None:
        async def story(dns: DnsProvider) -> None:
            before = await _apply(dns, seam, seam.make(seam.served("www", "A", ["192.0.2.1"])))
            await dns.add(seam.apex)
            assert await dns.fetch(seam.apex) == before

        seam.play(story)

    def test_a_zone_that_is_not_there_is_said(self, seam: Seam) -> None:
        async def story(dns: DnsProvider) -> None:
            calls: list[Callable[[], Awaitable[Any]]] = [
                lambda: dns.fetch(seam.apex),
                lambda: dns.remove(seam.apex),
                lambda: dns.addresses(seam.apex),
                lambda: dns.ds(seam.apex),
                lambda: dns.apply(seam.apex, seam.make(seam.served("www", "A", ["192.0.2.1"])), "0"),
            ]
            for call in calls:
                with pytest.raises(NoZone) as error:
                    await call()
                assert error.value.exit_code == 7
                assert seam.apex in error.value.message
            assert seam.apex not in await dns.zones()

        seam.play(story, add=False)

    def test_names_are_found_in_any_case(self, seam: Seam) -> None:
        async def story(dns: DnsProvider) -> None:
            state = await _apply(dns, seam, seam.make(seam.served("WwW", "CNAME", ["Other.Example.NET."])))
            assert await dns.fetch(seam.apex.upper()) == state
            (only,) = _but_apex_ns(state)
            assert only.rrset == RRset(f"www.{seam.apex}", "CNAME", 300, ("other.example.net.",))

        seam.play(story)

    def test_name_servers_are_known(self, seam: Seam) -> None:
        async def story(dns: DnsProvider) -> None:
            names = (await dns.fetch(seam.apex)).nameservers
            assert names
            assert all(name.endswith(".") and name == name.lower() for name in names)
            addresses = await dns.addresses(seam.apex)
            assert {name for name, _, _ in addresses} <= set(names)
            for _, address, port in addresses:
                ipaddress.ip_address(address)
                assert 0 < port < 65536
            assert addresses
            assert await dns.ds(seam.apex) == ()  # it is not signed

        seam.play(story)

    # Rrsets

    def test_every_type_comes_back_as_it_was_made(self, seam: Seam) -> None:
        async def story(dns: DnsProvider) -> None:
            assert set(VALUES) == set(TYPES)
            wanted = [seam.served(f"t-{kind.lower()}", kind, values) for kind, values in VALUES.items()]
            # A DS stands beside the NS that it is for.
            wanted.append(seam.served("t-ds", "NS", ["ns1.example.net."]))
            assert _but_apex_ns(await _apply(dns, seam, seam.make(*wanted))) == set(wanted)

        seam.play(story)

    @pytest.mark.parametrize(
        ("owner", "kind", "values"),
        [
            ("@", "A", ["192.0.2.1", "192.0.2.2"]),
            ("@", "MX", ["0 ."]),
            ("@", "CAA", ['0 issue ";"']),
            ("*", "A", ["192.0.2.1"]),
            ("*.web1", "AAAA", ["2001:db8::1"]),
            ("_acme-challenge.web1", "CNAME", ["@"]),
            ("_443._tcp.www", "TLSA", ["3 1 1 " + "ab" * 32]),
            ("long", "TXT", ["k" * 600]),
            ("a.b.c.d", "TXT", ['""']),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_an_rrset_is_made_changed_and_removed(self, seam: Seam, owner: str, kind: str, values: list[str]) -> None:
        async def story(dns: DnsProvider) -> None:
            empty = await dns.fetch(seam.apex)
            made = seam.served(owner, kind, values)
            state = await _apply(dns, seam, seam.make(made))
            assert _but_apex_ns(state) == {made}
            longer = made._replace(rrset=made.rrset._replace(ttl=600))
            state = await _apply(dns, seam, [Change(made, longer)])
            assert _but_apex_ns(state) == {longer}
            state = await _apply(dns, seam, [Change(longer, None)])
            assert state.rrsets == empty.rrsets

        seam.play(story)

    def test_values_are_added_replaced_and_taken_away(self, seam: Seam) -> None:
        async def story(dns: DnsProvider) -> None:
            now: Served | None = None
            for values in (["192.0.2.1"], ["192.0.2.1", "192.0.2.2"], ["192.0.2.2", "192.0.2.3"], ["192.0.2.9"]):
                after = seam.served("www", "A", values)
                state = await _apply(dns, seam, [Change(now, after)])
                assert _but_apex_ns(state) == {after}
                now = after

        seam.play(story)

    def test_what_is_not_in_the_changes_stays(self, seam: Seam) -> None:
        async def story(dns: DnsProvider) -> None:
            kept = [seam.served("www", "A", ["192.0.2.1"]), seam.served("@", "TXT", ["by hand"], mark="")]
            goes = seam.served("www", "AAAA", ["2001:db8::1"])
            await _apply(dns, seam, seam.make(*kept, goes))
            assert _but_apex_ns(await _apply(dns, seam, [Change(goes, None)])) == set(kept)

        seam.play(story)

    def test_addresses_make_room_for_a_cname_in_one_step_and_back(self, seam: Seam) -> None:
        async def story(dns: DnsProvider) -> None:
            addresses = [seam.served("www", "A", ["192.0.2.1"]), seam.served("www", "AAAA", ["2001:db8::1"])]
            alias = seam.served("www", "CNAME", ["other.example.net."])
            await _apply(dns, seam, seam.make(*addresses))
            state = await _apply(dns, seam, [*(Change(one, None) for one in addresses), Change(None, alias)])
            assert _but_apex_ns(state) == {alias}
            state = await _apply(dns, seam, [Change(alias, None), *seam.make(*addresses)])
            assert _but_apex_ns(state) == set(addresses)

        seam.play(story)

    def test_a_hundred_at_once(self, seam: Seam) -> None:
        async def story(dns: DnsProvider) -> None:
            wanted = [seam.served(f"h{number}", "A", [f"192.0.2.{number}"]) for number in range(100)]
            assert _but_apex_ns(await _apply(dns, seam, seam.make(*wanted))) == set(wanted)

        seam.play(story)

    def test_the_ttl_may_be_the_providers_choice(self, seam: Seam) -> None:
        async def story(dns: DnsProvider) -> None:
            state = await _apply(dns, seam, seam.make(seam.served("www", "A", ["192.0.2.1"], ttl=0)))
            (only,) = _but_apex_ns(state)
            assert only.rrset.values == ("192.0.2.1",)
            assert only.rrset.ttl >= 0

        seam.play(story)

    # Marks

    def test_marks_stay_through_changes(self, seam: Seam) -> None:
        async def story(dns: DnsProvider) -> None:
            made = seam.served("www", "A", ["192.0.2.1"])
            more = seam.served("www", "A", ["192.0.2.1", "192.0.2.2"], ttl=900)
            await _apply(dns, seam, seam.make(made))
            (only,) = _but_apex_ns(await _apply(dns, seam, [Change(made, more)]))
            assert only.owner == MARK

        seam.play(story)

    def test_a_mark_is_set_and_taken_off_alone(self, seam: Seam) -> None:
        async def story(dns: DnsProvider) -> None:
            theirs = seam.served("www", "TXT", ["one", "two"], mark="")
            ours = theirs._replace(owner=MARK)
            assert _but_apex_ns(await _apply(dns, seam, seam.make(theirs))) == {theirs}
            assert _but_apex_ns(await _apply(dns, seam, [Change(theirs, ours)])) == {ours}
            assert _but_apex_ns(await _apply(dns, seam, [Change(ours, theirs)])) == {theirs}

        seam.play(story)

    # Safety

    def test_all_or_nothing(self, seam: Seam) -> None:
        async def story(dns: DnsProvider) -> None:
            there = [seam.served("www", "CNAME", ["other.example.net."]), seam.served("old", "A", ["192.0.2.1"])]
            before = await _apply(dns, seam, seam.make(*there))
            good = seam.make(seam.served("aaa", "A", ["192.0.2.2"]), seam.served("zzz", "A", ["192.0.2.2"]))
            bad = Change(None, seam.served("www", "A", ["192.0.2.3"]))  # beside a CNAME
            with pytest.raises(SfError) as error:
                await dns.apply(seam.apex, [Change(there[1], None), good[0], bad, good[1]], before.revision)
            assert isinstance(error.value, ProviderFailed)
            assert error.value.exit_code == 7
            assert await dns.fetch(seam.apex) == before

        seam.play(story)

    def test_a_name_outside_the_zone_is_refused(self, seam: Seam) -> None:
        async def story(dns: DnsProvider) -> None:
            before = await dns.fetch(seam.apex)
            outside = Served(RRset("www.elsewhere.example.", "A", 300, ("192.0.2.1",)), MARK)
            with pytest.raises(SfError):
                await dns.apply(seam.apex, seam.make(outside), before.revision)
            assert await dns.fetch(seam.apex) == before

        seam.play(story)

    def test_a_zone_that_somebody_changed_is_left_alone(self, seam: Seam) -> None:
        async def story(dns: DnsProvider) -> None:
            planned_on = (await dns.fetch(seam.apex)).revision
            async with seam.open() as somebody_else:
                theirs = seam.make(seam.served("theirs", "A", ["192.0.2.9"], mark=""))
                await somebody_else.apply(seam.apex, theirs, planned_on)
            now = await dns.fetch(seam.apex)
            with pytest.raises(ZoneChanged) as error:
                await dns.apply(seam.apex, seam.make(seam.served("ours", "A", ["192.0.2.1"])), planned_on)
            assert error.value.exit_code == 9
            assert await dns.fetch(seam.apex) == now

        seam.play(story)

    def test_the_revision_tells_each_change(self, seam: Seam) -> None:
        async def story(dns: DnsProvider) -> None:
            revisions = [(await dns.fetch(seam.apex)).revision]
            now: Served | None = None
            for after in (
                seam.served("www", "A", ["192.0.2.1"], mark=""),
                seam.served("www", "A", ["192.0.2.1"]),
                seam.served("www", "A", ["192.0.2.2"]),
                seam.served("www", "A", ["192.0.2.2"], ttl=600),
            ):
                revisions.append((await _apply(dns, seam, [Change(now, after)])).revision)
                now = after
            assert len(set(revisions)) == len(revisions)
            assert (await dns.fetch(seam.apex)).revision == revisions[-1]

        seam.play(story)

    def test_no_change_changes_nothing(self, seam: Seam) -> None:
        async def story(dns: DnsProvider) -> None:
            before = await _apply(dns, seam, seam.make(seam.served("www", "A", ["192.0.2.1"])))
            assert await _apply(dns, seam, []) == before
            same = seam.served("www", "A", ["192.0.2.1"])
            assert (await _apply(dns, seam, [Change(same, same)])).rrsets == before.rrsets

        seam.play(story)


async def _apply(dns: DnsProvider, seam: Seam, changes: list[Change]) -> ZoneState:
    """Applied to the zone as it is, and what it is after that."""
    await dns.apply(seam.apex, changes, (await dns.fetch(seam.apex)).revision)
    return await dns.fetch(seam.apex)


def _but_apex_ns(state: ZoneState) -> set[Served]:
    """Some providers show the apex' NS rrset, some do not. None shows the SOA."""
    assert "SOA" not in {one.rrset.type for one in state.rrsets}
    assert len({(one.rrset.name, one.rrset.type) for one in state.rrsets}) == len(state.rrsets)
    return {one for one in state.rrsets if (one.rrset.name, one.rrset.type) != (state.name, "NS")}
