"""What `sf dns zone list · show · check` tell of zones: whose records are, and whether the parent knows the keys."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from serverflow_actions.kit.rrset import RRset, fqdn
from serverflow_cli.config.load import parse
from serverflow_cli.errors import TrustError, Unreachable
from serverflow_cli.flows import zone_view
from serverflow_cli.flows.workspace import Workspace
from serverflow_cli.model.result import CommandResult
from serverflow_cli.model.zone import Served, ZoneState
from serverflow_cli.providers.errors import ProviderFailed, no_zone
from serverflow_cli.transport import delegation, dnssec, nameservers
from serverflow_cli.transport.nameservers import Serial, Server

FLEET = """
schema = 1
base_domain = "acme.app"
[servers.db1]
host = "198.51.100.4"
[dns.providers.own]
provider = "powerdns"
on = "db1"
nameservers = { "ns1.acme.app" = "db1" }
[dns.zones."acme.app"]
provider = "own"
records = [{ name = "www", type = "A", values = ["192.0.2.1"] }]
[dns.zones."sub.acme.app"]
provider = "own"
dnssec = true
"""
MARK = "serverflow 01234567"
DS = f"2371 13 2 {'ab' * 32}"
ODD = RRset("0/25.acme.app.", "NS", 300, ("ns.acme.org.",))


def served(name: str, kind: str, value: str, owner: str = "") -> Served:
    return Served(RRset(name, kind, 300, (value,)), owner)


class Provider:
    """Zones in memory. `keys` are those that it would hand in."""

    def __init__(self) -> None:
        self.keys: dict[str, tuple[str, ...]] = {}
        self.rrsets = [
            served("www.acme.app.", "A", "192.0.2.1", MARK),
            served("*.db1.acme.app.", "A", "198.51.100.4", MARK),
            served("old.acme.app.", "A", "192.0.2.3", "serverflow ffffffff"),
            Served(ODD),
            served("x.acme.app.", "ALIAS", "www.acme.app"),
        ]

    async def zones(self) -> list[str]:
        return ["acme.app.", "0/25.2.0.192.in-addr.arpa."]

    async def fetch(self, zone: str) -> ZoneState:
        return ZoneState(fqdn(zone), tuple(self.rrsets) if zone == "acme.app." else (), "1", ("ns1.acme.app.",))

    async def addresses(self, zone: str) -> list[Server]:
        return [(f"ns1.{zone}", "198.51.100.4", 53)]

    async def ds(self, zone: str) -> tuple[str, ...]:
        return self.keys.get(zone, ())


class World:
    """What name servers say: by name, the values of DNSKEY and DS."""

    def __init__(self) -> None:
        self.says: dict[tuple[str, str], tuple[str, ...]] = {}
        self.asked: list[tuple[str, str]] = []
        self.is_down, self.servers = False, object()

    async def ask(self, address: str, port: int, name: str, type: str, **_: Any) -> tuple[nameservers.Answer, ...]:
        self.asked.append((name, type))
        values = self.says.get((name, type), ())
        return (nameservers.Answer("udp", rcode="NOERROR", authoritative=True, values=values),)


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, provider: Provider) -> Iterator[World]:
    world = World()

    class Opened:
        def __init__(self, *_: object) -> None: ...
        async def __aenter__(self) -> Opened:
            return self

        async def __aexit__(self, *_: object) -> None: ...
        async def of(self, _: str) -> Provider:
            return provider

        named = of

    async def serials(servers: list[Server], _: str) -> list[Serial]:
        return [Serial(server, None if world.is_down else 1, "no answer") for server in servers]

    async def all_agree(servers: object, wanted: list[RRset], __: float) -> list[list[object]]:
        world.servers = servers
        world.asked += [(rrset.name, rrset.type) for rrset in wanted]
        return [[] for _ in wanted]

    async def parents(zone: str) -> list[Server]:
        return [("a.nic.app.", "192.0.2.53", 53)]

    monkeypatch.setattr(zone_view, "Providers", Opened)
    monkeypatch.setattr(nameservers, "serials", serials)
    monkeypatch.setattr(nameservers, "all_disagreeing", all_agree)
    monkeypatch.setattr(delegation, "parents", parents)
    monkeypatch.setattr(dnssec, "ask", world.ask)
    yield world


def workspace(text: str = FLEET) -> Workspace:
    return cast("Workspace", SimpleNamespace(fleet=parse(text), fleet_id="01234567" * 8, label="acme"))


def silent(_: object) -> None:
    """No progress is told."""


def show(zone: str, text: str = FLEET) -> CommandResult:
    return asyncio.run(zone_view.show_zone(workspace(text), zone, silent))


def check(zone: str) -> tuple[CommandResult, list[str]]:
    found = asyncio.run(zone_view.check_zones(workspace(), [zone], None, silent))
    return found, [f"{each['severity']} {each['name']} {each['type']}" for each in found.data.get("findings", [])]


def test_records_have_their_maker_and_their_place_in_the_file(world: World) -> None:
    data = show("acme.app").data
    assert {(each["name"], each["by"], each["from"]) for each in data["records"]} == {
        ("www.acme.app.", "fleet", 'dns.zones."acme.app".records[0]'),
        ("*.db1.acme.app.", "fleet", "servers.db1"),
        ("old.acme.app.", "serverflow ffffffff", ""),
        (ODD.name, "", ""),
        ("x.acme.app.", "", ""),
    }
    assert "ds" not in data and not world.asked  # it is not signed


def test_a_record_that_cannot_be_hides_no_other(world: World) -> None:
    broken = FLEET.replace('"192.0.2.1"', '"192.0.2.256"')
    assert len(show("acme.app", broken).data["records"]) == 5


def test_a_signed_zone_is_shown_with_its_ds(world: World, provider: Provider) -> None:
    provider.keys["sub.acme.app."] = (DS,)
    world.says["sub.acme.app.", "DNSKEY"] = ()
    found = show("sub.acme.app")
    assert (found.data["ds"], found.data["ds_at_parent"]) == ([DS], "missing")
    assert any(f"to hand in: {DS}" in note for note in found.notes)


def test_records_are_shown_where_the_ds_cannot_be_had(
    world: World, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: str) -> tuple[str, ...]:
        raise ProviderFailed("pdnsutil gives no DS record")

    monkeypatch.setattr(provider, "ds", broken)
    found = show("acme.app")
    assert len(found.data["records"]) == 5 and "pdnsutil gives no DS record" in found.notes[0]


def test_what_cannot_be_asked_for_is_told_and_all_else_is(world: World) -> None:
    found, lines = check("acme.app")
    assert lines == ["warning x.acme.app. ALIAS"] and found.error is None
    assert (ODD.name, "NS") in world.asked and ("x.acme.app.", "ALIAS") not in world.asked


def test_other_name_servers_are_asked_where_the_primary_does_not_answer(
    world: World, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: str) -> ZoneState:
        raise Unreachable("db1 does not answer")

    monkeypatch.setattr(provider, "fetch", away)
    found, lines = check("acme.app")
    assert (lines, found.exit_code) == ([], 5)
    assert found.notes == ("ns1.acme.app. (198.51.100.4) serves acme.app, serial 1",)
    world.is_down = True
    found, lines = check("acme.app")
    assert lines == ["error acme.app. SOA"] and not found.notes and found.exit_code == 5


def test_what_is_wrong_on_our_side_is_no_reason_to_ask_name_servers(
    world: World, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def closed(_: str) -> ZoneState:
        raise TrustError("own_token is not sealed to this key", code="not-ours")

    monkeypatch.setattr(provider, "fetch", closed)
    world.is_down = True
    found, lines = check("acme.app")
    assert not lines and not found.notes
    (row,) = found.failures
    assert row.error and row.error.code == "not-ours"


def test_who_waits_is_told_for_what(world: World) -> None:
    heard: list[Mapping[str, Any]] = []
    asyncio.run(zone_view.list_zones(workspace(), heard.append))
    asyncio.run(zone_view.check_zones(workspace(), ["acme.app"], None, heard.append))
    asyncio.run(zone_view.show_zone(workspace(), "acme.app", heard.append))
    assert [(each["server"], each["doing"]) for each in heard if each["t"] == "step"] == [
        ("own", "asking for its zones"),
        ("acme.app", "asking its provider"),
        ("acme.app", "asking all name servers"),
        ("acme.app", "asking its provider"),
    ]
    assert [each["t"] for each in heard] == ["step", "done"] * 4


def test_a_server_that_is_down_is_told_of_once_and_not_waited_for(world: World) -> None:
    world.is_down = True
    found, lines = check("acme.app")
    assert "error acme.app. SOA" in lines and found.error is not None
    assert world.servers == []


def test_nobody_is_asked_for_an_alias_at_the_apex(world: World, provider: Provider) -> None:
    """Who takes one answers with addresses in its place."""
    provider.rrsets = [served("acme.app.", "CNAME", "site.example.net."), served("a.acme.app.", "CNAME", "b.acme.app.")]
    check("acme.app")
    assert ("a.acme.app.", "CNAME") in world.asked and ("acme.app.", "CNAME") not in world.asked


def test_a_ds_without_keys_is_an_error(world: World) -> None:
    world.says["acme.app.", "DS"] = (DS,)
    found, lines = check("acme.app")
    assert "error acme.app. DS" in lines and found.error is not None and found.error.exit_code == 11


def test_what_is_to_be_signed_and_is_not(world: World) -> None:
    _, lines = check("sub.acme.app")
    assert lines == ["warning sub.acme.app. DNSKEY"]


def test_a_zone_whose_name_is_beyond_us_is_listed(world: World) -> None:
    rows = asyncio.run(zone_view.list_zones(workspace(), silent)).data["zones"]
    assert {row["zone"]: row["state"] for row in rows} == {
        "acme.app": "drift",
        "sub.acme.app": "missing",
        "0/25.2.0.192.in-addr.arpa": "unmanaged",
    }


def test_a_name_server_at_another_address_is_an_error(world: World, provider: Provider) -> None:
    provider.rrsets = [served("ns1.acme.app.", "A", "192.0.2.77")]
    found, lines = check("acme.app")
    assert "error ns1.acme.app. A" in lines and found.exit_code == 11


def test_what_is_not_as_the_file_says_is_told(world: World, provider: Provider) -> None:
    provider.rrsets = [Served(RRset("www.acme.app.", "A", 3600, ("192.0.2.1",)), MARK)]
    found, lines = check("acme.app")
    assert lines == [] and found.error is None
    assert found.notes == ("3 records are not as fleet.toml says: sf dns plan acme.app",)
    at_home = [served(name, "A", "198.51.100.4", MARK) for name in ("db1.acme.app.", "*.db1.acme.app.")]
    provider.rrsets += [*at_home, served("ns1.acme.app.", "A", "198.51.100.4", MARK)]
    assert check("acme.app")[0].notes == ("nothing to complain about",)


def test_a_file_that_cannot_be_is_told_and_the_zone_looked_at(world: World) -> None:
    broken = FLEET.replace('"192.0.2.1"', '"192.0.2.256"')
    found = asyncio.run(zone_view.check_zones(workspace(broken), ["acme.app"], None, silent))
    assert found.data["findings"] and "whether acme.app is as fleet.toml says is not known" in found.notes[0]


def test_a_zone_that_was_not_made_comes_with_apply(
    world: World, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(zone: str) -> ZoneState:
        raise no_zone("PowerDNS", zone)

    monkeypatch.setattr(provider, "fetch", gone)
    found, _ = check("acme.app")
    assert found.error and found.error.hint == "sf apply makes it"


def test_zones_of_proofs_are_not_listed(world: World, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's that is only called so is."""
    ours = ["db1.acme-challenge.acme.app.", "shop.acme-shared.acme.app.", "gone.acme-challenge.sub.acme.app."]
    others = ["db1.acme-challenge.acme.org.", "acme-challenge.acme.app.", "x.acme-other.acme.app."]

    async def there() -> list[str]:
        return ["acme.app.", *ours, *others]

    monkeypatch.setattr(provider, "zones", there)
    rows = asyncio.run(zone_view.list_zones(workspace(), silent)).data["zones"]
    assert [row["zone"] for row in rows] == ["acme.app", "sub.acme.app", *(zone.rstrip(".") for zone in others)]
