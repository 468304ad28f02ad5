"""`sf cert list` and `sf cert check`: what is asked of servers, what is shown, and how it ends."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from serverflow_cli.config.load import parse
from serverflow_cli.errors import Unreachable, UsageError
from serverflow_cli.flows import actions, cert_reads
from serverflow_cli.flows.workspace import Workspace
from serverflow_cli.model.result import CommandResult, Reply, ServerResult

from .test_cli_run import FakeFlows, sf

_NOW = int(time.time() * 1000)
DAY = 86_400_000
GOOD: dict[str, Any] = {
    "name": "server", "names": ["web1.acme.app", "*.web1.acme.app"], "path": "/etc/serverflow/certs/server",
    "not_after": _NOW + 60 * DAY, "next": _NOW + 30 * DAY, "why": "third", "retry_at": 0, "served": True,
    "not_served": "", "failures": 0, "said": "", "problem": "", "revoked": "", "rehearsal": "",
}  # fmt: skip
NONE = {"path": "", "not_after": 0, "next": 0, "why": "missing", "served": False}
#: A server with it has a page at its own name, and so an endpoint.
_APP = 'roles = ["app"]\n'
TEXT = """
schema = 1
base_domain = "acme.app"

[servers.web1]
host = "203.0.113.7"

[servers.db1]
host = "203.0.113.8"

[dns.providers.cf]
provider = "cloudflare"
token = { secret = "cf_token" }

[dns.zones."acme.app"]
provider = "cf"

[acme]
token = { secret = "cf_token" }
on = "web1"
"""
FLEET = parse(TEXT)


@pytest.mark.parametrize(
    ("differs", "said"),
    [
        ({}, []),
        ({"not_after": _NOW - 1}, ["it is expired"]),
        ({"not_after": "never"}, ["it is expired"]),
        ({"failures": 2, "said": "the CA is down"}, ["2 failed in a row: the CA is down"]),
        ({**NONE, "failures": 1}, ["1 failed in a row: nobody said why", "there is none yet"]),
        ({"problem": "its settings are damaged"}, ["its settings are damaged"]),
        ({"revoked": "keycompromise"}, ["it is revoked (keycompromise)"]),
        ({"not_served": "a:443: connection refused"}, ["not served: a:443: connection refused"]),
        ({"not_served": "old", "endpoints": [{"endpoint": "a:443", "problem": ""}]}, []),
        ({"endpoints": [{"endpoint": "a:443", "problem": "a:443: no"}, {}]}, ["not served: a:443: no"]),
        ({"rehearsal": "it failed"}, []),
    ],
)
def test_what_is_wrong(differs: dict[str, Any], said: list[str]) -> None:
    assert list(cert_reads.wrong({**GOOD, **differs}, _NOW)) == said


class Fleet:
    """Servers that tell this, by name; `asked` is what they were asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **told: list[dict[str, Any]] | None) -> None:
        self.told, self.asked = told, list[tuple[str, str, dict[str, Any]]]()
        monkeypatch.setattr(actions, "run_action", self._run)
        self.workspace = cast(Workspace, SimpleNamespace(label="acme", servers=FLEET.servers, fleet=FLEET))

    async def _run(self, _: Any, action: str, selector: str, params: dict[str, Any], **__: Any) -> CommandResult:
        self.asked.append((action, selector, params))
        names = list(self.told) if selector == "all" else selector.split(",")
        return CommandResult("acme", servers=tuple(self._row(name, action, params) for name in names))

    def _row(self, name: str, action: str, params: dict[str, Any]) -> ServerResult:
        there = self.told[name]
        if there is None:
            return ServerResult(name, error=Unreachable("no answer", server=name))
        if action == "cert.list":
            return ServerResult(name, Reply("", "done", data={"certificates": there}))
        (one,) = (each for each in there if each["name"] == params["name"])
        return ServerResult(name, Reply("", "done", data={"endpoints": [], **one}))

    def listed(self) -> CommandResult:
        return asyncio.run(cert_reads.listed(self.workspace, selector=None, timeout_s=None, report=lambda _: None))

    def checked(self, name: str | None = None) -> CommandResult:
        return asyncio.run(
            cert_reads.checked(self.workspace, name, selector=None, timeout_s=None, report=lambda _: None)
        )


def test_each_is_looked_at_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(monkeypatch, web1=[GOOD, {**GOOD, "name": "shop"}], db1=[{**GOOD, "name": "shop"}])
    done = fleet.checked()
    assert fleet.asked[1:] == [("cert.check", "web1", {"name": "server"}), ("cert.check", "web1,db1", {"name": "shop"})]
    rows = {row.name: [each["name"] for each in row.reply.data["certificates"]] for row in done.servers if row.reply}
    assert rows == {"web1": ["server", "shop"], "db1": ["shop"]}
    assert fleet.checked("shop").servers[0].reply.data["certificates"][0]["name"] == "shop"  # type: ignore[union-attr]


