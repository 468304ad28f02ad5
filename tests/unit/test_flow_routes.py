"""One edit, and what follows from it on servers and in zones: the order, one question, and what a failure holds up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from serverflow_actions.kit.change import Change
from serverflow_cli.config.environment import Settings
from serverflow_cli.config.folder import FleetFolder
from serverflow_cli.errors import ActionFailed, ConfigError, ProviderError, SfError, Unreachable, UsageError
from serverflow_cli.flows import certificates, follow, routes, sealing, vault, whole
from serverflow_cli.flows.config import How
from serverflow_cli.flows.dns_providers import Providers
from serverflow_cli.flows.init import init
from serverflow_cli.flows.safe import USUAL
from serverflow_cli.flows.workspace import Workspace
from serverflow_cli.model.result import CommandResult, Reply, Report, Request, ServerResult
from serverflow_cli.model.zone import Change as ZoneChange
from serverflow_cli.model.zone import ZoneState
from serverflow_cli.plan.resource import Resource, resource_hash
from serverflow_cli.rpc.call import Caller
from serverflow_cli.rpc.fanout import on_all
from serverflow_cli.rpc.hello import Link

FLEET = """
[servers.web1]
host = "203.0.113.7"

[servers.db1]
host = "198.51.100.4"

[dns.providers.own]
provider = "powerdns"
on = "db1"
nameservers = { "ns1.acme.app" = "db1" }

[dns.zones."acme.app"]
provider = "own"
"""
SHOP = {"on": "web1", "host": "shop.acme.app", "to": {"port": 3000}}


class Zones:
    """A provider in memory, whose name servers need not be asked."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.state = ZoneState("acme.app.", (), "1", ("ns1.acme.app.",))
        self.broken: SfError | None = None

    async def zones(self) -> list[str]:
        return [self.state.name]

    async def fetch(self, _zone: str) -> ZoneState:
        return self.state

    async def apply(self, zone: str, changes: Sequence[ZoneChange], revision: str) -> None:
        assert revision == self.state.revision
        if self.broken:
            raise self.broken
        gone = {each.before for each in changes if each.before}
        rrsets = [each for each in self.state.rrsets if each not in gone]
        rrsets += [each.after for each in changes if each.after]
        self.state = self.state._replace(rrsets=tuple(rrsets), revision=str(int(revision) + 1))
        self.log.append(f"zone {zone} {len(changes)}")

    async def addresses(self, _zone: str) -> list[tuple[str, str, int]]:
        return []

    def names(self, kind: str) -> set[str]:
        return {each.rrset.name for each in self.state.rrsets if each.rrset.type == kind}


@dataclass
class Servers:
    """What has been made, in order; `broken` actions fail, and servers that are `away` do not answer."""

    log: list[str]
    has: dict[tuple[str, str], str] = field(default_factory=dict)
    bases: dict[tuple[str, str], str] = field(default_factory=dict)
    issued: set[tuple[str, str]] = field(default_factory=set)
    #: What they say of whether certificates are served.
    served: bool | None = True
    broken: set[str] = field(default_factory=set)
    away: set[str] = field(default_factory=set)
    #: Each time that one of them was asked.
    in_vain: list[str] = field(default_factory=list)
    #: Actions that cannot be planned.
    unplanned: set[str] = field(default_factory=set)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    #: The certificates that nginx names, by server and route.
    named: dict[tuple[str, str], str] = field(default_factory=dict)

    @asynccontextmanager
    async def hold(self, _link: Link) -> AsyncIterator[None]:
        yield

    async def wait_for_turn(self, _link: Link, _wait_s: float, _report: Report) -> None:
        pass

    async def call(self, link: Link, request: Request, op_id: str, _version: int, report: Report) -> Reply:
        if link.name in self.away:
            self.in_vain.append(link.name)
            raise Unreachable(f"{link.name} does not answer")
        if request.action == "applied.list":
            applied: dict[str, Any] = {
                key: {} for (server, key), to in self.bases.items() if server == link.name and to
            }
            return Reply(op_id, "done", data={"applied": applied})
        if request.action == "cert.list":
            has = [
                {"name": name, "path": "/x", "served": self.served, "next": 1 << 60}
                for at, name in self.issued
                if at == link.name
            ]
            return Reply(op_id, "done", data={"certificates": has})
        if request.action == "route.list":
            there = [{"name": name, "certificate": own} for (at, name), own in self.named.items() if at == link.name]
            return Reply(op_id, "done", data={"routes": there})
        if request.mode == "plan" and request.action in self.unplanned:
            raise ActionFailed(f"{request.action} cannot be planned", server=link.name)
        resource_key = str((request.base or {}).get("resource", ""))
        resource = Resource(link.name, "", request.action, dict(request.params), "", {})
        key, digest = (link.name, str(sorted(map(str, request.params.items())))), resource_hash(resource)
        digest += str(sorted(request.secrets.items()))
        is_there = self.has.get(key) == digest and request.action != "cert.issue"
        if request.mode == "run":
            if request.action in self.broken:
                raise ActionFailed(f"{request.action} failed", server=link.name)
            self.log.append(
                f"{link.name} {request.action} {request.params.get('name', request.params.get('zone', ''))}"
            )
            self.has[key] = digest
            if request.action == "route.set":
                self.named[link.name, str(request.params["name"])] = str(request.params.get("certificate", ""))
            if request.action == "route.remove":
                self.named.pop((link.name, str(request.params["name"])), None)
            if request.action == "cert.issue":
                self.issued.add((link.name, str(request.params["name"])))
            self.bases[link.name, resource_key] = str((request.base or {}).get("to", ""))
            self.secrets.setdefault(request.action, {}).update(request.secrets)
        changes = () if is_there else (Change("create", "file", request.action),)
        base = {"hash": self.bases.get((link.name, resource_key), ""), "by": "ana", "op_id": ""}
        return Reply(op_id, "done", changes, plan_sha256="0" * 64, receipt={"base": base})


