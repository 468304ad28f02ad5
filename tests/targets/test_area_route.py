"""The area route on real servers: what nginx does is seen with curl(1), openssl-s_client(1) and plain sockets."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serverflow_actions.kit.grammar import TYPES

from . import areas
from .areas import told
from .operator import Operator, eventually, new_operator
from .target import Fleet, Target

CONF = "/etc/nginx/conf.d"
SHARED, SHOP = f"{CONF}/00-serverflow.conf", f"{CONF}/serverflow-shop.conf"
USERS, PAGE = f"{CONF}/serverflow-shop.users", f"{CONF}/serverflow-shop.html"
LOG = "/var/log/nginx/serverflow-shop.log"
RELOAD = "run unit nginx.service"
HOST = "shop.acme.app"
SET = "route", "set", "shop", "--host", HOST, "--host", "*.web1.acme.app"
SECURE = *SET, "--certificate", "web1", "--to", "3000"
_PASSWORD = "-not to be told: 4"
_ECHO = Path(__file__).with_name("echo.py")
_CERTIFICATE = f"""
set -e
umask 077
mkdir -p /etc/serverflow/certs/web1
cd /etc/serverflow/certs/web1
openssl req -x509 -newkey rsa:2048 -nodes -keyout privkey.pem -out fullchain.pem -days 2 -subj /CN=test \\
  -addext subjectAltName=DNS:{HOST},DNS:*.web1.acme.app 2>/dev/null
"""


_PAGES = """
set -e
mkdir -p /srv/pages/.git /srv/pages/.well-known /srv/pages/sub
cd /srv/pages
echo home >index.html; echo sub >sub/index.html; echo key >.well-known/key; echo x >.env; echo x >.git/config
ln -s index.html same.html; ln -s /etc/passwd passwd
useradd eve
chown -h eve passwd
"""


_SWITCHES = ("redirect", "websockets", "maintenance", "access-log")
_GENERAL = ("--yes", "--plan", "--safe", "--no-confirm")


def _as_action(argv: tuple[str, ...]) -> list[str]:
    """`route set shop --to 3000` by the action's own name: what people type edits fleet.toml first."""
    area, verb, *rest = argv
    words, options = ["action", "run", f"{area}.{verb}"], iter(rest)
    for word in options:
        name, equals, value = word.removeprefix("--").partition("=")
        if word in _GENERAL:
            words.append(word)
        elif word == "--confirm":
            words += [word, next(options)]
        elif name.endswith("-stdin"):
            words += ["--secret-stdin", name.removesuffix("-stdin")]
        elif not word.startswith("--"):
            words.append(f"name={word}")
        elif name.removeprefix("no-") in _SWITCHES:
            words.append(f"{name.removeprefix('no-')}={'false' if name.startswith('no-') else 'true'}")
        else:
            words.append(f"{name}={value if equals else next(options)}")
    return words


def run(operator: Operator, *argv: str, **more: Any) -> dict[str, Any]:
    return areas.run(operator, *_as_action(argv), **more)


def changed(operator: Operator, *argv: str, **more: Any) -> list[str]:
    return areas.changed(operator, *_as_action(argv), **more)


def planned(operator: Operator, *argv: str, **more: Any) -> list[str]:
    return areas.planned(operator, *_as_action(argv), **more)


def refused(operator: Operator, *argv: str) -> str:
    return areas.refused(operator, *_as_action(argv))


@dataclass(frozen=True)
class Site:
    """A server with two apps, and a certificate of its own."""

    operator: Operator
    target: Target
    context: ssl.SSLContext

    def set(self, *options: str, of: tuple[str, ...] = SECURE, input: str | None = None) -> list[str]:
        """What changed; then nothing is left to do, and nginx has read it."""
        return changed(self.operator, *of, *options, "--yes", input=input)

    def curl(self, url: str, *options: str) -> Answer:
        """As a client that trusts the certificate and knows where all names of acme.app are."""
        return ask(self.target, url, *options)

    def talk(self, host: str = HOST) -> socket.socket:
        """A connection over TLS."""
        return self.context.wrap_socket(socket.create_connection((self.target.ip, 443), 10), server_hostname=host)

    def lines(self) -> list[dict[str, Any]]:
        """The log of the route."""
        return [json.loads(line) for line in self.target.run("cat", LOG).stdout.splitlines()]

    def text(self, path: str) -> str:
        return self.target.run("cat", path, check=False).stdout


