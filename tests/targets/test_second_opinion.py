"""What other programs say of zones that `sf` made: octoDNS of the records, dnsviz and delv(1) of the chain of trust.

What octoDNS compares with is written here by hand, in its own format, and knows nothing of our code.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .operator import Operator, new_operator
from .target import Fleet, Target

# octoDNS' own affair.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ZONE, CHILD = "acme.test", "child.acme.test"
_DKIM = "v=DKIM1; k=rsa; p=" + "Ab3/" * 100

#: As an operator writes it. NAMES stands for the name servers.
_RECORDS = f"""
records = [
  {{ name = "@", type = "MX", values = ["10 mail", "20 mail.example.net."] }},
  {{ name = "@", type = "TXT", values = ["v=spf1 mx -all", 'it is "quoted" \\ here; and = there'] }},
  {{ name = "@", type = "CAA", values = ['0 issue "letsencrypt.org"', '0 iodef "mailto:ana@acme.test"'] }},
  {{ name = "mail", type = "A", values = ["192.0.2.25"] }},
  {{ name = "mail", type = "AAAA", values = ["2001:db8:0:0::25"] }},
  {{ name = "www", type = "CNAME", values = ["@"], ttl = "5m" }},
  {{ name = "*.apps", type = "A", values = ["192.0.2.2", "192.0.2.1"] }},
  {{ name = "k1._domainkey", type = "TXT", values = ["{_DKIM}"] }},
  {{ name = "_sip._tcp", type = "SRV", values = ["1 5 5060 mail"] }},
  {{ name = "_25._tcp.mail", type = "TLSA", values = ["3 1 1 {"AB" * 32}"] }},
  {{ name = "mail", type = "SSHFP", values = ["4 2 {"cd" * 32}"] }},
  {{ name = "shop", type = "HTTPS", values = ["1 . alpn=h2,h3 ipv4hint=192.0.2.7"] }},
  {{ name = "_8443._foo", type = "SVCB", values = ["1 mail port=8443"] }},
  {{ name = "7", type = "PTR", values = ["mail"] }},
  {{ name = "other", type = "NS", values = ["ns.example.net."] }},
  {{ name = "other", type = "DS", values = ["12345 13 2 {"ef" * 32}"] }},
  {{ name = "child", type = "NS", values = ["db1.acme.test.", "ns2.acme.test."] }},
]
"""

_CHILD = f"""
[dns.zones."{CHILD}"]
provider = "powerdns"
dnssec = true
records = [{{ name = "www", type = "A", values = ["192.0.2.80"] }}]
"""

#: The same as octoDNS has it (https://octodns.readthedocs.io/en/latest/records.html), with what follows from servers.
_OCTO = f"""
? ''
: - {{type: NS, ttl: 3600, values: [db1.acme.test., ns2.acme.test.]}}
  - {{type: MX, ttl: 3600, values: [
      {{preference: 10, exchange: mail.acme.test.}}, {{preference: 20, exchange: mail.example.net.}}]}}
  - {{type: TXT, ttl: 3600, values: ['v=spf1 mx -all', 'it is "quoted" \\ here\\; and = there']}}
  - {{type: CAA, ttl: 3600, values: [
      {{flags: 0, tag: issue, value: letsencrypt.org}}, {{flags: 0, tag: iodef, value: 'mailto:ana@acme.test'}}]}}
mail:
  - {{type: A, ttl: 3600, value: 192.0.2.25}}
  - {{type: AAAA, ttl: 3600, value: '2001:db8::25'}}
  - {{type: SSHFP, ttl: 3600, value: {{algorithm: 4, fingerprint_type: 2, fingerprint: {"cd" * 32}}}}}
www: {{type: CNAME, ttl: 300, value: acme.test.}}
'*.apps': {{type: A, ttl: 3600, values: [192.0.2.1, 192.0.2.2]}}
k1._domainkey: {{type: TXT, ttl: 3600, value: '{_DKIM.replace(";", chr(92) + ";")}'}}
_sip._tcp: {{type: SRV, ttl: 3600, value: {{priority: 1, weight: 5, port: 5060, target: mail.acme.test.}}}}
_25._tcp.mail: {{type: TLSA, ttl: 3600, value: {{certificate_usage: 3, selector: 1, matching_type: 1,
  certificate_association_data: {"ab" * 32}}}}}
shop: {{type: HTTPS, ttl: 3600, value: {{svcpriority: 1, targetname: '.', svcparams: {{alpn: [h2, h3],
  ipv4hint: [192.0.2.7]}}}}}}
