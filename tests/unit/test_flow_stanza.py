"""What becomes of fleet.toml with a change that servers refuse, undo or leave open, and of what others edit there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from serverflow_actions.kit.change import Change
from serverflow_cli.config.environment import Settings
from serverflow_cli.config.folder import FleetFolder
from serverflow_cli.errors import (
    ActionFailed,
    InternalError,
    Locked,
    OutcomeUnknown,
    PlanChanged,
    RolledBack,
    SfError,
    Unreachable,
)
from serverflow_cli.flows import config, firewall
from serverflow_cli.flows.actions import run_action
from serverflow_cli.flows.apply import apply
from serverflow_cli.flows.sealing import put_away
from serverflow_cli.flows.workspace import Workspace
from serverflow_cli.model.result import CommandResult, Reply, Report, Request, ServerResult
from serverflow_cli.rpc.call import Caller
from serverflow_cli.rpc.fanout import on_all
from serverflow_cli.rpc.hello import Link

FLEET = """schema = 1
[servers.web1]
host = "10.0.0.1"
[servers.web2]
host = "10.0.0.2"
"""
CACHE = '[redis.cache]\non = "all"\n'
OTHER = "01JD0000000000000000000009"


def noop() -> None:
    pass


@dataclass
class Servers:
    """Both of them. `answers` is what a change of a resource comes to, by server and resource; else it is made."""

    answers: dict[tuple[str, str], SfError] = field(default_factory=dict)
    #: Servers on which another safe change waits.
    waiting: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)
    #: What comes with what was done.
    data: dict[str, Any] = field(default_factory=dict)
    #: What happens before a change is asked for, and while it is made.
    before_sending: Callable[[], object] = noop
    meanwhile: Callable[[], object] = noop

    async def _pause(self, happening: Callable[[], object]) -> None:
        happening()
        await asyncio.sleep(0)

    @asynccontextmanager
    async def hold(self, _link: Link) -> AsyncIterator[None]:
        yield

    async def hang_up(self, _link: Link) -> None:
        pass

    async def wait_for_turn(self, link: Link, _wait_s: float, _report: Report) -> None:
        if link.name in self.waiting:
            raise Locked(f"a safe change waits for confirmation: {OTHER}", code="pending-change")

    async def greet(self, _link: Link) -> Any:
        return SimpleNamespace(pending="")

    async def call(self, link: Link, request: Request, op_id: str, _version: int, report: Report) -> Reply:
        key = str((request.base or {}).get("resource", request.action))
        made = Change("create", "thing", key)
        if request.mode == "plan":
            return Reply(op_id, "done", (made,), plan_sha256="0" * 64)
        if request.read_only:
            return Reply(op_id, "done")
        await self._pause(self.before_sending)
        self.asked.append((link.name, key))
        error = self.answers.get((link.name, key))
        if not isinstance(error, Unreachable):
            report({"t": "op", "server": link.name, "op": op_id, "mode": request.mode})
        await self._pause(self.meanwhile)
        if error:
            raise error
        return Reply(op_id, "done", (made,), self.data)


class Fleet(Workspace):
    """A real folder whose servers are those."""

    def __init__(self, path: Path, servers: Servers) -> None:
        super().__init__(FleetFolder(path), Settings())
        self._servers = servers

    @property
    def text(self) -> str:
        return self.folder.fleet_toml.read_text()

    def write(self, text: str) -> None:
        self.folder.fleet_toml.write_text(text)

    @asynccontextmanager
    async def caller(self, signer: Any = None) -> AsyncIterator[Caller]:
        yield cast("Caller", self._servers)

    async def on_all(
        self, names: Collection[str], work: Callable[[Link], Awaitable[Reply]], report: Report
    ) -> tuple[ServerResult, ...]:
        return await on_all([cast("Link", SimpleNamespace(name=name)) for name in names], work, report)


@pytest.fixture
def servers() -> Servers:
    return Servers()


@pytest.fixture
def fleet(tmp_path: Path, servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust/1.json").write_text(f'{{"fleet": "{"0" * 32}"}}')
    (tmp_path / "fleet.toml").write_text(FLEET)
    yield Fleet(tmp_path, servers)


def run(
    fleet: Fleet, action: str, params: dict[str, Any], approve: Callable[[CommandResult], bool] = lambda _: True
) -> CommandResult:
    how: dict[str, Any] = {"secrets": {}, "plan": False, "timeout_s": None, "lock_wait_s": 0}
    return asyncio.run(run_action(fleet, action, "all", params, approve=approve, report=lambda _: None, **how))


def create(fleet: Fleet, approve: Callable[[CommandResult], bool] = lambda _: True) -> CommandResult:
    return run(fleet, "redis.create", {"name": "cache"}, approve)


def waits() -> OutcomeUnknown:
    error = OutcomeUnknown("waits for confirmation", code="pending-confirm")
    error.reply = Reply("", "failed")
    return error


KEY = "redis.cache"


# --- the file with what servers did ----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RolledBack("gone back"), ActionFailed("broken"), Unreachable("no answer")])
def test_what_no_server_has_the_file_has_not_either(fleet: Fleet, servers: Servers, error: SfError) -> None:
    servers.answers = {("web1", KEY): error, ("web2", KEY): ActionFailed("broken")}
    assert create(fleet).notes == ("fleet.toml is as it was before, too",)
    assert fleet.text == FLEET


def test_what_one_server_has_stays_in_the_file(fleet: Fleet, servers: Servers) -> None:
    servers.answers = {("web2", KEY): ActionFailed("broken")}
    assert create(fleet).notes == ("fleet.toml keeps it; the next sf apply makes it again on web2",)
    assert "[redis.cache]" in fleet.text


def test_what_may_be_there_stays_in_the_file(fleet: Fleet, servers: Servers) -> None:
    servers.answers = {("web1", KEY): waits(), ("web2", KEY): ActionFailed("broken")}
    assert create(fleet).notes == (
        "fleet.toml keeps it; the next sf apply makes it again on web2",
        "fleet.toml has it already; if it goes back on web1, "
        "take it out there too, or the next sf apply makes it again",
    )
    assert "[redis.cache]" in fleet.text


@pytest.mark.parametrize("error", [waits(), OutcomeUnknown("lost"), InternalError(KeyError("x"))])
def test_what_nobody_can_say_stays_in_the_file(fleet: Fleet, servers: Servers, error: SfError) -> None:
    servers.answers = dict.fromkeys((("web1", KEY), ("web2", KEY)), error)
    (note,) = create(fleet).notes
    assert note.startswith("fleet.toml has it already; if it goes back on web1, web2, take it out there too")
    assert "[redis.cache]" in fleet.text


@pytest.mark.parametrize("sent", [True, False])
def test_ctrl_c_leaves_the_file_as_the_servers_are(fleet: Fleet, servers: Servers, sent: bool) -> None:
    """Once a server was asked, it goes on with it."""

    async def interrupted() -> None:
        def stop(*_: object) -> None:
            assert "[redis.cache]" in fleet.text
            assert task
            task.cancel()

        servers.meanwhile, servers.before_sending = (noop, stop)[sent], (stop, noop)[sent]
        how: dict[str, Any] = {"secrets": {}, "plan": False, "timeout_s": None, "lock_wait_s": 0}
        work = run_action(
            fleet, "redis.create", "all", {"name": "cache"}, approve=lambda _: True, report=events.append, **how
        )
        task = asyncio.create_task(work)
        with pytest.raises(asyncio.CancelledError):
            await task

    events: list[Any] = []
    asyncio.run(interrupted())
    (left,) = [event["text"] for event in events if event["t"] == "left"]
    if sent:
        assert left.startswith("fleet.toml has it already; if it goes back, take it out there too")
        assert "[redis.cache]" in fleet.text
    else:
        assert (left, fleet.text) == ("fleet.toml is as it was before, too", FLEET)


def test_what_is_there_in_part_stays_in_the_file(fleet: Fleet, servers: Servers) -> None:
    broken = ActionFailed("broken")
    broken.reply = Reply("", "failed", (Change("create", "user", "redis"),))
    servers.answers = {("web1", KEY): broken, ("web2", KEY): ActionFailed("broken")}
    assert "keeps it" in create(fleet).notes[0]


def test_what_was_in_the_file_already_stays_there(fleet: Fleet, servers: Servers) -> None:
    fleet.write(FLEET + CACHE)
    servers.answers = dict.fromkeys((("web1", KEY), ("web2", KEY)), ActionFailed("broken"))
    assert create(fleet).notes == ("fleet.toml keeps it; the next sf apply makes it again on web1, web2",)
    assert fleet.text == FLEET + CACHE


def test_while_other_changes_wait_nothing_is_written(fleet: Fleet, servers: Servers) -> None:
    servers.waiting = {"web1", "web2"}
    result = create(fleet)
    assert (result.exit_code, result.notes, servers.asked, fleet.text) == (8, (), [], FLEET)


def test_a_server_on_which_another_change_waits_holds_up_no_other(fleet: Fleet, servers: Servers) -> None:
    servers.waiting = {"web1"}
    result = create(fleet)
    assert [server.outcome for server in result.servers] == ["pending-change", "done"]
    assert result.notes == ("fleet.toml keeps it; the next sf apply makes it again on web1",)
    assert servers.asked == [("web2", KEY)]


def test_a_file_that_cannot_be_taken_back_costs_no_result(fleet: Fleet, servers: Servers) -> None:
    servers.answers = dict.fromkeys((("web1", KEY), ("web2", KEY)), RolledBack("gone back"))
    servers.meanwhile = lambda: fleet.folder.fleet_toml.write_bytes(b"\xff")
    result = create(fleet)
    assert [server.error and server.error.exit_code for server in result.servers] == [12, 12]
    assert "could not be taken back (fleet.toml:1: byte 0xff is not UTF-8 text)" in result.notes[0]


def test_a_removal_that_waits_says_what_is_left_to_do(fleet: Fleet, servers: Servers) -> None:
    fleet.write(FLEET + CACHE)
    servers.answers = {("web1", KEY): waits(), ("web2", KEY): ActionFailed("broken")}
    assert run(fleet, "redis.remove", {"name": "cache"}).notes == (
        "redis.cache stays in fleet.toml until it is gone from web2 too",
        "once it is confirmed on web1, run this again: only then redis.cache leaves fleet.toml",
    )


@pytest.mark.parametrize(("stanzas", "notes"), [("", ()), (CACHE, ("fleet.toml is not changed by this",)), ("x", ())])
def test_whoever_undoes_by_hand_hears_of_the_file(fleet: Fleet, stanzas: str, notes: tuple[str, ...]) -> None:
    fleet.write(FLEET)
    assert fleet.servers
    fleet.write(FLEET + stanzas)
    assert run(fleet, "safe.rollback", {"op": OTHER}).notes == notes


def test_what_could_not_be_put_back_by_hand_is_a_failure(fleet: Fleet, servers: Servers) -> None:
    fleet.write(FLEET + CACHE)
    servers.data = {"op": OTHER, "problems": ["/etc/a: no room", "/etc/b: busy"]}
    result = run(fleet, "safe.rollback", {"op": OTHER})
    assert (result.exit_code, result.notes) == (6, ("fleet.toml is not changed by this",))
    web1 = result.servers[0]
    assert web1.error and web1.error.message == "not all could be put back: /etc/a: no room; /etc/b: busy"
    assert web1.reply and web1.reply.data == servers.data


# --- several resources on one server ---------------------------------------------------------------------------------


def test_what_broke_and_what_was_not_tried_is_named(fleet: Fleet, servers: Servers) -> None:
    two, three = CACHE.replace("cache", "two"), CACHE.replace("cache", "three")
    fleet.write(FLEET + CACHE + two.replace("all", "web1") + "port = 6380\n" + three + "port = 6381\n")
    servers.answers = {("web1", "redis.two"): RolledBack("gone back"), ("web2", KEY): Unreachable("no answer")}
    done = asyncio.run(
        apply(fleet, selector="all", only=None, approve=lambda _: True, lock_wait_s=0, report=lambda _: None)
    )
    web1, web2 = done.servers
    assert web1.error and web1.error.message == "redis.two: gone back; not tried: redis.three"
    assert web1.reply and (web1.outcome, [change.name for change in web1.reply.changes]) == ("failed", [KEY])
    assert web1.reply.op_id
    # Never sent: no server knows that id.
    assert web2.error and web2.error.message == "redis.cache: no answer; not tried: redis.three"
    assert web2.reply and web2.reply.op_id == ""


def test_an_operation_that_was_sent_nowhere_has_no_id(fleet: Fleet, servers: Servers) -> None:
    action = "service.restart"
    servers.answers = dict.fromkeys((("web1", action), ("web2", action)), Unreachable("no answer"))
    assert run(fleet, action, {"unit": "nginx"}).op == ""
    servers.answers = {}
    assert run(fleet, action, {"unit": "nginx"}).op


# --- somebody else edits too -----------------------------------------------------------------------------------------


def test_what_somebody_else_wrote_in_the_meantime_is_kept(fleet: Fleet, servers: Servers) -> None:
    theirs = FLEET + CACHE.replace("all", "web1")

    def approve(_: CommandResult) -> bool:
        fleet.write(theirs)
        return True

    with pytest.raises(PlanChanged, match=r"redis\.cache has come into fleet\.toml meanwhile"):
        create(fleet, approve)
    assert (fleet.text, servers.asked) == (theirs, [])


def test_another_stanza_that_means_more_than_was_planned(fleet: Fleet, servers: Servers) -> None:
    fleet.write(FLEET + '[firewall.all]\non = "all"\nallow = ["80/tcp"]\n')
    theirs = fleet.text + '[firewall.web]\non = "web1"\nallow = ["81/tcp"]\n'

    def approve(_: CommandResult) -> bool:
        fleet.write(theirs)
        return True

    with pytest.raises(PlanChanged, match="was changed since this was planned"):
        _allow(fleet, approve)
    assert (fleet.text, servers.asked) == (theirs, [])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("", '[firewall.all]\non = "web2"\n'), ('[firewall.all]\non = "all"\n', '[firewall.all]\non = "web1"\n')],
)
def test_a_firewall_stanza_that_is_another_by_now(fleet: Fleet, servers: Servers, ours: str, theirs: str) -> None:
    fleet.write(FLEET + ours)

    def approve(_: CommandResult) -> bool:
        fleet.write(FLEET + theirs)
        return True

    with pytest.raises(PlanChanged, match=r"firewall\.all (was changed|has come)"):
        _allow(fleet, approve)
    assert (fleet.text, servers.asked) == (FLEET + theirs, [])


def _allow(fleet: Fleet, approve: Callable[[CommandResult], bool]) -> CommandResult:
    how: dict[str, Any] = {"plan": False, "timeout_s": None, "lock_wait_s": 0, "report": lambda _: None}
    return asyncio.run(firewall.change_rules(fleet, "allow", "all", ["443/tcp"], approve=approve, **how))


SSHD = '[config.sshd]\non = "all"\nkind = "sshd"\ncontent = "Port 22\\n"\n'


@pytest.mark.parametrize("while_editing", [True, False])
def test_an_editor_overwrites_nothing(fleet: Fleet, servers: Servers, while_editing: bool) -> None:
    fleet.write(FLEET + SSHD)
    theirs = FLEET + SSHD.replace("22", "22\\nLogLevel INFO")

    def revise(text: str, _problem: str) -> str:
        assert text == "Port 22\n"
        if while_editing:
            fleet.write(theirs)
        return "Port 22\nMaxAuthTries 3\n"

    def approve(_: CommandResult) -> bool:
        fleet.write(theirs)
        return True

    how = config.How(plan=False, approve=approve, timeout_s=None, lock_wait_s=0, report=lambda _: None)
    with pytest.raises(PlanChanged) as caught:
        asyncio.run(config.edit(fleet, "sshd", "all", revise, how))
    assert (caught.value.exit_code, fleet.text, servers.asked) == (9, theirs, [])


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_what_waits_is_not_sealed(fleet: Fleet) -> None:
    made = {"redis.cache password": "x"}
    result = CommandResult("acme", servers=(ServerResult("web1", Reply("", "pending-confirm", secrets=made), waits()),))
    kept = put_away(fleet, result)
    assert kept.servers[0].reply and kept.servers[0].reply.secrets == made
    assert kept.notes == ("not sealed, since it waits for confirmation on web1: sf secret set, once it counts",)
    assert not (fleet.folder.path / "secrets.toml").exists()
