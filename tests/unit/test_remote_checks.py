"""The user's own checks (remote/checks.py), against sockets of this machine and out of any sandbox."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import checks
import layout
from messages import Denied
from serverflow_actions.kit.checks import Check, parse

SECRET = "a word of the answer"


class Web(BaseHTTPRequestHandler):
    """Answers /N with status N, and remembers whom it was asked as."""

    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Host"]))
        self.send_response(int(self.path[1:4]), SECRET)
        self.send_header("Location", "/200")
        self.end_headers()
        self.wfile.write(SECRET.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


def serving(handler: type[Web], context: ssl.SSLContext | None = None) -> Iterator[int]:
    with ThreadingHTTPServer(("", 0), handler) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def asked() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def web(asked: list[tuple[str, str]]) -> Iterator[int]:
    yield from serving(type("Asked", (Web,), {"asked": asked}))


@pytest.fixture(scope="module")
def tls_web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """With a certificate that nobody vouches for."""
    folder = tmp_path_factory.mktemp("tls")
    files = ["-keyout", f"{folder}/key", "-out", f"{folder}/cert"]
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *files]
    subprocess.run([*argv, "-subj", "/CN=other.example", "-days", "2"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/cert", f"{folder}/key")
    yield from serving(type("Asked", (Web,), {"asked": []}), context)


@pytest.fixture
def silent() -> Iterator[int]:
    """Takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def closed() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def one(text: str) -> tuple[bool, str]:
    return checks.verdict(parse(text))


# --- one at a time ---------------------------------------------------------------------------------------------------


def test_a_port_that_takes_connections(silent: int, closed: int) -> None:
    assert one(f"tcp 127.0.0.1:{silent}") == (True, "it takes connections")
    assert one(f"tcp localhost:{silent}") == (True, "it takes connections")
    assert one(f"tcp 127.0.0.1:{closed}") == (False, "Connection refused")


def test_a_port_at_an_address_of_version_6() -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with listener:
        assert one(f"tcp [::1]:{listener.getsockname()[1]}") == (True, "it takes connections")


def test_a_status(web: int) -> None:
    assert one(f"http http://127.0.0.1:{web}/200 200") == (True, "it answered 200")
    assert one(f"http http://127.0.0.1:{web}/503 200") == (False, "it answered 503")
    assert one(f"http http://127.0.0.1:{web}/404?a=b&c=%20 404") == (True, "it answered 404")


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://[2001:db8::8080]/", ("2001:db8::8080", 80)),
        ("https://[fe80::abc]/", ("fe80::abc", 443)),
        ("http://[2001:db8::1]:8080/", ("2001:db8::1", 8080)),
        ("http://192.0.2.1/", ("192.0.2.1", 80)),
    ],
)
def test_where_a_url_leads(url: str, place: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def connect(address: tuple[str, int], *_: object, **__: object) -> socket.socket:
        asked.append(address)
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

    monkeypatch.setattr(socket, "create_connection", connect)
    assert one(f"http {url} 200") == (False, "Connection refused")
    assert asked == [place]


def test_redirects_are_not_followed_and_no_proxy_is_asked(
    web: int, asked: list[tuple[str, str]], closed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed}")
    assert one(f"http http://localhost:{web}/302?x 302") == (True, "it answered 302")
    assert asked == [("/302?x", f"localhost:{web}")]


def test_a_certificate_counts_but_on_the_server_itself(tls_web: int) -> None:
    for host in ("127.0.0.1", "localhost"):
        assert one(f"http https://{host}:{tls_web}/200 200") == (True, "it answered 200")
    ok, said = one(f"http https://127.0.0.2:{tls_web}/200 200")
    assert not ok and said.startswith("its certificate does not count: ")


def test_what_speaks_something_else(web: int, tls_web: int) -> None:
    assert one(f"http https://127.0.0.1:{web}/200 200") == (False, "it does not speak TLS as it should")

    def greet(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1)
            connection.sendall(f"SSH-2.0-{SECRET}\r\n".encode())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet, args=(listener,))
        thread.start()
        said = one(f"http http://127.0.0.1:{listener.getsockname()[1]}/ 200")
        thread.join()
    assert said == (False, "it does not speak HTTP")


