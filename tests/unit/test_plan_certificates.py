"""Certificates and routes of the fleet file: for what names, proved how, in which order."""

from __future__ import annotations

from typing import Any

import pytest

from serverflow_cli.config.load import parse
from serverflow_cli.errors import ConfigError
from serverflow_cli.model import selector
from serverflow_cli.model.fleet import Fleet
from serverflow_cli.plan.desired import resources
from serverflow_cli.plan.proofs import aliases, challenges, power
from serverflow_cli.plan.wishes import certificate_of, crowded, wishes
from serverflow_cli.plan.zones import wanted

BASE = """schema = 1
base_domain = "acme.app"
[servers.web1]
host = "203.0.113.7"
[servers.db1]
host = "198.51.100.4"
"""
OWN = """[dns.providers.own]
provider = "powerdns"
on = "db1"
nameservers = { "ns1.acme.app" = "db1" }
[dns.zones."acme.app"]
provider = "own"
"""
CLOUDFLARE = """[dns.providers.cf]
provider = "cloudflare"
token = { secret = "cf_token" }
[dns.zones."acme.app"]
provider = "cf"
"""
ACME = '[acme]\non = "web1"\n'
SHOP = '[routes.shop]\non = "web1"\nhost = "%s"\nto = { port = 3000 }\n'


def sent(text: str, action: str) -> list[dict[str, Any]]:
    return [dict(each.params) for each in resources(parse(text)) if each.action == action]


def records(text: str, kind: str) -> dict[str, tuple[str, ...]]:
    return {
        each.served.rrset.name: each.served.rrset.values
        for each in wanted(parse(text), "acme.app")
        if each.served.rrset.type == kind
    }


def test_a_server_proves_its_own_names_in_a_zone_that_it_alone_may_change() -> None:
    text = BASE + OWN + ACME
    assert sent(text, "cert.set") == [
        {
            "name": "server",
            "names": ["web1.acme.app", "*.web1.acme.app"],
            "directory": "https://acme-v02.api.letsencrypt.org/directory",
            "reload": ["nginx.service"],
            "method": "tsig",
            "zone": "web1.acme-challenge.acme.app",
            "server": ["198.51.100.4"],
            "key": "web1.acme-challenge.acme.app",
        }
    ]
    keys = [each for each in resources(parse(text)) if each.action == "dns.update-key"]
    assert [(each.server, each.params["zone"], each.secrets) for each in keys] == [
        ("db1", "web1.acme-challenge.acme.app.", {"secret": "proof_server_web1"})
    ]
    assert records(text, "CNAME") == {"_acme-challenge.web1.acme.app.": ("web1.acme-challenge.acme.app.",)}
    assert records(text, "NS")["web1.acme-challenge.acme.app."] == ("ns1.acme.app.",)
    assert "for web1.acme-challenge.acme.app. alone" in power(parse(text), "web1")


def test_what_needs_what_comes_after_it() -> None:
    order = [each.action for each in resources(parse(BASE + OWN + ACME + SHOP % "shop.acme.app"))]
    wanted_order = ["dns.server", "dns.zone", "dns.zone", "dns.update-key", "cert.set", "cert.set", "route.set"]
    assert order == wanted_order


@pytest.mark.parametrize(
    ("host", "certificate"),
    [
        ("shop.web1.acme.app", "server"),
        ("web1.acme.app", "server"),
        ("shop.acme.app", "shop"),
        ("a.b.web1.acme.app", "shop"),
    ],
)
def test_the_certificate_that_covers_a_route(host: str, certificate: str) -> None:
    fleet = parse(BASE + OWN + ACME + SHOP % host)
    assert certificate_of(fleet, "web1", "shop") == certificate
    assert {wish.name for wish in wishes(fleet)} == {"server", certificate}


@pytest.mark.parametrize("host", ["shop.acme.app", "shop.web1.acme.app"])
def test_a_route_brings_its_record(host: str) -> None:
    assert records(BASE + OWN + SHOP % host, "A")[f"{host}."] == ("203.0.113.7",)


def test_a_name_keeps_its_address_when_its_proof_hides_the_wildcard() -> None:
    """RFC 4592, section 2.2.2: a name that has something below it is there, and no wildcard answers for it."""
    text = BASE + OWN + ACME + '[certificates.more]\non = "web1"\nnames = ["x.web1.acme.app", "acme.app"]\n'
    assert records(text, "A")["x.web1.acme.app."] == ("203.0.113.7",)
    assert "acme.app." not in records(text, "A")


