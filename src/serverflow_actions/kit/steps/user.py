"""One account: passwd(5) and its groups. Its keys are another step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..change import Change, differing
from ..probe import Host, Probe, UserState
from ..undo import Footprint


@dataclass(frozen=True)
class User:
    """An account that may log in by key only: it is made without a password, and none is ever set.

    Fields that are None stay as they are. `groups` are supplementary ones to be in; others are kept. `absent` with
    `purge_home` takes the home along.
    """

    name: str
    shell: str | None = None
    home: str | None = None
    comment: str | None = None
    groups: tuple[str, ...] = ()
    system: bool = False
    absent: bool = False
    purge_home: bool = False

    def check(self, probe: Probe) -> Change | None:
        found = probe.user(self.name)
        if self.absent:
            note = f"with its home {found.home}" if found and self.purge_home else ""
            return Change("delete", "user", self.name, {"uid": (found.uid, None)}, note=note) if found else None
        fields = differing(_described(found), self._wanted(found))
        if found:
            return Change("update", "user", self.name, fields) if fields else None
        return Change("create", "user", self.name, fields or {})

    def _wanted(self, found: UserState | None) -> dict[str, Any]:
        wanted: dict[str, Any] = {"shell": self.shell, "home": self.home, "comment": self.comment}
        if not set(self.groups) <= set(found.groups if found else ()):
            wanted["groups"] = sorted({*self.groups, *(found.groups if found else ())})
        return {key: value for key, value in wanted.items() if value is not None}

    def apply(self, host: Host) -> None:
        found = host.user(self.name)
        if self.absent:
            aside = self._aside(host) if host.safe else ()
            host.account_do("user-remove", name=self.name, remove_home=self.purge_home and not host.safe)
            for home in aside:
                host.put_aside(home)
        elif found:
            host.account_do("user-change", name=self.name, **(self._changed(found)))
        else:
            host.account_do("user-add", name=self.name, system=self.system, create_home=True, **self._wanted(None))

    def footprint(self, probe: Probe) -> Footprint:
        home = self.home or f"/home/{self.name}"
        if self.absent:
            return Footprint(aside=self._aside(probe), accounts=True)
        # useradd(8) makes a home only where there is nothing; what is in it then came with the account.
        fresh = not probe.user(self.name) and not probe.stat(home)
        return Footprint(trees=(home,) if fresh else (), accounts=True)

    def _aside(self, probe: Probe) -> tuple[str, ...]:
        """The home that goes with the account. As userdel(8): only one that belongs to it."""
        found = probe.user(self.name) if self.purge_home else None
        home = probe.stat(found.home) if found else None
        return (found.home,) if found and home and (home.kind, home.owner) == ("directory", self.name) else ()

    def _changed(self, found: UserState) -> dict[str, Any]:
        fields = differing(_described(found), self._wanted(found)) or {}
        return {key: after for key, (_, after) in fields.items()}


def _described(found: UserState | None) -> dict[str, Any]:
    if not found:
        return {}
    return {"shell": found.shell, "home": found.home, "comment": found.comment, "groups": list(found.groups)}
