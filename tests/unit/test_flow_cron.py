"""`sf cron` on this side: which stanza is meant, what may be a job, when it runs next, what other crontabs become."""

from __future__ import annotations

import asyncio
import sys
import tomllib
import zoneinfo
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from serverflow_actions.kit import schedule
from serverflow_actions.kit.change import Change
from serverflow_cli.config.environment import Settings
from serverflow_cli.config.folder import FleetFolder
from serverflow_cli.errors import (
    ActionFailed,
    ConfigError,
    OutcomeUnknown,
    SfError,
    TrustError,
    Unreachable,
    UsageError,
)
from serverflow_cli.flows import cron, cron_runs
from serverflow_cli.flows.actions import run_action
from serverflow_cli.flows.config import How
from serverflow_cli.flows.cron_import import import_jobs
from serverflow_cli.flows.workspace import Workspace
from serverflow_cli.model.result import CommandResult, Reply, Report, Request, ServerResult
from serverflow_cli.plan.next_runs import clock_notes, local, next_runs
from serverflow_cli.rpc.call import Caller
from serverflow_cli.rpc.fanout import on_all
from serverflow_cli.rpc.hello import Link

FLEET = """schema = 1
timezone = "Europe/Paris"
[servers.web1]
host = "10.0.0.1"
roles = ["app"]
[servers.web2]
host = "10.0.0.2"
roles = ["app"]
[servers.db1]
host = "10.0.0.3"
timezone = "Asia/Tokyo"
[apps.shop]
on = "@app"
user = "shopper"
"""
REPORT = """[cron.report]
on = "@app"
schedule = "15 3 * * *"
app = "shop"
command = ["bin/report", "--all"]
"""
NIGHTLY = '[cron.nightly]\non = "db1"\nschedule = "@daily"\naction = "service.restart"\nparams = { unit = "nginx" }\n'
RUN = "01JD0000000000000000000001"


@dataclass
class Servers:
    """All three. `answers` is what an action is answered with, by action; what is asked of each is kept."""

    answers: dict[str, list[Mapping[str, Any] | SfError]] = field(default_factory=dict)
    asked: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)

    @asynccontextmanager
    async def hold(self, _link: Link) -> AsyncIterator[None]:
        yield

    async def wait_for_turn(self, _link: Link, _wait_s: float, _report: Report) -> None:
        pass

    async def greet(self, _link: Link) -> Any:
        return SimpleNamespace(pending="")

    async def call(self, link: Link, request: Request, op_id: str, _version: int, _report: Report) -> Reply:
        if request.mode == "plan":
            made = Change("create", "thing", str((request.base or {}).get("resource", request.action)))
            return Reply(op_id, "done", (made,), plan_sha256="0" * 64)
        self.asked.append((link.name, request.action, request.params))
        answers = self.answers.get(request.action, [{}])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, SfError):
            raise answer
        return Reply(op_id, "done", data=answer)


