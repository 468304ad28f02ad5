"""`sf dns move`: what is copied and what is left alone, what the registrar has to be told, and who has switched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dns.dnssec
import dns.rdata
import pytest

from serverflow_actions.kit.rrset import RRset, rrset
from serverflow_cli.config.environment import Settings
from serverflow_cli.config.folder import FleetFolder
from serverflow_cli.errors import ConfigError, SfError, UsageError
from serverflow_cli.flows import zones
from serverflow_cli.flows.config import How
from serverflow_cli.flows.dns_move import move
from serverflow_cli.flows.dns_providers import Providers
from serverflow_cli.flows.init import init
from serverflow_cli.flows.workspace import Workspace
from serverflow_cli.model.result import CommandResult
from serverflow_cli.model.zone import Change, Served, ZoneState
from serverflow_cli.plan.zone_diff import TooMuch
from serverflow_cli.providers.errors import no_zone
from serverflow_cli.transport import delegation, dnssec, nameservers
from serverflow_cli.transport.delegation import Delegation
from serverflow_cli.transport.nameservers import Disagreement, Server

ZONE = "acme.app."
FLEET = """
[dns.providers.there]
provider = "cloudflare"
token = { secret = "there_token" }

[dns.providers.here]
provider = "cloudflare"
token = { secret = "here_token" }

[dns.zones."acme.app"]
provider = "there"
"""
OLD, NEW = (
    f"257 3 13 {start}sswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ=="
    for start in ("ab", "md")
)


def ds(key: str, digest: str = "SHA256") -> str:
    policy = dns.dnssec.allow_all_policy
    return dns.dnssec.make_ds(ZONE, dns.rdata.from_text("IN", "DNSKEY", key), digest, policy=policy).to_text()


OLD_DS, NEW_DS = ds(OLD), ds(NEW)
#: Of the right key, as its tag and algorithm say, and wrong all the same.
DAMAGED = NEW_DS[:-1] + ("0" if NEW_DS[-1] != "0" else "1")


def served(name: str, kind: str, *values: str, owner: str = "") -> Served:
    return Served(rrset(name, kind, 300, values, ZONE), owner)


@dataclass
class Provider:
    """In memory, with one name server that answers with what it has, but for what is `late`."""

    name: str
    state: ZoneState | None
    late: set[str] = field(default_factory=set)
    applied: list[Sequence[Change]] = field(default_factory=list)

    @property
    def nameserver(self) -> str:
        return f"ns.{self.name}."

    async def zones(self) -> list[str]:
        return [ZONE] if self.state else []

    async def add(self, zone: str) -> None:
        self.state = ZoneState(zone, (served("@", "NS", self.nameserver),), "1", (self.nameserver,))

    async def fetch(self, zone: str) -> ZoneState:
        if self.state is None:
            raise no_zone(self.name, zone)
        return self.state

    async def apply(self, _zone: str, changes: Sequence[Change], _revision: str) -> None:
        assert self.state
        gone = {each.before for each in changes if each.before}
        rrsets = [each for each in self.state.rrsets if each not in gone]
        self.put(*rrsets, *(each.after for each in changes if each.after))
        self.applied.append(changes)

    async def addresses(self, _zone: str) -> list[Server]:
        return [(self.nameserver, self.name, 53)]

    def put(self, *rrsets: Served) -> None:
        assert self.state
        self.state = self.state._replace(rrsets=rrsets)

    def has(self) -> dict[str, tuple[str, ...]]:
        assert self.state
        return {f"{each.rrset.name} {each.rrset.type}": each.rrset.values for each in self.state.rrsets}


@dataclass
class World:
    """The two sides, the parent's servers, and a real folder."""

    workspace: Workspace
    old: Provider
    new: Provider
    parent: list[Delegation] = field(default_factory=list)
    own: list[str] = field(default_factory=list)  # keys of the new side
    asked: list[CommandResult] = field(default_factory=list)

    def move(self, *, switched: bool = False, force: bool = False, plan: bool = False) -> CommandResult:
        def approve(planned: CommandResult) -> bool:
            self.asked.append(planned)
            return True

        how = How(plan=plan, approve=approve, timeout_s=None, lock_wait_s=0, report=lambda _: None)
        return asyncio.run(move(self.workspace, "ACME.app.", "here", switched, how, force=force))

    def switch(self, *names: str, ds: Sequence[str] = ()) -> None:
        """The parent's two servers name these, the first of them at once."""
        self.parent = [
            Delegation((f"{number}.parent.", f"192.0.2.{number}", 53), frozenset([name]), frozenset(ds), 3600)
            for number, name in enumerate(names, 1)
        ]

    @property
    def provider(self) -> str:
        return self.workspace.fleet.dns.zones["acme.app"].provider


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = FleetFolder(tmp_path / "fleet")
    asyncio.run(init(str(folder.path), key=None, name="ana", settings=Settings(), ask=None))
    folder.fleet_toml.write_text(folder.fleet_toml.read_text() + FLEET)
    workspace = Workspace(folder, Settings())
    sides = {name: Provider(name, None) for name in ("there", "here")}
    world = World(workspace, sides["there"], sides["here"])
    asyncio.run(world.old.add(ZONE))
    assert world.old.state
    mine = served("shop", "A", "203.0.113.7", owner=zones.mark(workspace))
    world.old.put(*world.old.state.rrsets, served("www", "A", "192.0.2.1"), mine)
    monkeypatch.setattr(Providers, "_made", lambda _self, name: sides[name])

    async def all_disagreeing(
        servers: Sequence[Server], wanted: Sequence[RRset], _s: float
    ) -> list[list[Disagreement]]:
        ((_, side, _),) = servers
        has, late = sides[side].has(), sides[side].late
        return [
            []
            if each.name not in late and has.get(f"{each.name} {each.type}", ()) == each.values
            else [Disagreement(f"ns.{side}.", side, 53, "udp", "it has nothing there")]
            for each in wanted
        ]

    async def delegations(_zone: str) -> list[Delegation]:
        return world.parent

    async def keys_of(servers: Sequence[Server], _zone: str) -> dict[Server, tuple[str, ...] | None]:
        assert servers[0][1] == "here"
        return {server: tuple(world.own) for server in servers}

    monkeypatch.setattr(nameservers, "all_disagreeing", all_disagreeing)
    monkeypatch.setattr(delegation, "delegations", delegations)
    monkeypatch.setattr(dnssec, "keys_of", keys_of)
    return world


