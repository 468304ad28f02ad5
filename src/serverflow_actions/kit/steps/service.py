"""systemd units: their lasting state, and one-off verbs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..change import Change
from ..probe import Host, HostError, Probe, UnitState
from ..refused import Refused
from ..undo import Footprint, irreversible
from .file import File

_RUNNING = ("active", "reloading", "activating")
_ENABLED = ("enabled", "enabled-runtime", "alias")
#: systemctl enable has nothing to do for these: they have no [Install] section of their own.
_FIXED = ("static", "indirect", "generated", "transient")


@dataclass(frozen=True)
class Service:
    """A unit that runs (or not) and starts at boot (or not); None leaves that as it is.

    It is restarted when a file of `config` is going to change, or is newer than the unit's start. The second holds
    after a crash between the write and the restart, where nobody remembers that something changed. With `reload` it is
    reloaded instead, for what must not be gone for a moment.
    """

    unit: str
    running: bool | None = True
    enabled: bool | None = True
    config: tuple[File, ...] = ()
    reload: bool = False

    @property
    def _to_read(self) -> str:
        return "reload" if self.reload else "restart"

    def check(self, probe: Probe) -> Change | None:
        found = probe.unit(self.unit)
        if found.load == "masked" and (self.running or self.enabled):
            raise Refused(f"{self.unit} is masked: someone has ruled out that it starts")
        fields: dict[str, tuple[Any, Any]] = {}
        if self.running is not None and (found.active in _RUNNING) != self.running:
            fields["active"] = (found.active, "active" if self.running else "inactive")
        if self.enabled is not None and _is_enabled(found, self.enabled) != self.enabled:
            fields["enabled"] = (not self.enabled, self.enabled)
        if fields:
            return Change("update", "unit", self.unit, fields)
        newer = self._newer(probe, found) if self.running else ""
        return Change("run", "unit", self.unit, {self._to_read: (None, newer)}) if newer else None

    def _newer(self, probe: Probe, found: UnitState) -> str:
        """The configuration file that the running unit has not read, or ""."""
        now = probe.now()
        since = max(found.since, found.reloaded) if self.reload else found.since
        for file in self.config:
            state = probe.stat(file.path)
            # A time in the future comes from a clock that was set: restarting each time would not help.
            if file.differs(probe) or (state and 0 < since < state.mtime <= now):
                return file.path
        return ""

    def apply(self, host: Host) -> None:
        found = host.unit(self.unit)
        if found.stale:
            host.unit_do("daemon-reload", "")
        if self.enabled is not None and _is_enabled(found, self.enabled) != self.enabled:
            host.unit_do("enable" if self.enabled else "disable", self.unit)
        if self.running is False:
            if found.active in _RUNNING:
                host.unit_do("stop", self.unit)
        elif self.running:
            if found.active == "failed":
                host.unit_do("reset-failed", self.unit)  # else systemd may refuse: "repeated too quickly"
            if found.active not in _RUNNING:
                host.unit_do("start", self.unit)
            elif self._newer(host, found):
                host.unit_do(self._to_read, self.unit)
            require_running(host, self.unit)

    def footprint(self, _: Probe) -> Footprint:
        # The files of `config` are steps of their own.
        return Footprint(units=(self.unit,), after=(f"reload:{self.unit}",) if self.reload else ())


def _is_enabled(found: UnitState, wanted: bool) -> bool:
    return wanted if found.enabled in _FIXED else found.enabled in _ENABLED


def require_running(host: Host, unit: str) -> None:
    """systemctl says yes to some units that end at once. Raises HostError."""
    found = host.unit(unit)
    if found.active not in _RUNNING and found.result not in ("", "success"):
        raise HostError(f"{unit} did not stay up ({found.result}): its log says why")


@dataclass(frozen=True)
class UnitVerb:
    """A one-off: start, stop, restart or reload, done whatever the unit's state is."""

    unit: str
    verb: str

    def check(self, probe: Probe) -> Change | None:
        return Change("run", "unit", self.unit, {self.verb: (None, probe.unit(self.unit).active)})

    def apply(self, host: Host) -> None:
        host.unit_do(self.verb, self.unit)
        if self.verb != "stop":
            require_running(host, self.unit)

    def footprint(self, _: Probe) -> Footprint:
        raise irreversible(f"{self.unit} is told to {self.verb} once, whatever its state is")