class Fleet(Workspace):
    """A real folder with real keys, whose servers and zones are those."""

    def __init__(self, folder: FleetFolder, settings: Settings, servers: Servers, zones: Zones) -> None:
        super().__init__(folder, settings)
        self.there, self.zones = servers, zones

    @property
    def text(self) -> str:
        return self.folder.fleet_toml.read_text()

    @property
    def ids(self) -> dict[str, str]:
        return {name: name for name in self.servers}

    @asynccontextmanager
    async def caller(self, signer: Any = None) -> AsyncIterator[Caller]:
        yield cast("Caller", self.there)

    async def on_all(
        self, names: Collection[str], work: Callable[[Link], Awaitable[Reply]], report: Report
    ) -> tuple[ServerResult, ...]:
        return await on_all([cast("Link", SimpleNamespace(name=name)) for name in names], work, report)

    def made(self) -> list[str]:
        """What happened since the last look."""
        found = list(self.there.log)
        self.there.log.clear()
        return found


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = FleetFolder(tmp_path / "fleet")
    asyncio.run(init(str(folder.path), key=None, name="ana", settings=Settings(), ask=None))
    text = folder.fleet_toml.read_text()
    folder.fleet_toml.write_text(text.replace("schema = 1\n", 'schema = 1\nbase_domain = "acme.app"\n', 1) + FLEET)
    log: list[str] = []
    zones = Zones(log)
    monkeypatch.setattr(Providers, "_made", lambda *_: zones)
    return Fleet(folder, Settings(), Servers(log), zones)


class Asked:
    """Counts the questions, and remembers what was shown."""

    def __init__(self, answer: bool = True) -> None:
        self.answer, self.shown = answer, list[CommandResult]()

    def __call__(self, planned: CommandResult) -> bool:
        self.shown.append(planned)
        return self.answer


def how(approve: Callable[[CommandResult], bool] = lambda _: True, plan: bool = False) -> How:
    return How(plan=plan, approve=approve, timeout_s=None, lock_wait_s=0, report=lambda _: None)


def apply(fleet: Fleet, approve: Callable[[CommandResult], bool] = lambda _: True) -> CommandResult:
    return asyncio.run(
        whole.apply(
            fleet, selector="all", only=None, approve=approve, lock_wait_s=0, report=lambda _: None, safety=USUAL
        )
    )


def add(fleet: Fleet, settings: How, **more: Any) -> CommandResult:
    return asyncio.run(routes.write(fleet, "shop", {**SHOP, **more}, None, True, settings))


def setup(fleet: Fleet) -> CommandResult:
    return asyncio.run(certificates.setup(fleet, {"on": "web1"}, dict, how()))


def test_certificates_are_set_up_in_the_order_in_which_they_can_be(fleet: Fleet) -> None:
    apply(fleet)
    fleet.made()
    done = setup(fleet)
    assert done.error is None
    assert fleet.made() == [
        "db1 dns.zone web1.acme-challenge.acme.app.",
        "db1 dns.update-key web1.acme-challenge.acme.app.",
        "zone acme.app. 2",
        "web1 cert.set server",
        "web1 cert.issue server",
    ]
    key = sealing.open_secret(fleet, "proof_server_web1")
    assert fleet.there.secrets["dns.update-key"] == fleet.there.secrets["cert.set"] == {"secret": key}
    assert any("web1 gets a key for web1.acme-challenge.acme.app. alone" in note for note in done.notes)


def test_a_route_brings_record_certificate_and_nginx_after_one_question(fleet: Fleet) -> None:
    apply(fleet)
    setup(fleet)
    fleet.made()
    asked = Asked()
    done = add(fleet, how(asked))
    assert done.error is None
    assert fleet.made() == ["zone acme.app. 2", "web1 cert.set shop", "web1 cert.issue shop", "web1 route.set shop"]
    assert "shop.acme.app." in fleet.zones.names("A") and "_acme-challenge.shop.acme.app." in fleet.zones.names("CNAME")
    (planned,) = asked.shown
    assert {(row.name, change.name) for row in planned.servers if row.reply for change in row.reply.changes} == {
        ("web1", "cert.set"), ("web1", "route.set"), ("web1", "shop"),
        ("acme.app", "shop.acme.app. A"), ("acme.app", "_acme-challenge.shop.acme.app. CNAME"),
    }  # fmt: skip
    assert '[routes.shop]\non = "web1"\nhost = "shop.acme.app"\nto = { port = 3000 }\n' in fleet.text


