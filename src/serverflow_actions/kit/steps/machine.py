"""The machine itself: its name, its time zone, its restart. The executor outside the sandbox does them."""

from __future__ import annotations

from dataclasses import dataclass

from ..change import Change, differing
from ..probe import Host, Probe
from ..refused import Refused
from ..undo import Footprint, irreversible

_ZONES = "/usr/share/zoneinfo"


@dataclass(frozen=True)
class Hostname:
    """The host name, in force and in hostname(5)."""

    name: str

    def check(self, probe: Probe) -> Change | None:
        kept = (probe.read("/etc/hostname") or b"").decode("utf-8", "replace").strip()
        in_force = (probe.read("/proc/sys/kernel/hostname") or b"").decode("utf-8", "replace").strip()
        fields = differing({"kept": kept, "in force": in_force}, {"kept": self.name, "in force": self.name})
        return Change("update", "hostname", self.name, fields) if fields else None

    def apply(self, host: Host) -> None:
        host.machine_do("hostname", self.name)

    def footprint(self, _: Probe) -> Footprint:
        raise irreversible("systemd reads the host name at a restart, before anything could be put back")


@dataclass(frozen=True)
class TimeZone:
    """The time zone: the link localtime(5), and Debian's /etc/timezone where it exists."""

    zone: str

    def check(self, probe: Probe) -> Change | None:
        zone = probe.stat(f"{_ZONES}/{self.zone}")
        if not zone or zone.kind == "directory":
            raise Refused(f"there is no time zone {self.zone} in {_ZONES} (package tzdata)")
        before, after = {"localtime": current_zone(probe)}, {"localtime": self.zone}
        listed = probe.read("/etc/timezone")
        if listed is not None:
            before["timezone"], after["timezone"] = listed.decode("utf-8", "replace").strip(), self.zone
        fields = differing(before, after)
        return Change("update", "timezone", self.zone, fields) if fields else None

    def apply(self, host: Host) -> None:
        host.machine_do("timezone", self.zone)

    def footprint(self, _: Probe) -> Footprint:
        return Footprint(paths=("/etc/localtime", "/etc/timezone"))


def current_zone(probe: Probe) -> str:
    """The zone that /etc/localtime names; "UTC" without one, "" when it is not a link to a zone."""
    found = probe.stat("/etc/localtime")
    if not found:
        return "UTC"
    _, marker, zone = found.target.partition("zoneinfo/")
    return zone if marker else ""


@dataclass(frozen=True)
class Reboot:
    """A restart of the machine, after the receipt is on disk."""

    def check(self, _: Probe) -> Change | None:
        return Change("run", "machine", "reboot")

    def apply(self, host: Host) -> None:
        host.machine_do("reboot")

    def footprint(self, _: Probe) -> Footprint:
        raise irreversible("the machine restarts")
