"""A house with an authority (Pebble), two name servers (PowerDNS) and a server that gets certificates, all containers.

Pebble is Let's Encrypt's own test server: it rejects good nonces now and then, validates for real, and knows ARI.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .operator import Operator, eventually, new_operator
from .sinks import Authority
from .target import Fleet, Target

DOMAIN = "example.test"
ZONE = f"web1.acme.{DOMAIN}"  # the one that web1 alone may update
NAME = f"web1.{DOMAIN}"
DIRECTORY = f"https://acme.{DOMAIN}:14000/dir"
KEY_NAME = "web1-acme"
SECRET = "c2VjcmV0LXRzaWcta2V5LW9mLXdlYjEtMDEyMzQ1Njc4OQ=="
_APT = "DEBIAN_FRONTEND=noninteractive apt-get -qqy --no-install-recommends install"

_PDNS = """
set -e
{apt} pdns-server pdns-backend-sqlite3 bind9-dnsutils sqlite3 >/dev/null
systemctl stop pdns
rm -f /etc/powerdns/pdns.d/* /etc/powerdns/named.conf /var/lib/powerdns/pdns.sqlite3
sqlite3 /var/lib/powerdns/pdns.sqlite3 < /usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql
chown -R pdns:pdns /var/lib/powerdns
cat > /etc/powerdns/pdns.d/test.conf <<'CONF'
launch=gsqlite3
gsqlite3-database=/var/lib/powerdns/pdns.sqlite3
local-address=0.0.0.0
webserver=yes
api=yes
api-key=test
dnsupdate=yes
allow-dnsupdate-from=0.0.0.0/0
primary={primary}
secondary={secondary}
zone-cache-refresh-interval=0
allow-axfr-ips=0.0.0.0/0
cache-ttl=0
query-cache-ttl=0
negquery-cache-ttl=0
xfr-cycle-interval=3600
default-soa-content=ns1.{domain}. hostmaster.{domain}. 0 10800 3600 604800 5
CONF
systemctl restart pdns
until curl -fsS -H 'X-API-Key: test' http://127.0.0.1:8081/api/v1/servers/localhost >/dev/null 2>&1; do sleep 0.1; done
"""
_RELEASE = "debian13"
_CONFIG = {
    "listenAddress": "0.0.0.0:14000", "managementListenAddress": "127.0.0.1:15000",
    "certificate": "/etc/pebble.crt", "privateKey": "/etc/pebble.key", "httpPort": 5002, "tlsPort": 5001,
    "ocspResponderURL": "",
}  # fmt: skip


@dataclass(frozen=True)
class NameServer:
    """A PowerDNS with its API on loopback."""

    target: Target

    def api(self, method: str, path: str, body: Any = None) -> Any:
        argv = ["curl", "-sS", "--fail-with-body", "-X", method, "-H", "X-API-Key: test", "-d", "@-"]
        url = f"http://127.0.0.1:8081/api/v1/servers/localhost{path}"
        said = self.target.run(*argv, url, input="" if body is None else json.dumps(body)).stdout
        return json.loads(said) if said else None

    def put(self, zone: str, name: str, kind: str, *values: str, ttl: int = 5) -> None:
        """Make an rrset; without values it goes."""
        records = [{"content": value, "disabled": False} for value in values]
        change = {"name": name, "type": kind, "ttl": ttl, "changetype": "REPLACE" if values else "DELETE"}
        self.api("PATCH", f"/zones/{zone}.", {"rrsets": [{**change, "records": records}]})
        self.api("PUT", f"/zones/{zone}./notify")

    def texts(self, name: str) -> list[str]:
        """TXT values that it serves."""
        return self.target.run("dig", "+short", "@127.0.0.1", name, "TXT").stdout.split()


@dataclass
class House:
    """`web1` is enrolled at `operator`, and trusts the authority's TLS certificate, as it asks `primary` for names."""

    operator: Operator
    web1: Target
    ca: Target
    primary: NameServer
    secondary: NameServer
    authority: Authority
    roots: str = ""

    def trusted_by(self, target: Target) -> None:
        """The target knows the authority's TLS certificate, and asks our name server."""
        self.authority.trusted_by(target)
        # In place: it is a bind mount.
        target.run("sh", "-c", f"echo nameserver {self.primary.target.ip} > /etc/resolv.conf")

    def pebble(self, dns: str = "", bound: dict[str, str] | None = None, **settings: str) -> None:
        """Start it anew: it forgets accounts and certificates, and has another root. It validates by `dns`, and has
        accounts for those alone who are `bound` (id and HMAC key).
        """
        config = {**_CONFIG, "externalAccountBindingRequired": bool(bound), "externalAccountMACKeys": bound or {}}
        self.ca.run("sh", "-c", "cat > /etc/pebble.json", input=json.dumps({"pebble": config}))
        given = {
            "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_VA_ALWAYS_VALID": "0", "PEBBLE_WFE_NONCEREJECT": "10",
            "PEBBLE_AUTHZREUSE": "0", **settings,
        }  # fmt: skip
        unit = "[Service]\n" + "".join(f"Environment={key}={value}\n" for key, value in given.items())
        unit += (
            f"ExecStart=/usr/bin/pebble -config /etc/pebble.json -dnsserver {dns or self.primary.target.ip + ':53'}\n"
        )
        script = "cat > /etc/systemd/system/pebble.service && systemctl daemon-reload && systemctl restart pebble"
        self.ca.run("sh", "-c", script, input=unit)
        up = "curl", "-fsSk", "https://127.0.0.1:15000/roots/0"
        eventually(lambda: self.ca.run(*up, check=False).returncode == 0, "Pebble answers")
        self.roots = self.ca.run(*up).stdout

    def curl(self, name: str, *options: str) -> str:
        """As a browser that knows the authority's root asks web1's nginx."""
        self.web1.run("sh", "-c", "cat > /root/pebble.pem", input=self.roots)
        where = "--resolve", f"{name}:443:{self.web1.ip}", "--cacert", "/root/pebble.pem"
        return self.web1.run("curl", "-sS", *where, *options, f"https://{name}/", check=False).stdout

    def served(self, name: str = NAME) -> int:
        """The serial number that a TLS client is shown."""
        script = f"openssl s_client -connect {self.web1.ip}:443 -servername {name} </dev/null 2>/dev/null"
        said = self.web1.run("sh", "-c", f"{script} | openssl x509 -noout -serial").stdout
        return int(said.partition("=")[2], 16)


def _authority(ca: Target, authority: Authority) -> None:
    certificate, key = authority.issue(f"acme.{DOMAIN}", ca.ip)
    ca.run("sh", "-c", f"{_APT} pebble >/dev/null && systemctl disable -q --now pebble 2>/dev/null; true")
    ca.run("sh", "-c", "cat > /etc/pebble.crt", input=certificate.read_text())
    ca.run("sh", "-c", "cat > /etc/pebble.key", input=key.read_text())


def _zones(primary: NameServer, secondary: NameServer, web1: Target, ca: Target) -> None:
    for each, is_primary in ((primary, True), (secondary, False)):
        words = {"primary": "yes" if is_primary else "no", "secondary": "no" if is_primary else "yes"}
        each.target.run("sh", "-c", _PDNS.format(apt=_APT, domain=DOMAIN, **words))
    servers = [f"ns1.{DOMAIN}.", f"ns2.{DOMAIN}."]
    for zone in (DOMAIN, ZONE):
        made = {"name": f"{zone}.", "kind": "Primary", "nameservers": servers, "soa_edit_api": "INCREASE"}
        primary.api("POST", "/zones", made)
        held = {"name": f"{zone}.", "kind": "Secondary", "masters": [primary.target.ip], "nameservers": []}
        secondary.api("POST", "/zones", held)
    addresses = {"ns1": primary.target, "ns2": secondary.target, "acme": ca, "web1": web1}
    for name, target in addresses.items():
        primary.put(DOMAIN, f"{name}.{DOMAIN}.", "A", target.ip)
    primary.put(DOMAIN, f"*.{NAME}.", "A", web1.ip)
    primary.put(DOMAIN, f"_acme-challenge.{NAME}.", "CNAME", f"{ZONE}.")
    primary.put(DOMAIN, f"{ZONE}.", "NS", *servers)
    # web1 alone may change its zone, and secondaries hear of it.
    primary.api("POST", "/tsigkeys", {"name": KEY_NAME, "algorithm": "hmac-sha256", "key": SECRET})
    for kind, value in (
        ("TSIG-ALLOW-DNSUPDATE", KEY_NAME),
        ("NOTIFY-DNSUPDATE", "1"),
        ("SOA-EDIT-DNSUPDATE", "INCREASE"),
    ):
        primary.api("PUT", f"/zones/{ZONE}./metadata/{kind}", {"kind": kind, "metadata": [value]})
    primary.api("PUT", f"/zones/{ZONE}./notify")


@contextmanager
def house(fleet: Fleet, folder: Path, release: str = "debian12") -> Iterator[House]:
    """All of it, with nothing issued yet."""
    web1, ca = fleet.start_fresh(release), fleet.start_fresh(_RELEASE)
    primary, secondary = (NameServer(fleet.start_fresh("debian12")) for _ in range(2))
    authority = Authority(folder)
    try:
        operator = new_operator(folder)
        operator.add("web1", web1)
        _zones(primary, secondary, web1, ca)
        _authority(ca, authority)
        found = House(operator, web1, ca, primary, secondary, authority)
        found.trusted_by(web1)
        found.pebble()
        yield found
    finally:
        for target in (web1, ca, primary.target, secondary.target):
            fleet.remove(target)
