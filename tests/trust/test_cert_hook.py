"""What certbot is started with, what its hook does to DNS, and that a hook that fails lets nobody ask the authority."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import certacme
import certdns
import certhook
import certsandbox
import certspread
import store
from certdns import Failed
from serverflow_actions.kit.certificate import Credential, Wish

ZONE = "web1.acme.example.net"
SECRET = "c2VjcmV0LXRzaWcta2V5LTAxMjM0NTY3ODk="
TSIG = Wish(
    "web1", ("web1.example.net", "*.web1.example.net"), "https://ca.example/dir", zone=ZONE,
    servers=("192.0.2.1:53", "[2001:db8::1]:5353"), key="web1-acme",
)  # fmt: skip
CREDENTIAL = Credential(SECRET)


# --- certbot ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def certbot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name that notes its arguments; what it does then is for the test to say."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    does(tmp_path, 'for each; do case $each in --fullchain-path=*) echo CHAIN > "${each#*=}";; esac; done')
    monkeypatch.setattr(certdns, "change", lambda *_: None)
    return tmp_path


def does(folder: Path, script: str) -> None:
    program = folder / "bin/certbot"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/argv\n{script}\n')
    program.chmod(0o755)


def order(wish: Wish = TSIG, credential: Credential = CREDENTIAL, **more: Any) -> certacme.Order:
    """As it comes out of a credential of systemd."""
    do, directory = more.pop("do", "issue"), more.pop("directory", wish.directory)
    made = certacme.order(do, wish, credential, directory, csr="CSR", **more)
    return certacme.Order(json.loads(json.dumps(made)))


def argv(folder: Path) -> list[str]:
    return (folder / "argv").read_text().splitlines()


def test_what_certbot_gets(certbot: Path) -> None:
    assert certacme.perform(order(), str(certbot)) == {"ok": True, "chain": "CHAIN\n"}
    words = argv(certbot)
    assert words[0] == "certonly" and "--non-interactive" in words
    assert f"--server={TSIG.directory}" in words and "--authenticator=manual" in words
    assert any(word.startswith("--csr=") for word in words), "the key stays where it is"
    for kind in ("config", "work", "logs"):
        (place,) = (word for word in words if word.startswith(f"--{kind}-dir="))
        assert place.startswith(f"--{kind}-dir={certbot}/"), "not the distribution's own"
    assert "--register-unsafely-without-email" in words and SECRET not in str(words)


def test_the_account_binding_is_in_a_file_and_for_its_authority_alone(certbot: Path) -> None:
    wish, credential = TSIG._replace(eab_key_id="kid-1"), CREDENTIAL._replace(eab_hmac_key="hmac-key-0123456789")
    does(certbot, f'for each; do case $each in --config=*) cat "${{each#*=}}" > {certbot}/ini;; esac; done')
    certacme.perform(order(wish, credential), str(certbot))
    assert (certbot / "ini").read_text() == "eab-kid = kid-1\neab-hmac-key = hmac-key-0123456789\n"
    assert "hmac-key" not in str(argv(certbot))
    certacme.perform(order(wish, credential, directory="https://staging.example/dir"), str(certbot))
    assert not [word for word in argv(certbot) if word.startswith("--config=")]


def test_another_authority_or_address_is_another_account() -> None:
    accounts = {
        certacme.account_of(wish, directory)
        for wish in (TSIG, TSIG._replace(email="ops@example.net"), TSIG._replace(eab_key_id="kid"))
        for directory in (TSIG.directory, "https://staging.example/dir")
    }
    assert len(accounts) == 5  # the binding is for its own directory


def test_a_revocation_is_by_the_account(certbot: Path) -> None:
    does(certbot, "exit 0")
    (certbot / "0123456789abcdef").mkdir()
    found = order(do="revoke", certificate="CERT", reason="superseded", account="0123456789abcdef")
    assert certacme.perform(found, str(certbot)) == {"ok": True}
    words = argv(certbot)
    assert words[0] == "revoke" and "--reason=superseded" in words and "--no-delete-after-revoke" in words
    assert f"--config-dir={certbot}/0123456789abcdef/config" in words
    assert not [word for word in words if "key-path" in word]


#: What is in certbot's log, and nowhere else: the words that it prints are without the type.
LOGGED = (
    'for each; do case $each in --logs-dir=*) d="${{each#*=}}";; esac; done; mkdir -p "$d"; '
    "printf 'Traceback (most recent call last):\n{} :: x :: y\n' >> $d/letsencrypt.log; "
    "echo 'An unexpected error occurred:'; echo 'Certificate already revoked'; exit 1"
)
_ERROR = "urn:ietf:params:acme:error:"


def test_what_was_revoked_already_is_revoked(certbot: Path) -> None:
    """Cut off between the authority's yes and ours, it is asked for once more."""
    (certbot / "0123456789abcdef").mkdir()
    found = order(do="revoke", certificate="CERT", account="0123456789abcdef")
    does(certbot, LOGGED.format(f"acme.messages.Error: {_ERROR}alreadyRevoked"))
    assert certacme.perform(found, str(certbot)) == {"ok": True}
    does(certbot, "echo 'it does not start'; exit 1")
    told = certacme.perform(found, str(certbot))
    assert told == {"ok": False, "said": "it does not start"}, "the log is of the run before"
    for other in (f"acme.messages.Error: {_ERROR}unauthorized", f"Retrying after {_ERROR}alreadyRevoked"):
        (certbot / "0123456789abcdef/logs/letsencrypt.log").unlink(missing_ok=True)
        does(certbot, LOGGED.format(other))
        assert not certacme.perform(found, str(certbot))["ok"]


