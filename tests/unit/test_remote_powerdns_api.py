"""What the broker lets actions ask of PowerDNS, and what it says when that fails."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import powerdns_api
from serverflow_actions import registry
from serverflow_actions.kit.host import HostError
from serverflow_actions.kit.powerdns import CALLS, POWERS, api_key_in

_KEY = "0123456789abcdef0123456789abcdef"


class Server(HTTPServer):
    """It keeps what it was asked, and answers all with the same."""

    answer = 204, b""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str, str, Any]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline()
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key = self.headers["X-API-Key"]
        self.server.asked.append((self.command, self.path, key, json.loads(body) if body else None))
        status, text = self.server.answer
        self.close_connection = True
        if status == 0:
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    (tmp_path / "api.conf").write_text(f"api=yes\napi-key={_KEY}\n")
    with Server() as found:
        monkeypatch.setattr(powerdns_api, "API_CONFIG", str(tmp_path / "api.conf"))
        monkeypatch.setattr(powerdns_api, "API_PORT", found.server_port)
        monkeypatch.setattr(powerdns_api, "DATA_FOLDER", str(tmp_path))
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def test_a_request_has_the_key_and_the_path(server: Server) -> None:
    assert powerdns_api.request(["dns-records"], "records", {"rrsets": []}, zone="Acme.Test") == {}
    powerdns_api.request(["dns-records"], "notify", zone="acme.test.")
    body = {"kind": "ALSO-NOTIFY", "metadata": []}
    powerdns_api.request(["dns-zones"], "metadata", body, zone="a.test.", kind="ALSO-NOTIFY")
    root = "/api/v1/servers/localhost/zones"
    assert server.asked == [
        ("PATCH", f"{root}/acme.test.", _KEY, {"rrsets": []}),
        ("PUT", f"{root}/acme.test./notify", _KEY, None),
        ("PUT", f"{root}/a.test./metadata/ALSO-NOTIFY", _KEY, body),
    ]


@pytest.mark.parametrize(
    ("powers", "call", "body", "names", "why"),
    [
        ([], "records", {"rrsets": []}, {"zone": "a.test."}, "does not declare dns-records"),
        (["dns-records"], "zone-remove", None, {"zone": "a.test."}, "does not declare dns-remove"),
        (["reboot"], "reboot", None, {}, "is not asked for reboot"),
        (["dns-records"], "records", {"rrsets": [], "kind": "Slave"}, {"zone": "a.test."}, "records has no kind"),
        (["dns-records"], "records", ["rrsets"], {"zone": "a.test."}, "takes an object"),
        (["dns-records"], "notify", None, {}, "notify needs a zone"),
        (["dns-zones"], "metadata", {}, {"zone": "a.test.", "kind": "LUA-AXFR-SCRIPT"}, "are not set by actions"),
        (["dns-zones"], "metadata", {}, {"zone": "a.test.", "kind": "../../config"}, "are not set by actions"),
    ],
)
def test_what_is_not_declared_is_not_asked(
    server: Server, powers: list[str], call: str, body: Any, names: dict[str, str], why: str
) -> None:
    with pytest.raises(HostError, match=why):
        powerdns_api.request(powers, call, body, **names)
    assert server.asked == []


@pytest.mark.parametrize(
    "zone", ["../tsigkeys", "a.test./notify", "a=2Ftest", "a%2ftest", "", ".", "a..b", "a b", "a\nb"]
)
def test_a_name_cannot_leave_its_place_in_the_path(server: Server, zone: str) -> None:
    with pytest.raises(ValueError, match="is not a domain name"):
        powerdns_api.request(POWERS, "notify", zone=zone)
    assert server.asked == []


@pytest.mark.parametrize(
    ("status", "text", "said"),
    [
        (422, b'{"error": "RRset x: Conflicts"}', r"PowerDNS: RRset x: Conflicts \(HTTP 422\)"),
        (401, b"Unauthorized", r"PowerDNS: Unauthorized \(HTTP 401\)"),
        (500, b'["odd"]', r"the log of pdns.service says why"),
        (404, b"", r"Not Found \(HTTP 404\)"),
        (0, b"", "broke off its answer, and may have done"),
    ],
)
def test_what_fails_is_told_in_its_words(server: Server, status: int, text: bytes, said: str) -> None:
    server.answer = status, text
    with pytest.raises(HostError, match=said) as error:
        powerdns_api.request(["dns-records"], "notify", zone="a.test.")
    assert _KEY not in str(error.value)


def test_a_full_disk_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answer = 500, b"Internal Server Error"
    monkeypatch.setattr(powerdns_api, "_ROOM", 1 << 62)
    with pytest.raises(HostError, match="is full"):
        powerdns_api.request(["dns-records"], "notify", zone="a.test.")


def test_a_disk_without_a_free_inode_is_full(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollback journal is a file."""
    full = os.statvfs_result((4096, 4096, 1 << 20, 1 << 19, 1 << 19, 1000, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    server.answer = 500, b"Internal Server Error"
    with pytest.raises(HostError, match="is full"):
        powerdns_api.request(["dns-records"], "notify", zone="a.test.")


def test_who_does_not_run_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server() as other:
        free = other.server_port
    monkeypatch.setattr(powerdns_api, "API_PORT", free)
    with pytest.raises(HostError, match="PowerDNS does not run"):
        powerdns_api.request(["dns-records"], "notify", zone="a.test.")


def test_without_a_key_nothing_is_asked(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(powerdns_api, "API_CONFIG", str(tmp_path / "none"))
    with pytest.raises(HostError, match="has no key"):
        powerdns_api.request(["dns-records"], "notify", zone="a.test.")
    assert server.asked == []
    assert api_key_in("# api-key=0123456789abcdef0123\napi-key=short\n") == ""


def test_each_action_declares_powers_that_there_are() -> None:
    declared = {verb for name in registry.names() for verb in registry.load(name).host_verbs if verb.startswith("dns-")}
    assert declared == POWERS == {call.power for call in CALLS.values()}
    removing = [name for name in registry.names() if "dns-remove" in registry.load(name).host_verbs]
    assert all(registry.load(name).destructive for name in removing)
