"""Servers that do not answer: what an edit is refused for, what it is not, and who is asked how often."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from serverflow_cli.errors import Unreachable
from serverflow_cli.flows import certificates, reach, sealing
from serverflow_cli.model.result import CommandResult, Reply, ServerResult
from serverflow_cli.model.zone import ZoneState

from .test_flow_routes import FLEET, Asked, Fleet, add, apply, how, setup
from .test_flow_routes import fleet as fleet  # the fixture
from .test_flow_whole import ACME, SHOP, run, write
from .test_flow_whole import deploy as deploy  # the fixture

CLOUDFLARE = """
[servers.web1]
host = "203.0.113.7"

[servers.web2]
host = "203.0.113.8"

[servers.web3]
host = "203.0.113.9"

[dns.providers.cf]
provider = "cloudflare"
token = { secret = "cf" }

[dns.zones."acme.app"]
provider = "cf"
"""


@pytest.mark.parametrize("before", ["web1,web2,web3", "web1,web2"])
def test_an_edit_that_leads_away_from_a_dead_server_is_made(fleet: Fleet, before: str) -> None:
    fleet.folder.fleet_toml.write_text(fleet.text.replace(FLEET, CLOUDFLARE))
    fleet.refresh()
    sealing.store(fleet, {"cf": "x"})
    apply(fleet)
    asyncio.run(
        certificates.setup(fleet, {"on": before, "token": True, "welcome": False}, lambda: {"token": "t"}, how())
    )
    fleet.made()
    fleet.there.away = {"web2"}
    asked = Asked()
    done = asyncio.run(certificates.setup(fleet, {"on": "web1"}, dict, how(asked)))
    assert 'on = "web1"\n' in fleet.text.partition("[acme]")[2]
    assert [row.name for row in done.failures] == ["web2"] and fleet.there.in_vain == ["web2"]
    assert "web2: the certificate server is still there: later sf cert remove server --on web2" in done.notes
    if "web3" in before:
        (shown,) = asked.shown
        assert "web2 cannot be planned: web2 does not answer" in shown.notes
        assert fleet.made() == ["web3 cert.remove server"]


def test_a_server_that_was_planned_is_not_away_when_its_zone_is(fleet: Fleet) -> None:
    """Its connection was lost once: what was shown of it is made."""
    write(fleet, ACME, SHOP % "web1")
    fetch, lost = fleet.zones.fetch, [True]

    async def flaky(_zone: str) -> ZoneState:
        if lost and lost.pop():
            raise Unreachable("the connection was lost", server="db1")
        return await fetch(_zone)

    fleet.zones.fetch = flaky  # type: ignore[method-assign]
    done = apply(fleet)
    assert "db1 dns.zone acme.app." in fleet.made()
    assert {row.name for row in done.failures} == {"acme.app", "web1"}


def test_a_zones_server_of_which_nothing_is_known_is_away() -> None:
    error = Unreachable("db1 does not answer", server="db1")
    zone = ServerResult("acme.app", error=error, kind="zone")
    assert reach.away(CommandResult(servers=(zone,))).keys() == {"acme.app", "db1"}
    planned = ServerResult("db1", Reply("", "done"))
    assert reach.away(CommandResult(servers=(planned,)), CommandResult(servers=(zone,))).keys() == {"acme.app"}


def test_a_zone_that_refuses_an_edit_is_no_server(fleet: Fleet) -> None:
    """It is not told of as one: 1 of 1 servers."""
    apply(fleet)
    setup(fleet)

    async def silent(_zone: str) -> ZoneState:
        raise Unreachable("nobody answers")

    fleet.zones.fetch = silent  # type: ignore[method-assign]
    done = add(fleet, how())
    assert [(row.name, row.kind) for row in done.failures] == [("acme.app", "zone")]


@pytest.mark.parametrize("on", ["web1,db1", "web1"])
def test_the_way_out_of_a_refusal_is_the_other_servers(fleet: Fleet, on: str) -> None:
    apply(fleet)
    setup(fleet)
    fleet.there.away = {"web1"}
    done = add(fleet, how(), on=on)
    (error,) = (row.error for row in done.failures)
    assert error and ("--on without web1 for the other servers" in error.hint) == (on == "web1,db1")


@pytest.mark.usefixtures("deploy")
def test_a_deploy_key_waits_once_for_a_dead_server(fleet: Fleet) -> None:
    """Its certificates are asked for before all else. Whether a route could be made there nobody knows."""
    apply(fleet)
    write(fleet, ACME, SHOP % "web1")
    fleet.there.away = {"web1"}
    for line in "plan", "apply --yes":
        fleet.there.in_vain.clear()
        done = run(fleet, line)
        assert fleet.there.in_vain == ["web1"] and done.code == 10
        assert "web1: web1 does not answer" in done.err and "its certificate is not there yet" not in done.err


def test_what_servers_still_have_is_asked_once_in_an_apply(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the plan before it; and it is told as it was."""
    write(fleet, ACME, SHOP % "web1")
    apply(fleet)
    fleet.folder.fleet_toml.write_text(fleet.text.replace(SHOP % "web1", ""))
    fleet.refresh()
    call, counted = fleet.there.call, Counter[tuple[str, str]]()

    async def counting(link: Any, request: Any, *more: Any) -> Reply:
        counted[link.name, request.action] += 1
        return await call(link, request, *more)

    monkeypatch.setattr(fleet.there, "call", counting)
    done = run(fleet, "apply --only cert --yes")
    assert {count for (_, action), count in counted.items() if action == "applied.list"} == {2}
    assert "web1: cert.shop is unmanaged" in done.err
    counted.clear()
    assert "web1: route.shop is unmanaged" in run(fleet, "apply --yes").err
    assert counted["web1", "applied.list"] == 2
