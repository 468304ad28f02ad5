"""`sf plan` and `sf apply` of a file with names in it, as people and scripts call them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from serverflow_cli.cli.flow_calls import FlowCalls
from serverflow_cli.config.environment import Settings
from serverflow_cli.errors import ActionFailed, ConfigError, TrustError
from serverflow_cli.flows import vault

from .test_cli_run import Ended, sf
from .test_flow_routes import Asked, Fleet, add, apply, how, setup
from .test_flow_routes import fleet as fleet  # the fixture


class Calls(FlowCalls):
    """The real flows, in that fleet."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(Settings())
        self.fleet = fleet

    @asynccontextmanager
    async def workspace(self, ask: Any) -> AsyncIterator[Fleet]:
        self.fleet.refresh()
        yield self.fleet


def run(fleet: Fleet, line: str) -> Ended:
    return sf(line, Calls(fleet))  # type: ignore[arg-type]  # of all flows


ACME = """
[acme]
on = "web1"
"""
SHOP = """
[routes.shop]
on = "%s"
host = "shop.acme.app"
to = { port = 3000 }
"""
BARE = """
[routes.bare]
on = "web1"
host = "bare.acme.app"
to = { port = 3001 }
certificate = "none"
"""


def write(fleet: Fleet, *stanzas: str) -> None:
    fleet.folder.fleet_toml.write_text(fleet.text + "".join(stanzas))
    fleet.refresh()


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our key may not change secrets."""

    def refuse(_workspace: object) -> None:
        raise TrustError("your key may not change secrets", code="not-granted")

    monkeypatch.setattr(vault, "check_may_sign", refuse)


def test_a_file_is_planned_applied_and_then_as_it_should_be(fleet: Fleet) -> None:
    write(fleet, ACME, SHOP % "web1,db1")
    assert run(fleet, "plan").code == 0
    drift = run(fleet, "plan --check")
    assert drift.code == 11 and "not as fleet.toml says: db1, web1, acme.app" in drift.err and fleet.made() == []
    assert run(fleet, "apply --yes").code == 0
    assert "web1 route.set shop" in fleet.made()
    again = run(fleet, "apply --yes")
    assert (again.code, again.out.splitlines(), fleet.made()) == (0, ["db1, acme.app, web1: no changes"], [])
    assert run(fleet, "plan --check").code == 0
    shown = run(fleet, "apply --yes --json")
    assert {row["name"]: row["outcome"] for row in shown.document["servers"]} == dict.fromkeys(
        ("db1", "acme.app", "web1"), "unchanged"
    )
    old = fleet.zones.state
    fleet.zones.state = old._replace(rrsets=old.rrsets[1:])
    lost = run(fleet, "plan --check --json")
    assert lost.code == 11 and lost.document["error"]["code"] == "drift"
    assert run(fleet, "plan --check --on web1").code == 0
    assert run(fleet, "apply --only dns --yes").code == 0 and fleet.made() == ["zone acme.app. 1"]


def test_the_first_apply_may_be_of_the_name_server_alone(fleet: Fleet) -> None:
    write(fleet, ACME)
    assert run(fleet, "apply --on db1 --yes").code == 0
    assert "db1 dns.update-key web1.acme-challenge.acme.app." in fleet.made()
    assert run(fleet, "apply --yes").code == 0
    assert fleet.made()[-2:] == ["web1 cert.set server", "web1 cert.issue server"]


def test_a_certificate_waits_for_the_name_server_that_needs_its_key(fleet: Fleet) -> None:
    """It would be asked for in vain: --on leaves out the other side, and the zones."""
    apply(fleet)
    fleet.made()
    write(fleet, ACME, SHOP % "web1", BARE)
    done = run(fleet, "apply --on web1 --yes")
    assert (done.code, fleet.made()) == (0, ["web1 route.set bare"])
    assert "web1: cert.shop is left out: its new key has to come to the name server too: sf apply, without" in done.err
    assert "web1: route.shop is left out: its certificate is not there yet" in done.err
    assert vault.read(fleet).boxes == {}


def test_a_route_on_two_servers(fleet: Fleet) -> None:
    apply(fleet)
    fleet.made()
    write(fleet, ACME)
    apply(fleet)
    fleet.made()
    asked = Asked()
    done = add(fleet, how(asked), on="web1,db1")
    assert done.error is None and fleet.made() == [
        "db1 dns.zone shop.acme-shared.acme.app.",
        "db1 dns.update-key shop.acme-shared.acme.app.",
        "zone acme.app. 3",
        "web1 cert.set shop",
        "db1 cert.set shop",
        "web1 cert.issue shop",
        "db1 cert.issue shop",
        "web1 route.set shop",
        "db1 route.set shop",
    ]
    (planned,) = asked.shown
    assert any("a key for shop.acme-shared.acme.app. alone, as db1 does" in note for note in planned.notes)
    assert planned.notes == done.notes


@pytest.mark.usefixtures("deploy")
def test_a_key_that_may_not_change_secrets_applies_the_rest(fleet: Fleet) -> None:
    apply(fleet)
    fleet.made()
    write(fleet, ACME, SHOP % "web1", BARE)
    for line in "plan", "apply --yes":
        done = run(fleet, line)
        assert done.code == 0
        for key in "web1: cert.server", "web1: cert.shop", "db1: dns.update-key.web1.acme-challenge.acme.app.":
            assert f"{key} is left out: it needs a new key, and your key may not change secrets" in done.err
        assert "web1: route.shop is left out: its certificate is not there yet" in done.err
        assert "+ file cert.set" not in done.out
    assert fleet.made() == ["db1 dns.zone web1.acme-challenge.acme.app.", "zone acme.app. 5", "web1 route.set bare"]


def test_such_a_key_changes_a_route_whose_certificate_is_there(fleet: Fleet, request: pytest.FixtureRequest) -> None:
    write(fleet, ACME, SHOP % "web1")
    apply(fleet)
    fleet.made()
    request.getfixturevalue("deploy")
    fleet.folder.fleet_toml.write_text(
        fleet.text.replace('[routes.shop]\non = "web1"', '[routes.shop]\non = "web1,db1"\nmaintenance = true')
    )
    fleet.refresh()
    assert run(fleet, "apply --yes").code == 0
    assert [line for line in fleet.made() if "route" in line or "cert" in line] == ["web1 route.set shop"]


def test_a_key_that_may_not_remove_zones_leaves_them(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    write(fleet, ACME)
    apply(fleet)
    fleet.folder.fleet_toml.write_text(fleet.text.replace(ACME, '\n[acme]\non = "db1"\n'))
    fleet.refresh()
    call = fleet.there.call

    async def refuse(link: Any, request: Any, *more: Any) -> Any:
        if request.action in ("dns.zone-remove", "dns.key-remove"):
            raise TrustError(f"this key may not do {request.action}", code="not-granted")
        return await call(link, request, *more)

    monkeypatch.setattr(fleet.there, "call", refuse)
    for _ in range(2):
        done = run(fleet, "apply --yes")
        assert done.code == 0
        assert "zones of proofs that nobody needs stay: this key may not do dns.zone-remove" in done.err
    monkeypatch.undo()


@pytest.mark.usefixtures("deploy")
def test_such_a_key_is_told_so_before_anything_is_asked(fleet: Fleet) -> None:
    write(fleet, ACME)
    asked, before = Asked(), fleet.text
    with pytest.raises(TrustError, match="may not change secrets"):
        add(fleet, how(asked))
    assert (asked.shown, fleet.text) == ([], before)


def test_a_route_that_leads_nowhere_is_told(fleet: Fleet) -> None:
    write(fleet, '\n[servers.inside]\nhost = "inside.internal"\n')
    remark = "shop.acme.app does not lead to inside: its host is no address, and servers.inside.addresses has none"
    assert remark in add(fleet, how(), on="inside").notes
    assert f"acme.app: {remark}" in run(fleet, "plan").err


def test_what_is_to_be_made_by_hand_is_told_before_the_question(fleet: Fleet) -> None:
    apply(fleet)
    write(fleet, ACME)
    apply(fleet)
    asked = Asked()
    add(fleet, how(asked, plan=False), host="shop.exmple.app")
    start = "shop.exmple.app is in no zone of fleet.toml; there is acme.app. To be made by hand, where its zone is: "
    alias = "_acme-challenge.shop.exmple.app. CNAME web1.acme-challenge.acme.app."
    (note,) = (each for each in asked.shown[0].notes if each.startswith(start))
    assert alias in note and "shop.exmple.app A 203.0.113.7" in note
    planned = run(fleet, "plan")
    assert planned.err.count(start) == 1 and alias in planned.err and "A 203.0.113.7" in planned.err


def test_by_a_token_a_name_in_no_zone_is_refused(fleet: Fleet) -> None:
    text = fleet.text.replace('provider = "powerdns"\non = "db1"', 'provider = "cloudflare"\ntoken = { secret = "cf" }')
    text = text.replace('nameservers = { "ns1.acme.app" = "db1" }\n', "")
    fleet.folder.fleet_toml.write_text(text + ACME + 'token = { secret = "acme_token" }\n')
    fleet.refresh()
    before, asked = fleet.text, Asked()
    with pytest.raises(ConfigError, match="certificate shop on web1: its names are not all in one zone of the file"):
        add(fleet, how(asked), host="shop.exmple.app")
    assert (fleet.text, asked.shown) == (before, [])


def test_a_certificate_that_is_missing_is_in_the_plan(fleet: Fleet) -> None:
    apply(fleet)
    fleet.there.broken = {"cert.issue"}
    setup(fleet)
    fleet.there.broken = set()
    fleet.made()
    planned = run(fleet, "plan --json")
    changes = {row["name"]: row.get("changes", []) for row in planned.document["servers"]}
    assert changes["web1"] == [{"verb": "run", "kind": "certificate", "name": "server"}]
    shown = run(fleet, "plan")
    assert "> certificate server" in shown.out and fleet.made() == []
    assert run(fleet, "plan --check").code == 11
    asked = Asked()
    assert apply(fleet, asked).error is None
    assert (len(asked.shown), fleet.made()) == (1, ["web1 cert.issue server"])
    assert run(fleet, "plan --check").code == 0


def test_a_server_that_does_not_tell_of_its_certificates_has_none_in_the_plan(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(fleet)
    setup(fleet)
    call = fleet.there.call

    async def silent(link: Any, request: Any, *more: Any) -> Any:
        if request.action == "cert.list":
            raise ActionFailed("it is damaged")
        return await call(link, request, *more)

    monkeypatch.setattr(fleet.there, "call", silent)
    assert "certificate" not in run(fleet, "plan").out


@pytest.mark.parametrize("away", ["db1", "web1"])
def test_a_server_that_is_away_is_asked_once(fleet: Fleet, away: str) -> None:
    write(fleet, ACME, SHOP % "web1", BARE)
    fleet.there.away = {away}
    planned = run(fleet, "plan --json")
    failed = {row["name"] for row in planned.document["servers"] if row["error"]}
    assert failed == {"db1": {"db1", "acme.app"}, "web1": {"web1"}}[away]
    assert fleet.there.in_vain == [away]
    fleet.there.in_vain.clear()
    done = run(fleet, "apply --yes")
    assert fleet.there.in_vain == [away] and done.code == 10
    made = fleet.made()
    if away == "web1":  # nothing on the others is held up
        assert made[-1] == "zone acme.app. 10"
    fleet.there.away = set()
    assert run(fleet, "apply --yes").code == 0 and "web1 route.set shop" in fleet.made()


def test_a_server_of_which_nothing_is_wanted_is_no_failure(fleet: Fleet) -> None:
    write(fleet, '\n[servers.idle]\nhost = "203.0.113.99"\n')
    fleet.there.away = {"idle"}
    done = run(fleet, "apply --yes")
    assert done.code == 0 and fleet.there.in_vain == ["idle"]
    assert "could not be asked what they still have: idle" in done.err
