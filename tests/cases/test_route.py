"""Routes: no value breaks out of nginx's configuration, passwords are hashed as crypt(3) does, and nginx's refusal of
files leaves none of them behind.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakehost import FakeHost, FakeProbe, Server, debian
from hypothesis import given
from hypothesis import strategies as st

import listeners
from serverflow_actions import registry
from serverflow_actions.kit import engine
from serverflow_actions.kit.grammar import TYPES
from serverflow_actions.kit.probe import HostError
from serverflow_actions.kit.route import split_location, target_of
from serverflow_actions.kit.spec import parse
from serverflow_actions.kit.steps import File
from serverflow_actions.route import _reading
from serverflow_actions.route._nginx import Nginx
from serverflow_actions.route._ports import unheard
from serverflow_actions.route._render import Route, render
from serverflow_actions.route._sha512crypt import crypt, fits
from serverflow_actions.route._site import Site

NGINX = Nginx((1, 22, 1), (3, 0), ipv6=True)
SET = registry.load("route.set")
REMOVE = registry.load("route.remove")
SHOP = Path(__file__).parents[2] / "src/serverflow_actions/route/cases/set/already-right.json"

#: A right value of each grammar that ends up in nginx's configuration.
RIGHT = {
    "name": ["shop", "a-1"],
    "username": ["ana", "_b-1"],
    "hostname": ["web1", "a.b-c.d"],
    "routehost": ["shop.acme.app", "*.web1.acme.app"],
    "target": ["3000", "10.0.0.5:80", "[fd00::1]:80", "unix:/run/a/b.sock", "/srv/a/public", "/var/www/x", "page:web1"],
    "location": ["/api 3001", "/a/b.c/ /srv/docs"],
    "rate": ["10/s", "600/m"],
}
#: What gets out of a word, or is more than it seems there.
SPECIAL = ";{}\"'$#\\ \t\n\r\0\x1b\x7f\x85\xa0\u2028|()<>&`!^*?=,%\u0661\u202eé"
HOSTILE = st.one_of(
    st.text(max_size=12), st.text(SPECIAL, max_size=4), st.sampled_from(["..", "//", "/.", "${a}", "{}"])
)


@st.composite
def accepted(draw: st.DrawFn, type: str) -> str:
    """A right value, with something put in its place where the grammar lets that through."""
    right = draw(st.sampled_from(RIGHT[type]))
    start = draw(st.integers(0, len(right)))
    end = draw(st.integers(start, len(right)))
    try:
        return str(TYPES[type](right[:start] + draw(HOSTILE) + right[end:]))
    except ValueError:
        return str(TYPES[type](right))


@pytest.mark.parametrize("type", RIGHT)
def test_no_grammar_lets_a_character_through_that_means_something_to_nginx(type: str) -> None:
    wrong = {
        letter for letter in {*map(chr, range(0x250)), *SPECIAL} if not re.match(r"[A-Za-z0-9._:/@+~\[\]-]", letter)
    }
    for right in RIGHT[type]:
        for place in range(len(right) + 1):
            let_through = [letter for letter in wrong if _is_accepted(type, right[:place] + letter + right[place:])]
            assert let_through == [], f"{type}: {right[:place]}…{right[place:]}"


def _is_accepted(type: str, value: str) -> bool:
    try:
        TYPES[type](value)
    except ValueError:
        return False
    return True


def words(text: str) -> Iterator[list[str]]:
    """Directives as ngx_conf_read_token has them, each with the mark that ends it. Written anew, to be a second
    opinion beside the reader of the code.
    """
    found: list[str] = []
    place = 0
    while place < len(text):
        letter = text[place]
        if letter in " \t\r\n":
            place += 1
        elif letter in ";{}":
            yield [*found, letter]
            found, place = [], place + 1
        elif letter == "#":
            place = text.index("\n", place)
        elif letter in "\"'":
            end = text.index(letter, place + 1)
            found.append(text[place + 1 : end])
            place = end + 1
        else:
            start = place
            while text[place] not in " \t\r\n;" and (text[place] != "{" or text[place - 1] == "$"):
                place += 2 if text[place] == "\\" else 1
            found.append(text[start:place])


def shape(text: str) -> list[tuple[str, int, str]]:
    """The name of each directive, how many words it has, and what ends it."""
    return [(each[0], len(each), each[-1]) for each in words(text)]


def route(**changed: Any) -> Route:
    usual: dict[str, Any] = {
        "name": "shop", "hosts": ["shop.acme.app"], "to": target_of("3000"), "locations": [], "certificate": "web1",
        "redirect": True, "hsts": 1, "body_size": 1, "timeout": 0, "rate": "1/s", "burst": 1, "auth_user": "ana",
        "websockets": True, "maintenance": False, "access_log": True,
    }  # fmt: skip
    return Route(**{**usual, **changed})


def text_of(route: Route) -> str:
    return render(route, NGINX, {"hosts": list(route.hosts)})


@given(name=accepted("name"), host=accepted("routehost"), certificate=accepted("hostname"), user=accepted("username"))
def test_no_name_breaks_out_of_the_configuration(name: str, host: str, certificate: str, user: str) -> None:
    text = text_of(route(name=name, hosts=[host], certificate=certificate, auth_user=user))
    assert shape(text) == shape(text_of(route()))
    found = [each[1:-1] for each in words(text)]
    assert [host] in found and [f"/etc/serverflow/certs/{certificate}/fullchain.pem"] in found
    assert [f"/var/log/nginx/serverflow-{name}.log", "serverflow"] in found


@given(to=accepted("target"))
def test_no_target_breaks_out_of_the_configuration(to: str) -> None:
    like = {"folder": "/srv/a", "socket": "unix:/run/a", "page": "page:a"}.get(target_of(to).kind, "3000")
    text = text_of(route(to=target_of(to)))
    assert shape(text) == shape(text_of(route(to=target_of(like))))
    assert any(target_of(to).value in word for each in words(text) for word in each)


@given(location=accepted("location"), rate=accepted("rate"))
def test_no_path_breaks_out_of_the_configuration(location: str, rate: str) -> None:
    path, leads = split_location(location)
    like = {"folder": "/srv/a", "socket": "unix:/run/a", "page": "page:a"}.get(target_of(leads).kind, "3000")
    text = text_of(route(locations=[(path, target_of(leads))], rate=rate))
    assert shape(text) == shape(text_of(route(locations=[("/a", target_of(like))])))
    assert ["location", "=", path, "{"] in list(words(text)) and ["location", f"{path}/", "{"] in list(words(text))


@pytest.mark.parametrize(("to", "trusted"), [("/srv/a/public", "/srv"), ("/var/www/x", "/var/www")])
def test_no_folder_that_an_app_can_replace_by_a_link_is_trusted(to: str, trusted: str) -> None:
    """nginx looks at no part of what stands in `from=`."""
    text = text_of(route(to=target_of(to), locations=[("/docs", target_of(to))]))
    found = [each[1:-1] for each in words(text) if each[0] == "disable_symlinks"]
    assert found and all(each == ["if_not_owner", f"from={trusted}"] for each in found)


@given(text=HOSTILE)
def test_the_reader_takes_whatever_others_have_written(text: str) -> None:
    server = debian({"files": {"/etc/nginx/nginx.conf": f"http {{ server {{ {text} }} }}"}})
    for each in _reading.read(FakeProbe(server)).servers:
        assert each.file == "/etc/nginx/nginx.conf"


def test_the_reader_follows_what_is_included() -> None:
    text = r"""
    user nginx web;
    http { # server { listen 1; }
        include mime.types; include "sites/*"; include /etc/nginx/nginx.conf;
        map $x $y { default "{;}"; server_name not; }
        server { listen 10.0.0.1; listen [::]:8443 ssl default_server; listen unix:/run/x; server_name a 'B' ~^c\;{2}$;
          location / { server_name no; } server_name d; }
    }
    stream { server { listen 25; } }
    """
    files = {
        "/etc/nginx/nginx.conf": text,
        "/etc/nginx/sites/one": "server { server_name one; }",
        "/etc/nginx/sites/.two": "server { server_name two; }",
        "/etc/nginx/mime.types": "types { text/html html; }",
    }
    found = _reading.read(FakeProbe(debian({"files": files})))
    named = {(each.file, *each.names): (each.listens, each.default) for each in found.servers}
    assert found.user == "nginx"
    assert named[("/etc/nginx/sites/one", "one")] == ({80}, set())
    ports = [(each.listens, each.default) for each in found.servers if "a" in each.names]
    assert ports[0] == ({80, 8443, 0}, {8443})
    assert {name for each in found.servers for name in each.names} >= {"a", "b", "d", "one"}
    assert not {"not", "no", "two"} & {name for each in found.servers for name in each.names}


#: From Ulrich Drepper's SHA-crypt.txt, those with the default number of rounds.
@pytest.mark.parametrize(
    ("salt", "password", "hashed"),
    [
        (
            "saltstring",
            "Hello world!",
            "svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        ),
        (
            "toolongsaltstrin",
            "This is just a test",
            "lQ8jolhgVRVhY4b5pZKaysCLi0QBxGoNeKQzQ3glMhwllF7oGDZxUhx1yxdYcz/e1JSbq3y6JMxxl8audkUEm0",
        ),
    ],
)
def test_vectors_of_sha512_crypt(salt: str, password: str, hashed: str) -> None:
    # The published vector of the second has 5000 rounds said aloud, which changes nothing in the hash.
    assert crypt(password, salt) == f"$6${salt}${hashed}"
    assert fits(password, f"$6${salt}${hashed}")
    assert not fits(password + "x", f"$6${salt}${hashed}")


@pytest.mark.parametrize("password", ["", "a", "ä€🚒", "x" * 63, "y" * 64, "z" * 129, "$6$a$b", "a:b"])
def test_openssl_makes_the_same_hash(password: str) -> None:
    argv = ["openssl", "passwd", "-6", "-salt", "./AZaz09", "-stdin"]
    done = subprocess.run(argv, input=password.encode(), capture_output=True, check=True)
    # openssl reads no more than 256 bytes; nor do we.
    assert crypt(password, "./AZaz09") == (done.stdout.decode().strip() or crypt("", "./AZaz09"))


@pytest.mark.parametrize("hashed", ["", "$6$", "$6$$x", "$1$a$b", "$6$a b$c", "$6$a$b$c", "{PLAIN}x", "$6$é$x"])
def test_what_is_no_hash_fits_nothing(hashed: str) -> None:
    assert not fits("", hashed) and not fits("x", hashed)


class _Stubborn(FakeHost):
    """A server whose nginx is told nothing, as when it does not take its configuration."""

    def unit_do(self, verb: str, name: str) -> None:
        self._act()
        raise HostError(f"{name} was not told to {verb}: nginx: [emerg] unknown directive")


@pytest.mark.parametrize("name", ["fresh", "already-right", "changed-by-hand", "maintenance", "password-no-more"])
def test_what_nginx_does_not_take_is_undone(name: str) -> None:
    case = json.loads(SHOP.with_stem(name).read_text())
    server = debian(case["host"])
    if name == "fresh":  # nginx is there by then
        server.add(case["host"]["available"]["nginx"]["provides"])
    before = files(server)
    params = {**case["params"], "host": ["other.acme.app"]}
    with pytest.raises(HostError, match="unknown directive; the files are as they were before"):
        engine.run(SET, parse(SET.params, params), FakeProbe(server), stubborn(server), lambda _: None)
    assert files(server) == before


def test_a_removal_that_nginx_does_not_take_is_undone() -> None:
    server = debian(json.loads(SHOP.read_text())["host"])
    before = files(server)
    with pytest.raises(HostError, match="as they were before"):
        engine.run(REMOVE, parse(REMOVE.params, {"name": "shop"}), FakeProbe(server), stubborn(server), lambda _: None)
    assert files(server) == before


def stubborn(server: Server) -> FakeHost:
    from fakehost import Powers

    return _Stubborn(server, Powers(SET.writes, SET.units, SET.packages))


def files(server: Server) -> dict[str, tuple[bytes, int, str, str]]:
    return {path: (e.content, e.mode, e.owner, e.group) for path, e in server.files.items()}


def test_what_cannot_be_put_back_is_said() -> None:
    server = debian({"folders": {"/etc/nginx/conf.d": {}}})
    host, site = stubborn(server), Site()
    step = site.file(File("/etc/nginx/conf.d/x", "x"))
    assert step.check(host)
    step.apply(host)
    server.files.pop("/etc/nginx/conf.d/x")
    server.files.pop("/etc/nginx/conf.d")
    assert "could not be put back" in str(site.told(host, HostError("no")))


SOCKETS = """\
LISTEN 0      4096         0.0.0.0:80         0.0.0.0:*    users:(("docker-proxy",pid=7,fd=4))
LISTEN 0      128        127.0.0.1:9000       0.0.0.0:*    users:(("php-fpm",pid=8,fd=4),("php-fpm",pid=9,fd=4))
LISTEN 0      511          0.0.0.0:443        0.0.0.0:*    users:(("nginx",pid=2,fd=6),("nginx",pid=1,fd=6))
LISTEN 0      511                *:8443             *:*    users:(("apache2",pid=3,fd=6))
LISTEN 0      511            [::1]:81            [::]:*    users:(("v6",pid=4,fd=6))
LISTEN 0      511          0.0.0.0:82         0.0.0.0:*
"""


@pytest.mark.parametrize(
    ("configuration", "told"),
    [
        ("listen 80;", ["port 80 belongs to docker-proxy (process 7)"]),
        ("server { listen 10.0.0.1:80 default_server; }", ["port 80 belongs to docker-proxy (process 7)"]),
        ("\tlisten *;", ["port 80 belongs to docker-proxy (process 7)"]),
        ("listen [::]:80;\n# listen 80;\n", []),
        ("listen 443 ssl;\nlisten [::]:443 ssl;", []),
        ("listen 127.0.0.1:9000; listen unix:/run/x;", ["port 9000 belongs to php-fpm (process 9)"]),
        ("listen 127.0.0.2:9000;", []),
        ("listen [::]:8443 ssl;", ["port 8443 belongs to apache2 (process 3)"]),
        ("listen 127.0.0.1:8443 ssl;", ["port 8443 belongs to apache2 (process 3)"]),
        ("listen 81;", []),
        ("listen [::]:81 http2;", ["port 81 belongs to v6 (process 4)"]),
        ("listen 82;", ["port 82 belongs to another program"]),
    ],
)
def test_who_has_the_ports_that_nginx_wants(configuration: str, told: list[str]) -> None:
    assert listeners.taken(configuration, SOCKETS) == told
    assert listeners.taken(configuration, re.sub("users:.*", "", SOCKETS)) == []


#: As proc(5) has them on a little-endian machine: a connection, then sockets that listen.
TABLE = """\
  sl  local_address rem_address   st
   0: 0100007F:0BB8 0100007F:C350 01
   1: 00000000:0016 00000000:0000 0A
   2: 0100007F:0BB9 00000000:0000 0A
   3: 0500000A:0BBA 00000000:0000 0A
