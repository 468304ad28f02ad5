"""How alerts leave (remote/channels.py, posts.py, mailer.py, courier.py), against servers on this machine."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import os
import re
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

import alerts
import channels
import courier
import deliver
import layout
import mailer
import posts
import strict
import wording
from said import FAILED, REFUSED, SENT, UNANSWERED, UNREACHABLE, Said

from .notifier import NOW, SECRET, Web, certificate, event, put_channel, put_webhook, send, serving, state_in

#: aiosmtpd does not see the TLS that it is wrapped in.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH")

TOKEN, PASSWORD, HOOK = "re_AbCd123456", "hunter2 Ünïcode", "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"
EVIL = "job\r\nBcc: everyone@example.com\r\n\r\n\x1b[31mred\x1b[0m \u202egnp.exe <!channel> & \ud800 ü 🚀"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    state_in(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture(scope="session")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    folder = tmp_path_factory.mktemp("tls")
    found = certificate(folder, "IP:127.0.0.1")
    found.sf_cert = f"{folder}/cert"  # type: ignore[attr-defined]  # where clients find it
    return found


@pytest.fixture
def trusted(context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The test's certificate counts, as if the system's store had it."""
    monkeypatch.setenv("SSL_CERT_FILE", context.sf_cert)  # type: ignore[attr-defined]
    return context


@pytest.fixture
def tls_web(trusted: ssl.SSLContext) -> Iterator[Web]:
    with serving(trusted) as found:
        yield found


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as found:
        yield found


# --- the files -------------------------------------------------------------------------------------------------------

MAIL = {"sender": "sf <alerts@example.com>", "to": ["ops@example.com"]}
GOOD: dict[str, dict[str, Any]] = {
    "slack": {"url": f"https://hooks.slack.com{HOOK}"},
    "webhook": {"url": "https://example.com/in?token=sesame", "secret": SECRET},
    "smtp": {"host": "mx.example.com", "username": "sf", "password": PASSWORD, **MAIL},
    "resend": {"token": TOKEN, **MAIL},
}


def test_channels_are_shown_without_secrets() -> None:
    for provider, found in GOOD.items():
        put_channel(f"a-{provider}", provider, found)
    told = channels.shown()
    assert [one["where"] for one in told] == [
        "ops@example.com",
        "hooks.slack.com",
        "ops@example.com by mx.example.com:587",
        "example.com",
    ]
    everything = repr(told) + repr(channels.everything())
    for secret in (TOKEN, PASSWORD, HOOK, SECRET, "sesame"):
        assert secret not in everything


@pytest.mark.parametrize(
    ("provider", "changes"),
    [
        ("slack", {"url": "http://hooks.slack.com/x-secret"}),
        ("slack", {"url": "https://user:x-secret@hooks.slack.com/"}),
        ("slack", {"url": "https://hooks.slack.com/x-secret\r\nHost: a"}),
        ("slack", {"url": "https://[x-secret/"}),
        ("slack", {"url": "https://example.com:x-secret/"}),
        ("slack", {"url": "file:///x-secret"}),
        ("slack", {"more": 1}),
        ("webhook", {"secret": "whsec_x-secret"}),
        ("webhook", {"secret": SECRET[6:]}),
        ("smtp", {"security": "none"}),
        ("smtp", {"port": 70000}),
        ("smtp", {"to": []}),
        ("smtp", {"to": ["a@example.com>\r\nRCPT TO:<x-secret@example.com"]}),
        ("smtp", {"sender": "a@example.com\nBcc: x-secret@example.com"}),
        ("smtp", {"password": "x-secret\r\nQUIT"}),
        ("smtp", {"host": "mx.example.com x-secret"}),
        ("resend", {"token": "x-secret\r\nHost: a"}),
    ],
)
def test_a_damaged_channel_is_named_without_its_values_and_silences_no_other(
    provider: str, changes: dict[str, Any]
) -> None:
    put_channel("bad", provider, {**GOOD[provider], **changes})
    put_channel("good", "slack", GOOD["slack"])
    found, damaged = channels.everything()
    assert [one.name for one in found] == ["good"]
    assert list(damaged) == ["bad"]
    assert "x-secret" not in damaged["bad"]
    assert [one["problem"] for one in channels.shown()] == [damaged["bad"], ""]


