"""From nothing to https://shop.example.test: name servers of our own, certificates and a route, by `sf` alone.

dig(1), delv(1), curl(1) and openssl-s_client(1) look at it from another machine.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from functools import partial

import pytest

from serverflow_actions import registry

from .authority import DIRECTORY, DOMAIN, House, NameServer, _authority
from .operator import Operator, eventually, fingerprint, new_operator
from .sinks import Authority
from .target import Fleet, Target
from .victim import client_of

_APP = """
import http.server
class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"shop for {self.headers['X-Forwarded-Proto']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", 3000), App).serve_forever()
"""
SHOP, WEB1 = f"shop.{DOMAIN}", f"web1.{DOMAIN}"


def _known(operator: Operator, **targets: Target) -> None:
    """The tests reach servers by ports of the host, the world by their addresses."""
    path = operator.fleet / "fleet.toml"
    text = path.read_text().replace("schema = 1\n", f'schema = 1\nbase_domain = "{DOMAIN}"\n', 1)
    for name, target in targets.items():
        text = text.replace(f"[servers.{name}]\n", f'[servers.{name}]\naddresses = ["{target.ip}"]\n')
    path.write_text(text)


@pytest.fixture(scope="module")
def house(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Three servers of a fleet, and an authority that is none of it."""
    folder = tmp_path_factory.mktemp("names")
    web1, db1, ns2 = (fleet.start_fresh("debian12") for _ in range(3))
    ca = fleet.start_fresh("debian13")
    authority = Authority(folder)
    try:
        operator = new_operator(folder)
        operator.add("web1", web1, "--role", "app")
        for name, target in (("db1", db1), ("ns2", ns2)):
            operator.add(name, target)
        _known(operator, web1=web1, db1=db1, ns2=ns2)
        ca.run("apt-get", "-qqy", "--no-install-recommends", "install", "bind9-dnsutils")
        _authority(ca, authority)
        yield House(operator, web1, ca, NameServer(db1), NameServer(ns2), authority)
    finally:
        for target in (web1, db1, ns2, ca):
            fleet.remove(target)


@pytest.fixture(scope="module")
def zone(house: House) -> House:
    """The zone is on db1, and ns2 copies it."""
    done = house.operator.run(
        "dns", "setup", DOMAIN, "--provider", "powerdns", "--on", "db1", "--secondary", "ns2", "--yes", timeout=300
    )
    assert f"{DOMAIN} needs these name servers: db1.{DOMAIN}., ns2.{DOMAIN}." in done.stderr
    return house


def dig(house: House, server: Target, *question: str) -> list[str]:
    return house.ca.run("dig", "+short", f"@{server.ip}", *question).stdout.split("\n")[:-1]


def both(house: House) -> tuple[Target, Target]:
    return house.primary.target, house.secondary.target


def test_both_name_servers_know_all_servers(zone: House) -> None:
    for server in both(zone):
        for option in "+notcp", "+tcp":
            assert dig(zone, server, WEB1, "A", option) == [zone.web1.ip]
            assert dig(zone, server, f"any.{WEB1}", "A", option) == [zone.web1.ip]
        assert sorted(dig(zone, server, DOMAIN, "NS")) == [f"db1.{DOMAIN}.", f"ns2.{DOMAIN}."]
    assert zone.operator.run("dns", "plan", "--check").returncode == 0
    assert zone.operator.run("plan", "--check").returncode == 0


def test_a_record_is_done_when_both_serve_it(zone: House) -> None:
    zone.operator.run("dns", "record", "add", f"acme.{DOMAIN}", "A", zone.ca.ip, "--yes")
    zone.operator.run("dns", "record", "add", DOMAIN, "TXT", "v=spf1 -all", "--yes")
    for server in both(zone):
        assert dig(zone, server, f"acme.{DOMAIN}", "A") == [zone.ca.ip]
        assert dig(zone, server, DOMAIN, "TXT") == ['"v=spf1 -all"']


