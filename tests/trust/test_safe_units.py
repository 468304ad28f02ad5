"""Units in a safe change (remote/units.py, rollback.py): the links that enable them, who stops with them, the boot."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import armed
import boot
import layout
import messages
import reach
import safe
import units
import updates
import verdicts
from serverflow_actions.kit.host import HostError

OP = "01J0000000000000000000000A"
LATER = 1 << 60  # ticks

#: What it is told of units is kept as files: shown, UNIT/show; changed, by `start`, `stop` and the like.
SYSTEMCTL = """#!/usr/bin/python3
import os, sys
root = {root!r}
with open(root + "/calls", "a") as file:
    print(*sys.argv[1:], file=file)
words = [word for word in sys.argv[1:] if not word.startswith("--")]
verb, names = words[0], words[1:]
def known(name):
    try:
        with open(root + "/shown/" + name) as file:
            return dict(line.rstrip("\\n").split("=", 1) for line in file)
    except FileNotFoundError:
        return {{"Id": name}}
def put(name, **fields):
    found = {{**known(name), **fields}}
    with open(root + "/shown/" + name, "w") as file:
        for key, value in found.items():
            print(key, value, sep="=", file=file)
if verb == "show":
    print("\\n\\n".join("\\n".join(f"{{k}}={{v}}" for k, v in known(name).items()) for name in names))
if verb in ("start", "restart"):
    for name in names:
        put(name, ActiveState=known(name).get("Becomes", "active"))
        for other in known(name).get("Starts", "").split():
            put(other, ActiveState="active")
if verb == "stop":
    for name in names:
        put(name, ActiveState="inactive")
if verb == "is-active":
    sys.exit(0 if os.path.exists(root + "/up") else 3)