class Fleet(Workspace):
    """A real folder whose servers are those."""

    def __init__(self, path: Path, servers: Servers) -> None:
        super().__init__(FleetFolder(path), Settings())
        self._servers = servers

    @property
    def text(self) -> str:
        return self.folder.fleet_toml.read_text()

    @property
    def jobs(self) -> dict[str, Any]:
        return dict(tomllib.loads(self.text).get("cron", {}))

    def having(self, text: str) -> Fleet:
        self.folder.fleet_toml.write_text(FLEET + text)
        self.refresh()
        return self

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
def fleet(tmp_path: Path, servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust/1.json").write_text(f'{{"fleet": "{"0" * 32}"}}')
    (tmp_path / "fleet.toml").write_text(FLEET)
    return Fleet(tmp_path, servers)


def quiet(_event: Mapping[str, Any]) -> None:
    pass


def yes(_planned: CommandResult) -> bool:
    return True


def how(approve: Callable[[CommandResult], bool] = yes, *, plan: bool = False) -> How:
    return How(plan=plan, approve=approve, timeout_s=None, lock_wait_s=0, report=quiet)


def add(fleet: Fleet, values: dict[str, Any], *words: str, on: str = "web1", name: str = "x") -> CommandResult:
    return asyncio.run(cron.add(fleet, name, on, {"schedule": "@daily", **values}, words, how()))


def edit(fleet: Fleet, name: str, values: dict[str, Any], *words: str) -> CommandResult:
    return asyncio.run(cron.edit(fleet, name, values, words, how()))


# --- stanzas ---------------------------------------------------------------------------------------------------------


def test_a_command_becomes_a_stanza_and_goes_to_the_servers(fleet: Fleet, servers: Servers) -> None:
    result = add(fleet, {"app": "shop", "timeout": "30m"}, "bin/report", "--all", on="@app")
    work = {"app": "shop", "command": ["bin/report", "--all"]}
    assert fleet.jobs == {"x": {"on": "@app", "schedule": "@daily", "timeout": "30m", **work}}
    assert servers.asked == [
        (
            server,
            "cron.command",
            {"name": "x", "schedule": "@daily", "timeout": "30m", "timezone": "Europe/Paris", **work},
        )
        for server in ("web1", "web2")
    ]
    assert result.notes[-1].startswith("next run: ") and result.notes[-1].endswith("(Europe/Paris)")


def test_an_action_becomes_a_stanza_with_its_parameters_in_a_table(fleet: Fleet, servers: Servers) -> None:
    add(fleet, {"action": "service.restart", "enabled": False}, "unit=nginx")
    assert fleet.jobs["x"] == {
        "on": "web1", "schedule": "@daily", "action": "service.restart", "enabled": False, "params": {"unit": "nginx"},
    }  # fmt: skip
    assert servers.asked[0][2]["params"] == ["unit=nginx"]


def test_the_action_by_its_name_writes_the_same_stanza(fleet: Fleet) -> None:
    params = {"name": "x", "schedule": "@daily", "action": "service.restart", "params": ["unit=nginx"]}
    quietly: dict[str, Any] = {"secrets": {}, "plan": False, "timeout_s": None, "lock_wait_s": 0, "report": quiet}
    asyncio.run(run_action(fleet, "cron.add", "web1", params, approve=yes, **quietly))
    assert fleet.jobs["x"]["params"] == {"unit": "nginx"}


def test_the_same_job_again_is_applied_again_and_another_one_is_not(fleet: Fleet, servers: Servers) -> None:
    fleet.having(REPORT)
    before, values = fleet.text, {"schedule": "15 03 * * *", "app": "shop"}
    add(fleet, values, "bin/report", "--all", on="@app", name="report")
    assert (len(servers.asked), fleet.jobs["report"]["command"]) == (2, ["bin/report", "--all"])
    fleet.folder.fleet_toml.write_text(before)
    fleet.refresh()
    with pytest.raises(UsageError, match="already, and differs in --on, the command") as error:
        add(fleet, values, "bin/report", name="report")
    assert "sf cron edit report" in error.value.hint


@pytest.mark.parametrize(
    ("values", "words", "told"),
    [
        ({}, ("bin/x",), "what the job does is missing"),
        ({"app": "shop"}, (), "the command is missing"),
        ({"app": "shop"}, ("bin/x --all",), "is one word, 'bin/x --all': no shell takes it apart"),
        ({"app": "shop"}, ("bin/x", "|", "wc"), "the command: '|' is an operator of the shell"),
        ({"app": "shop", "action": "a.b"}, ("x",), "a job is one or the other"),
        ({"app": "shpo"}, ("bin/x",), "--app: fleet.toml has no app shpo"),
        ({"app": "shop", "memory": "1MiB"}, ("bin/x",), "--memory 1MiB: from 16MiB is possible"),
        ({"app": "shop", "timeout": "8d"}, ("bin/x",), "--timeout 8d: from 1s to 7d is possible"),
        ({"app": "shop", "timeout": "8"}, ("bin/x",), "--timeout: '8' is not a duration"),
        ({"app": "shop", "overlap": "allow"}, ("bin/x",), "--overlap: must be 'skip', 'wait' or 'kill'"),
        ({"app": "shop", "schedule": "61 * * * *"}, ("bin/x",), "--schedule: minute: 61 is not 0 to 59"),
        ({"app": "shop", "timezone": "Europe/Pari"}, ("bin/x",), "there is no time zone Europe/Pari"),
        ({"action": "service.restart"}, ("nginx",), "'nginx' is not KEY=VALUE"),
        ({"action": "service.restart"}, (), "unit: missing"),
        ({"action": "service.restat"}, ("unit=x",), "no action has the name 'service.restat'"),
        ({"action": "user.remove"}, ("name=x",), "user.remove cannot be scheduled"),
        ({"action": "service.restart", "memory": "1GiB"}, ("unit=x",), "--memory is for commands"),
    ],
)
def test_what_is_no_job_goes_nowhere(
    fleet: Fleet, servers: Servers, values: dict[str, Any], words: tuple[str, ...], told: str
) -> None:
    with pytest.raises((UsageError, ConfigError), match=told):
        add(fleet, values, *words)
    assert (fleet.text, servers.asked) == (FLEET, [])


def test_an_edit_changes_what_is_given(fleet: Fleet) -> None:
    edit(fleet.having("# mine\n" + REPORT), "report", {"schedule": "@hourly", "retries": 2})
    changed = '# mine\n[cron.report]\non = "@app"\nschedule = "@hourly"\n'
    assert changed in fleet.text and fleet.jobs["report"]["retries"] == 2
    edit(fleet, "report", {}, "bin/other")
    assert fleet.jobs["report"]["command"] == ["bin/other"]


@pytest.mark.parametrize(
    ("name", "values", "words", "told"),
    [
        ("report", {"action": "service.restart"}, ("unit=nginx",), "cron.report is for the app shop"),
        ("report", {"app": "blog"}, ("bin/x",), "cron.report is for the app shop"),
        ("nightly", {"action": "service.reload"}, ("unit=nginx",), "cron.nightly is for the action service.restart"),
        ("nightly", {"app": "shop"}, ("bin/x",), "cron.nightly is for the action service.restart"),
    ],
)
def test_a_job_does_not_become_another_one(
    fleet: Fleet, servers: Servers, name: str, values: dict[str, Any], words: tuple[str, ...], told: str
) -> None:
    before = fleet.having(REPORT + NIGHTLY).text
    with pytest.raises(UsageError, match=told) as error:
        edit(fleet, name, values, *words)
    assert error.value.hint.startswith(f"sf cron remove {name}, then sf cron add {name}")
    assert (fleet.text, servers.asked) == (before, [])
    edit(fleet, "nightly", {"action": "service.restart"}, "unit=redis")
    assert fleet.jobs["nightly"]["params"] == {"unit": "redis"}


def test_a_disabled_job_says_so_and_how_it_comes_back(fleet: Fleet, servers: Servers) -> None:
    result = edit(fleet.having(REPORT), "report", {"enabled": False})
    assert result.notes == ("cron.report is disabled: sf cron enable report",)
    assert servers.asked[0][2]["enabled"] is False
    edit(fleet, "report", {"enabled": None})
    assert "enabled" not in fleet.jobs["report"] and "enabled" not in servers.asked[-1][2]


def test_a_job_is_not_left_behind_on_a_server(fleet: Fleet, servers: Servers) -> None:
    fleet.having(REPORT)
    with pytest.raises(UsageError, match="would stay on web2, and go on running there") as error:
        edit(fleet, "report", {"on": "web1"})
    assert error.value.hint.startswith('set on = "web1" in fleet.toml, then: sf cron remove report --on web2')
    # What the hint says works.
    fleet.having(REPORT.replace("@app", "web1"))
    asyncio.run(cron.remove(fleet, "report", "web2", how()))
    assert servers.asked == [("web2", "cron.remove", {"name": "report"})]
    assert fleet.jobs["report"]["on"] == "web1"


def test_a_job_goes_from_all_its_servers(fleet: Fleet, servers: Servers) -> None:
    asyncio.run(cron.remove(fleet.having(REPORT + NIGHTLY), "report", None, how()))
    assert [server for server, *_ in servers.asked] == ["web1", "web2"]
    assert list(fleet.jobs) == ["nightly"]
    fleet.refresh()
    with pytest.raises(UsageError, match=r"fleet\.toml has no job report") as error:
        asyncio.run(cron.remove(fleet, "report", None, how()))
    assert error.value.hint == "if a server still has it: sf cron remove report --on SERVER"
    with pytest.raises(UsageError) as error:
        edit(fleet, "nigthly", {"schedule": "@daily"})
    assert error.value.hint == "did you mean nightly?"


# --- when it runs next -----------------------------------------------------------------------------------------------

#: 2026-10-24 12:00 and 2027-03-27 12:00 in UTC: the next night clocks change in Europe.
BACK, FORWARD = 1792843200, 1806148800


@pytest.mark.parametrize(
    ("text", "after", "notes"),
    [
        ("30 2 * * *", BACK, ["from 03:00 to 02:00; 02:30 comes twice; it runs the first time only"]),
        ("*/30 * * * *", BACK, ["from 03:00 to 02:00; 02:00, 02:30 come twice, and so do its runs"]),
        ("15 3 * * *", BACK, ["from 03:00 to 02:00; no run is due in between"]),
        (
            "30 2 * * *",
            FORWARD,
            ["from 02:00 to 03:00; 02:30 does not exist; the next run is at Sun 2027-03-28 03:00 +02:00"],
        ),
        (
            "*/15 2 * * *",
            FORWARD,
            ["02:00 to 02:45 (4 times) do not exist; the next run is at Mon 2027-03-29 02:00 +02:00"],
        ),
    ],
)
def test_what_a_change_of_clocks_does(text: str, after: int, notes: list[str]) -> None:
    when = schedule.parse(text)
    found = clock_notes(when, "Europe/Paris", after, next_runs(when, "Europe/Paris", after, 3))
    assert [note.endswith(end) for note, end in zip(found, notes, strict=True)] == [True], found
    assert all("in Europe/Paris: clocks go from" in note for note in found)


def test_changes_within_the_runs_that_are_shown_are_told_else_the_next_one() -> None:
    when = schedule.parse("0 0 1 * *")
    many = clock_notes(when, "Europe/Paris", BACK, next_runs(when, "Europe/Paris", BACK, 12))
    assert [note[:14] for note in many] == ["Sun 2026-10-25", "Sun 2027-03-28"]
    (one,) = clock_notes(when, "Europe/Paris", FORWARD + 86_400 * 30, [])
    assert one.startswith("Sun 2027-10-31")
    assert clock_notes(when, "Asia/Tokyo", BACK, next_runs(when, "Asia/Tokyo", BACK, 12)) == []


def test_half_an_hour_is_a_change_too() -> None:
    when = schedule.parse("45 1 * * *")
    (note,) = clock_notes(when, "Australia/Lord_Howe", 1806148800, [1806148800 + 86_400 * 14])
    assert "clocks go from 02:00 to 01:30; 01:45 comes twice; it runs the first time only" in note


def test_the_two_times_of_one_hour_are_told_apart() -> None:
    assert [local(BACK + 45_000 + each, "Europe/Paris") for each in (0, 3600)] == [
        "Sun 2026-10-25 02:30 +02:00",
        "Sun 2026-10-25 02:30 +01:00",
    ]


def test_the_next_runs_are_told_by_both_clocks(fleet: Fleet) -> None:
    coming = asyncio.run(cron_runs.coming(fleet.having(NIGHTLY + "enabled = false\n"), "nightly", 3))
    runs = coming.data["runs"]
    assert [list(run["times"]) for run in runs] == [["Europe/Paris", "Asia/Tokyo"]] * 3
    assert coming.notes[0] == "cron.nightly is disabled, and none of this happens: sf cron enable nightly"
    assert list(asyncio.run(cron_runs.coming(fleet.having(REPORT), "report", 1)).data["runs"][0]["times"])[1:] == [
        "UTC"
    ]


@pytest.fixture
def no_system_zones() -> Iterator[None]:
    """As in a small container."""
    zoneinfo.reset_tzpath(to=())
    zoneinfo.ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath()
    zoneinfo.ZoneInfo.clear_cache()


@pytest.mark.usefixtures("no_system_zones")
def test_zones_are_known_where_the_system_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local(BACK, "Europe/Paris") == "Sat 2026-10-24 14:00 +02:00"
    zoneinfo.ZoneInfo.clear_cache()
    for module in [each for each in sys.modules if each.partition(".")[0] == "tzdata"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "tzdata", None)
    assert local(BACK, "UTC") == "Sat 2026-10-24 12:00 +00:00"
    with pytest.raises(ConfigError, match="there is no time zone Europe/Paris"):
        local(BACK, "Europe/Paris")


# --- runs ------------------------------------------------------------------------------------------------------------

ENDED = {"run": RUN, "started": 1792843200000, "ended": 1792843205000, "outcome": "ok", "exit": 0}


def run(fleet: Fleet, **options: Any) -> CommandResult:
    given: dict[str, Any] = {"selector": None, "wait": True, "wait_s": None, "approve": yes, "lock_wait_s": 0}
    return asyncio.run(cron_runs.run(fleet, "nightly", report=quiet, **{**given, **options}))


def logs(**record: Any) -> dict[str, Any]:
    return {"name": "nightly", "run": RUN, "record": {**ENDED, **record}, "kept": True, "head": "hello\n", "tail": ""}


@pytest.fixture
def started(fleet: Fleet, servers: Servers) -> Fleet:
    servers.answers = {"cron.run": [{"name": "nightly", "run": RUN}]}
    return fleet.having(NIGHTLY)


def test_a_run_is_followed_to_its_end(started: Fleet, servers: Servers) -> None:
    not_yet = ActionFailed(f"nightly has no run {RUN}")
    servers.answers["cron.logs"] = [not_yet, logs(outcome="running", ended=0), logs()]
    result = run(started)
    (server,) = result.servers
    assert result.exit_code == 0 and server.reply
    assert (server.reply.data["outcome"], server.reply.data["output"]["head"]) == ("ok", "hello\n")
    asked = ("db1", "cron.logs", {"name": "nightly", "run": RUN})
    assert servers.asked == [("db1", "cron.run", {"name": "nightly"}), asked, asked, asked]


@pytest.mark.parametrize(
    ("end", "code", "told"),
    [
        ({"outcome": "failed", "exit": 3}, "action-failed", "the run ended: failed, exit code 3"),
        ({"outcome": "killed", "signal": "SIGKILL", "exit": None}, "killed", "the run ended: killed, signal SIGKILL"),
        ({"outcome": "skipped", "message": "still running"}, "action-failed", "the run ended: skipped: still running"),
    ],
)
def test_a_run_that_does_not_end_well_is_a_failure(
    started: Fleet, servers: Servers, end: dict[str, Any], code: str, told: str
) -> None:
    servers.answers["cron.logs"] = [logs(**end)]
    result = run(started)
    (server,) = result.servers
    assert server.error and (server.error.code, server.error.message, result.exit_code) == (code, told, 6)
    assert server.error.hint == f"sf cron logs nightly --run {RUN} --on db1"
    assert server.reply and server.reply.data["output"]["head"] == "hello\n"


def test_nobody_waits_longer_than_asked_or_for_ever(started: Fleet, servers: Servers) -> None:
    servers.answers["cron.logs"] = [logs(outcome="running")]
    (late,) = run(started, wait_s=0).servers
    assert isinstance(late.error, OutcomeUnknown) and "goes on" in late.error.message
    servers.answers["cron.logs"] = [Unreachable("no answer")]
    (lost,) = run(started).servers
    assert isinstance(lost.error, OutcomeUnknown) and lost.error.hint == "sf cron history nightly --on db1"
    servers.asked.clear()
    assert run(started, wait=False).servers[0].reply
    assert [action for _, action, _ in servers.asked] == ["cron.run"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TrustError("ci may not run cron.logs", code="not-granted"), "ci may not run cron.logs"),
        (ActionFailed(f"nightly has no run {RUN}"), f"nightly has no run {RUN}"),
        (ActionFailed("it took too long", code="timeout"), "it took too long"),
    ],
)
def test_a_run_that_cannot_be_followed_was_started_all_the_same(
    started: Fleet, servers: Servers, monkeypatch: pytest.MonkeyPatch, error: SfError, told: str
) -> None:
    """Whoever gets another exit code than 13 starts it again."""
    monkeypatch.setattr(cron_runs, "_BEGINS_WITHIN_S", -1)
    servers.answers["cron.logs"] = [error]
    result = run(started)
    (server,) = result.servers
    assert isinstance(server.error, OutcomeUnknown) and result.exit_code == 13
    assert server.error.message == f"run {RUN} was started, and it is not known how it ends: {told}"
    assert server.error.hint.endswith("sf cron history nightly --on db1")
    assert ("a key needs cron.logs" in server.error.hint) == (error.code == "not-granted")