def refused(run: Callable[[], CommandResult], code: str) -> SfError:
    with pytest.raises(SfError) as refusal:
        run()
    assert refusal.value.code == code
    return refusal.value


def test_it_is_copied_with_its_marks_and_the_registrar_is_told(world: World) -> None:
    world.switch("ns.there.", "ns.there.")
    done = world.move()
    assert world.new.state and world.provider == "there"
    assert world.new.has() == {**world.old.has(), "acme.app. NS": ("ns.here.",)}
    owners = {each.rrset.name: each.owner for each in world.new.state.rrsets}
    assert owners["www.acme.app."] == "" and owners["shop.acme.app."] == zones.mark(world.workspace)
    assert "at your registrar, 1. set the name servers to ns.here., instead of ns.there." in done.notes
    assert done.notes[-1] == "when that is done: sf dns move acme.app --to here --switched"


def test_once_more_changes_nothing_and_compares_again(world: World) -> None:
    world.move()
    done = world.move()
    assert done.servers[0].outcome == "unchanged" and len(world.asked) == len(world.new.applied) == 1
    world.new.late.add("www.acme.app.")
    assert "the new side" in refused(world.move, "not-served").message


def test_what_others_have_at_the_new_side_is_left_there_and_told(world: World) -> None:
    asyncio.run(world.new.add(ZONE))
    assert world.new.state
    world.new.put(*world.new.state.rrsets, *(served(f"n{number}", "A", "192.0.2.9") for number in range(40)))
    done = world.move()
    assert len(world.new.has()) == 43
    assert any(note.startswith("only at the new side, and left there: n0.acme.app. A") for note in done.notes)


def test_too_much_of_the_new_side_is_not_overwritten(world: World) -> None:
    names = [f"n{number}" for number in range(10)]
    world.old.put(*(served(name, "A", "192.0.2.1") for name in names))
    asyncio.run(world.new.add(ZONE))
    world.new.put(*(served(name, "A", "192.0.2.9") for name in names))
    with pytest.raises(TooMuch, match="updates 10"):
        world.move()
    assert not world.new.applied
    world.move(force=True)
    assert world.new.has() == world.old.has()


def test_ds_go_first_and_come_last(world: World) -> None:
    world.switch("ns.there.", ds=[OLD_DS])
    world.own = [NEW]
    told = [note for note in world.move().notes if "registrar" in note]
    assert told == [
        f"at your registrar, 1. take out the DS {OLD_DS}, and wait 3600 seconds, until nobody remembers them",
        "at your registrar, 2. set the name servers to ns.here., instead of ns.there.",
        f"at your registrar, 3. hand in the DS {NEW_DS}, once the old NS have run out (two days)",
    ]


def test_where_the_parent_cannot_be_asked_ds_are_a_question(world: World) -> None:
    told = [note for note in world.move().notes if "registrar" in note]
    assert "if there are any" in told[0] and told[1] == "at your registrar, 2. set the name servers to ns.here."


def test_switched_only_when_every_server_of_the_parent_says_so(world: World) -> None:
    world.move()
    world.switch("ns.here.", "ns.there.")
    error = refused(lambda: world.move(switched=True), "not-switched")
    assert "2.parent. (192.0.2.2) still has ns.there." in error.message and "1.parent." not in error.message
    assert world.provider == "there" and isinstance(error, ConfigError)
    world.switch("ns.here.", "ns.here.")
    done = world.move(switched=True)
    assert world.provider == "here" and len(world.new.applied) == 1
    assert done.servers[0].outcome == "done" and "there still has acme.app" in done.notes[-1]