"""


class Systemd:
    """A systemctl that remembers, over folders of the test's own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.units = root / "units"
        self.wants = self.units / "multi-user.target.wants"
        for folder in (root / "shown", self.wants, root / "bin"):
            folder.mkdir(parents=True)
        for name, text in {"systemctl": SYSTEMCTL.format(root=str(root)), "systemd-run": "#!/bin/sh\n"}.items():
            (root / "bin" / name).write_text(text)
            (root / "bin" / name).chmod(0o755)

    def put(self, name: str, install: str = "", **fields: str) -> None:
        """A unit of the administrator's."""
        path = self.units / name
        path.write_text(f"[Service]\nExecStart=x\n[Install]\n{install}\n")
        told = {"Id": name, "Names": name, "FragmentPath": str(path), "ActiveState": "inactive", **fields}
        (self.root / "shown" / name).write_text("".join(f"{key}={value}\n" for key, value in told.items()))

    def set(self, name: str, **fields: str) -> None:
        shown = self.root / "shown" / name
        kept = [line for line in shown.read_text().splitlines() if line.split("=")[0] not in fields]
        shown.write_text("".join(f"{line}\n" for line in [*kept, *(f"{k}={v}" for k, v in fields.items())]))

    def active(self, name: str) -> str:
        return units.state(name)["active"]  # type: ignore[no-any-return]  # a field of the JSON that it becomes

    def calls(self) -> list[str]:
        calls = self.root / "calls"
        return calls.read_text().splitlines() if calls.exists() else []

    def tree(self) -> dict[str, Any]:
        """All links and folders."""
        return {
            str(path.relative_to(self.units)): (str(path.readlink()) if path.is_symlink() else path.lstat().st_mode)
            for path in sorted(self.units.rglob("*"))
        }


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    for name in ("safe", "ballast", "kept", "written", "applied"):
        monkeypatch.setattr(layout, name.upper(), str(tmp_path / name))
    (tmp_path / "safe").mkdir()
    monkeypatch.setattr(layout, "ENVIRONMENT", {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"})
    found = Systemd(tmp_path)
    monkeypatch.setattr(layout, "UNITS", str(found.units))
    for name, path in (("UNIT", ""), ("LINK", "sysinit.target.wants/"), ("LINK_ONCE", "multi-user.target.wants/")):
        monkeypatch.setattr(layout, f"BOOT_{name}", f"{found.units}/{path}serverflow-rollback.service")
    return found


def begin(*names: str, **footprint: Any) -> None:
    told = {"paths": [], "units": list(names), "after": [], **footprint}
    safe.begin(OP, "service.x", 60, told, key="00")


# --- links -----------------------------------------------------------------------------------------------------------


def test_links_come_back_exactly_as_they_were(systemd: Systemd) -> None:
    """Also those that `enable` would not make: by hand, for another target, to a unit elsewhere."""
    for name in ("a.service", "linked.service", "other.service"):
        systemd.put(name, "WantedBy=multi-user.target", UnitFileState="enabled")
    (systemd.units / "linked.service").rename(systemd.root / "linked.service")
    (systemd.units / "sysinit.target.wants").mkdir(mode=0o750)
    for path, target in {
        "linked.service": str(systemd.root / "linked.service"),
        "alias.service": "a.service",
        "multi-user.target.wants/linked.service": str(systemd.root / "linked.service"),
        "sysinit.target.wants/a.service": "../a.service",
        "multi-user.target.wants/other.service": "../other.service",
    }.items():
        (systemd.units / path).symlink_to(target)
    before = systemd.tree()
    begin("a.service", "linked.service")
    for path in ("linked.service", "alias.service", "multi-user.target.wants/linked.service"):
        (systemd.units / path).unlink()
    shutil.rmtree(systemd.units / "sysinit.target.wants")  # as systemd does, once it is empty
    (systemd.wants / "a.service").symlink_to(systemd.units / "a.service")
    safe.settle(OP)
    assert safe.rollback(OP) == []
    assert systemd.tree() == before
    assert "--no-ask-password daemon-reload" in systemd.calls()


def test_what_also_names_comes_back_too(systemd: Systemd) -> None:
    systemd.put("a.service", "WantedBy=multi-user.target\nAlso=b.socket c@%p.service\nAlias=z.service")
    systemd.put("b.socket", "RequiredBy=sockets.target\nAlso=a.service")
    systemd.put("c@a.service", "WantedBy=with-%i.target")
    (systemd.wants / "c@a.service").symlink_to("../c@.service")
    before = systemd.tree()
    begin("a.service")
    (systemd.wants / "c@a.service").unlink()
    for path in ("z.service", "sockets.target.requires/b.socket", "with-a.target.wants/c@a.service"):
        (systemd.units / path).parent.mkdir(exist_ok=True)
        (systemd.units / path).symlink_to("/x")
    safe.settle(OP)
    assert safe.rollback(OP) == []
    assert systemd.tree() == before


def test_links_of_another_instance_are_not_touched(systemd: Systemd) -> None:
    systemd.put("c@a.service", "WantedBy=multi-user.target", Names="c@a.service")
    begin("c@a.service")
    (systemd.wants / "c@other.service").symlink_to("../c@.service")
    safe.settle(OP)
    assert safe.rollback(OP) == []
    assert (systemd.wants / "c@other.service").is_symlink()


# --- who stops with it -----------------------------------------------------------------------------------------------


def test_who_stops_with_a_unit_runs_again(systemd: Systemd) -> None:
    systemd.put("base.service", ActiveState="active", RequiredBy="near.service idle.service", ConsistsOf="far.service")
    systemd.put("near.service", ActiveState="active", BoundBy="far.service base.service")
    systemd.put("far.service", ActiveState="active")
    systemd.put("idle.service")
    begin("base.service")
    for name in ("base.service", "near.service", "far.service"):
        systemd.set(name, ActiveState="inactive")
    safe.settle(OP)
    assert safe.rollback(OP) == []
    states = [systemd.active(f"{name}.service") for name in ("base", "near", "far", "idle")]
    assert states == ["active", "active", "active", "inactive"]


def test_more_than_can_be_brought_back_is_refused(systemd: Systemd) -> None:
    systemd.put("base.service", RequiredBy=" ".join(f"u{number}.service" for number in range(300)))
    with pytest.raises(safe.NotPending, match="too many"):
        begin("base.service")
    assert not os.path.exists(armed.folder(OP))


# --- what else systemd does ------------------------------------------------------------------------------------------


def test_what_it_cannot_run_beside_runs_again_and_what_it_started_does_not(systemd: Systemd) -> None:
    """With whoever stopped with that, and started with this, near and far."""
    systemd.put("new.service", ConflictedBy="old.service", Wants="want.service", Requires="run.service x.slice")
    systemd.put("want.service", BindsTo="far.socket gone.service", Conflicts="rival.service")
    systemd.put("run.service", ActiveState="active", Wants="behind.service")
    systemd.put("gone.service", LoadState="not-found")
    for name in ("far.socket", "behind.service", "x.slice"):
        systemd.put(name)
    systemd.put("old.service", ActiveState="active", RequiredBy="dependent.service")
    for name in ("dependent.service", "rival.service"):
        systemd.put(name, ActiveState="active")
    begin("new.service")
    started = ("new.service", "want.service", "far.socket", "behind.service", "x.slice")
    for name in started:
        systemd.set(name, ActiveState="active")
    stopped = ("old.service", "dependent.service", "rival.service")
    for name in stopped:
        systemd.set(name, ActiveState="inactive")
    safe.settle(OP)
    assert safe.rollback(OP) == []
    assert [systemd.active(name) for name in started] == [*["inactive"] * 4, "active"]
    assert [systemd.active(name) for name in stopped] == ["active"] * 3
    told = " ".join(systemd.calls())
    assert "stop -- run.service" not in told and "start -- run.service" not in told
    assert "gone.service" not in armed_units(systemd)


def armed_units(systemd: Systemd) -> set[str]:
    """What was ever told to stop or start."""
    return {call.split()[-1] for call in systemd.calls() if " start " in call or " stop " in call}


def test_what_the_way_back_starts_along_is_stopped_again(systemd: Systemd) -> None:
    """It was wanted before too, and did not run."""
    systemd.put("base.service", ActiveState="active", Wants="idle.service", Starts="idle.service")
    systemd.put("idle.service")
    begin("base.service")
    systemd.set("base.service", ActiveState="inactive")
    safe.settle(OP)
    assert safe.rollback(OP) == []
    assert (systemd.active("base.service"), systemd.active("idle.service")) == ("active", "inactive")


def test_behind_a_target_that_is_reached_nothing_is_taken_for_the_changes(systemd: Systemd) -> None:
    systemd.put("new.service", Requires="sysinit.target later.target")
    systemd.put("sysinit.target", ActiveState="active", Wants="first-boot.service")
    systemd.put("later.target", Wants="late.service")
    for name in ("first-boot.service", "late.service"):
        systemd.put(name)
    assert units.started_with(["new.service"]) == ["later.target", "late.service"]


def test_a_rival_that_does_not_come_back_is_told(systemd: Systemd) -> None:
    systemd.put("new.service", Conflicts="old.service")
    systemd.put("old.service", ActiveState="active", Becomes="failed")
    begin("new.service")
    systemd.set("old.service", ActiveState="inactive")
    safe.settle(OP)
    assert safe.rollback(OP) == ["old.service was active, and is failed now"]


def test_at_boot_what_others_want_too_is_left_alone(systemd: Systemd) -> None:
    systemd.put("new.service", Wants="want.service")
    systemd.put("want.service")
    begin("new.service")
    systemd.set("want.service", ActiveState="active")
    safe.settle(OP)
    assert safe.rollback(OP, at_boot=True) == []
    assert systemd.active("want.service") == "active"


# --- what would cut the server off -----------------------------------------------------------------------------------

RUNS = {"ActiveState": "active"}


def stage(systemd: Systemd) -> None:
    """Units that would take SSH, our firewall or another along."""
    for name, fields in {
        "ssh.service": {**RUNS, "Names": "ssh.service sshd.service other-name.service"},
        "serverflow-firewall.service": RUNS,
        "nftables.service": {**RUNS, "ConsistsOf": "serverflow-firewall.service"},
        "systemd-timesyncd.service": RUNS,
        "base.service": {**RUNS, "RequiredBy": "between.service"},
        "between.service": {"ConsistsOf": "ssh.service"},
        "rival.service": {"Conflicts": "base.service"},
        "wants-rival.service": {"Wants": "rival.service"},
        "wants-network.service": {"Wants": "NetworkManager.service"},
        "NetworkManager.service": {},
        "wants-rules.service": {"Wants": "ferm.service"},
        "ferm.service": {},
        "under-ours.service": {**RUNS, "ConsistsOf": "serverflow-firewall.service"},
        "under-rules.service": {**RUNS, "ConsistsOf": "nftables.service"},
        "under-bus.service": {**RUNS, "RequiredBy": "dbus.service"},
        "dbus.service": RUNS,
        "chrony.service": {"Conflicts": "systemd-timesyncd.service shutdown.target"},
        "other-name.service": {"Id": "ssh.service", "Names": "ssh.service sshd.service other-name.service"},
        "plain.service": RUNS,
    }.items():
        systemd.put(name, **fields)


@pytest.mark.parametrize(
    ("verb", "unit", "why"),
    [
        ("stop", "ssh.service", "ssh.service keeps this server reachable"),
        ("restart", "ssh.service", "ssh.service keeps this server reachable"),
        ("start", "ssh.socket", "ssh.socket keeps this server reachable"),
        ("enable", "ssh.socket", "ssh.socket keeps this server reachable"),
        ("disable", "ufw.service", "ufw.service keeps this server reachable"),
        ("stop", "tailscaled.service", "keeps this server reachable"),
        ("stop", "other-name.service", "keeps this server reachable"),
        ("stop", "serverflow-firewall.service", "keeps this server reachable"),
        ("start", "serverflow-firewall.service", "keeps this server reachable"),
        ("stop", "base.service", "ssh.service would stop"),
        ("restart", "base.service", "ssh.service would stop"),
        ("try-restart", "base.service", "ssh.service would stop"),
        ("start", "rival.service", "ssh.service would stop"),
        ("restart", "rival.service", "ssh.service would stop"),
        ("enable", "rival.service", "ssh.service would stop"),
        ("start", "wants-rival.service", "ssh.service would stop"),
        ("start", "wants-network.service", "NetworkManager.service would start"),
        ("stop", "under-ours.service", "serverflow-firewall.service would stop"),
    ],
)
def test_what_cuts_the_server_off_is_done_in_a_safe_change_only(
    systemd: Systemd, verb: str, unit: str, why: str
) -> None:
    stage(systemd)
    reach.check(verb, unit, armed=True)
    with pytest.raises(HostError, match=why):
        reach.check(verb, unit, armed=False)


@pytest.mark.parametrize(
    ("verb", "unit", "why"),
    [
        *((verb, "nftables.service", "by hand") for verb in ("start", "stop", "restart", "reload", "enable")),
        ("start", "shorewall6.service", "by hand"),
        ("start", "wants-rules.service", "ferm.service is a firewall"),
        ("stop", "under-rules.service", "nftables.service is a firewall"),
        ("stop", "under-bus.service", "dbus.service would stop"),
        ("stop", "dbus.service", "keeps this server reachable"),
        ("disable", "systemd-logind.service", "keeps this server reachable"),
    ],
)
def test_what_cannot_be_brought_back_is_refused(systemd: Systemd, verb: str, unit: str, why: str) -> None:
    stage(systemd)
    for safely in (True, False):
        with pytest.raises(HostError, match=why):
            reach.check(verb, unit, armed=safely)


@pytest.mark.parametrize(
    ("verb", "unit"),
    [
        ("start", "chrony.service"),
        ("reload", "ssh.service"),
        ("restart", "systemd-journald.service"),
        ("restart", "plain.service"),
        ("stop", "plain.service"),
        ("reset-failed", "nftables.service"),
    ],
)
def test_what_cuts_nothing_off_is_done(systemd: Systemd, verb: str, unit: str) -> None:
    stage(systemd)
    reach.check(verb, unit, armed=False)


# --- compared at the end ---------------------------------------------------------------------------------------------


def test_a_unit_that_does_not_stay_up_is_told(systemd: Systemd) -> None:
    systemd.put("dies.service", ActiveState="active", Becomes="failed")
    begin("dies.service")
    systemd.set("dies.service", ActiveState="inactive")
    safe.settle(OP)
    assert safe.rollback(OP) == ["dies.service was active, and is failed now"]


def test_a_unit_that_is_not_enabled_as_before_is_told(systemd: Systemd) -> None:
    systemd.put("a.service", UnitFileState="enabled")
    begin("a.service")
    systemd.set("a.service", UnitFileState="masked")
    safe.settle(OP)
    assert safe.rollback(OP) == ["a.service was enabled for the next boot, and is masked now"]


# --- at boot ---------------------------------------------------------------------------------------------------------


def test_at_boot_the_start_of_what_did_not_run_is_taken_back(systemd: Systemd) -> None:
    """It is inactive then, and its start is in systemd's queue."""
    systemd.put("late.service")
    systemd.put("runs.service", ActiveState="active")
    begin("late.service", "runs.service")
    systemd.set("runs.service", ActiveState="inactive")
    safe.settle(OP)
    assert safe.rollback(OP, at_boot=True) == []
    calls = [call.removeprefix("--no-ask-password ") for call in systemd.calls()]
    assert "stop --no-block -- late.service" in calls and "start --no-block -- runs.service" in calls
    assert not any(call.startswith("stop") and "runs" in call for call in calls)


def test_what_is_not_mounted_yet_is_put_back_by_a_later_attempt(systemd: Systemd) -> None:
    """All else is put back at once."""
    home, near = systemd.root / "home/bob", systemd.root / "near"
    home.mkdir(parents=True)
    for path in (home / "keys", near):
        path.write_text("old")
    begin(paths=[str(home / "keys"), str(home / "new"), str(near)])
    for path in (home / "keys", home / "new", near):
        path.write_text("changed")
    safe.settle(OP)
    home.parent.rename(systemd.root / "unmounted")
    told: list[list[str]] = []
    with pytest.raises(OSError, match="not there yet"):
        safe.rollback(OP, told.append, at_boot=True)
    assert (armed.pending(), told, near.read_text()) == (OP, [], "old")
    (systemd.root / "unmounted").rename(home.parent)
    assert safe.rollback(OP, told.append) == []
    assert (told, [path.name for path in home.iterdir()]) == ([[]], ["keys"])
    assert (home / "keys").read_text() == "old"


def test_a_folder_that_is_gone_for_good_holds_nothing_up_later(systemd: Systemd) -> None:
    home = systemd.root / "home"
    home.mkdir()
    (home / "keys").write_text("old")
    begin(paths=[str(home / "keys")])
    safe.settle(OP)
    shutil.rmtree(home)
    with pytest.raises(OSError, match="not there yet"):
        safe.rollback(OP, at_boot=True)
    (problem,) = safe.rollback(OP)
    assert "keys" in problem and armed.pending() == ""


def test_the_kernels_values_are_systemd_sysctls_to_set_at_boot(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they cannot be written; a later attempt says so."""

    def read_only(_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    begin(paths=["/proc/sys/kernel/panic"])
    safe.settle(OP)
    monkeypatch.setattr("restore._write_value", read_only)
    with monkeypatch.context() as patch:
        patch.setattr(verdicts, "end", lambda _: None)
        assert safe.rollback(OP, at_boot=True) == []
    Path(armed.folder(OP), "journal").write_bytes(b"000")
    assert safe.rollback(OP) == ["/proc/sys/kernel/panic: Read-only file system"]


@pytest.mark.parametrize("up", [True, False])
def test_only_before_basic_target_it_is_the_boot(systemd: Systemd, up: bool) -> None:
    if up:
        (systemd.root / "up").touch()
    assert units.is_booting() is not up


# --- the boot unit ---------------------------------------------------------------------------------------------------


def test_another_text_of_the_boot_unit_is_replaced_and_its_link_made_anew(systemd: Systemd) -> None:
    Path(layout.BOOT_UNIT).write_text("[Unit]\n")
    Path(layout.BOOT_LINK_ONCE).symlink_to(layout.BOOT_UNIT)
    assert not boot.is_kept()
    boot.keep()
    assert Path(layout.BOOT_UNIT).read_text() == boot.TEXT
    assert systemd.calls() == ["--no-ask-password daemon-reload", "--no-ask-password reenable --quiet " + boot.NAME]
    Path(layout.BOOT_LINK_ONCE).unlink()
    assert not boot.is_kept()
    Path(layout.BOOT_LINK).parent.mkdir()
    Path(layout.BOOT_LINK).symlink_to(layout.BOOT_UNIT)
    boot.keep()
    assert len(systemd.calls()) == 2, "there is nothing to do"


# --- another runner --------------------------------------------------------------------------------------------------


def test_no_bundle_is_taken_while_a_change_waits(systemd: Systemd) -> None:
    updates._not_while_a_change_waits()
    begin()
    with pytest.raises(messages.Denied) as caught:
        updates._not_while_a_change_waits()
    assert caught.value.code == "pending-change"


def of_version_1(path: Path) -> None:
    """As the runner of before has left it, with the change made."""
    folder = Path(armed.folder(OP))
    folder.mkdir()
    data = b"old"
    (folder / "0").write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    common = {"mode": 0o644, "uid": 0, "gid": 0, "mtime": 981_200_000_000_000_000}
    paths = [
        {"path": str(path), "type": "file", "copy": str(folder / "0"), "sha256": sha256, **common},
        {"path": f"{path}.new", "type": "absent"},
    ]
    manifest = {"v": 1, "op_id": OP, "action": "server.rekey", "paths": paths, "new_users": [], "after": ["reload-ssh"]}
    (folder / "manifest").write_text(json.dumps({**manifest, "taken_at": 0}))
    for verdict in ("confirmed", "rolling-back"):
        (folder / f"is-{verdict}").write_text(verdict)
    (folder / "applied").write_text("12345")
    (folder / "deadline").write_text("0")
    Path(layout.SAFE, "pending").write_text(OP)
    path.write_text("changed")
    Path(f"{path}.new").write_text("changed")


def test_what_an_older_runner_armed_goes_back(systemd: Systemd) -> None:
    path = systemd.root / "key"
    of_version_1(path)
    assert armed.pending_key() == (OP, b"")
    assert (armed.status() or {})["paths"] == [str(path), f"{path}.new"]
    assert safe.rollback(OP) == []
    found = path.stat()
    assert (path.read_text(), found.st_mode & 0o777, int(found.st_mtime)) == ("old", 0o644, 981_200_000)
    assert not Path(f"{path}.new").exists() and armed.pending() == ""


def test_what_an_older_runner_armed_is_confirmed(systemd: Systemd) -> None:
    path = systemd.root / "key"
    of_version_1(path)
    with pytest.raises(safe.NotProved):
        safe.confirm(OP, 12345)
    safe.confirm(OP, LATER)
    assert path.read_text() == "changed" and armed.pending() == ""
