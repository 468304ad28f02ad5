"""Where alerts end up: an HTTPS and an SMTP server on this machine, with certificates of an authority of the tests.

Targets reach them at the gateway of their network.
"""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .operator import eventually
from .target import Target, call, free_port

#: As RFC 5280 wants it, and Python from 3.13 on (VERIFY_X509_STRICT).
_CA = "basicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign, cRLSign"
_STORE = "/usr/local/share/ca-certificates/tests.crt"


def gateway(target: Target) -> str:
    """This machine, as the target sees it."""
    return target.ip.rpartition(".")[0] + ".1"


class Authority:
    """An authority of certificates, and what it has issued."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.certificate, _ = self._issue("ca", _CA, [])

    def issue(self, *names: str) -> tuple[Path, Path]:
        """Certificate and key for these host names and addresses."""
        kinds = ("IP" if name.replace(".", "").isdigit() else "DNS" for name in names)
        listed = ", ".join(f"{kind}:{name}" for kind, name in zip(kinds, names, strict=True))
        by: list[str | Path] = ["-CA", self.certificate, "-CAkey", self._folder / "ca.key"]
        return self._issue(names[0], f"subjectAltName = {listed}\nauthorityKeyIdentifier = keyid", by)

    def _issue(self, name: str, extension: str, by: list[str | Path]) -> tuple[Path, Path]:
        config, certificate, key = (self._folder / f"{name}.{kind}" for kind in ("conf", "crt", "key"))
        config.write_text(
            f"[req]\ndistinguished_name = dn\nprompt = no\nx509_extensions = ext\n[dn]\nCN = {name}\n"
            f"[ext]\n{extension}\nsubjectKeyIdentifier = hash\n"
        )
        curve = "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"
        call(
            "openssl", "req", "-x509", "-config", config, *curve, "-days", "2", "-keyout", key, "-out", certificate, *by
        )
        return certificate, key

    def trusted_by(self, target: Target) -> None:
        """As an administrator has a server trust an authority of the house."""
        target.run("sh", "-c", f"cat > {_STORE} && update-ca-certificates", input=self.certificate.read_text())


# --- HTTPS -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Post:
    """One request; names of headers in lower case."""

    host: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Web:
    """`answers` are status and body by path, 200 for the rest. While `gate` is closed, nobody gets an answer."""

    address: str
    port: int
    posts: list[Post] = field(default_factory=list)
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    gate: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str, host: str = "") -> str:
        return f"https://{host or self.address}:{self.port}{path}"

    def at(self, path: str) -> list[Post]:
        return [post for post in self.posts if post.path == path]

    def wait(self, path: str, count: int = 1, timeout: float = 30) -> list[Post]:
        """What has come to this path, once it is as many."""
        eventually(lambda: len(self.at(path)) >= count, f"{count} requests to {path}", timeout)
        found = self.at(path)
        assert len(found) == count, found
        return found


@contextmanager
def web(address: str, authority: Authority, *names: str) -> Iterator[Web]:
    """HTTPS at any port of this address, for these names and itself."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            found.posts.append(Post(headers["host"], self.path, headers, body))
            found.gate.wait(60)
            status, answer = found.answers.get(self.path, (200, "ok"))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(address, *names))
    # The handshake belongs to the connection's own thread: a client that does none holds up no other.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    found = Web(address, server.server_address[1])
    found.gate.set()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        found.gate.set()
        server.shutdown()
        server.server_close()


# --- SMTP with a login -----------------------------------------------------------------------------------------------


@dataclass
class Mail:
    """What came, each with whether it came by TLS and after which login."""

    port: int
    came: list[tuple[bool, str, bytes]] = field(default_factory=list)


@contextmanager
def mail(address: str, authority: Authority, username: str, password: str) -> Iterator[Mail]:
    """A submission server (RFC 6409): STARTTLS first, then AUTH, then mail."""
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

    class Handler:
        async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
            found.came.append((session.ssl is not None, str(session.auth_data or ""), envelope.content))
            return "250 2.0.0 taken"

    def login(_server: SMTP, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        right = data == LoginPassword(username.encode(), password.encode())
        return AuthResult(success=right, handled=right, auth_data=username)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(address))
    found = Mail(free_port())
    options: dict[str, Any] = {"require_starttls": True, "auth_required": True, "authenticator": login}
    controller = Controller(Handler(), hostname=address, port=found.port, tls_context=context, **options)
    controller.start()
    try:
        yield found
    finally:
        controller.stop()