@pytest.mark.parametrize("over", [False, True])
def test_whoever_stops_waiting_is_told_what_goes_on(started: Fleet, servers: Servers, over: bool) -> None:
    """db1's run goes on; that of web1 may have ended by then."""
    started.having(NIGHTLY.replace('"db1"', '"web1,db1"'))
    heard: list[Mapping[str, Any]] = []
    servers.answers["cron.logs"] = [logs() if over else logs(outcome="running"), logs(outcome="running")]

    async def interrupted() -> None:
        given: dict[str, Any] = {"selector": None, "wait": True, "wait_s": None, "approve": yes, "lock_wait_s": 0}
        task = asyncio.create_task(cron_runs.run(started, "nightly", report=heard.append, **given))
        while [action for _, action, _ in servers.asked].count("cron.logs") < 2:
            await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(interrupted())
    left = [event["text"] for event in heard if event["t"] == "left"]
    who = ["db1"] if over else ["web1", "db1"]
    assert left == [f"run {RUN} goes on: sf cron history nightly --on {server}" for server in who]


def test_a_run_is_of_one_server(fleet: Fleet, servers: Servers) -> None:
    """Without --on all of the job's servers are asked for it."""

    def asked(*answers: Mapping[str, Any] | SfError, run: str = RUN) -> tuple[list[str], int]:
        servers.answers["cron.logs"] = list(answers)
        found = asyncio.run(cron_runs.logs(fleet, "report", run, selector=None, report=quiet))
        return [server.name for server in found.servers], found.exit_code

    fleet.having(REPORT)
    lacks = ActionFailed(f"report has no run {RUN}")
    assert asked(lacks, logs()) == (["web2"], 0)
    assert asked(lacks, lacks) == (["web1", "web2"], 6)
    assert asked(logs(), Unreachable("no answer")) == (["web1", "web2"], 10)
    assert asked(ActionFailed("report has not run yet"), logs(), run="") == (["web1", "web2"], 10)


