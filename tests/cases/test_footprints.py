"""No step touches more than its footprint says: each case, made a safe change, can be put back from it alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from casefile import case_files, powers_of, title
from fakehost import Crash, FakeHost, FakeProbe, Powers, Server, debian

from serverflow_actions import registry
from serverflow_actions.kit import engine
from serverflow_actions.kit.engine import Refused, Step, Steps
from serverflow_actions.kit.probe import HostError
from serverflow_actions.kit.spec import Action, BadParams, Params, action, needs_safe, parse
from serverflow_actions.kit.steps import AuthorizedKeys, Directory, File, Line, PackageLists, Run, Timer, User
from serverflow_actions.kit.undo import Footprint, covers, total

#: Some of their cases change something, and can be put back.
REVERSIBLE = {
    "app.create", "app.remove", "config.remove", "config.set", "cron.add", "cron.command", "cron.remove", "file.put",
    "notify.remove", "notify.set", "redis.create", "redis.remove", "route.remove", "route.set",
    "service.disable", "service.enable", "service.start", "service.stop", "system.timezone",
    "user.add-key", "user.create", "user.remove", "user.remove-key",
}  # fmt: skip


def state(server: Server) -> dict[str, Any]:
    """All of a server that a change may leave otherwise, but for the cache of package lists."""
    out: dict[str, Any] = {path: entry for path, entry in server.files.items() if not path.startswith("/var/lib/apt")}
    out.update({name: (unit.load, unit.active, unit.enabled) for name, unit in server.units.items()})
    rest = {"users": server.users, "groups": server.groups, "packages": server.packages, "reboot": server.rebooted}
    return deepcopy({**out, **rest})


def put_back(server: Server, before: Server, kept: Footprint) -> None:
    """What a rollback does, with nothing but what the footprint told it to keep."""
    for path in kept.trees:
        assert not before.at(path), f"{path} is no new tree"
        for below in server.at(path):
            del server.files[below]
    for path in kept.aside:
        for below in server.at(path):
            del server.files[below]
        server.files.update(deepcopy(before.at(path)))
    for path in kept.paths:
        server.files.pop(path, None)
        if path in before.files:
            server.files[path] = deepcopy(before.files[path])
    if "daemon-reload" in kept.after:
        FakeHost(server, Powers()).unit_do("daemon-reload", "")
    for name in (before.aliases.get(unit, unit) for unit in kept.units):
        server.units.pop(name, None)
        if name in before.units:
            server.units[name] = before.units[name]
    if kept.accounts:
        server.users, server.groups = deepcopy((before.users, before.groups))


def change_and_put_back(act: Action, params: Params, before: Server, powers: Powers, fuse: int = -1) -> FakeHost:
    """Run it as a safe change, until it ends, breaks or is cut off by the fuse, and take it back."""
    server = before.snapshot()
    host = FakeHost(server, powers, fuse, safe=True)
    try:
        engine.run(act, params, FakeProbe(server, safe=True), host, lambda _: None, arm=host.arm)
    except (Crash, HostError):
        pass
    except Refused as error:
        assert error.code != "plan-changed", "the run needed more than the forecast had declared"
    put_back(server, before, host.armed or Footprint())
    found, wanted = state(server), state(before)
    left = {part for part in {*found, *wanted} if found.get(part) != wanted.get(part)}
    assert left == set(), "not all was put back"
    return host


def proved(path: Path) -> int:
    """How many writes of this case can be put back; 0 when it has none, or is refused. Raises AssertionError."""
    case = json.loads(path.read_text(encoding="utf-8"))
    act = registry.load(f"{path.parents[2].name}.{path.parent.name}")
    before = debian(case.get("host", {}))
    if act.kind == "read":
        return 0
    try:
        params = parse(act.params, case["params"])
        plan = engine.forecast(act, params, FakeProbe(before, safe=True))
    except (BadParams, HostError):
        return 0
    except Refused as error:
        unsafe = error.code == "unsupported" and "cannot be undone" in str(error)
        assert unsafe or "error" in case["expect"], f"refused as a safe change: {error}"
        return 0
    powers = powers_of(act, case["params"], before)
    host = change_and_put_back(act, params, before, powers)
    assert plan.changes or host.armed is None, "armed for nothing"
    for fuse in range(host.writes):
        change_and_put_back(act, params, before, powers, fuse)
    return host.writes


@pytest.mark.parametrize("path", case_files(), ids=title)
def test_a_case_can_be_put_back_or_is_refused_as_a_safe_change(path: Path) -> None:
    proved(path)


def test_the_proof_is_not_empty() -> None:
    found = {title(path).split(":")[0] for path in case_files() if proved(path)}
    assert REVERSIBLE - found == set()


def doing(*steps: Step) -> Action:
    @action("test.steps", "", kind="change")
    def steps_of(_: Params, __: Any) -> Steps:
        yield from steps

    return steps_of


POWERS = Powers(("/etc", "/srv", "/home"), ("serverflow-*",), accounts=True)
NIGHTLY = Timer("nightly", "daily", ("/usr/bin/true",))


@pytest.mark.parametrize(
    "step",
    [NIGHTLY, Line("/srv/conf", "^x=", "x=1"), Line("/etc/shells", "^/bin/sh", absent=True), Directory("/srv/a")],
)
def test_steps_that_no_action_uses(step: Step) -> None:
    before = debian({})
    host = change_and_put_back(doing(step), Params(), before, POWERS)
    assert host.writes
    for fuse in range(host.writes):
        change_and_put_back(doing(step), Params(), before, POWERS, fuse)


def test_a_timer_that_is_removed_comes_back() -> None:
    before = debian({})
    engine.run(doing(NIGHTLY), Params(), FakeProbe(before), FakeHost(before, POWERS), lambda _: None)
    assert change_and_put_back(doing(Timer("nightly", absent=True)), Params(), before, POWERS).writes


@pytest.mark.parametrize(
    ("path", "after"),
    [
        ("/etc/systemd/system/x.service", ("daemon-reload",)),
        ("/etc/systemd/system/x.service.d/a.conf", ("daemon-reload",)),
        ("/etc/ssh/sshd_config.d/a.conf", ("reload-ssh",)),
        ("/srv/x", ()),
    ],
)
def test_whoever_reads_a_file_reads_it_again_once_it_is_back(path: str, after: tuple[str, ...]) -> None:
    assert File(path).footprint(FakeProbe(debian({}))) == Footprint(paths=(path,), after=after)


def test_what_cannot_be_undone_is_refused_before_anything_is_kept_or_written() -> None:
    server = debian({"programs": {"make it": {}}})
    before, host = server.snapshot(), FakeHost(server, POWERS, safe=True)
    act = doing(Directory("/srv/a"), Run("make", ("make", "it"), creates="/srv/made"))
    probe = FakeProbe(server, safe=True)
    with pytest.raises(Refused, match=r"cannot be undone.*make") as caught:
        engine.forecast(act, Params(), probe)
    assert caught.value.code == "unsupported"
    with pytest.raises(Refused, match="cannot be undone"):
        engine.run(act, Params(), probe, host, lambda _: None, arm=host.arm)
    assert host.armed is None and server == before
    assert len(engine.forecast(act, Params(), FakeProbe(server)).changes) == 2


def test_nothing_to_change_arms_nothing() -> None:
    server = debian({"folders": {"/srv/a": {}}})
    host = FakeHost(server, POWERS, safe=True)
    done = engine.run(
        doing(Directory("/srv/a")), Params(), FakeProbe(server, safe=True), host, lambda _: None, arm=host.arm
    )
    assert done.changes == [] and host.armed is None


@pytest.mark.parametrize("planned", [(), (Directory("/srv/a"),)])
def test_what_becomes_due_after_arming_is_not_touched(planned: tuple[Step, ...]) -> None:
    """The plan sees another server in the run than in the forecast: someone else was there in between."""
    server = debian({})

    @action("test.moved", "", kind="change")
    def moved(_: Params, probe: Any) -> Steps:
        yield from planned
        if isinstance(probe, FakeHost):
            yield File("/srv/b", "x")

    host = FakeHost(server, POWERS, safe=True)
    with pytest.raises(Refused, match="no longer as it was when the change was armed") as caught:
        engine.run(moved, Params(), FakeProbe(server, safe=True), host, lambda _: None, arm=host.arm)
    assert caught.value.code == "plan-changed"
    assert "/srv/b" not in server.files


def test_a_plan_that_was_not_approved_arms_nothing() -> None:
    server = debian({})
    host = FakeHost(server, POWERS, safe=True)
    with pytest.raises(engine.PlanChanged):
        probe = FakeProbe(server, safe=True)
        engine.run(doing(Directory("/srv/a")), Params(), probe, host, lambda _: None, "0" * 64, host.arm)
    assert host.armed is None


def test_a_purge_is_put_aside_in_a_safe_change_only() -> None:
    described = {"users": {"ana": {}}, "folders": {"/home/ana": {"owner": "ana", "group": "ana"}}}
    described["files"] = {"/home/ana/deep/f": "x", "/srv/a/f": "y"}
    steps = (Directory("/srv/a", absent=True, purge=True), User("ana", absent=True, purge_home=True))
    plain, safe = debian(described), debian(described)
    engine.run(doing(*steps), Params(), FakeProbe(plain), FakeHost(plain, POWERS), lambda _: None)
    host = FakeHost(safe, POWERS, safe=True)
    engine.run(doing(*steps), Params(), FakeProbe(safe, safe=True), host, lambda _: None, arm=host.arm)
    assert state(plain) == state(safe)
    assert plain.aside == {}
    assert {path: sorted(found) for path, found in safe.aside.items()} == {
        "/srv/a": ["/srv/a", "/srv/a/f"],
        "/home/ana": ["/home/ana", "/home/ana/deep", "/home/ana/deep/f"],
    }


@pytest.mark.parametrize("home", [{"owner": "root", "group": "root"}, None])
def test_a_home_that_is_not_the_users_stays(home: dict[str, str] | None) -> None:
    server = debian({"users": {"ana": {}}, "folders": {"/home/ana": home} if home else {}})
    step = User("ana", absent=True, purge_home=True)
    assert step.footprint(FakeProbe(server, safe=True)) == Footprint(accounts=True)
    change_and_put_back(doing(step), Params(), server, POWERS)


# --- what the parts add up to ---------------------------------------------------------------------------------------


def test_a_tree_stands_for_all_below_it() -> None:
    tree, keys = Footprint(trees=("/home/ana",), accounts=True), Footprint(paths=("/home/ana/.ssh", "/home/anabel"))
    whole = total([tree, keys, keys])
    assert whole == Footprint(paths=("/home/anabel",), trees=("/home/ana",), accounts=True)
    assert covers(whole, keys) and covers(whole, tree)
    assert not covers(total([keys]), tree)


def test_folders_put_aside_come_outermost_first() -> None:
    parts = [Footprint(aside=("/home/ana/data",)), Footprint(aside=("/home/ana",))]
    assert total(parts).aside == ("/home/ana", "/home/ana/data")


@pytest.mark.parametrize("field", ["paths", "trees", "aside", "units", "after", "accounts"])
def test_whatever_is_missing_is_not_covered(field: str) -> None:
    values: dict[str, Any] = {"accounts": True}
    part = Footprint(**{field: values.get(field, ("/x",))})
    assert covers(part, part) and covers(part, Footprint())
    assert not covers(Footprint(), part)


def test_keys_of_a_new_account_go_with_its_home() -> None:
    server, key = debian({}), "ssh-ed25519 " + "A" * 68
    steps = (User("ana", home="/home/ana"), AuthorizedKeys("ana", "/home/ana", add=(key,)))
    host = change_and_put_back(doing(*steps), Params(), server, POWERS)
    assert host.armed == Footprint(trees=("/home/ana",), accounts=True)


def test_lists_of_packages_are_a_cache() -> None:
    assert PackageLists().footprint(FakeProbe(debian({}))) == Footprint()


# --- which changes must be safe ones --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("safe", "lifelines", "params", "needed"),
    [
        ("always", [], {}, True),
        ("", [], {"unit": "ssh"}, False),
        ("", ["unit", "ssh.*"], {"unit": "ssh"}, True),
        ("", ["unit", "ssh.*"], {"unit": "ssh.socket"}, True),
        ("", ["unit", "ifup@*"], {"unit": "ifup@eth0"}, True),
        ("", ["unit", "NetworkManager.service"], {"unit": "NetworkManager"}, True),
        ("", ["unit", "ssh.*"], {"unit": "sshguard"}, False),
        ("", ["unit", "ssh.*"], {"other": "ssh"}, False),
        ("", ["unit", "ssh.*"], {"unit": None}, False),
        ("", ["unit", "ssh.*"], {"unit": 7}, False),
        ("", ["units", "ssh.*"], {"units": ["nginx", "ssh"]}, True),
        ("", ["units", "ssh.*"], {"units": ["nginx", None]}, False),
    ],
)
def test_needs_safe(safe: str, lifelines: list[str], params: dict[str, Any], needed: bool) -> None:
    assert needs_safe(safe, lifelines, params) is needed


def test_the_manifest_tells_the_runner() -> None:
    stop, create = registry.load("service.stop").manifest("m"), registry.load("user.create").manifest("m")
    assert (create["safe"], create["lifelines"]) == ("always", [])
    assert stop["safe"] == "" and needs_safe(stop["safe"], stop["lifelines"], {"unit": "ssh"})


@pytest.mark.parametrize("options", [{"safe": "yes"}, {"lifelines": ("unit", "ssh.*")}])
def test_a_declaration_that_would_protect_nothing_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        action("test.wrong", "", kind="change", **options)


# --- files changed by hand ------------------------------------------------------------------------------------------

NOTE = "changed by hand since sf wrote it: that version will be kept in /var/lib/serverflow/kept"
NEW = File("/srv/f", "new\n")


def by_content(text: str) -> Callable[[Server], None]:
    return lambda server: setattr(server.files["/srv/f"], "content", text.encode())


def by_mode(server: Server) -> None:
    server.files["/srv/f"].mode = 0o600


@pytest.mark.parametrize(
    ("step", "hand", "kept"),
    [
        (NEW, by_content("hand\n"), b"hand\n"),
        (File("/srv/f", "new\n", secret=True), by_content("hand\n"), b"hand\n"),
        (File("/srv/f", "new\n", show_diff=False), by_content("hand\n"), b"hand\n"),
        (File("/srv/f", blob="0" * 64), by_content("hand\n"), b"hand\n"),
        (File("/srv/f", absent=True), by_content("hand\n"), b"hand\n"),
        (File("/srv/f", absent=True), by_content(""), b""),
        (Line("/srv/f", "^x=", "x=1"), by_content("hand\n"), b"hand\n"),
        (NEW, by_content("old\n"), None),
        (NEW, by_mode, None),
        (File("/srv/f", absent=True), by_mode, None),
        (File("/srv/f", "hand\n", mode=0o600), by_content("hand\n"), None),
    ],
)
def test_what_was_changed_by_hand_is_told_and_kept(
    step: Step, hand: Callable[[Server], None], kept: bytes | None
) -> None:
    server = debian({"files": {"/srv/f": "old\n"}, "written": {"/srv/f": "old\n"}})
    server.blobs["0" * 64] = b"blob"
    hand(server)
    change = step.check(FakeProbe(server))
    assert change and change.note == ("" if kept is None else NOTE)
    outcome = engine.run(doing(step), Params(), FakeProbe(server), FakeHost(server, POWERS), lambda _: None)
    assert outcome.changes == [change]
    assert server.kept == ([] if kept is None else [("/srv/f", kept)])


def test_a_link_put_there_by_hand_is_kept_as_well() -> None:
    server = debian({"links": {"/srv/f": "/etc/shells"}, "written": {"/srv/f": "old\n"}})
    change = NEW.check(FakeProbe(server))
    assert change and change.note == NOTE
    NEW.apply(FakeHost(server, POWERS))
    assert [path for path, _ in server.kept] == ["/srv/f"]


@pytest.mark.parametrize("described", [{"files": {"/srv/f": "hand\n"}}, {"written": {"/srv/f": "old\n"}}])
def test_no_word_of_what_was_never_written_or_is_gone(described: dict[str, Any]) -> None:
    server = debian(described)
    change = NEW.check(FakeProbe(server))
    assert change and change.note == ""
    NEW.apply(FakeHost(server, POWERS))
    assert server.kept == []


def test_the_version_by_hand_is_kept_before_it_is_overwritten() -> None:
    server = debian({"files": {"/srv/f": "hand\n"}, "written": {"/srv/f": "old\n"}})
    with pytest.raises(Crash):
        NEW.apply(FakeHost(server, POWERS, fuse=1))
    assert server.kept == [("/srv/f", b"hand\n")] and server.files["/srv/f"].content == b"hand\n"


def test_two_steps_of_one_run_are_no_change_by_hand() -> None:
    server = debian({"files": {"/srv/f": "old\n"}, "written": {"/srv/f": "old\n"}})
    steps = (NEW, Line("/srv/f", "^x=", "x=1"))
    outcome = engine.run(doing(*steps), Params(), FakeProbe(server), FakeHost(server, POWERS), lambda _: None)
    assert [change.note for change in outcome.changes] == ["", ""] and server.kept == []


def test_a_note_does_not_make_another_plan() -> None:
    """It would be one otherwise when the record of what was written is lost between plan and apply."""
    server = debian({"files": {"/srv/f": "hand\n"}})
    plain = engine.forecast(doing(NEW), Params(), FakeProbe(server)).plan_sha256
    server.written["/srv/f"] = "0" * 64
    assert engine.forecast(doing(NEW), Params(), FakeProbe(server)).plan_sha256 == plain
