"""Whether the server can still be reached after a unit was told something: asked by the broker, before it is told.

It looks at what systemd does along with it (systemd.unit(5)): what stops with a unit, what starts with it, and what it
cannot run beside.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable

import units
from serverflow_actions.kit.host import HostError
from serverflow_actions.kit.lifelines import (
    CORE,
    FIREWALLS,
    NO_WAY_BACK,
    OUR_FIREWALL,
    WAYS_IN,
    is_core,
    matches,
)

_STOP = ("stop", "restart", "try-restart")
#: Enabled, it does so at the next boot.
_START = ("start", "restart", "enable")


def check(verb: str, unit: str, *, armed: bool) -> None:
    """Raises HostError when the server might be lost by it; `armed` says that a countdown brings all back.

    That holds for what carries the connection. Others' firewalls cannot be brought back as they were, and without the
    core of the system nothing can.
    """
    try:
        names = units.names_of(unit)
        starts = units.started_with([unit]) if verb in _START else []
        stops = units.stopped_with([unit]) if verb in _STOP else []
        ends = units.rivals([unit, *starts]) if verb in _START else []
        ends += units.stopped_with(ends)
    except (units.TooMany, OSError, subprocess.SubprocessError) as error:
        raise HostError(f"{unit} is not told to {verb}: {error}") from error
    if verb not in ("disable", "reset-failed"):
        for name in names if matches(names, FIREWALLS) else (n for n in [*starts, *stops, *ends] if _is_firewall(n)):
            raise HostError(f"{unit} is not told to {verb}: {name} {NO_WAY_BACK}")
    if verb in ("stop", "disable") and matches(names, CORE):
        raise HostError(f"{unit} keeps this server reachable: it is not told to {verb}")
    # What is restarted takes those that stop with it along, and they come back.
    lost = [name for name in [*(stops if verb == "stop" else ()), *ends] if is_core(name)]
    if lost:
        raise HostError(f"{unit} is not told to {verb}: {_listed(lost)} would stop, and keeps this server reachable")
    if not armed and verb not in ("reload", "reset-failed"):
        _check_ways_in(verb, unit, names, starts, [*stops, *ends])


def _check_ways_in(verb: str, unit: str, names: Iterable[str], starts: Iterable[str], stops: Iterable[str]) -> None:
    safely = f"{verb} it in a safe change (--safe), which undoes itself unless it is confirmed"
    if matches(names, (*WAYS_IN, OUR_FIREWALL, *FIREWALLS)):
        raise HostError(f"{unit} keeps this server reachable: {safely}")
    for others, happens in ((starts, "start"), (stops, "stop")):
        lost = [name for name in others if matches([name], (*WAYS_IN, OUR_FIREWALL))]
        if lost:
            raise HostError(f"with {unit} {_listed(lost)} would {happens}, which keeps this server reachable: {safely}")


def _is_firewall(name: str) -> bool:
    return matches([name], FIREWALLS)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names)))