_8443._foo: {{type: SVCB, ttl: 3600, value: {{svcpriority: 1, targetname: mail.acme.test., svcparams: {{port: 8443}}}}}}
'7': {{type: PTR, ttl: 3600, value: mail.acme.test.}}
other:
  - {{type: NS, ttl: 3600, value: ns.example.net.}}
  - {{type: DS, ttl: 3600, value: {{key_tag: 12345, algorithm: 13, digest_type: 2, digest: {"ef" * 32}}}}}
child: {{type: NS, ttl: 3600, values: [db1.acme.test., ns2.acme.test.]}}
db1: {{type: A, ttl: 300, value: $DB1}}
'*.db1': {{type: A, ttl: 300, value: $DB1}}
ns2: {{type: A, ttl: 300, value: $NS2}}
'*.ns2': {{type: A, ttl: 300, value: $NS2}}
"""

_OCTO_CONFIG = """
providers:
  ours: {class: octodns.provider.yaml.YamlProvider, directory: zones, enforce_order: false, escaped_semicolons: true}
  served: {class: octodns_bind.AxfrSource, host: HOST, key_name: KEY, key_secret: SECRET, key_algorithm: hmac-sha256}
zones: {acme.test.: {sources: [ours], targets: []}}
"""


@dataclass(frozen=True)
class Zones:
    """`db1` keeps the zones, `ns2` copies them; dnsviz and octoDNS run here, and delv on ns2."""

    operator: Operator
    db1: Target
    ns2: Target
    folder: Path

    def write(self, old: str, new: str) -> None:
        """Edit fleet.toml, and bring it."""
        path = self.operator.fleet / "fleet.toml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))
        self.operator.run("apply", "--yes", timeout=200)

    def octodns(self, old: str = "", new: str = "") -> list[str]:
        """What octoDNS would change at the primary, by a transfer with the key of our secondaries; its file has `new`
        in the place of `old`.
        """
        from octodns.manager import Manager

        yaml = _OCTO.replace("$DB1", self.db1.ip).replace("$NS2", self.ns2.ip)
        assert old in yaml
        yaml = yaml.replace(old, new, 1) if old else yaml
        secret = self.operator.run("secret", "show", "powerdns_transfer_key").stdout.strip()
        config = _OCTO_CONFIG.replace("HOST", self.db1.ip).replace("KEY", "transfer-powerdns.")
        (self.folder / "zones").mkdir(exist_ok=True)
        (self.folder / "zones/acme.test.yaml").write_text(yaml)
        (self.folder / "octodns.yaml").write_text(
            config.replace("SECRET", secret).replace("directory: zones", f"directory: {self.folder}/zones")
        )
        manager = Manager(str(self.folder / "octodns.yaml"))
        return [repr(change) for change in manager.compare(["ours"], ["served"], "acme.test.")]

    def delv(self, name: str, kind: str, server: Target) -> str:
        """What a validating resolver says that trusts the key of the upper zone."""
        tag, algorithm, digest_type, digest = self.shown(ZONE)["ds"][0].split()
        anchor = f'trust-anchors {{ {ZONE}. static-ds {tag} {algorithm} {digest_type} "{digest}"; }};\n'
        self.ns2.run("tee", "/root/anchor", input=anchor)
        asked = "delv", f"@{server.ip}", "-a", "/root/anchor", f"+root={ZONE}", name, kind
        said = self.ns2.run(*asked, check=False)
        return said.stdout + said.stderr

    def dnsviz(self) -> tuple[str, list[Any]]:
        """Of the child: how it is delegated (SECURE, INSECURE, BOGUS), and the errors of both zones."""
        servers = f"db1.{ZONE}={self.db1.ip},ns2.{ZONE}={self.ns2.ip}"
        # With a plus nothing above is asked: this world has no root.
        where = "-x", f"{ZONE}+:{servers}", "-x", f"{CHILD}:{servers}"
        probed = self._viz("probe", "-A", "-4", "-a", ZONE, *where, CHILD)
        found = json.loads(self._viz("grok", "-P", "-l", "info", input=probed))
        return found[f"{CHILD}."]["delegation"]["status"], _errors(found)

    def _viz(self, *words: str, input: str = "") -> str:
        done = subprocess.run(
            [Path(sys.executable).with_name("dnsviz"), *words], input=input, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def shown(self, zone: str) -> Any:
        return self.operator.json("dns", "zone", "show", zone)["data"]

    def checked(self, exit: int = 0) -> tuple[str, str]:
        """What `sf dns zone check` says of the child: its findings and its notes."""
        done = self.operator.run("--json", "dns", "zone", "check", CHILD, check=False)
        assert done.returncode == exit, done.stdout + done.stderr
        said = json.loads(done.stdout)
        findings = said["data"].get("findings", [])
        return " ".join(f"{each['severity']}: {each['text']}" for each in findings), " ".join(said["notes"])


def _errors(found: Any) -> list[Any]:
    """All lists of errors, however deep."""
    if isinstance(found, list):
        return [error for each in found for error in _errors(each)]
    if not isinstance(found, dict):
        return []
    return [
        *found.get("errors", []),
        *(error for key, each in found.items() if key != "errors" for error in _errors(each)),
    ]


@pytest.fixture(scope="module")
def zones(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zones]:
    folder = tmp_path_factory.mktemp("opinion")
    db1, ns2 = fleet.start_fresh("debian12"), fleet.start_fresh("debian12")
    try:
        operator = new_operator(folder)
        operator.add("db1", db1)
        operator.add("ns2", ns2)
        path = operator.fleet / "fleet.toml"
        text = path.read_text().replace("schema = 1\n", f'schema = 1\nbase_domain = "{ZONE}"\n', 1)
        for name, target in (("db1", db1), ("ns2", ns2)):
            text = text.replace(f"[servers.{name}]\n", f'[servers.{name}]\naddresses = ["{target.ip}"]\n')
        path.write_text(text)
        ns2.run("apt-get", "-qqy", "--no-install-recommends", "install", "bind9-dnsutils")
        setup = "--provider", "powerdns", "--on", "db1", "--secondary", "ns2", "--yes"
        operator.run("dns", "setup", ZONE, *setup, timeout=300)
        made = Zones(operator, db1, ns2, folder)
        made.write(f'[dns.zones."{ZONE}"]\n', f'{_CHILD}\n[dns.zones."{ZONE}"]\ndnssec = true\n{_RECORDS}')
        yield made
    finally:
        for target in (db1, ns2):
            fleet.remove(target)


def test_octodns_finds_nothing_to_change(zones: Zones) -> None:
    assert zones.octodns() == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("192.0.2.25", "192.0.2.26"),
        ("alpn: [h2, h3]", "alpn: [h2]"),
        ("and = there", "and there"),
        ("ttl: 300", "ttl: 60"),
    ],
)
def test_octodns_finds_what_differs_and_nothing_else(zones: Zones, old: str, new: str) -> None:
    """Else it would have found nothing because it looked at nothing."""
    assert len(zones.octodns(old, new)) == 1


def test_records_are_shown_with_where_they_come_from(zones: Zones) -> None:
    found = {(each["name"], each["type"]): each for each in zones.shown(ZONE)["records"]}
    assert found["mail.acme.test.", "A"]["from"] == 'dns.zones."acme.test".records[3]'
    assert found["*.db1.acme.test.", "A"]["from"] == "servers.db1"
    assert found["acme.test.", "NS"]["from"] == found["acme.test.", "NS"]["by"] == ""


@pytest.fixture(scope="module")
def ds(zones: Zones) -> str:
    """What has to be handed in for the child."""
    (found,) = zones.shown(CHILD)["ds"]
    return str(found)


def test_signed_and_not_trusted_yet(zones: Zones, ds: str) -> None:
    assert zones.shown(CHILD)["ds_at_parent"] == "missing"
    findings, _ = zones.checked()
    assert "warning: the parent has no DS" in findings and ds in findings
    for server in (zones.db1, zones.ns2):
        assert "; fully validated" in zones.delv(f"mail.{ZONE}", "A", server)
        assert "; unsigned answer" in zones.delv(f"www.{CHILD}", "A", server)
    assert zones.dnsviz() == ("INSECURE", [])


def test_a_broken_ds_is_bogus_and_the_right_one_makes_it_whole(zones: Zones, ds: str) -> None:
    broken = ds[:-1] + ("0" if ds[-1] != "0" else "1")
    line = '  { name = "child", type = "NS", '
    zones.write(line, f'  {{ name = "child", type = "DS", values = ["{broken}"] }},\n{line}')
    assert zones.shown(CHILD)["ds_at_parent"] == "stale"
    findings, _ = zones.checked(exit=11)
    assert "error: the parent's DS fits no key" in findings and broken in findings and f"it has to be {ds}" in findings
    for server in (zones.db1, zones.ns2):
        assert "resolution failed" in zones.delv(f"www.{CHILD}", "A", server)
    status, errors = zones.dnsviz()
    assert status == "BOGUS" and errors

    zones.write(broken, ds)
    assert zones.shown(CHILD)["ds_at_parent"] == "matches"
    findings, notes = zones.checked()
    assert findings == "" and f"{CHILD} is signed, and its parent has the DS" in notes
    for server in (zones.db1, zones.ns2):
        assert "; fully validated" in zones.delv(f"www.{CHILD}", "A", server)
        assert "; negative response, fully validated" in zones.delv(f"nowhere.{CHILD}", "A", server)
    assert zones.dnsviz() == ("SECURE", [])
