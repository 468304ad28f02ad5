"""The area notify on real servers: what is sent is looked at where it arrives."""

from __future__ import annotations

import email
import email.policy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any

import jsonschema
import pexpect
import pytest
from standardwebhooks import Webhook

from .alerts import CHANNELS, RESEND, check_event, check_slack, emit, spooled
from .areas import run
from .operator import Operator, eventually, new_operator
from .sinks import Authority, Web, gateway, mail, web
from .target import Fleet, Target, call
from .test_secret import on_a_terminal

_SLACK = "/services/T0000/B0000/not-to-be-told"
_TOKEN = "re_not-to-be-told-2"
_PASSWORD = "not to be told, 3"
#: A mail server as its administrator sets it up: TLS is a must on 587, and 25 is for this machine itself.
_POSTFIX = """
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get -qy --no-install-recommends install postfix
umask 077
cat > /etc/postfix/tls.pem
postconf myhostname=mail.acme.test mydestination=acme.test,localhost inet_interfaces=all \\
  smtpd_tls_chain_files=/etc/postfix/tls.pem smtpd_relay_restrictions=reject_unauth_destination
postconf -M submission/inet='submission inet n - n - - smtpd'
postconf -P submission/inet/smtpd_tls_security_level=encrypt submission/inet/smtpd_tls_received_header=yes
useradd -m ops
systemctl restart postfix
"""
_UGLY = "\x1b[31mDer Bär\x1b[0m <!channel> & ```so``` \u202e\r\nSubject: other 🚒\n.\n"


@dataclass(frozen=True)
class House:
    """Two servers: web1 (role app), and mail (role mail), which has a Postfix."""

    operator: Operator
    web1: Target
    mail: Target
    sink: Web
    authority: Authority

    def add(self, *argv: str, input: str) -> dict[str, Any]:
        """Add a channel whose secrets come on stdin; what was shown of it."""
        done = self.operator.run("--json", "notify", "add", *argv, "--stdin", "--yes", input=input)
        assert not [line for line in input.splitlines() if line in done.stdout + done.stderr]
        return dict(json.loads(done.stdout)["data"])

    def channels(self, target: Target) -> list[str]:
        """Of which there is a file."""
        return [name[: -len(".json")] for name in target.run("ls", CHANNELS, check=False).stdout.split()]

    def letters(self) -> list[EmailMessage]:
        """The mailbox of ops."""
        box = call("docker", "exec", self.mail.container, "sh", "-c", "cat /var/mail/ops 2>/dev/null || true").stdout
        return [
            email.message_from_string(each, policy=email.policy.default)
            for each in re.split(r"^From .*\n", box, flags=re.MULTILINE)[1:]
        ]

    def letter(self, event: str) -> EmailMessage:
        """The one mail about this event."""
        eventually(lambda: [each for each in self.letters() if event in str(each["Message-ID"])], "the mail came")
        (found,) = (each for each in self.letters() if event in str(each["Message-ID"]))
        return found


