"""`sf route` as people type it: what stands in fleet.toml afterwards, and what curl(1) and a WebSocket get.

How nginx does each thing is test_area_route.py's; names and certificates by themselves are test_names.py's.
"""

from __future__ import annotations

import ssl
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .operator import Operator, eventually, new_operator
from .target import Fleet
from .test_area_route import HOST, Answer, Site, make_certificate, start_apps, websocket

_URL = f"https://{HOST}/"
_PAGE = "mkdir -p /srv/docs && echo manual >/srv/docs/index.html"


@pytest.fixture(scope="module")
def site(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with an app, a port, a folder, and a route to the app."""
    target = fleet.start_fresh("debian12")
    operator = new_operator(tmp_path_factory.mktemp("commands"))
    operator.add("web1", target)
    start_apps(target)
    target.run("sh", "-c", _PAGE)
    operator.run("app", "create", "web", "--on", "web1", "--port", "3000", "--yes")
    found = Site(operator, target, make_certificate(target))
    words = "--on", "web1", "--host", HOST, "--to", "web", "--certificate", "web1", "--path", "/docs=/srv/docs"
    planned = operator.run("route", "add", "shop", *words, "--plan").stdout
    assert "package nginx" in planned and "serverflow-shop.conf" in planned and "routes" not in file_of(operator)
    operator.run("route", "add", "shop", *words, "--yes")
    seen(found, lambda got: got.status == 200)
    yield found
    fleet.remove(target)


def file_of(operator: Operator) -> dict[str, Any]:
    return tomllib.loads((operator.fleet / "fleet.toml").read_text())


def edit(site: Site, *words: str, input: str | None = None) -> None:
    site.operator.run("route", "edit", "shop", *words, "--yes", input=input)


def seen(site: Site, holds: Callable[[Answer], bool], path: str = "") -> None:
    """nginx reads what is new a moment after it was told."""
    eventually(lambda: holds(site.curl(_URL + path)), "nginx has read it")


def test_the_file_has_it_and_it_answers_by_http_2(site: Site) -> None:
    stanza = {
        "on": "web1", "host": HOST, "to": {"app": "web"}, "paths": {"/docs": {"folder": "/srv/docs"}},
        "certificate": "web1",
    }  # fmt: skip
    assert file_of(site.operator)["routes"] == {"shop": stanza}
    got = site.curl(_URL, "--http2")
    assert (got.status, got.version, got.told["at"]) == (200, "2", "3000")
    assert site.curl(f"http://{HOST}/x").headers["location"] == f"{_URL}x"
    (row,) = site.operator.json("route", "list")["data"]["routes"]
    assert (row["name"], row["on"], row["hosts"], row["to"], row["https"]) == ("shop", ["web1"], [HOST], "web", True)


def test_a_websocket_goes_through(site: Site) -> None:
    with site.talk() as connection:
        assert websocket(connection, "/chat", b"hello") == b"hello"


def test_a_path_leads_to_a_folder(site: Site) -> None:
    assert site.curl(f"{_URL}docs/").body.strip() == "manual"


def test_to_a_port_and_what_was_not_named_stays(site: Site) -> None:
    edit(site, "--to", "3001")
    seen(site, lambda got: got.told["at"] == "3001")
    assert site.curl(f"{_URL}docs/").body.strip() == "manual"
    assert file_of(site.operator)["routes"]["shop"]["to"] == {"port": 3001}
    with site.talk() as connection:
        assert websocket(connection, "/chat", b"hello") == b"hello"


def test_visitors_need_the_password_and_a_new_one_counts(site: Site) -> None:
    for password in "first-of-them", "second-of-them":
        edit(site, "--auth-user", "ana", "--stdin", input=f"{password}\n")
        seen(site, lambda got: got.status == 401)
        eventually(lambda: site.curl(_URL, "-u", f"ana:{password}").status == 200, "it is let in")  # noqa: B023
    assert site.curl(_URL, "-u", "ana:first-of-them").status == 401
    for path in site.operator.fleet.rglob("*"):
        assert not path.is_file() or b"-of-them" not in path.read_bytes(), path


def test_maintenance_and_back(site: Site) -> None:
    edit(site, "--maintenance")
    seen(site, lambda got: got.status == 503)
    edit(site, "--no-maintenance")
    seen(site, lambda got: got.status == 401)  # the password is still asked for


def test_what_does_not_fit_is_refused_and_changes_nothing(site: Site) -> None:
    before = file_of(site.operator)
    for words, said in (
        (("add", "shop", "--on", "web1", "--host", HOST, "--to", "3000"), "there is a route shop already"),
        (("edit", "other", "--to", "3000"), "there is no route other"),
        (("edit", "shop"), "nothing to change was given"),
        (("edit", "shop", "--to", "10.0.0.5"), "--to"),
    ):
        done = site.operator.run("route", *words, "--yes", check=False)
        assert done.returncode == 2 and said in done.stderr, done.stderr
    assert file_of(site.operator) == before


def test_removed_it_answers_no_more(site: Site) -> None:
    site.operator.run("route", "remove", "shop", "--confirm", "shop")

    def refused() -> bool:
        try:
            site.talk().close()
        except (ssl.SSLError, OSError):
            return True
        return False

    eventually(refused, "nginx has read it")
    assert "routes" not in file_of(site.operator)
    assert site.operator.json("route", "list")["data"] == {"routes": []}
    assert site.operator.run("plan", "--check").returncode == 0
