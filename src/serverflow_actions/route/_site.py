"""Files of nginx that change together, and what nginx does with them: taken as a whole, or not at all.

The broker has nginx test its configuration before it is told to read it (remote/validate.py). What nginx does not take
is undone here at once: else it would lie there, and nginx would not start after the next power cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..kit import Change, Host, Probe
from ..kit.engine import Step
from ..kit.probe import FileState, HostError
from ..kit.steps import File, Service
from ..kit.undo import Footprint
from ._files import FOLDER
from ._nginx import UNIT

_RUNNING = ("active", "reloading", "activating")


@dataclass
class Site:
    """The files of one run, each as it was before."""

    _before: list[tuple[str, FileState | None, bytes]] = field(default_factory=list)

    def file(self, file: File) -> Step:
        return _Kept(file, self)

    def keep(self, probe: Probe, path: str) -> None:
        """Remember what stands there. What is no plain file is not put back: nobody wants it in this place."""
        state = probe.stat(path)
        if not state or state.kind == "file":
            self._before.append((path, state, (probe.read(path, follow=False) or b"") if state else b""))

    def put_back(self, host: Host) -> None:
        """Raises HostError when that fails too."""
        while self._before:
            path, state, content = self._before[-1]
            if state:
                host.write(path, content, state.mode, state.owner, state.group)
            else:
                host.remove(path)
            self._before.pop()

    def told(self, host: Host, error: HostError) -> HostError:
        """Put all back, and say so beside the reason."""
        try:
            self.put_back(host)
        except HostError as worse:
            return HostError(f"{error}; and what was there before could not be put back: {worse}")
        return HostError(f"{error}; the files are as they were before, and nginx goes on with them")


@dataclass(frozen=True)
class _Kept:
    """A file that can be put back."""

    step: File
    site: Site

    def check(self, probe: Probe) -> Change | None:
        return self.step.check(probe)

    def apply(self, host: Host) -> None:
        self.site.keep(host, self.step.path)
        self.step.apply(host)

    def footprint(self, probe: Probe) -> Footprint:
        return self.step.footprint(probe)


@dataclass(frozen=True)
class Serving:
    """nginx runs, starts at boot, and has read these files."""

    service: Service
    site: Site

    def check(self, probe: Probe) -> Change | None:
        return self.service.check(probe)

    def apply(self, host: Host) -> None:
        try:
            self.service.apply(host)
        except HostError as error:
            raise self.site.told(host, error) from error

    def footprint(self, probe: Probe) -> Footprint:
        return self.service.footprint(probe)


@dataclass(frozen=True)
class Rereading:
    """nginx, where it runs, reads its files again after some were removed: `due`, looked at before that.

    A run that was cut off in between is made up for: then something was changed in the folder after the last reload.
    """

    site: Site
    due: bool

    def check(self, probe: Probe) -> Change | None:
        unit, folder = probe.unit(UNIT), probe.stat(FOLDER)
        if unit.active not in _RUNNING:
            return None
        read = max(unit.since, unit.reloaded)
        if not self.due and not (folder and 0 < read < folder.mtime <= probe.now()):
            return None
        return Change("run", "unit", UNIT, {"reload": (None, FOLDER)})

    def apply(self, host: Host) -> None:
        try:
            host.unit_do("reload", UNIT)
        except HostError as error:
            raise self.site.told(host, error) from error

    def footprint(self, _: Probe) -> Footprint:
        return Footprint(after=(f"reload:{UNIT}",))


def serving(site: Site, *files: File) -> Serving:
    """`files` are those that nginx reads when it starts or reloads."""
    return Serving(Service(UNIT, config=files, reload=True), site)