def test_a_secondary_that_is_down_is_named_and_catches_up(zone: House) -> None:
    zone.secondary.target.run("systemctl", "stop", "pdns")
    add = ("dns", "record", "add", f"late.{DOMAIN}", "A", "192.0.2.9", "--wait", "3s", "--yes")
    done = zone.operator.run(*add, check=False, timeout=150)
    assert done.returncode == 13 and f"ns2.{DOMAIN}." in done.stderr and f"db1.{DOMAIN}." not in done.stderr
    assert zone.operator.run("dns", "zone", "check", check=False).returncode == 11
    zone.secondary.target.run("systemctl", "start", "pdns")
    eventually(lambda: dig(zone, zone.secondary.target, f"late.{DOMAIN}", "A") == ["192.0.2.9"], "it catches up", 60)
    zone.operator.run("dns", "zone", "check")
    zone.operator.run("dns", "record", "remove", f"late.{DOMAIN}", "A", "--yes")


@pytest.fixture(scope="module")
def certified(zone: House) -> House:
    """web1 has a certificate for its own names, from an authority that it trusts."""
    for target in (zone.web1, zone.ca):
        zone.trusted_by(target)
    zone.pebble(PEBBLE_WFE_NONCEREJECT="5")
    zone.operator.run("cert", "setup", "--directory", DIRECTORY, "--on", "@app", "--yes", timeout=400)
    zone.ca.run("sh", "-c", "cat > /root/pebble.pem", input=zone.roots)
    return zone


def test_the_server_has_a_certificate_for_its_names(certified: House) -> None:
    path = "/etc/serverflow/certs/server/fullchain.pem"
    said = certified.web1.run("openssl", "x509", "-in", path, "-noout", "-ext", "subjectAltName").stdout
    assert set(re.findall(r"DNS:(\S+?)(?:,|\s)", said + " ")) == {WEB1, f"*.{WEB1}"}
    assert dig(certified, certified.primary.target, f"_acme-challenge.{WEB1}", "CNAME") == [
        f"web1.acme-challenge.{DOMAIN}."
    ]


def test_its_key_changes_its_own_zone_and_no_other(certified: House) -> None:
    secret = certified.operator.run("secret", "show", "proof_server_web1").stdout.strip()
    name = f"web1.acme-challenge.{DOMAIN}"
    for zone, status in ((name, "NOERROR"), (DOMAIN, "REFUSED")):
        script = f"server {certified.primary.target.ip}\nzone {zone}.\nupdate add x.{zone}. 60 TXT thief\nsend\n"
        done = certified.ca.run("nsupdate", "-y", f"hmac-sha256:{name}:{secret}", input=script, check=False)
        assert (done.returncode == 0) == (status == "NOERROR"), done.stderr


@pytest.fixture(scope="module")
def shop(certified: House) -> House:
    """A route to an app."""
    certified.web1.run("sh", "-c", "cat > /root/app.py", input=_APP)
    certified.web1.run("systemd-run", "--quiet", "--unit=app", "python3", "/root/app.py")
    words = ("route", "add", "shop", "--on", "web1", "--host", SHOP, "--host", f"shop.{WEB1}", "--to", "3000")
    planned = certified.operator.run(*words, "--plan", timeout=200).stdout
    for part in (f"rrset {SHOP}. A", f"rrset _acme-challenge.{SHOP}. CNAME", "serverflow-shop.conf", "cert/shop.json"):
        assert part in planned
    certified.operator.run(*words, "--yes", timeout=400)
    return certified


def get(house: House, url: str, *options: str) -> str:
    """The answer, the version of HTTP and the status, as somebody gets it who trusts the authority and no other."""
    curl = "curl", "-sS", "--cacert", "/root/pebble.pem", "-w", " %{http_version} %{http_code}"
    return house.ca.run(*curl, *options, url, check=False).stdout


def test_https_answers(shop: House) -> None:
    assert get(shop, f"https://{SHOP}/") == "shop for https 2 200"
    assert get(shop, f"https://shop.{WEB1}/") == "shop for https 2 200"
    assert get(shop, f"http://{SHOP}/", "-o", "/dev/null").endswith("301")
    assert get(shop, f"https://{WEB1}/") == "web1 is ready\n 2 200"