def test_its_words_without_noise_and_secrets(certbot: Path) -> None:
    does(
        certbot,
        "echo Saving debug log to /x; echo 'Domain: web1.example.net'; echo 'Detail: no TXT record'; "
        f"echo 'key {SECRET} is bad'; echo 'too many failures, retry after 2026-11-23 09:00:00 UTC'; exit 1",
    )
    told = certacme.perform(order(), str(certbot))
    assert told["said"].startswith("Domain: web1.example.net Detail: no TXT record key … is bad")
    assert told["retry_after"] == "2026-11-23T09:00:00Z" and not told["ok"]


_POOL = "HTTPSConnectionPool(host='acme.example.test', port=14000): "
_MAX = f"{_POOL}Max retries exceeded with url: /dir (Caused by "
_OBJECT = "<urllib3.connection.HTTPSConnection object at 0x7f4f8aa1ba10>"
_UNTRUSTED = (
    f"requests.exceptions.SSLError: {_MAX}SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] "
)


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        # certbot 1.12 and 2.1, with urllib3 1.26
        (
            f"requests.exceptions.ConnectionError: {_MAX}NewConnectionError('{_OBJECT}: Failed to establish a new "
            "connection: [Errno -2] Name or service not known'))",
            "cannot be resolved",
        ),
        (
            f"requests.exceptions.ConnectionError: {_MAX}NewConnectionError('{_OBJECT}: Failed to establish a new "
            "connection: [Errno -3] Temporary failure in name resolution'))",
            "cannot be resolved",
        ),
        # certbot 4.0, with urllib3 2.3
        (
            f'requests.exceptions.ConnectionError: {_MAX}NameResolutionError("{_OBJECT}: Failed to resolve '
            "'acme.example.test' ([Errno -5] No address associated with hostname)\"))",
            "cannot be resolved",
        ),
        ("ValueError: Requesting acme.example.test/dir: Connection refused", "refuses the connection"),
        ("ValueError: Requesting acme.example.test/dir: Network is unreachable", "cannot be reached from here"),
        ("ValueError: Requesting acme.example.test/dir: No route to host", "cannot be reached from here"),
        (
            f"requests.exceptions.ConnectTimeout: {_MAX}ConnectTimeoutError({_OBJECT}, 'Connection to "
            "acme.example.test timed out. (connect timeout=45)'))",
            "does not answer",
        ),
        (f"requests.exceptions.ReadTimeout: {_POOL}Read timed out. (read timeout=45)", "does not answer"),
        (
            f"{_UNTRUSTED}certificate verify failed: self-signed certificate (_ssl.c:1006)')))",
            "shows a certificate that is not trusted: self-signed certificate",
        ),
        (
            f"{_UNTRUSTED}certificate verify failed: Hostname mismatch, certificate is not valid for 'x'. (_s:1)')))",
            "shows a certificate that is not trusted: hostname mismatch",
        ),
        (
            "requests.exceptions.SSLError: "
            f"{_MAX}SSLError(CertificateError(\"hostname 'acme.example.test' doesn't match 'other.test'\")))",
            "shows a certificate that is not trusted",
        ),
    ],
)
def test_an_authority_that_cannot_be_spoken_to_is_one_sentence(certbot: Path, shown: str, words: str) -> None:
    (certbot / "shown").write_text(f"An unexpected error occurred:\n{shown}\nAsk for help or search for solutions\n")
    does(certbot, f"cat {certbot}/shown; exit 1")
    assert certacme.perform(order(), str(certbot)) == {"ok": False, "said": f"the authority acme.example.test {words}"}


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (
            "requests.exceptions.ConnectTimeout: HTTPSConnectionPool(host='[2001:db8::1]', port=14000): Max retries "
            f"exceeded with url: /dir (Caused by ConnectTimeoutError({_OBJECT}, 'Connection timed out.'))",
            "the authority [2001:db8::1] does not answer",
        ),
        (
            "ValueError: Requesting [2001:db8::1]/dir: Connection refused",
            "the authority [2001:db8::1] refuses the connection",
        ),
        (
            "requests.exceptions.ConnectionError: ('Connection aborted.', RemoteDisconnected('Remote end closed "
            "connection without response'))",
            "the authority closes the connection without an answer",
        ),
        (
            "requests.exceptions.ConnectionError: ('Connection aborted.', ConnectionResetError(104, 'Connection reset "
            "by peer'))",
            "the authority closes the connection without an answer",
        ),
        (
            "requests.exceptions.ConnectionError: ('Connection aborted.', TimeoutError('timed out'))",
            "the authority does not answer",
        ),
    ],
)
def test_an_authority_by_its_address_or_by_no_name(certbot: Path, shown: str, said: str) -> None:
    (certbot / "shown").write_text(f"An unexpected error occurred:\n{shown}\n")
    does(certbot, f"cat {certbot}/shown; exit 1")
    assert certacme.perform(order(), str(certbot)) == {"ok": False, "said": said}


