"""`sf dns provider list · remove`: what fleet.toml has of them, and what goes on without it."""

from __future__ import annotations

import asyncio

import pytest

from serverflow_cli.errors import ConfigError, SfError, UsageError
from serverflow_cli.flows import provider_stanza, sealing, servers
from serverflow_cli.flows.zone_stanza import remove_zone
from serverflow_cli.model.result import CommandResult

from .test_flow_routes import Asked, Fleet, how
from .test_flow_routes import fleet as fleet  # the fixture
from .test_flow_whole import run

CF = """
[dns.providers.cf]
provider = "cloudflare"
token = { secret = "cf_token" }
"""


def remove(fleet: Fleet, name: str, asked: Asked, plan: bool = False) -> CommandResult:
    return asyncio.run(provider_stanza.remove(fleet, name, how(asked, plan)))


def test_one_that_has_zones_stays(fleet: Fleet) -> None:
    before = fleet.text
    with pytest.raises(UsageError, match=r"dns\.providers\.own has acme\.app") as refused:
        remove(fleet, "own", Asked())
    assert refused.value.hint == "first: sf dns zone remove acme.app, or sf dns move acme.app --to NAME"
    with pytest.raises(UsageError, match=r"no dns\.providers\.other"):
        remove(fleet, "other", Asked())
    assert fleet.text == before


def test_then_its_server_may_go(fleet: Fleet) -> None:
    asyncio.run(remove_zone(fleet, "acme.app", False, how()))
    with pytest.raises(ConfigError, match="db1"):
        servers._check_removable(fleet, "db1")
    asked, before = Asked(), fleet.text
    remove(fleet, "own", asked, plan=True)
    with pytest.raises(SfError, match="nothing was done"):
        remove(fleet, "own", Asked(False))
    assert fleet.text == before and asked.shown == []
    done = remove(fleet, "own", asked)
    assert len(asked.shown) == 1 and fleet.made() == [] and fleet.fleet.dns.providers == {}
    (note,) = done.notes
    assert note.startswith("PowerDNS on db1 goes on, and serves what it has")
    assert note.endswith(": sf package remove pdns-server --on db1")
    servers._check_removable(fleet, "db1")


def test_what_nothing_refers_to_any_more_is_told(fleet: Fleet) -> None:
    fleet.folder.fleet_toml.write_text(fleet.text + CF)
    fleet.refresh()
    sealing.store(fleet, {"cf_token": "x"})
    assert remove(fleet, "cf", Asked()).notes == (
        "nothing refers to secret cf_token any more: sf secret remove cf_token",
    )


def test_as_a_command(fleet: Fleet) -> None:
    shown = run(fleet, "dns provider list --json")
    assert shown.document["data"]["providers"] == [
        {"name": "own", "provider": "powerdns", "servers": ["db1"], "zones": ["acme.app"]}
    ]
    assert run(fleet, "dns provider remove own --yes").code == 2
    assert "acme.app" in run(fleet, "dns provider list").out
