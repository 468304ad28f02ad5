"""Putting everything back, step by step: each is safe to repeat, and a journal says which are done.

The steps are laid down when the change is armed, so that nothing has to be decided, and no room found, on the way back.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, Callable

import accounts
import layout
import restore
import snapshots
import store
import units
import written

#: What is done after files were put back, by name: a snapshot holds data, never commands.
_AFTER = ("daemon-reload", "reload-ssh")
_RELOAD = re.compile(r"reload:([A-Za-z0-9][A-Za-z0-9:_.@\\-]{0,200}\.(?:service|socket))\Z", re.ASCII)
_DONE, _FAILED = b"1", b"2"
#: So long a unit that was started has to stay up: systemctl says yes to some that end at once.
_STAYS_UP_S = 1

Then = Callable[[list[str]], object]


class TooEarly(OSError):
    """What has to be put back lies on a file system that is not there yet."""


def is_known(after: str) -> bool:
    """Whether this is something that can be done once the files are back."""
    return after in _AFTER or _RELOAD.match(after) is not None


def reloaded(after: str) -> str:
    """The unit that this tells to read its files again; "" for none."""
    found = _RELOAD.match(after)
    return found.group(1) if found else ""


def applied_of(data: bytes) -> dict[str, Any]:
    """`ticks` when all was applied, and what then stood at `paths`. Runners before this one kept the ticks alone."""
    value = json.loads(data)
    return value if isinstance(value, dict) else {"ticks": value}


def steps(manifest: dict[str, Any]) -> list[str]:
    """In order. Units end before the files that say how they end are taken away, and begin after all is back."""
    entries = manifest["paths"]
    order = [e for e in entries if e["type"] == "aside"] + [e for e in entries if e["type"] == "directory"]
    order += [e for e in reversed(entries) if e["type"] in ("file", "link", "value")]
    order += [e for e in reversed(entries) if e["type"] in ("absent", "tree")]
    kept = manifest["units"]
    after = manifest["after"]
    if kept and "daemon-reload" not in after:
        after = ["daemon-reload", *after]  # for the links that enable them
    return [
        *(["stop the run"] if manifest["run"] else []),
        *(f"halt {unit['name']}" for unit in kept if not unit.get("dependent") or not _ran(unit)),
        *(f"path {entry['path']}" for entry in order),
        # Once more: what was put back in them has moved their times on.
        *(f"dress {entry['path']}" for entry in entries if entry["type"] == "directory"),
        *(f"after {name}" for name in after),
        *(f"unit {unit['name']}" for unit in sorted(kept, key=_ran, reverse=True)),
        *(["compare the units"] if kept else []),
        "receipt",
    ]


def _ran(unit: dict[str, Any]) -> bool:
    return unit["active"] in units.RUNNING


class Rollback:
    """One attempt. `at_boot` says that systemd is on its way up; `own` that whoever asks is the run itself."""

    def __init__(self, folder: str, manifest: dict[str, Any], then: Then | None, *, at_boot: bool, own: bool) -> None:
        self._folder = folder
        self._manifest = manifest
        self._then = then
        self._at_boot = at_boot
        self._own = own
        self._entries = {entry["path"]: entry for entry in manifest["paths"]}
        self._units = {unit["name"]: unit for unit in manifest["units"]}
        applied = store.read_file(f"{folder}/applied") or b""
        #: Whether the run ended well, and so has said what it wrote.
        self._is_settled = bool(applied)
        self._applied: dict[str, str] = applied_of(applied or b"{}").get("paths", {})
        #: What an attempt before this one has kept aside: by now its step finds nothing to keep.
        self._kept: list[str] = json.loads(store.read_file(f"{folder}/kept") or b"[]")
        self.problems = list(self._kept)
        self._has_started = False

    def carry_out(self) -> None:
        """All steps that the journal does not have as done. Raises OSError when there is no room to go on, and TooEarly
        when all is done but what has to wait for its file system.
        """
        late: list[TooEarly] = []
        descriptor = os.open(f"{self._folder}/journal", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            done = os.pread(descriptor, len(self._manifest["steps"]), 0)
            for number, step in enumerate(self._manifest["steps"]):
                if done[number : number + 1] == _DONE:
                    continue
                if step == "receipt" and late:
                    raise late[0]
                sys.audit("serverflow.rollback", step)
                told = len(self.problems)
                try:
                    self._do(*step.split(" ", 1))
                except TooEarly as error:
                    late.append(error)
                    continue
                mark = _DONE if len(self.problems) == told else _FAILED
                os.pwrite(descriptor, mark, number)
                os.fsync(descriptor)
            sys.audit("serverflow.rollback", "over")
        finally:
            os.close(descriptor)

    def _do(self, verb: str, name: str = "") -> None:
        if verb == "stop":
            self._stop_run()
        elif verb in ("path", "dress"):
            self._path(self._entries[name])
        elif verb == "after":
            self._after(name)
        elif verb == "halt":
            self._halt(self._units[name])
        elif verb == "unit":
            self._unit(self._units[name])
        elif verb == "compare":
            self._compare()
        elif self._then:
            self._then(self.problems)

    def _stop_run(self) -> None:
        """Nothing may write any more: the worker ends with the executor, whose end is waited for."""
        if not self._own and not self._at_boot:
            self._systemctl("stop", "--", f"serverflow-op-{self._manifest['op_id'].lower()}.service", quiet=True)

    def _path(self, entry: dict[str, Any]) -> None:
        path = entry["path"]
        if self._at_boot and entry["type"] == "value":
            return  # systemd-sysctl.service comes after us, and reads the files that are back by then
        if self._at_boot and entry.get("had_folder") and not os.path.isdir(os.path.dirname(path)):
            raise TooEarly(errno.ENOENT, f"{path}: its folder is not there yet")
        if path == layout.PASSWD and entry["type"] == "file" and not self._at_boot:
            # Whoever gets the number next would own them.
            self.problems += accounts.end_processes(accounts.gone(entry["copy"]))
        if self._is_others(entry):
            self._make_way(path)
        elif not self._is_settled and self._is_unknown(entry):
            # Ours as far as it came, or somebody else's of that time: nobody can tell, so nothing is lost.
            with contextlib.suppress(OSError, snapshots.CannotKeep):
                written.keep_aside(path)
        try:
            with_room(lambda: restore.put_back(entry))
        except OSError as error:
            if is_full(error):
                raise
            self.problems.append(f"{path}: {error.strerror or error}")

    def _make_way(self, path: str) -> None:
        """Whatever somebody else has put there is kept where that can be done. It keeps nobody from going back."""
        try:
            kept = written.move_aside(path)
        except (OSError, snapshots.CannotKeep) as error:
            self._tell_kept(f"{path} was changed by somebody else meanwhile; that version could not be kept: {error}")
        else:
            self._tell_kept(f"{path} was changed by somebody else meanwhile; that version is kept as {kept}")

    def _tell_kept(self, told: str) -> None:
        """Not forgotten in a crash either, as far as there is room to write it down."""
        self._kept.append(told)
        self.problems.append(told)
        with contextlib.suppress(OSError):
            store.write_file(f"{self._folder}/kept", json.dumps(self._kept).encode())

    def _is_others(self, entry: dict[str, Any]) -> bool:
        if entry["type"] == "aside":
            return os.path.lexists(entry["aside"]) and os.path.lexists(entry["path"])
        if entry["path"] not in self._applied or entry["type"] in ("value", "tree", "directory"):
            return False
        ours = ("", snapshots.before(entry), self._applied[entry["path"]])
        return snapshots.fingerprint(entry["path"]) not in ours

    def _is_unknown(self, entry: dict[str, Any]) -> bool:
        """A file, neither as it was before nor gone, of a run that never said what it has written."""
        found = snapshots.fingerprint(entry["path"])
        return entry["type"] in ("file", "absent") and found.startswith("file ") and found != snapshots.before(entry)

    def _after(self, name: str) -> None:
        found = _RELOAD.match(name)
        if name == "daemon-reload":
            self._systemctl("daemon-reload")
        elif found or name == "reload-ssh":
            # At boot sshd waits for the rollback; `reload` would wait for sshd, and both for ever.
            unit = found.group(1) if found else "ssh.service"
            if units.state(unit)["active"] not in units.RUNNING:
                return  # it may be gone with its file, and then systemctl fails
            self._systemctl("try-reload-or-restart", *self._no_block, "--", unit)
        else:
            self.problems.append(f"nobody knows how to do {name}")

    def _halt(self, unit: dict[str, Any]) -> None:
        """What the change has started, while the files that say how it ends are still there."""
        now = units.state(unit["name"])
        if unit.get("dependent") and (self._at_boot or now["active"] == unit["active"]):
            return  # after a restart it is somebody else who wants it
        if not unit.get("dependent") and not unit["enabled"] and now["enabled"] == "enabled":
            # There was no such unit, so nobody could know which links would enable it.
            self._systemctl("disable", "--quiet", "--", unit["name"])
        if _ran(unit):
            return
        runs = now["active"] in units.RUNNING
        if runs or self._at_boot:
            # At boot its start may be waiting for its turn, and does not go away with the link that asked for it.
            self._systemctl("stop", *self._no_block, "--", unit["name"], quiet=not runs)
        if unit["active"] != "failed":
            # It did not start, or was stopped while it did.
            self._systemctl("reset-failed", "--", unit["name"], quiet=True)

    def _unit(self, unit: dict[str, Any]) -> None:
        now, name = units.state(unit["name"]), unit["name"]
        if not unit.get("dependent") and unit["enabled"] != now["enabled"]:
            # Its links are as they were, as far as they were known.
            if unit["enabled"] == "enabled":
                self._systemctl("enable", "--quiet", "--", name)
            elif now["enabled"] == "enabled":
                self._systemctl("disable", "--quiet", "--", name)
        if not _ran(unit):
            if now["active"] in units.RUNNING and not self._at_boot:
                # What was started again has started it.
                self._systemctl("stop", "--", name)
            return
        # Else systemd may refuse, as what was started too often: the change has started it too.
        self._systemctl("reset-failed", "--", name, quiet=True)
        if now["active"] not in units.RUNNING:
            self._systemctl("start", *self._no_block, "--", name)
            self._has_started = True
        elif now["invocation"] != unit["invocation"] and not self._at_boot and not unit.get("dependent"):
            # It was restarted by the change, so it runs with what is no longer there.
            self._systemctl("restart", "--", name)
            self._has_started = True

    def _compare(self) -> None:
        """Whether all that ran runs, and no more."""
        if self._has_started and not self._at_boot:
            time.sleep(_STAYS_UP_S)
        for unit in self._manifest["units"]:
            self.problems += units.differences(unit, at_boot=self._at_boot)

    @property
    def _no_block(self) -> tuple[str, ...]:
        """At boot what is started may itself wait for us."""
        return ("--no-block",) if self._at_boot else ()

    def _systemctl(self, *arguments: str, quiet: bool = False) -> None:
        self._run(" ".join(arguments), ["systemctl", "--no-ask-password", *arguments], quiet=quiet)

    def _run(self, name: str, argv: Sequence[str], *, quiet: bool = False) -> None:
        try:
            done = units.run(argv)
        except subprocess.TimeoutExpired:
            self.problems.append(f"{name}: it does not end")
            return
        if done.returncode and not quiet:
            self.problems.append(f"{name}: {done.stderr.decode('utf-8', 'replace').strip()[:200]}")


def is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def with_room(step: Callable[[], None]) -> None:
    """With the room that is set aside, where there is no other."""
    try:
        step()
    except OSError as error:
        if not is_full(error):
            raise
        with contextlib.suppress(FileNotFoundError):
            os.unlink(layout.BALLAST)
        step()
