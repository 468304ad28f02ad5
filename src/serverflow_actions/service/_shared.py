"""What the verbs of this area share: which units they keep away from."""

from __future__ import annotations

import fnmatch

from ..kit import Probe, Refused
from ..kit.probe import UnitState
from ..kit.spec import Param, param

#: Starting a target, scope or mount can take the whole system down (poweroff.target, rescue.target).
_KINDS = (".service", ".socket", ".timer", ".path")

#: Their stop, or a restart that fails, cuts the operator off.
_LIFELINES = (
    "ssh.*", "sshd.*", "ssh@*", "sshd@*", "sshd-*", "dbus.*", "dbus-broker.*", "networking.service", "ifup@*",
    "NetworkManager.service", "wpa_supplicant*", "netplan-*", "systemd-*", "serverflow*",
)  # fmt: skip

#: Parts of systemd that are services like others; the rest of systemd-* powers off, suspends or carries the system.
_ORDINARY = (
    "systemd-journald.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-oomd.service",
)
_POWERS = (
    "systemd-*",
    "rescue.service",
    "emergency.service",
    "debug-shell.service",
    "console-getty.service",
    "initrd-*",
)

UNIT: Param = param(
    "unit", "unit", "Unit name; .service is added when there is no suffix", positional=True, complete="unit"
)


def known(probe: Probe, name: str) -> UnitState:
    """The unit; one that is not there is refused."""
    found = probe.unit(name)
    if found.load == "not-found":
        raise Refused(f"there is no unit {name}")
    return found


def startable(probe: Probe, name: str) -> UnitState:
    """A unit that may be started and enabled."""
    found = known(probe, name)
    for each in (name, found.name):  # an alias must not open what its unit's own name would not
        if not each.endswith(_KINDS):
            raise Refused(f"{each} is not a service, socket, timer or path: starting it can change the whole system")
        if _matches(each, _POWERS) and each not in _ORDINARY:
            raise Refused(f"{each} is a part of the system itself, not a service to start or stop")
    return found


def stoppable(probe: Probe, name: str) -> UnitState:
    """A unit that may be stopped, restarted and disabled."""
    found = startable(probe, name)
    for each in (name, found.name):
        if _matches(each, _LIFELINES):
            raise Refused(f"{each} keeps this server reachable: it is not stopped, restarted or disabled from here")
    return found


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def row(found: UnitState, now: float) -> dict[str, object]:
    """A unit as a table row."""
    return {
        "unit": found.name,
        "description": found.description,
        "load": found.load,
        "active": found.active,
        "sub": found.sub,
        "enabled": found.enabled,
        "result": found.result,
        "pid": found.pid,
        "memory": found.memory,
        "up_s": int(now - found.since) if found.since else 0,
    }
