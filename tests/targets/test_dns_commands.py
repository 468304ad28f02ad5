"""`sf dns` as its users type it, with PowerDNS on two servers behind firewalls; dig(1) looks at it from beside."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ..contract.cloudflare_server import FakeCloudflare
from ..contract.cloudflare_zone import FakeZone
from ..contract.name_server import NameServer
from .operator import Operator, eventually, new_operator
from .target import Fleet, Target

ZONE, SECOND, MOVED = "names.test", "second.test", "moved.test"
SETUP = ("dns", "setup", ZONE, "--provider", "powerdns", "--on", "ns1", "--secondary", "ns2")
FILE = f"""\
$ORIGIN {SECOND}.
$TTL 600
@    IN MX 10 mail
mail IN A 192.0.2.25
txt  IN TXT "two words" " and more"
"""
#: Cloudflare is a fake on a port of this machine, and so is the server of the zone's parent.
_SF = """
import sys
from serverflow_cli.providers import cloudflare
from serverflow_cli.transport import delegation
url, names, above = sys.argv[1:4]
del sys.argv[1:4]
_init = cloudflare.Cloudflare.__init__
def init(self, token, **more):
    _init(self, token, base_url=url, pauses=(0,), servers=[("ada.ns.cloudflare.test.", "127.0.0.1", int(names))])
cloudflare.Cloudflare.__init__ = init
async def parents(zone):
    return [("a.nic.test.", "127.0.0.1", int(above))]
