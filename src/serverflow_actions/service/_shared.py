"""What the verbs of this area share: which units they keep away from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..kit import Probe, Refused
from ..kit.lifelines import FIREWALLS, LIFELINES, NO_WAY_BACK, ORDINARY, WAYS_IN, matches
from ..kit.probe import UnitState
from ..kit.spec import Param, param

#: Starting a target, scope or mount can take the whole system down (poweroff.target, rescue.target).
_KINDS = (".service", ".socket", ".timer", ".path")

#: Without these the server may not come back by itself either.
_NEVER = ("sshd-*", "dbus.*", "dbus-broker.*", "systemd-*", "serverflow*")

_POWERS = (
    "systemd-*",
    "rescue.service",
    "emergency.service",
    "debug-shell.service",
    "console-getty.service",
    "initrd-*",
)

_SSH_SOCKETS = ("ssh.socket", "sshd.socket")
_SSH_SERVICES = ("ssh.service", "sshd.service")
_RUNNING = ("active", "reloading", "activating")
_MANY = 200

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
    _refuse_firewall(name, found)
    _refuse_second_listener(probe, name, found)
    if _is(name, found, LIFELINES):
        _require_safe(probe, f"{found.name} keeps this server reachable, or shuts others out: it is started or enabled")
    _spare_others(found, _ended_by(probe, found), probe.safe)
    return found


def reloadable(probe: Probe, name: str) -> UnitState:
    """A unit that may be told to read its configuration again."""
    found = _ordinary(probe, name)
    _refuse_firewall(name, found)
    return found


def restartable(probe: Probe, name: str) -> UnitState:
    """A unit that may be restarted."""
    found = reloadable(probe, name)
    _expendable(probe, name)
    # It is a one-off: no countdown brings those back.
    _spare_others(found, [*_stopped_with(probe, found), *_ended_by(probe, found)], safe=False)
    return found


def stoppable(probe: Probe, name: str) -> UnitState:
    """A unit that may be stopped."""
    found = _of_known_kind(probe, name)
    _refuse_firewall(name, found)
    disablable(probe, name)
    _spare_others(found, _stopped_with(probe, found), probe.safe)
    return found


def disablable(probe: Probe, name: str) -> UnitState:
    """A unit that may be kept from starting at boot."""
    found = _of_known_kind(probe, name)
    if not _is(name, found, (*WAYS_IN, *FIREWALLS)):
        return _expendable(probe, name)
    _require_safe(probe, f"{found.name} keeps this server reachable, or others out: it is stopped or disabled")
    if name != found.name:
        # Disabling an alias removes a link that enabling it does not make again: systemctl(1).
        raise Refused(f"{name} is another name of {found.name}, which keeps this server reachable: say that one")
    return found


def _ordinary(probe: Probe, name: str) -> UnitState:
    found = _of_known_kind(probe, name)
    for each in (name, found.name):
        if matches([each], _POWERS) and each not in ORDINARY:
            raise Refused(f"{each} is a part of the system itself, not a service to start or stop")
    return found


def _expendable(probe: Probe, name: str) -> UnitState:
    """A unit that the server can be reached without."""
    found = _ordinary(probe, name)
    for each in (name, found.name):
        if matches([each], (*WAYS_IN, *_NEVER)):
            raise Refused(f"{each} keeps this server reachable: it is not stopped, restarted or disabled from here")
    return found


def _is(name: str, found: UnitState, patterns: tuple[str, ...]) -> bool:
    return matches((name, found.name), patterns)


def _refuse_firewall(name: str, found: UnitState) -> None:
    if _is(name, found, FIREWALLS):
        raise Refused(f"{found.name} {NO_WAY_BACK}")


def _require_safe(probe: Probe, sentence: str) -> None:
    if not probe.safe:
        raise Refused(f"{sentence} only as a safe change (--safe), which undoes itself unless it is confirmed")


def _refuse_second_listener(probe: Probe, name: str, found: UnitState) -> None:
    """On Debian the two conflict, and ssh.socket listens on ports of its own: confirmed now, the next boot, or another
    port, is lost.
    """
    if not _is(name, found, _SSH_SOCKETS) or found.active == "active":
        return
    for service in _SSH_SERVICES:
        if probe.unit(service).active in _RUNNING:
            raise Refused(
                f"{service} is how this server is reached, and {found.name} would take its place, on ports of its own: "
                "nothing proves that they are the same. Change over by hand, over a console"
            )


def _spare_others(found: UnitState, ended: Iterable[UnitState], safe: bool) -> None:
    """Refuse what would end, along the way, what the server is reached by."""
    for other in ended:
        if matches([other.name], FIREWALLS):
            raise Refused(f"with {found.name} {other.name} would stop, which {NO_WAY_BACK}")
        if not safe and matches([other.name], LIFELINES):
            raise Refused(
                f"with {found.name} {other.name} would stop, which keeps this server reachable: that is done only as a "
                "safe change (--safe), which undoes itself unless it is confirmed"
            )


def _stopped_with(probe: Probe, *units: UnitState) -> Iterator[UnitState]:
    """Those that run and stop when one of these does, near and far. The broker looks at all of them, see reach.py."""
    seen, left = {unit.name for unit in units}, [name for unit in units for name in unit.stops_with]
    while left and len(seen) < _MANY:
        name = left.pop(0)
        if name not in seen:
            seen.add(name)
            other = probe.unit(name)
            left += other.stops_with
            if other.active in _RUNNING:
                yield other


def _ended_by(probe: Probe, found: UnitState) -> list[UnitState]:
    """Those that stop when it starts."""
    rivals = [unit for unit in map(probe.unit, found.conflicts) if unit.active in _RUNNING]
    return [*rivals, *_stopped_with(probe, *rivals)]


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