def test_the_history_of_what_failed(started: Fleet, servers: Servers) -> None:
    outcomes = ("ok", "failed", "running", "lost", "skipped")
    servers.answers["cron.history"] = [{"runs": [{"run": each, "outcome": each} for each in outcomes] + ["damaged"]}]

    def history(**query: Any) -> list[str]:
        found = asyncio.run(cron_runs.history(started, "nightly", selector=None, report=quiet, **query))
        assert found.servers[0].reply
        return [each["outcome"] for each in found.servers[0].reply.data["runs"]]

    assert history(failed=True, limit=2) == ["failed", "lost"]
    assert history(failed=False, limit=3) == ["ok", "failed", "running"]
    assert [params["limit"] for _, _, params in servers.asked] == [1000, 3]


def test_jobs_are_listed_as_the_file_has_them_beside_what_servers_say(fleet: Fleet, servers: Servers) -> None:
    servers.answers["cron.list"] = [{"jobs": []}]
    found = asyncio.run(cron_runs.list_jobs(fleet.having(REPORT + NIGHTLY), selector="web*", report=quiet))
    (job,) = found.data["jobs"]
    assert (job["name"], job["on"], job["does"]) == ("report", ["web1", "web2"], "shop: bin/report --all")
    assert [server.name for server in found.servers] == ["web1", "web2"]