delegation.parents = parents
from serverflow_cli.main import main
sys.exit(main())
"""


@dataclass
class Names:
    """An operator, and two servers that serve zones."""

    operator: Operator
    servers: tuple[Target, Target]

    @property
    def file(self) -> str:
        return (self.operator.fleet / "fleet.toml").read_text()

    def sf(self, *words: str, code: int = 0, input: str | None = None) -> subprocess.CompletedProcess[str]:
        done = self.operator.run("dns", *words, check=False, input=input, timeout=300)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done

    def dig(self, name: str, kind: str) -> list[str]:
        """What both servers say, from the second one, by UDP and by TCP: the same."""
        asks = [f"dig +short {how} @{at.ip} {name} {kind} | sort; echo --" for at in self.servers for how in HOW]
        said = self.servers[1].run("sh", "-c", "; ".join(asks)).stdout.split("--\n")[:-1]
        assert len(said) == 4 and len(set(said)) == 1, said
        return said[0].splitlines()

    def rcode(self, name: str) -> set[str]:
        asks = "; ".join(f"dig +noall +comments @{at.ip} {name} SOA" for at in self.servers)
        said = self.servers[1].run("sh", "-c", asks).stdout
        return {line.split("status: ")[1].split(",")[0] for line in said.splitlines() if "status: " in line}


HOW = ("+notcp", "+tcp")


@pytest.fixture(scope="module")
def bare(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Names]:
    """Two servers that let nothing in but SSH."""
    servers = fleet.start_fresh("debian12"), fleet.start_fresh("debian12")
    try:
        operator = new_operator(tmp_path_factory.mktemp("dns"))
        for number, target in enumerate(servers, 1):
            operator.add(f"ns{number}", target)
        servers[1].run("apt-get", "-qqy", "--no-install-recommends", "install", "bind9-dnsutils")
        path = operator.fleet / "fleet.toml"
        text = path.read_text() + '\n[firewall.all]\non = "all"\n'
        for number, target in enumerate(servers, 1):
            # The tests reach servers by ports of the host, the world by their addresses.
            stanza = f"[servers.ns{number}]\n"
            text = text.replace(stanza, f'{stanza}addresses = ["{target.ip}"]\npackages = ["nftables"]\n')
        path.write_text(text)
        operator.run("apply", "--yes", timeout=200)
        yield Names(operator, servers)
    finally:
        for target in servers:
            fleet.remove(target)


@pytest.fixture(scope="module")
def names(bare: Names) -> Names:
    """The zone is served, by one command from an empty file."""
    before = bare.file
    assert "a secondary is another server" in bare.sf(*SETUP[1:-1], "ns1", "--yes", code=2).stderr
    assert "first: sf dns setup" in bare.sf("record", "add", f"www.{ZONE}", "A", "192.0.2.1", "--yes", code=2).stderr
    planned = bare.sf(*SETUP[1:], "--plan").stdout
    assert "53/udp" in planned and "pdns" in planned and bare.file == before
    done = bare.sf(*SETUP[1:], "--yes")
    assert f"at your registrar, {ZONE} needs these name servers: ns1.{ZONE}., ns2.{ZONE}." in done.stderr
    return bare


def test_both_serve_it_through_their_firewalls(names: Names) -> None:
    assert names.dig(ZONE, "NS") == [f"ns1.{ZONE}.", f"ns2.{ZONE}."]
    for number, target in enumerate(names.servers, 1):
        assert names.dig(f"ns{number}.{ZONE}", "A") == [target.ip]
    file = names.file
    assert "no changes" in names.sf("setup", f"{ZONE.upper()}.", *SETUP[3:], "--yes").stdout and names.file == file


def test_records_come_change_and_go(names: Names) -> None:
    www = f"www.{ZONE}"
    names.sf("record", "add", www, "A", "192.0.2.1", "--ttl", "5m", "--yes")
    assert names.dig(www, "A") == ["192.0.2.1"]
    names.sf("record", "add", f"WWW.{ZONE}.", "a", "192.0.2.2", "--yes")
    assert names.dig(www, "A") == ["192.0.2.1", "192.0.2.2"]
    names.sf("record", "set", ZONE, "MX", f"10 {www}", "--yes")
    assert names.dig(ZONE, "MX") == [f"10 {www}."]
    rows = json.loads(names.sf("record", "list", "--json").stdout)["data"]["records"]
    assert {(row["name"], row["type"]) for row in rows} >= {(f"{www}.", "A"), (f"{ZONE}.", "MX")}
    names.sf("record", "remove", www, "A", "192.0.2.1", "--yes")
    assert names.dig(www, "A") == ["192.0.2.2"]
    names.sf("record", "remove", ZONE, "MX", "--yes")
    names.sf("record", "remove", www, "A", "--yes")
    assert names.dig(www, "A") == []
    names.sf("plan", "--check")


def test_a_zone_comes_with_its_file_and_goes(names: Names) -> None:
    done = names.sf("zone", "add", SECOND, "--yes")
    assert f"{SECOND} needs these name servers" in done.stderr
    assert names.dig(SECOND, "NS") == [f"ns1.{ZONE}.", f"ns2.{ZONE}."]
    names.sf("zone", "import", SECOND, "-", "--yes", input=FILE)
    assert names.dig(f"mail.{SECOND}", "A") == []  # so far the file has it alone
    names.sf("apply", SECOND, "--yes")
    assert names.dig(f"mail.{SECOND}", "A") == ["192.0.2.25"]
    assert names.dig(f"txt.{SECOND}", "TXT") == ['"two words" " and more"']
    shown = json.loads(names.sf("zone", "show", SECOND, "--json").stdout)["data"]
    assert {row["by"] for row in shown["records"] if row["type"] != "NS"} == {"fleet"}
    exported = names.sf("zone", "export", SECOND).stdout
    assert "192.0.2.25" in exported
    again = names.sf("zone", "import", SECOND, "-", "--yes", input=exported)
    assert "no changes" in again.stdout
    names.sf("zone", "check", SECOND)
    names.sf("zone", "remove", SECOND, "--delete", "--confirm", SECOND)
    assert SECOND not in names.file
    eventually(lambda: names.rcode(SECOND) == {"REFUSED"}, "it is gone from both")


def test_a_zone_moves_from_cloudflare(names: Names) -> None:
    with FakeCloudflare() as cloudflare:
        zone, above = cloudflare.zone(MOVED), cloudflare.zone("test")
        for name, kind, content in (
            (MOVED, "TXT", '"by hand"'),
            (f"www.{MOVED}", "A", "192.0.2.7"),
            (f"alias.{MOVED}", "CNAME", f"www.{MOVED}"),
        ):
            zone.post({"name": name, "type": kind, "content": content, "ttl": 1})
        delegate(above, *zone.name_servers)
        with NameServer(lambda: zone) as old, NameServer(lambda: above) as parent:

            def sf(*words: str, code: int = 0, input: str | None = None) -> str:
                fakes = cloudflare.url, str(old.port), str(parent.port)
                done: Any = subprocess.run(
                    [sys.executable, "-c", _SF, *fakes, "dns", *words], cwd=names.operator.fleet,
                    env=names.operator.environment(), input=input, capture_output=True, text=True, timeout=200,
                )  # fmt: skip
                assert done.returncode == code, (words, done.stdout, done.stderr)
                return str(done.stdout + done.stderr)

            sf("setup", MOVED, "--provider", "cloudflare", "--stdin", "--yes", input=cloudflare.token)
            move = ("move", MOVED, "--to", "powerdns")
            assert "has no zone" in sf(*move, "--switched", "--yes", code=2)
            told = sf(*move, "--yes")
            assert f"set the name servers to ns1.{ZONE}., ns2.{ZONE}., instead of ada.ns.cloudflare.test." in told
            assert names.dig(MOVED, "TXT") == ['"by hand"']
            assert names.dig(f"www.{MOVED}", "A") == ["192.0.2.7"]
            assert names.dig(f"alias.{MOVED}", "CNAME") == [f"www.{MOVED}."]
            refused = sf(*move, "--switched", "--yes", code=3)
            assert "a.nic.test. (127.0.0.1) still has ada.ns.cloudflare.test., bob.ns.cloudflare.test." in refused
            delegate(above, f"ns1.{ZONE}", f"ns2.{ZONE}")
            sf(*move, "--switched", "--yes")
    names.sf("record", "add", f"new.{MOVED}", "A", "192.0.2.9", "--yes")
    assert names.dig(f"new.{MOVED}", "A") == ["192.0.2.9"]
    names.sf("plan", "--check")


def delegate(above: FakeZone, *nameservers: str) -> None:
    """Let the zone's parent name these, and no others."""
    above.records.clear()
    for each in nameservers:
        above.post({"name": MOVED, "type": "NS", "content": each, "ttl": 1})