def test_without_acme_a_route_is_http_only() -> None:
    assert sent(BASE + OWN + SHOP % "shop.acme.app", "route.set") == [
        {"name": "shop", "host": ["shop.acme.app"], "to": "3000"}
    ]


def test_at_cloudflare_there_is_a_token_and_the_plan_says_what_it_can_do() -> None:
    text = BASE + CLOUDFLARE + ACME + 'token = { secret = "acme_token" }\n'
    (cert,) = (each for each in resources(parse(text)) if each.action == "cert.set")
    assert (cert.params["method"], cert.params["zone"], cert.secrets) == (
        "cloudflare", "acme.app", {"secret": "acme_token"},
    )  # fmt: skip
    assert records(text, "CNAME") == {}
    assert "every record of acme.app" in power(parse(text), "web1")
    with pytest.raises(ConfigError, match=r"acme\.token is missing"):
        resources(parse(BASE + CLOUDFLARE + ACME))


SHARED = BASE + OWN + "[acme]\n" + '[routes.shop]\non = "web1,db1"\nhost = "shop.acme.app"\nto = { port = 3000 }\n'


def test_servers_that_share_a_name_share_a_zone_of_proofs() -> None:
    """An alias leads to one place only. Their own names stay in zones that each of them alone may change."""
    fleet = parse(SHARED)
    assert {(key, each.zone, each.secret, each.servers) for key, each in challenges(fleet).items()} == {
        (("web1", "server"), "web1.acme-challenge.acme.app.", "proof_server_web1", ("web1",)),
        (("db1", "server"), "db1.acme-challenge.acme.app.", "proof_server_db1", ("db1",)),
        (("web1", "shop"), "shop.acme-shared.acme.app.", "proof_shared_shop_c4144f87", ("web1", "db1")),
        (("db1", "shop"), "shop.acme-shared.acme.app.", "proof_shared_shop_c4144f87", ("web1", "db1")),
    }
    assert records(SHARED, "CNAME")["_acme-challenge.shop.acme.app."] == ("shop.acme-shared.acme.app.",)
    assert records(SHARED, "NS")["shop.acme-shared.acme.app."] == ("ns1.acme.app.",)
    keys = [each for each in resources(fleet) if each.action == "dns.update-key"]
    assert {each.params["zone"]: dict(each.secrets) for each in keys} == {
        "web1.acme-challenge.acme.app.": {"secret": "proof_server_web1"},
        "db1.acme-challenge.acme.app.": {"secret": "proof_server_db1"},
        "shop.acme-shared.acme.app.": {"secret": "proof_shared_shop_c4144f87"},
    }
    shops = [each for each in resources(fleet) if each.key == "cert.shop"]
    assert [(each.server, each.params["key"], each.secrets) for each in shops] == [
        (server, "shop.acme-shared.acme.app", {"secret": "proof_shared_shop_c4144f87"}) for server in ("web1", "db1")
    ]


@pytest.mark.parametrize("name", ["token", "eab", "server-token", "shared-shop"])
def test_no_key_of_a_server_is_called_as_another_secret(name: str) -> None:
    """Nor as that of a certificate of the same name, which servers share."""
    text = SHARED.replace("web1", name) + f'[certificates.{name}]\non = "{name},db1"\nnames = ["x.acme.app"]\n'
    secrets = {each.zone: each.secret for each in challenges(parse(text)).values()}
    assert len({*secrets.values(), "acme_token", "acme_eab"}) == len(secrets) + 2 == 6


def many(servers: int, stanzas: str, acme: str = "") -> Fleet:
    found = "".join(f'[servers.w{n}]\nhost = "203.0.113.{n}"\n' for n in range(10, 10 + servers))
    return parse(BASE + OWN + found + f'[acme]\non = "web1"\n{acme}' + stanzas)


def test_more_servers_than_get_the_same_certificate_in_a_week() -> None:
    shop = SHOP.replace('"web1"', '"w*"') % "shop.acme.app"
    same = '[certificates.a]\non = "w1*"\nnames = ["a.acme.app", "b.acme.app"]\n'
    other = '[certificates.c]\non = "web1"\nnames = ["b.acme.app", "a.acme.app"]\n'
    assert crowded(many(4, shop)) == []
    (note,) = crowded(many(5, shop))
    assert note.startswith("6 certificates are wanted for shop.acme.app")
    assert crowded(many(5, same)) == []
    (note,) = crowded(many(5, same + other))
    assert note.startswith("6 certificates are wanted for a.acme.app, b.acme.app")
    assert len(crowded(many(6, shop + same))) == 2
    for other in "letsencrypt-staging", "https://ca.acme.app/directory":
        assert crowded(many(6, shop, f'directory = "{other}"\n')) == []
    assert len(crowded(many(6, shop, 'directory = "https://acme-v02.api.letsencrypt.org/directory"\n'))) == 1


