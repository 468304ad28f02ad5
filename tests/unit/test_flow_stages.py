"""Stages of an apply: what a failure holds up, and what is told of a no or Ctrl-C in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from serverflow_actions.kit.rrset import RRset
from serverflow_cli.errors import ActionFailed, ConfigError, ProviderError, TrustError
from serverflow_cli.flows import actions, certificates, issuing, routes, whole, zones
from serverflow_cli.flows.dns_providers import Providers
from serverflow_cli.flows.safe import USUAL
from serverflow_cli.flows.zones import mark
from serverflow_cli.model.result import CommandResult, Reply
from serverflow_cli.model.zone import Served, ZoneState

from .test_flow_routes import Asked, Fleet, Zones, add, apply, how, setup
from .test_flow_routes import fleet as fleet  # the fixture

BLOG = """
[dns.providers.cf]
provider = "cloudflare"
token = { secret = "cf_token" }

[dns.zones."b.example"]
provider = "cf"

[routes.blog]
on = "web1"
host = "blog.b.example"
to = { port = 3001 }

[routes.shop]
on = "web1"
host = "shop.acme.app"
to = { port = 3000 }

[routes.bare]
on = "web1"
host = "elsewhere.test"
to = { port = 3002 }
certificate = "none"
"""


@pytest.fixture
def other(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Zones:
    """A second zone, elsewhere, with a route in it."""
    apply(fleet)
    setup(fleet)
    fleet.made()
    zones = Zones(fleet.there.log)
    zones.state = ZoneState("b.example.", (), "1", ("ns.cf.example.",))
    monkeypatch.setattr(Providers, "_made", lambda _self, name: zones if name == "cf" else fleet.zones)
    fleet.folder.fleet_toml.write_text(fleet.text + BLOG)
    fleet.refresh()
    return zones


def errors(done: CommandResult) -> dict[str, str]:
    return {row.name: row.error.message for row in done.failures if row.error}


def test_a_zone_that_fails_holds_up_its_own_names_alone(fleet: Fleet, other: Zones) -> None:
    other.broken = ProviderError("it is down")
    done = apply(fleet)
    assert fleet.made() == [
        "zone acme.app. 2",
        "web1 cert.set shop",
        "web1 cert.issue shop",
        "web1 route.set shop",
        "web1 route.set bare",
    ]
    assert done.exit_code == 10 and errors(done) == {
        "b.example": "it is down",
        "web1": "cert.blog: not tried, b.example comes first\nroute.blog: not tried, b.example comes first",
    }
    assert {row.name: row.outcome for row in done.servers}["web1"] == "failed"
    assert done.error and done.error.message == "2 of 4 failed", "zones are no servers"
    assert {row.name for row in done.servers if row.kind == "zone"} == {"acme.app", "b.example"}
    other.broken = None
    assert apply(fleet).error is None
    assert fleet.made() == ["zone b.example. 2", "web1 cert.set blog", "web1 cert.issue blog", "web1 route.set blog"]


def test_proofs_in_a_zone_that_fails_are_not_tried(fleet: Fleet, other: Zones) -> None:
    """Where b.example's names are proved is told by acme.app."""
    fleet.zones.broken = ProviderError("it is down")
    done = apply(fleet)
    assert fleet.made() == ["zone b.example. 2", "web1 route.set bare"]
    assert errors(done)["web1"].splitlines() == [
        "cert.server: not tried, acme.app comes first",
        "cert.blog: not tried, acme.app comes first",
        "cert.shop: not tried, acme.app comes first",
        "route.blog: not tried, cert.blog comes first",
        "route.shop: not tried, acme.app comes first",
    ]


