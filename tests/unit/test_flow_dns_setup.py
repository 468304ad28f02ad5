"""`sf dns setup` and `sf dns zone add · remove` for people in a hurry: twice, half done, in the wrong order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from serverflow_actions.kit.change import Change
from serverflow_actions.kit.rrset import RRset
from serverflow_cli.errors import ActionFailed, SfError, Unreachable, UsageError
from serverflow_cli.flows import sealing, vault
from serverflow_cli.flows.dns_setup import setup
from serverflow_cli.flows.zone_stanza import add_zone, remove_zone
from serverflow_cli.model.result import CommandResult, Reply, Report, Request
from serverflow_cli.model.zone import Served, ZoneState
from serverflow_cli.providers.errors import no_zone
from serverflow_cli.rpc.hello import Link
from serverflow_cli.transport import nameservers
from serverflow_cli.transport.nameservers import Disagreement

from .test_flow_routes import FLEET, Asked, Fleet, Servers, how
from .test_flow_routes import fleet as fleet  # the fixture

OTHER = """
[servers.ns9]
host = "192.0.2.9"

[dns.providers.other]
provider = "powerdns"
on = "ns9"
nameservers = { "ns9.acme.app" = "ns9" }
"""
FIREWALL = """
[firewall.all]
on = "all"
"""


@dataclass
class FromNothing(Servers):
    """Servers whose keys wait for PowerDNS, and zones for their key and for the catalog that they are in."""

    #: What a zone that waited turns out to need.
    verb: str = "create"
    made: list[str] = field(default_factory=list)

    async def call(self, link: Link, request: Request, op_id: str, version: int, report: Report) -> Reply:
        done = {line for line in self.made if line.startswith(f"{link.name} ")}
        needs = ["dns.server"] if request.action in ("dns.key", "dns.zone") else []
        for param, action in ("transfer-key", "dns.key"), ("catalog", "dns.zone"):
            needs += [f"{action} {request.params[param]}"] if request.params.get(param) else []
        for need in needs:
            if not any(line.startswith(f"{link.name} {need}") for line in done):
                raise ActionFailed(f"there is no {need} here", server=link.name)
        reply = await super().call(link, request, op_id, version, report)
        kind = {"dns.key": "tsig-key", "dns.zone": "zone"}.get(request.action, "file")
        if request.mode == "run":
            self.made.append(self.log[-1])
        name = str(request.params.get("zone", request.params.get("name", request.action)))
        verb = self.verb if kind == "zone" and name == "acme.app." else "create"
        return replace(reply, changes=tuple(Change(verb, kind, name) for _ in reply.changes))


def write(fleet: Fleet, text: str) -> None:
    before = fleet.text
    fleet.folder.fleet_toml.write_text(
        before.replace(FLEET, text) if text.startswith("\n[servers.web1]") else before + text
    )
    fleet.refresh()


def run_setup(
    fleet: Fleet,
    zone: str,
    plan: bool = False,
    approve: Callable[[CommandResult], bool] = lambda _: True,
    **settings: Any,
) -> CommandResult:
    return asyncio.run(setup(fleet, zone, "powerdns", settings, lambda: "", how(approve, plan)))


def lines(planned: CommandResult) -> set[tuple[str, str]]:
    return {(row.name, change.name) for row in planned.servers if row.reply for change in row.reply.changes}


@pytest.fixture
def bare(fleet: Fleet) -> Fleet:
    """Servers, and nothing of DNS."""
    write(fleet, FLEET.partition("[dns.")[0])
    return fleet


@pytest.fixture
def empty(bare: Fleet) -> Fleet:
    """Servers on which nothing of PowerDNS is yet."""
    bare.there = FromNothing(bare.there.log)
    return bare


def test_one_question_for_all_that_follows(empty: Fleet) -> None:
    asked = Asked()
    done = run_setup(empty, "acme.app", approve=asked, on="db1", secondary=["web1"])
    assert done.error is None
    (planned,) = asked.shown
    records = [f"{each}acme.app. A" for each in ("web1.", "*.web1.", "db1.", "*.db1.")]
    assert lines(planned) == {
        ("db1", "dns.server"), ("web1", "dns.server"), *(("acme.app", each) for each in records),
    }  # fmt: skip
    (notes,) = (row.reply.notes for row in planned.servers if row.name == "db1" and row.reply)
    for waits in ("dns.key.transfer-powerdns.", "dns.zone.catalog-powerdns.invalid.", "dns.zone.acme.app."):
        assert any(waits in note for note in notes)
    assert empty.made()[-2:] == ["db1 dns.zone acme.app.", "zone acme.app. 4"]
    assert any("registrar" in note for note in done.notes)


def test_what_was_not_named_is_asked_about(empty: Fleet) -> None:
    """Both are there already, with other settings and values than were shown."""
    assert isinstance(empty.there, FromNothing)
    empty.there.verb = "update"
    mark = f"serverflow {empty.fleet_id[:8]}"
    old = Served(RRset("db1.acme.app.", "A", 300, ("192.0.2.77",)), mark)
    empty.zones.state = ZoneState("acme.app.", (old,), "1", ("db1.acme.app.",))
    asked = Asked()
    assert run_setup(empty, "acme.app", approve=asked, on="db1").error is None
    first, zone, records = asked.shown
    assert ("acme.app", "db1.acme.app. A") in lines(first)
    assert lines(zone) == {("db1", "acme.app.")} and ("acme.app", "db1.acme.app. A") in lines(records)
    assert all(row.name == "acme.app" for row in records.servers)


def test_a_no_to_what_was_not_named_leaves_what_is_done(empty: Fleet) -> None:
    mark = f"serverflow {empty.fleet_id[:8]}"
    old = Served(RRset("db1.acme.app.", "A", 300, ("192.0.2.77",)), mark)
    empty.zones.state = ZoneState("acme.app.", (old,), "1", ("db1.acme.app.",))
    answers = iter((True, False))
    done = run_setup(empty, "acme.app", approve=lambda _: next(answers), on="db1")
    assert {row.name: row.outcome for row in done.servers} == {"db1": "done", "acme.app": "declined"}
    assert empty.made()[-1] == "db1 dns.zone acme.app." and empty.zones.state.rrsets == (old,)


def test_a_plan_shows_the_records_too(empty: Fleet) -> None:
    planned = run_setup(empty, "acme.app", plan=True, on="db1")
    assert ("acme.app", "db1.acme.app. A") in lines(planned) and not empty.made()


def test_records_alone_are_asked_about(fleet: Fleet) -> None:
    """The servers have it all: what was made before without a question was not small."""
    run_setup(fleet, "acme.app", name="own")
    fleet.zones.state = fleet.zones.state._replace(rrsets=())
    fleet.made()
    asked = Asked(False)
    with pytest.raises(SfError, match="nothing was done"):
        run_setup(fleet, "acme.app", name="own", approve=asked)
    assert len(asked.shown) == 1 and ("acme.app", "ns1.acme.app. A") in lines(asked.shown[0])
    assert not fleet.made()


@pytest.mark.parametrize("answer", [False, True])
def test_the_file_is_written_after_the_question_though_the_servers_have_it_all(fleet: Fleet, answer: bool) -> None:
    """A zone that was taken out of the file, and that they still have, comes back."""
    run_setup(fleet, "acme.app", name="own")
    asyncio.run(remove_zone(fleet, "acme.app", False, how()))
    fleet.zones.state = fleet.zones.state._replace(rrsets=())
    fleet.made()
    before, then = fleet.text, []

    def approve(planned: CommandResult) -> bool:
        then.append((lines(planned), fleet.text))
        return answer

    with nullcontext() if answer else pytest.raises(SfError, match="nothing was done"):
        asyncio.run(add_zone(fleet, "acme.app", None, how(approve)))
    ((shown, text),) = then
    assert ("acme.app", "ns1.acme.app. A") in shown and text == before
    assert (fleet.text != before, bool(fleet.made())) == (answer, answer)


def test_a_primary_that_is_down_is_waited_for_once(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    async def down(_: str) -> ZoneState:
        raise Unreachable("db1 does not answer")

    monkeypatch.setattr(fleet.zones, "fetch", down)
    with pytest.raises(Unreachable):
        run_setup(fleet, "acme.app", name="own")
    assert not fleet.made()


def test_a_secondary_more(fleet: Fleet) -> None:
    write(fleet, '[dns.zones."second.app"]\nprovider = "own"\n')
    run_setup(fleet, "acme.app", name="own")
    fleet.made()
    asked = Asked()
    done = run_setup(fleet, "acme.app", approve=asked, name="own", on="db1", secondary=["web1"])
    assert done.error is None and len(asked.shown) == 1
    settings: Any = fleet.fleet.dns.providers["own"]
    assert settings.nameservers == {"ns1.acme.app": "db1", "web1.acme.app": "web1"}
    assert settings.transfer_key.secret == "own_transfer_key" and "own_transfer_key" in vault.read(fleet).boxes
    made = fleet.made()
    assert {line for line in made if line.startswith("web1 ")} == {
        "web1 dns.server ", "web1 dns.key transfer-own.", "web1 dns.zone catalog-own.invalid.",
    }  # fmt: skip
    assert {"db1 dns.zone acme.app.", "db1 dns.zone second.app."} <= set(made)
    told = [note for note in done.notes if "registrar" in note]
    assert len(told) == 2 and "second.app" in told[1] and "web1.acme.app." in told[1]
    text = fleet.text
    run_setup(fleet, "acme.app", name="own", secondary=["web1"])
    assert (fleet.text, fleet.made()) == (text, [])


def test_a_secondary_takes_nobodys_name(fleet: Fleet) -> None:
    write(fleet, '[servers.ns1]\nhost = "192.0.2.9"\n')
    with pytest.raises(UsageError, match="the name of db1 already"):
        run_setup(fleet, "acme.app", name="own", secondary=["ns1"])
    with pytest.raises(UsageError, match="set up already"):
        run_setup(fleet, "acme.app", name="own", on="web1", secondary=["ns1"])


def test_its_firewall_lets_questions_in_before_there_is_a_zone(fleet: Fleet) -> None:
    write(fleet, FIREWALL)
    planned = asyncio.run(add_zone(fleet, "second.app", None, how(plan=True)))
    (row,) = planned.servers
    assert row.reply and {change.name for change in row.reply.changes} == {"firewall.set", "dns.server", "dns.zone"}
    asyncio.run(add_zone(fleet, "second.app", None, how()))
    made = fleet.made()
    assert made[0].startswith("db1 firewall.set") and made[-1] == "db1 dns.zone second.app."
    assert not any(line.startswith("web1") for line in made)


def test_other_name_servers_are_left_alone(fleet: Fleet) -> None:
    write(fleet, OTHER)
    asyncio.run(add_zone(fleet, "second.app", "other", how()))
    assert {line.split()[0] for line in fleet.made()} == {"ns9"}


def test_a_secondary_is_another_server(bare: Fleet) -> None:
    before = bare.text
    with pytest.raises(UsageError, match="db1 has the zones already"):
        run_setup(bare, "acme.app", on="db1", secondary=["db1"])
    with pytest.raises(UsageError, match="no server ns7"):
        run_setup(bare, "acme.app", on="db1", secondary=["ns7"])
    assert bare.text == before and not bare.made()


def test_said_twice_is_done_once(bare: Fleet) -> None:
    run_setup(bare, "ACME.app.", on="db1", secondary=["web1"])
    text, made = bare.text, bare.made()
    assert '"acme.app"' in text and made
    run_setup(bare, "acme.app", on="db1", secondary=["web1"])
    assert bare.text == text
    with pytest.raises(UsageError, match="set up already"):
        run_setup(bare, "acme.app", on="db1")


def test_a_key_that_a_broken_run_has_left_is_used(bare: Fleet) -> None:
    sealing.store(bare, {"powerdns_transfer_key": "left"})
    run_setup(bare, "acme.app", on="db1", secondary=["web1"])
    assert list(bare.there.secrets["dns.key"].values()) == ["left"]
    assert list(vault.read(bare).boxes) == ["powerdns_transfer_key"]


def test_a_zone_of_another_provider_stays_until_it_is_moved(fleet: Fleet) -> None:
    done = run_setup(fleet, "acme.app", name="second", on="web1")
    assert fleet.fleet.dns.zones["acme.app"].provider == "own" and "second" in fleet.fleet.dns.providers
    assert done.notes[-1] == "acme.app stays at own: sf dns move acme.app --to second copies it"
    assert "dns.zone" not in " ".join(fleet.made())
    with pytest.raises(UsageError) as refused:
        run_setup(fleet, "acme.app", name="second")
    assert refused.value.hint == "sf dns move acme.app --to second"


def test_a_zone_below_another_one_is_led_to_from_there(fleet: Fleet) -> None:
    done = asyncio.run(add_zone(fleet, "lab.acme.app", None, how()))
    assert "acme.app has to lead to it: sf dns record set lab.acme.app NS ns1.acme.app." in done.notes


def test_a_new_zone_is_done_when_all_have_it(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[RRset] = []

    async def all_disagreeing(_servers: object, wanted: list[RRset], _s: float) -> list[list[Disagreement]]:
        asked.extend(wanted)
        return [[Disagreement("ns2.acme.app.", "192.0.2.2", 53, "udp", "it answers REFUSED")]]

    monkeypatch.setattr(nameservers, "all_disagreeing", all_disagreeing)
    done = asyncio.run(add_zone(fleet, "second.app", None, how()))
    assert [each.name for each in asked] == ["second.app."]
    (late,) = done.failures
    assert late.name == "second.app" and late.error and "ns2.acme.app." in late.error.message
    assert late.error.exit_code == 13 and "second.app" in fleet.fleet.dns.zones


def removed(fleet: Fleet, remove: Callable[[str], None]) -> CommandResult:
    async def run(zone: str) -> None:
        remove(zone)

    fleet.zones.remove = run  # type: ignore[attr-defined]
    return asyncio.run(remove_zone(fleet, "Acme.App.", True, how()))


def test_a_zone_is_deleted_only_if_the_file_can_do_without(fleet: Fleet) -> None:
    gone: list[str] = []
    acme = '\n[acme]\non = "web1"\n'
    write(fleet, acme)
    before = fleet.text
    with pytest.raises(UsageError, match="still needed"):
        removed(fleet, gone.append)
    assert not gone and fleet.text == before
    fleet.folder.fleet_toml.write_text(before.replace(acme, ""))
    fleet.refresh()
    removed(fleet, gone.append)
    assert gone == ["acme.app."] and not fleet.fleet.dns.zones


def test_a_zone_that_is_gone_already_leaves_the_file(fleet: Fleet) -> None:
    def gone(zone: str) -> None:
        raise no_zone("PowerDNS", zone)

    removed(fleet, gone)
    assert not fleet.fleet.dns.zones


def test_the_registrar_needs_the_addresses_of_what_is_in_the_zone_itself(bare: Fleet) -> None:
    bare.zones.state = bare.zones.state._replace(nameservers=("db1.acme.app.",))
    done = run_setup(bare, "acme.app", on="db1")
    (told,) = (note for note in done.notes if "registrar" in note)
    inside = "with the addresses of those that are in it themselves (glue): db1.acme.app. 198.51.100.4"
    assert told == f"at your registrar, acme.app needs these name servers: db1.acme.app. {inside}"
    other = asyncio.run(add_zone(bare, "second.app", None, how()))
    (told,) = (note for note in other.notes if "registrar" in note)
    assert told.endswith("second.app needs these name servers: db1.acme.app.")
