"""Chains of trust that hold, that were never begun, and that are broken, at name servers of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import dns.dnssec
import dns.rdata
import pytest

from serverflow_cli.transport.dnssec import Trust, judge, to_hand_in, trust
from serverflow_cli.transport.nameservers import Server

from ..contract.cloudflare_zone import FakeZone
from ..contract.name_server import NameServer

ZONE = "acme.test."
KEY, OLD = (
    f"257 3 13 {start}sswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ=="
    for start in ("md", "ab")
)
NS1, NS2, UP1, UP2 = (
    (name, "192.0.2.1", 53) for name in ("ns1.acme.test.", "ns2.acme.test.", "a.nic.test.", "b.nic.test.")
)


def ds(key: str, digest: str = "SHA256") -> str:
    rdata = dns.rdata.from_text("IN", "DNSKEY", key)
    return dns.dnssec.make_ds(ZONE, rdata, digest, policy=dns.dnssec.allow_all_policy).to_text()


RIGHT, STALE = ds(KEY), ds(OLD)


class World:
    """The zone's server and its parent's, each with records that a test puts there."""

    def __init__(self) -> None:
        account = {"id": "1", "name": "Acme"}
        self.zone, self.parent = FakeZone("acme.test", account), FakeZone("test", account)
        self.own, self.above = NameServer(lambda: self.zone), NameServer(lambda: self.parent)

    def signed(self, *keys: str) -> None:
        for key in keys:
            self.zone.post({"name": "acme.test", "type": "DNSKEY", "content": key, "ttl": 300})

    def publishes(self, *records: str) -> None:
        for record in records:
            data = dict(zip(("key_tag", "algorithm", "digest_type", "digest"), record.split(), strict=True))
            self.parent.post({"name": "acme.test", "type": "DS", "data": data, "ttl": 300})

    def look(self, *ours: str) -> Trust:
        own, above = (("ns.", "127.0.0.1", each.port) for each in (self.own, self.above))
        return asyncio.run(trust(ZONE, ours, [own], [above]))


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with world.own, world.above:
        yield world


def test_a_zone_that_is_not_signed_and_whose_parent_says_so(world: World) -> None:
    assert world.look() == Trust("unsigned")


def test_a_parent_without_the_ds_is_told_what_to_hand_in(world: World) -> None:
    world.signed(KEY)
    state, findings = world.look(RIGHT)
    assert state == "missing"
    assert findings == (("warning", f"the parent has no DS, so that nobody validates; to hand in: {RIGHT}"),)


@pytest.mark.parametrize("digest", ["SHA1", "SHA256", "SHA384"])
def test_a_ds_that_fits_by_whichever_digest(world: World, digest: str) -> None:
    world.signed(KEY)
    world.publishes(ds(KEY, digest))
    assert world.look(RIGHT) == Trust("matches")


@pytest.mark.parametrize("broken", [STALE, RIGHT[:-1] + ("0" if RIGHT[-1] != "0" else "1")])
def test_a_ds_that_fits_no_key_is_bogus(world: World, broken: str) -> None:
    world.signed(KEY)
    world.publishes(broken)
    state, ((severity, text),) = world.look(RIGHT)
    assert (state, severity) == ("stale", "error")
    assert "SERVFAIL" in text and broken in text and f"it has to be {RIGHT}" in text


def test_a_ds_of_a_zone_that_is_not_signed_any_more_is_bogus(world: World) -> None:
    world.publishes(STALE)
    state, ((severity, text),) = world.look()
    assert (state, severity) == ("stale", "error") and "it has to go" in text


def test_one_that_fits_beside_an_old_one_is_a_rollover(world: World) -> None:
    world.signed(KEY)
    world.publishes(RIGHT, STALE)
    state, ((severity, text),) = world.look(RIGHT)
    assert (state, severity) == ("matches", "warning") and text.endswith(f"fits no key: {STALE}")


def test_a_server_that_has_other_keys_than_the_provider(world: World) -> None:
    world.signed(OLD)
    world.publishes(RIGHT)
    state, findings = world.look(RIGHT)
    assert state == "stale" and [severity for severity, _ in findings] == ["error", "error"]
    assert "does not serve the key" in findings[0][1]


def test_a_parent_that_does_not_answer_is_not_one_without_a_ds(world: World) -> None:
    world.signed(KEY)
    world.parent = None  # type: ignore[assignment]  # its server refuses
    state, ((severity, text),) = world.look(RIGHT)
    assert (state, severity) == ("unknown", "warning") and text.startswith("no name server of the parent")
    assert world.look() == Trust("unsigned")
    assert asyncio.run(trust(ZONE, [RIGHT], [], [])).state == "unknown"


def test_without_an_answer_of_the_zone_the_provider_counts(world: World) -> None:
    world.zone = None  # type: ignore[assignment]
    world.publishes(RIGHT)
    assert world.look(RIGHT) == Trust("matches")
    assert world.look(STALE).state == "stale"


def found(keys: dict[Server, tuple[str, ...] | None], *above: tuple[str, ...]) -> Trust:
    return judge(ZONE, [RIGHT], keys, dict(zip((UP1, UP2), above, strict=False)))


def test_one_of_several_servers() -> None:
    state, findings = found({NS1: (KEY,), NS2: ()}, (RIGHT,))
    assert state == "matches"
    assert {severity for severity, _ in findings} == {"error"} and all(NS2[0] in text for _, text in findings)
    assert found({NS1: (KEY,), NS2: None}, (RIGHT,)) == Trust("matches")


def test_parents_that_do_not_agree_yet() -> None:
    assert "do not agree" in found({NS1: (KEY,)}, (RIGHT,), ()).findings[0][1]


def test_what_to_hand_in_is_of_the_keys_that_a_ds_may_lead_to() -> None:
    """RFC 4034, section 2.1.1."""
    signing = KEY.replace("257", "256", 1)
    assert to_hand_in(ZONE, {NS1: None, NS2: (signing, KEY)}) == [RIGHT]
    assert to_hand_in(ZONE, {NS1: (), NS2: None}) == []