def test_all_is_as_the_file_says(shop: House) -> None:
    assert shop.operator.run("plan", "--check").returncode == 0
    done = json.loads(shop.operator.run("--json", "apply", "--yes", timeout=200).stdout)
    assert [row["changes"] for row in done["servers"]] == [[] for _ in done["servers"]]


def test_the_private_key_is_nowhere_else(shop: House) -> None:
    key = shop.web1.run("cat", "/etc/serverflow/certs/shop/privkey.pem").stdout
    line = key.splitlines()[1]
    for path in (*shop.operator.home.rglob("*"), *shop.operator.fleet.rglob("*")):
        assert not path.is_file() or line.encode() not in path.read_bytes(), path
    elsewhere = f"grep -rlF -- '{line}' /var/lib/serverflow /run/serverflow /var/log 2>/dev/null || true"
    assert shop.web1.run("sh", "-c", elsewhere).stdout == ""


def private_key(house: House) -> list[bytes]:
    """Its lines, and all of them as they are without base64."""
    pem = house.web1.run("cat", "/etc/serverflow/certs/shop/privkey.pem").stdout.splitlines()
    inside = [line.encode() for line in pem if not line.startswith("-----")]
    return [*inside, base64.b64decode(b"".join(inside))]


def test_no_frame_has_the_private_key(shop: House) -> None:
    """None that a server sends, whatever looks at certificates or makes them."""
    keys, sent = private_key(shop), b""
    client, of_it = client_of(shop.operator, "web1", shop.web1), {"name": "shop"}
    for name in ("cert.list", "cert.check", "cert.issue", "cert.renew", "route.show"):
        with client.session() as session:
            params = {} if name == "cert.list" else of_it
            answer = session.ask(name, params, action_version=registry.load(name).version)
        assert answer.verdict == "done", answer.body
        sent += b"".join(payload for _, payload in answer.frames)
    assert b"/etc/serverflow/certs/shop" in sent
    assert private_key(shop) != keys, "it was renewed"
    assert not any(part in sent for part in (*keys, *private_key(shop)))


def test_a_route_goes_with_its_names(shop: House) -> None:
    shop.operator.run("route", "remove", "shop", "--confirm", "shop", timeout=200)
    for server in both(shop):
        assert dig(shop, server, SHOP, "A") == []
    assert "routes" not in (shop.operator.fleet / "fleet.toml").read_text()


def test_a_server_that_is_renamed_takes_its_names_along(shop: House) -> None:
    shop.operator.run("server", "rename", "ns2", "ns3", "--yes", timeout=200)
    for server in both(shop):
        assert dig(shop, server, f"ns3.{DOMAIN}", "A") == [shop.secondary.target.ip]
    shop.operator.run("server", "rename", "ns3", "ns2", "--yes", timeout=200)


@pytest.fixture(scope="module")
def web2(certified: House, fleet: Fleet) -> Iterator[Target]:
    """A server that nobody has heard of yet."""
    target = fleet.start_fresh("debian13")
    certified.trusted_by(target)
    yield target
    fleet.remove(target)


def proofs(house: House) -> tuple[set[str], set[str]]:
    """The zones of proofs on the primary, and the keys that are sealed."""
    said = house.operator.json("action", "run", "dns.zones", "--on", "db1")
    zones = {each["zone"] for each in said["servers"][0]["data"]["zones"]}
    secrets = house.operator.json("secret", "list")["data"]["secrets"]
    return (
        {each.partition(".")[0] for each in zones if ".acme-challenge." in each},
        {each["name"] for each in secrets if each["name"].startswith("proof_server_")},
    )


def test_a_new_server_answers_by_itself(certified: House, web2: Target) -> None:
    login = "server", "add", "web2", f"root@{web2.ip}", "-i", str(web2.admin_key)
    certified.operator.run(*login, "--fingerprint", fingerprint(web2), "--role", "app", timeout=400)
    assert get(certified, f"https://web2.{DOMAIN}/") == "web2 is ready\n 2 200"
    assert get(certified, f"http://web2.{DOMAIN}/").endswith("301")
    shown = certified.ca.run("curl", "-sSI", "--cacert", "/root/pebble.pem", f"https://web2.{DOMAIN}/").stdout
    assert "server: nginx\r" in shown
    assert certified.operator.run("plan", "--check", timeout=200).returncode == 0


