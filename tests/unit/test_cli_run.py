"""Commands with fake flows behind them: what is asked of the flows, what is shown, how it ends."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serverflow_actions.kit.change import Change
from serverflow_cli.cli.options import take_global_options
from serverflow_cli.cli.session import Session
from serverflow_cli.errors import ActionFailed, SfError, TrustError, Unreachable
from serverflow_cli.flows.apply import on_failures
from serverflow_cli.flows.safe import Safety
from serverflow_cli.flows.stages import AskedOnce
from serverflow_cli.main import run
from serverflow_cli.model.result import CommandResult, Reply, ServerResult
from serverflow_cli.ui.terminal import Terminal

OP = "01JD0000000000000000000000"
CHANGED = CommandResult(
    "acme", OP, (ServerResult("web1", Reply(OP, "done", (Change("run", "unit", "nginx.service"),))),)
)


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what commands remember out of the developer's own state folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


class Tty(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


class FakeFlows:
    """Stands for every flow: keeps what it was asked and answers `result`, asking for approval first if told to."""

    def __init__(self, result: CommandResult | Exception, *, asks: bool = False) -> None:
        self.result = result
        self.asks = asks
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    @asynccontextmanager
    async def workspace(self, ask: object) -> AsyncIterator[str]:
        yield "workspace"

    def __getattr__(self, name: str) -> Any:
        async def flow(*arguments: Any, **options: Any) -> CommandResult:
            self.calls.append((name, arguments, options))
            if self.asks and not options["approve"](CHANGED):
                raise SfError("not approved", code="declined")
            if isinstance(self.result, Exception):
                raise self.result
            return self.result

        return flow

    @property
    def asked(self) -> dict[str, Any]:
        """The options of the one call."""
        ((_, _, options),) = self.calls
        return options


class Ended:
    """How a command ended."""

    def __init__(self, line: list[str], flows: FakeFlows, terminal: Terminal) -> None:
        options, rest = take_global_options(line)
        self.code = run(rest, Session(options, terminal, flows))  # type: ignore[arg-type]  # a fake of FlowCalls
        self.out = terminal.stdout.getvalue()  # type: ignore[attr-defined]  # a StringIO
        self.err = terminal.stderr.getvalue()  # type: ignore[attr-defined]

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)  # type: ignore[no-any-return]


def sf(line: str, flows: FakeFlows, stdin: str = "") -> Ended:
    """Run a command where nobody watches."""
    return Ended(line.split(), flows, Terminal(io.StringIO(stdin), io.StringIO(), io.StringIO()))


def watched(line: str, flows: FakeFlows, answers: str = "", *, colour: bool = True) -> Ended:
    """Run a command on a terminal."""
    return Ended(line.split(), flows, Terminal(Tty(answers), Tty(), Tty(), colour, columns=100))


def test_an_action_command_hands_its_values_to_the_flow() -> None:
    flows = FakeFlows(CHANGED)
    assert sf("service restart nginx --on @web,!web3 --yes --timeout 5m --lock-wait 2m", flows).code == 0
    ((name, arguments, options),) = flows.calls
    assert (name, arguments) == ("run_action", ("workspace", "service.restart", "@web,!web3", {"unit": "nginx"}))
    assert (options["timeout_s"], options["lock_wait_s"], options["plan"]) == (300, 120, False)


def test_the_generic_form_asks_the_same_as_the_short_one() -> None:
    short, generic = FakeFlows(CHANGED), FakeFlows(CHANGED)
    sf("package install htop jq --on web1 --yes", short)
    sf("action run package.install names=htop names=jq --on web1 --yes", generic)
    assert short.calls[0][:2] == generic.calls[0][:2]
    assert short.calls[0][1][3] == {"names": ["htop", "jq"]}


def test_numbers_and_flags_travel_as_what_they_are() -> None:
    flows = FakeFlows(CommandResult())
    sf("service logs nginx --lines 5 --since 2h --follow --on web1", flows)
    assert flows.calls[0][1][3] == {"unit": "nginx", "lines": 5, "since": "2h", "follow": True}
    generic = FakeFlows(CommandResult())
    sf("action run service.logs unit=nginx lines=5 since=2h follow=true --on web1", generic)
    assert generic.calls[0][1] == flows.calls[0][1]


def test_a_change_without_a_terminal_needs_yes_before_any_server_is_asked() -> None:
    flows = FakeFlows(CHANGED)
    ended = sf("service restart nginx --on web1", flows)
    assert (ended.code, flows.calls) == (2, [])
    assert "sf: hint: add --yes" in ended.err


def test_a_plan_is_never_asked_about() -> None:
    flows = FakeFlows(CHANGED, asks=True)
    ended = sf("service restart nginx --on web1 --plan", flows)
    assert ended.code == 0
    assert flows.asked["plan"] is True
    assert ended.out.splitlines() == ["web1: 1 change", "  > unit nginx.service"]


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("yes\n", 0), ("n\n", 1), ("\n", 1), ("", 1)])
def test_on_a_terminal_the_plan_is_shown_and_asked_about(answer: str, code: int) -> None:
    ended = watched("service restart nginx --on web1", FakeFlows(CHANGED, asks=True), answer)
    assert ended.code == code
    assert "> unit nginx.service" in ended.err
    assert "Go on? [y/N]" in ended.err


@pytest.mark.parametrize(("answer", "code"), [("htop\n", 0), ("y\n", 1), ("HTOP\n", 1)])
def test_a_destructive_action_wants_the_name_typed(answer: str, code: int) -> None:
    assert watched("package remove htop --on web1", FakeFlows(CHANGED, asks=True), answer).code == code


def test_confirm_replaces_typing_and_must_be_the_name() -> None:
    assert sf("package remove htop --on web1 --confirm htop", FakeFlows(CHANGED, asks=True)).code == 0
    flows = FakeFlows(CHANGED, asks=True)
    ended = sf("package remove htop --on web1 --confirm jq", flows)
    assert (ended.code, flows.calls) == (2, [])


def test_the_generic_form_does_not_let_yes_stand_for_the_name() -> None:
    flows = FakeFlows(CHANGED, asks=True)
    assert sf("action run package.remove names=htop --on web1 --yes", flows).code == 2
    assert flows.calls == []


def test_values_are_checked_before_the_flow_is_called() -> None:
    flows = FakeFlows(CHANGED)
    ended = sf("service restart ../evil --on web1 --yes", flows)
    assert (ended.code, flows.calls) == (2, [])
    assert ended.err.startswith("sf: error: unit: '../evil' is not a unit name")


def test_the_fleet_that_is_changed_is_named_on_stderr() -> None:
    assert "sf: note: fleet acme" in sf("service restart nginx --on web1 --yes", FakeFlows(CHANGED)).err


FACTS = {"os": "Debian", "uptime_s": 3661, "memory_used": 1 << 30, "memory_total": 4 << 30}


def test_one_server_prints_lines_and_many_print_one_table() -> None:
    one = CommandResult("acme", OP, (ServerResult("web1", Reply(OP, "done", data=FACTS)),))
    assert sf("system info --on web1", FakeFlows(one)).out.splitlines() == [
        "os:     Debian",
        "uptime: 1h 1m",
        "memory: 1.0 of 4.0 GiB",
    ]
    two = CommandResult("acme", OP, tuple(ServerResult(n, Reply(OP, "done", data=FACTS)) for n in ("web1", "db1")))
    assert sf("system info --on all", FakeFlows(two)).out.splitlines() == [
        "SERVER  OS      UPTIME  MEMORY",
        "web1    Debian  1h 1m   1.0 of 4.0 GiB",
        "db1     Debian  1h 1m   1.0 of 4.0 GiB",
    ]


def test_lists_of_many_servers_become_one_table() -> None:
    reply = Reply(OP, "done", data={"units": [{"unit": "a.service", "active": "active"}]})
    result = CommandResult("acme", OP, (ServerResult("web1", reply), ServerResult("web2", reply)))
    lines = sf("service list --on all", FakeFlows(result)).out.splitlines()
    assert lines == ["SERVER  UNIT       ACTIVE", "web1    a.service  active", "web2    a.service  active"]


def test_a_partial_failure_names_each_server_and_keeps_the_rest() -> None:
    down = Unreachable("connection refused", hint="is sshd running?")
    ok = ServerResult("web1", Reply(OP, "done", data=FACTS))
    ended = sf("system info --on all", FakeFlows(CommandResult("acme", OP, (ok, ServerResult("db1", error=down)))))
    assert ended.code == 10
    assert "Debian" in ended.out
    assert ended.err.splitlines() == [
        "sf: error: db1: connection refused",
        "sf: hint: is sshd running?",
        "sf: error: 1 of 2 servers failed",
    ]


def test_servers_that_fail_alike_give_their_code() -> None:
    failed = tuple(ServerResult(name, error=ActionFailed("no such unit")) for name in ("web1", "web2"))
    assert sf("service status x --on all", FakeFlows(CommandResult("acme", OP, failed))).code == 6


def test_json_is_one_document_with_what_was_changed() -> None:
    ended = sf("--json service restart nginx --on web1 --yes", FakeFlows(CHANGED))
    assert ended.err == ""
    assert ended.document["servers"][0]["changes"] == [{"verb": "run", "kind": "unit", "name": "nginx.service"}]


@pytest.mark.parametrize("line", ["op list --json", "--json op list", "op --json list"])
def test_global_options_may_stand_anywhere(line: str) -> None:
    assert sf(line, FakeFlows(CommandResult("acme", data={"ops": []}))).document["fleet"] == "acme"


def test_json_errors_are_documents_on_stdout() -> None:
    ended = sf("op list --json", FakeFlows(TrustError("the key has expired", hint="renew it", code="key-expired")))
    assert (ended.code, ended.err) == (4, "")
    assert ended.document["error"] == {"code": "key-expired", "message": "the key has expired", "hint": "renew it"}
    assert ended.document["ok"] is False


def test_a_bug_is_one_line_and_a_traceback_only_on_demand() -> None:
    ended = sf("op list", FakeFlows(KeyError("x")))
    assert ended.code == 70
    assert ended.err.splitlines() == ["sf: error: internal error: KeyError: 'x'", "sf: hint: --debug shows where"]
    assert "Traceback" in sf("op list --debug", FakeFlows(KeyError("x"))).err
    assert sf("op list --json", FakeFlows(KeyError("x"))).document["error"]["code"] == "internal"


def test_ctrl_c_is_130() -> None:
    flows = FakeFlows(CommandResult())

    async def interrupted(*_: Any, **__: Any) -> CommandResult:
        raise KeyboardInterrupt

    flows.op_list = interrupted  # type: ignore[attr-defined]
    assert sf("op list", flows).code == 130


def test_text_from_servers_can_neither_drive_the_terminal_nor_be_markup() -> None:
    evil = "\x1b[31mred\x1b]0;title\x07 [bold]x[/bold] \u202etxt.exe\r\nroot"
    reply = Reply(OP, "done", (Change("update", "file", evil, {evil: (evil, evil)}, note=evil),), data={evil: evil})
    result = CommandResult(evil, OP, (ServerResult("web1", reply), ServerResult("db1", error=ActionFailed(evil))))
    for ended in (
        sf("service restart nginx --on all --yes", FakeFlows(result)),
        watched("service restart nginx --on all --yes", FakeFlows(result), colour=False),
    ):
        for text in (ended.out, ended.err):
            assert not any(ord(c) < 32 and c not in "\n" for c in text)
            assert "\u202e" not in text
            assert "]0;title" not in text
        assert "[bold]x[/bold]" in ended.out
    assert "\x1b" not in sf("service restart nginx --on all --yes --json", FakeFlows(result)).out


def test_streamed_output_is_the_result() -> None:
    class Streaming(FakeFlows):
        async def run_action(self, *_: Any, **options: Any) -> CommandResult:
            for text in ("on", "e\n\x1b[2Jtw", "o"):
                options["report"]({"t": "output", "server": "web1", "text": text})
            return CommandResult("acme", OP)

    assert sf("service logs nginx --on web1", Streaming(CHANGED)).out == "one\ntwo\n"
    documents = [json.loads(x) for x in sf("service logs nginx --on web1 --json", Streaming(CHANGED)).out.splitlines()]
    assert "".join(d["output"] for d in documents[:-1]) == "one\n\x1b[2Jtwo"
    assert documents[-1]["ok"] is True


def test_streamed_lines_tell_their_server_when_there_are_several() -> None:
    class Streaming(FakeFlows):
        async def run_action(self, *_: Any, **options: Any) -> CommandResult:
            for event in ("connect", "output"):
                for server in ("web1", "web2"):
                    options["report"]({"t": event, "server": server, "text": "hello\n"})
            return CommandResult("acme", OP)

    assert sf("service logs nginx --on all", Streaming(CHANGED)).out == "web1: hello\nweb2: hello\n"


@pytest.mark.parametrize(
    ("line", "mode", "hint"),
    [
        ("service restart nginx --on web1 --yes", "run", f"sf: hint: web1 goes on: `sf op follow {OP}`"),
        ("service restart nginx --on web1 --plan", "plan", "sf: error: interrupted"),
        ("service list --on web1", "run", "sf: error: interrupted"),
    ],
)
def test_ctrl_c_says_how_to_follow_what_servers_go_on_with(line: str, mode: str, hint: str) -> None:
    class Running(FakeFlows):
        async def run_action(self, _: Any, action: str, *__: Any, **options: Any) -> CommandResult:
            options["report"]({"t": "op", "server": "web1", "op": OP, "action": action, "mode": mode})
            raise KeyboardInterrupt

    ended = sf(line, Running(CHANGED))
    assert (ended.code, ended.err.splitlines()[-1]) == (130, hint)


def test_ctrl_c_says_what_becomes_of_each_servers_safe_change() -> None:
    class Running(FakeFlows):
        async def run_action(self, _: Any, action: str, *__: Any, **options: Any) -> CommandResult:
            for number, server in enumerate(("web1", "web2", "db1", "db2")):
                about = {"op": f"{OP[:-1]}{number}", "action": action, "mode": "run", "safe": server != "web2"}
                options["report"]({"t": "op", "server": server, **about})
            options["report"]({"t": "done", "server": "db1"})
            options["report"]({"t": "confirmed", "server": "db2"})
            raise KeyboardInterrupt

    first, second = f"{OP[:-1]}0", f"{OP[:-1]}1"
    assert sf("user create ana --on all --yes", Running(CHANGED)).err.splitlines() == [
        "sf: error: interrupted",
        f"sf: hint: web1 goes on: `sf op follow {first}`; "
        f"it is undone by itself, unless: `sf safe confirm {first} --on web1`",
        f"sf: hint: web2 goes on: `sf op follow {second}`",
    ]


def test_ctrl_c_says_what_becomes_of_the_file() -> None:
    class Running(FakeFlows):
        async def run_action(self, *_: Any, **options: Any) -> CommandResult:
            options["report"]({"t": "left", "text": "fleet.toml has it already"})
            raise KeyboardInterrupt

    ended = sf("redis create cache --on all --yes", Running(CHANGED))
    assert ended.err.splitlines() == ["sf: error: interrupted", "sf: hint: fleet.toml has it already"]


@pytest.mark.parametrize(
    ("options", "safety"),
    [
        ("", Safety()),
        ("--safe", Safety(wanted=True)),
        ("--confirm-within 5m", Safety(wanted=True, within_s=300)),
        ("--no-confirm", Safety(wanted=True, confirm=False)),
    ],
)
@pytest.mark.parametrize(
    "line",
    [
        "system timezone Europe/Paris --on web1 --yes",
        "action run system.timezone zone=Europe/Paris --on web1 --yes",
    ],
)
def test_how_a_change_is_made_safe(line: str, options: str, safety: Safety) -> None:
    flows = FakeFlows(CHANGED)
    assert sf(f"{line} {options}", flows).code == 0
    assert flows.asked["safety"] == safety


@pytest.mark.parametrize(
    ("options", "safety"),
    [
        ("", Safety()),
        ("--safe", Safety(wanted=True)),
        ("--confirm-within 5m", Safety(within_s=300)),
        ("--no-confirm", Safety(confirm=False)),
        ("--safe --no-confirm", Safety(wanted=True, confirm=False)),
    ],
)
@pytest.mark.parametrize("line", ["apply --yes", "apply --plan"])
def test_of_a_whole_file_not_everything_becomes_safe(line: str, options: str, safety: Safety) -> None:
    flows = FakeFlows(CHANGED)
    assert sf(f"{line} {options}", flows).code == 0
    assert flows.asked["safety"] == safety


@pytest.mark.parametrize("text", ["9s", "61m", "2h", "5", "0s", ""])
def test_a_time_to_confirm_that_cannot_be(text: str) -> None:
    ended = Ended(
        ["apply", "--yes", f"--confirm-within={text}"],
        FakeFlows(CHANGED),
        Terminal(io.StringIO(), io.StringIO(), io.StringIO()),
    )
    assert (ended.code, "--confirm-within" in ended.err) == (2, True)


def test_a_task_takes_no_such_option() -> None:
    ended = sf("service restart nginx --on web1 --yes --safe", FakeFlows(CHANGED))
    assert (ended.code, "has no option --safe" in ended.err) == (2, True)
    assert "this cannot be a safe change" in ended.err


def test_a_note_that_stood_beside_the_question_is_not_told_again() -> None:
    noted = replace(CHANGED, notes=("it is undone by itself",))

    class Asking(FakeFlows):
        async def run_action(self, *_: Any, **options: Any) -> CommandResult:
            assert options["approve"](noted)
            return noted

    assert watched("user create ana --on web1", Asking(CHANGED), "y\n", colour=False).err.count("undone by itself") == 1
    assert sf("user create ana --on web1 --yes", Asking(CHANGED)).err.count("undone by itself") == 1


def test_the_notes_of_each_server_stand_beside_the_question_once() -> None:
    def row(name: str, *notes: str, **data: Any) -> ServerResult:
        return ServerResult(name, Reply(OP, "done", (EDITED,), data, notes=notes))

    silent, warned = "nobody listens", "route.www: nobody listens"
    planned = CommandResult("acme", servers=(row("web1", warned, "old"), row("web2", "old")), notes=("web1: old",))
    done = CommandResult("acme", OP, (row("web1", warned, "old", "new", warnings=[silent]), row("web2", "old")))

    class Asking(FakeFlows):
        async def run_action(self, *_: Any, **options: Any) -> CommandResult:
            assert options["approve"](planned)
            return done

    asked = watched("user create ana --on web1", Asking(CHANGED), "y\n", colour=False)
    before, _, after = asked.err.partition("Go on?")
    told = [line for line in before.splitlines() if "note:" in line]
    assert told == ["sf: note: web1: old", f"sf: note: web1: {warned}", "sf: note: web2: old"]
    assert "sf: note: web1: new" in after and "old" not in after and silent not in after + asked.out
    assert f"sf: note: web1: {warned}" in sf("user create ana --on web1 --yes", Asking(CHANGED)).err
    answer = sf("--json user create ana --on web1 --yes", Asking(CHANGED)).document
    assert answer["servers"][0]["notes"] == [warned, "old", "new"]


def test_who_cannot_be_planned_is_told_once_at_a_question() -> None:
    silent = ServerResult("web2", error=SfError("no answer"))
    shown = replace(CHANGED, servers=(*CHANGED.servers, silent), notes=tuple(on_failures([silent])))

    class Asking(FakeFlows):
        async def run_action(self, *_: Any, **options: Any) -> CommandResult:
            assert AskedOnce(options["approve"])(shown)
            return CHANGED

    asked = watched("user create ana --on web1", Asking(CHANGED), "y\n", colour=False)
    assert asked.err.count("web2 cannot be planned: no answer") == 1


DIFF = "-old\n+new\n"
EDITED = Change("update", "file", "/etc/a", {"mode": ("0644", "0600")}, DIFF, note="by hand")
FOLLOWED = Change("run", "certificate", "www", {"issue": (None, "it was due")})


class Editing(FakeFlows):
    """Asks about one change, and makes one more."""

    def __init__(self) -> None:
        super().__init__(CommandResult("acme", OP, (ServerResult("web1", Reply(OP, "done", (EDITED, FOLLOWED))),)))

    async def run_action(self, *_: Any, **options: Any) -> CommandResult:
        assert options["approve"](CommandResult("acme", "", (ServerResult("web1", Reply("", "done", (EDITED,))),)))
        assert isinstance(self.result, CommandResult)
        return self.result


def test_what_a_question_was_about_is_told_in_a_line_each() -> None:
    ended = watched("service restart nginx --on web1", Editing(), "y\n", colour=False)
    assert "-old" in ended.err and "+new" in ended.err
    assert ended.out.splitlines() == [
        "web1: done, 2 changes",
        "  ~ file /etc/a  (by hand)",
        "  > certificate www",
        "      issue: it was due",
    ]


def test_a_result_that_nobody_saw_the_plan_of_has_the_diffs() -> None:
    for ended in (
        sf("service restart nginx --on web1 --yes", Editing()),
        watched("service restart nginx --on web1 --yes", Editing(), colour=False),
    ):
        assert "      -old\n      +new\n" in ended.out


def test_json_has_the_diffs_whoever_was_asked() -> None:
    ended = watched("--json service restart nginx --on web1", Editing(), "y\n", colour=False)
    assert ended.document["servers"][0]["changes"][0]["diff"] == DIFF


JOB = CommandResult(
    "acme", OP, (ServerResult("web1", Reply(OP, "done", data={"job": "report", "server_timezone": "UTC", "said": ""})),)
)


def test_of_a_change_people_are_told_the_news_and_programs_all() -> None:
    line = "cron add report --app shop --schedule @daily --on web1 --yes -- ./report"
    assert sf(line, FakeFlows(JOB)).out.splitlines() == ["web1: done", "server timezone: UTC"]
    told = sf(f"--json {line}", FakeFlows(JOB)).document["servers"][0]["data"]
    assert told == {"job": "report", "server_timezone": "UTC", "said": ""}


def test_a_session_may_tell_all() -> None:
    terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO())
    session = Session(take_global_options([])[0], terminal, FakeFlows(JOB))  # type: ignore[arg-type]
    session.tells_all = True
    assert session.finish(JOB, mutates=True) == 0
    assert terminal.stdout.getvalue().splitlines()[1:] == [  # type: ignore[attr-defined]
        "job:             report",
        "server timezone: UTC",
        "said:            -",
    ]


def test_dns_apply_without_a_terminal_is_refused_only_when_there_is_something_to_do() -> None:
    same = CommandResult("acme", OP, (ServerResult("acme.app", Reply("", "unchanged")),))
    ended = sf("dns apply acme.app", FakeFlows(same))
    assert (ended.code, ended.out) == (0, "acme.app: no changes\n")
    refused = sf("dns apply acme.app", FakeFlows(same, asks=True))
    assert (refused.code, refused.out) == (2, "")
    assert "> unit nginx.service" in refused.err and "sf: hint: add --yes" in refused.err


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("safe status", ("run_action", ("workspace", "safe.status", "all", {}))),
        (
            f"safe confirm {OP.lower()} --on web1",
            ("run_action", ("workspace", "safe.confirm", "web1", {"op": OP})),
        ),
        (f"safe rollback {OP} --on web1 --yes", ("run_action", ("workspace", "safe.rollback", "web1", {"op": OP}))),
        ("safe history", ("safe_history", ("workspace",))),
        (f"safe show {OP} --on web1", ("safe_show", ("workspace", OP))),
    ],
)
def test_the_commands_on_safe_changes(line: str, asked: tuple[str, tuple[Any, ...]]) -> None:
    flows = FakeFlows(CHANGED)
    assert sf(line, flows).code == 0
    ((name, arguments, _),) = flows.calls
    assert (name, arguments) == asked


def test_an_empty_list_prints_nothing_but_a_note() -> None:
    ended = sf("op list", FakeFlows(CommandResult("acme", data={"ops": []})))
    assert (ended.out, ended.err) == ("", "sf: note: no ops\n")


def test_that_there_is_nothing_is_said_once() -> None:
    empty = CommandResult("acme", data={"routes": []}, notes=("no routes: sf route add",))
    assert sf("route list", FakeFlows(empty)).err.splitlines() == ["sf: note: no routes: sf route add"]


@pytest.mark.parametrize(
    "line", ["op list --limit 0", "op list --limit 00", "safe history --limit 0", "safe history --limit 201"]
)
def test_a_count_that_cannot_be(line: str) -> None:
    flows = FakeFlows(CHANGED)
    assert (sf(line, flows).code, flows.calls) == (2, [])


def test_plan_check_tells_of_drift() -> None:
    assert sf("plan --check", FakeFlows(CHANGED)).code == 11
    assert sf("plan", FakeFlows(CHANGED)).code == 0
    same = CommandResult("acme", OP, (ServerResult("web1", Reply(OP, "unchanged")),))
    assert sf("plan --check", FakeFlows(same)).code == 0


def test_apply_hands_over_selector_and_area() -> None:
    flows = FakeFlows(CHANGED)
    assert sf("apply --on @web --only redis --yes", flows).code == 0
    assert (flows.asked["selector"], flows.asked["only"], flows.asked["lock_wait_s"]) == ("@web", "redis", 30)


def test_server_add_hands_over_what_was_asked() -> None:
    flows = FakeFlows(CHANGED)
    line = "server add web1 root@192.0.2.7 --role app --role db --tag prod --port 2222 -i /k --ask-sudo --jump b"
    assert sf(line, flows).code == 0
    asked = {key: value for key, value in flows.asked.items() if key not in ("prompt", "report")}
    assert asked == {
        "name": "web1", "destination": "root@192.0.2.7", "port": 2222, "roles": ("app", "db"), "tags": ("prod",),
        "identity_files": ("/k",), "jump": "b", "ask_sudo": True, "fingerprint": None, "install_missing": False,
    }  # fmt: skip


def test_server_remove_wants_the_name_typed() -> None:
    assert watched("server remove web1", FakeFlows(CHANGED, asks=True), "web1\n").code == 0
    assert watched("server remove web1", FakeFlows(CHANGED, asks=True), "yes\n").code == 1
    assert sf("server remove web1 --confirm web1", FakeFlows(CHANGED, asks=True)).code == 0


def test_a_generated_secret_is_shown_once() -> None:
    reply = Reply(OP, "done", secrets={"password": "hunter2"})
    ended = sf("service restart x --on web1 --yes", FakeFlows(CommandResult("a", OP, (ServerResult("web1", reply),))))
    assert "web1: password: hunter2" in ended.out
    assert "shown once" in ended.err