def test_what_the_file_wants_and_no_server_has_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(monkeypatch, web1=[], db1=[])
    missing = [{"server": "web1", "name": "server", "names": ["web1.acme.app", "*.web1.acme.app"]}]
    assert fleet.listed().data == fleet.checked("server").data == {"missing": missing}
    with pytest.raises(UsageError, match="no server has a certificate nothing"):
        fleet.checked("nothing")


def test_a_server_that_is_down_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(monkeypatch, web1=None, db1=[GOOD])
    done = fleet.checked()
    assert done.data == {} and [row.name for row in done.failures] == ["web1"] and done.exit_code == 10


@pytest.mark.parametrize(
    ("to", "told", "listed", "checked"),
    [
        ("", {"served": True}, None, None),
        ("", {"served": False, "not_served": "nginx.service: refused"}, None, None),
        (_APP, {"served": True, "endpoints": [{"problem": ""}]}, True, True),
        (_APP, {"served": True, "endpoints": [{"problem": "refused"}]}, True, False),
        (_APP, {"served": False, "endpoints": [{"problem": ""}]}, False, True),
        (_APP, {"served": "yes", "endpoints": []}, False, None),
        (_APP, {"served": None, "endpoints": []}, None, None),
        (_APP, {**NONE, "endpoints": [{"problem": "refused"}]}, None, None),
    ],
)
def test_served_is_what_an_endpoint_has_shown(
    monkeypatch: pytest.MonkeyPatch, to: str, told: dict[str, Any], listed: bool | None, checked: bool | None
) -> None:
    fleet = Fleet(monkeypatch, web1=[{**GOOD, **told}])
    fleet.workspace.fleet = parse(TEXT.replace('host = "203.0.113.7"\n', f'host = "203.0.113.7"\n{to}'))

    def served(done: CommandResult) -> object:
        return done.servers[0].reply.data["certificates"][0]["served"]  # type: ignore[union-attr]

    assert (served(fleet.listed()), served(fleet.checked())) == (listed, checked)


def answered(*rows: dict[str, Any], missing: tuple[dict[str, Any], ...] = ()) -> FakeFlows:
    reply = Reply("", "done", data={"certificates": [cert_reads.judged(row, asked=True) for row in rows]})
    return FakeFlows(
        CommandResult(
            "acme", servers=(ServerResult("web1", reply),), data={"missing": list(missing)} if missing else {}
        )
    )


def test_a_table_for_people() -> None:
    gone = {"server": "web1", "name": "api", "names": ["a.acme.app", "b.acme.app", "c.acme.app", "d.acme.app"]}
    failing = {**GOOD, **NONE, "name": "shop", "failures": 3, "said": "no answer", "retry_at": _NOW + DAY}
    ended = sf("cert list", answered(GOOD, failing, missing=(gone,)))
    lines = [line.split("  ") for line in ended.out.splitlines()]
    head, *rows = [[cell.strip() for cell in line if cell] for line in lines]
    assert head == ["SERVER", "CERTIFICATE", "NAMES", "ENDS AT", "RENEWS AT", "SERVED", "PROBLEM"]
    assert rows[0] == ["web1", "api", "a.acme.app, b.acme.app, c.acme.app, 1 more", "-", "-", "-",
                       "not applied: sf apply"]  # fmt: skip
    assert rows[1][5:] == ["yes", "-"] and rows[1][3] > rows[1][4] > "2"
    assert rows[2][5:] == ["-", "3 failed in a row: no answer; there is none yet"]
    assert ended.code == 0


def test_a_check_ends_with_11_when_one_is_not_as_it_should_be() -> None:
    assert sf("cert check", answered(GOOD)).code == 0
    bad = {**GOOD, "name": "shop", "endpoints": [{"endpoint": "shop.acme.app:443", "problem": "connection refused"}]}
    ended = sf("cert check", answered(GOOD, bad))
    assert ended.code == 11 and "not as it should be: web1: shop" in ended.err
    assert "not served: connection refused" in ended.out
    assert sf("cert check", answered(missing=({"server": "web1", "name": "api", "names": []},))).code == 11
    assert sf("--json cert check", answered(bad)).document["servers"][0]["data"]["certificates"][0]["not_after"]


def test_a_rehearsal_that_failed_is_told_and_is_no_failure() -> None:
    ended = sf("cert check shop --on web1", answered({**GOOD, "rehearsal": "no answer"}))
    assert ended.code == 0 and "the rehearsal of server failed: no answer" in ended.err


def test_a_server_that_lies_hides_nothing_of_others() -> None:
    wild: dict[str, Any] = {"name": 5, "names": "x", "path": "/x", "not_after": [], "next": "\x1b[2J", "failures": {}}
    ended = sf("cert list", answered(wild, GOOD))
    assert ended.code == 0 and "\x1b" not in ended.out and "web1.acme.app" in ended.out