@pytest.fixture(scope="module")
def house(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("notify")
    web1, postfix = fleet.start_fresh("debian12"), fleet.start_fresh("debian12")
    operator = new_operator(folder)
    operator.add("web1", web1, "--role", "app")
    operator.add("mail", postfix, "--role", "mail")
    authority = Authority(folder)
    certificate, key = authority.issue(postfix.name)
    postfix.run("sh", "-c", _POSTFIX, input=key.read_text() + certificate.read_text())
    authority.trusted_by(web1)
    with web(gateway(web1), authority, "hooks.slack.com", "api.resend.com") as sink:
        for target in (web1, postfix):
            target.run("sh", "-c", f"echo {sink.address} hooks.slack.com >> /etc/hosts")
        yield House(operator, web1, postfix, sink, authority)
    for target in (web1, postfix):
        fleet.remove(target)


@pytest.fixture(autouse=True)
def nothing_left(house: House) -> Iterator[None]:
    yield
    wishes = house.operator.fleet / "fleet.toml"
    wishes.write_text(wishes.read_text().partition("\n[[notify.routes]]")[0])
    for channel in house.operator.json("notify", "list")["data"]["channels"]:
        house.operator.run("notify", "remove", channel["channel"], "--yes")
    house.sink.posts.clear()


def test_webhook(house: House) -> None:
    secret = house.add("webhook", "hook", input=house.sink.url("/hook"))["secret"]
    assert house.channels(house.web1) == house.channels(house.mail) == ["hook"]
    tested = run(house.operator, "notify", "test", "hook")["data"]
    assert (tested["sent"], tested["said"]) == (True, "it answered 200")
    (post,) = house.sink.wait("/hook")
    event = Webhook(secret).verify(post.body, dict(post.headers))
    check_event(event)
    assert (event["kind"], event["severity"], event["server"]) == ("notify.test", "info", "web1")
    assert event["id"] == tested["id"] == post.headers["webhook-id"]
    assert event["hostname"] == house.web1.name
    # A server of which its certificate store does not know the authority is not told anything.
    refused = run(house.operator, "notify", "test", "hook", on="mail", exit=6)["error"]["message"]
    assert refused == "hook was not sent to: its certificate does not count: unable to get local issuer certificate"

    listed = house.operator.json("notify", "list")["data"]["channels"]
    assert listed == [{"channel": "hook", "provider": "webhook", "servers": ["web1", "mail"], "events": ["* error"]}]
    shown = house.operator.json("notify", "show", "hook")["data"]
    assert shown["secrets"] == {"url": "notify_hook_url", "secret": "notify_hook_secret"}
    assert [row["server"] for row in shown["servers"]] == ["web1", "mail"]
    (channel,) = run(house.operator, "notify", "status")["data"]["channels"]
    assert (channel["where"], channel["sent"] > 0, channel["waiting"]) == (house.sink.address, True, 0)
    assert house.operator.run("plan", "--check").returncode == 0
    twice = house.operator.run("notify", "add", "slack", "hook", "--stdin", "--yes", input="x", check=False)
    assert (twice.returncode, "there is a channel hook already" in twice.stderr) == (2, True)

    # A secret of one's own is taken as it is.
    mine = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
    assert house.add("webhook", "mine", input=f"{house.sink.url('/mine')}\n{mine}\n") == {}
    run(house.operator, "notify", "test", "mine")
    (post,) = house.sink.wait("/mine")
    Webhook(mine).verify(post.body, dict(post.headers))

    removed = house.operator.run("notify", "remove", "hook", "--yes")
    assert "web1, mail: done, 1 change" in removed.stdout
    assert house.channels(house.web1) == house.channels(house.mail) == ["mine"]
    kept = [row["name"] for row in house.operator.json("secret", "list")["data"]["secrets"]]
    assert kept == ["notify_mine_secret", "notify_mine_url"]
    timer = "systemctl", "is-enabled", "serverflow-watch.timer"
    assert house.web1.run(*timer).stdout == "enabled\n"
    house.operator.run("notify", "remove", "mine", "--yes")
    assert house.web1.run(*timer, check=False).returncode != 0
    assert house.web1.run("find", "/etc/systemd", "-name", "serverflow-watch*").stdout == ""
    assert "notify" not in (house.operator.fleet / "fleet.toml").read_text()


def test_slack_by_a_prompt(house: House) -> None:
    url = house.sink.url(_SLACK, "hooks.slack.com")
    asked = on_a_terminal(house.operator, "notify", "add", "slack", "chat", "--yes")
    for question in ("URL of Slack's incoming webhook", "Once more"):
        asked.expect(question)
        asked.sendline(url)
    asked.expect(pexpect.EOF)
    asked.close()
    assert asked.exitstatus == 0 and "not-to-be-told" not in asked.before
    emit(house.web1, "cron.failed", "x/one", title=_UGLY, text=f"{_UGLY * 9}{'&' * 3000}\n{'z' * 9000}")
    emit(house.web1, "cron.failed", "x/two", title="&" * 500)
    emit(house.web1, "cron.failed", "x/one", state="resolved", title="fine")
    for post in house.sink.wait(_SLACK, 3):
        assert (post.host, post.headers["content-type"]) == (f"hooks.slack.com:{house.sink.port}", "application/json")
        check_slack(post.json)
    said = [post.json["text"] for post in house.sink.at(_SLACK)]
    assert "[web1] error: Der Bär &lt;!channel&gt; &amp; ```so``` ? Subject: other 🚒 ." in said
    assert "[web1] resolved: fine" in said
    emit(house.web1, "cron.failed", "x/two", state="resolved")
    house.sink.wait(_SLACK, 4)


def test_resend(house: House) -> None:
    """Its address is fixed: the target's own port 443 leads to the server that stands for it."""
    unit = "--quiet", "--unit=resend", "--socket-property=ListenStream=127.0.0.1:443"
    proxy = "/lib/systemd/systemd-socket-proxyd", f"{house.sink.address}:{house.sink.port}"
    house.web1.run("systemd-run", *unit, *proxy)
    house.web1.run("sh", "-c", "echo 127.0.0.1 api.resend.com >> /etc/hosts")
    options = "--sender", "sf@acme.test", "--to", "ops@acme.test", "--to", "ana@acme.test"
    house.add("email", "post", "--provider", "resend", *options, input=_TOKEN)
    emit(house.web1, "cron.failed", "x/resend", title=_UGLY, text=_UGLY)
    (post,) = house.sink.wait("/emails")
    jsonschema.Draft202012Validator(RESEND).validate(post.json)
    assert (post.json["from"], post.json["to"]) == ("sf@acme.test", ["ops@acme.test", "ana@acme.test"])
    assert post.json["subject"] == "[web1] error: Der Bär <!channel> & ```so``` ? Subject: other 🚒 ."
    assert post.json["headers"] == {"Auto-Submitted": "auto-generated"}
    assert (post.host, post.headers["authorization"]) == ("api.resend.com", f"Bearer {_TOKEN}")
    assert post.headers["content-type"] == "application/json" and post.headers["user-agent"]
    assert re.fullmatch(r"[!-~]{1,256}", post.headers["idempotency-key"])
    emit(house.web1, "cron.failed", "x/resend", state="resolved")
    first, second = house.sink.wait("/emails", 2)
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]
    # What it takes offence at is told by its name alone.
    answer = {"statusCode": 403, "name": "invalid_permissions", "message": f"the key {_TOKEN} may not"}
    house.sink.answers["/emails"] = 403, json.dumps(answer)
    refused = run(house.operator, "notify", "test", "post", exit=6)["error"]["message"]
    assert refused == "post was not sent to: it answered 403, invalid_permissions"
    house.web1.run("systemctl", "stop", "resend.socket", "resend.service")


