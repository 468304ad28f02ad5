"""The area dns on two real servers: what is made is asked for with dig(1), delv(1) and nsupdate(1)."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from serverflow_actions.kit.powerdns import API_PORT

from .areas import run, told
from .operator import Operator, eventually, new_operator
from .target import Fleet, Target

_CONFIG = "/etc/powerdns/pdns.d/zz-serverflow.conf"
_API_CONFIG = "/etc/powerdns/pdns.d/zz-serverflow-api.conf"
_DATABASE = "/var/lib/powerdns/serverflow.sqlite3"
_MARK = "serverflow 0123abcd"
_READS = "dns.fetch", "dns.zones"
#: For the tests' own use on the servers.
_TOOLS = "bind9-dnsutils", "sqlite3"
_ZONE = (
    "zone=acme.test", "nameservers=ns1.acme.test", "nameservers=ns2.acme.test", "transfer-key=xfer", "dnssec=true",
    "catalog=catalog.invalid",
)  # fmt: skip


@dataclass(frozen=True)
class Servers:
    """ns1 keeps the zones, ns2 fetches them; `made` is what the first run on each did, `secret` is the key xfer's."""

    operator: Operator
    ns1: Target
    ns2: Target
    made: dict[str, list[str]]
    secret: str

    def do(self, action: str, *values: str, on: str = "ns1", exit: int = 0, secret: str = "") -> dict[str, Any]:
        """One action's answer. It may go on without a question."""
        leave: tuple[str, ...] = () if action in _READS else ("--yes",)
        if action.endswith("-remove"):
            leave = ("--confirm", values[0].partition("=")[2])
        given = ("--secret-stdin", "secret") if secret else ()
        return run(
            self.operator, "action", "run", action, *values, *leave, *given, on=on, exit=exit, input=secret or None
        )

    def did(self, action: str, *values: str, on: str = "ns1", secret: str = "") -> list[str]:
        """What an action that had something to do did; run again it does nothing."""
        first = self.do(action, *values, on=on, secret=secret)
        assert first["outcome"] == "done", first
        again = self.do(action, *values, on=on, secret=secret)
        assert (again["outcome"], again["changes"]) == ("unchanged", []), again
        return told(first)

    def why(self, action: str, *values: str, on: str = "ns1", exit: int = 6, secret: str = "") -> str:
        """Why it was refused."""
        server = self.do(action, *values, on=on, exit=exit, secret=secret)
        assert server["changes"] == []
        return str(server["error"]["message"])

    def fetch(self, zone: str, on: str = "ns1") -> dict[str, Any]:
        found: dict[str, Any] = self.do("dns.fetch", f"zone={zone}", on=on)["data"]
        return found

    def change(self, zone: str, *rrsets: dict[str, Any], revision: str = "", exit: int = 0) -> dict[str, Any]:
        at = revision or self.fetch(zone)["revision"]
        return self.do("dns.change", f"zone={zone}", f"revision={at}", f"changes={json.dumps(rrsets)}", exit=exit)

    def dig(self, server: Target, *words: str) -> str:
        """What a name server answers, asked from the other one."""
        asker = self.ns2 if server is self.ns1 else self.ns1
        argv = "dig", f"@{server.ip}", "+norecurse", "+time=2", "+tries=2", *words
        return asker.run(*argv, check=False).stdout

    def short(self, server: Target, *words: str) -> list[str]:
        return sorted(self.dig(server, "+short", *words).split("\n")[:-1])

    def key(self, name: str = "xfer", secret: str = "") -> tuple[str, str]:
        return "-y", f"hmac-sha256:{name}:{secret or self.secret}"

    def serial(self, server: Target, zone: str) -> int:
        found = self.short(server, zone, "SOA")
        return int(found[0].split()[2]) if found else 0

    def both_serve(self, name: str, type: str, *values: str) -> None:
        for server in (self.ns1, self.ns2):
            for transport in ("+notcp", "+tcp"):
                wanted = sorted(values)
                eventually(
                    lambda: self.short(server, transport, name, type) == wanted,  # noqa: B023  (called at once)
                    f"{server.name} says {values} for {name} {type} ({transport}): {self.short(server, name, type)}",
                )