@pytest.mark.parametrize(
    "shown",
    [
        "Detail: DNS problem: query timed out looking up TXT for _acme-challenge.web1.example.net",
        "Detail: 192.0.2.1: Fetching https://web1.example.net: Connection refused",
        "An unexpected error occurred:\nToo many requests; Connection refused is what comes next",
        f"An unexpected error occurred:\nrequests.exceptions.ProxyError: {_MAX}ProxyError('Cannot connect to proxy.', "
        f"NewConnectionError('{_OBJECT}: [Errno 111] Connection refused')))",
        f"An unexpected error occurred:\nrequests.exceptions.SSLError: {_MAX}SSLError(SSLError(1, '[SSL: "
        "WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)')))",
    ],
)
def test_other_words_stay_but_for_objects(certbot: Path, shown: str) -> None:
    (certbot / "shown").write_text(shown)
    does(certbot, f"cat {certbot}/shown; exit 1")
    said = certacme.perform(order(), str(certbot))["said"]
    assert said == shown.replace("\n", " ").replace(f"{_OBJECT}: ", "") and "0x" not in said


def test_what_certbot_masks_is_in_its_log(certbot: Path) -> None:
    does(
        certbot,
        'for each; do case $each in --logs-dir=*) d="${each#*=}";; esac; done; mkdir -p "$d"; '
        "echo 'acme.messages.Error: urn:ietf:params:acme:error:rateLimited :: too many requests' > $d/letsencrypt.log; "
        'echo "An unexpected error occurred:"; echo "AttributeError: can\'t set attribute"; exit 1',
    )
    assert "rateLimited :: too many requests" in certacme.perform(order(), str(certbot))["said"]


def test_a_refused_nonce_and_a_lost_account_are_tried_again(certbot: Path) -> None:
    script = (
        (
            f"echo x >> {certbot}/count; account=$(dirname $(printf '%s\\n' \"$@\" | grep config-dir | cut -d= -f2)); "
            'ls -d "$account" >> {0}/accounts 2>&1; mkdir -p "$account"; '
            "case $(wc -l < {0}/count) in 1) echo 'urn:ietf:params:acme:error:badNonce :: x'; exit 1;; "
            "2) echo 'urn:ietf:params:acme:error:accountDoesNotExist :: x'; exit 1;; "
            '3) for each; do case $each in --fullchain-path=*) echo CHAIN > "${{each#*=}}";; esac; done;; esac'
        )
        .replace("{0}", str(certbot))
        .replace("{{", "{")
        .replace("}}", "}")
    )
    does(certbot, script)
    assert certacme.perform(order(), str(certbot))["ok"]
    first, second, third = (certbot / "accounts").read_text().splitlines()
    assert "No such file" in first and "No such file" not in second and "No such file" in third


