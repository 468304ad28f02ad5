"""What fleet.toml wants in its zones."""

from __future__ import annotations

import pytest

from serverflow_cli.config.load import parse
from serverflow_cli.errors import ConfigError
from serverflow_cli.plan.zones import addresses, homeless, subdomain, wanted, zone_of

FLEET = """schema = 1
base_domain = "acme.app"
[servers.web1]
host = "203.0.113.7"
[servers.db1]
host = "db1.internal"
addresses = ["198.51.100.4", "2001:db8::4"]
[servers.ns2]
host = "ns2.internal"
[dns.providers.own]
provider = "powerdns"
on = "db1"
nameservers = { "ns1.acme.app" = "db1", "ns2.other.org" = "ns2" }
[dns.providers.cf]
provider = "cloudflare"
token = { secret = "cf_token" }
[dns.zones."acme.app"]
provider = "own"
records = [%s]
[dns.zones."eu.acme.app"]
provider = "cf"
"""


def rows(records: str = "", zone: str = "acme.app") -> dict[tuple[str, str], tuple[int, tuple[str, ...], str]]:
    return {
        (each.served.rrset.name, each.served.rrset.type): (each.served.rrset.ttl, each.served.rrset.values, each.origin)
        for each in wanted(parse(FLEET % records), zone)
    }


def test_servers_and_name_servers_have_their_records() -> None:
    ours = (300, ("203.0.113.7",), "servers.web1")
    assert rows() == {
        ("web1.acme.app.", "A"): ours,
        ("*.web1.acme.app.", "A"): ours,
        ("db1.acme.app.", "A"): (300, ("198.51.100.4",), "servers.db1"),
        ("*.db1.acme.app.", "A"): (300, ("198.51.100.4",), "servers.db1"),
        ("db1.acme.app.", "AAAA"): (300, ("2001:db8::4",), "servers.db1"),
        ("*.db1.acme.app.", "AAAA"): (300, ("2001:db8::4",), "servers.db1"),
        ("ns1.acme.app.", "A"): (300, ("198.51.100.4",), "dns.providers.own"),
        ("ns1.acme.app.", "AAAA"): (300, ("2001:db8::4",), "dns.providers.own"),
    }
    assert rows(zone="eu.acme.app") == {}


def test_what_is_written_goes_before_what_follows() -> None:
    found = rows(
        '{ name = "web1", type = "A", values = ["192.0.2.1"] }, { name = "*.web1", type = "CNAME", values = ["@"] }'
    )
    assert found["web1.acme.app.", "A"] == (3600, ("192.0.2.1",), 'dns.zones."acme.app".records[0]')
    assert ("*.web1.acme.app.", "A") not in found


ROUTE = """
[routes.shop]
on = "%s"
host = "shop.acme.app"
to = { port = 3000 }
"""


@pytest.mark.parametrize(
    "record",
    [
        '{ name = "shop", type = "A", values = ["192.0.2.1"] }',
        '{ name = "shop", type = "AAAA", values = ["2001:db8::9"] }',
        '{ name = "shop", type = "CNAME", values = ["cdn.example.net."] }',
    ],
)
def test_where_the_file_has_an_address_the_origin_is_not_published(record: str) -> None:
    """As of a content delivery network, behind which a server is not to be found."""
    fleet = parse(FLEET % record + ROUTE % "db1")
    assert {each.origin for each in wanted(fleet, "acme.app") if each.served.rrset.name == "shop.acme.app."} == {
        'dns.zones."acme.app".records[0]'
    }
    assert homeless(fleet, "acme.app") == []


def test_other_types_do_not_keep_a_name_from_its_addresses() -> None:
    fleet = parse(FLEET % '{ name = "shop", type = "TXT", values = ["hello"] }' + ROUTE % "db1")
    kinds = {each.served.rrset.type for each in wanted(fleet, "acme.app") if each.served.rrset.name == "shop.acme.app."}
    assert kinds == {"A", "AAAA", "TXT"}


def test_a_route_to_a_server_that_nobody_finds_is_told() -> None:
    fleet = parse(FLEET % "" + ROUTE % "db1,ns2")
    assert homeless(fleet, "acme.app") == [
        "shop.acme.app does not lead to ns2: its host is no address, and servers.ns2.addresses has none"
    ]
    assert homeless(fleet, "eu.acme.app") == []


def test_proxied_and_auto_leave_the_ttl_to_the_provider() -> None:
    found = rows('{ name = "a", type = "A", values = ["192.0.2.1"], ttl = "auto" }')
    assert found["a.acme.app.", "A"][0] == 0


def test_every_record_that_cannot_be_is_told() -> None:
    bad = (
        '{ name = "www.acme.app", type = "A", values = ["192.0.2.1"] }, '
        '{ name = "x", type = "CNAME", values = ["y.example"] }'
    )
    with pytest.raises(ConfigError) as caught:
        rows(bad)
    first, second = caught.value.message.splitlines()
    assert first.startswith('dns.zones."acme.app".records[0]: ') and second.startswith(
        'dns.zones."acme.app".records[1]: '
    )


def test_one_rrset_stands_there_once() -> None:
    with pytest.raises(ConfigError, match=r"records\[1\]: www A is there already"):
        rows(
            '{ name = "www", type = "A", values = ["192.0.2.1"] }, { name = "www", type = "A", values = ["192.0.2.2"] }'
        )


def test_where_a_name_is() -> None:
    fleet = parse(FLEET % "")
    assert [zone_of(fleet, name) for name in ("a.eu.acme.app.", "eu.acme.app", "xeu.acme.app", "app")] == [
        "eu.acme.app", "eu.acme.app", "acme.app", "",
    ]  # fmt: skip
    assert subdomain(fleet, "web1") == "web1.acme.app."
    assert addresses(fleet, "ns2") == ()


def test_nobody_but_cloudflare_proxies() -> None:
    with pytest.raises(ConfigError, match=r"records\[0\]: `proxied` is Cloudflare's, and own is not"):
        rows('{ name = "www", type = "A", values = ["192.0.2.1"], proxied = true }')
