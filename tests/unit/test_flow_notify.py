"""Channels of alerts: what becomes of fleet.toml and secrets.toml, and what is sent to which server."""

from __future__ import annotations

import asyncio
import base64
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
from serverflow_cli.errors import ActionFailed, ConfigError, SfError, Unreachable, UsageError
from serverflow_cli.flows import notify, sealing, vault
from serverflow_cli.flows.apply import apply, plan
from serverflow_cli.flows.config import How
from serverflow_cli.flows.init import init
from serverflow_cli.flows.workspace import Workspace
from serverflow_cli.model.result import CommandResult, Reply, Report, Request, ServerResult
from serverflow_cli.rpc.call import Caller
from serverflow_cli.rpc.fanout import on_all
from serverflow_cli.rpc.hello import Link

SERVERS = '\n[servers.web1]\nhost = "10.0.0.1"\n[servers.web2]\nhost = "10.0.0.2"\n'
URL = "https://hooks.slack.com/services/T/B/x"
ROUTE = '[[notify.routes]]\nto = ["{}"]\non = "{}"\n'


@dataclass
class Servers:
    """What both have, and what they were asked."""

    applied: set[tuple[str, str]] = field(default_factory=set)
    #: Servers that answer with that, whatever they are asked.
    broken: dict[str, SfError] = field(default_factory=dict)
    asked: list[tuple[str, Request]] = field(default_factory=list)

    @asynccontextmanager
    async def hold(self, _link: Link) -> AsyncIterator[None]:
        yield

    async def wait_for_turn(self, _link: Link, _wait_s: float, _report: Report) -> None:
        pass

    async def call(self, link: Link, request: Request, op_id: str, _version: int, report: Report) -> Reply:
        self.asked.append((link.name, request))
        if link.name in self.broken and (request.mode == "run" or request.action != "notify.set"):
            raise self.broken[link.name]
        if request.action == "applied.list":
            return Reply(op_id, "done", data={"applied": {key: {} for name, key in self.applied if name == link.name}})
        if request.action == "notify.test" and request.mode == "run":
            sent = link.name == "web1"
            return Reply(op_id, "done", data={"sent": sent, "said": "ok" if sent else "the other side said 404"})
        key = str((request.base or {}).get("resource", request.action))
        if request.mode == "run":
            (self.applied.discard if request.action == "notify.remove" else self.applied.add)((link.name, key))
        return Reply(op_id, "done", (Change("create", "file", key),), plan_sha256="0" * 64)

    def changed(self) -> list[tuple[str, str]]:
        return [
            (name, request.action) for name, request in self.asked if request.mode == "run" and not request.read_only
        ]


class Fleet(Workspace):
    """A real folder with real keys, whose servers are those."""

    def __init__(self, folder: FleetFolder, settings: Settings, servers: Servers) -> None:
        super().__init__(folder, settings)
        self.there = servers

    @property
    def text(self) -> str:
        return self.folder.fleet_toml.read_text()

    def append(self, text: str) -> None:
        self.folder.fleet_toml.write_text(self.text + text)
        self.refresh()

    @property
    def sealed(self) -> dict[str, str]:
        return {name: sealing.open_secret(self, name) for name in vault.read(self).boxes}

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
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = FleetFolder(tmp_path / "fleet")
    asyncio.run(init(str(folder.path), key=None, name="ana", settings=Settings(), ask=None))
    made = Fleet(folder, Settings(), Servers())
    made.append(SERVERS)
    return made


HOW = How(plan=False, approve=lambda _: True, timeout_s=None, lock_wait_s=0, report=lambda _: None)


def add(
    fleet: Fleet, name: str, settings: Mapping[str, Any], values: Mapping[str, str], how: How = HOW, *more: str
) -> CommandResult:
    wanted = list(dict.fromkeys((*values, *more)))
    return asyncio.run(notify.add(fleet, name, settings, wanted, lambda: values, how))


def slack(fleet: Fleet, name: str = "ops", how: How = HOW, url: str = URL) -> CommandResult:
    return add(fleet, name, {"provider": "slack"}, {"url": url}, how)