def rrset(name: str, type: str, *values: str, ttl: int = 60, mark: str = _MARK) -> dict[str, Any]:
    return {"name": name, "type": type, "ttl": ttl, "values": list(values), "mark": mark}


def pair(fleet: Fleet, folder: Any, release: str) -> Servers:
    """A primary and a secondary that follows its catalog."""
    ns1, ns2 = fleet.start_fresh(release), fleet.start_fresh(release)
    operator = new_operator(folder)
    made = {}
    for name, target, role in ("ns1", ns1, "primary"), ("ns2", ns2, "secondary"):
        operator.add(name, target)
        target.run("apt-get", "-qy", "--no-install-recommends", "install", *_TOOLS)
        made[name] = told(run(operator, "action", "run", "dns.server", f"role={role}", "--yes", on=name))
    bare = Servers(operator, ns1, ns2, made, "")
    secret = str(bare.do("dns.key", "name=xfer")["secrets"]["secret"])
    found = Servers(operator, ns1, ns2, made, secret)
    found.do("dns.key", "name=xfer", on="ns2", secret=secret)
    found.do("dns.zone", "zone=catalog.invalid", "kind=producer", "transfer-key=xfer", f"also-notify={ns2.ip}")
    found.do("dns.zone", "zone=catalog.invalid", "kind=consumer", "transfer-key=xfer", f"primaries={ns1.ip}", on="ns2")
    found.do("dns.zone", *_ZONE, f"also-notify={ns2.ip}")
    return found