"""
TABLE6 = """\
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:0BBB 00000000000000000000000000000000:0000 0A
   1: 00000000000000000000000001000000:0BBC 00000000000000000000000000000000:0000 0A
   2: 0000000000000000FFFF00000100007F:0BBD 00000000000000000000000000000000:0000 0A
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="the tables are of a little-endian machine")
@pytest.mark.parametrize(
    ("place", "is_heard"),
    [
        ("127.0.0.1:3000", False),
        ("127.0.0.1:22", True),
        ("[::1]:22", False),
        ("127.0.0.1:3001", True),
        ("127.0.0.2:3001", False),
        ("127.0.0.1:3002", False),
        ("10.0.0.5:9", True),  # another machine's, as far as anybody knows
        ("127.0.0.1:3003", True),
        ("[::1]:3003", True),
        ("[::1]:3004", True),
        ("127.0.0.1:3004", False),
        ("127.0.0.1:3005", True),
    ],
)
def test_where_a_route_leads_and_nobody_listens(place: str, is_heard: bool) -> None:
    server = debian({"files": {"/proc/net/tcp": TABLE, "/proc/net/tcp6": TABLE6}})
    assert unheard(FakeProbe(server), [place]) == ([] if is_heard else [place])


@pytest.mark.parametrize("tables", [{}, {"/proc/net/tcp": TABLE.splitlines()[:2]}])
def test_who_sees_no_listener_at_all_says_nothing(tables: dict[str, Any]) -> None:
    """As in the sandbox of a change, which has no network."""
    assert unheard(FakeProbe(debian({"files": tables})), ["127.0.0.1:3000"]) == []


def test_while_it_is_down_for_maintenance_nobody_need_listen() -> None:
    case = json.loads(SHOP.with_stem("nobody-listens").read_text())
    params = parse(SET.params, {**case["params"], "maintenance": True})
    assert engine.forecast(SET, params, FakeProbe(debian(case["host"]))).data["warnings"] == []