def test_a_hook_that_fails_ends_certbot(certbot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would ask the authority to look at once, in vain, and such failures are counted."""
    (certbot / "credentials").mkdir()
    made = certacme.order("issue", TSIG, CREDENTIAL, TSIG.directory, csr="CSR")
    (certbot / "credentials" / certsandbox.CREDENTIAL).write_text(json.dumps(made))
    for name, value in (
        ("CREDENTIALS_DIRECTORY", f"{certbot}/credentials"), ("CERTBOT_DOMAIN", "web1.example.net"),
        ("CERTBOT_VALIDATION", "v"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    hook = (
        f"import sys; sys.path[:0] = {sys.path!r}; import certhook, certspread, certdns\n"
        "def owner(*_): raise certdns.Failed('the CNAME leads elsewhere')\n"
        f"certspread.owner = owner; certhook.main({str(certbot)!r})"
    )
    (certbot / "hook.py").write_text(hook)
    does(certbot, f"{sys.executable} {certbot}/hook.py; touch {certbot}/asked-the-authority; exit 1")
    assert certacme.perform(order(), str(certbot)) == {"ok": False, "said": "the CNAME leads elsewhere"}
    assert not (certbot / "asked-the-authority").exists()


def test_what_was_put_into_dns_is_taken_out_also_after_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, str, str]] = []
    monkeypatch.setattr(certspread, "owner", lambda name, zone: ZONE)
    monkeypatch.setattr(certdns, "change", lambda wish, credential, *what: done.append(what))

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(certspread, "wait", dies)
    for value in ("one", "two"):
        with pytest.raises(KeyboardInterrupt):
            certhook.put(order(), str(tmp_path), "web1.example.net", value)
    assert certhook.take_out(order(), str(tmp_path)) == ""
    adds, deletes = [("add", ZONE, "one"), ("add", ZONE, "two")], [("delete", ZONE, "one"), ("delete", ZONE, "two")]
    assert done == adds + deletes
    assert certhook.take_out(order(), str(tmp_path)) == "" and len(done) == 4

    def refuses(*_: Any) -> None:
        raise Failed("no answer")

    store.write_file(f"{tmp_path}/placed", json.dumps([[ZONE, "three"]]).encode())
    monkeypatch.setattr(certdns, "change", refuses)
    assert certhook.take_out(order(), str(tmp_path)) == "no answer"
    assert json.loads((tmp_path / "placed").read_text()) == [[ZONE, "three"]], "for the next time"


# --- dynamic updates -------------------------------------------------------------------------------------------------


def test_an_update_adds_and_deletes_one_value() -> None:
    added = certdns.script(TSIG, CREDENTIAL, "[2001:db8::1]:5353", "add", ZONE, "value")
    assert added.splitlines() == [
        "server 2001:db8::1 5353",
        f"zone {ZONE}.",
        f"key hmac-sha256:web1-acme {SECRET}",
        f'update add {ZONE}. 60 TXT "value"',
        "send",
        "quit",
    ]
    deleted = certdns.script(TSIG, CREDENTIAL, "192.0.2.1:53", "delete", ZONE, "value")
    assert f'update delete {ZONE}. TXT "value"' in deleted


def test_the_second_primary_is_asked_when_the_first_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nsupdate"
    program.write_text(
        f'#!/bin/sh\ncat > {tmp_path}/last; echo "$@" >> {tmp_path}/argv\n'
        f"grep -q 192.0.2.1 {tmp_path}/last || exit 0\necho 'update failed: REFUSED {SECRET}' >&2; exit 2\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    certdns.change(TSIG, CREDENTIAL, "add", ZONE, "value")
    assert "2001:db8::1" in (tmp_path / "last").read_text() and SECRET not in (tmp_path / "argv").read_text()
    with pytest.raises(Failed, match=r"192\.0\.2\.1:53: update failed: REFUSED …"):
        certdns.change(TSIG._replace(servers=TSIG.servers[:1]), CREDENTIAL, "add", ZONE, "value")


@pytest.mark.parametrize(
    ("name", "value"), [("a b", "v"), (ZONE, 'v"\nsend'), (ZONE, ""), ("-x", "v"), (ZONE + "\nsend", "v")]
)
def test_nothing_breaks_out_of_the_script(name: str, value: str) -> None:
    with pytest.raises(Failed):
        certdns.change(TSIG, CREDENTIAL, "add", name, value)


# --- asking name servers ---------------------------------------------------------------------------------------------


class Dns:
    """Answers as dig prints them. `lag` are how many questions a server and protocol answers without the value."""

    def __init__(
        self, records: dict[tuple[str, str], list[str]], lag: dict[tuple[str, str], int] | None = None
    ) -> None:
        self.records, self.lag = records, dict(lag or {})
        self.asked: list[tuple[str, str]] = []

    def __call__(self, arguments: Sequence[str]) -> str:
        name, kind = arguments[-2].rstrip("."), arguments[-1]
        if arguments[0].startswith("@"):
            place = arguments[0][1:], "TCP" if "+tcp" in arguments else "UDP"
            assert "+norecurse" in arguments
            self.asked.append(place)
            if self.lag.get(place, 0) > 0:
                self.lag[place] -= 1
                return f'{name}.\t60\tIN\tTXT\t"an old value"\n'
        return "".join(f"{name}.\t60\tIN\t{kind}\t{value}\n" for value in self.records.get((name, kind), []))


WORLD = {
    ("_acme-challenge.web1.example.net", "CNAME"): [f"{ZONE.upper()}."],
    (ZONE, "NS"): ["ns1.example.net.", "ns2.example.net."],
    ("ns1.example.net", "A"): ["127.0.0.1"],
    ("ns2.example.net", "A"): ["127.0.0.2", "127.0.0.3"],
    (ZONE, "TXT"): ['"another one"', '"val" "ue"'],
}


def test_every_address_is_asked_by_udp_and_tcp_until_all_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certspread, "_SHORTEST_S", 0.001)
    dns = Dns(WORLD, {("127.0.0.3", "TCP"): 3, ("127.0.0.1", "UDP"): 1})
    certspread.wait(ZONE, ZONE, "value", ask=dns)
    places = {(f"127.0.0.{number}", by) for number in (1, 2, 3) for by in ("UDP", "TCP")}
    assert set(dns.asked) == places
    assert dns.asked.count(("127.0.0.3", "TCP")) == 4 and dns.asked.count(("127.0.0.2", "UDP")) == 1


def test_who_does_not_have_it_is_said() -> None:
    dns = Dns(WORLD, {("127.0.0.3", "TCP"): 10**9})
    with pytest.raises(Failed, match=r"not served .* by ns2\.example\.net \(127\.0\.0\.3\) by TCP$"):
        certspread.wait(ZONE, ZONE, "value", seconds=0.01, ask=dns)


def test_a_zone_without_servers_or_with_one_without_address() -> None:
    with pytest.raises(Failed, match="not delegated"):
        certspread.authoritative(ZONE, Dns({}))
    with pytest.raises(Failed, match=r"ns2\.example\.net should serve .* no address"):
        certspread.authoritative(ZONE, Dns({k: v for k, v in WORLD.items() if k != ("ns2.example.net", "A")}))
    hostile = {**WORLD, (ZONE, "NS"): ["-f/etc/shadow."]}
    with pytest.raises(Failed, match="no name server should give"):
        certspread.authoritative(ZONE, Dns(hostile))


def test_without_ipv6_ipv4_is_asked_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certspread, "has_route", lambda address: ":" not in address)
    world = {**WORLD, ("ns1.example.net", "AAAA"): ["2001:db8::53"]}
    assert "2001:db8::53" not in {each.address for each in certspread.authoritative(ZONE, Dns(world))}
    only = {(ZONE, "NS"): ["ns1.example.net."], ("ns1.example.net", "AAAA"): ["2001:db8::53"]}
    with pytest.raises(Failed, match="no way to the name servers"):
        certspread.authoritative(ZONE, Dns(only))


def test_where_a_challenge_belongs() -> None:
    assert certspread.owner("_acme-challenge.web1.example.net", ZONE, Dns(WORLD)) == ZONE
    assert certspread.owner(f"_acme-challenge.{ZONE}", ZONE, Dns({})) == f"_acme-challenge.{ZONE}"
    with pytest.raises(Failed, match="has no CNAME: that is not in the zone"):
        certspread.owner("_acme-challenge.other.example.net", ZONE, Dns(WORLD))
    with pytest.raises(Failed, match="not in the zone"):
        certspread.owner("_acme-challenge.x", ZONE, Dns({("_acme-challenge.x", "CNAME"): [f"evil{ZONE}."]}))
    circle = {("a.net", "CNAME"): ["b.net."], ("b.net", "CNAME"): ["a.net."]}
    with pytest.raises(Failed, match="on and on"):
        certspread.owner("a.net", ZONE, Dns(circle))


def test_dig_itself_is_understood() -> None:
    """Its answer section as version 9.18 prints it, with what it says beside it."""
    said = f';; communications error\n{ZONE}.\t\t60\tIN\tTXT\t"a b" "c\\"d"\n{ZONE}. 60 IN CNAME other.\n'
    assert certspread._values(said, "TXT") == ['"a b" "c\\"d"']
