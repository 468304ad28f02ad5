"""`sf plan` and `sf apply`: what can be planned only after the rest, what the key may not, and what is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from serverflow_actions.kit.change import Change
from serverflow_cli.config.environment import Settings
from serverflow_cli.config.folder import FleetFolder
from serverflow_cli.errors import ActionFailed, SfError, TrustError, Unreachable
from serverflow_cli.flows import cron, notify
from serverflow_cli.flows.apply import apply, apply_resources, desired, plan
from serverflow_cli.flows.config import How
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
SHOP = '[apps.shop]\non = "web1"\n'
REPORT = '[cron.report]\non = "web1"\nschedule = "@daily"\napp = "shop"\ncommand = ["x"]\n'
OTHER = REPORT.replace("report", "other")
NIGHTLY = '[cron.nightly]\non = "web1"\nschedule = "@daily"\naction = "service.restart"\nparams = { unit = "nginx" }\n'
CHANNEL = '[notify.channels.ops]\nprovider = "smtp"\nhost = "mx"\nsender = "a@b"\nto = ["c@d"]\n'
ROUTE = '[[notify.routes]]\nto = ["ops"]\non = "web1"\n'


@dataclass
class Servers:
    """Both. Jobs of an app can be planned where the app is; what is done and asked is kept."""

    applied: dict[str, set[str]] = field(default_factory=lambda: {"web1": set(), "web2": set()})
    made: list[tuple[str, str]] = field(default_factory=list)
    #: What a resource is answered with, by mode and key.
    broken: dict[tuple[str, str], SfError] = field(default_factory=dict)
    #: What an action warns of, by resource.
    warnings: dict[str, Any] = field(default_factory=dict)
    #: Servers that are away.
    away: set[str] = field(default_factory=set)
    #: Each time that one of them was asked.
    in_vain: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def hold(self, _link: Link) -> AsyncIterator[None]:
        yield

    async def call(self, link: Link, request: Request, op_id: str, _version: int, _report: Report) -> Reply:
        if link.name in self.away:
            self.in_vain.append(link.name)
            raise Unreachable("no answer")
        there = self.applied[link.name]
        if request.action == "applied.list":
            return Reply(op_id, "done", data={"applied": {key: {} for key in there}})
        key = str((request.base or {})["resource"])
        if error := self.broken.get((request.mode, key)):
            raise error
        if request.action == "cron.command" and f"app.{request.params['app']}" not in there:
            raise ActionFailed(f"there is no app {request.params['app']}")
        if request.action.endswith(".remove"):
            if request.mode == "run":
                there.discard(key)
            return Reply(op_id, "done", (Change("delete", "thing", key),), plan_sha256="0" * 64)
        made = () if key in there else (Change("create", "thing", key),)
        if request.mode == "run":
            self.made.append((link.name, key))
            there.add(key)
        data = {"warnings": self.warnings[key]} if key in self.warnings else {}
        return Reply(op_id, "done" if made else "unchanged", made, data, plan_sha256="0" * 64)


class Fleet(Workspace):
    """A real folder whose servers are those."""

    def __init__(self, path: Path, there: Servers) -> None:
        super().__init__(FleetFolder(path), Settings())
        self.there = there

    def having(self, text: str) -> Fleet:
        self.folder.fleet_toml.write_text(FLEET + text)
        self.refresh()
        return self

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


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust/1.json").write_text(f'{{"fleet": "{"0" * 32}"}}')
    return Fleet(tmp_path, Servers())


def quiet(_event: Mapping[str, Any]) -> None:
    pass


def applied(
    fleet: Fleet, approve: Callable[[CommandResult], bool] = lambda _: True, only: str | None = None
) -> CommandResult:
    return asyncio.run(apply(fleet, selector="all", only=only, approve=approve, lock_wait_s=0, report=quiet))


def planned(fleet: Fleet, only: str | None = None) -> CommandResult:
    return asyncio.run(plan(fleet, selector="all", only=only, report=quiet))


def names(server: ServerResult) -> list[str]:
    return [change.name for change in server.reply.changes] if server.reply else []


# --- warnings --------------------------------------------------------------------------------------------------------


def notes(result: CommandResult) -> list[str]:
    return [note for server in result.servers if server.reply for note in server.reply.notes]


@pytest.mark.parametrize("text", [SHOP, SHOP + NIGHTLY])
def test_what_an_action_warns_of_is_noted(fleet: Fleet, text: str) -> None:
    """Of one resource, whose data is kept, and of several."""
    fleet.having(text)
    fleet.there.warnings = {"app.shop": ["visitors will get 403", 7], "cron.nightly": "no list"}
    told = ["app.shop: visitors will get 403"]
    assert notes(planned(fleet)) == told
    assert notes(applied(fleet)) == told


@pytest.mark.parametrize("text", [SHOP, SHOP + NIGHTLY])
def test_what_only_a_plan_sees_is_noted_of_the_change_too(fleet: Fleet, text: str) -> None:
    """A run has a network of its own: nobody listens there, or everybody may."""
    last = "cron.nightly" if text != SHOP else "app.shop"
    fleet.having(text).there.warnings = {last: ["nobody listens"]}
    call = fleet.there.call

    async def blind(link: Link, request: Request, op_id: str, _version: int, _report: Report) -> Reply:
        reply = await call(link, request, op_id, _version, _report)
        return replace(reply, data={}) if request.mode == "run" else reply

    fleet.there.call = blind  # type: ignore[method-assign]
    assert notes(applied(fleet)) == [f"{last}: nobody listens"]


def test_a_warning_before_a_failure_is_noted(fleet: Fleet) -> None:
    fleet.having(SHOP + NIGHTLY)
    fleet.there.warnings = {"app.shop": ["visitors will get 403"]}
    fleet.there.broken["run", "cron.nightly"] = ActionFailed("no")
    (server,) = applied(fleet).servers
    reply = server.error and server.error.reply
    assert isinstance(reply, Reply) and reply.notes == ("app.shop: visitors will get 403",)


def test_short_commands_note_it_too(fleet: Fleet) -> None:
    fleet.having(SHOP)
    fleet.there.warnings = {"app.shop": ["visitors will get 403"]}
    made = apply_resources(
        fleet, desired(fleet, "all", None), approve=lambda _: True, plan_only=False, lock_wait_s=0, report=quiet
    )
    assert notes(asyncio.run(made)) == ["app.shop: visitors will get 403"]


# --- rounds ----------------------------------------------------------------------------------------------------------


def test_an_app_and_its_jobs_are_made_at_once(fleet: Fleet) -> None:
    fleet.having(SHOP + REPORT + NIGHTLY + OTHER)
    ((told,),) = (server.reply.notes for server in planned(fleet).servers if server.reply)
    assert told.startswith("after that, and not planned before: cron.report, cron.other (")
    asked: list[CommandResult] = []

    def approve(preview: CommandResult) -> bool:
        asked.append(preview)
        return True

    done = applied(fleet, approve)
    (web1,) = done.servers
    assert (done.exit_code, web1.outcome) == (0, "done")
    # What waits stops nothing that comes after it.
    keys = ["app.shop", "cron.nightly", "cron.report", "cron.other"]
    assert [key for _, key in fleet.there.made] == names(web1) == keys
    # Nothing is made that nobody has seen.
    assert [names(preview.servers[0]) for preview in asked] == [keys[:2], keys[2:]]
    assert notes(asked[0]) == [told] and not any((asked[0].notes, asked[1].notes, notes(asked[1])))
    assert web1.reply and not web1.reply.notes
    again = applied(fleet, lambda _: pytest.fail("nothing to ask"))
    assert again.exit_code == 0


def first_only() -> Callable[[CommandResult], bool]:
    answers = iter((True, False))
    return lambda _: next(answers)


def ctrl_c_after_the_first() -> Callable[[CommandResult], bool]:
    first = first_only()

    def approve(preview: CommandResult) -> bool:
        if not first(preview):
            raise KeyboardInterrupt
        return True

    return approve


@pytest.mark.parametrize(
    ("approve", "told", "code"),
    [
        (first_only(), "cron.report, cron.other: nothing was done", 1),
        (ctrl_c_after_the_first(), "cron.report, cron.other: interrupted", 130),
    ],
)
def test_who_says_no_to_the_rest_hears_what_was_done(
    fleet: Fleet, approve: Callable[[CommandResult], bool], told: str, code: int
) -> None:
    done = applied(fleet.having(SHOP + REPORT + OTHER), approve)
    (web1,) = done.servers
    assert web1.error and (web1.error.message, done.exit_code) == (told, code)
    assert names(web1) == ["app.shop"] and fleet.there.made == [("web1", "app.shop")]


def test_what_waits_is_not_tried_where_the_rest_failed(fleet: Fleet) -> None:
    fleet.there.broken["run", "app.shop"] = ActionFailed("no space")
    done = applied(fleet.having(SHOP + REPORT + OTHER))
    (web1,) = done.servers
    assert web1.error and web1.error.message == "app.shop: no space; not tried: cron.report, cron.other"
    assert done.exit_code == 6


@pytest.mark.parametrize("mode", ["plan", "run"])
def test_what_fails_after_it_has_waited_takes_nothing_back(fleet: Fleet, mode: str) -> None:
    fleet.there.broken[mode, "cron.other"] = ActionFailed("no cron")
    done = applied(fleet.having(SHOP.replace("web1", "all") + REPORT.replace("web1", "all") + OTHER))
    web1, web2 = done.servers
    assert web1.error and web1.error.message.startswith("cron.other")
    assert names(web1)[0] == "app.shop" and names(web2) == ["app.shop", "cron.report"] and not web2.error
    assert done.exit_code == 10


# --- grants ----------------------------------------------------------------------------------------------------------


def test_a_key_that_may_not_install_command_lines_applies_the_rest(fleet: Fleet) -> None:
    """`--allow '*'` does not mean them."""
    refusal = "the key ci may not run cron.command here with these parameters"
    fleet.there.broken["plan", "cron.report"] = TrustError(refusal, code="not-granted")
    fleet.having(SHOP + REPORT + NIGHTLY)
    note = f"web1: cron.report is left out: {refusal}"
    assert note in planned(fleet).notes and planned(fleet).exit_code == 0
    asked: list[CommandResult] = []

    def approve(preview: CommandResult) -> bool:
        asked.append(preview)
        return True

    done = applied(fleet, approve)
    assert (done.exit_code, done.notes.count(note), asked[0].notes) == (0, 1, (note,))
    assert [key for _, key in fleet.there.made] == ["app.shop", "cron.nightly"]
    # Nor is it a failure where there is nothing else.
    assert applied(fleet, only="cron").exit_code == 0
    # Who asks for this one job is told that it was refused.
    wanted = [found for found in desired(fleet, "all", None) if found.key == "cron.report"]
    how: dict[str, Any] = {"approve": lambda _: True, "plan_only": False, "lock_wait_s": 0, "report": quiet}
    assert asyncio.run(apply_resources(fleet, wanted, **how)).exit_code == 4


def test_any_other_refusal_stays_one(fleet: Fleet) -> None:
    fleet.there.broken["plan", "cron.nightly"] = TrustError("not this", code="not-granted")
    fleet.having(SHOP + NIGHTLY)
    assert (applied(fleet).exit_code, fleet.there.made) == (4, [])


# --- what is left on servers -----------------------------------------------------------------------------------------


def test_a_certificate_and_a_route_that_nothing_asks_for_any_more(fleet: Fleet) -> None:
    fleet.having(SHOP)
    fleet.there.applied["web2"] = {"cert.old", "route.old"}
    notes = (
        "web2: cert.old is unmanaged: it was applied once and is no longer in fleet.toml: sf cert remove old --on web2",
        "web2: route.old is unmanaged: it was applied once and is no longer in fleet.toml: "
        "sf action run route.remove --on web2 name=old",
    )
    assert planned(fleet).notes == applied(fleet).notes == notes


def test_what_goes_on_by_itself_where_nothing_asks_for_it(fleet: Fleet) -> None:
    fleet.having(SHOP + REPORT + CHANNEL + ROUTE)
    fleet.there.applied["web2"] = {"notify.ops", "cron.report", "cron.gone", "app.shop"}
    notes = (
        "web2: cron.gone is unmanaged: it was applied once and is no longer in fleet.toml: "
        "sf cron remove gone --on web2",
        "web2: cron.report is unmanaged: it was applied once and is no longer for web2: "
        "sf cron remove report --on web2",
        "web2: notify.ops is unmanaged: it was applied once and is no longer for web2: sf notify remove ops --on web2",
    )
    app = "web2: app.shop is unmanaged: it was applied once and is no longer for web2"
    assert planned(fleet).notes == (app, *notes)
    assert applied(fleet).notes == notes
    assert (applied(fleet, only="notify").notes, planned(fleet, "notify").notes) == (notes[2:], notes[2:])
    assert applied(fleet, only="app").notes == ()
    # What the notes say ends it, and leaves the file as it is.
    before = fleet.folder.fleet_toml.read_text()
    how = How(plan=False, approve=lambda _: True, timeout_s=None, lock_wait_s=0, report=quiet)
    asyncio.run(cron.remove(fleet, "gone", "web2", how))
    asyncio.run(cron.remove(fleet, "report", "web2", how))
    asyncio.run(notify.remove(fleet, "ops", how, "web2"))
    assert planned(fleet).notes == (app,) and fleet.folder.fleet_toml.read_text() == before


def test_a_channel_without_a_route_is_still_in_the_file(fleet: Fleet) -> None:
    second = CHANNEL.replace("ops", "night")
    fleet.having(CHANNEL + second + ROUTE).there.applied["web1"] = {"notify.night"}
    (note,) = applied(fleet).notes
    assert "is no longer for web1: sf notify remove night --on web1" in note


def test_a_server_that_is_away_holds_up_no_apply(fleet: Fleet) -> None:
    fleet.having(SHOP).there.away.add("web2")
    done = applied(fleet)
    assert (done.exit_code, done.notes) == (0, ("could not be asked what they still have: web2",))
    assert fleet.there.made == [("web1", "app.shop")]
    # One that was to be changed has an error of its own.
    assert applied(fleet.having(SHOP.replace("web1", "all"))).notes == ()


def test_a_plan_asks_a_server_that_is_away_once(fleet: Fleet) -> None:
    fleet.having(SHOP.replace("web1", "all")).there.away.add("web2")
    found = planned(fleet)
    assert ([row.name for row in found.failures], fleet.there.in_vain) == (["web2"], ["web2"])


def test_a_server_that_answered_with_a_failure_still_tells_what_it_has(fleet: Fleet) -> None:
    fleet.having(SHOP).there.broken["plan", "app.shop"] = ActionFailed("no space")
    fleet.there.applied["web1"] = {"cron.gone"}
    found = planned(fleet)
    assert [row.name for row in found.failures] == ["web1"]
    assert found.notes[0].startswith("web1: cron.gone is unmanaged")


def test_the_question_says_what_is_not_in_the_plan(fleet: Fleet) -> None:
    fleet.having(SHOP.replace("web1", "all")).there.away.add("web2")
    asked: list[CommandResult] = []

    def approve(preview: CommandResult) -> bool:
        asked.append(preview)
        return True

    done = applied(fleet, approve)
    assert asked[0].notes == ("web2 cannot be planned: no answer",)
    assert done.exit_code == 10 and fleet.there.in_vain == ["web2"] and done.notes == ()