def test_a_plan_or_a_no_changes_nothing(fleet: Fleet) -> None:
    apply(fleet)
    fleet.made()
    before = fleet.text
    assert add(fleet, how(plan=True)).error is None
    with pytest.raises(SfError, match="nothing was done"):
        add(fleet, how(Asked(False)))
    assert (fleet.text, fleet.made()) == (before, [])


def test_what_fails_holds_up_what_needs_it(fleet: Fleet) -> None:
    apply(fleet)
    setup(fleet)
    fleet.made()
    fleet.zones.broken = ProviderError("it is down")
    done = add(fleet, how())
    assert fleet.made() == [] and done.exit_code == 10
    assert {row.name: row.error.message for row in done.failures if row.error} == {
        "acme.app": "it is down",
        "web1": "cert.shop: not tried, acme.app comes first\nroute.shop: not tried, acme.app comes first",
    }  # fmt: skip
    assert done.notes[-1] == "fleet.toml keeps it; sf apply tries again"
    fleet.zones.broken = None
    assert apply(fleet).error is None
    assert fleet.made()[-2:] == ["web1 cert.issue shop", "web1 route.set shop"]


@pytest.mark.parametrize(("away", "on"), [("web1", "web1"), ("web1", "web1,db1")])
def test_a_route_is_refused_where_nobody_answers(fleet: Fleet, away: str, on: str) -> None:
    """Its names would lead to nothing; and the server is not waited for twice."""
    apply(fleet)
    setup(fleet)
    fleet.made()
    fleet.there.away = {away}
    before, asked = fleet.text, Asked()
    done = add(fleet, how(asked), on=on)
    assert (asked.shown, fleet.text, fleet.made(), fleet.there.in_vain) == ([], before, [], [away])
    assert isinstance(done.error, Unreachable) and done.exit_code == 5
    assert [(row.name, row.error.message) for row in done.servers if row.error] == [(away, f"{away} does not answer")]
    assert done.notes == ("nothing was done, and fleet.toml is as it was",)
    planned = add(fleet, how(asked, plan=True), on=on)
    assert [row.name for row in planned.failures] == [away] and {row.name for row in planned.servers} > {away}


def test_a_route_is_refused_where_its_names_cannot_be_made(fleet: Fleet) -> None:
    apply(fleet)
    setup(fleet)
    fleet.made()

    async def silent(_zone: str) -> ZoneState:
        fleet.there.in_vain.append("db1")
        raise Unreachable("db1 does not answer", server="db1")

    fleet.zones.fetch = silent  # type: ignore[method-assign]
    before, asked = fleet.text, Asked()
    done = add(fleet, how(asked))
    assert (asked.shown, fleet.text, fleet.made(), fleet.there.in_vain) == ([], before, [], ["db1"])
    assert ([row.name for row in done.failures], done.exit_code) == (["db1"], 5)


def test_a_removal_waits_once_for_a_zone_that_cannot_be_asked(fleet: Fleet) -> None:
    apply(fleet)
    setup(fleet)
    add(fleet, how())
    fleet.made()

    async def silent(_zone: str) -> ZoneState:
        fleet.there.in_vain.append("db1")
        raise Unreachable("db1 does not answer", server="db1")

    fleet.zones.fetch = silent  # type: ignore[method-assign]
    asked = Asked()
    done = asyncio.run(routes.remove(fleet, "shop", how(asked)))
    (shown,) = asked.shown
    assert "acme.app cannot be planned: db1 does not answer" in shown.notes and fleet.there.in_vain == ["db1"]
    assert [row.name for row in done.failures] == ["acme.app"] and "web1 route.remove shop" in fleet.made()


def test_an_edit_of_which_nothing_can_be_planned_is_not_written(fleet: Fleet) -> None:
    apply(fleet)
    fleet.made()
    fleet.there.unplanned = {"route.set"}

    async def down(_zone: str) -> ZoneState:
        raise ProviderError("it is down")

    fleet.zones.fetch = down  # type: ignore[method-assign]
    before, asked = fleet.text, Asked()
    done = add(fleet, how(asked))
    assert (asked.shown, fleet.text, fleet.made()) == ([], before, [])
    assert {row.name for row in done.failures} == {"web1", "acme.app"}


def test_what_cannot_be_taken_off_afterwards_refuses_no_edit(fleet: Fleet) -> None:
    apply(fleet)
    setup(fleet)
    add(fleet, how())
    fleet.made()
    fleet.there.unplanned = {"cert.remove"}
    asked = Asked()
    asyncio.run(routes.write(fleet, "shop", {"certificate": "none"}, None, False, how(asked)))
    (shown,) = asked.shown
    assert "web1 cannot be planned: cert.remove cannot be planned" in shown.notes
    assert fleet.made() == ["zone acme.app. 1", "web1 route.set shop"]


