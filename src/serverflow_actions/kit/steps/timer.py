"""A command that systemd runs on a calendar: systemd.timer(5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..change import Change
from ..probe import Host, Probe
from ..undo import Footprint
from .file import File

_FOLDER = "/etc/systemd/system"
#: systemd.time(7), as far as a line of it may reach: no control characters, nothing that ends the setting.
_CALENDAR = re.compile(r"[A-Za-z0-9*,./:~ +_-]{1,128}\Z", re.ASCII)
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z", re.ASCII)


@dataclass(frozen=True)
class Timer:
    """The units serverflow-NAME.timer and serverflow-NAME.service, enabled and running; or `absent`.

    `calendar` is in the words of systemd.time(7); `timeout` and `delay` (a random one at most, against a whole fleet
    at one moment) are seconds. A run that was missed while the server was off is caught up. Needs
    writes=("/etc/systemd/system",) and both units declared.
    """

    name: str
    calendar: str = "daily"
    argv: tuple[str, ...] = ()
    user: str = "root"
    description: str = ""
    timeout: int = 3600
    delay: int = 0
    absent: bool = False

    def __post_init__(self) -> None:
        if not _NAME.match(self.name) or not _CALENDAR.match(self.calendar) or not (self.argv or self.absent):
            raise ValueError(f"timer {self.name!r}: bad name or calendar, or no command")

    @property
    def _unit(self) -> str:
        return f"serverflow-{self.name}"

    @property
    def _files(self) -> tuple[File, File]:
        service_file, timer_file = f"{_FOLDER}/{self._unit}.service", f"{_FOLDER}/{self._unit}.timer"
        if self.absent:
            return File(timer_file, absent=True), File(service_file, absent=True)
        description = _escape(self.description or self.name)
        service = f"""[Unit]
Description={description}

[Service]
Type=oneshot
User={self.user}
ExecStart={" ".join(map(quote, self.argv))}
TimeoutStartSec={self.timeout}
"""
        timer = f"""[Unit]
Description={description}

[Timer]
OnCalendar={self.calendar}
Persistent=yes
RandomizedDelaySec={self.delay}

[Install]
WantedBy=timers.target
"""
        # The timer comes last: without its service it would fire into nothing.
        return File(service_file, service), File(timer_file, timer)

    def check(self, probe: Probe) -> Change | None:
        fields: dict[str, tuple[Any, Any]] = {}
        changes = [change for change in (file.check(probe) for file in self._files) if change]
        for change in changes:
            fields[change.name] = change.fields.get("sha256", (change.verb, None))
        found, service = probe.unit(f"{self._unit}.timer"), probe.unit(f"{self._unit}.service")
        running = found.active == "active"
        if running == self.absent:
            fields["active"] = (running, not self.absent)
        if not self.absent and found.enabled != "enabled":
            fields["enabled"] = (False, True)
        if not self.absent and (found.stale or service.stale):
            # A crash after the files were written and before systemd read them.
            fields["loaded"] = (False, True)
        if not fields:
            return None
        verb = "delete" if self.absent else "update" if found.load == "loaded" else "create"
        return Change(verb, "timer", self._unit, fields, "\n".join(c.diff for c in changes if c.diff))

    def apply(self, host: Host) -> None:
        timer = f"{self._unit}.timer"
        found = host.unit(timer)
        if self.absent and found.load == "loaded":
            host.unit_do("disable", timer)
            host.unit_do("stop", timer)
        for file in self._files:
            if file.check(host):
                file.apply(host)
        host.unit_do("daemon-reload", "")
        if not self.absent:
            host.unit_do("enable", timer)
            # A running timer keeps its old calendar.
            host.unit_do("restart", timer)

    def footprint(self, _: Probe) -> Footprint:
        paths = tuple(file.path for file in self._files)
        return Footprint(paths=paths, units=(f"{self._unit}.timer",), after=("daemon-reload",))


def quote(argument: str) -> str:
    """One argument of ExecStart=, quoted for systemd.service(5): no specifier, no variable, no second command.

    Raises ValueError for control characters.
    """
    if not argument.isprintable():
        raise ValueError("a command's argument has a control character")
    escaped = _escape(argument).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"'


def _escape(text: str) -> str:
    if not text.isprintable():
        raise ValueError("a unit's setting has a control character")
    return text.replace("%", "%%")