def test_mail_by_a_real_server_with_starttls(house: House) -> None:
    """By its name, which the network's resolver knows."""
    house.operator.run(*_mail("post", house.mail.name), "--to", "ana@acme.test", "--yes")
    emit(house.web1, "cron.failed", "x/mail", title=_UGLY, text=f".\n{_UGLY}From me\n{'ü' * 2000}")
    eventually(lambda: spooled(house.web1) == [], "it was sent")
    (event,) = {each["Message-ID"].strip("<>").split("@")[0] for each in house.letters()}
    letter = house.letter(event)
    assert (letter["From"], letter["To"]) == ("sf@acme.test", "ops@acme.test, ana@acme.test")
    assert letter["Subject"] == "[web1] error: Der Bär <!channel> & ```so``` ? Subject: other 🚒 ."
    assert letter["Message-ID"] == f"<{event}@acme.test>" and letter["Auto-Submitted"] == "auto-generated"
    assert letter["Date"].datetime.utcoffset().total_seconds() == 0
    body = letter.get_content()
    assert letter.get_content_charset() == "utf-8" and "Der Bär <!channel>" in body and "\n.\n" in body
    assert "\x1b" not in body and "\u202e" not in body and "Server: web1" in body
    # Postfix tells how it came.
    received = " ".join(letter["Received"].split())
    assert f"{house.web1.ip}]" in received and "using TLSv1.3" in received and "with ESMTPS" in received
    emit(house.web1, "cron.failed", "x/mail", state="resolved", title="schön")
    eventually(lambda: "[web1] resolved: schön" in [str(each["Subject"]) for each in house.letters()], "it is over")