def test_what_was_proxied_is_not_any_more(world: World) -> None:
    folder = world.workspace.folder
    record = 'records = [{ name = "www", type = "A", values = ["192.0.2.1"], proxied = true }]'
    head = '[dns.zones."acme.app"]\nprovider = "there"\n'
    at_home = 'provider = "powerdns"\non = "db1"\nnameservers = { "ns.here" = "db1" }'
    text = folder.fleet_toml.read_text().replace('provider = "cloudflare"\ntoken = { secret = "here_token" }', at_home)
    db1 = '\n[servers.db1]\nhost = "198.51.100.4"\n'
    folder.fleet_toml.write_text(text.replace(head, f"{head}{record}\n") + db1)
    world.workspace.refresh()
    world.move()
    world.switch("ns.here.", "ns.here.")
    world.move(switched=True)
    (www,) = world.workspace.fleet.dns.zones["acme.app"].records
    assert not www.proxied


def test_nobody_to_ask_is_no_yes(world: World) -> None:
    world.move()
    refused(lambda: world.move(switched=True), "not-switched")
    world.parent = [Delegation(("1.parent.", "192.0.2.1", 53), problem="no answer")]
    assert "1.parent. (192.0.2.1): no answer" in refused(lambda: world.move(switched=True), "not-switched").message
    world.move(switched=True, force=True)
    assert world.provider == "here"


def test_switched_copies_nothing(world: World) -> None:
    """What was changed at the new side since then stays; what only the old one has is told, and refused."""
    world.move()
    world.switch("ns.here.")
    assert world.new.state
    changed = [served("www", "A", "192.0.2.2") if "www" in e.rrset.name else e for e in world.new.state.rrsets]
    world.new.put(*changed, served("new", "A", "192.0.2.3"))
    error = refused(lambda: world.move(switched=True), "differs")
    assert "www.acme.app. A 192.0.2.1" in error.message and "new.acme" not in error.message
    assert world.provider == "there"
    done = world.move(switched=True, force=True)
    assert "only at there: www.acme.app. A 192.0.2.1" in done.notes and world.provider == "here"
    assert len(world.new.applied) == 1 and world.new.has()["www.acme.app. A"] == ("192.0.2.2",)


def test_switched_first_is_too_early(world: World) -> None:
    world.switch("ns.here.")
    with pytest.raises(UsageError, match="has no zone"):
        world.move(switched=True)
    assert world.new.state is None and world.provider == "there"


def test_a_zone_that_is_gone_at_the_old_side_is_followed(world: World) -> None:
    world.move()
    world.switch("ns.here.")
    world.old.state = None
    world.move(switched=True)
    assert world.provider == "here"


def told(done: CommandResult) -> list[str]:
    return [note for note in done.notes if "DS" in note]


@pytest.mark.parametrize("wrong", [OLD_DS, DAMAGED], ids=["of another key", "damaged"])
def test_a_ds_that_fits_no_key_is_told(world: World, wrong: str) -> None:
    world.move()
    world.switch("ns.here.", ds=[wrong])
    world.own = [NEW]
    notes = told(world.move(switched=True, plan=True))
    assert notes[0].startswith("the parent's DS fits no key") and wrong in notes[0] and NEW_DS in notes[0]
    assert world.provider == "there"


def test_a_damaged_ds_goes_before_the_switch(world: World) -> None:
    world.switch("ns.there.", ds=[DAMAGED])
    world.own = [NEW]
    first = next(note for note in world.move().notes if "registrar" in note)
    assert first.startswith(f"at your registrar, 1. take out the DS {DAMAGED}, and wait 3600 seconds")


def test_a_ds_by_another_digest_fits(world: World) -> None:
    world.own = [NEW]
    world.switch("ns.there.", ds=[ds(NEW, "SHA384")])
    assert told(world.move()) == []
    world.switch("ns.here.", ds=[ds(NEW, "SHA384")])
    assert told(world.move(switched=True)) == []


def test_one_of_the_old_side_stays_until_the_switch_where_the_new_ones_is_there(world: World) -> None:
    """RFC 6781, section 4.3.5: with both of them each side is trusted; without the old one its answers are bogus."""
    world.own = [NEW]
    world.switch("ns.there.", ds=[OLD_DS, NEW_DS])
    assert told(world.move()) == []
    world.switch("ns.here.", ds=[OLD_DS, NEW_DS])
    assert told(world.move(switched=True)) == [f"the parent has another DS that fits no key: {OLD_DS}"]


def test_a_ds_of_a_zone_that_is_not_signed_there_goes_first(world: World) -> None:
    world.switch("ns.there.", ds=[OLD_DS])
    notes = told(world.move())
    assert len(notes) == 1 and "1. take out the DS" in notes[0]
    world.switch("ns.here.", ds=[OLD_DS])
    (note,) = told(world.move(switched=True))
    assert note.startswith("the parent's DS fits no key") and "the zone is not signed" in note


def test_a_ds_that_is_missing_is_handed_in(world: World) -> None:
    world.move()
    world.switch("ns.here.")
    world.own = [NEW]
    assert told(world.move(switched=True)) == [
        f"at your registrar, hand in the DS {NEW_DS}, once the old NS have run out (two days)"
    ]
