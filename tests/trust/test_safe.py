"""Safe changes (remote/safe.py and what is below it): armed, applied, confirmed or put back once, whatever breaks."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import armed
import arming
import layout
import restore
import safe
import snapshots
import store
import verdicts
import written

OP, OTHER = "01J0000000000000000000000A", "01J0000000000000000000000B"
LATER = 1 << 60  # ticks


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The server's folders somewhere else, and systemd's programs that only say yes."""
    for name in ("safe", "etc", "bin"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(layout, "SAFE", str(tmp_path / "safe"))
    for name in ("ballast", "kept", "written", "applied"):
        monkeypatch.setattr(layout, name.upper(), str(tmp_path / name))
    monkeypatch.setattr(layout, "ENVIRONMENT", {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"})
    for program in ("systemd-run", "systemctl"):
        put_program(tmp_path, program, "exit 0")
    (tmp_path / "etc/key").write_text("old")
    return tmp_path / "etc"


def put_program(folder: Path, name: str, script: str) -> None:
    path = folder / "bin" / name
    path.write_text(f"#!/bin/sh\necho $0 $* >>{folder}/calls\n{script}\n")
    path.chmod(0o755)


def change(etc: Path, op_id: str = OP, apply: Callable[[], object] | None = None) -> None:
    paths = [str(etc / "key"), str(etc / "new")]
    safe.change(op_id, "server.rekey", paths, ["reload-ssh"], 60, apply or (lambda: write_both(etc)))


def write_both(etc: Path) -> None:
    (etc / "key").write_text("changed")
    (etc / "new").write_text("changed")


def content(etc: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in etc.iterdir()}


def kept(op_id: str = OP) -> list[str]:
    """What is left of a change."""
    return sorted(os.listdir(armed.folder(op_id))) if os.path.isdir(armed.folder(op_id)) else []


def test_what_was_rolled_back_is_not_rolled_back_again(etc: Path) -> None:
    """An operation of long ago, whose paths belong to another one that is in use."""
    change(etc)
    assert safe.rollback(OP) == []
    assert content(etc) == {"key": "old"}
    change(etc, OTHER)
    safe.confirm(OTHER, LATER)
    for op_id, verdict in ((OP, None), (OTHER, "confirmed")):
        with pytest.raises(safe.Unsafe, match=verdict):
            safe.rollback(op_id)
        with pytest.raises(safe.Unsafe):
            safe.rollback(op_id.lower())
        assert content(etc) == {"key": "changed", "new": "changed"}
    assert kept(OTHER) == ["verdict"]


def test_nor_at_once(etc: Path) -> None:
    change(etc)
    safe.rollback(OP)
    write_both(etc)
    with pytest.raises(safe.Decided, match="rolled back"):
        safe.rollback(OP)
    with pytest.raises(safe.Decided, match="rolled back"):
        safe.confirm(OP, LATER)
    assert content(etc) == {"key": "changed", "new": "changed"}
    assert kept() == ["verdict"]


def steps() -> list[str]:
    return [str(step) for step in json.loads((Path(armed.folder(OP)) / "manifest").read_text())["steps"]]


def test_a_rollback_that_is_cut_off_at_any_step_goes_on(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step of the journal's own list says that it begins, so each can be cut off."""

    class Killed(BaseException):
        pass

    change(etc)
    todo = [*steps(), "over"]
    assert [step.split(" ")[0] for step in todo] == ["path", "path", "after", "receipt", "over"]
    for step in todo:
        begun: list[str] = []

        def audit(event: str, name: object, *_: object, step: str = step, begun: list[str] = begun) -> None:
            if event == "serverflow.rollback":
                begun.append(str(name))
                if name == step:
                    raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(sys, "audit", audit)
            with pytest.raises(Killed):
                safe.rollback(OP)
        assert begun[-1] == step and armed.pending() == OP
    assert safe.rollback(OP) == []
    assert (content(etc), armed.pending()) == ({"key": "old"}, "")


@pytest.mark.parametrize("step", ["end", "clear"])
def test_a_rollback_that_is_cut_off_at_its_end_goes_on(etc: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    change(etc)
    with monkeypatch.context() as patch:
        patch.setattr(verdicts, step, killed)
        with pytest.raises(Killed):
            safe.rollback(OP)
    assert armed.pending() == OP
    assert safe.rollback(OP) == []
    assert (content(etc), armed.pending()) == ({"key": "old"}, "")


def test_what_somebody_else_changed_meanwhile_is_kept_and_told(etc: Path) -> None:
    change(etc)
    for name in ("key", "new"):
        (etc / name).write_text("an administrator's")
    problems = safe.rollback(OP)
    assert content(etc) == {"key": "old"}
    assert len(problems) == 2 and all("changed by somebody else meanwhile" in problem for problem in problems)
    kept_aside = sorted(Path(layout.KEPT).iterdir())
    assert [path.read_text() for path in kept_aside] == ["an administrator's"] * 2


@pytest.mark.parametrize("theirs", ["folder", "pipe", "hard link", "huge"])
def test_whatever_somebody_else_puts_there_does_not_keep_it_from_going_back(etc: Path, theirs: str) -> None:
    change(etc)
    path = etc / "key"
    if theirs != "hard link":
        path.unlink()
    if theirs == "folder":
        (path / "deep").mkdir(parents=True)
    elif theirs == "pipe":
        os.mkfifo(path)
    elif theirs == "huge":
        path.touch()
        os.truncate(path, 1 << 40)
    else:
        path.write_text("theirs")
        os.link(path, etc.parent / "elsewhere")
    problems = safe.rollback(OP)
    assert (content(etc), armed.pending()) == ({"key": "old"}, "")
    assert len(problems) == 1 and "is kept as" in problems[0]
    assert len(list(Path(layout.KEPT).iterdir())) == 1


def test_a_folder_that_cannot_be_removed_keeps_no_change_waiting(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (etc / "home").mkdir()
    safe.begin(OP, "user.remove", 60, {"paths": [], "aside": [str(etc / "home")], "after": []})
    os.rename(etc / "home", arming.aside_of(OP, str(etc / "home")))
    safe.settle(OP)

    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, "something is mounted in it")

    with monkeypatch.context() as patch:
        patch.setattr(restore, "put_back", busy)
        assert ["mounted" in left for left in safe.confirm(OP, LATER)] == [True]
    assert armed.pending() == ""


def test_what_is_going_back_already_cannot_wait_for_confirmation(etc: Path) -> None:
    safe.begin(OP, "user.add-key", 60, {"paths": [str(etc / "key")], "after": []})
    verdicts.decide(OP, "rolling-back")
    with pytest.raises(safe.CannotArm):
        safe.settle(OP)


def test_whoever_asks_late_hears_how_it_ended(etc: Path) -> None:
    """The answer to a confirmation was lost, and others have made changes since."""
    change(etc)
    safe.confirm(OP, LATER)
    change(etc, OTHER)
    safe.rollback(OTHER)
    change(etc, OP[:-1] + "C")
    safe.confirm(OP, None)
    with pytest.raises(safe.Decided, match="confirmed"):
        safe.rollback(OP)
    with pytest.raises(safe.Decided, match="rolled back"):
        safe.confirm(OTHER, LATER)


def test_what_counts_only_once_it_is_confirmed(etc: Path) -> None:
    """The record of what was written, and the folder that was moved away."""
    (etc / "home").mkdir()
    (etc / "home/file").write_text("x")
    away = arming.aside_of(OP, str(etc / "home"))
    for op_id, verdict in ((OP, "rolled back"), (OTHER, "confirmed")):
        away = arming.aside_of(op_id, str(etc / "home"))
        safe.begin(op_id, "user.remove", 60, {"paths": [], "aside": [str(etc / "home")], "after": []}, key="00")
        assert armed.pending_key() == (op_id, b"\0")
        os.rename(etc / "home", away)
        safe.settle(op_id, {"written": {"/etc/x": "a" * 64}, "base": None})
        if verdict == "confirmed":
            safe.confirm(op_id, LATER)
        else:
            safe.rollback(op_id)
        assert (etc / "home/file").exists() == (verdict == "rolled back")
        assert written.known() == ({} if verdict == "rolled back" else {"/etc/x": "a" * 64})
        assert not os.path.exists(away)


# --- arming ----------------------------------------------------------------------------------------------------------


def test_without_a_timer_nothing_is_changed_and_nothing_left(etc: Path) -> None:
    put_program(etc.parent, "systemd-run", "echo no units here >&2; exit 1")
    with pytest.raises(safe.CannotArm, match="no units here"):
        change(etc)
    assert (content(etc), armed.pending(), kept()) == ({"key": "old"}, "", [])
    put_program(etc.parent, "systemd-run", "exit 0")
    change(etc, OTHER)


@pytest.mark.parametrize("name", ["manifest", "deadline", "is-confirmed", "pending"])
def test_without_room_to_arm_nothing_is_changed_and_nothing_left(
    etc: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write = store.write_file

    def full(path: str, *rest: Any, **more: Any) -> None:
        if os.path.basename(path) == name:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, *rest, **more)

    monkeypatch.setattr(store, "write_file", full)
    with pytest.raises(safe.CannotArm, match="No space left"):
        change(etc)
    assert (content(etc), armed.pending(), kept()) == ({"key": "old"}, "", [])


def test_a_timer_that_takes_half_of_its_time_to_start_is_none(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be over before the change waits for it."""
    ticking = iter(range(0, 1000, 31))
    monkeypatch.setattr("arming.time.monotonic", lambda: next(ticking))
    with pytest.raises(safe.CannotArm, match="too slow"):
        change(etc)
    assert (content(etc), armed.pending(), kept()) == ({"key": "old"}, "", [])
    assert f"systemctl stop serverflow-rollback-{OP.lower()}.timer" in (etc.parent / "calls").read_text()


def test_one_change_at_a_time(etc: Path) -> None:
    change(etc)
    with pytest.raises(safe.NotPending, match=OP):
        change(etc, OTHER)
    assert armed.pending() == OP and kept(OTHER) == []


def raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_copies_of_changes_that_never_began_do_not_stay(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that was killed between the snapshot and the timer."""
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        patch.setattr(arming, "arm", raise_interrupt)
        change(etc)
    assert "0" in kept()
    safe.tidy()
    assert kept() == []


# --- a change that breaks --------------------------------------------------------------------------------------------

BREAKS: dict[str, Exception] = {
    "a program": subprocess.CalledProcessError(1, ["sshd"], stderr=b"sshd says no"),
    "the disk": OSError(errno.ENOSPC, "sshd says no"),
    "anything": RuntimeError("sshd says no"),
}


@pytest.mark.parametrize("error", BREAKS.values(), ids=BREAKS)
def test_what_breaks_in_the_middle_is_put_back_at_once(etc: Path, error: Exception) -> None:
    def apply() -> None:
        write_both(etc)
        raise error

    with pytest.raises(safe.Undone, match=r"sshd says no.*all was put back"):
        change(etc, apply=apply)
    assert (content(etc), armed.pending(), kept()) == ({"key": "old"}, "", ["verdict"])


def test_whoever_was_too_slow_is_told_so(etc: Path) -> None:
    """The deadline comes while the change is made."""
    with pytest.raises(safe.Undone, match="rolled back meanwhile"):
        change(etc, apply=lambda: safe.rollback(OP))
    assert (content(etc), armed.pending()) == ({"key": "old"}, "")


# --- confirming ------------------------------------------------------------------------------------------------------


def test_only_a_connection_that_began_later_confirms(etc: Path) -> None:
    early = []

    def apply() -> None:
        write_both(etc)
        with pytest.raises(safe.NotProved, match="not in place"):
            safe.confirm(OP, LATER)
        early.append(safe._ticks())

    change(etc, apply=apply)
    for began in (None, 0, *early):
        with pytest.raises(safe.NotProved):
            safe.confirm(OP, began)
    assert armed.pending() == OP
    safe.confirm(OP, safe._ticks() + 1)
    assert armed.pending() == "" and content(etc) == {"key": "changed", "new": "changed"}
    safe.confirm(OP, None)  # again: it is so already


# --- no room ---------------------------------------------------------------------------------------------------------


def test_going_back_takes_no_room(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(etc)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "write_file", full)
    assert safe.rollback(OP) == []
    assert content(etc) == {"key": "old"}


def test_what_finds_no_room_at_all_is_tried_again(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file system, which is full: the ballast does not help, so it goes on waiting."""
    (etc.parent / "ballast").write_text("room")
    change(etc)
    told: list[list[str]] = []
    with monkeypatch.context() as patch:

        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "rename", full)
        with pytest.raises(OSError, match="No space left"):
            safe.rollback(OP, told.append)
    assert (armed.pending(), told) == (OP, [])
    assert not (etc.parent / "ballast").exists()
    assert safe.rollback(OP, told.append) == []
    assert (content(etc), armed.pending(), told) == ({"key": "old"}, "", [[]])


def test_a_receipt_that_cannot_be_written_is_tried_again(etc: Path) -> None:
    def unsigned(_: list[str]) -> None:
        raise OSError(errno.ENOKEY, "the identity key cannot be used")

    change(etc)
    with pytest.raises(OSError, match="identity key"):
        safe.rollback(OP, unsigned)
    assert (content(etc), armed.pending()) == ({"key": "old"}, OP)
    assert safe.rollback(OP) == []


def test_what_somebody_else_wrote_into_a_run_that_never_settled_is_kept(etc: Path) -> None:
    def breaks() -> None:
        (etc / "key").write_text("ours, or an administrator's")
        raise RuntimeError("the power went")

    with pytest.raises(safe.Undone, match="the power went"):
        change(etc, apply=breaks)
    assert content(etc) == {"key": "old"}
    assert [path.read_text() for path in Path(layout.KEPT).iterdir()] == ["ours, or an administrator's"]


@pytest.mark.parametrize(
    ("states", "again"),
    [("inactive\\ninactive", True), ("active\\ninactive", False), ("inactive\\nactivating", False)],
)
def test_a_countdown_that_somebody_stopped_goes_on(etc: Path, states: str, again: bool) -> None:
    change(etc)
    calls = etc.parent / "calls"
    calls.unlink()
    put_program(etc.parent, "systemctl", f"printf '{states}\\n'; exit 3")
    arming.count_on(OP)
    (asked, *started) = calls.read_text().splitlines()
    assert f"is-active serverflow-rollback-{OP.lower()}.timer" in asked
    assert bool(started) == again
    assert not started or f"rollback {OP}" in started[0]


def test_a_change_that_waits_no_more_is_not_counted(etc: Path) -> None:
    change(etc)
    safe.rollback(OP)
    (etc.parent / "calls").unlink()
    put_program(etc.parent, "systemctl", "printf 'inactive\\ninactive\\n'; exit 3")
    arming.count_on(OP)
    assert not (etc.parent / "calls").exists()


def test_a_folder_of_somebody_else_on_another_file_system_stays_beside(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def move(path: str, to: str, beside: bool = False) -> None:
        if not beside:
            raise OSError(errno.EXDEV, "another file system")
        os.rename(path, f"{os.path.dirname(path)}/{to}")

    monkeypatch.setattr(snapshots, "move", move)
    (etc / "folder/deep").mkdir(parents=True)
    kept_as = written.move_aside(str(etc / "folder"))
    assert not (etc / "folder").exists() and Path(kept_as, "deep").is_dir()
    with pytest.raises(OSError, match="neither a file nor a link"):
        written.keep_aside(kept_as)


def test_what_is_kept_aside_is_bounded_in_bytes(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "_KEPT_BYTES", 3 << 20)
    (etc / "key").write_bytes(os.urandom(1 << 20))
    names = [written.keep_aside(str(etc / "key")) for _ in range(6)]
    left = {str(path) for path in Path(layout.KEPT).iterdir()}
    assert names[-1] in left and len(left) <= 3