def test_a_mail_server_that_is_somebody_else_is_told_nothing(house: House) -> None:
    before = len(house.letters())
    house.operator.run(*_mail("post", house.mail.ip), "--yes")
    refused = run(house.operator, "notify", "test", "post", exit=6)["error"]["message"]
    assert refused == "post was not sent to: its certificate does not count: it is made out to another name"
    house.operator.run("notify", "remove", "post", "--yes")
    house.operator.run(*_mail("post", house.mail.name, "25"), "--yes")
    tested = run(house.operator, "notify", "test", "post", exit=0)["data"]
    assert tested["sent"]  # 25 offers it too
    house.mail.run("postconf", "smtpd_tls_security_level=none")
    house.mail.run("postfix", "reload")
    refused = run(house.operator, "notify", "test", "post", exit=6)["error"]["message"]
    assert refused == "post was not sent to: it does not offer STARTTLS"
    house.mail.run("postconf", "smtpd_tls_security_level=may")
    house.mail.run("postfix", "reload")
    house.operator.run("notify", "remove", "post", "--yes")
    stranger = "--to", "somebody@elsewhere.test"
    house.operator.run(*_mail("post", house.mail.name)[:-2], *stranger, "--yes")
    refused = run(house.operator, "notify", "test", "post", exit=6)["error"]["message"]
    assert refused == "post was not sent to: it refused every recipient (554 5.7.1)"
    assert len(house.letters()) == before + 1


def test_mail_by_the_servers_own_postfix(house: House) -> None:
    local = _mail("post", "127.0.0.1", "25")
    house.operator.run(*local, "--security", "none", "--yes")
    event = run(house.operator, "notify", "test", "post", on="mail")["data"]["id"]
    letter = house.letter(event)
    assert letter["Subject"] == "[mail] info: Test of channel post"
    assert "TLS" not in letter["Received"] and "with ESMTP id" in " ".join(letter["Received"].split())
    # web1 has none.
    refused = run(house.operator, "notify", "test", "post", exit=6)["error"]["message"]
    assert refused == "post was not sent to: Connection refused"
    house.operator.run("notify", "remove", "post", "--yes")
    elsewhere = house.operator.run(*_mail("post", house.mail.name), "--security", "none", "--yes", check=False)
    assert elsewhere.returncode == 2 and "this machine's own mail server" in elsewhere.stderr


def test_mail_with_a_login(house: House) -> None:
    with mail(house.sink.address, house.authority, "ana@acme.test", _PASSWORD) as server:
        options = *_mail("post", house.sink.address, str(server.port))[2:], "--username", "ana@acme.test"
        house.add(*options, input=_PASSWORD)
        assert run(house.operator, "notify", "test", "post")["data"]["sent"]
        ((with_tls, who, _),) = server.came
        assert (with_tls, who) == (True, "ana@acme.test")
        house.operator.run("notify", "remove", "post", "--yes")
        house.add(*options, input="another")
        refused = run(house.operator, "notify", "test", "post", exit=6)["error"]["message"]
        assert refused == "post was not sent to: it refused the login (535 5.7.8)"


@pytest.mark.parametrize("release", ["debian11", "debian13"])
def test_on_the_oldest_and_the_newest_release(
    release: str, fresh_target: Callable[..., Target], fresh_operator: Operator, house: House
) -> None:
    """What sends is confined by the kernel's means and speaks TLS by the release's OpenSSL."""
    target, operator = fresh_target(release), fresh_operator
    operator.add("web1", target)
    house.authority.trusted_by(target)
    with mail(house.sink.address, house.authority, "ana", _PASSWORD) as server:
        options = *_mail("post", house.sink.address, str(server.port)), "--username", "ana", "--stdin", "--yes"
        operator.run(*options, input=_PASSWORD)
        operator.run("notify", "add", "webhook", "hook", "--stdin", "--yes", input=house.sink.url(f"/{release}"))
        emit(target, "cron.failed", "x/one")
        (post,) = house.sink.wait(f"/{release}")
        eventually(lambda: server.came, "the mail")
    check_event(post.json)
    assert [with_tls for with_tls, _, _ in server.came] == [True]
    eventually(lambda: spooled(target) == [], "it was written down")


ROUTES = """
[[notify.routes]]
to = ["all"]

[[notify.routes]]
to = ["one"]
on = "web1"
events = ["safe.rolled_back", "cron.skipped"]

[[notify.routes]]
to = ["role"]
on = "@mail"
events = ["cron.*", "safe.* critical"]
severity = "warning"

[[notify.routes]]
to = ["role"]
on = "@mail"
events = ["notify.test"]
"""