@dataclass(frozen=True)
class Answer:
    """What curl(1) got. `version` is that of HTTP."""

    status: int
    version: str
    headers: dict[str, str]
    body: str

    @property
    def told(self) -> dict[str, Any]:
        """What the app was asked."""
        found: dict[str, Any] = json.loads(self.body)
        return found


def ask(target: Target, url: str, *options: str) -> Answer:
    host = url.split("/")[2]
    names = [f"{host}:{port}:127.0.0.1" for port in (80, 443)]
    resolve = [word for name in names for word in ("--resolve", name)]
    trust = "--cacert", "/etc/serverflow/certs/web1/fullchain.pem"
    shown = "-sSi", "--max-time", "20", "-w", "\n%{http_code} %{http_version}"
    done = target.run("curl", *shown, *resolve, *trust, *options, url, check=False)
    assert done.returncode == 0, f"curl {url}: {done.stderr}"
    answer, _, end = done.stdout.replace("\r\n", "\n").rpartition("\n")
    head, _, body = answer.removeprefix("HTTP/1.1 100 Continue\n\n").partition("\n\n")
    lines = (line.split(": ", 1) for line in head.splitlines()[1:])
    status, version = end.split()
    return Answer(int(status), version, {name.lower(): value for name, value in lines}, body)


def start_apps(target: Target) -> None:
    """Two on ports, and one on a socket."""
    target.run("sh", "-c", "cat > /usr/local/bin/echo.py", input=_ECHO.read_text())
    for number, place in enumerate(("3000", "3001", "/run/echo.sock")):
        target.run("systemd-run", "-q", f"--unit=echo{number}", "python3", "/usr/local/bin/echo.py", place)
    looks = "import socket; [socket.create_connection(('127.0.0.1', port)) for port in (3000, 3001)]"
    there = "sh", "-c", f'python3 -c "{looks}" && test -S /run/echo.sock'
    eventually(lambda: target.run(*there, check=False).returncode == 0, "the apps listen")


def make_certificate(target: Target) -> ssl.SSLContext:
    target.run("sh", "-c", _CERTIFICATE)
    pem = target.run("cat", "/etc/serverflow/certs/web1/fullchain.pem").stdout
    return ssl.create_default_context(cadata=pem)