def remove(fleet: Fleet, name: str = "ops", how: How = HOW, on: str | None = None) -> CommandResult:
    return asyncio.run(notify.remove(fleet, name, how, on))


def applied(fleet: Fleet) -> CommandResult:
    how: dict[str, Any] = {"approve": lambda _: True, "lock_wait_s": 0, "report": lambda _: None}
    return asyncio.run(apply(fleet, selector="all", only=None, **how))


# --- add --------------------------------------------------------------------------------------------------------------


def test_a_secret_is_sealed_referred_to_and_sent_beside_the_parameters(fleet: Fleet) -> None:
    done = slack(fleet)
    assert done.notes == ("sealed into secrets.toml: sf secret show notify_ops_url",)
    assert fleet.text.endswith('\n[notify.channels.ops]\nprovider = "slack"\nurl = { secret = "notify_ops_url" }\n')
    assert fleet.sealed == {"notify_ops_url": URL}
    assert fleet.there.changed() == [("web1", "notify.set"), ("web2", "notify.set")]
    for name, request in fleet.there.asked:
        assert request.params == {"name": "ops", "server": name, "rules": ["* error"], "provider": "slack"}
        assert request.secrets == {"url": URL}  # in the plan too: only so the server can say whether it differs
    assert [request.mode for _, request in fleet.there.asked].count("plan") == 2


def test_a_login_is_two_secrets(fleet: Fleet) -> None:
    mail = {"provider": "smtp", "host": "mail.acme.app", "sender": "sf@acme.app", "to": ["ana@acme.app"]}
    add(fleet, "mail", mail, {"username": "sf", "password": "-p"})
    assert fleet.sealed == {"notify_mail_username": "sf", "notify_mail_password": "-p"}
    assert fleet.there.asked[-1][1].secrets == {"username": "sf", "password": "-p"}
    assert fleet.there.asked[-1][1].params["to"] == ["ana@acme.app"]


def test_a_webhook_gets_a_secret_that_is_shown_once(fleet: Fleet) -> None:
    done = add(fleet, "hook", {"provider": "webhook"}, {"url": "https://acme.app/in"}, HOW, "secret")
    made = done.data["secret"]
    assert made.startswith("whsec_") and len(base64.b64decode(made[6:], validate=True)) == 32
    assert fleet.sealed == {"notify_hook_url": "https://acme.app/in", "notify_hook_secret": made}
    given = "whsec_" + base64.b64encode(b"x" * 24).decode()
    told = add(fleet, "two", {"provider": "webhook"}, {"url": "https://acme.app/in", "secret": given})
    assert (told.data, fleet.sealed["notify_two_secret"]) == ({}, given)


def test_a_plan_sends_what_it_would_send_and_keeps_nothing(fleet: Fleet) -> None:
    before = fleet.text
    done = add(
        fleet, "hook", {"provider": "webhook"}, {"url": "https://acme.app/in"}, replace(HOW, plan=True), "secret"
    )
    assert (done.data, [server.outcome for server in done.servers]) == ({}, ["done", "done"])
    assert fleet.there.asked[0][1].secrets.keys() == {"url", "secret"}
    assert (fleet.text, fleet.sealed, fleet.there.changed()) == (before, {}, [])


def test_a_plan_that_is_declined_leaves_nothing_behind(fleet: Fleet) -> None:
    before = fleet.text
    with pytest.raises(SfError, match="nothing was done"):
        slack(fleet, how=replace(HOW, approve=lambda _: False))
    assert (fleet.text, fleet.sealed) == (before, {})


def test_what_no_server_took_is_kept_nowhere(fleet: Fleet) -> None:
    before = fleet.text
    fleet.there.broken = {"web1": ActionFailed("broken"), "web2": Unreachable("no answer")}
    assert slack(fleet).notes == ("fleet.toml is as it was before, too",)
    assert (fleet.text, fleet.sealed) == (before, {})


def test_what_one_server_took_is_kept(fleet: Fleet) -> None:
    fleet.there.broken = {"web1": ActionFailed("broken")}
    assert slack(fleet).notes[0] == "fleet.toml keeps it; the next sf apply makes it again on web1"
    assert fleet.sealed == {"notify_ops_url": URL}
    fleet.there.broken = {}
    applied(fleet)
    assert ("web1", "notify.ops") in fleet.there.applied