@pytest.mark.parametrize("data", [b"", b"{", b'{"v": 2}', b"\xff", b"[" * 100_000, b"x" * 70_000, b'"x"'])
def test_a_file_of_anything_is_damaged(data: bytes) -> None:
    with pytest.raises(strict.Malformed):
        channels.parse(data, "ops")


def test_a_file_with_the_name_of_another_channel_is_damaged() -> None:
    put_channel("ops", "slack", GOOD["slack"])
    os.rename(f"{layout.NOTIFY}/ops.json", f"{layout.NOTIFY}/dev.json")
    assert list(channels.everything()[1]) == ["dev"]


# --- Slack -----------------------------------------------------------------------------------------------------------


def held_against_block_kit(message: dict[str, Any]) -> None:
    """The limits that Slack documents for what we use of it."""
    assert set(message) == {"text", "blocks"} and len(message["text"]) <= 4000 and len(message["blocks"]) <= 50
    for block in message["blocks"]:
        kind = block["type"]
        texts = block["elements"] if kind == "context" else [block["text"]]
        assert kind in ("header", "section", "context") and len(texts) <= 10
        for text in texts:
            assert 1 <= len(text["text"]) <= (150 if kind == "header" else 3000)
            assert text["type"] == ("mrkdwn" if kind == "section" else "plain_text")
    for text in re.findall(r'"text": "((?:[^"\\]|\\.)*)"', json.dumps(message)):
        assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", text)


def test_slack(tls_web: Web) -> None:
    put_channel("ops", "slack", {"url": f"https://127.0.0.1:{tls_web.port}{HOOK}"})
    assert send("ops", event()) == Said(SENT, "it answered 200")
    path, headers, body = tls_web.asked[0]
    assert (path, headers["content-type"]) == (HOOK, "application/json")
    message = json.loads(body)
    held_against_block_kit(message)
    assert message["text"] == message["blocks"][0]["text"]["text"] == "[web1] error: Cron job report failed"
    assert message["blocks"][1]["text"]["text"] == "```\nTraceback: no such table\n```"


@given(title=st.text(), text=st.text(alphabet="&<>`a\n🚀", max_size=5000))
@settings(max_examples=100, deadline=None)
def test_whatever_an_event_says_slack_takes_it(title: str, text: str) -> None:
    told = event(title=wording.line(title), text=wording.text(text))
    held_against_block_kit(posts.slack_message(told))


def test_nothing_in_an_event_calls_a_channel_or_ends_the_fence() -> None:
    message = posts.slack_message(event(title="<!channel> a", text="```\n<https://evil.example|here> &amp;\n```"))
    held_against_block_kit(message)
    assert message["blocks"][1]["text"]["text"].count("```") == 2


# --- Standard Webhooks -----------------------------------------------------------------------------------------------


def test_webhook_is_signed_as_the_specification_says(tls_web: Web) -> None:
    put_channel("ops", "webhook", {"url": f"https://127.0.0.1:{tls_web.port}/in?a=b", "secret": SECRET})
    now = int(time.time())
    told = event(text="ü\n🚀", server="")
    assert send("ops", told, (), now).verdict == SENT
    path, headers, body = tls_web.asked[0]
    assert (path, headers["webhook-id"], headers["webhook-timestamp"]) == ("/in?a=b", told["id"], str(now))
    assert Webhook(SECRET).verify(body, headers) == {**told, "server": "web1"}
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "A" * 32).verify(body, headers)
    assert send("ops", told, (), now + 60).verdict == SENT
    assert tls_web.asked[1][2] == body and tls_web.ids == [told["id"]] * 2


