"""For the tests of the notifier: channels in a folder, a web server and a certificate that count on this machine."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import courier
import layout
from said import Said

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = 1_800_000_000

EVENT: dict[str, Any] = {
    "v": 1, "id": "01J0000000000000000000000A", "kind": "cron.failed", "severity": "error", "state": "open",
    "key": "cron.failed/report", "server": "web1", "server_id": "5e" * 32, "hostname": "web1.example.com",
    "at": "2027-01-15T08:00:00Z", "since": "2027-01-15T08:00:00Z", "count": 1,
    "title": "Cron job report failed", "text": "Traceback: no such table", "data": {"exit": 1},
}  # fmt: skip


def event(**changes: Any) -> dict[str, Any]:
    return {**EVENT, **changes}


@dataclass
class Web:
    """A web server of the test's own. It keeps what it was sent; it says what `status`, `answer` and `headers` are."""

    port: int = 0
    status: int = 200
    answer: bytes = b"ok"
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for _, headers, _ in self.asked]


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Web]:
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            web.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(web.status)
            for name, value in web.headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(web.answer)
            except OSError:
                return  # nobody wants to hear all of it

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        web.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield web
        finally:
            server.shutdown()
            thread.join()


def certificate(folder: Path, name: str) -> ssl.SSLContext:
    """A server's context with a certificate of its own making, which is FOLDER/cert."""
    files = ["-keyout", f"{folder}/key", "-out", f"{folder}/cert"]
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *files]
    more = ["-subj", "/CN=test", "-addext", f"subjectAltName={name}", "-days", "2"]
    subprocess.run([*argv, *more], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/cert", f"{folder}/key")
    return context


def state_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that the notifier reads and writes, and a systemd-run that keeps what it was asked."""
    for name in ("NOTIFY", "ALERTS", "ALERTS_IN_MEMORY", "SERVER_ID"):
        monkeypatch.setattr(layout, name, str(folder / name.lower()))
    Path(layout.SERVER_ID).write_text("5e" * 32 + "\n")
    programs = folder / "bin"
    programs.mkdir()
    for program in ("systemd-run", "systemctl"):
        (programs / program).write_text(f'#!/bin/sh\necho {program} "$@" >> {folder}/asked\n')
        (programs / program).chmod(0o755)
    monkeypatch.setattr(layout, "ENVIRONMENT", {**layout.ENVIRONMENT, "PATH": f"{programs}:/usr/bin:/bin"})


def put_channel(name: str, provider: str, settings: dict[str, Any], rules: tuple[str, ...] = ("* error",)) -> None:
    value = {"v": 1, "name": name, "provider": provider, "server": "web1", "rules": list(rules), "settings": settings}
    Path(layout.NOTIFY).mkdir(exist_ok=True)
    (Path(layout.NOTIFY) / f"{name}.json").write_text(json.dumps(value))


def put_webhook(name: str, port: int, rules: tuple[str, ...] = ("* error",)) -> None:
    put_channel(name, "webhook", {"url": f"http://127.0.0.1:{port}/hook", "secret": SECRET}, rules)


def send(name: str, told: Any, left: Sequence[str] = (), now: int = NOW) -> Said:
    """As the courier's innermost process does it, without the confinement."""
    return courier.deliver(courier.settings_of(name), name, told, now, left)