def test_a_channel_that_no_route_sends_to_is_on_no_server(fleet: Fleet) -> None:
    slack(fleet, "a")
    fleet.append(ROUTE.format("a", "web1"))
    fleet.there.asked.clear()
    done = slack(fleet, "b")
    assert done.notes[0] == "no route sends anything to b yet: the channel is in fleet.toml only"
    assert fleet.there.asked == [] and set(fleet.sealed) == {"notify_a_url", "notify_b_url"}
    fleet.append(ROUTE.format("b", "web2"))
    applied(fleet)
    assert {name for name, request in fleet.there.asked if request.params.get("name") == "b"} == {"web2"}


def test_a_fleet_without_servers_can_have_channels(fleet: Fleet) -> None:
    fleet.folder.fleet_toml.write_text(fleet.text.removesuffix(SERVERS))
    fleet.refresh()
    assert slack(fleet).notes[0].startswith("the fleet has no servers yet")
    assert fleet.sealed == {"notify_ops_url": URL}


def test_nothing_is_asked_for_in_vain(fleet: Fleet) -> None:
    def never() -> Mapping[str, str]:
        raise AssertionError("asked")

    def refused(name: str, settings: Mapping[str, Any]) -> str:
        with pytest.raises(UsageError) as caught:
            asyncio.run(notify.add(fleet, name, settings, ["url"], never, HOW))
        return caught.value.message

    slack(fleet)
    sealing.store(fleet, {"notify_taken_url": "theirs"})
    assert refused("ops", {"provider": "slack"}) == "there is a channel ops already"
    assert refused("taken", {"provider": "slack"}) == "there is a secret notify_taken_url already"
    assert refused("No", {"provider": "slack"}).startswith("name: ")
    assert refused("mail", {"provider": "smtp", "security": "ssl"}).startswith("security: must be one of")
    assert fleet.sealed["notify_taken_url"] == "theirs"


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        ({"provider": "slack"}, {"url": "http://hooks.example/hidden"}),
        ({"provider": "slack"}, {"url": "-hidden"}),
        ({"provider": "slack"}, {"url": ""}),
        ({"provider": "webhook"}, {"url": "https://a.example/", "secret": "whsec_hidden"}),
        ({"provider": "smtp", "host": "mail.example", "sender": "a@b", "to": ["a@b"]}, {"password": "hidden"}),
        (
            {"provider": "smtp", "host": "mail.example", "sender": "a@b", "to": ["a@b"]},
            {"username": "hidden", "password": "hiddenü"},
        ),
        (
            {"provider": "smtp", "host": "mail.example", "sender": "a@b", "to": ["a@b"], "security": "none"},
            {"username": "hidden", "password": "hidden"},
        ),
        ({"provider": "resend", "sender": "a@b", "to": ["a@b"]}, {"token": "two hidden"}),
    ],
)
def test_a_value_that_servers_would_refuse_is_refused_here_and_not_shown(
    fleet: Fleet, settings: Mapping[str, Any], values: Mapping[str, str]
) -> None:
    before = fleet.text
    with pytest.raises((UsageError, ConfigError)) as caught:
        add(fleet, "ops", settings, values)
    assert "hidden" not in caught.value.message + caught.value.hint
    assert (fleet.text, fleet.sealed, fleet.there.asked) == (before, {}, [])


# --- apply ------------------------------------------------------------------------------------------------------------

SLACKER = '[notify.channels.other]\nprovider = "slack"\nurl = { secret = "slack_other" }\n'
HAND = '[notify.channels.ops]\nprovider = "slack"\nurl = { secret = "slack_ops" }\n'


def test_a_secret_without_a_value_is_an_error_before_anything_is_sent(fleet: Fleet) -> None:
    fleet.append(HAND + '[redis.cache]\non = "web1"\n')
    with pytest.raises(ConfigError) as caught:
        applied(fleet)
    message = "notify.channels.ops.url refers to secret slack_ops, which has no value"
    assert (caught.value.message, caught.value.hint) == (message, "sf secret set slack_ops")
    assert fleet.there.asked == []
    how: dict[str, Any] = {"selector": "all", "report": lambda _: None}
    with pytest.raises(ConfigError, match="has no value"):
        asyncio.run(plan(fleet, only=None, **how))
    asyncio.run(plan(fleet, only="redis", **how))  # what needs none of them does not mind