def test_routes(house: House) -> None:
    for name in ("all", "one", "role", "none"):
        house.add("webhook", name, input=house.sink.url(f"/{name}"))
    assert house.channels(house.web1) == house.channels(house.mail) == ["all", "none", "one", "role"]
    wishes = house.operator.fleet / "fleet.toml"
    wishes.write_text(wishes.read_text() + ROUTES)
    house.operator.run("apply", "--yes")
    said = house.operator.run("plan").stderr
    assert "web1: notify.role is unmanaged" in said and "web1: notify.all is" not in said
    for name, selector in {"role": "web1", "one": "@mail", "none": "all"}.items():
        house.operator.run("notify", "remove", name, "--on", selector, "--yes")
    assert house.channels(house.web1) == ["all", "one"] and house.channels(house.mail) == ["all", "role"]
    assert "unmanaged" not in house.operator.run("plan", "--check").stderr
    house.authority.trusted_by(house.mail)
    for target in (house.web1, house.mail):
        emit(target, "cron.failed", "x/failed")
        emit(target, "cron.skipped", "x/skipped")
        emit(target, "safe.rolled_back", "x/safe")
        emit(target, "notify.test", "x/test")
        emit(target, "safe.rolled_back", "x/grave", severity="critical")
    for path, told in {
        "/all": [("mail", "failed safe grave"), ("web1", "failed safe grave")],
        "/one": [("web1", "skipped safe grave")],
        "/role": [("mail", "failed skipped test grave")],
        "/none": [],
    }.items():
        wanted = {(server, f"x/{key}") for server, keys in told for key in keys.split()}
        found = {(post.json["server"], post.json["key"]) for post in house.sink.wait(path, len(wanted))}
        assert found == wanted, path
    refused = house.operator.run("notify", "remove", "role", "--yes", check=False)
    assert refused.returncode == 2 and "notify.routes" in refused.stderr
    eventually(lambda: spooled(house.web1) == spooled(house.mail) == [], "all is sent")


def test_what_is_secret_is_in_no_other_place(house: House) -> None:
    """Looked for while it is used: the other side lets them wait for its answer."""
    hook, secrets = house.sink.url("/not-to-be-told"), [_SLACK, _TOKEN, _PASSWORD, "not-to-be-told"]
    secrets.append(house.add("webhook", "hook", input=hook)["secret"])
    house.add("slack", "chat", input=house.sink.url(_SLACK, "hooks.slack.com"))
    house.add("email", "post", "--provider", "resend", "--sender", "a@b.test", "--to", "c@d.test", input=_TOKEN)
    with mail(house.sink.address, house.authority, "ana", _PASSWORD) as server:
        house.add(
            *_mail("own", house.sink.address)[2:], "--port", str(server.port), "--username", "ana", input=_PASSWORD
        )
        house.sink.gate.clear()
        emit(house.web1, "cron.failed", "x/secret")
        eventually(lambda: house.sink.posts, "one is being sent")
        processes = (
            "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; ps auxwwe; systemctl status --full; true"
        )
        seen = house.web1.run("sh", "-c", processes).stdout
        assert "deliver" in seen
        house.sink.gate.set()
        eventually(lambda: server.came, "the others follow")
    house.operator.run("notify", "status")
    seen += house.web1.run("journalctl", "--no-pager", "--output=export", "--all").stdout
    seen += (
        house.operator.run("--json", "notify", "status").stdout + house.operator.run("--json", "audit", "verify").stdout
    )
    assert "serverflow" in seen
    assert [secret for secret in secrets if secret in seen] == []

    places = "/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/usr/local", "/var"
    words = [word for secret in secrets for word in ("-e", secret)]
    found = house.web1.run("grep", "-rlsF", "--devices=skip", *words, *places, check=False).stdout.split()
    files = [f"{CHANNELS}/{name}.json" for name in ("chat", "hook", "own", "post")]
    assert sorted(found) == files
    assert {house.web1.run("stat", "-c", "%U:%G %a", path).stdout for path in files} == {"root:root 600\n"}
    for user in ("admin", "serverflow", "serverflow-read"):
        looked = house.web1.run("runuser", "-u", user, "--", "sh", "-c", f"cat {CHANNELS}/*.json", check=False)
        assert looked.stdout == ""
    assert call("grep", "-rlF", *words, house.operator.home, house.operator.fleet, check=False).stdout == ""
    house.web1.run("sh", "-c", "rm -f /var/lib/serverflow/alerts/spool/*.json /var/lib/serverflow/alerts/open")


def _mail(name: str, host: str, port: str = "587") -> tuple[str, ...]:
    sender = "--sender", "sf@acme.test", "--to", "ops@acme.test"
    return "notify", "add", "email", name, "--provider", "smtp", "--host", host, "--port", port, *sender