def test_a_certificate_that_fails_holds_up_its_own_route_alone(
    fleet: Fleet, other: Zones, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = fleet.there.call

    async def fails(link: Any, request: Any, *more: Any) -> Reply:
        if request.action == "cert.issue" and request.params["name"] == "blog" and request.mode == "run":
            raise ActionFailed("the authority says no", server=link.name)
        return await call(link, request, *more)

    monkeypatch.setattr(fleet.there, "call", fails)
    done = apply(fleet)
    assert fleet.made()[-3:] == ["web1 cert.issue shop", "web1 route.set shop", "web1 route.set bare"]
    assert errors(done) == {"web1": "the authority says no\nroute.blog: not tried, cert.blog comes first"}
    assert done.exit_code == 10


@pytest.mark.parametrize("action", ["cert.list", "cert.issue"])
def test_an_error_about_all_certificates_loses_nothing(
    fleet: Fleet, other: Zones, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    """Such as a key that cannot be used any more: what was done before is told all the same."""
    run = actions.run_action

    async def fails(workspace: Any, name: str, *more: Any, **settings: Any) -> CommandResult:
        if name == action:
            raise TrustError("your key is not there")
        return await run(workspace, name, *more, **settings)

    monkeypatch.setattr(issuing, "run_action", fails)
    monkeypatch.setattr(actions, "run_action", fails)
    done = apply(fleet)
    assert fleet.made() == [
        "zone acme.app. 2", "zone b.example. 2", "web1 cert.set blog", "web1 cert.set shop", "web1 route.set bare",
    ]  # fmt: skip
    assert {row.name for row in done.servers if row.reply and row.reply.changes} == {"acme.app", "b.example", "web1"}
    assert (
        errors(done)["web1"].startswith("your key is not there\n") and "route.shop: not tried" in errors(done)["web1"]
    )


def test_what_was_done_to_a_route_is_told_when_its_certificate_cannot_be_removed(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(fleet)
    setup(fleet)
    add(fleet, how())
    fleet.made()

    async def fails(*_: Any, **__: Any) -> CommandResult:
        raise TrustError("your key is not there")

    monkeypatch.setattr(issuing, "run_action", fails)
    done = asyncio.run(routes.remove(fleet, "shop", how()))
    assert fleet.made() == ["web1 route.remove shop", "zone acme.app. 2"]
    assert errors(done) == {"web1": "your key is not there"}


@pytest.mark.parametrize("told", [7, None, [7], {"name": "shop"}])
def test_what_one_server_tells_wrongly_of_its_certificates_ends_nothing(
    fleet: Fleet, other: Zones, monkeypatch: pytest.MonkeyPatch, told: object
) -> None:
    call = fleet.there.call

    async def odd(link: Any, request: Any, *more: Any) -> Reply:
        reply = await call(link, request, *more)
        return replace(reply, data={"certificates": told}) if request.action == "cert.list" else reply

    monkeypatch.setattr(fleet.there, "call", odd)
    assert apply(fleet).error is None and "web1 route.set blog" in fleet.made()


def test_what_was_done_to_a_certificate_is_told_when_its_names_cannot_be_removed(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(fleet)
    setup(fleet)
    asyncio.run(certificates.add(fleet, "mail", "web1", ["mail.acme.app"], how()))
    fleet.made()

    async def fails(*_: Any, **__: Any) -> CommandResult:
        raise ConfigError("it is no zone")

    monkeypatch.setattr(zones, "apply", fails)
    done = asyncio.run(certificates.remove(fleet, "mail", "web1", how()))
    assert fleet.made() == ["web1 cert.remove mail"]
    assert errors(done) == {"acme.app": "it is no zone"}
    assert any(row.name == "web1" and row.reply and row.reply.changes for row in done.servers)


class ThenMore(Asked):
    """Says yes at first; somebody changes the zone meanwhile, and so there is another question."""

    def __init__(self, fleet: Fleet, then: bool | KeyboardInterrupt, name: str = "old.acme.app.") -> None:
        super().__init__()
        self.fleet, self.then, self.name = fleet, then, name

    def __call__(self, planned: CommandResult) -> bool:
        super().__call__(planned)
        if len(self.shown) == 1:
            old = Served(RRset(self.name, "AAAA", 300, ("2001:db8::1",)), mark(self.fleet))
            state = self.fleet.zones.state
            self.fleet.zones.state = state._replace(rrsets=(*state.rrsets, old))
            return True
        if isinstance(self.then, KeyboardInterrupt):
            raise self.then
        return self.then


@pytest.mark.parametrize(
    ("then", "said"),
    [(False, "not done: there was no yes to it"), (KeyboardInterrupt(), "not done: interrupted")],
    ids=["no", "ctrl-c"],
)
def test_a_no_in_a_later_stage_says_what_was_done(fleet: Fleet, then: bool | KeyboardInterrupt, said: str) -> None:
    fleet.folder.fleet_toml.write_text(
        fleet.text + '[routes.shop]\non = "web1"\nhost = "shop.acme.app"\nto = { port = 80 }\n'
    )
    fleet.refresh()
    asked = ThenMore(fleet, then)
    done = apply(fleet, asked)
    assert len(asked.shown) == 2
    assert fleet.made() == ["db1 dns.server ", "db1 dns.zone acme.app."]
    assert [change.name for row in done.servers if row.name == "db1" and row.reply for change in row.reply.changes] == [
        "dns.server", "dns.zone",
    ]  # fmt: skip
    assert errors(done) == {"acme.app": said, "web1": "route.shop: not tried"} and done.exit_code == 10


def test_an_edit_that_is_declined_in_the_middle_is_told_as_kept(fleet: Fleet) -> None:
    apply(fleet)
    fleet.made()
    asked = ThenMore(fleet, False, "shop.acme.app.")
    done = add(fleet, how(asked))
    assert len(asked.shown) == 2 and fleet.made() == [] and "[routes.shop]" in fleet.text
    assert errors(done) == {"acme.app": "not done: there was no yes to it", "web1": "route.shop: not tried"}
    assert "fleet.toml keeps it; sf apply tries again" in done.notes


def heard(fleet: Fleet) -> tuple[list[str], Any]:
    left: list[str] = []

    def report(event: Mapping[str, Any]) -> None:
        if event.get("t") == "left":
            left.append(str(event["text"]))

    return left, report


async def _cancelled(*_: Any) -> None:
    raise asyncio.CancelledError


def test_ctrl_c_in_a_later_stage_says_what_was_done(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    left, report = heard(fleet)
    monkeypatch.setattr(fleet.zones, "apply", _cancelled)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(
            whole.apply(
                fleet, selector="all", only=None, approve=lambda _: True, lock_wait_s=0, report=report, safety=USUAL
            )
        )
    assert left == ["changed before that: db1; sf plan shows the rest"]


def test_ctrl_c_after_an_edit_says_that_the_file_keeps_it(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(fleet)
    left, report = heard(fleet)
    monkeypatch.setattr(fleet.zones, "apply", _cancelled)
    with pytest.raises(asyncio.CancelledError):
        add(fleet, replace(how(), report=report))
    assert left == ["fleet.toml keeps it; sf apply tries again"] and "[routes.shop]" in fleet.text