def test_the_plan_says_what_a_thief_of_either_server_could_do() -> None:
    assert power(parse(SHARED), "web1") == (
        "web1 gets a key for web1.acme-challenge.acme.app. alone: "
        "with it one could get certificates for web1.acme.app; and "
        "a key for shop.acme-shared.acme.app. alone, as db1 does: with it one could get certificates for shop.acme.app"
    )


def test_certificates_that_meet_in_a_third_share_a_zone_too() -> None:
    text = (
        BASE
        + OWN
        + """[servers.web2]
host = "203.0.113.8"
[acme]
on = "web1"
[certificates.b]
on = "db1"
names = ["b.acme.app", "c.acme.app"]
[certificates.a]
on = "web1"
names = ["acme.app", "*.acme.app"]
[certificates.c]
on = "web2"
names = ["acme.app", "b.acme.app"]
"""
    )
    fleet = parse(text)
    zones = {key: each.zone for key, each in challenges(fleet).items()}
    shared = "a.acme-shared.acme.app."
    assert zones == {
        ("web1", "server"): "web1.acme-challenge.acme.app.",
        ("db1", "b"): shared, ("web1", "a"): shared, ("web2", "c"): shared,
    }  # fmt: skip
    assert {each.zone for alias, each in aliases(fleet).items() if "web1" not in alias} == {shared}


def test_all_of_a_route() -> None:
    more = """aliases = ["www.acme.app"]
paths = { "/api" = { app = "shop" }, "/static" = { folder = "/srv/shop/public" } }
certificate = "none"
rate = "10/s"
burst = 5
websockets = false
maintenance = true
login = { user = "ana", password = { secret = "route_shop" } }
"""
    text = BASE + '[apps.shop]\non = "web1"\nport = 4000\n' + SHOP % "shop.acme.app" + more
    (route,) = (each for each in resources(parse(text)) if each.action == "route.set")
    assert route.params == {
        "name": "shop", "host": ["shop.acme.app", "www.acme.app"], "to": "3000",
        "path": ["/api shop", "/static /srv/shop/public"], "rate": "10/s", "burst": 5, "websockets": False,
        "maintenance": True, "auth-user": "ana",
    }  # fmt: skip
    assert route.secrets == {"auth-password": "route_shop"}


def test_the_firewall_lets_in_what_the_file_serves() -> None:
    text = BASE + OWN + SHOP % "shop.acme.app" + '[firewall.all]\non = "all"\nallow = ["8080/tcp"]\n'
    rules = {each.server: each.params["allow"] for each in resources(parse(text)) if each.action == "firewall.set"}
    assert rules == {
        "web1": ["8080/tcp", "80/tcp", "443/tcp", "443/udp"],
        "db1": ["8080/tcp", "53/tcp", "53/udp"],
    }


def test_a_name_stands_for_one_set_of_certificates() -> None:
    """Else two groups of servers would share a zone of proofs, and each could prove the names of the other."""
    more = "".join(f'[servers.{name}]\nhost = "203.0.113.9"\n' for name in ("web2", "web3"))
    other = '[certificates.shop]\non = "web2,web3"\nnames = ["other.acme.app"]\n'
    with pytest.raises(ConfigError, match=r"certificates\.shop does not cover routes\.shop on web1"):
        resources(parse(SHARED + more + other))


def test_a_large_fleet_is_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each route is on each server; the work must not grow with their product squared."""
    calls = 0
    really = selector.resolve

    def resolve(*words: Any) -> list[str]:
        nonlocal calls
        calls += 1
        return really(*words)

    monkeypatch.setattr(selector, "resolve", resolve)
    routes = "".join(f'[routes.r{n}]\non = "w*"\nhost = "r{n}.acme.app"\nto = {{ port = 3000 }}\n' for n in range(20))
    fleet = many(20, routes)
    assert len([each for each in resources(fleet) if each.action == "route.set"]) == 20 * 21
    assert calls < 20 * 20
