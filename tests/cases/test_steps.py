"""Steps that no action uses yet, on the server in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fakehost import FakeHost, FakeProbe, Powers, Server, debian

from serverflow_actions.kit import engine
from serverflow_actions.kit.engine import Refused, Step
from serverflow_actions.kit.probe import HostError
from serverflow_actions.kit.spec import Params, action
from serverflow_actions.kit.steps import Line, Run, Service, Timer, WatchUnit
from serverflow_actions.kit.steps.authorized_keys import parse_key
from serverflow_actions.kit.steps.timer import quote
from serverflow_actions.kit.watch import FILES, TIMER

POWERS = Powers(("/etc/systemd/system", "/srv"), ("serverflow-*",), host_verbs=("watch-unit",))


def apply(server: Server, *steps: Step) -> list[str]:
    """Run the steps twice; the second time must be quiet. Returns what the first run changed."""

    @action("test.steps", "", kind="change")
    def steps_of(_: Params, __: Any) -> engine.Steps:
        yield from steps

    def once() -> list[str]:
        outcome = engine.run(steps_of, Params(), FakeProbe(server), FakeHost(server, POWERS), lambda _: None)
        return [f"{change.verb} {change.kind} {change.name}" for change in outcome.changes]

    first = once()
    assert once() == []
    return first


def text(server: Server, path: str) -> str:
    return server.files[path].content.decode()


NIGHTLY = Timer("nightly", "*-*-* 03:00:00", ("/usr/bin/env", "echo", "50% of $HOME"), user="shop", delay=60)


def test_timer_is_made_enabled_and_running() -> None:
    server = debian({})
    assert apply(server, NIGHTLY) == ["create timer serverflow-nightly"]
    timer = server.units["serverflow-nightly.timer"]
    assert (timer.load, timer.active, timer.enabled) == ("loaded", "active", "enabled")
    service = text(server, "/etc/systemd/system/serverflow-nightly.service")
    assert 'ExecStart="/usr/bin/env" "echo" "50%% of $$HOME"\n' in service
    assert "OnCalendar=*-*-* 03:00:00\n" in text(server, "/etc/systemd/system/serverflow-nightly.timer")


def damage_file(server: Server) -> None:
    server.files["/etc/systemd/system/serverflow-nightly.timer"].content += b"#"


def damage_service(server: Server) -> None:
    del server.files["/etc/systemd/system/serverflow-nightly.service"]


def damage_state(server: Server) -> None:
    FakeHost(server, POWERS).unit_do("stop", "serverflow-nightly.timer")
    FakeHost(server, POWERS).unit_do("disable", "serverflow-nightly.timer")


@pytest.mark.parametrize("damage", [damage_file, damage_service, damage_state])
def test_timer_is_repaired(damage: Callable[[Server], None]) -> None:
    server = debian({})
    apply(server, NIGHTLY)
    whole = {path: entry.content for path, entry in server.files.items()}
    damage(server)
    assert apply(server, NIGHTLY) == ["update timer serverflow-nightly"]
    assert {path: entry.content for path, entry in server.files.items()} == whole
    assert server.units["serverflow-nightly.timer"].active == "active"


def test_timer_is_removed() -> None:
    server = debian({})
    before = set(server.files)
    apply(server, NIGHTLY)
    assert apply(server, Timer("nightly", absent=True)) == ["delete timer serverflow-nightly"]
    assert set(server.files) == before
    assert not [name for name in server.units if "nightly" in name]


@pytest.mark.parametrize("calendar", ["daily\nExecStart=/bin/sh", "", "daily;x", "daily\0"])
def test_timer_refuses_a_calendar_that_could_add_settings(calendar: str) -> None:
    with pytest.raises(ValueError):
        Timer("x", calendar, ("true",))


@pytest.mark.parametrize(
    ("argument", "quoted"), [("a b", '"a b"'), ('"', '"\\""'), ("\\n", '"\\\\n"'), ("%h $X", '"%%h $$X"'), (";", '";"')]
)
def test_arguments_of_exec_start_are_quoted(argument: str, quoted: str) -> None:
    assert quote(argument) == quoted


def test_an_argument_with_a_control_character_is_refused() -> None:
    with pytest.raises(ValueError):
        quote("a\nUser=root")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "x=1\n"),
        ("", "x=1\n"),
        ("a\n", "a\nx=1\n"),
        ("a", "a\nx=1\n"),
        ("x=0\na\n", "x=1\na\n"),
        ("x=0\na\nx=2\nx=1\n", "x=1\na\n"),
    ],
)
def test_line_is_there_once(before: str | None, after: str) -> None:
    server = debian({"files": {"/srv/conf": before} if before is not None else {}})
    assert len(apply(server, Line("/srv/conf", "^x=", "x=1"))) == 1
    assert text(server, "/srv/conf") == after


def test_line_leaves_a_right_file_alone() -> None:
    server = debian({"files": {"/srv/conf": "a\nx=1\nb"}})
    assert apply(server, Line("/srv/conf", "^x=", "x=1")) == []


def test_line_is_removed_and_foreign_bytes_mode_and_owner_stay() -> None:
    server = debian({"users": {"ana": {}}, "files": {"/srv/conf": {"mode": "0600", "owner": "ana", "group": "ana"}}})
    server.files["/srv/conf"].content = b"\xff\xfe\nx=1\nb"
    apply(server, Line("/srv/conf", "^x=", absent=True))
    entry = server.files["/srv/conf"]
    assert (entry.content, entry.mode, entry.owner) == (b"\xff\xfe\nb", 0o600, "ana")


def test_line_refuses_a_link() -> None:
    server = debian({"links": {"/srv/conf": "/etc/shells"}})
    with pytest.raises(Refused, match="not a file but a link"):
        apply(server, Line("/srv/conf", "^x=", "x=1"))


def test_run_stops_when_it_is_done() -> None:
    server = debian({"programs": {"make it": {}}, "files": {"/srv/made": ""}})
    assert apply(server, Run("make", ("make", "it"), creates="/srv/made")) == []
    del server.files["/srv/made"]
    host = FakeHost(server, POWERS)
    step = Run("make", ("make", "it"), creates="/srv/made")
    assert step.check(host) is not None
    step.apply(host)
    assert host.writes == 1


def test_run_reports_what_the_program_said() -> None:
    server = debian({"programs": {"make it": {"code": 2, "err": "no rule"}}})
    with pytest.raises(HostError, match="make: no rule"):
        apply(server, Run("make", ("make", "it"), unless=lambda _: False))


def test_run_needs_to_know_when_it_is_done() -> None:
    with pytest.raises(TypeError):
        Run("make", ("make", "it"))


KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"


@pytest.mark.parametrize(
    ("line", "options", "comment"),
    [
        (f"ssh-ed25519 {KEY}", "", ""),
        (f"  ssh-ed25519 {KEY} a b ", "", "a b"),
        (f"restrict ssh-ed25519 {KEY} x", "restrict", "x"),
        (f'command="a \\" ssh-rsa {KEY}",pty ssh-ed25519 {KEY}', f'command="a \\" ssh-rsa {KEY}",pty', ""),
    ],
)
def test_lines_of_authorized_keys(line: str, options: str, comment: str) -> None:
    key = parse_key(line)
    assert key and (key.type, key.blob, key.options, key.comment) == ("ssh-ed25519", KEY, options, comment)


@pytest.mark.parametrize("line", ["", "# ssh-ed25519 " + KEY, "ssh-ed25519", 'command="' + '\\"' * 5000])
def test_lines_that_are_no_key(line: str) -> None:
    assert parse_key(line) is None


def test_the_watch_is_made_and_taken_away_with_both_of_its_units() -> None:
    server = debian({})
    assert apply(server, WatchUnit(), Service(TIMER)) == [
        "create unit-file serverflow-watch.timer",
        f"update unit {TIMER}",
    ]
    assert [text(server, path) for path, _ in FILES] == [content for _, content in FILES]
    timer = server.units[TIMER]
    assert (timer.active, timer.enabled) == ("active", "enabled")
    gone = apply(server, Service(TIMER, running=False, enabled=False), WatchUnit(absent=True))
    assert gone == [f"update unit {TIMER}", "delete unit-file serverflow-watch.timer"]
    assert not any(path in server.files for path, _ in FILES)


@pytest.mark.parametrize("path", [path for path, _ in FILES])
def test_one_damaged_unit_of_the_watch_is_mended(path: str) -> None:
    server = debian({})
    apply(server, WatchUnit())
    server.files[path].content += b"#"
    assert apply(server, WatchUnit()) == ["update unit-file serverflow-watch.timer"]
    del server.files[path]
    assert apply(server, WatchUnit()) == ["update unit-file serverflow-watch.timer"]
    del server.files[path]
    assert apply(server, WatchUnit(absent=True)) == ["update unit-file serverflow-watch.timer"]


def test_a_safe_change_keeps_both_units_of_the_watch() -> None:
    found = WatchUnit().footprint(FakeProbe(debian({})))
    assert (found.paths, found.after) == (tuple(path for path, _ in FILES), ("daemon-reload",))