def test_what_does_not_need_a_server_that_is_away_is_made_after_a_question_that_says_so(fleet: Fleet) -> None:
    apply(fleet)
    fleet.made()
    fleet.folder.fleet_toml.write_text(fleet.text + '\n[servers.web2]\nhost = "203.0.113.8"\n')
    fleet.refresh()
    fleet.there.away = {"web2"}
    asked = Asked()
    done = asyncio.run(certificates.setup(fleet, {"on": "web1,web2"}, dict, how(asked)))
    (shown,) = asked.shown
    assert "web2 cannot be planned: web2 does not answer" in shown.notes
    assert fleet.there.in_vain == ["web2"] and fleet.made()[-2:] == ["web1 cert.set server", "web1 cert.issue server"]
    assert [row.name for row in done.failures] == ["web2"] and "fleet.toml keeps it; sf apply tries again" in done.notes


def test_a_removal_that_cannot_go_all_the_way_does_not_show_what_would_follow(fleet: Fleet) -> None:
    apply(fleet)
    setup(fleet)
    add(fleet, how(), on="web1,db1")
    fleet.made()
    fleet.there.away = {"web1"}
    asked = Asked()
    asyncio.run(routes.remove(fleet, "shop", how(asked)))
    (shown,) = asked.shown
    assert "web1 cannot be planned: web1 does not answer" in shown.notes
    assert [row.name for row in shown.servers] == ["web1", "db1"] and fleet.made() == ["db1 route.remove shop"]


STAGED = """
[apps.other]
on = "web1"

[routes.shop]
on = "db1"
host = "shop.acme.app"
to = { port = 3000 }
certificate = "none"
"""


def test_in_the_first_stage_a_server_holds_up_its_own_names_alone(fleet: Fleet) -> None:
    apply(fleet)
    before = fleet.fleet
    fleet.folder.fleet_toml.write_text(fleet.text + STAGED)
    fleet.refresh()
    due, names = follow.changed(before, fleet.fleet)
    fleet.made()
    fleet.there.broken = {"app.create"}
    done = asyncio.run(follow.in_stages(fleet, due, names, how()))
    assert fleet.made() == ["zone acme.app. 1", "db1 route.set shop"]
    assert [row.name for row in done.failures] == ["web1"]


def test_in_the_first_stage_a_server_holds_up_the_names_that_lead_to_it(fleet: Fleet) -> None:
    apply(fleet)
    before = fleet.fleet
    fleet.folder.fleet_toml.write_text(fleet.text + STAGED.replace('"db1"', '"web1"'))
    fleet.refresh()
    due, names = follow.changed(before, fleet.fleet)
    fleet.made()
    fleet.there.broken = {"app.create"}
    done = asyncio.run(follow.in_stages(fleet, due, names, how()))
    told = {row.name: row.error.message for row in done.failures if row.error}
    assert fleet.made() == [] and told["acme.app"] == "not tried, web1 comes first"


def test_without_its_certificate_no_route_is_made(fleet: Fleet) -> None:
    apply(fleet)
    setup(fleet)
    fleet.made()
    fleet.there.broken = {"cert.issue"}
    done = add(fleet, how())
    assert fleet.made() == ["zone acme.app. 2", "web1 cert.set shop"] and done.exit_code == 10


def again(fleet: Fleet, asked: Asked, plan: bool = False) -> CommandResult:
    return asyncio.run(routes.write(fleet, "shop", {"host": SHOP["host"]}, None, False, how(asked, plan)))


def test_the_same_edit_after_a_failure_carries_on(fleet: Fleet) -> None:
    apply(fleet)
    setup(fleet)
    fleet.made()
    fleet.zones.broken = ProviderError("it is down")
    add(fleet, how())
    assert again(fleet, Asked()).exit_code == 10
    fleet.zones.broken = None
    planned = again(fleet, Asked(), plan=True)
    assert {(row.name, change.name) for row in planned.servers if row.reply for change in row.reply.changes} == {
        ("web1", "cert.set"), ("web1", "route.set"), ("web1", "shop"),
        ("acme.app", "shop.acme.app. A"), ("acme.app", "_acme-challenge.shop.acme.app. CNAME"),
    }  # fmt: skip
    fleet.there.broken = {"cert.issue"}
    asked = Asked()
    assert again(fleet, asked).exit_code == 10 and len(asked.shown) == 1
    assert fleet.made() == ["zone acme.app. 2", "web1 cert.set shop"]
    fleet.there.broken = set()
    assert again(fleet, asked).error is None
    assert fleet.made() == ["web1 cert.issue shop", "web1 route.set shop"]
    asked = Asked()
    assert again(fleet, asked).error is None and (fleet.made(), asked.shown) == ([], [])


def test_the_same_setup_after_a_failure_carries_on(fleet: Fleet) -> None:
    apply(fleet)
    add(fleet, how())
    fleet.made()
    fleet.there.broken = {"cert.issue"}
    assert setup(fleet).exit_code == 10
    assert "web1 cert.issue server" not in fleet.made()
    fleet.there.broken = set()
    assert setup(fleet).error is None
    assert fleet.made()[-3:] == ["web1 cert.issue server", "web1 cert.issue shop", "web1 route.set shop"]
    assert setup(fleet).error is None and fleet.made() == []