@pytest.fixture(scope="module")
def servers(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    found = pair(fleet, tmp_path_factory.mktemp("dns"), "debian12")
    yield found
    for target in (found.ns1, found.ns2):
        fleet.remove(target)


def test_server(servers: Servers) -> None:
    assert (
        servers.made["ns1"]
        == servers.made["ns2"]
        == [
            "create file /etc/systemd/system/pdns.service.d/serverflow.conf",
            "create package pdns-server pdns-backend-sqlite3",
            f"create file {_API_CONFIG}",
            f"create database {_DATABASE}",
            f"create file {_CONFIG}",
            "update unit pdns.service",
        ]
    )
    for name, role in ("ns1", "primary"), ("ns2", "secondary"):
        again = servers.do("dns.server", f"role={role}", on=name)
        assert (again["outcome"], again["changes"]) == ("unchanged", [])
        assert again["data"]["listen"] == [getattr(servers, name).ip]
    assert servers.ns1.run("stat", "-c", "%U:%G %a", _API_CONFIG, _DATABASE).stdout == "root:pdns 640\npdns:pdns 640\n"
    assert servers.ns1.run("sqlite3", _DATABASE, "pragma journal_mode").stdout == "delete\n"


def test_the_api_is_for_the_server_alone(servers: Servers) -> None:
    with pytest.raises(ConnectionRefusedError), socket.create_connection((servers.ns1.ip, API_PORT), timeout=5):
        pass
    asking = f"/dev/tcp/127.0.0.1/{API_PORT}"
    script = (
        f"exec 3<>{asking}; printf 'GET /api/v1/servers HTTP/1.0\\r\\nX-API-Key: wrong\\r\\n\\r\\n' >&3; head -1 <&3"
    )
    assert "401" in servers.ns1.run("bash", "-c", script).stdout


def test_nobody_takes_the_apis_place_while_it_is_down(servers: Servers) -> None:
    """He would be told the key with the next change."""
    # As on a server: Docker lets everybody have all ports, and has made /proc/sys read-only.
    start = "mount -t proc proc /mnt && echo 1024 >/mnt/sys/net/ipv4/ip_unprivileged_port_start && umount /mnt"
    servers.ns1.run("sh", "-c", start)
    servers.ns1.run("systemctl", "stop", "pdns")
    listening = f"import socket; socket.create_server(('127.0.0.1', {API_PORT}))"
    done = servers.ns1.run("runuser", "-u", "nobody", "--", "python3", "-c", listening, check=False)
    servers.ns1.run("systemctl", "start", "pdns")
    assert "PermissionError" in done.stderr


def test_no_recursion_and_no_version(servers: Servers) -> None:
    assert "status: REFUSED" in servers.dig(servers.ns1, "+recurse", "example.com", "A")
    for name in ("version.bind", "version.pdns", "id.server"):
        said = servers.dig(servers.ns1, name, "TXT", "CH")
        assert "ANSWER: 0" in said and "status: NOERROR" not in said, said


def test_a_zone_is_served_by_both(servers: Servers) -> None:
    """The secondary learns of it by the catalog alone."""
    servers.both_serve("acme.test", "NS", "ns1.acme.test.", "ns2.acme.test.")
    again = servers.do("dns.zone", *_ZONE, f"also-notify={servers.ns2.ip}")
    assert (again["outcome"], again["changes"]) == ("unchanged", [])
    listed = {name: servers.do("dns.zones", on=name)["data"]["zones"] for name in ("ns1", "ns2")}
    assert [(each["zone"], each["kind"], each["catalog"]) for each in listed["ns1"]] == [
        ("acme.test.", "primary", "catalog.invalid."),
        ("catalog.invalid.", "producer", ""),
    ]
    assert [(each["zone"], each["kind"], each["primaries"]) for each in listed["ns2"]] == [
        ("acme.test.", "secondary", [servers.ns1.ip]),
        ("catalog.invalid.", "consumer", [servers.ns1.ip]),
    ]
    assert "flags: qr aa;" in servers.dig(servers.ns2, "acme.test", "SOA")


def test_a_change_reaches_the_secondary(servers: Servers) -> None:
    before = servers.serial(servers.ns1, "acme.test")
    done = servers.change(
        "acme.test",
        rrset("acme.test.", "MX", "10 mail.acme.test."),
        rrset("www.acme.test.", "A", "192.0.2.1", "192.0.2.2"),
        rrset("mail.acme.test.", "AAAA", "2001:db8::25"),
        rrset("*.web1.acme.test.", "CNAME", "www.acme.test."),
        rrset("txt.acme.test.", "TXT", f'"{"k" * 255}" "{"k" * 45}"'),
    )
    assert told(done) == ["update records acme.test."]
    servers.both_serve("www.acme.test", "A", "192.0.2.1", "192.0.2.2")
    servers.both_serve("anything.web1.acme.test", "CNAME", "www.acme.test.")
    servers.both_serve("acme.test", "MX", "10 mail.acme.test.")
    assert servers.serial(servers.ns1, "acme.test") > before
    found = {(each["name"], each["type"]): each for each in servers.fetch("acme.test")["rrsets"]}
    assert found["www.acme.test.", "A"]["comments"] == [_MARK]
    assert found["acme.test.", "MX"]["values"] == ["10 mail.acme.test."]
    assert found["txt.acme.test.", "TXT"]["values"] == [f'"{"k" * 255}" "{"k" * 45}"']


def test_transfers_are_for_whoever_has_the_key(servers: Servers) -> None:
    wrong = "bm90IHRoZSBrZXkgdGhhdCBpcyB3YW50ZWQgaGVyZSE="
    axfr = "acme.test", "AXFR"
    assert servers.short(servers.ns1, *servers.key(), *axfr)
    for words in (axfr, (*servers.key(secret=wrong), *axfr), (*servers.key("other", wrong), *axfr)):
        said = servers.dig(servers.ns1, *words)
        assert "Transfer failed" in said and "192.0.2.1" not in said
    # Nor is the server itself anybody without it.
    assert "Transfer failed" in servers.ns1.run("dig", f"@{servers.ns1.ip}", *axfr, check=False).stdout
    # The secondary gives nothing on.
    assert "Transfer failed" in servers.dig(servers.ns2, *servers.key(), *axfr)


def test_an_old_revision_is_refused_and_nothing_changed(servers: Servers) -> None:
    old = servers.fetch("acme.test")["revision"]
    servers.change("acme.test", rrset("other.acme.test.", "A", "192.0.2.7"))
    now = servers.fetch("acme.test")
    refused = servers.change("acme.test", rrset("mine.acme.test.", "A", "192.0.2.8"), revision=old, exit=9)
    assert (refused["error"]["code"], refused["changes"]) == ("zone-changed", [])
    assert servers.fetch("acme.test") == now
    # What is there already harms nobody, whatever the revision.
    same = servers.change("acme.test", rrset("other.acme.test.", "A", "192.0.2.7"), revision=old)
    assert same["outcome"] == "unchanged"


def test_all_or_nothing(servers: Servers) -> None:
    now = servers.fetch("acme.test")
    beside_a_cname = rrset("x.web1.acme.test.", "A", "192.0.2.9"), rrset("*.web1.acme.test.", "A", "192.0.2.9")
    refused = servers.change("acme.test", *beside_a_cname, exit=6)
    assert "Conflicts with pre-existing RRset" in refused["error"]["message"]
    for bad in (
        rrset("www.elsewhere.test.", "A", "192.0.2.1"),
        rrset("www.acme.test.", "A", "192.0.2.256"),
        rrset("www.acme.test.", "LUA", 'A "os.exit()"'),
        rrset("acme.test.", "NS"),
        rrset("www.acme.test.", "A", "192.0.2.1", mark="someone"),
    ):
        servers.change("acme.test", rrset("fine.acme.test.", "A", "192.0.2.1"), bad, exit=6)
    assert servers.fetch("acme.test") == now
    swap = servers.change(
        "acme.test", rrset("*.web1.acme.test.", "A", "192.0.2.9"), rrset("*.web1.acme.test.", "CNAME")
    )
    assert swap["outcome"] == "done"
    servers.both_serve("x.web1.acme.test", "A", "192.0.2.9")


def test_notes_of_others_stay(servers: Servers) -> None:
    columns, values = "domain_id, name, type, modified_at, comment", "id, 'www.acme.test', 'A', 1, 'ask Eve'"
    note = f"insert into comments ({columns}) select {values} from domains where name = 'acme.test'"
    servers.ns1.run("sqlite3", _DATABASE, note)
    servers.change("acme.test", rrset("www.acme.test.", "A", "192.0.2.3", mark=""))
    (found,) = (each for each in servers.fetch("acme.test")["rrsets"] if each["name"] == "www.acme.test.")
    assert found["comments"] == ["ask Eve"]
    servers.change("acme.test", rrset("www.acme.test.", "A", "192.0.2.3"))
    (found,) = (each for each in servers.fetch("acme.test")["rrsets"] if each["name"] == "www.acme.test.")
    assert found["comments"] == ["ask Eve", _MARK]


def test_a_secondary_that_was_down_catches_up(servers: Servers) -> None:
    servers.ns2.run("systemctl", "stop", "pdns")
    servers.change("acme.test", rrset("late.acme.test.", "A", "192.0.2.44"))
    assert servers.short(servers.ns1, "late.acme.test", "A") == ["192.0.2.44"]
    servers.ns2.run("systemctl", "start", "pdns")
    servers.both_serve("late.acme.test", "A", "192.0.2.44")


def test_a_new_zone_appears_on_the_secondary_and_goes(servers: Servers) -> None:
    zone = "zone=new.test", "nameservers=ns1.acme.test", "transfer-key=xfer", "catalog=catalog.invalid"
    notify = f"also-notify={servers.ns2.ip}"
    assert servers.did("dns.zone", *zone, notify) == ["create zone new.test."]
    servers.both_serve("new.test", "NS", "ns1.acme.test.")
    assert servers.did("dns.zone", *zone, "nameservers=ns2.acme.test", notify) == ["update zone new.test."]
    servers.both_serve("new.test", "NS", "ns1.acme.test.", "ns2.acme.test.")
    assert servers.did("dns.zone-remove", "zone=new.test") == ["delete zone new.test."]
    assert "status: REFUSED" in servers.dig(servers.ns1, "new.test", "SOA")
    eventually(lambda: "status: REFUSED" in servers.dig(servers.ns2, "new.test", "SOA"), "the secondary drops it", 60)
    assert "is the catalog of acme.test." in servers.why("dns.zone-remove", "zone=catalog.invalid")


def test_dnssec_validates_and_fails_with_a_wrong_anchor(servers: Servers) -> None:
    (zone,) = (each for each in servers.do("dns.zones")["data"]["zones"] if each["zone"] == "acme.test.")
    (ds,) = zone["ds"]
    tag, algorithm, digest_type, digest = ds.split()
    assert (algorithm, digest_type) == ("13", "2")

    def delv(server: Target, digest: str, *words: str) -> str:
        anchor = f'trust-anchors {{ acme.test. static-ds {tag} {algorithm} {digest_type} "{digest}"; }};'
        servers.ns1.run("tee", "/root/anchor", input=anchor)
        argv = "delv", f"@{server.ip}", "-a", "/root/anchor", "+root=acme.test", *words
        done = servers.ns1.run(*argv, check=False)
        return done.stdout + done.stderr

    for server in (servers.ns1, servers.ns2):
        assert "; fully validated" in delv(server, digest, "late.acme.test", "A")
        assert "; negative response, fully validated" in delv(server, digest, "nowhere.acme.test", "A")
        assert "resolution failed" in delv(server, "00" * 32, "late.acme.test", "A")
    assert "is signed" in servers.why("dns.zone", *(word for word in _ZONE if not word.startswith("dnssec")))


def test_damage_is_drift_and_is_repaired(servers: Servers) -> None:
    servers.ns1.run("sed", "-i", "s/^allow-axfr-ips=.*/allow-axfr-ips=0.0.0.0\\/0/", _CONFIG)
    servers.ns1.run("chmod", "0644", _API_CONFIG, _DATABASE)
    servers.ns1.run("systemctl", "disable", "--now", "pdns")
    planned = told(run(servers.operator, "action", "run", "dns.server", "role=primary", "--plan", on="ns1"))
    assert planned == [
        f"update file {_API_CONFIG}",
        f"update database {_DATABASE}",
        f"update file {_CONFIG}",
        "update unit pdns.service",
    ]
    assert servers.did("dns.server", "role=primary") == planned
    assert servers.short(servers.ns1, "late.acme.test", "A") == ["192.0.2.44"]
    assert "Transfer failed" in servers.dig(servers.ns1, "acme.test", "AXFR")

    sql = "update domainmetadata set content = 'nobody' where kind = 'TSIG-ALLOW-AXFR'; delete from domainmetadata"
    servers.ns1.run("sqlite3", _DATABASE, f"{sql} where kind = 'ALSO-NOTIFY'")
    assert servers.did("dns.zone", *_ZONE, f"also-notify={servers.ns2.ip}") == ["update zone acme.test."]
    catalog = "zone=catalog.invalid", "kind=producer", "transfer-key=xfer", f"also-notify={servers.ns2.ip}"
    assert servers.did("dns.zone", *catalog) == ["update zone catalog.invalid."]
    assert servers.short(servers.ns1, *servers.key(), "acme.test", "AXFR")


def test_an_update_key_opens_its_own_zone_alone(servers: Servers) -> None:
    servers.do("dns.zone", "zone=web1.acme-certs.test", "nameservers=ns1.acme.test")
    assert "no primary zone nowhere.test." in servers.why("dns.update-key", "name=web1-key", "zone=nowhere.test")
    made = servers.do("dns.update-key", "name=web1-key", "zone=web1.acme-certs.test")
    secret = made["secrets"]["secret"]
    again = servers.do("dns.update-key", "name=web1-key", "zone=web1.acme-certs.test")
    assert (again["outcome"], again["changes"], "secrets" in again) == ("unchanged", [], False)
    assert "is a key of web1.acme-certs.test. as well" in servers.why(
        "dns.update-key", "name=web1-key", "zone=acme.test"
    )
    assert "is the key of web1.acme-certs.test." in servers.why("dns.key-remove", "name=web1-key")

    def update(zone: str, *key: str) -> str:
        script = f"server {servers.ns1.ip}\nzone {zone}\nupdate add _x.{zone} 60 TXT secret\nsend\n"
        done = servers.ns2.run("nsupdate", *key, input=script, check=False)
        return "" if done.returncode == 0 else done.stdout + done.stderr

    own = servers.key("web1-key", secret)
    assert update("web1.acme-certs.test", *own) == ""
    assert servers.short(servers.ns1, "_x.web1.acme-certs.test", "TXT") == ['"secret"']
    for zone, *key in (
        ("acme.test", *own),
        ("acme.test", *servers.key()),
        ("acme.test",),
        ("web1.acme-certs.test",),
        ("web1.acme-certs.test", *servers.key()),
        ("web1.acme-certs.test", *servers.key("web1-key", servers.secret)),
    ):
        assert "REFUSED" in (said := update(zone, *key)) or "BADSIG" in said or "NOTAUTH" in said, said
    assert servers.short(servers.ns1, "_x.acme.test", "TXT") == []


def test_what_an_alias_leads_to_is_never_stale(servers: Servers) -> None:
    """An answer with an alias has what it leads to as well, from another zone that changes by itself."""
    alias, end = "_acme-challenge.acme.test.", "_x.web1.acme-certs.test."
    servers.change("acme.test", rrset(alias, "CNAME", end))
    for value in ('"first"', '"second"', '"third"'):
        servers.change("web1.acme-certs.test", rrset(end, "TXT", value))
        assert servers.short(servers.ns1, alias, "TXT") == [value, end]


def test_keys_stay_where_they_are(servers: Servers) -> None:
    """Not in what the operator keeps, and not in the journal."""
    journal = servers.ns1.run("journalctl", "--no-pager", "--output=export", "--all").stdout
    assert "pdns_server" in journal
    api_key = servers.ns1.run("sed", "-n", "s/^api-key=//p", _API_CONFIG).stdout.strip()
    assert len(api_key) > 30
    for secret in (servers.secret, api_key):
        assert secret not in journal
        receipts = servers.ns1.run("grep", "-rlF", secret, "/var/lib/serverflow", check=False).stdout
        assert receipts == ""


def test_stopped_it_says_so_and_nothing_changes(servers: Servers) -> None:
    now = servers.fetch("acme.test")
    wanted = rrset("down.acme.test.", "A", "192.0.2.1")
    servers.ns1.run("systemctl", "stop", "pdns")
    try:
        failed = servers.change("acme.test", wanted, revision=now["revision"], exit=6)
    finally:
        servers.ns1.run("systemctl", "start", "pdns")
    assert "PowerDNS does not run" in failed["error"]["message"]
    assert servers.fetch("acme.test") == now


def test_with_a_full_disk_it_says_so_and_nothing_changes(servers: Servers) -> None:
    """The database moves to a disk of its own, which is then filled."""
    now, folder = servers.fetch("acme.test"), "/var/lib/powerdns"
    wanted = [rrset(f"h{number}.acme.test.", "TXT", "k" * 200) for number in range(100)]
    servers.ns1.run("systemctl", "stop", "pdns")
    servers.ns1.run("cp", "-a", folder, "/root/kept")
    servers.ns1.run("mount", "-t", "tmpfs", "-o", "size=1m,mode=0755,uid=pdns,gid=pdns", "tmpfs", folder)
    servers.ns1.run("cp", "-a", "/root/kept/.", folder)
    servers.ns1.run("systemctl", "start", "pdns")
    try:
        servers.ns1.run("dd", "if=/dev/zero", f"of={folder}/filling", "bs=4k", check=False)
        failed = servers.change("acme.test", *wanted, revision=now["revision"], exit=6)
        assert "the disk with /var/lib/powerdns is full" in failed["error"]["message"]
        assert servers.fetch("acme.test") == now
        assert servers.short(servers.ns1, "late.acme.test", "A") == ["192.0.2.44"]
        servers.ns1.run("rm", f"{folder}/filling")
        assert servers.change("acme.test", *wanted, revision=now["revision"])["outcome"] == "done"
    finally:
        servers.ns1.run("systemctl", "stop", "pdns")
        servers.ns1.run("umount", folder)
        servers.ns1.run("systemctl", "start", "pdns")
    assert servers.fetch("acme.test") == now


def test_keys_are_replaced_and_removed(servers: Servers) -> None:
    old = str(servers.do("dns.key", "name=spare")["secrets"]["secret"])
    new = str(servers.do("dns.key", "name=spare", "new-password=true")["secrets"]["secret"])
    assert new != old
    sql = "select name, algorithm, secret from tsigkeys where name = 'spare'"
    assert servers.ns1.run("sqlite3", _DATABASE, sql).stdout == f"spare|hmac-sha256|{new}\n"
    assert servers.did("dns.key-remove", "name=spare") == ["delete tsig-key spare."]


def test_debian_13(fleet: Fleet, tmp_path: Path) -> None:
    """The same with its version of PowerDNS, in short."""
    servers = pair(fleet, tmp_path, "debian13")
    try:
        servers.both_serve("acme.test", "NS", "ns1.acme.test.", "ns2.acme.test.")
        servers.change(
            "acme.test", rrset("www.acme.test.", "A", "192.0.2.1"), rrset("acme.test.", "MX", "5 www.acme.test.")
        )
        servers.both_serve("www.acme.test", "A", "192.0.2.1")
        found = {(each["name"], each["type"]): each["values"] for each in servers.fetch("acme.test")["rrsets"]}
        assert found["acme.test.", "MX"] == ["5 www.acme.test."]
        (zone,) = (each for each in servers.do("dns.zones")["data"]["zones"] if each["zone"] == "acme.test.")
        assert len(zone["ds"]) == 1
        for name, action, *values in (
            ("ns1", "dns.server", "role=primary"),
            ("ns2", "dns.server", "role=secondary"),
            ("ns1", "dns.zone", *_ZONE, f"also-notify={servers.ns2.ip}"),
        ):
            assert servers.do(action, *values, on=name)["outcome"] == "unchanged"
        assert "Transfer failed" in servers.dig(servers.ns1, "acme.test", "AXFR")
        assert servers.did("dns.update-key", "name=web1-key", "zone=acme.test") == [
            "create tsig-key web1-key.",
            "update zone acme.test.",
        ]
        # A secondary may keep zones of its own beside.
        own = "zone=own.test", "nameservers=ns2.acme.test"
        assert "is no primary" in servers.why("dns.zone", *own, on="ns2")
        changes = [f"update file {_CONFIG}", "run unit pdns.service"]
        assert servers.did("dns.server", "role=both", on="ns2") == changes
        assert servers.did("dns.zone", *own, on="ns2") == ["create zone own.test."]
        assert servers.short(servers.ns2, "own.test", "NS") == ["ns2.acme.test."]
        assert servers.short(servers.ns2, "www.acme.test", "A") == ["192.0.2.1"]
        assert servers.did("dns.zone-remove", "zone=acme.test") == ["delete zone acme.test."]
        eventually(lambda: "REFUSED" in servers.dig(servers.ns2, "acme.test", "SOA"), "the secondary drops it", 60)
    finally:
        for target in (servers.ns1, servers.ns2):
            fleet.remove(target)