# --- Resend ----------------------------------------------------------------------------------------------------------


def test_resend(tls_web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posts, "RESEND", f"https://127.0.0.1:{tls_web.port}/emails")
    put_channel("mail", "resend", {"token": TOKEN, "sender": "sf <a@example.com>", "to": ["b@example.com", "c@x.org"]})
    assert [send("mail", event()).verdict for _ in range(2)] == [SENT, SENT]
    path, headers, body = tls_web.asked[0]
    assert path == "/emails"
    assert headers["authorization"] == f"Bearer {TOKEN}" and headers["user-agent"] == "serverflow"
    assert headers["idempotency-key"] == tls_web.asked[1][1]["idempotency-key"] == f"{event()['id']}-mail"
    assert tls_web.asked[1][2] == body  # another body with the same key would be refused
    message = json.loads(body)
    assert message == {
        "from": "sf <a@example.com>",
        "to": ["b@example.com", "c@x.org"],
        "subject": "[web1] error: Cron job report failed",
        "text": message["text"],
        "headers": {"Auto-Submitted": "auto-generated"},
    }
    assert message["text"].startswith("Cron job report failed\n\nTraceback: no such table\n\nServer: web1")


# --- what the other side says ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "answer", "verdict", "words"),
    [
        (200, b"ok", SENT, "it answered 200"),
        (204, b"", SENT, "it answered 204"),
        (400, b"invalid_payload", REFUSED, "it answered 400, invalid_payload"),
        (403, b'{"statusCode":403,"name":"invalid_api_key"}', REFUSED, "it answered 403, invalid_api_key"),
        (404, b"no_service", REFUSED, "it answered 404, no_service"),
        (410, b"channel_is_archived", REFUSED, "it answered 410, channel_is_archived"),
        (409, b'{"name":"concurrent_idempotent_requests"}', FAILED, "it answered 409, concurrent_idempotent_requests"),
        (429, b"", FAILED, "it answered 429"),
        (500, b"<html>a stranger's words</html>", FAILED, "it answered 500"),
        (503, b"[" * 2000, FAILED, "it answered 503"),
        (500, SECRET.encode(), FAILED, "it answered 500"),
        (500, b"hook", FAILED, "it answered 500"),  # a part of the URL
    ],
)
def test_an_answer(web: Web, status: int, answer: bytes, verdict: str, words: str) -> None:
    put_webhook("ops", web.port)
    web.status, web.answer = status, answer
    assert send("ops", event()) == Said(verdict, words)


def test_it_waits_as_long_as_it_is_asked_to(web: Web) -> None:
    put_webhook("ops", web.port)
    web.status = 429
    for asked, waits in {"120": 120, "999999": 3600, "Fri, 31 Dec 1999 23:59:59 GMT": 0, "-5": 0}.items():
        web.headers = {"Retry-After": asked}
        assert send("ops", event()).wait == waits


def test_no_redirect_is_followed(web: Web) -> None:
    with serving() as other:
        put_webhook("ops", web.port)
        web.status, web.headers = 307, {"Location": f"http://127.0.0.1:{other.port}/"}
        assert send("ops", event()).verdict == REFUSED
        assert (len(web.asked), other.asked) == (1, [])


def test_an_answer_without_end_is_not_read(web: Web) -> None:
    put_webhook("ops", web.port)
    web.status, web.answer = 500, b"x" * (8 << 20)
    assert send("ops", event()) == Said(FAILED, "it answered 500")