def test_a_route_takes_the_place_of_the_page(certified: House, web2: Target) -> None:
    web2.run("sh", "-c", "mkdir -p /srv/site && echo the site >/srv/site/index.html")
    words = "--on", "web2", "--host", f"web2.{DOMAIN}", "--to", "/srv/site"
    certified.operator.run("route", "add", "site", *words, "--yes", timeout=200)
    assert get(certified, f"https://web2.{DOMAIN}/") == "the site\n 2 200"
    assert "route.server" not in certified.operator.run("plan", "--check", timeout=200).stderr
    certified.operator.run("route", "remove", "site", "--confirm", "site", timeout=200)
    assert get(certified, f"https://web2.{DOMAIN}/") == "web2 is ready\n 2 200"


def test_a_renamed_server_answers_at_its_new_name(certified: House, web2: Target) -> None:
    certified.operator.run("server", "rename", "web2", "web3", "--yes", timeout=400)
    assert get(certified, f"https://web3.{DOMAIN}/") == "web3 is ready\n 2 200"
    assert proofs(certified) == ({"web1", "web3"}, {"proof_server_web1", "proof_server_web3"})
    assert certified.operator.run("plan", "--check", timeout=200).returncode == 0


def test_nothing_is_left_of_a_server_that_is_gone(certified: House, web2: Target) -> None:
    certified.operator.run("server", "remove", "web3", "--confirm", "web3", timeout=200)
    assert proofs(certified) == ({"web1"}, {"proof_server_web1"})
    keys = certified.primary.target.run("pdnsutil", "list-tsig-keys").stdout
    assert "web1.acme-challenge" in keys and "web3" not in keys and "web2" not in keys
    question = f"web3.acme-challenge.{DOMAIN}", "SOA"
    for server in both(certified):
        assert dig(certified, server, f"web3.{DOMAIN}", "A") == []
        # The other one hears of it by the catalog, which PowerDNS looks at each minute.
        eventually(lambda: dig(certified, server, *question) == [], f"{server.name} has forgotten the zone", 150)  # noqa: B023
    assert certified.operator.run("plan", "--check", timeout=200).returncode == 0


def test_signed_answers_hold_and_broken_ones_do_not(zone: House) -> None:
    path = zone.operator.fleet / "fleet.toml"
    path.write_text(path.read_text().replace(f'[dns.zones."{DOMAIN}"]\n', f'[dns.zones."{DOMAIN}"]\ndnssec = true\n'))
    zone.operator.run("apply", "--only", "dns", "--yes", timeout=200)
    found = json.loads(zone.operator.run("--json", "action", "run", "dns.zones", "--on", "db1").stdout)
    (ds,) = (each["ds"] for each in found["servers"][0]["data"]["zones"] if each["zone"] == f"{DOMAIN}.")
    tag, algorithm, kind, digest = next(each for each in ds if each.split()[2] == "2").split()[:4]
    for server in both(zone):
        right = partial(delv, zone, server, tag, algorithm, kind, digest)
        eventually(lambda: "fully validated" in right(), f"{server.name} serves it signed", 60)  # noqa: B023
        assert "resolution failed" in delv(zone, server, tag, algorithm, kind, "0" * 64)


def delv(house: House, server: Target, *ds: str) -> str:
    """What a validating client says that trusts this key alone."""
    anchor = f'trust-anchors {{ {DOMAIN}. static-ds {" ".join(ds[:3])} "{ds[3]}"; }};\n'
    house.ca.run("sh", "-c", "cat > /root/anchor", input=anchor)
    said = house.ca.run("delv", f"@{server.ip}", "-a", "/root/anchor", f"+root={DOMAIN}", WEB1, "A", check=False)
    return said.stdout + said.stderr
