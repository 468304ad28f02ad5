"""Time zones of a server: which it has, and by which its cron reads a crontab."""

from __future__ import annotations

from .probe import Probe
from .refused import Refused
from .schedule import zone_named
from .steps.machine import current_zone

_ZONES = "/usr/share/zoneinfo"


def exists(probe: Probe, zone: str) -> bool:
    """Whether the server's tzdata has it, and not just a file or folder of that name. UTC needs none."""
    if zone == "UTC":
        return True
    if not probe.stat(f"{_ZONES}/{zone}"):
        return False
    try:
        zone_named(zone)
    except ValueError:
        return False
    return True


def require(probe: Probe, zone: str) -> None:
    """Raises Refused."""
    if not exists(probe, zone):
        raise Refused(f"there is no time zone {zone} in {_ZONES} (package tzdata)")


def server_zone(probe: Probe) -> str:
    """What /etc/localtime links to; where it is no link, Debian's /etc/timezone; else UTC, as the C library has it."""
    zone = current_zone(probe) or (probe.read("/etc/timezone") or b"").decode("utf-8", "replace").strip()
    return zone if zone and exists(probe, zone) else "UTC"