def _talking(reply: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        with connection:
            connection.sendall(reply)
            if reply:
                connection.recv(65536)

    return talk


@contextmanager
def listening(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """One connection, and what is said in it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                talk(listener.accept()[0])
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)


@pytest.mark.parametrize(
    "reply", [b"SSH-2.0-x\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"x" * 70000, b""]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_whoever_does_not_speak_http_or_tls(reply: bytes, scheme: str) -> None:
    with listening(_talking(reply)) as port:
        put_channel("ops", "slack", {"url": f"{scheme}://127.0.0.1:{port}{HOOK}"})
        said = send("ops", event())
    assert said.verdict == UNREACHABLE
    assert HOOK not in said.words and "x" * 10 not in said.words


def test_nobody_there_and_no_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    put_webhook("ops", port)
    assert send("ops", event()) == Said(UNREACHABLE, "Connection refused")
    put_channel("ops", "webhook", {"url": "https://sesame.invalid/x", "secret": SECRET})
    said = send("ops", event())
    assert said.verdict == UNREACHABLE and "sesame" not in said.words
    put_channel("ops", "webhook", {"url": f"https://{'sesame' * 15}.example/x", "secret": SECRET})
    said = send("ops", event())
    assert said.verdict in (FAILED, UNREACHABLE) and "sesame" not in said.words


def test_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posts, "SECONDS", 0.05)
    monkeypatch.setattr(mailer, "SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        put_webhook("ops", listener.getsockname()[1])
        assert send("ops", event()).verdict == UNREACHABLE
        put_channel("ops", "smtp", {**MAIL, "host": "127.0.0.1", "port": listener.getsockname()[1], "security": "none"})
        assert send("ops", event()).verdict == UNREACHABLE


def test_a_certificate_has_to_count(context: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(context) as web:
        put_channel("ops", "slack", {"url": f"https://127.0.0.1:{web.port}{HOOK}"})
        said = send("ops", event())
        assert said.verdict == UNREACHABLE and said.words.startswith("its certificate does not count: self")
    with serving(certificate(tmp_path, "DNS:sesame.example")) as web:
        monkeypatch.setenv("SSL_CERT_FILE", f"{tmp_path}/cert")
        put_channel("ops", "slack", {"url": f"https://127.0.0.1:{web.port}{HOOK}"})
        assert send("ops", event()).words == "its certificate does not count: it is made out to another name"
    assert web.asked == []


# --- mail ------------------------------------------------------------------------------------------------------------


class Sink:
    """An SMTP server's answers. It keeps what it took."""

    def __init__(self) -> None:
        self.mail: list[tuple[str, list[str], bytes]] = []
        self.logins: list[tuple[bytes, bytes]] = []
        self.refuses: dict[str, str] = {}
        self.data = "250 OK"
        self.hangs_up = False

    def login(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"hunter2", handled=False)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if address in self.refuses:
            return self.refuses[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mail.append((envelope.mail_from, envelope.rcpt_tos, envelope.content))
        return self.data

    async def handle_QUIT(self, server: Any, session: Any, envelope: Any) -> str:
        if self.hangs_up:
            server.transport.abort()
        return "221 Bye"


@contextmanager
def smtp_sink(
    context: ssl.SSLContext | None = None, *, tls: bool = False, login: bool = True
) -> Iterator[tuple[Sink, int]]:
    sink = Sink()

    starttls = None if tls else context

    def protocol() -> SMTP:
        return SMTP(
            sink, hostname="mx.test", tls_context=starttls, require_starttls=bool(starttls), loop=loop,
            authenticator=sink.login, auth_required=login, auth_require_tls=bool(starttls),
        )  # fmt: skip

    loop = asyncio.new_event_loop()
    direct = context if tls else None
    server = loop.run_until_complete(loop.create_server(protocol, "127.0.0.1", 0, ssl=direct))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield sink, server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        loop.close()


def mail_to(port: int, security: str, **changes: Any) -> None:
    login = {"username": "sf", "password": "hunter2"}
    put_channel("mail", "smtp", {"host": "127.0.0.1", "port": port, "security": security, **login, **MAIL, **changes})


def parsed(data: bytes) -> EmailMessage:
    found = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail(trusted: ssl.SSLContext, security: str) -> None:
    with smtp_sink(trusted, tls=security == "tls") as (sink, port):
        mail_to(port, security)
        assert send("mail", event()) == Said(SENT, "it took the message")
        assert send("mail", event()).verdict == SENT
    assert sink.logins[0] == (b"sf", b"hunter2")
    sender, to, data = sink.mail[0]
    assert (sender, to) == ("alerts@example.com", ["ops@example.com"])
    assert sink.mail[1][2] == data  # Date and Message-ID too, so that whoever gets it twice can tell
    mail = parsed(data)
    assert {name: mail[name] for name in mail.keys()} == {  # noqa: SIM118  a message is no mapping
        "From": "sf <alerts@example.com>",
        "To": "ops@example.com",
        "Subject": "[web1] error: Cron job report failed",
        "Date": "Fri, 15 Jan 2027 08:00:00 +0000",
        "Message-ID": f"<{event()['id']}@example.com>",
        "Auto-Submitted": "auto-generated",
        "MIME-Version": "1.0",
        "Content-Type": 'text/plain; charset="utf-8"',
        "Content-Transfer-Encoding": "quoted-printable",
    }
    assert mail.get_content().replace("\r\n", "\n") == wording.body(event(server="web1"))


def test_mail_to_the_postfix_of_this_machine() -> None:
    with smtp_sink(login=False) as (sink, port):
        mail_to(port, "none", username="", password="")
        assert send("mail", event()).verdict == SENT
    assert (len(sink.mail), sink.logins) == (1, [])


def as_mail(**changes: Any) -> bytes:
    channel = channels.parse(json.dumps({"v": 1, "name": "m", "provider": "smtp", "server": "web1", "rules": [],
                                         "settings": GOOD["smtp"]}).encode(), "m")  # fmt: skip
    return mailer.message(channel.settings, event(**changes))


@given(title=st.text(), text=st.text(max_size=300), hostname=st.text(max_size=64))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_an_event_says_it_is_one_mail(title: str, text: str, hostname: str) -> None:
    told = {
        "title": wording.line(title),
        "text": wording.text(text),
        "hostname": wording.line(hostname, 64),
        "server": "",
    }
    data = as_mail(**told)
    assert data.isascii() and all(len(line) <= 78 for line in data.split(b"\r\n"))
    assert b"\r" not in data.replace(b"\r\n", b"") and b"\n" not in data.replace(b"\r\n", b"")
    mail = parsed(data)
    assert len(mail.keys()) == 9 and mail["To"] == "ops@example.com"
    assert mail["Subject"].split() == wording.subject(event(**told)).split()


def test_addresses_stay_whole() -> None:
    long = f"{'a' * 64}@{'b' * 60}.{'c' * 60}.example.com"
    settings_ = {"sender": long, "to": [long, *(f"ops{number}@example.com" for number in range(49))]}
    mail = parsed(mailer.message(settings_, event()))
    assert mail["From"] == long and mail["Message-ID"] == f"<{event()['id']}@{long.partition('@')[2]}>"
    assert mail["To"].split(", ") == settings_["to"]


def test_what_a_job_prints_is_no_header_and_no_sequence() -> None:
    told = {"title": wording.line(EVIL), "text": wording.text(EVIL)}
    mail = parsed(as_mail(**told))
    assert mail["Bcc"] is None
    assert mail["Subject"] == "[web1] error: job Bcc: everyone@example.com red ?gnp.exe <!channel> & ? ü 🚀"
    assert "\x1b" not in mail.get_content() and "\u202e" not in mail.get_content()


@pytest.mark.parametrize(
    ("password", "verdict", "words"),
    [
        ("wrong", REFUSED, "it refused the login (535 5.7.8)"),
        (PASSWORD, REFUSED, "the login has characters that cannot be sent"),
    ],
)
def test_a_login_that_is_refused(trusted: ssl.SSLContext, password: str, verdict: str, words: str) -> None:
    with smtp_sink(trusted) as (sink, port):
        mail_to(port, "starttls", password=password)
        assert send("mail", event()) == Said(verdict, words)
    assert sink.mail == []


def test_no_password_goes_where_there_is_no_tls(context: ssl.SSLContext) -> None:
    with smtp_sink() as (sink, port):
        mail_to(port, "starttls")
        assert send("mail", event()) == Said(REFUSED, "it does not offer STARTTLS")
    assert sink.logins == []
    with smtp_sink(context) as (sink, port):
        mail_to(port, "starttls")
        assert send("mail", event()).words.startswith("its certificate does not count: self")
    assert sink.logins == []


def test_recipients_that_are_refused(trusted: ssl.SSLContext) -> None:
    with smtp_sink(trusted) as (sink, port):
        mail_to(port, "starttls", to=["a@example.com", "b@example.com"])
        sink.refuses = {"a@example.com": f"550 5.1.1 {PASSWORD.encode().hex()}"}
        assert send("mail", event()) == Said(SENT, "it took the message, but not for a@example.com")
        sink.refuses |= {"b@example.com": "451 later"}
        assert send("mail", event()) == Said(
            FAILED, "it refused every recipient (451), and will not for a@example.com", 0, ("b@example.com",)
        )
        sink.refuses |= {"b@example.com": "550 5.7.1 relaying denied"}
        assert send("mail", event()) == Said(REFUSED, "it refused every recipient (550 5.1.1)")
    assert [to for _, to, _ in sink.mail] == [["b@example.com"]]


def test_a_recipient_that_is_put_off_gets_it_later_and_no_other_gets_it_twice(trusted: ssl.SSLContext) -> None:
    """Greylisting of one, while another is taken and a third never will be."""
    with smtp_sink(trusted) as (sink, port):
        mail_to(port, "starttls", to=["a@example.com", "b@example.com", "c@example.com"])
        sink.refuses = {"a@example.com": "451 4.7.1 later", "c@example.com": "550 5.1.1 nobody"}
        words = "it took the message, but not yet for a@example.com (451 4.7.1), and will not for c@example.com"
        said = send("mail", event())
        assert said == Said(FAILED, words, 0, ("a@example.com",))
        again = send("mail", event(), said.left)
        assert again == Said(FAILED, "it refused a@example.com (451 4.7.1)", 0, ("a@example.com",))
        sink.data = "451 4.3.0 no room"
        sink.refuses = {"c@example.com": "550 5.1.1 nobody"}
        assert send("mail", event(), again.left).left == ("a@example.com",)
        assert send("mail", event()).left == ("a@example.com", "b@example.com")
        sink.mail[1:], sink.data = [], "250 OK"
        assert send("mail", event(), again.left) == Said(SENT, "it took the message")
        assert send("mail", event(), ["gone@example.com"]).verdict == SENT
    assert [to for _, to, _ in sink.mail] == [["b@example.com"], ["a@example.com"]]
    assert sink.mail[0][2] == sink.mail[1][2]


def test_what_was_taken_is_sent_even_if_the_goodbye_fails(trusted: ssl.SSLContext) -> None:
    with smtp_sink(trusted) as (sink, port):
        mail_to(port, "starttls")
        sink.hangs_up = True
        assert send("mail", event()).verdict == SENT
        sink.data = "554 5.7.1 spam"
        assert send("mail", event()) == Said(REFUSED, "it refused the message (554 5.7.1)", 0, ("ops@example.com",))


@pytest.mark.parametrize("silent", [False, True])
def test_no_answer_to_the_message_is_an_outcome_of_its_own(silent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server hangs up, or looks at it for too long: it may have taken it, so it is not away."""
    monkeypatch.setattr(mailer, "SECONDS_AT_THE_END", 0.1)

    async def slowly(sink: Sink, server: Any, session: Any, envelope: Any) -> str:
        sink.mail.append((envelope.mail_from, envelope.rcpt_tos, envelope.content))
        if silent:
            await asyncio.sleep(1)
        server.transport.abort()
        return "250 OK"

    monkeypatch.setattr(Sink, "handle_DATA", slowly)
    handed_over: list[bool] = []
    with smtp_sink(login=False) as (sink, port):
        sink.refuses = {"b@example.com": "550 5.1.1 nobody"}
        mail_to(port, "none", username="", password="", to=["a@example.com", "b@example.com"])
        opened = courier.settings_of("mail")
        said = courier.deliver(opened, "mail", event(), NOW, (), lambda: handed_over.append(True))
    words = "it did not answer after the message, and will not for b@example.com"
    assert said == Said(UNANSWERED, words, 0, ("a@example.com",))
    assert handed_over == [True] and len(sink.mail) == 1


def test_a_message_that_is_not_asked_for_is_not_sent() -> None:
    """A server that says 250 to DATA: it has no message yet."""

    def talk(connection: socket.socket) -> None:
        with connection:
            connection.sendall(b"220 mx\r\n" + b"250 OK\r\n" * 9)
            while connection.recv(65536):
                pass

    with listening(talk) as port:
        mail_to(port, "none", username="", password="")
        assert send("mail", event()).verdict == FAILED


def test_whoever_hangs_up_before_the_message_has_not_taken_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs_up(sink: Sink, server: Any, *_: Any) -> str:
        server.transport.abort()
        return "250 OK"

    monkeypatch.setattr(Sink, "handle_RCPT", hangs_up)
    with smtp_sink(login=False) as (_, port):
        mail_to(port, "none", username="", password="")
        assert send("mail", event()).verdict == UNREACHABLE


def test_lines_that_begin_with_a_point_arrive_whole() -> None:
    with smtp_sink(login=False) as (sink, port):
        mail_to(port, "none", username="", password="")
        assert send("mail", event(text=".\n..\n.x\nend")).verdict == SENT
    assert ".\n..\n.x\nend" in parsed(sink.mail[0][2]).get_content().replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("greeting", "verdict"),
    [(b"554 go away\r\n", REFUSED), (b"421 busy\r\n", FAILED), (b"", UNREACHABLE), (b"HTTP/1.1 400\r\n", UNREACHABLE)],
)
def test_a_greeting(greeting: bytes, verdict: str) -> None:
    with listening(_talking(greeting)) as port:
        mail_to(port, "none")
        assert send("mail", event()).verdict == verdict


# --- the courier -----------------------------------------------------------------------------------------------------


#: The system's Python, since the confined process sees nothing of /root, where another may live.
CARRY = """
import sys
sys.path[:0] = sys.argv[1:3]
import courier, json, layout
layout.NOTIFY, layout.READ_USER = sys.argv[3:5]
print(json.dumps(courier.carry("ops", json.loads(sys.stdin.read()))))
"""


def carried(user: str) -> Said:
    root = Path(__file__).parents[2]
    argv = [layout.PYTHON, "-IS", "-c", CARRY, str(root / "remote"), str(root / "src"), layout.NOTIFY, user]
    done = subprocess.run(argv, input=json.dumps(event()).encode(), capture_output=True, check=True)
    assert done.stderr == b""
    verdict, words, wait, left = json.loads(done.stdout)
    return Said(verdict, words, wait, tuple(left))


#: With CI set nothing is skipped: there it fails.
needs_root = pytest.mark.skipif(
    "CI" not in os.environ and (os.geteuid() != 0 or not os.path.exists(layout.PYTHON)),
    reason="to give up rights it takes some",
)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"5", b"null", b"[]", b"{}", b"\xff", b"[" * 60_000, b"1" * 60_000, b'["sent","",0,[]]',
        b'{"verdict":"sent","words":"","wait":0}', b'{"verdict":"sent","words":"","wait":0,"left":5}',
        b'{"verdict":"sent","words":"","wait":1e9,"left":[]}', b'{"verdict":"sent","words":"","wait":-1,"left":[]}',
        b'{"verdict":"sent","words":"","wait":true,"left":[]}', b'{"verdict":"sent","words":5,"wait":0,"left":[]}',
        b'{"verdict":"done","words":"","wait":0,"left":[]}', b'{"verdict":["sent"],"words":"","wait":0,"left":[]}',
        b'{"verdict":"sent","words":"","wait":0,"left":["no address"]}', b'{"verdict":"sent","words":"","wait":0,"lef',
        b'{"verdict":"sent","wait":0,"left":[],"words":"' + b"x" * 65536 + b'"}',
    ],
)  # fmt: skip
def test_a_child_that_talks_nonsense_has_not_sent_anything(data: bytes) -> None:
    said = heard_from(data)
    assert (said.verdict, said.wait, said.left) == (FAILED, 0, ())
    assert said.words == f"the sending process {'talks nonsense' if data else 'broke off'}"


def test_what_a_child_says_is_one_line_and_of_it_no_more_than_that_is_read() -> None:
    answer = {"verdict": "failed", "words": "a\x1b[31m\nb" + "c" * 9000, "wait": 60, "left": ["a@example.com"]}
    said = heard_from(json.dumps(answer).encode())
    assert said[2:] == (60, ("a@example.com",)) and said.words.startswith("a bccc") and len(said.words) == 1000
    with open("/dev/zero", "rb") as endless:
        assert courier._heard(endless.fileno()).words == "the sending process talks nonsense"


@pytest.mark.parametrize("data", [b"\n", b"\n{", b'\n{"verdict":"sent"}'])
def test_a_child_that_breaks_off_after_the_message_may_have_sent_it(data: bytes) -> None:
    assert heard_from(data) == Said(UNANSWERED, "it did not answer after the message")
    assert heard_from(b'\n{"verdict":"sent","words":"ok","wait":0,"left":[]}') == Said(SENT, "ok")


def test_after_the_message_an_answer_is_waited_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "SECONDS", 0.05)
    source, sink = os.pipe()
    assert courier._heard(source).verdict == UNREACHABLE
    os.write(sink, b"\n")
    answer = threading.Timer(0.2, os.write, (sink, b'{"verdict":"sent","words":"ok","wait":0,"left":[]}'))
    answer.start()
    closing = threading.Timer(0.3, os.close, (sink,))
    closing.start()
    assert courier._heard(source).verdict == SENT
    answer.join()
    closing.join()
    os.close(source)
    source, sink = os.pipe()
    os.write(sink, b"\n")
    began = time.monotonic()
    assert courier._heard(source, 0.1).verdict == UNANSWERED
    assert courier._heard(os.open("/dev/null", os.O_RDONLY)).verdict == FAILED
    assert time.monotonic() - began < 5
    os.close(source)
    os.close(sink)


def test_a_run_of_the_notifier_outlives_its_last_attempt() -> None:
    assert deliver._RUN_S + courier.SECONDS + courier.SECONDS_AT_THE_END < alerts._RUN_S
    assert mailer.SECONDS_AT_THE_END < courier.SECONDS_AT_THE_END


def heard_from(data: bytes) -> Said:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        return courier._heard(file.fileno())


@needs_root
def test_the_courier_sends_without_rights(web: Web) -> None:
    put_webhook("ops", web.port)
    os.chmod(f"{layout.NOTIFY}/ops.json", 0o600)
    assert carried("nobody") == Said(SENT, "it answered 200")
    assert web.ids == [event()["id"]]
    Path(layout.NOTIFY, "ops.json").write_text("{")
    assert carried("nobody").words == "its settings are damaged: not JSON in UTF-8"
    Path(layout.NOTIFY, "ops.json").unlink()
    assert carried("nobody").words == "its settings cannot be read: No such file or directory"


@needs_root
def test_where_rights_cannot_be_given_up_nothing_is_sent(web: Web) -> None:
    put_webhook("ops", web.port)
    said = carried("no-such-user")
    assert said.verdict == FAILED and said.words.startswith("the read sandbox cannot be set up")
    assert web.asked == []
