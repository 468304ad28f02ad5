"""The units of kit/watch.py, which only the executor may write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..change import Change
from ..probe import Host, Probe
from ..undo import Footprint
from ..watch import FILES, TIMER
from .file import File


@dataclass(frozen=True)
class WatchUnit:
    """The service and the timer that look after jobs and alerts; or `absent`. Needs host_verbs=("watch-unit",).

    The timer's running and enabled state is `Service`'s.
    """

    absent: bool = False
    files: ClassVar[tuple[tuple[str, str], ...]] = FILES
    timer: ClassVar[str] = TIMER
    power: ClassVar[str] = "watch-unit"

    def check(self, probe: Probe) -> Change | None:
        found = [File(path, text, absent=self.absent).check(probe) for path, text in self.files]
        changes = [change for change in found if change]
        if not changes:
            return None
        fields: dict[str, Any] = {c.name: c.fields.get("sha256", (c.verb, None)) for c in changes}
        verbs = {change.verb for change in changes}
        verb = verbs.pop() if len(changes) == len(self.files) and len(verbs) == 1 else "update"
        return Change(verb, "unit-file", self.timer, fields, "\n".join(c.diff for c in changes if c.diff))

    def apply(self, host: Host) -> None:
        host.machine_do(self.power, "absent" if self.absent else "present")

    def footprint(self, _: Probe) -> Footprint:
        return Footprint(paths=tuple(path for path, _ in self.files), after=("daemon-reload",))
