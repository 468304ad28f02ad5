"""What the verbs of this area share: which units they keep away from."""

from __future__ import annotations

import fnmatch

from ..kit import Probe, Refused
from ..kit.probe import UnitState
from ..kit.spec import Param, param

#: Starting a target, scope or mount can take the whole system down (poweroff.target, rescue.target).
_KINDS = (".service", ".socket", ".timer", ".path")

#: Their stop, or a restart that fails, cuts the operator off. They are stopped and disabled as a safe change only.
WAYS_IN = (
    "ssh.*", "sshd.*", "ssh@*", "sshd@*", "networking.service", "ifup@*", "NetworkManager.service",
    "systemd-networkd.*", "wpa_supplicant*", "netplan-*",
)  # fmt: skip

#: Whose rules they are, sf does not know: in force, they may shut the operator out.
FIREWALLS = ("nftables.service", "ufw.service", "firewalld.service", "netfilter-persistent.service")

#: Without these the server may not come back by itself either.
_NEVER = ("sshd-*", "dbus.*", "dbus-broker.*", "systemd-*", "serverflow*")

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


def _of_known_kind(probe: Probe, name: str) -> UnitState:
    found = known(probe, name)
    for each in (name, found.name):  # an alias must not open what its unit's own name would not
        if not each.endswith(_KINDS):
            raise Refused(f"{each} is not a service, socket, timer or path: starting it can change the whole system")
    return found


def startable(probe: Probe, name: str) -> UnitState:
    """A unit that may be started and enabled."""
    found = _ordinary(probe, name)
    if _is_firewall(name, found) and not probe.safe:
        raise Refused(
            f"{found.name} is a firewall, whose rules may shut everyone out: it is started or enabled only as a safe "
            "change (--safe), which undoes itself unless it is confirmed"
        )
    return found


def reloadable(probe: Probe, name: str) -> UnitState:
    """A unit that may be told to read its configuration again."""
    found = _ordinary(probe, name)
    if _is_firewall(name, found):
        raise Refused(
            f"{found.name} is a firewall, whose rules may shut everyone out, and told so once it does not undo itself: "
            "manage the rules with sf firewall"
        )
    return found


def _ordinary(probe: Probe, name: str) -> UnitState:
    found = _of_known_kind(probe, name)
    for each in (name, found.name):
        if _matches(each, _POWERS) and each not in _ORDINARY:
            raise Refused(f"{each} is a part of the system itself, not a service to start or stop")
    return found


def _is_firewall(name: str, found: UnitState) -> bool:
    return any(_matches(each, FIREWALLS) for each in (name, found.name))


def stoppable(probe: Probe, name: str) -> UnitState:
    """A unit that may be stopped and disabled."""
    found = _of_known_kind(probe, name)
    if not any(_matches(each, WAYS_IN) for each in (name, found.name)):
        return _expendable(probe, name)
    if not probe.safe:
        raise Refused(
            f"{found.name} keeps this server reachable: it is stopped or disabled only as a safe change (--safe), "
            "which undoes itself unless it is confirmed"
        )
    if name != found.name:
        # Disabling an alias removes a link that enabling it does not make again: systemctl(1).
        raise Refused(f"{name} is another name of {found.name}, which keeps this server reachable: say that one")
    return found


def restartable(probe: Probe, name: str) -> UnitState:
    """A unit that may be restarted."""
    reloadable(probe, name)
    return _expendable(probe, name)


def _expendable(probe: Probe, name: str) -> UnitState:
    """A unit that the server can be reached without."""
    found = _ordinary(probe, name)
    for each in (name, found.name):
        if _matches(each, (*WAYS_IN, *_NEVER)):
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