def test_one_wrong_zone_does_not_hide_the_other_jobs(fleet: Fleet, servers: Servers) -> None:
    servers.answers["cron.list"] = [{"jobs": []}]
    fleet.having(REPORT + 'timezone = "Europe/Pariz"\n' + NIGHTLY)
    found = asyncio.run(cron_runs.list_jobs(fleet, selector=None, report=quiet))
    assert [(job["name"], bool(job["next"])) for job in found.data["jobs"]] == [("nightly", True), ("report", False)]
    assert found.notes == ("cron.report: there is no time zone Europe/Pariz",)
    servers.answers["cron.show"] = [{"name": "report"}]
    shown = asyncio.run(cron_runs.show(fleet, "report", selector=None, report=quiet))
    assert (shown.data["job"]["next"], shown.notes) == (None, found.notes)


# --- other crontabs --------------------------------------------------------------------------------------------------


def line(schedule: str, command: str, user: str = "shopper", number: int = 1, **more: Any) -> dict[str, Any]:
    text = f"{schedule} {command}"
    place = {"file": f"/var/spool/cron/crontabs/{user}", "line": number, "text": text, "user": user, "env": {}}
    return {**place, "schedule": schedule, "command": command, **more}


def imported(fleet: Fleet, servers: Servers, *lines: dict[str, Any], on: str = "web1", **options: Any) -> CommandResult:
    servers.answers["cron.crontabs"] = [{"lines": list(lines), "more": 0, "unread": [], "server_timezone": "Etc/UTC"}]
    given: dict[str, Any] = {"plan": False, "approve": yes, "report": quiet, **options}
    return asyncio.run(import_jobs(fleet, on, **given))


