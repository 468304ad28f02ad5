"""The executor's half of a safe change: arming it on the engine's word, within what the signed action declares."""

from __future__ import annotations

import contextlib
import fnmatch
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import armed
import arming
import boot
import cascades
import declared
import rollback
import safe
import snapshots
import validate
import written
from sandbox import expand
from serverflow_actions.kit import certunits, grammar
from serverflow_actions.kit.host import HostError
from serverflow_actions.kit.watch import FILES as WATCH_FILES
from units import told

#: What the broker writes itself, by the declared power.
_BY_POWER = {
    "timezone": ("/etc/localtime", "/etc/timezone"),
    "firewall-unit": ("/etc/systemd/system/serverflow-firewall.service",),
    "watch-unit": tuple(path for path, _ in WATCH_FILES),
    "cert-unit": tuple(path for path, _ in certunits.FILES),
}


class Safely:
    """One run, from its arming to its verdict. Without `seconds` it is an ordinary change, and nothing is armed."""

    def __init__(self, job: Mapping[str, Any], folders: Sequence[str]) -> None:
        self._op_id = str(job["about"]["op_id"])
        self._action = str(job["action"])
        self._key = str(job["key"])
        self._manifest: Mapping[str, Any] = job["manifest"]
        self._folders = list(folders)
        self._units = expand(self._manifest["units"], job["params"])
        self.seconds = int(job["confirm_s"])
        self.armed = False
        #: Folders that were made so that the sandbox could open them.
        self.made: list[str] = []
        self._aside: list[str] = []
        self._broken: frozenset[validate.Argv] = frozenset()

    def arm(
        self,
        paths: Sequence[str],
        trees: Sequence[str],
        aside: Sequence[str],
        units: Sequence[str],
        accounts: bool,
        after: Sequence[str],
    ) -> None:
        """Snapshot, and start the countdown. Raises HostError, and then nothing was changed."""
        if not self.seconds or self.armed:
            raise HostError("this run is not to be armed")
        self._check(paths, trees, aside, units, accounts, after)
        footprint = {
            "paths": cascades.expand(paths), "trees": list(trees), "aside": list(aside),
            "units": list(units), "accounts": accounts, "after": list(after), "made": self.made,
        }  # fmt: skip
        try:
            boot.keep()  # a restart is to undo it too; a bundle before this one may have installed another unit
        except (OSError, subprocess.SubprocessError) as error:
            raise HostError(f"the unit that undoes changes at boot cannot be installed: {told(error)}") from error
        # Before the countdown: it may take its time.
        self._broken = validate.broken([*paths, *trees, *aside])
        try:
            safe.begin(self._op_id, self._action, self.seconds, footprint, key=self._key, run=True)
        except safe.Unsafe as error:
            raise HostError(str(error)) from error
        self.armed = True
        self._aside = list(aside)

    def _check(
        self,
        paths: Sequence[str],
        trees: Sequence[str],
        aside: Sequence[str],
        units: Sequence[str],
        accounts: bool,
        after: Sequence[str],
    ) -> None:
        """Whoever restores files as root must not be led to others than the action may write."""
        allowed = [path for power in self._manifest["host_verbs"] for path in _BY_POWER.get(power, ())]
        for path in map(grammar.path, [*paths, *trees, *aside]):
            value = path.startswith("/proc/sys/") and "/etc/sysctl.d" in self._folders
            if path not in allowed and not value and not self._is_ours(path):
                raise HostError(f"{path} is not among what this action declares that it writes")
        for unit in units:
            if not self._declares(unit) and f"/etc/systemd/system/{unit}" not in allowed:
                raise HostError(f"{unit} is not among the units that this action declares")
        if accounts and not self._manifest["accounts"]:
            raise HostError("this action does not declare that it changes accounts")
        unknown = [name for name in after if not rollback.is_known(name)]
        if unknown:
            raise HostError(f"nobody knows how to do {', '.join(unknown)}")
        for unit in filter(None, map(rollback.reloaded, after)):
            if not self._declares(unit):
                raise HostError(f"{unit} is not among the units that this action declares")

    def _is_ours(self, path: str) -> bool:
        return declared.covers(self._folders, path)

    def _declares(self, unit: str) -> bool:
        name = grammar.unit(unit)
        return any(fnmatch.fnmatchcase(name, p if "*" in p else grammar.unit(p)) for p in self._units)

    def put_aside(self, path: str) -> None:
        """Move a folder away that the change removes. Raises HostError."""
        if not self.armed or path not in self._aside:
            raise HostError(f"{path} was not armed to be put aside")
        try:
            snapshots.move_aside(path, arming.aside_of(self._op_id, path))
        except OSError as error:
            raise HostError(f"{path} cannot be moved away: {error.strerror}") from error

    def keep_aside(self, path: str) -> None:
        """A copy of a file that others have changed. Raises HostError."""
        if not self._is_ours(grammar.path(path)):
            raise HostError(f"{path} is not among what this action declares that it writes")
        try:
            written.keep_aside(path)
        except OSError as error:
            raise HostError(f"the changed version of {path} cannot be kept: {error.strerror or error}") from error

    @property
    def may_change(self) -> bool:
        """Whether what is done now either can be taken back or need not be."""
        return self.armed or not self.seconds

    def settle(self, changes: Sequence[Mapping[str, Any]], base: Mapping[str, Any] | None) -> None:
        """Validate what is there now; from then on it waits for confirmation. Raises HostError or Unsafe."""
        if changes and not self.may_change:
            raise HostError("something was changed before it was armed: nothing takes that back")
        self.remember(changes)
        record = written.found_now(changes)
        validate.after(record, self._broken)
        if self.armed:
            safe.settle(self._op_id, {"written": record, "base": base})

    def remember(self, changes: Iterable[Mapping[str, Any]]) -> None:
        """What stays, also where the rest fails, was written by us and not by hand. A safe change stays only once it is
        confirmed.
        """
        if not self.armed:
            with contextlib.suppress(OSError):  # a full disk costs a note, not the change
                written.remember(written.found_now(changes))

    def give_up(self) -> tuple[bool, str]:
        """It failed: put all back. Whether it has gone back, and a sentence that says what became of it.

        Whatever comes in between ends here: the timer tries again, and the caller gets an answer.
        """
        try:
            said = safe.taken_back(self._op_id)
            return armed.was_rolled_back(self._op_id) and not armed.still_pending(self._op_id), said
        except Exception as error:
            return False, f"it goes back at the deadline: {type(error).__name__}: {error}"[:500]
