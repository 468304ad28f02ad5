"""One folder, and the emptying of one."""

from __future__ import annotations

from dataclasses import dataclass

from ..change import Change, differing
from ..probe import Host, Probe
from ..refused import Refused
from ..undo import Footprint, irreversible


@dataclass(frozen=True)
class Directory:
    """A folder with this mode and owner. `absent` removes it when it is empty, with `purge` also all that is in it."""

    path: str
    mode: int = 0o755
    owner: str = "root"
    group: str = "root"
    absent: bool = False
    purge: bool = False

    def check(self, probe: Probe) -> Change | None:
        found = probe.stat(self.path)
        if found and found.kind != "directory":
            # Never replaced: a link may be there for a reason that we do not know.
            raise Refused(f"{self.path} is not a folder but a {found.kind}")
        if self.absent:
            if not found or (not self.purge and probe.names(self.path)):
                return None
            return Change("delete", "directory", self.path, note="with all that is in it" if self.purge else "")
        before = {"mode": f"{found.mode:04o}", "owner": found.owner, "group": found.group} if found else {}
        after = {"mode": f"{self.mode:04o}", "owner": self.owner, "group": self.group}
        fields = differing(before, after)
        return Change("update" if found else "create", "directory", self.path, fields) if fields else None

    def apply(self, host: Host) -> None:
        if self.absent and self.purge and host.safe:
            host.put_aside(self.path)
        elif self.absent:
            host.remove_tree(self.path)
        elif host.stat(self.path):
            host.own(self.path, self.mode, self.owner, self.group)
        else:
            host.make_folder(self.path, self.mode, self.owner, self.group)

    def footprint(self, _: Probe) -> Footprint:
        return Footprint(aside=(self.path,)) if self.absent and self.purge else Footprint(paths=(self.path,))


@dataclass(frozen=True)
class EmptyDirectory:
    """A folder with nothing in it. One that does not exist is empty enough."""

    path: str

    def check(self, probe: Probe) -> Change | None:
        found = probe.stat(self.path)
        if found and found.kind != "directory":
            raise Refused(f"{self.path} is not a folder but a {found.kind}")
        count = len(probe.names(self.path)) if found else 0
        return Change("update", "directory", self.path, {"entries": (count, 0)}) if count else None

    def apply(self, host: Host) -> None:
        host.remove_tree(self.path, keep_root=True)

    def footprint(self, _: Probe) -> Footprint:
        raise irreversible(f"what is in {self.path} is not kept")
