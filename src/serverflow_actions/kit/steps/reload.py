"""A unit that reads its configuration anew."""

from __future__ import annotations

from dataclasses import dataclass

from ..change import Change
from ..probe import Host, HostError, Probe
from ..undo import Footprint
from .file import File

_RUNNING = ("active", "reloading", "activating")


@dataclass(frozen=True)
class Reload:
    """Reload or restart (`verb`) a unit because `file` changes in this plan: `due`, looked at before the file's step.

    A restart is due as well when the file is newer than the unit's start. For a reload systemd keeps no such time, so
    one that a crash has cut off is made up for by the next change only: enough where the change is a safe one, which
    puts the file back after a crash. A unit that does not run is not reloaded: it reads the file when it starts.

    `after` is what is done once the file was put back (undo.Footprint).
    """

    unit: str
    verb: str
    file: File
    due: bool
    after: tuple[str, ...] = ()

    def check(self, probe: Probe) -> Change | None:
        found = probe.unit(self.unit)
        if found.load == "not-found" or (self.verb == "reload" and found.active not in _RUNNING):
            return None
        state = probe.stat(self.file.path)
        # A time in the future comes from a clock that was set: restarting each time would not help.
        newer = self.verb == "restart" and state is not None and 0 < found.since < state.mtime <= probe.now()
        if not self.due and not newer:
            return None
        return Change("run", "unit", self.unit, {self.verb: (None, self.file.path)})

    def apply(self, host: Host) -> None:
        host.unit_do(self.verb, self.unit)
        if host.unit(self.unit).active not in _RUNNING:
            raise HostError(f"{self.unit} does not run after its {self.verb}: its log says why")

    def footprint(self, probe: Probe) -> Footprint:
        # What did not run is stopped again. What ran hears by `after`: a restart would set more values than ours.
        stopped = probe.unit(self.unit).active not in _RUNNING
        return Footprint(units=(self.unit,) if stopped else (), after=self.after)