def test_a_name() -> None:
    assert one("dns localhost A") == (True, "it resolves")
    ok, said = one("dns no-such-name.invalid A")  # RFC 2606
    assert not ok and said


# --- together --------------------------------------------------------------------------------------------------------


def test_all_at_once_each_with_its_own_end(silent: int, closed: int, web: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What hangs keeps nobody waiting for longer than its kind may take, and the others get their answers."""
    monkeypatch.setitem(checks.SECONDS_EACH, "http", 0.3)
    hanging = [parse(f"http http://127.0.0.1:{silent}/ 200")] * 14
    rest = [parse(f"tcp 127.0.0.1:{closed}"), parse(f"tcp 127.0.0.1:{web}")]
    found = checks.side_by_side([*hanging, *rest])
    assert [verdict.ok for verdict in found] == [*[False] * 15, True]
    assert {verdict.said for verdict in found[:14]} <= {"no answer within 0.3 s", "no answer in time"}
    assert found[14].said == "Connection refused"


def test_the_end_does_not_wait_for_what_cannot_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """getaddrinfo(3) takes no timeout."""
    over = threading.Event()

    def stuck(_: Check) -> checks.Verdict:
        over.wait()
        return checks.Verdict(True, "too late")

    monkeypatch.setitem(checks.SECONDS_EACH, "dns", 0.05)
    monkeypatch.setitem(checks._KINDS, "dns", stuck)
    found = checks.side_by_side([parse("dns localhost A")])
    over.set()
    assert found == [(False, "no answer within 0.05 s")]


# --- units, and what is asked for ------------------------------------------------------------------------------------


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Says `states` and writes down what it was asked; with exit code 3, as the real one where not all are active."""
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\necho $* >>{tmp_path}/calls\ncat {tmp_path}/states\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(layout, "ENVIRONMENT", {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    return tmp_path


def test_units(systemctl: Path) -> None:
    (systemctl / "states").write_text("active\nfailed\ninactive\n")
    expect = ["unit nginx active", "unit old.timer inactive", "unit gone.service inactive"]
    assert checks.perform(expect) == [
        {"check": expect[0], "ok": True, "said": "it is active"},
        {"check": expect[1], "ok": False, "said": "it is failed"},
        {"check": expect[2], "ok": True, "said": "it is inactive"},
    ]
    assert (systemctl / "calls").read_text() == "is-active -- nginx.service old.timer gone.service\n"


def test_units_that_systemctl_does_not_tell_of(systemctl: Path) -> None:
    (systemctl / "states").write_text("")
    assert checks.perform(["unit nginx active"]) == [
        {"check": "unit nginx active", "ok": False, "said": "it is not known to systemctl"}
    ]


def test_nothing_asked_for() -> None:
    assert checks.perform([]) == []


@pytest.mark.parametrize(
    "expect", [["unit nginx active"] * 17, ["unit nginx running"], ["tcp 127.0.0.1:1", "rm -rf /"]]
)
def test_what_is_not_a_check_is_denied_before_any_is_made(expect: list[str], systemctl: Path) -> None:
    with pytest.raises(Denied) as denied:
        checks.perform(expect)
    assert denied.value.code == "bad-params"
    assert not (systemctl / "calls").exists()


@pytest.mark.parametrize("said", [b"", b'{"verdicts": [[tr'])
def test_a_child_that_was_killed_found_nothing(said: bytes) -> None:
    assert checks._heard(said, 2) == [(False, "it could not be tried to the end")] * 2


def test_without_a_sandbox_there_is_no_check() -> None:
    with pytest.raises(Denied) as denied:
        checks._heard(b'{"floor": "no system call filter"}', 1)
    assert denied.value.code == "sandbox-floor"