def test_what_can_be_taken_over_becomes_disabled_jobs(fleet: Fleet, servers: Servers) -> None:
    result = imported(
        fleet,
        servers,
        line("5 4 * * mon", "/srv/shop/bin/report.sh --to 'a b'", env={"MAILTO": "ana", "SHELL": "/bin/sh"}),
        line("@daily", "systemctl restart nginx", "root", file="/etc/cron.d/nginx"),
        line("0 1 * * *", "/srv/shop/bin/report.sh"),
    )
    shared = {"on": "web1", "timezone": "Etc/UTC", "enabled": False}
    assert fleet.jobs == {
        "report": {
            **shared, "schedule": "5 4 * * mon", "app": "shop", "command": ["/srv/shop/bin/report.sh", "--to", "a b"],
        },
        "restart-nginx": {**shared, "schedule": "@daily", "action": "service.restart", "params": {"unit": "nginx"}},
        "report-2": {**shared, "schedule": "0 1 * * *", "app": "shop", "command": ["/srv/shop/bin/report.sh"]},
    }  # fmt: skip
    assert {server for server, *_ in servers.asked} == {"web1"} and len(servers.asked) == 1
    assert result.notes[-1] == "for each: take its old line out, then: sf cron enable JOB"
    assert "no mail with its output" in result.data["lines"][0]["why"]
    # Once more: they are there.
    again = imported(fleet, servers, line("0 1 * * *", "/srv/shop/bin/report.sh"))
    assert [(row["fate"], row["job"]) for row in again.data["lines"]] == [("is there already", "report-2")]


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (line("@reboot", "bin/x"), "the schedule: @reboot is no time but an event"),
        (line("* * * * *", "bin/x | wc"), "the command has `|`"),
        (line("* * * * *", "bin/x >/dev/null 2>&1"), "the command has `>`"),
        (line("* * * * *", "cd /srv && bin/x"), "the command"),
        (line("* * * * *", "date +%F"), "the command has a `%`"),
        (line("* * * * *", "bin/x", "root"), "it runs as root"),
        (line("* * * * *", "systemctl stop ssh extra", "root"), "it runs as root"),
        (line("* * * * *", "bin/x", "bob"), "bob is the user of no app on web1"),
        (line("* * * * *", "bin/x", env={"TOKEN": None}), "it is started with TOKEN"),
        (line("* * * * *", "sudo bin/x"), "it is started with sudo: a job runs as its app's user"),
        (line("* * * * *", "/usr/bin/doas -u bob bin/x"), "it is started with doas"),
        (line("* * * * *", "su bob -c bin/x"), "it is started with su:"),
        (line("", ""), "it cannot be read"),
        (line("17 * * * *", "run-parts /etc/cron.hourly", "root", file="/etc/crontab"), "it is the system's own"),
    ],
)
def test_the_fate_of_what_stays(fleet: Fleet, servers: Servers, found: dict[str, Any], why: str) -> None:
    result = imported(fleet, servers, found, approve=lambda _: pytest.fail("nothing to ask"))
    (row,) = result.data["lines"]
    assert (row["fate"], row["job"]) == ("stays", "") and row["why"].startswith(why), row["why"]
    assert fleet.text == FLEET


