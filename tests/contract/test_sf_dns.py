"""`sf dns` as its users type it: fleet.toml, secrets.toml, Cloudflare's API and name servers that answer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .cloudflare_server import FakeCloudflare
from .cloudflare_zone import FakeZone
from .name_server import NameServer

#: The provider with the address of the fake instead of Cloudflare's, and its name servers.
_SF = """
import sys
from serverflow_cli.flows import zones
from serverflow_cli.providers import cloudflare
from serverflow_cli.transport import delegation
async def parents(zone):
    return []
delegation.parents = parents
_init = cloudflare.Cloudflare.__init__
def init(self, token, **more):
    _init(self, token, base_url=url, pauses=(0,), servers=[("ada.ns.test.", "127.0.0.1", int(port))])
cloudflare.Cloudflare.__init__ = init
zones.SERVED_WITHIN_S = 1.0
url, port = sys.argv[1:3]
del sys.argv[1:3]
from serverflow_cli.main import main
sys.exit(main())
"""
ACME = "acme.test"


@dataclass
class Sf:
    home: Path
    fake: FakeCloudflare
    names: NameServer

    @property
    def fleet(self) -> Path:
        return self.home / "fleet" / "fleet.toml"

    def run(self, *words: str, code: int = 0, input: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", _SF, self.fake.url, str(self.names.port), *words],
            cwd=self.fleet.parent, env={"HOME": str(self.home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            input=input, text=True, capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self.run(*words, "--json", code=code).stdout)["data"]


@pytest.fixture
def fake() -> Iterator[FakeCloudflare]:
    with FakeCloudflare() as fake:
        yield fake
        assert fake.complaints == [], "a call does not fit Cloudflare's schema"


@pytest.fixture
def zone(fake: FakeCloudflare) -> FakeZone:
    """With a record that is not ours."""
    zone = fake.zone(ACME)
    zone.post({"name": ACME, "type": "TXT", "content": '"by hand"', "ttl": 1})
    return zone


@pytest.fixture
def sf(tmp_path: Path, fake: FakeCloudflare, zone: FakeZone) -> Iterator[Sf]:
    (tmp_path / "fleet").mkdir()
    with NameServer(lambda: zone if zone in fake.zones else None) as names:
        sf = Sf(tmp_path, fake, names)
        sf.run("init", ".")
        yield sf


@pytest.fixture
def cloudflare(sf: Sf) -> Sf:
    """Set up for the zone."""
    sf.run("dns", "setup", ACME, "--provider", "cloudflare", "--stdin", "--yes", input=sf.fake.token)
    return sf


def records(zone: FakeZone) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for record in zone.records.values():
        found.setdefault((record["name"], record["type"]), []).append(str(record["content"]))
    return found


def test_a_token_is_checked_sealed_and_never_shown(sf: Sf) -> None:
    done = sf.run("dns", "setup", ACME, "--provider", "cloudflare", "--stdin", "--yes", input=sf.fake.token)
    assert 'provider = "cloudflare"' in sf.fleet.read_text() and sf.fake.token not in sf.fleet.read_text()
    assert sf.fake.token not in (sf.fleet.parent / "secrets.toml").read_text() + done.stdout + done.stderr
    assert "ada.ns.cloudflare.test" in done.stderr
    assert sf.run("secret", "show", "cloudflare_token").stdout.strip() == sf.fake.token


def test_a_token_that_is_wrong_or_may_too_little_changes_nothing(sf: Sf) -> None:
    before = sf.fleet.read_text()
    setup = ("dns", "setup", ACME, "--provider", "cloudflare", "--stdin", "--yes")
    wrong = sf.run(*setup, input="sf-test-token-0", code=7)
    assert "sf-test-token-0" not in wrong.stderr
    sf.fake.scopes = frozenset(scope for scope in sf.fake.scopes if not scope.endswith("edit"))
    assert "Zone → DNS → Edit" in sf.run(*setup, input=sf.fake.token, code=3).stderr
    assert sf.fleet.read_text() == before and not (sf.fleet.parent / "secrets.toml").exists()


def test_a_record_is_added_changed_and_removed(cloudflare: Sf, zone: FakeZone) -> None:
    cloudflare.run("dns", "record", "add", f"www.{ACME}", "A", "203.0.113.7", "--ttl", "5m", "--yes")
    cloudflare.run("dns", "record", "add", f"www.{ACME}", "a", "203.0.113.8", "--yes")
    early = cloudflare.run("dns", "record", "set", ACME, "MX", f"10 mx.{ACME}", "--yes", code=3)
    assert f"mx.{ACME}. is in this zone, and there is nothing" in early.stderr
    assert "MX" not in cloudflare.fleet.read_text() and (ACME, "MX") not in records(zone)
    cloudflare.run("dns", "record", "set", ACME, "MX", f"10 mx.{ACME}", "--yes", "--force")
    assert records(zone) == {
        (ACME, "TXT"): ['"by hand"'],
        (f"www.{ACME}", "A"): ["203.0.113.7", "203.0.113.8"],
        (ACME, "MX"): [f"mx.{ACME}"],
    }
    assert {r["comment"] for r in zone.records.values() if r["type"] != "TXT"} != {None}
    assert f'values = ["10 mx.{ACME}."]' in cloudflare.fleet.read_text()
    assert cloudflare.run("dns", "plan", "--check").returncode == 0

    cloudflare.run("dns", "record", "remove", f"www.{ACME}", "A", "203.0.113.7", "--yes")
    assert records(zone)[f"www.{ACME}", "A"] == ["203.0.113.8"]
    cloudflare.run("dns", "record", "remove", f"www.{ACME}", "A", "--yes")
    assert (f"www.{ACME}", "A") not in records(zone)
    assert "www" not in cloudflare.fleet.read_text()
    assert records(zone)[ACME, "TXT"] == ['"by hand"']  # nobody's but its maker's


def test_a_plan_writes_nothing(cloudflare: Sf, zone: FakeZone) -> None:
    before = cloudflare.fleet.read_text()
    done = cloudflare.run("dns", "record", "add", f"www.{ACME}", "A", "203.0.113.7", "--plan")
    assert f"+ rrset www.{ACME}. A" in done.stdout
    assert cloudflare.fleet.read_text() == before and len(zone.records) == 1


def test_drift_is_shown_and_mended(cloudflare: Sf, zone: FakeZone) -> None:
    cloudflare.run("dns", "record", "add", f"www.{ACME}", "A", "203.0.113.7", "--yes")
    (www,) = (record for record in zone.records.values() if record["type"] == "A")
    www["content"] = "192.0.2.66"
    assert "192.0.2.66" in cloudflare.run("dns", "plan", "--check", code=11).stdout
    checked = cloudflare.run("dns", "zone", "check").stderr
    assert f"1 record is not as fleet.toml says: sf dns plan {ACME}" in checked and "nothing to" not in checked
    cloudflare.run("dns", "apply", "--yes")
    assert records(zone)[f"www.{ACME}", "A"] == ["203.0.113.7"]
    assert cloudflare.json("dns", "zone", "list")["zones"][0]["state"] == "ok"


def test_records_of_others_stay_unless_they_are_adopted(cloudflare: Sf, zone: FakeZone) -> None:
    zone.post({"name": f"www.{ACME}", "type": "A", "content": "192.0.2.1", "ttl": 1})
    add = ("dns", "record", "set", f"www.{ACME}", "A", "203.0.113.7", "--yes")
    refused = cloudflare.run(*add, code=3)
    assert "192.0.2.1" in refused.stderr and "--adopt" in refused.stderr
    assert "www" not in cloudflare.fleet.read_text() and records(zone)[f"www.{ACME}", "A"] == ["192.0.2.1"]
    assert "fleet.toml has it" not in refused.stderr
    cloudflare.run(*add, "--adopt")
    assert records(zone)[f"www.{ACME}", "A"] == ["203.0.113.7"]


def test_a_record_of_others_is_not_removed_in_silence(cloudflare: Sf, zone: FakeZone) -> None:
    zone.post({"name": f"www.{ACME}", "type": "A", "content": "192.0.2.1", "ttl": 1})
    cloudflare.run("dns", "zone", "import", ACME, "--yes")
    remove = ("dns", "record", "remove", f"www.{ACME}", "A", "--yes")
    refused = cloudflare.run(*remove, code=3)
    assert "it would stay: 192.0.2.1" in refused.stderr and "--adopt removes it there too" in refused.stderr
    assert "www" in cloudflare.fleet.read_text() and (f"www.{ACME}", "A") in records(zone)
    cloudflare.run(*remove, "--adopt")
    assert "www" not in cloudflare.fleet.read_text() and records(zone) == {(ACME, "TXT"): ['"by hand"']}


def test_names_are_taken_as_people_write_them(cloudflare: Sf, zone: FakeZone) -> None:
    cloudflare.run("dns", "record", "add", f"WWW.{ACME.upper()}.", "A", "192.0.2.1", "--yes")
    assert (f"www.{ACME}", "A") in records(zone) and 'name = "www"' in cloudflare.fleet.read_text()
    again = cloudflare.run("dns", "record", "add", f"www.{ACME}", "A", "192.0.2.1", "--yes", code=2)
    assert f"sf dns apply {ACME}" in again.stderr
    assert cloudflare.json("dns", "zone", "show", f"{ACME.upper()}.")["zone"] == ACME
    short = cloudflare.run("dns", "record", "add", "www", "A", "192.0.2.1", "--yes", code=2)
    assert f"www.{ACME}" in short.stderr
    split = cloudflare.run("dns", "record", "set", ACME, "MX", "10", f"mx.{ACME}", "--yes", code=2)
    assert f"'10 mx.{ACME}', in quotes" in split.stderr
    idn = cloudflare.run("dns", "zone", "add", "bücher.test", "--yes", code=2)
    assert "xn--" in idn.stderr


def test_what_is_there_already_is_told(sf: Sf) -> None:
    done = sf.run(
        "dns", "setup", f"{ACME.upper()}.", "--provider", "cloudflare", "--stdin", "--yes", input=sf.fake.token
    )
    assert f"(1 of 1 rrsets): sf dns zone import {ACME}" in done.stderr
    again = sf.run("dns", "setup", ACME, "--provider", "cloudflare", "--stdin", "--yes", input=sf.fake.token)
    assert "no changes" in again.stdout
    nowhere = sf.run("dns", "move", ACME, "--to", "own", "--yes", code=2)
    assert f"sf dns setup {ACME} --provider powerdns --on SERVER" in nowhere.stderr


def test_it_is_done_only_when_the_name_servers_say_so(cloudflare: Sf, zone: FakeZone) -> None:
    cloudflare.names.late = lambda name: name.startswith("www")
    add = ("dns", "record", "add", f"www.{ACME}", "A", "203.0.113.7", "--yes")
    done = cloudflare.run(*add, "--wait", "0", code=13)
    assert "ada.ns.test. (127.0.0.1, udp)" in done.stderr and "it has nothing there" in done.stderr
    assert "done" not in done.stdout
    assert cloudflare.run("dns", "zone", "check", code=11).returncode == 11
    cloudflare.names.late = lambda name: False
    cloudflare.run("dns", "zone", "check")


def test_too_much_at_once_is_refused(cloudflare: Sf, zone: FakeZone) -> None:
    for number in range(10):
        zone.post({"name": f"n{number}.{ACME}", "type": "A", "content": f"192.0.2.{number}", "ttl": 1})
    stanza = f'[dns.zones."{ACME}"]\n'
    cloudflare.fleet.write_text(cloudflare.fleet.read_text().replace(stanza, f"{stanza}complete = true\n"))
    refused = cloudflare.run("dns", "apply", "--yes", code=3)
    assert "removes 11 of the 11" in refused.stderr and "--force" in refused.stderr and len(zone.records) == 11
    cloudflare.run("dns", "apply", "--yes", "--force")
    assert records(zone) == {}


def test_a_zone_is_exported_and_imported(cloudflare: Sf, zone: FakeZone) -> None:
    zone.post({"name": f"www.{ACME}", "type": "A", "content": "192.0.2.1", "ttl": 1})
    exported = cloudflare.run("dns", "zone", "export", ACME).stdout
    assert "192.0.2.1" in exported
    cloudflare.run("dns", "zone", "import", ACME, "--yes")
    assert {row["name"] for row in cloudflare.json("dns", "record", "list")["records"]} == {f"www.{ACME}.", f"{ACME}."}
    assert cloudflare.run("dns", "plan", "--check").returncode == 0  # equal, and left alone
    cloudflare.run(
        "dns", "zone", "import", ACME, "-", "--yes", input=f"$ORIGIN {ACME}.\nextra 60 IN AAAA 2001:db8::1\n"
    )
    assert '"2001:db8::1"' in cloudflare.fleet.read_text()


def test_a_zone_is_made_and_deleted(cloudflare: Sf) -> None:
    cloudflare.run("dns", "zone", "add", "new.test", "--yes")
    assert [zone.name for zone in cloudflare.fake.zones] == [ACME, "new.test"]
    assert "new.test" in cloudflare.run("dns", "zone", "remove", "new.test", "--delete", "--plan").stdout
    cloudflare.run("dns", "zone", "remove", "new.test", "--delete", "--yes", code=2)
    cloudflare.run("dns", "zone", "remove", "new.test", "--delete", "--confirm", "new.test")
    assert [zone.name for zone in cloudflare.fake.zones] == [ACME]
    assert "new.test" not in cloudflare.fleet.read_text()


def test_a_name_in_no_zone_and_a_value_that_is_none(cloudflare: Sf) -> None:
    assert (
        "is in no zone"
        in cloudflare.run("dns", "record", "add", "www.other.test", "A", "192.0.2.1", "--yes", code=2).stderr
    )
    cloudflare.run("dns", "record", "add", f"www.{ACME}", "A", "300.1.1.1", "--yes", code=2)
    cloudflare.run("dns", "record", "add", f"www.{ACME}", "SPF", "x", "--yes", code=2)
    cloudflare.run("dns", "zone", "show", "other.test", code=2)


def test_a_server_brings_its_names_along(cloudflare: Sf, zone: FakeZone) -> None:
    text = cloudflare.fleet.read_text().replace("schema = 1\n", f'schema = 1\nbase_domain = "{ACME}"\n', 1)
    cloudflare.fleet.write_text(text + '\n[servers.web1]\nhost = "203.0.113.7"\n')
    cloudflare.run("dns", "apply", "--yes")
    assert records(zone)[f"web1.{ACME}", "A"] == records(zone)[f"*.web1.{ACME}", "A"] == ["203.0.113.7"]
    cloudflare.run("server", "rename", "web1", "web2", "--yes")
    assert {name for name, kind in records(zone) if kind == "A"} == {f"web2.{ACME}", f"*.web2.{ACME}"}