def test_a_value_that_is_replaced_while_somebody_thinks_is_the_new_one(fleet: Fleet) -> None:
    fleet.append(HAND)
    sealing.store(fleet, {"slack_ops": URL + "1"})

    def approve(_: CommandResult) -> bool:
        sealing.store(fleet, {"slack_ops": URL + "2"})
        return True

    how: dict[str, Any] = {"approve": approve, "lock_wait_s": 0, "report": lambda _: None}
    asyncio.run(apply(fleet, selector="web1", only="notify", **how))
    assert [(r.mode, r.secrets["url"][-1]) for _, r in fleet.there.asked if r.secrets] == [("plan", "1"), ("run", "2")]


def test_a_secret_that_was_taken_away_meanwhile_stops_it_before_the_first_change(fleet: Fleet) -> None:
    fleet.append(HAND)
    sealing.store(fleet, {"slack_ops": URL})

    def approve(_: CommandResult) -> bool:
        vault.change(fleet, lambda _: {})
        return True

    how: dict[str, Any] = {"approve": approve, "lock_wait_s": 0, "report": lambda _: None}
    with pytest.raises(ConfigError, match="has no value"):
        asyncio.run(apply(fleet, selector="all", only=None, **how))
    assert fleet.there.changed() == []


def test_what_has_no_secrets_is_asked_as_before(fleet: Fleet) -> None:
    fleet.append('[redis.cache]\non = "web1"\n')
    (fleet.folder.path / "secrets.toml").write_text("damaged")
    applied(fleet)
    assert all(request.secrets == {} for _, request in fleet.there.asked)
    assert fleet.there.changed() == [("web1", "redis.create")]


# --- remove -----------------------------------------------------------------------------------------------------------


def test_it_goes_from_its_servers_then_from_both_files(fleet: Fleet) -> None:
    before = fleet.text
    slack(fleet)
    sealing.store(fleet, {"other": "stays"})
    fleet.there.asked.clear()
    remove(fleet)
    assert fleet.there.changed() == [("web1", "notify.remove"), ("web2", "notify.remove")]
    assert (fleet.text, fleet.sealed) == (before, {"other": "stays"})


def test_it_goes_from_servers_that_routes_have_left(fleet: Fleet) -> None:
    slack(fleet, "a")
    slack(fleet, "b")
    fleet.append(ROUTE.format("a", "all"))
    remove(fleet, "b")
    assert fleet.there.applied == {("web1", "notify.a"), ("web2", "notify.a")}


def test_it_goes_from_one_server_that_routes_have_left(fleet: Fleet) -> None:
    slack(fleet)
    with pytest.raises(UsageError, match=r"web2: by fleet\.toml this is to be sent to ops"):
        remove(fleet, on="web2")
    fleet.append(ROUTE.format("ops", "web1"))
    before = fleet.text, fleet.sealed
    with pytest.raises(UsageError, match=r"web1: by fleet\.toml"):
        remove(fleet, on="all")
    remove(fleet, on="web2")
    assert fleet.there.applied == {("web1", "notify.ops")} and (fleet.text, fleet.sealed) == before
    assert remove(fleet, on="web2").notes == ("none of these servers has ops",)


def test_a_stanza_that_is_gone_leaves_nothing_on_servers(fleet: Fleet) -> None:
    fleet.there.applied.add(("web2", "notify.ops"))
    remove(fleet)
    assert fleet.there.changed() == [("web2", "notify.remove")]
    with pytest.raises(UsageError, match="there is no channel 'ops'"):
        remove(fleet)


def test_a_channel_that_routes_need_stays(fleet: Fleet) -> None:
    slack(fleet)
    fleet.append(ROUTE.format("ops", "all"))
    with pytest.raises(UsageError, match=r"notify\.routes\[0\] in fleet\.toml sends to ops"):
        remove(fleet)