def test_one_line_of_several_servers_is_one_job(fleet: Fleet, servers: Servers) -> None:
    imported(fleet, servers, line("0 1 * * *", "bin/x"), on="@app")
    assert {name: job["on"] for name, job in fleet.jobs.items()} == {"x": "web1,web2"}


def test_of_servers_that_did_not_answer_nobody_knows(fleet: Fleet, servers: Servers) -> None:
    def notes(*answers: Mapping[str, Any] | SfError) -> tuple[str, ...]:
        servers.answers["cron.crontabs"] = list(answers)
        return asyncio.run(import_jobs(fleet, "@app", plan=False, approve=yes, report=quiet)).notes

    gone = Unreachable("no answer")
    assert notes(gone) == ()
    assert notes(gone, {"lines": []}) == ("there is nothing to take over",)


def test_a_plan_or_a_no_writes_nothing(fleet: Fleet, servers: Servers) -> None:
    told = imported(fleet, servers, line("0 1 * * *", "bin/x"), plan=True)
    assert told.notes == ("would be written into fleet.toml, disabled: x",)
    asked: list[CommandResult] = []

    def no(planned: CommandResult) -> bool:
        asked.append(planned)
        return False

    with pytest.raises(SfError, match="nothing was done"):
        imported(fleet, servers, line("0 1 * * *", "bin/x"), approve=no)
    assert asked[0].notes[0].startswith("web1 /var/spool/cron/crontabs/shopper:1: becomes cron.x")
    assert fleet.text == FLEET
