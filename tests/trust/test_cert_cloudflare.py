"""TXT records by Cloudflare's API, against a server that answers in its form; its token is said nowhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import certdns
from certdns import Failed
from serverflow_actions.kit.certificate import Credential, Wish

TOKEN = "token-that-is-not-to-be-told-0123456789"
ID = "0123456789abcdef0123456789abcdef"
NAME = "_acme-challenge.web1.example.net"
WISH = Wish("web1", ("web1.example.net",), method="cloudflare", zone="example.net")


@dataclass
class Cloud:
    """`fail` are answers that come before any other."""

    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    fail: list[tuple[int, dict[str, str], str]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, body: Any) -> Any:
        url = urlsplit(path)
        query = {key: value[0] for key, value in parse_qs(url.query).items()}
        if url.path == "/zones":
            return [{"id": ID, "name": "example.net"}] if query["name"] == "example.net" else []
        if method == "POST":
            number = f"{len(self.records) + 1:032x}"
            # Cloudflare gives back what it was given, with the quotes or without them.
            self.records[number] = {**body, "id": number}
            return self.records[number]
        if method == "DELETE":
            return self.records.pop(url.path.rpartition("/")[2])
        return [each for each in self.records.values() if each["name"] == query["name"]]


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    found = Cloud()

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            assert self.headers["Authorization"] == f"Bearer {TOKEN}"
            found.asked.append(f"{self.command} {urlsplit(self.path).path}")
            if found.fail:
                status, headers, text = found.fail.pop(0)
            else:
                answer = {"success": True, "result": found.answer(self.command, self.path, body)}
                status, headers, text = 200, {}, json.dumps(answer)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_DELETE = _any

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setattr(certdns, "CLOUDFLARE", f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield found
        server.shutdown()


def change(do: str, value: str, wish: Wish = WISH) -> None:
    certdns.change(wish, Credential(TOKEN), do, NAME, value)


def contents(cloud: Cloud) -> list[str]:
    return sorted(each["content"] for each in cloud.records.values())


def test_two_challenges_of_one_name_stand_side_by_side(cloud: Cloud) -> None:
    for value in ("one", "two", "two"):
        change("add", value)
    assert contents(cloud) == ['"one"', '"two"']
    (first, _) = cloud.records.values()
    assert (first["type"], first["name"], first["ttl"]) == ("TXT", NAME, 60)
    for _ in range(2):
        change("delete", "one")
    assert contents(cloud) == ['"two"']


def test_records_of_others_stay_and_quotes_do_not_matter(cloud: Cloud) -> None:
    cloud.records = {
        f"{n:032x}": {"id": f"{n:032x}", "name": NAME, "content": content, "type": "TXT"}
        for n, content in enumerate(["one", "somebody else's"], 1)
    }
    change("delete", "one")
    assert contents(cloud) == ["somebody else's"]


def test_a_token_that_may_not_look_up_its_zone_is_given_the_id(cloud: Cloud) -> None:
    change("add", "one", WISH._replace(zone_id=ID))
    assert cloud.asked == [f"GET /zones/{ID}/dns_records", f"POST /zones/{ID}/dns_records"]
    with pytest.raises(Failed, match=r"no zone other\.net to this token"):
        change("add", "one", WISH._replace(zone="other.net"))


def test_busy_is_waited_for_as_long_as_it_says(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("certdns.time.sleep", waits.append)
    cloud.fail = [(429, {"Retry-After": "7"}, ""), (503, {}, ""), (429, {"Retry-After": "86400"}, "")]
    change("add", "one")
    assert contents(cloud) == ['"one"'] and waits == [7.0, 2.0, 30.0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            (403, {}, json.dumps({"errors": [{"code": 10000, "message": f"Authentication error {TOKEN}"}]})),
            r"Cloudflare answered 403: Authentication error … \(10000\)",
        ),
        ((400, {}, "<html>"), "Cloudflare answered 400: no reason"),
        ((200, {}, "<html>"), "talks nonsense"),
        ((200, {}, "[]"), "talks nonsense"),
        ((302, {"Location": "http://127.0.0.1:1/"}, ""), "Cloudflare answered 302"),
    ],
)
def test_its_refusals_in_words_without_the_token(cloud: Cloud, answer: Any, words: str) -> None:
    cloud.fail = [answer]
    with pytest.raises(Failed, match=words) as caught:
        change("add", "one")
    assert TOKEN not in str(caught.value) and contents(cloud) == []


def test_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certdns, "CLOUDFLARE", "http://127.0.0.1:1")
    with pytest.raises(Failed, match="does not answer: Connection refused"):
        change("add", "one")
