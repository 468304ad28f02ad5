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
from collections.abc import Sequence
from typing import Any, Callable

import layout
import snapshots
import store
import written

_DAEMON_RELOAD = ["systemctl", "daemon-reload"]
#: What is done after files were put back, by name: a snapshot holds data, never commands.
_AFTER = {
    # At boot sshd waits for the rollback; `reload` would wait for sshd, and both for ever.
    "reload-ssh": ["systemctl", "try-reload-or-restart", "ssh.service"],
    "daemon-reload": _DAEMON_RELOAD,
    "hostname": ["hostname", "--file", "/etc/hostname"],
}
_RELOAD = re.compile(r"reload:([A-Za-z0-9][A-Za-z0-9:_.@\\-]{0,200}\.(?:service|socket))\Z", re.ASCII)
_RUNNING = ("active", "reloading", "activating")
_DONE, _FAILED = b"1", b"2"
_PROGRAM_S = 90

Then = Callable[[list[str]], object]


def is_known(after: str) -> bool:
    """Whether this is something that can be done once the files are back."""
    return after in _AFTER or _RELOAD.match(after) is not None


def steps(manifest: dict[str, Any]) -> list[str]:
    """In order. Units end before the files that say how they end are taken away, and begin after all is back."""
    entries = manifest["paths"]
    order = [e for e in entries if e["type"] == "aside"] + [e for e in entries if e["type"] == "directory"]
    order += [e for e in reversed(entries) if e["type"] in ("file", "link", "value")]
    order += [e for e in reversed(entries) if e["type"] in ("absent", "tree")]
    units = manifest["units"]
    return [
        *(["stop the run"] if manifest["run"] else []),
        *(f"halt {unit['name']}" for unit in units),
        *(f"path {entry['path']}" for entry in order),
        # Once more: what was put back in them has moved their times on.
        *(f"dress {entry['path']}" for entry in entries if entry["type"] == "directory"),
        *(f"after {name}" for name in manifest["after"]),
        *(f"unit {unit['name']}" for unit in units),
        "receipt",
    ]


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
        self._applied: dict[str, str] = json.loads(store.read_file(f"{folder}/applied") or b"{}").get("paths", {})
        #: What an attempt before this one has kept aside: by now its step finds nothing to keep.
        self._kept: list[str] = json.loads(store.read_file(f"{folder}/kept") or b"[]")
        self.problems = list(self._kept)

    def carry_out(self) -> None:
        """All steps that the journal does not have as done. Raises OSError when there is no room to go on."""
        descriptor = os.open(f"{self._folder}/journal", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            done = os.pread(descriptor, len(self._manifest["steps"]), 0)
            for number, step in enumerate(self._manifest["steps"]):
                if done[number : number + 1] == _DONE:
                    continue
                sys.audit("serverflow.rollback", step)
                told = len(self.problems)
                self._do(*step.split(" ", 1))
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
        elif self._then:
            self._then(self.problems)

    def _stop_run(self) -> None:
        """Nothing may write any more: the worker ends with the executor, whose end is waited for."""
        if not self._own and not self._at_boot:
            self._systemctl("stop", "--", f"serverflow-op-{self._manifest['op_id'].lower()}.service", quiet=True)

    def _path(self, entry: dict[str, Any]) -> None:
        path = entry["path"]
        if self._is_others(entry):
            self._make_way(path)
        try:
            with_room(lambda: snapshots.put_back(entry))
        except OSError as error:
            if is_full(error):
                raise
            if entry["type"] == "value" and self._at_boot:
                return  # the kernel has begun anew, with the files that are back by now
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

    def _after(self, name: str) -> None:
        found = _RELOAD.match(name)
        argv = ["systemctl", "try-reload-or-restart", "--", found.group(1)] if found else _AFTER[name]
        self._run(name, argv)

    def _halt(self, unit: dict[str, Any]) -> None:
        """What the change has started or enabled, while the files that say how it ends are still there."""
        now = unit_state(unit["name"])
        if unit["enabled"] != "enabled" and now["enabled"] == "enabled":
            self._systemctl("disable", "--quiet", "--", unit["name"])
        if unit["active"] in _RUNNING:
            return
        if now["active"] in _RUNNING:
            self._systemctl("stop", *self._no_block, "--", unit["name"])
        if unit["active"] != "failed":
            # It did not start, or was stopped while it did.
            self._systemctl("reset-failed", "--", unit["name"], quiet=True)

    def _unit(self, unit: dict[str, Any]) -> None:
        now = unit_state(unit["name"])
        if unit["enabled"] == "enabled" and now["enabled"] != "enabled":
            self._systemctl("enable", "--quiet", "--", unit["name"])
        if unit["active"] not in _RUNNING:
            return
        # Else systemd may refuse, as what was started too often: the change has started it too.
        self._systemctl("reset-failed", "--", unit["name"], quiet=True)
        if now["active"] not in _RUNNING:
            self._systemctl("start", *self._no_block, "--", unit["name"])
        elif now["invocation"] != unit["invocation"] and not self._at_boot:
            # It was restarted by the change, so it runs with what is no longer there.
            self._systemctl("restart", "--", unit["name"])

    @property
    def _no_block(self) -> tuple[str, ...]:
        """At boot what is started may itself wait for us."""
        return ("--no-block",) if self._at_boot else ()

    def _systemctl(self, *arguments: str, quiet: bool = False) -> None:
        self._run(" ".join(arguments), ["systemctl", "--no-ask-password", *arguments], quiet=quiet)

    def _run(self, name: str, argv: Sequence[str], *, quiet: bool = False) -> None:
        try:
            done = run(argv)
        except subprocess.TimeoutExpired:
            self.problems.append(f"{name}: it does not end")
            return
        if done.returncode and not quiet:
            self.problems.append(f"{name}: {done.stderr.decode('utf-8', 'replace').strip()[:200]}")


def unit_state(name: str) -> dict[str, str]:
    """Whether it runs and starts at boot; `invocation` is another one each time it was started (systemd.exec(5))."""
    shown = run(["systemctl", "show", "--property=ActiveState,UnitFileState,InvocationID", "--", name]).stdout
    told = dict(line.split("=", 1) for line in shown.decode("utf-8", "replace").splitlines() if "=" in line)
    names = {"active": "ActiveState", "enabled": "UnitFileState", "invocation": "InvocationID"}
    return {"name": name, **{key: told.get(value, "") for key, value in names.items()}}


def run(argv: Sequence[str], timeout: int = _PROGRAM_S) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, env=layout.ENVIRONMENT, check=False, capture_output=True, timeout=timeout
    )


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