def test_while_a_server_that_may_have_it_is_away_the_stanza_stays(fleet: Fleet) -> None:
    slack(fleet)
    fleet.there.broken = {"web2": Unreachable("no answer")}
    done = remove(fleet)
    assert done.exit_code != 0
    assert "notify.channels.ops stays in fleet.toml until it is gone from web2 too" in done.notes
    assert "[notify.channels.ops]" in fleet.text and fleet.sealed.keys() == {"notify_ops_url"}


def test_a_server_that_should_not_have_it_does_not_hold_it_up(fleet: Fleet) -> None:
    slack(fleet, "a")
    slack(fleet, "b")
    fleet.append(ROUTE.format("a", "all"))
    fleet.there.broken = {"web2": Unreachable("no answer")}
    done = remove(fleet, "b")
    assert "could not be asked whether they have it: web2" in done.notes
    assert "notify.channels.b" not in fleet.text


def test_a_secret_of_ones_own_stays_and_is_told(fleet: Fleet) -> None:
    sealing.store(fleet, {"slack_ops": URL})
    fleet.append(HAND)
    assert remove(fleet).notes == ("nothing refers to secret slack_ops any more: sf secret remove slack_ops",)
    assert fleet.sealed == {"slack_ops": URL} and "ops" not in fleet.fleet.notify.channels


def test_a_removal_that_is_only_planned_or_declined(fleet: Fleet) -> None:
    fleet.append(HAND + SLACKER + ROUTE.format("other", "all"))
    before = fleet.text
    assert remove(fleet, how=replace(HOW, plan=True)).notes == ("no server has it: only notify.channels.ops goes",)
    with pytest.raises(SfError, match="nothing was done"):
        remove(fleet, how=replace(HOW, approve=lambda _: False))
    assert fleet.text == before


# --- list, show, test -------------------------------------------------------------------------------------------------


def test_what_is_where_is_told_without_asking_anyone(fleet: Fleet) -> None:
    fleet.append(HAND + ROUTE.format("ops", "web2") + 'events = ["cron.*", "safe.rolled_back"]\nseverity = "warning"\n')
    rules = ["cron.* warning", "safe.rolled_back warning"]
    row = {"channel": "ops", "provider": "slack", "servers": ["web2"], "events": rules}
    assert asyncio.run(notify.list_channels(fleet)).data == {"channels": [row]}
    assert asyncio.run(notify.show(fleet, "ops")).data == {
        "channel": "ops",
        "provider": "slack",
        "secrets": {"url": "slack_ops"},
        "servers": [{"server": "web2", "events": rules}],
    }
    with pytest.raises(UsageError) as caught:
        asyncio.run(notify.show(fleet, "none"))
    assert (caught.value.hint, fleet.there.asked) == ("there is ops", [])


def test_what_the_other_side_did_not_take_is_a_failure(fleet: Fleet) -> None:
    done = asyncio.run(notify.test(fleet, "ops", selector="all", timeout_s=None, report=lambda _: None))
    web1, web2 = done.servers
    assert (web1.error, web2.outcome, done.exit_code) == (None, "failed", 10)
    assert web2.error and web2.error.message == "ops was not sent to: the other side said 404"


def test_who_cannot_open_a_secret_applies_the_rest(fleet: Fleet) -> None:
    """A deploy key."""
    slack(fleet)
    fleet.append('[users.bob]\non = "web1"\n')
    fleet.there.asked.clear()
    fleet.keyring.path("seal").unlink()
    done = applied(fleet)
    assert {request.action for _, request in fleet.there.asked if request.mode == "run"} <= {
        "user.create",
        "applied.list",
    }
    assert any(action == "user.create" for _, action in fleet.there.changed())
    (note, _) = (note for note in done.notes if "left out" in note)
    assert note.startswith("web1: notify.ops is left out: ")


def test_a_secret_that_nobody_has_is_a_mistake(fleet: Fleet) -> None:
    fleet.append('[notify.channels.ops]\nprovider = "slack"\nurl = { secret = "nowhere" }\n')
    with pytest.raises(ConfigError, match="nowhere"):
        applied(fleet)