def websocket(connection: socket.socket, path: str, text: bytes, host: str = HOST) -> bytes:
    """The echo of a text, or the status line where there is no WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    stream = connection.makefile("rb")
    status = stream.readline().strip()
    while stream.readline().strip():
        pass
    if b" 101 " not in status:
        return status
    mask = os.urandom(4)
    for _ in range(2):
        masked = bytes(b ^ mask[i % 4] for i, b in enumerate(text))
        connection.sendall(bytes([0x81, 0x80 | len(text)]) + mask + masked)
        assert stream.read(2) == bytes([0x81, len(text)])
        assert stream.read(len(text)) == text
    return text


@pytest.fixture(scope="module")
def site(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    target = fleet.start_fresh("debian12")
    operator = new_operator(tmp_path_factory.mktemp("route"))
    operator.add("web1", target)
    start_apps(target)
    yield Site(operator, target, make_certificate(target))
    fleet.remove(target)


@pytest.fixture(autouse=True)
def a_route(request: pytest.FixtureRequest) -> None:
    """Each test begins with the route as it is by default, over HTTPS."""
    if "site" in request.fixturenames and request.node.name != "test_first_over_http":
        found: Site = request.getfixturevalue("site")
        run(found.operator, *SECURE, "--yes")
        eventually(lambda: found.curl(f"https://{HOST}/").status == 200, "nginx serves the route")


# --- the first route -------------------------------------------------------------------------------------------------


def test_first_over_http(site: Site) -> None:
    plain = *SET, "--to", "3000"
    approved = planned(site.operator, *plain)
    assert approved == [
        "create package nginx",
        f"create file {SHARED}",
        f"create file {SHOP}",
        "update unit nginx.service",
    ]
    made = run(site.operator, *plain, "--yes")
    assert told(made)[:3] == approved[:3]
    assert made["data"] == {"hosts": ["*.web1.acme.app", HOST], "https": False, "warnings": []}
    assert run(site.operator, *plain, "--yes")["outcome"] == "unchanged"
    eventually(lambda: site.curl(f"http://{HOST}/x?y=1").status == 200, "nginx has read it")
    assert site.curl(f"http://{HOST}/x?y=1").told["path"] == "/x?y=1"
    assert site.curl("http://a.web1.acme.app/").status == 200
    # Debian's own site still answers for all other names, and nothing listens on 443.
    assert "Welcome to nginx" in site.curl("http://other.acme.app/").body
    assert ":443" not in site.target.run("ss", "-ltnH").stdout
    assert site.target.run("systemctl", "is-enabled", "nginx").stdout == "enabled\n"


def test_a_page_until_a_route_has_its_name(site: Site) -> None:
    page = "route", "set", "server", "--host", "ready.acme.app", "--to", "page:web1"
    assert f"create file {CONF}/serverflow-server.conf" in site.set(of=page)
    eventually(lambda: site.curl("http://ready.acme.app/any").status == 200, "nginx has read it")
    found = site.curl("http://ready.acme.app/")
    assert (found.body.strip(), found.headers["content-type"], found.headers["server"]) == (
        "web1 is ready", "text/plain", "nginx",
    )  # fmt: skip
    took = site.set("--no-redirect", "--host", "ready.acme.app")
    assert f"delete file {CONF}/serverflow-server.conf" in took
    eventually(lambda: site.curl("http://ready.acme.app/x").body.startswith("{"), "the app answers instead")


# --- HTTPS -----------------------------------------------------------------------------------------------------------


def test_https_by_both_versions_of_http(site: Site) -> None:
    one, two = (site.curl(f"https://{HOST}/", option) for option in ("--http1.1", "--http2"))
    assert [(each.status, each.version) for each in (one, two)] == [(200, "1.1"), (200, "2")]
    assert site.curl("https://b.web1.acme.app/").status == 200
    moved = site.curl(f"http://{HOST}/a?b=c")
    assert (moved.status, moved.headers["location"]) == (301, f"https://{HOST}/a?b=c")
    assert "strict-transport-security" not in one.headers
    assert "nginx/" not in one.headers["server"]


def test_hsts(site: Site) -> None:
    site.set("--hsts", "730d")
    eventually(lambda: "strict-transport-security" in site.curl(f"https://{HOST}/").headers, "it is read")
    for path in "/", "/missing":
        assert site.curl(f"https://{HOST}{path}").headers["strict-transport-security"] == "max-age=63072000"
    assert "strict-transport-security" not in site.curl(f"http://{HOST}/").headers


def test_without_redirect(site: Site) -> None:
    site.set("--no-redirect")
    eventually(lambda: site.curl(f"http://{HOST}/").status == 200, "it is read")
    assert site.curl(f"http://{HOST}/").told["headers"]["x-forwarded-proto"] == "http"
    assert site.curl(f"https://{HOST}/").told["headers"]["x-forwarded-proto"] == "https"


def test_unknown_names_get_nothing_of_a_route(site: Site) -> None:
    with pytest.raises(ssl.SSLError, match="unrecognized name"), site.talk("other.acme.app"):
        pass
    # A name that is known, and then another one.
    assert site.curl(f"https://{HOST}/", "-H", "Host: other.acme.app").status == 421
    assert site.curl(f"http://{HOST}/", "-H", "Host: other.acme.app").status == 200  # Debian's page
    assert "Welcome" in site.curl(f"http://{HOST}/", "-H", "Host: other.acme.app").body


@pytest.mark.parametrize(
    ("options", "protocol"),
    [
        (("-tls1", "-cipher", "ALL:@SECLEVEL=0"), ""),
        (("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), ""),
        (("-tls1_2",), "TLSv1.2"),
        (("-tls1_3",), "TLSv1.3"),
        (("-tls1_2", "-cipher", "ECDHE-RSA-CHACHA20-POLY1305"), "TLSv1.2"),
        (("-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA256"), ""),
        (("-tls1_2", "-cipher", "AES128-GCM-SHA256"), ""),
        (("-tls1_3", "-groups", "P-521"), ""),
    ],
)
def test_tls(site: Site, options: tuple[str, ...], protocol: str) -> None:
    assert handshake(site.target, *options) == protocol


def handshake(target: Target, *options: str) -> str:
    """The protocol that was agreed upon, "" for none."""
    argv = "openssl", "s_client", "-brief", "-connect", "127.0.0.1:443", "-servername", HOST, *options
    said = target.run(*argv, input="", check=False)
    found = [line for line in (said.stderr + said.stdout).splitlines() if line.startswith("Protocol version: ")]
    assert len(found) == (said.returncode == 0), said
    return found[0].split()[-1] if found else ""


# --- what comes to the app -------------------------------------------------------------------------------------------


def test_nothing_that_a_client_says_about_itself_reaches_the_app(site: Site) -> None:
    forged = {
        "X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "gopher", "X-Forwarded-Host": "evil.test",
        "X-Forwarded-User": "root", "X-Forwarded-Port": "6", "X-Real-IP": "6.6.6.6", "X_Forwarded_For": "6.6.6.6",
        "Forwarded": "for=6.6.6.6", "Proxy": "http://6.6.6.6", "X-Original-URL": "/666",
        "Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMAAABk",
    }  # fmt: skip
    options = [word for name, value in forged.items() for word in ("-H", f"{name}: {value}")]
    headers = site.curl(f"https://{HOST}/", "--http1.1", *options).told["headers"]
    mine = {name: value for name, value in headers.items() if name.startswith("x-") or name == "host"}
    del mine["x-request-id"]
    assert mine == {
        "host": HOST, "x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "https", "x-forwarded-host": HOST,
        "x-forwarded-port": "443", "x-real-ip": "127.0.0.1",
    }  # fmt: skip
    assert not {"forwarded", "proxy", "upgrade"} & set(headers) and headers["connection"] == "close"


def test_paths_lead_elsewhere(site: Site) -> None:
    site.target.run("sh", "-c", "mkdir -p /srv/docs && echo manual >/srv/docs/index.html")
    site.set("--path", "/api 3001", "--path", "/api/deep unix:/run/echo.sock", "--path", "/docs /srv/docs")
    eventually(lambda: site.curl(f"https://{HOST}/api").told["at"] == "3001", "it is read")
    where = {
        path: site.curl(f"https://{HOST}{path}").told for path in ("/", "/api", "/api/x?y=1", "/apis", "/api/deep/a")
    }
    assert {path: found["at"] for path, found in where.items()} == {
        "/": "3000", "/api": "3001", "/api/x?y=1": "3001", "/apis": "3000", "/api/deep/a": "/run/echo.sock",
    }  # fmt: skip
    assert where["/api/x?y=1"]["path"] == "/api/x?y=1"
    assert site.curl(f"https://{HOST}/docs/").body.strip() == "manual"
    assert site.curl(f"https://{HOST}/docs").headers["location"] == f"https://{HOST}/docs/"
    assert site.curl(f"https://{HOST}/docs/../api/x", "--path-as-is").told["at"] == "3001"
    assert site.curl(f"https://{HOST}/docs../etc/passwd", "--path-as-is").told["at"] == "3000"


def test_an_app_by_its_name(site: Site) -> None:
    run(site.operator, "app", "create", "web", "--port", "3001", "--yes")
    site.set(of=(*SET, "--certificate", "web1", "--to", "web"))
    eventually(lambda: site.curl(f"https://{HOST}/").told["at"] == "3001", "it leads to the app's port")


def test_websockets(site: Site) -> None:
    with site.talk() as connection:
        assert websocket(connection, "/chat", b"hello") == b"hello"
    site.set("--no-websockets")

    def status() -> bytes:
        with site.talk() as connection:
            return websocket(connection, "/chat", b"hello")

    eventually(lambda: status() == b"HTTP/1.1 200 OK", "the app hears of no upgrade")


# --- limits ----------------------------------------------------------------------------------------------------------


def test_body_size(site: Site) -> None:
    site.set("--body-size", "1MiB")
    site.target.run("sh", "-c", "head -c 1048576 /dev/zero >/tmp/right; head -c 1048577 /dev/zero >/tmp/more")

    def sent(file: str, *options: str) -> int:
        return site.curl(f"https://{HOST}/", "-H", "Expect:", "--data-binary", f"@/tmp/{file}", *options).status

    eventually(lambda: sent("more", "--http2") == 413, "it is read")
    assert sent("more", "--http1.1") == 413
    assert sent("right") == 200


def test_rate(site: Site) -> None:
    site.set("--rate", "1/m", "--burst", "2")
    url = f"https://{HOST}/?[1-6]"
    code = "curl", "-s", "-o", "/dev/null", "-w", "%{http_code} ", "--insecure", "--resolve", f"{HOST}:443:127.0.0.1"
    eventually(lambda: "429" in site.target.run(*code, url).stdout, "nginx has read it")
    site.target.run("systemctl", "restart", "nginx")  # whoever waited above has used it up
    assert site.target.run(*code, url).stdout == "200 200 200 429 429 429 "


def test_password(site: Site) -> None:
    options = "--auth-user", "ana", "--auth-password-stdin"
    assert "in the clear" in refused(site.operator, *SET, "--to", "3000", "--auth-user", "ana", "--yes")
    assert "ana has no password" in refused(site.operator, *SECURE, "--auth-user", "ana", "--yes")
    site.set(*options, input=_PASSWORD)
    assert site.target.run("stat", "-c", "%U:%G %a", USERS).stdout == "root:www-data 640\n"
    eventually(lambda: site.curl(f"https://{HOST}/").status == 401, "it is read")
    assert site.curl(f"https://{HOST}/").headers["www-authenticate"] == 'Basic realm="Restricted"'
    assert site.curl(f"https://{HOST}/", "-u", "ana:wrong").status == 401
    let_in = site.curl(f"https://{HOST}/", "-u", f"ana:{_PASSWORD}")
    assert let_in.status == 200
    assert "authorization" not in let_in.told["headers"] and let_in.told["headers"]["x-forwarded-user"] == "ana"
    # Without a password the one that is set stays, another one takes its place without a reload.
    assert run(site.operator, *SECURE, "--auth-user", "ana", "--yes")["outcome"] == "unchanged"
    assert site.set(*options, input="another") == [f"update file {USERS}"]
    assert site.curl(f"https://{HOST}/", "-u", f"ana:{_PASSWORD}").status == 401
    assert site.curl(f"https://{HOST}/", "-u", "ana:another").status == 200

    places = "/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/usr/local", "/var"
    found = site.target.run("grep", "-rlsF", "--devices=skip", "-e", _PASSWORD, *places, check=False).stdout
    assert found == ""
    site.set()
    assert site.text(USERS) == ""


# --- folders ---------------------------------------------------------------------------------------------------------


def test_folder(site: Site) -> None:
    site.target.run("sh", "-c", _PAGES)
    site.set(of=(*SET, "--certificate", "web1", "--to", "/srv/pages"))
    eventually(lambda: site.curl(f"https://{HOST}/").body.strip() == "home", "it is read")
    wanted = {
        "/same.html": 200, "/sub/": 200, "/.well-known/key": 200, "/.env": 404, "/.git/config": 404,
        "/sub/../.env": 404, "/passwd": 403, "/none": 404, "/%2e%2e/x": 400,
    }  # fmt: skip
    found = {path: site.curl(f"https://{HOST}{path}", "--path-as-is").status for path in wanted}
    assert found == wanted
    # The folder itself, or one above it, as whoever may write there could replace it.
    site.set(of=(*SET, "--certificate", "web1", "--to", "/srv/pages", "--path", "/deep /srv/pages/sub"))
    eventually(lambda: site.curl(f"https://{HOST}/deep/").body.strip() == "sub", "it is read")
    for replaced, *places in ("/srv/pages", "", "/deep"), ("/srv/pages/sub", "/sub", "/deep"):
        site.target.run("sh", "-c", f"mv {replaced} /srv/aside; ln -s {CONF} {replaced}; chown -h eve {replaced}")
        asked = [f"https://{HOST}{place}/{Path(SHOP).name}" for place in places]
        assert [site.curl(each).status for each in asked] == [403, 403], replaced
        site.target.run("sh", "-c", f"rm {replaced}; mv /srv/aside {replaced}")
    # A link to what its owner has, as releases do it.
    site.target.run("sh", "-c", "mv /srv/pages /srv/pages-1; ln -s pages-1 /srv/pages")
    eventually(lambda: site.curl(f"https://{HOST}/").body.strip() == "home", "it is followed")
    run(site.operator, "app", "create", "closed", "--yes")
    warned = run(site.operator, *SET, "--to", "/srv/closed", "--plan")["data"]["warnings"]
    assert warned == [
        "www-data, as whom nginx runs, may not read /srv/closed (mode 0750, closed:closed): visitors will get 403"
    ]


# --- maintenance -----------------------------------------------------------------------------------------------------


def test_maintenance(site: Site) -> None:
    site.set("--maintenance", "--hsts", "1d")
    eventually(lambda: site.curl(f"https://{HOST}/").status == 503, "it is read")
    for path, *options in ("/", "--http2"), ("/deep/a?b", "--http1.1"), ("/", "-X", "POST", "-d", "x=1"):
        shown = site.curl(f"https://{HOST}{path}", *options)
        assert (shown.status, shown.headers["retry-after"]) == (503, "300")
        assert shown.headers["content-type"] == "text/html; charset=utf-8"
        assert shown.headers["strict-transport-security"] == "max-age=86400"
        assert "Back soon" in shown.body
    assert site.set("--maintenance", "--hsts", "1d", "--maintenance-page", "<h1>Bär</h1>") == [f"update file {PAGE}"]
    assert site.curl(f"https://{HOST}/").body.strip() == "<h1>Bär</h1>"
    assert site.set() == [f"delete file {PAGE}", f"update file {SHOP}", RELOAD]
    eventually(lambda: site.curl(f"https://{HOST}/").status == 200, "it is over")


# --- the log ---------------------------------------------------------------------------------------------------------


def test_each_line_of_the_log_is_json(site: Site) -> None:
    before = len(site.lines())
    ugly = 'a"b\\c{}'
    site.curl(f"https://{HOST}/log?x=%22", "-A", ugly, "--http2")
    site.curl(f"http://{HOST}/log", "-e", "\x01é")
    eventually(lambda: len(site.lines()) >= before + 2, "they are written")
    first, second = site.lines()[before : before + 2]
    assert (
        isinstance(first["request_time"], float) and 0 <= float(first["upstream_time"]) <= first["request_time"] + 0.01
    )
    shown = {key: first[key] for key in ("route", "host", "method", "uri", "status", "protocol", "agent", "upstream")}
    assert shown == {
        "route": "shop", "host": HOST, "method": "GET", "uri": "/log?x=%22", "status": 200, "protocol": "HTTP/2.0",
        "agent": ugly, "upstream": "127.0.0.1:3000",
    }  # fmt: skip
    assert (first["tls"], second["tls"], second["status"], second["upstream"]) == ("TLSv1.3", "", 301, "")
    site.set("--no-access-log")
    eventually(lambda: site.curl(f"https://{HOST}/quiet") and "/quiet" not in site.lines()[-1]["uri"], "it is read")
    site.curl(f"https://{HOST}/quieter")
    assert not [line for line in site.lines() if line["uri"] == "/quieter"]


# --- whose files they are --------------------------------------------------------------------------------------------


def test_what_is_changed_by_hand_is_repaired(site: Site) -> None:
    whole = {path: site.text(path) for path in (SHARED, SHOP)}
    site.target.run("sh", "-c", f"echo '# mine' >>{SHOP}; sed -i 1d {SHARED}; chmod 600 {SHARED}")
    (listed,) = run(site.operator, "route", "list")["data"]["routes"]
    assert (listed["name"], listed["changed_by_hand"], listed["hosts"]) == ("shop", True, ["*.web1.acme.app", HOST])
    assert site.set() == [f"update file {SHARED}", f"update file {SHOP}", RELOAD]
    assert {path: site.text(path) for path in whole} == whole
    assert not run(site.operator, "route", "show", "shop")["data"]["changed_by_hand"]
    site.target.run("rm", SHOP)
    assert site.set() == [f"create file {SHOP}", RELOAD]
    site.target.run("systemctl", "disable", "-q", "--now", "nginx")
    assert site.set() == ["update unit nginx.service"]


def test_a_host_has_one_route(site: Site) -> None:
    other = "route", "set", "other", "--host", HOST, "--to", "3001", "--yes"
    assert refused(site.operator, *other).startswith(f"{HOST} belongs to the route shop")
    theirs = "server { listen 80; server_name own.acme.app; return 200 theirs; }"
    site.target.run("sh", "-c", f"echo '{theirs}' >/etc/nginx/sites-enabled/own; systemctl reload nginx")
    own = "route", "set", "other", "--host", "own.acme.app", "--to", "3001", "--yes"
    assert "is served by /etc/nginx/sites-enabled/own already" in refused(site.operator, *own)
    site.target.run("sh", "-c", "rm /etc/nginx/sites-enabled/own; systemctl reload nginx")
    assert f"create file {CONF}/serverflow-other.conf" in changed(site.operator, *own)
    eventually(lambda: site.curl("http://own.acme.app/").told["at"] == "3001", "both are served")
    changed(site.operator, "route", "remove", "other", "--confirm", "other")
    assert site.curl(f"https://{HOST}/").status == 200


@pytest.mark.parametrize("options", [("--to", "3001"), ("--to", "3001", "--auth-user", "ana", "--auth-password-stdin")])
def test_a_broken_configuration_of_somebody_else(site: Site, options: tuple[str, ...]) -> None:
    before = site.text(SHOP)
    serving = site.target.run("pgrep", "nginx").stdout
    site.target.run("sh", "-c", f"echo 'worker_colour blue;' >{CONF}/theirs.conf")
    try:
        given = "secret" if options[-1].endswith("stdin") else None
        wanted = *SET, "--certificate", "web1", *options
        done = site.operator.run("--json", *_as_action(wanted), "--on", "web1", "--yes", input=given, check=False)
        (server,) = json.loads(done.stdout.splitlines()[-1])["servers"]
        assert (done.returncode, server["outcome"]) == (6, "failed")
        assert "worker_colour" in server["error"]["message"] and f"{CONF}/theirs.conf:1" in server["error"]["message"]
        assert "the files are as they were before" in server["error"]["message"]
        assert (site.text(SHOP), site.text(USERS)) == (before, "")
        assert site.target.run("pgrep", "nginx").stdout == serving
        assert site.curl(f"https://{HOST}/").told["at"] == "3000"
        gone = run(site.operator, "route", "remove", "shop", "--confirm", "shop", exit=6)
        assert "worker_colour" in gone["error"]["message"] and site.text(SHOP) == before
        # As a safe change the server's own way back does it.
        safely = run(site.operator, *SECURE, "--hsts", "1d", "--safe", "--yes", exit=12)
        assert (safely["outcome"], site.text(SHOP)) == ("rolled-back", before)
    finally:
        site.target.run("rm", f"{CONF}/theirs.conf")


def test_a_certificate_that_is_not_there(site: Site) -> None:
    before = site.text(SHOP)
    missing = *SET, "--to", "3000", "--certificate", "web2"
    assert run(site.operator, *missing, "--plan")["data"]["warnings"] == [
        "there is no certificate web2 on this server yet"
    ]
    said = run(site.operator, *missing, "--yes", exit=6)["error"]["message"]
    assert "/etc/serverflow/certs/web2/fullchain.pem" in said
    assert site.text(SHOP) == before and site.curl(f"https://{HOST}/").status == 200


def test_as_a_safe_change(site: Site) -> None:
    before = site.text(SHOP)
    waits = run(site.operator, *SECURE[:-1], "3001", "--safe", "--no-confirm", "--yes", exit=13)
    eventually(lambda: site.curl(f"https://{HOST}/").told["at"] == "3001", "it is tried")
    site.operator.run("safe", "rollback", waits["op_id"], "--on", "web1", "--yes")
    eventually(lambda: site.curl(f"https://{HOST}/").told["at"] == "3000", "it is as before")
    assert site.text(SHOP) == before
    assert run(site.operator, *SECURE[:-1], "3001", "--safe", "--yes")["outcome"] == "done"
    eventually(lambda: site.curl(f"https://{HOST}/").told["at"] == "3001", "it stays")


def test_a_port_that_another_program_has(fresh_target: Callable[..., Target], fresh_operator: Operator) -> None:
    target, operator = fresh_target(), fresh_operator
    operator.add("web1", target)
    make_certificate(target)
    target.run("systemd-run", "-q", "--unit=taken", "python3", "-m", "http.server", "443")
    eventually(lambda: ":443" in target.run("ss", "-ltnH").stdout, "it listens")
    assert "port 443 is taken by another program" in refused(operator, *SECURE, "--yes")
    changed(operator, *SET, "--to", "3000", "--yes")
    # What a plan does not see the server itself does: nobody has asked for a plan here.
    port = "server { listen 443; return 200; }"
    target.run("sh", "-c", f"echo '{port}' >{CONF}/theirs.conf")
    assert '"python3"' in target.run("ss", "-ltnpH", "sport = 443").stdout
    said = run(operator, *SET, "--to", "3001", "--yes", exit=6)["error"]["message"]
    assert "port 443 belongs to python3" in said and "as they were before" in said
    assert "3001" not in target.run("cat", SHOP).stdout


# --- values that nobody thought of -----------------------------------------------------------------------------------

_PLACES = {
    "--host": ("routehost", "x.acme.app"), "--to": ("target", "/srv/x"), "--path": ("location", "/x 3001"),
    "--certificate": ("hostname", "web1"), "--auth-user": ("username", "ana"), "--rate": ("rate", "1/s"),
}  # fmt: skip
_ODD = st.text("abcXYZ019-_.~@+*/:;{}\"'$#\\ ()|&", min_size=1, max_size=30)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nginx_reads_each_value_as_one_word(site: Site, data: st.DataObject) -> None:
    """Values that the grammars let through go in, others are refused before anything is signed."""
    option = data.draw(st.sampled_from([name for name in _PLACES if name not in ("--certificate", "--auth-user")]))
    type, right = _PLACES[option]
    start = data.draw(st.integers(0, len(right)))
    value = right[:start] + data.draw(_ODD) + right[start:]
    argv = ["route", "set", "odd", f"{option}={value}", "--yes"]
    argv += [] if option == "--host" else ["--host", "odd.acme.app"]
    argv += [] if option == "--to" else ["--to", "3000"]
    try:
        TYPES[type](value)
    except ValueError:
        assert site.operator.run(*_as_action(tuple(argv)), "--on", "web1", check=False).returncode == 2
        return
    if ":" not in value and option == "--to" and not value.startswith("/"):
        return  # an app
    done = run(site.operator, *argv)
    assert done["outcome"] in ("done", "unchanged")
    site.target.run("nginx", "-t", "-q")
    run(site.operator, "route", "remove", "odd", "--confirm", "odd")


# --- the end ---------------------------------------------------------------------------------------------------------


def test_remove(site: Site) -> None:
    site.set("--auth-user", "ana", "--auth-password-stdin", input="secret")
    gone = changed(site.operator, "route", "remove", "shop", "--confirm", "shop")
    assert gone == [f"delete file {SHOP}", f"delete file {USERS}", f"delete file {SHARED}", RELOAD]
    assert site.target.run("ls", CONF).stdout == ""
    eventually(lambda: ":443" not in site.target.run("ss", "-ltnH").stdout, "nginx has read it")
    assert "Welcome to nginx" in site.curl(f"http://{HOST}/").body
    assert run(site.operator, "route", "list")["data"] == {"active": "active", "routes": []}


@pytest.mark.parametrize("release", ["debian11", "debian13"])
def test_other_releases(release: str, fresh_target: Callable[..., Target], fresh_operator: Operator) -> None:
    target, operator = fresh_target(release), fresh_operator
    operator.add("web1", target)
    start_apps(target)
    found = Site(operator, target, make_certificate(target))
    options = "--auth-user", "ana", "--auth-password-stdin", "--rate", "100/s", "--hsts", "1d", "--path", "/api 3001"
    first = found.set(*options, input=_PASSWORD)
    assert first[0] == "create package nginx" and first[-1] in ("update unit nginx.service", RELOAD)
    eventually(lambda: found.curl(f"https://{HOST}/").status == 401, "it is served")
    for version in "1.1", "2":
        answer = found.curl(f"https://{HOST}/api/", "-u", f"ana:{_PASSWORD}", f"--http{version}")
        assert (answer.status, answer.version, answer.told["at"]) == (200, version, "3001")
    assert found.curl(f"http://{HOST}/").status == 301
    assert [handshake(target, option) for option in ("-tls1_1", "-tls1_2", "-tls1_3")] == ["", "TLSv1.2", "TLSv1.3"]
    if release == "debian13":
        assert handshake(target, "-tls1_3", "-groups", "X25519MLKEM768") == "TLSv1.3"
    with pytest.raises((ssl.SSLError, ConnectionError)), found.talk("other.acme.app"):
        pass
    found.set()
    eventually(lambda: found.curl(f"https://{HOST}/").status == 200, "no password any more")
    with found.talk() as connection:
        assert websocket(connection, "/", b"hello") == b"hello"
    assert {line["route"] for line in found.lines()} == {"shop"}
    found.set("--maintenance")
    eventually(lambda: found.curl(f"https://{HOST}/").status == 503, "maintenance")
    changed(operator, "route", "remove", "shop", "--confirm", "shop")
    assert target.run("ls", CONF).stdout == ""
    target.run("nginx", "-t", "-q")
