"""What happens to name servers in time: others were there first; keys, addresses and roles change; names are odd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .areas import run
from .operator import eventually, new_operator
from .target import Fleet
from .test_area_dns import Servers, pair, rrset

_ACME = "zone=acme.test", "nameservers=ns2.acme.test", "transfer-key=xfer"
_CATALOG = "zone=catalog.invalid", "kind=consumer", "transfer-key=xfer"
#: As BIND has them.
_ZONE_FILE = '@ 60 IN SOA ns1 ana 1 60 60 60 60\n@ 60 IN NS ns1\n@ 60 IN TXT "theirs"\n'
_ZONE = 'zone "theirs.test" { type master; file "/etc/powerdns/theirs.zone"; };\n'


@pytest.fixture(scope="module")
def servers(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    found = pair(fleet, tmp_path_factory.mktemp("dns"), "debian13")
    yield found
    for target in (found.ns1, found.ns2):
        fleet.remove(target)


@pytest.mark.parametrize("release", ["debian12", "debian13"])
def test_what_others_serve_stays(fleet: Fleet, tmp_path: Path, release: str) -> None:
    """Their settings are read as PowerDNS itself reads them."""
    server = fleet.start_fresh(release)
    operator = new_operator(tmp_path)
    operator.add("ns1", server)
    server.run("apt-get", "-qy", "--no-install-recommends", "install", "pdns-backend-bind", "bind9-dnsutils")
    debians = server.run("cat", "/etc/powerdns/named.conf").stdout
    server.run("tee", "/etc/powerdns/theirs.zone", input=_ZONE_FILE)
    named, local, mine = "/etc/powerdns/named.conf", "/etc/powerdns/pdns.d/local.conf", "/etc/powerdns/mine.conf"
    setting = f"  launch = \\\n bind # mine\nbind-config =\t{mine}\n"
    for files, said in (({named: debians + _ZONE}, named), ({local: setting, mine: _ZONE, named: debians}, mine)):
        for path, text in files.items():
            server.run("tee", path, input=text)
        server.run("systemctl", "restart", "pdns")
        for action in ("--plan", "--yes"):
            refused = run(operator, "action", "run", "dns.server", "role=primary", action, on="ns1", exit=6)
            assert f"PowerDNS serves by bind here ({said})" in refused["error"]["message"]
        assert server.run("dig", "@127.0.0.1", "+short", "theirs.test", "TXT").stdout == '"theirs"\n'
    server.run("rm", local)
    taken = run(operator, "action", "run", "dns.server", "role=primary", "--yes", on="ns1")
    assert taken["outcome"] == "done"
    fleet.remove(server)


def test_a_key_that_was_replaced_while_the_secondary_was_down(servers: Servers) -> None:
    servers.both_serve("acme.test", "NS", "ns1.acme.test.", "ns2.acme.test.")
    servers.ns2.run("systemctl", "stop", "pdns")
    secret = str(servers.do("dns.key", "name=xfer", "new-password=true")["secrets"]["secret"])
    servers.change("acme.test", rrset("key.acme.test.", "A", "192.0.2.1"))
    servers.ns2.run("systemctl", "start", "pdns")
    assert servers.short(servers.ns2, "key.acme.test", "A") == []
    servers.do("dns.key", "name=xfer", on="ns2", secret=secret)
    servers.both_serve("key.acme.test", "A", "192.0.2.1")


def test_a_primary_whose_address_changed(servers: Servers) -> None:
    """What the catalog brought follows it."""
    network, _, _ = servers.ns1.ip.rpartition(".")
    device = servers.ns1.run("sh", "-c", "ip -o -4 route show default | cut -d ' ' -f 5").stdout.strip()
    servers.ns1.run("ip", "address", "add", f"{network}.254/24", "dev", device)
    servers.do("dns.server", "role=primary", f"listen={network}.254")
    servers.change("acme.test", rrset("moved.acme.test.", "A", "192.0.2.2"))
    servers.do("dns.zone", *_CATALOG, f"primaries={network}.254", on="ns2")
    eventually(lambda: servers.short(servers.ns2, "moved.acme.test", "A") == ["192.0.2.2"], "it is fetched")
    listed = servers.do("dns.zones", on="ns2")["data"]["zones"]
    assert {each["zone"]: each["primaries"] for each in listed} == {
        "acme.test.": [f"{network}.254"],
        "catalog.invalid.": [f"{network}.254"],
    }
    servers.ns1.run("ip", "address", "del", f"{network}.254/24", "dev", device)
    assert servers.do("dns.server", "role=primary")["data"]["listen"] == [servers.ns1.ip]
    servers.do("dns.zone", *_CATALOG, f"primaries={servers.ns1.ip}", on="ns2")


@pytest.mark.parametrize("zone", ["_odd.test", "xn--bcher-kva.test", "1.0.0.127.in-addr.arpa", "a--b.test"])
def test_odd_names_of_zones(servers: Servers, zone: str) -> None:
    assert servers.did("dns.zone", f"zone={zone}", "nameservers=ns1.acme.test") == [f"create zone {zone}."]
    assert servers.short(servers.ns1, zone, "NS") == ["ns1.acme.test."]
    servers.change(zone, rrset(f"a.{zone}.", "TXT", '"x"'))
    assert servers.did("dns.zone-remove", f"zone={zone}") == [f"delete zone {zone}."]


def test_a_zone_is_lost_to_no_other_kind(servers: Servers) -> None:
    servers.do("dns.server", "role=both", on="ns2")
    assert servers.did("dns.zone", "zone=own.test", "nameservers=ns2.acme.test", on="ns2") == ["create zone own.test."]
    copy = "zone=own.test", "kind=secondary", "transfer-key=xfer", f"primaries={servers.ns1.ip}"
    assert "what it holds would be lost" in servers.why("dns.zone", *copy, on="ns2")
    assert servers.short(servers.ns2, "own.test", "NS") == ["ns2.acme.test."]


def test_a_secondary_takes_over(servers: Servers) -> None:
    """A zone that is not signed. For others it would be wrong signatures from the first change on."""
    plain = "zone=plain.test", "nameservers=ns1.acme.test", "transfer-key=xfer", "catalog=catalog.invalid"
    servers.do("dns.zone", *plain, f"also-notify={servers.ns2.ip}")
    servers.both_serve("plain.test", "NS", "ns1.acme.test.")
    servers.both_serve("moved.acme.test", "A", "192.0.2.2")
    servers.ns1.run("systemctl", "stop", "pdns")
    assert "acme.test. is a signed copy here" in servers.why("dns.zone", *_ACME, on="ns2")
    assert servers.did("dns.zone", "zone=plain.test", "nameservers=ns2.acme.test", on="ns2") == [
        "update zone plain.test."
    ]
    assert servers.short(servers.ns2, "plain.test", "NS") == ["ns2.acme.test."]
    servers.ns1.run("systemctl", "start", "pdns")
    servers.change("acme.test", rrset("again.acme.test.", "A", "192.0.2.3"))
    servers.both_serve("again.acme.test", "A", "192.0.2.3")
    assert servers.short(servers.ns2, "plain.test", "NS") == ["ns2.acme.test."]