@pytest.mark.parametrize("secret", ["own_token", "proof_shared_shop_c4144f87"])
def test_what_our_key_cannot_open_is_left_out_of_a_second_look(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    """A script of a deploy key says it every time."""
    apply(fleet)
    setup(fleet)
    add(fleet, how(), on="web1,db1")
    fleet.made()
    really = sealing._open

    def opened(name: str, *more: Any) -> str:
        if name == secret:
            raise ConfigError(f"secret {name} is not sealed to this key", code=sealing.NOT_OURS)
        return really(name, *more)

    def provider(*_: Any) -> Zones:
        opened("own_token", {}, {}) if secret == "own_token" else None
        return fleet.zones

    monkeypatch.setattr(sealing, "_open", opened)
    monkeypatch.setattr(Providers, "_made", provider)
    done = again(fleet, Asked())
    assert done.error is None and fleet.made() == []
    assert any("is left out" in note and f"secret {secret} is not sealed" in note for note in done.notes)


def test_another_edit_looks_at_what_it_changes_alone(fleet: Fleet) -> None:
    """A zone that is down does not hold up a page of maintenance."""
    apply(fleet)
    setup(fleet)
    add(fleet, how())
    fleet.made()

    async def down(_zone: str) -> ZoneState:
        raise ProviderError("it is down")

    fleet.zones.fetch = down  # type: ignore[method-assign]
    done = asyncio.run(routes.write(fleet, "shop", {"maintenance": True}, None, False, how()))
    assert done.error is None and fleet.made() == ["web1 route.set shop"]


def test_many_servers_with_one_name_are_told_of_the_limit(fleet: Fleet) -> None:
    more = "".join(f'[servers.w{n}]\nhost = "203.0.113.{n}"\n' for n in range(10, 16))
    fleet.folder.fleet_toml.write_text(f"{fleet.text}\n{more}")
    fleet.refresh()
    apply(fleet)
    setup(fleet)
    asked = Asked()
    done = add(fleet, how(asked), on="w1*")
    (planned,) = asked.shown
    for notes in planned.notes, done.notes, apply(fleet).notes:
        assert len([note for note in notes if note.startswith("6 certificates are wanted")]) == 1
    fleet.made()
    assert not any("6 servers" in note for note in setup(fleet).notes)


def test_a_password_is_sealed_and_sent_beside_the_parameters(fleet: Fleet) -> None:
    values = {**SHOP, "auth_user": "ana"}
    asyncio.run(routes.write(fleet, "shop", values, lambda: "p-w", True, how()))
    assert vault.read(fleet).boxes.keys() == {"route_shop"}
    assert fleet.there.secrets["route.set"] == {"auth-password": "p-w"} and "p-w" not in fleet.text


def test_a_new_password_reaches_the_server(fleet: Fleet) -> None:
    asyncio.run(routes.write(fleet, "shop", {**SHOP, "auth_user": "ana"}, lambda: "p-w", True, how()))
    fleet.made()
    asyncio.run(routes.write(fleet, "shop", {"auth_user": "ana"}, lambda: "other", False, how()))
    assert fleet.made() == ["web1 route.set shop"]
    assert fleet.there.secrets["route.set"] == {"auth-password": "other"}


def test_a_route_goes_with_its_names(fleet: Fleet) -> None:
    apply(fleet)
    setup(fleet)
    add(fleet, how())
    fleet.made()
    done = asyncio.run(routes.remove(fleet, "shop", how()))
    assert done.error is None and fleet.made() == [
        "web1 route.remove shop",
        "zone acme.app. 2",
        "web1 cert.remove shop",
    ]
    assert "shop.acme.app." not in fleet.zones.names("A") and "shop" not in fleet.text


def test_the_question_about_a_removal_shows_all_that_goes(fleet: Fleet) -> None:
    apply(fleet)
    setup(fleet)
    add(fleet, how())
    fleet.made()
    asked = Asked()
    planned = asyncio.run(routes.remove(fleet, "shop", how(plan=True)))
    assert asyncio.run(routes.remove(fleet, "shop", how(asked))).error is None
    for shown in planned, *asked.shown:
        assert {(row.name, change.name) for row in shown.servers if row.reply for change in row.reply.changes} == {
            ("web1", "route.remove"), ("web1", "cert.remove"),
            ("acme.app", "shop.acme.app. A"), ("acme.app", "_acme-challenge.shop.acme.app. CNAME"),
        }  # fmt: skip
    assert len(asked.shown) == 1


def test_a_no_to_a_removal_changes_nothing(fleet: Fleet) -> None:
    apply(fleet)
    setup(fleet)
    add(fleet, how())
    fleet.made()
    before = fleet.text
    with pytest.raises(SfError, match="nothing was done"):
        asyncio.run(routes.remove(fleet, "shop", how(Asked(False))))
    assert (fleet.text, fleet.made()) == (before, [])


def test_a_removal_from_too_small_a_zone_names_the_way_out(fleet: Fleet) -> None:
    records = ", ".join(f'{{ name = "h{n}", type = "A", values = ["192.0.2.{n}"] }}' for n in range(1, 3))
    fleet.folder.fleet_toml.write_text(fleet.text + f"records = [{records}]\n")
    fleet.refresh()
    apply(fleet)
    setup(fleet)
    add(fleet, how(), aliases=["www.acme.app"])
    fleet.made()
    asked = Asked()
    done = asyncio.run(routes.remove(fleet, "shop", how(asked)))
    for shown in done, *asked.shown:
        (error,) = (row.error for row in shown.failures)
        assert error and (error.code, error.hint) == ("too-much", "if that is meant: sf dns apply acme.app --force")
    assert fleet.made() == ["web1 route.remove shop", "web1 cert.remove shop"] and len(asked.shown) == 1


def wild(fleet: Fleet, certificate: str = "") -> None:
    """A route whose certificate is good for another one, too."""
    apply(fleet)
    asyncio.run(certificates.setup(fleet, {"on": "db1"}, dict, how()))
    asyncio.run(routes.write(fleet, "wild", {**SHOP, "host": "*.acme.app"}, None, True, how()))
    add(fleet, how(), **({"certificate": certificate} if certificate else {}))
    assert fleet.there.named == {("web1", "wild"): "wild", ("web1", "shop"): "wild"}
    fleet.made()


def test_a_certificate_goes_when_its_routes_have_another_one(fleet: Fleet) -> None:
    wild(fleet)
    assert asyncio.run(routes.remove(fleet, "wild", how())).error is None
    made = fleet.made()
    assert made[0] == "web1 route.remove wild"
    assert made[-4:] == [
        "web1 cert.set shop", "web1 cert.issue shop", "web1 route.set shop", "web1 cert.remove wild",
    ]  # fmt: skip


def test_a_certificate_stays_while_nginx_names_it(fleet: Fleet) -> None:
    wild(fleet)
    fleet.there.broken = {"cert.issue"}
    done = asyncio.run(routes.remove(fleet, "wild", how()))
    made = fleet.made()
    assert done.exit_code == 10 and "web1 cert.remove wild" not in made and made[-1] == "web1 cert.set shop"
    assert "web1: the certificate wild is still there: later sf cert remove wild --on web1" in done.notes
    with pytest.raises(UsageError, match="nginx on web1 still names it, for shop"):
        asyncio.run(certificates.remove(fleet, "wild", "web1", how()))
    fleet.there.broken = set()
    assert apply(fleet).error is None
    assert asyncio.run(certificates.remove(fleet, "wild", "web1", how())).error is None
    assert fleet.made()[-1] == "web1 cert.remove wild"


def test_a_route_whose_certificate_another_one_names_stays(fleet: Fleet) -> None:
    wild(fleet, "wild")
    with pytest.raises(UsageError, match=r"routes\.shop uses the certificate wild on web1"):
        asyncio.run(routes.remove(fleet, "wild", how()))
    assert fleet.made() == []


def test_an_edit_takes_off_the_certificate_that_it_makes_superfluous(fleet: Fleet) -> None:
    apply(fleet)
    setup(fleet)
    add(fleet, how())
    fleet.made()
    asked = Asked()
    done = asyncio.run(routes.write(fleet, "shop", {"certificate": "none"}, None, False, how(asked)))
    assert done.error is None and fleet.made() == ["zone acme.app. 1", "web1 route.set shop", "web1 cert.remove shop"]
    (planned,) = asked.shown
    assert "cert.remove" in {change.name for row in planned.servers if row.reply for change in row.reply.changes}


def test_a_certificate_stays_where_an_edit_leaves_its_route(fleet: Fleet) -> None:
    apply(fleet)
    setup(fleet)
    add(fleet, how())
    fleet.made()
    done = asyncio.run(routes.write(fleet, "shop", {"on": "db1"}, None, False, how()))
    assert done.error is None and not any("cert.remove" in line for line in fleet.made())
    assert any(note.startswith("web1: the certificate shop stays, since nginx there names it") for note in done.notes)


def test_a_servers_own_certificate_is_not_removed_from_its_page(fleet: Fleet) -> None:
    fleet.folder.fleet_toml.write_text(fleet.text.replace("[servers.web1]\n", '[servers.web1]\nroles = ["app"]\n'))
    fleet.refresh()
    apply(fleet)
    setup(fleet)
    fleet.made()
    with pytest.raises(UsageError, match="still wants it on web1") as raised:
        asyncio.run(certificates.remove(fleet, "server", "web1", how()))
    assert "[acme]" in raised.value.hint
    done = asyncio.run(certificates.setup(fleet, {"on": "db1"}, dict, how()))  # the page stays, unmanaged
    assert done.error is None and "web1 cert.remove server" not in fleet.made()
    with pytest.raises(UsageError, match="nginx on web1 still names it, for server"):
        asyncio.run(certificates.remove(fleet, "server", "web1", how()))
    assert fleet.made() == []


def test_a_certificate_is_not_removed_from_a_part_of_its_servers(fleet: Fleet) -> None:
    apply(fleet)
    setup(fleet)
    asyncio.run(certificates.add(fleet, "mail", "web1,db1", ["mail.acme.app"], how()))
    fleet.made()
    with pytest.raises(UsageError, match="still wants it on web1"):
        asyncio.run(certificates.remove(fleet, "mail", "web1", how()))
    assert fleet.made() == []
    assert asyncio.run(certificates.remove(fleet, "mail", "web1,db1", how())).error is None
    assert fleet.made()[:2] == ["web1 cert.remove mail", "db1 cert.remove mail"] and "mail" not in fleet.text


def test_a_name_that_is_taken_or_not_there(fleet: Fleet) -> None:
    add(fleet, how())
    with pytest.raises(UsageError, match="there is a route shop already"):
        add(fleet, how())
    with pytest.raises(UsageError, match="there is no route blog"):
        asyncio.run(routes.remove(fleet, "blog", how()))
    assert replace(asyncio.run(routes.list_routes(fleet))).data["routes"] == [
        {
            "name": "shop", "on": ["web1"], "hosts": ["shop.acme.app"], "to": 3000, "https": False,
            "maintenance": False,
        }
    ]  # fmt: skip


def test_all_is_as_it_should_be_then(fleet: Fleet) -> None:
    apply(fleet)
    setup(fleet)
    add(fleet, how())
    fleet.made()
    asked = Asked()
    assert apply(fleet, asked).error is None
    assert (fleet.made(), asked.shown) == ([], [])


@pytest.mark.parametrize(
    ("base", "hints"),
    [
        ('base_domain = "acme.app"\n', ["sf dns setup acme.app"]),
        ("", ['base_domain = "ZONE" at the top of fleet.toml: servers get names below it', "sf dns setup ZONE"]),
    ],
)
def test_certificates_need_a_zone_before_a_token(fleet: Fleet, base: str, hints: list[str]) -> None:
    text = fleet.text.partition("[dns.providers")[0].replace('base_domain = "acme.app"\n', base)
    fleet.folder.fleet_toml.write_text(text)
    fleet.refresh()
    with pytest.raises(UsageError) as refused:
        setup(fleet)
    assert refused.value.hint.splitlines() == hints and "no zone yet" in refused.value.message


def written(fleet: Fleet, zone: str, more: str = "") -> None:
    """With these records in the zone, and this at the end of the file."""
    fleet.folder.fleet_toml.write_text(f"{fleet.text}records = [{zone}]\n{more}")
    fleet.refresh()


def record(name: str, kind: str, value: str) -> str:
    return f'{{ name = "{name}", type = "{kind}", values = ["{value}"] }}'


@pytest.mark.parametrize(
    ("records", "remark"),
    [
        ([("shop", "A", "192.0.2.10")], "shop.acme.app. A leads to 192.0.2.10, not to web1"),
        ([("shop", "A", "203.0.113.7")], None),
        (
            [("shop", "AAAA", "2001:db8::7")],
            "shop.acme.app. AAAA leads to 2001:db8::7, and fleet.toml does not say whether that is web1",
        ),
        ([("shop", "CNAME", "any.web1.acme.app.")], None),
        (
            [("shop", "CNAME", "a.b.db1.acme.app.")],
            "shop.acme.app. A leads to 198.51.100.4 by way of a.b.db1.acme.app., not to web1",
        ),
        (
            [("shop", "CNAME", "www"), ("www", "CNAME", "old"), ("old", "A", "192.0.2.10")],
            "shop.acme.app. A leads to 192.0.2.10 by way of old.acme.app., not to web1",
        ),
        (
            [("shop", "CNAME", "shop.example.net.")],
            "shop.acme.app. CNAME leads to shop.example.net., and fleet.toml does not say whether that is web1",
        ),
        (
            [("shop", "CNAME", "www"), ("www", "CNAME", "shop")],
            "shop.acme.app. CNAME leads to shop.acme.app., and fleet.toml does not say whether that is web1",
        ),
    ],
)
def test_a_name_that_leads_elsewhere_is_told_before_the_question(
    fleet: Fleet, records: list[tuple[str, str, str]], remark: str | None
) -> None:
    written(fleet, ", ".join(record(*each) for each in records))
    asked = Asked()
    planned = add(fleet, how(plan=True))
    done = add(fleet, how(asked))
    for shown in planned, *asked.shown, done:
        assert [note for note in shown.notes if " leads to " in note] == ([remark] if remark else [])
    assert len(asked.shown) == 1


def test_an_address_of_another_server_is_known_not_to_be_ours(fleet: Fleet) -> None:
    both = '"198.51.100.4"\naddresses = ["198.51.100.4", "2001:db8::4"]'
    fleet.folder.fleet_toml.write_text(fleet.text.replace('"198.51.100.4"', both))
    written(fleet, record("shop", "CNAME", "db1"))
    assert [note for note in add(fleet, how(plan=True)).notes if " leads to " in note] == [
        f"shop.acme.app. {kind} leads to {address} by way of db1.acme.app., not to web1"
        for kind, address in (("A", "198.51.100.4"), ("AAAA", "2001:db8::4"))
    ]


def test_a_name_that_leads_to_one_of_the_servers_is_told_of_the_other_addresses_alone(fleet: Fleet) -> None:
    written(fleet, '{ name = "shop", type = "A", values = ["203.0.113.7", "192.0.2.10"] }')
    told = add(fleet, how(plan=True), on="web1,db1").notes
    assert "shop.acme.app. A leads to 192.0.2.10, not to web1, db1" in told


def refused(fleet: Fleet, work: Callable[[How], Any]) -> UsageError:
    """Before anything is asked, planned or written."""
    before, asked = fleet.text, Asked()
    with pytest.raises(UsageError) as raised:
        asyncio.run(work(how(asked)))
    assert (fleet.text, fleet.made(), asked.shown, raised.value.exit_code) == (before, [], [], 2)
    return raised.value


def no_password() -> str:
    raise AssertionError("it was asked for")


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("shop", {"on": "web9"}, "--on: no server is called web9 (did you mean web1?)"),
        ("shop", {"on": "x"}, "--on: no server is called x (there are web1, db1)"),
        ("shop", {"host": "a b", "auth_user": "ana"}, "--host: 'a b' is not a host name"),
        ("shop", {"aliases": ["a b"]}, "--host: 'a b' is not a host name"),
        ("shop", {"to": {"app": "nothing"}}, "--to: no apps.nothing in this file"),
        ("shop", {"paths": {"/a": {"app": "nothing"}}}, "--path: no apps.nothing in this file"),
        ("shop", {"body_size": "much"}, "--body-size: "),
        ("shop", {"auth_user": "a b"}, "--auth-user: "),
        ("Shop!", {}, "'Shop!' is not "),
    ],
)
def test_what_cannot_be_in_a_route_is_told_by_its_option(
    fleet: Fleet, name: str, values: dict[str, Any], said: str
) -> None:
    error = refused(fleet, lambda how: routes.write(fleet, name, {**SHOP, **values}, no_password, True, how))
    assert error.message.startswith(said) and "fleet.toml" not in error.message


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"on": "web9", "token": True}, "--on: no server is called web9"),
        ({"email": "ana"}, "--email: 'ana' is not "),
        ({"directory": "nobody"}, "--directory: 'nobody' is not letsencrypt, letsencrypt-staging or an https URL"),
    ],
)
def test_what_cannot_be_in_acme_is_told_by_its_option(fleet: Fleet, values: dict[str, Any], said: str) -> None:
    def secrets() -> dict[str, str]:
        return {"token": no_password()}

    error = refused(fleet, lambda how: certificates.setup(fleet, values, secrets, how))
    assert error.message.startswith(said) and "fleet.toml" not in error.message


