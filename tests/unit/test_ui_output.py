"""Tables, plans, progress and questions."""

from __future__ import annotations

import io

import pytest

from serverflow_actions.kit.change import Change
from serverflow_cli.errors import ActionFailed, UsageError
from serverflow_cli.model.result import Reply, ServerResult
from serverflow_cli.ui.plan_view import print_changes
from serverflow_cli.ui.progress import Progress
from serverflow_cli.ui.prompts import Prompts
from serverflow_cli.ui.tables import print_record, print_rows
from serverflow_cli.ui.terminal import Terminal


class Tty(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def piped(stdin: str = "") -> Terminal:
    return Terminal(io.StringIO(stdin), io.StringIO(), io.StringIO())


def screen(stdin: str = "", *, colour: bool = True, columns: int = 80) -> Terminal:
    return Terminal(Tty(stdin), Tty(), Tty(), colour, columns)


def out(terminal: Terminal) -> str:
    return terminal.stdout.getvalue()  # type: ignore[attr-defined, no-any-return]  # a StringIO


def err(terminal: Terminal) -> str:
    return terminal.stderr.getvalue()  # type: ignore[attr-defined, no-any-return]


ROWS = [{"unit": "a.service", "active": "active"}, {"unit": "longer.service", "active": "failed", "note": "x"}]


def test_piped_tables_are_aligned_columns() -> None:
    terminal = piped()
    print_rows(terminal, ROWS)
    assert out(terminal) == "UNIT            ACTIVE  NOTE\na.service       active  -\nlonger.service  failed  x\n"


def test_tables_on_a_terminal_have_colour_unless_told_otherwise() -> None:
    coloured, plain = screen(), screen(colour=False)
    print_rows(coloured, ROWS)
    print_rows(plain, ROWS)
    assert "\x1b[32mactive" in out(coloured)
    assert "\x1b[32m" not in out(plain)
    assert "[bold]" not in out(coloured)


def test_a_table_too_wide_for_the_terminal_becomes_records() -> None:
    terminal = screen(columns=20, colour=False)
    print_rows(terminal, ROWS)
    assert out(terminal).splitlines()[:4] == ["unit:   a.service", "active: active", "", "unit:   longer.service"]


def test_many_rows_too_wide_for_the_terminal_are_not_cut_either() -> None:
    terminal = screen(columns=27, colour=False)
    print_rows(terminal, ROWS * 3)
    assert out(terminal).count("unit:   longer.service") == 3 and "…" not in out(terminal)


def test_a_table_that_just_fits_is_one() -> None:
    terminal = screen(columns=28, colour=False)
    print_rows(terminal, ROWS * 3)
    lines = out(terminal).splitlines()
    assert len(lines) == 7 and "longer.service" in lines[2] and "…" not in out(terminal)


def test_nested_data_is_indented() -> None:
    terminal = piped()
    print_record(terminal, {"name": "shop", "disk": {"used": 1}, "users": [{"user": "ana"}, {"user": "bo"}]})
    assert out(terminal) == "name: shop\ndisk:\n  used: 1\nusers:\n  user: ana\n  user: bo\n"


CHANGES = (
    Change("create", "file", "/etc/a", {"mode": (None, "0640")}),
    Change("update", "unit", "a.service", {"active": (False, True)}),
    Change("delete", "package", "b"),
    Change("update", "file", "/etc/c", {"sha256": ("1", "2")}, diff="--- a\n+++ b\n-old\n+new\n"),
)


def test_servers_that_change_alike_are_told_once() -> None:
    servers = [ServerResult(name, Reply("", "done", CHANGES)) for name in ("web1", "web2")]
    servers.append(ServerResult("db1", Reply("", "unchanged")))
    terminal = piped()
    print_changes(terminal, servers, terminal.stdout, planned=True)
    assert out(terminal).splitlines() == [
        "web1, web2: 4 changes",
        "  + file /etc/a",
        "      mode: 0640",
        "  ~ unit a.service",
        "      active: no → yes",
        "  - package b",
        "  ~ file /etc/c",
        "      --- a",
        "      +++ b",
        "      -old",
        "      +new",
        "db1: no changes",
    ]


def test_what_cannot_be_planned_is_not_said_to_need_no_changes() -> None:
    failed = ServerResult("web1", Reply("", "failed"), ActionFailed("no such unit"))
    terminal = piped()
    print_changes(terminal, [failed, ServerResult("db1", Reply("", "unchanged"))], terminal.stdout, planned=True)
    assert out(terminal).splitlines() == ["web1: cannot be planned", "db1: no changes"]


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_appears_after_a_second_with_a_line_for_each_server_in_flight() -> None:
    clock = Clock()
    progress = Progress(screen(), verbose=False, clock=clock)
    progress.report({"t": "connect", "server": "web1"})
    progress.report({"t": "step", "server": "web2", "doing": "create file \x1b[2J/etc/a"})
    assert progress.lines() == []
    clock.now = 1.5
    assert [line[2:] for line in progress.lines()] == ["web1: connecting", "web2: create file /etc/a"]
    progress.report({"t": "done", "server": "web1"})
    assert [line[2:] for line in progress.lines()] == ["web2: create file /etc/a"]


def test_progress_is_silent_when_nobody_watches_but_notes_are_told() -> None:
    terminal = piped()
    progress = Progress(terminal, verbose=False)
    progress.report({"t": "connect", "server": "web1"})
    progress.report({"t": "note", "server": "web1", "text": "its clock is 40 s ahead"})
    assert err(terminal) == "sf: note: web1: its clock is 40 s ahead\n"


def test_verbose_tells_each_step_anywhere() -> None:
    terminal = piped()
    Progress(terminal, verbose=True).report({"t": "step", "server": "web1", "doing": "run unit x"})
    assert err(terminal) == "web1: run unit x\n"


def test_questions_are_refused_without_a_terminal() -> None:
    prompts = Prompts(piped("y\n"))
    for ask in (
        lambda: prompts.confirm("Go on?"),
        lambda: prompts.typed("Sure?", "web1", otherwise="add --confirm web1"),
        lambda: prompts.text("Who", otherwise="add --name"),
        lambda: prompts.hidden("Password", otherwise="add --password-stdin"),
    ):
        with pytest.raises(UsageError) as refused:
            ask()
        assert refused.value.hint.startswith("add --")


def test_questions_go_to_stderr() -> None:
    terminal = screen("y\n")
    assert Prompts(terminal).confirm("Go \x1b[2Jon?")
    assert err(terminal) == "Go on? [y/N] "
    assert out(terminal) == ""
