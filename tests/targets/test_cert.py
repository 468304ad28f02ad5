"""Certificates on real servers: an authority that validates, name servers that are asked, nginx that serves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .areas import changed, refused, run, told
from .authority import DIRECTORY, DOMAIN, KEY_NAME, NAME, SECRET, ZONE, House
from .authority import house as house_of
from .operator import eventually
from .target import Fleet, Target

_INSTALLED = "/etc/serverflow/certs/web1"
_STATE = "/var/lib/serverflow/cert/web1.json"
_WISH = "/etc/serverflow/cert/web1.json"
_DROP_INS = "/run/systemd/system/serverflow-cert.timer.d"
#: Else its own first turn may be on its way just when a test starts one, which then is the same.
_QUIET = "[Timer]\nOnActiveSec=\nOnActiveSec=1d\n"
_NGINX = """
set -e
apt-get -qqy --no-install-recommends install nginx-light >/dev/null
cat > /etc/nginx/conf.d/test.conf <<'CONF'
server {
    listen 443 ssl http2;
    access_log /root/access.log;
    server_name web1.example.test *.web1.example.test;
    ssl_certificate /etc/serverflow/certs/web1/fullchain.pem;
    ssl_certificate_key /etc/serverflow/certs/web1/privkey.pem;
    location / { return 200 "this is $host"; }
}
CONF
systemctl restart nginx
"""


@pytest.fixture(scope="module")
def house(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """web1 has a certificate, and nginx serves it."""
    with house_of(fleet, tmp_path_factory.mktemp("cert")) as found:
        found.web1.run("sh", "-c", f"mkdir -p {_DROP_INS}; cat > {_DROP_INS}/quiet.conf", input=_QUIET)
        first = changed(found.operator, *wish(found), input=SECRET)
        assert first[0].startswith("create package certbot bind9-dnsutils")
        assert first[1:] == [
            "create file /etc/serverflow/cert/web1.secret",
            "create file /etc/serverflow/cert/web1.json",
            "create unit-file serverflow-cert.timer",
            "update unit serverflow-cert.timer",
        ]
        # Nobody serves it yet: that is said, and the certificate is there for whoever will.
        assert "is not served" in issue(found, exit=6)["error"]["message"]
        assert shown(found)["not_served"] == f"{NAME}:443: connection refused"
        found.web1.run("sh", "-c", _NGINX)
        assert issue(found)["data"]["served"]
        yield found


def wish(house: House, *more: str, name: str = "web1", domain: str = NAME) -> list[str]:
    """cert.set for the domain and all below it."""
    words = [
        f"name={name}", f"names={domain}", f"names=*.{domain}", f"directory={DIRECTORY}", "method=tsig",
        f"zone={ZONE}", f"server={house.primary.target.ip}", f"key={KEY_NAME}",
    ]  # fmt: skip
    served = ["reload=nginx", f"verify={NAME}:443"] if name == "web1" else []
    return ["action", "run", "cert.set", "--secret-stdin", "secret", "--yes", *words, *served, *more]


def issue(house: House, *words: str, exit: int = 0, verb: str = "issue") -> dict[str, Any]:
    return run(house.operator, "action", "run", f"cert.{verb}", "--yes", "name=web1", *words, exit=exit)


def shown(house: House, on: str = "web1") -> dict[str, Any]:
    (found,) = run(house.operator, "action", "run", "cert.list", on=on)["data"]["certificates"]
    return dict(found)


def turn(house: House) -> None:
    """What the timer starts."""
    house.web1.run("systemctl", "start", "serverflow-cert.service")


def remember(house: House, **fields: Any) -> None:
    """As if the server had known that."""
    known = {**json.loads(house.web1.run("cat", _STATE).stdout), **fields}
    house.web1.run("sh", "-c", f"cat > {_STATE}", input=json.dumps(known))


def opened(house: House) -> dict[str, str]:
    """Alerts that are open, by key, with how often."""
    found = run(house.operator, "notify", "status")["data"]["open"]
    return {each["key"]: each["severity"] for each in found if each["key"].startswith("cert.")}


def key_of(target: Target) -> str:
    return target.run("cat", f"{_INSTALLED}/privkey.pem").stdout


def test_a_client_gets_it_for_the_name_and_all_below(house: House) -> None:
    assert house.curl(NAME, "--http2") == f"this is {NAME}"
    assert house.curl(f"any.{NAME}") == f"this is any.{NAME}"
    assert house.curl(f"deeper.any.{NAME}") == ""
    found = shown(house)
    assert (found["names"], found["why"], found["served"]) == ([NAME, f"*.{NAME}"], "ari", True)
    assert house.served() == int(found["serial"], 16)
    checked = run(house.operator, "action", "run", "cert.check", "name=web1")["data"]
    assert checked["endpoints"] == [{"endpoint": f"{NAME}:443", "problem": ""}]
    # Nothing of the challenges stays.
    assert house.primary.texts(ZONE) == []


def test_the_key_is_roots_and_stays_there(house: House) -> None:
    modes = house.web1.run("stat", "-L", "-c", "%a %U %n", f"{_INSTALLED}/privkey.pem", f"{_INSTALLED}/fullchain.pem")
    assert modes.stdout.split("\n")[:2] == [
        f"600 root {_INSTALLED}/privkey.pem",
        f"644 root {_INSTALLED}/fullchain.pem",
    ]
    secrets = [SECRET, *(line for line in key_of(house.web1).splitlines() if "-" not in line)]
    told_to = house.web1.run(
        "sh", "-c", "cat /var/lib/serverflow/receipts* /var/lib/serverflow/ops/*/* | tr -cd '[:print:]\\n'; journalctl"
    )
    at_home = "".join(
        path.read_bytes().decode("utf-8", "replace")
        for folder in (house.operator.home, house.operator.fleet)
        for path in Path(folder).rglob("*")
        if path.is_file()
    )
    assert "cert.issue" in told_to.stdout and "cert.issue" in at_home
    for secret in secrets:
        assert secret not in told_to.stdout and secret not in at_home
    # Nor do those who talk to strangers have it.
    assert (
        house.web1.run("sh", "-c", f"grep -rl '{secrets[1]}' /var/lib/serverflow /run 2>/dev/null; true").stdout == ""
    )


#: Runs a shell command where certbot runs.
_AS_CERTBOT = """
import subprocess, sys
sys.path.insert(0, "/usr/local/libexec/serverflow/current")
import certsandbox
open("/run/none", "w").close()
lines = certsandbox.properties("/var/lib/serverflow/acme/web1", "/run/none")
argv = ["systemd-run", "--wait", "--pipe", "--collect", "--quiet", *(f"--property={line}" for line in lines)]
subprocess.run([*argv, "--", "/bin/sh", "-c", sys.argv[1]], stdin=subprocess.DEVNULL)
"""


def test_whoever_talks_to_strangers_has_nothing_of_ours(house: House) -> None:
    def said(command: str) -> str:
        return house.web1.run("/usr/bin/python3", "-IS", "-c", _AS_CERTBOT, f"{command} 2>/dev/null; true").stdout

    assert said("id -un") == "serverflow-read\n"
    assert said("grep CapEff /proc/self/status").split() == ["CapEff:", "0" * 16]
    for path in (
        f"{_INSTALLED}/privkey.pem",
        _WISH,
        f"{_WISH[:-5]}.secret",
        "/var/lib/serverflow/identity",
        "/etc/shadow",
    ):
        assert house.web1.run("cat", path).stdout and said(f"cat {path}") == ""
    assert said("for f in /etc /usr /var/lib /var/lib/serverflow /root; do touch $f/x && echo $f; done") == ""
    assert said("ls /var/lib/serverflow") == "acme\n" and "config" in said("ls /var/lib/serverflow/acme/*")
    assert said("systemctl stop nginx && echo stopped") == "" and house.served()


def test_renewed_by_force_with_another_key_despite_lost_nonces(house: House) -> None:
    serial, key = house.served(), key_of(house.web1)
    renewed = issue(house, verb="renew")
    assert told(renewed) == ["run certificate web1"]
    assert house.served() != serial and key_of(house.web1) != key
    assert house.curl(NAME) == f"this is {NAME}"
    log = house.ca.run("journalctl", "-u", "pebble", "-o", "cat").stdout
    assert "reject 10% of good nonces" in log, "one order has a dozen requests"
    versions = house.web1.run("ls", "/etc/serverflow/certs/.versions").stdout.split()
    assert len(versions) <= 2


def test_nothing_is_done_before_its_time(house: House) -> None:
    serial = house.served()
    turn(house)
    assert issue(house)["data"]["failures"] == 0
    assert house.served() == serial and opened(house) == {}


def test_renewed_when_the_authority_says_so(house: House) -> None:
    """The authority has to revoke it, and says by ARI that it should be replaced now: here because of a lost key."""
    serial = house.served()
    script = (
        f"cd {_INSTALLED}; certbot revoke -n --server {DIRECTORY} --cert-path fullchain.pem --key-path privkey.pem"
        " --reason keycompromise --no-delete-after-revoke --config-dir /tmp/c --work-dir /tmp/c --logs-dir /tmp/c"
    )
    house.web1.run("sh", "-c", script)
    turn(house)
    assert house.served() == serial, "it asks no more often than it may"
    remember(house, ask_again=0)
    turn(house)
    assert house.served() == serial, "nor is a young one renewed, or it would be each hour"
    remember(house, installed_at=0)
    turn(house)
    assert house.served() != serial
    assert opened(house) == {}


def test_a_third_of_its_life_is_left(house: House) -> None:
    """Of a certificate whose authority offers no ARI; the state says that it was issued long ago."""
    serial, known = house.served(), shown(house)
    life = (known["not_after"] - known["not_before"]) // 1000
    now = int(house.web1.run("date", "+%s").stdout)
    late = {"ari_id": "", "picked": 0, "window": [0, 0], "not_before": now - life * 2 // 3 - 60}
    remember(house, **late, not_after=late["not_before"] + life)
    assert shown(house)["why"] == "third"
    turn(house)
    assert house.served() != serial


def test_a_failed_validation_is_told_and_the_old_one_is_served(house: House) -> None:
    serial = house.served()
    house.pebble(dns="127.0.0.1:9")
    failed = issue(house, "force=true", exit=6)
    assert "_acme-challenge" in failed["error"]["message"] or "DNS" in failed["error"]["message"]
    assert SECRET not in json.dumps(failed)
    assert opened(house) == {"cert.failed/web1": "error"} and house.served() == serial
    known = shown(house)
    assert known["failures"] == 1 and known["retry_at"] > known["attempted_at"] + 50 * 60_000
    assert house.primary.texts(ZONE) == []
    house.pebble()  # which has forgotten our account as well
    issue(house, "force=true")
    assert opened(house) == {} and house.served() != serial


def test_a_secondary_that_lags_is_waited_for(house: House) -> None:
    house.secondary.target.run("systemctl", "stop", "pdns")
    process = house.operator.start("--json", "action", "run", "cert.renew", "--yes", "name=web1", "--on", "web1")
    eventually(lambda: house.primary.texts(ZONE) != [], "the primary has the challenge", 60)
    validated = "journalctl", "-u", "pebble", "-o", "cat", "--since", "-5s"
    assert process.poll() is None and "Attempting to validate" not in house.ca.run(*validated).stdout
    house.secondary.target.run("systemctl", "start", "pdns")
    house.secondary.api("PUT", f"/zones/{ZONE}./axfr-retrieve")
    house.secondary.api("PUT", f"/zones/{DOMAIN}./axfr-retrieve")
    said, errors = process.communicate(timeout=180)
    assert process.returncode == 0, said + errors


def test_an_authority_that_is_down_is_told_and_asked_again(house: House) -> None:
    serial = house.served()
    house.web1.run("ip", "route", "add", "prohibit", house.ca.ip)
    remember(house, made_for="")
    turn(house)
    assert opened(house) == {"cert.failed/web1": "error"} and house.served() == serial
    house.web1.run("ip", "route", "del", "prohibit", house.ca.ip)
    turn(house)
    assert opened(house) == {"cert.failed/web1": "error"}, "not before the pause is over"
    remember(house, retry_at=0)
    turn(house)
    assert opened(house) == {} and house.served() != serial


def test_a_challenge_that_leads_elsewhere_never_reaches_the_authority(house: House) -> None:
    name = f"_acme-challenge.{NAME}."
    house.primary.put(DOMAIN, name, "CNAME", f"elsewhere.{DOMAIN}.")
    try:
        failed = issue(house, "force=true", exit=6)
    finally:
        house.primary.put(DOMAIN, name, "CNAME", f"{ZONE}.")
    assert f"is not in the zone {ZONE}" in failed["error"]["message"]
    issue(house, "force=true")
    assert opened(house) == {}


def test_the_timer_fires(house: House) -> None:
    assert house.web1.run("systemctl", "is-enabled", "serverflow-cert.timer").stdout == "enabled\n"
    serial = house.served()
    remember(house, made_for="")
    soon = "[Timer]\nOnActiveSec=1s\nRandomizedDelaySec=0\nAccuracySec=100ms\n"
    again = "systemctl daemon-reload; systemctl restart serverflow-cert.timer"
    house.web1.run("sh", "-c", f"cat > {_DROP_INS}/soon.conf; {again}", input=soon)
    eventually(lambda: house.served() != serial, "the timer renewed it", 90)
    house.web1.run("sh", "-c", f"rm {_DROP_INS}/soon.conf; {again}")
    eventually(lambda: shown(house)["served"], "it has looked", 60)


def test_a_broken_nginx_is_not_reloaded_and_told(house: House) -> None:
    serial = house.served()
    broken = "/etc/nginx/conf.d/broken.conf"
    house.web1.run("sh", "-c", f"echo 'no such directive;' > {broken}")
    failed = issue(house, "force=true", exit=6)
    assert "not served" in failed["error"]["message"] and "no" in failed["error"]["message"]
    assert opened(house) == {"cert.not_served/web1": "error"} and house.served() == serial
    assert house.curl(NAME) == f"this is {NAME}"
    house.web1.run("rm", broken)
    turn(house)
    assert opened(house) == {} and house.served() != serial


def test_what_nginx_would_not_start_with_is_taken_back(house: House) -> None:
    """Somebody has copied the key, so the next certificate does not go with it."""
    serial, link = house.served(), house.web1.run("readlink", _INSTALLED).stdout
    pinned = "/etc/nginx/conf.d/pinned.conf"
    house.web1.run("cp", f"{_INSTALLED}/privkey.pem", "/root/copied.pem")
    conf = f"ssl_certificate {_INSTALLED}/fullchain.pem; ssl_certificate_key /root/copied.pem;"
    house.web1.run("sh", "-c", f"echo 'server {{ listen 8443 ssl; {conf} }}' > {pinned}; nginx -t -q")
    failed = issue(house, "force=true", exit=6)
    assert "put back" in failed["error"]["message"] and "key values mismatch" in failed["error"]["message"]
    assert opened(house) == {"cert.failed/web1": "error"} and shown(house)["failures"] == 1
    assert house.web1.run("readlink", _INSTALLED).stdout == link
    house.web1.run("systemctl", "restart", "nginx")
    assert house.served() == serial
    turn(house)
    assert opened(house) == {}, "the one that counts is good, and served"
    house.web1.run("rm", pinned, "/root/copied.pem")
    issue(house, "force=true")
    assert house.served() != serial and opened(house) == {}


def test_killed_in_the_middle_the_old_one_is_served_and_the_next_turn_works(house: House) -> None:
    serial = house.served()
    remember(house, made_for="")
    house.secondary.target.run("systemctl", "stop", "pdns")
    house.web1.run("systemctl", "start", "--no-block", "serverflow-cert.service")
    eventually(lambda: house.primary.texts(ZONE) != [], "the challenge is there", 60)
    house.web1.run("systemctl", "kill", "-s", "KILL", "serverflow-cert.service")
    running = "systemctl", "is-active", "serverflow-acme.service"
    eventually(lambda: house.web1.run(*running, check=False).stdout != "active\n", "its order ends with it")
    house.secondary.target.run("systemctl", "start", "pdns")
    eventually(
        lambda: house.web1.run("systemctl", "is-active", "serverflow-cert", check=False).stdout != "activating\n",
        "ended",
    )
    assert house.served() == serial and house.primary.texts(ZONE) != []
    for zone in (ZONE, DOMAIN):
        house.secondary.api("PUT", f"/zones/{zone}./axfr-retrieve")
    house.web1.run("systemctl", "reset-failed", "serverflow-cert.service", check=False)
    turn(house)
    assert house.served() != serial and house.primary.texts(ZONE) == []


def test_what_was_changed_by_hand_is_repaired_and_what_is_damaged_is_told(house: House) -> None:
    house.web1.run("sh", "-c", f"echo nonsense > {_WISH}")
    turn(house)
    assert opened(house) == {"cert.failed/web1/settings": "error"} and "damaged" in shown(house)["problem"]
    assert changed(house.operator, *wish(house), input=SECRET) == ["update file /etc/serverflow/cert/web1.json"]
    turn(house)
    assert opened(house) == {}


def test_a_rehearsal_touches_nothing(house: House) -> None:
    """At another directory, as far as the server can tell, with an account of its own."""
    serial = house.served()
    run(house.operator, *wish(house, f"rehearsal=https://{house.ca.ip}:14000/dir"), input=SECRET)
    turn(house)
    known = shown(house)
    assert house.served() == serial and known["rehearsed_at"] > 0 and known["rehearsal"] == ""
    assert opened(house) == {} and house.primary.texts(ZONE) == []
    assert len(house.web1.run("ls", "/var/lib/serverflow/acme/web1").stdout.split()) == 2
    remember(house, rehearsed_at=0)
    house.web1.run("ip", "route", "add", "prohibit", house.ca.ip)
    turn(house)
    house.web1.run("ip", "route", "del", "prohibit", house.ca.ip)
    assert opened(house) == {"cert.failed/web1/rehearsal": "warning"} and shown(house)["failures"] == 0
    remember(house, rehearsed_at=0)
    turn(house)
    assert opened(house) == {}
    run(house.operator, *wish(house), input=SECRET)


@pytest.mark.parametrize("release", ["debian11", "debian13"])
def test_other_releases(house: House, fleet: Fleet, release: str) -> None:
    name, target = f"on{release}", fleet.start_fresh(release)
    try:
        house.operator.add(name, target)
        house.trusted_by(target)
        domain = f"{release}.{DOMAIN}"
        house.primary.put(DOMAIN, f"_acme-challenge.{domain}.", "CNAME", f"{ZONE}.")
        assert run(house.operator, *wish(house, name="own", domain=domain), on=name, input=SECRET)["outcome"] == "done"
        issued = run(house.operator, "action", "run", "cert.issue", "--yes", "name=own", on=name)
        assert issued["data"]["names"] == [domain, f"*.{domain}"] and issued["data"]["path"]
        text = target.run("openssl", "x509", "-noout", "-text", "-in", "/etc/serverflow/certs/own/fullchain.pem").stdout
        assert f"DNS:{domain}" in text and f"DNS:*.{domain}" in text and "prime256v1" in text
    finally:
        house.operator.run("server", "remove", name, "--yes", check=False)
        fleet.remove(target)


def test_an_account_that_is_bound(house: House) -> None:
    """To an account with the authority that somebody has opened (EAB)."""
    key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    before = house.web1.run("cat", _WISH).stdout
    house.pebble(bound={"kid-1": key})
    assert "external account binding" in issue(house, "force=true", exit=6)["error"]["message"]
    bound = {**json.loads(before), "eab_key_id": "kid-1"}
    house.web1.run("sh", "-c", f"cat > {_WISH}", input=json.dumps(bound))
    credential = {"v": 1, "secret": SECRET, "eab_hmac_key": key}
    house.web1.run("sh", "-c", f"cat > {_WISH[:-5]}.secret", input=json.dumps(credential))
    issue(house, "force=true")
    said = house.web1.run(
        "sh", "-c", "grep -r zWNDZM6 /var/lib/serverflow /run/serverflow; journalctl | grep zWNDZM6; true"
    )
    assert said.stdout == ""
    house.pebble()
    run(house.operator, *wish(house), input=SECRET)
    issue(house, "force=true")


def test_refusals(house: House) -> None:
    def said(*more: str) -> str:
        return refused_set(house, *more)

    assert "none of those that are reloaded" in said("reload=ssh")
    assert "not HOST:PORT" in said("verify=nowhere")
    assert "not the https URL" in said("rehearsal=http://plain.example.test/")
    assert "sf cert add makes one" in refused(house.operator, "action", "run", "cert.issue", "--yes", "name=other")


def refused_set(house: House, *more: str) -> str:
    server = run(house.operator, *wish(house, *more), input=SECRET, exit=6)
    assert server["changes"] == []
    return str(server["error"]["message"])


def test_revoked_then_replaced_then_removed(house: House) -> None:
    """Last: nothing is left of it."""
    serial = house.served()
    revoked = issue(house, "reason=superseded", "--confirm", "web1", verb="revoke")
    assert told(revoked) == ["run certificate web1"] and revoked["data"]["revoked"] == ""
    assert house.served() != serial and opened(house) == {}
    removed = run(
        house.operator, "action", "run", "cert.remove", "--yes", "--confirm", "web1", "name=web1", "purge=true"
    )
    assert "delete certificate web1" in told(removed)
    gone: Callable[[str], str] = lambda path: house.web1.run("ls", "-A", path, check=False).stdout  # noqa: E731
    assert gone("/etc/serverflow/cert") == gone("/var/lib/serverflow/cert") == gone("/var/lib/serverflow/acme") == ""
    assert gone("/etc/serverflow/certs") == ".versions\n" and gone("/etc/serverflow/certs/.versions") == ""
    assert house.web1.run("systemctl", "is-enabled", "serverflow-cert.timer", check=False).returncode != 0