def test_what_cannot_be_in_a_certificate_is_told_by_its_option(fleet: Fleet) -> None:
    setup(fleet)
    fleet.made()
    error = refused(fleet, lambda how: certificates.add(fleet, "mail", "web9", ["a b"], how))
    assert "--on: no server is called web9 (did you mean web1?)" in error.message.splitlines()
    assert any(line.startswith("HOST: 'a b' is not") for line in error.message.splitlines())


def test_a_route_in_a_fleet_without_servers_needs_one_first(fleet: Fleet) -> None:
    fleet.folder.fleet_toml.write_text(fleet.text.partition("[servers.web1]")[0])
    fleet.refresh()
    error = refused(fleet, lambda how: routes.write(fleet, "shop", SHOP, None, True, how))
    assert (error.message, error.hint) == ("--on: no server is called web1", "first: sf server add")


def test_where_the_server_is_not_what_is_wrong_nobody_is_sent_for_one(fleet: Fleet) -> None:
    fleet.folder.fleet_toml.write_text(fleet.text.partition("[servers.web1]")[0])
    fleet.refresh()
    error = refused(fleet, lambda how: certificates.setup(fleet, {"email": "ana"}, dict, how))
    assert error.message.startswith("--email: 'ana' is not ") and not error.hint


def test_a_fleet_without_pages(fleet: Fleet) -> None:
    fleet.folder.fleet_toml.write_text(fleet.text.replace("[servers.web1]\n", '[servers.web1]\nroles = ["app"]\n'))
    fleet.refresh()
    apply(fleet)
    setup(fleet)
    assert "web1 route.set server" in fleet.made()
    done = asyncio.run(certificates.setup(fleet, {"welcome": False}, dict, how()))
    assert done.error is None and "welcome = false" in fleet.text
    assert "web1 route.remove server" in fleet.made() and fleet.there.named == {}
    asyncio.run(certificates.setup(fleet, {"welcome": True}, dict, how()))
    assert "web1 route.set server" in fleet.made()


@pytest.mark.parametrize(("served", "is_asked"), [(True, False), (None, False), (False, True)])
def test_a_certificate_that_no_endpoint_has_to_show_is_not_asked_for_again(
    fleet: Fleet, served: bool | None, is_asked: bool
) -> None:
    apply(fleet)
    setup(fleet)
    add(fleet, how())
    fleet.made()
    fleet.there.served = served
    asyncio.run(routes.write(fleet, "shop", {"maintenance": True}, None, False, how()))
    assert ("web1 cert.issue shop" in fleet.made()) == is_asked
