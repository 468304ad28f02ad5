"""The rounds of `sf apply`: some of the file can be planned only once the rest of it is on the server."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import Interrupted, RolledBack, SfError
from ..model.result import CommandResult, Reply, ServerResult
from ..plan.resource import Resource, resource_hash


@dataclass(frozen=True)
class Planned:
    """A resource with its server's forecast. `base` is the hash of what was last applied there, "" for never."""

    resource: Resource
    reply: Reply
    base: str
    #: Why it cannot be planned before what comes earlier in the file is there, such as the package that brings a user's
    #: shell; "" when it was.
    waits: str = ""
    #: Seconds within which it has to be confirmed, 0 for what is no safe change.
    confirm_s: int = 0

    @property
    def due(self) -> bool:
        """Something differs on the server, or the server does not know yet that this is what we want."""
        return bool(self.waits or self.reply.changes) or self.base != resource_hash(self.resource)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the server remarks, and whose other wish this one would take the place of."""
        known: Mapping[str, Any] = self.reply.receipt.get("base") or {}
        if not self.base or self.base == resource_hash(self.resource):
            return self.reply.notes
        other = f"{self.resource.key} was last applied with other settings, by {known['by']} in op {known['op_id']}"
        return (*self.reply.notes, other)


def waiting(planned: Mapping[str, Sequence[Planned]], done: CommandResult) -> list[Resource]:
    """What waited, on the servers on which all that it waited for went well."""
    good = {server.name for server in done.servers if not server.error}
    return [item.resource for name, items in planned.items() if name in good for item in items if item.waits]


def on_waiting(planned: Sequence[Planned]) -> list[str]:
    """Remarks on those of one server that wait: a line for each reason."""
    keys: dict[str, list[str]] = {}
    for item in planned:
        if item.waits:
            keys.setdefault(item.waits, []).append(item.resource.key)
    return [f"after that, and not planned before: {', '.join(names)} ({why})" for why, names in keys.items()]


def not_done(fleet: str, later: Sequence[Resource], reason: SfError | KeyboardInterrupt) -> CommandResult:
    """A round that came to nothing on all its servers."""
    error = reason if isinstance(reason, SfError) else Interrupted("interrupted")
    keys: dict[str, list[str]] = {}
    for resource in later:
        keys.setdefault(resource.server, []).append(resource.key)
    servers = []
    for name, about in keys.items():
        own = copy.copy(error)
        own.message = f"{', '.join(about)}: {error.message}"
        servers.append(ServerResult(name, error=own))
    return CommandResult(fleet, servers=tuple(servers))


def both(first: CommandResult, then: CommandResult) -> CommandResult:
    """Two rounds as one."""
    after = {server.name: server for server in then.servers}
    servers = tuple(_after(server, after[server.name]) if server.name in after else server for server in first.servers)
    return replace(first, servers=servers)


def _after(first: ServerResult, then: ServerResult) -> ServerResult:
    one = first.reply or Reply("", first.outcome)
    two = then.reply or Reply("", then.outcome)
    if then.error:  # what was made at first stands, whatever was undone after it
        outcome = "failed" if isinstance(then.error, RolledBack) else two.outcome
    else:
        outcome = "done" if "done" in (one.outcome, two.outcome) else two.outcome
    reply = Reply(
        two.op_id or one.op_id,
        outcome,
        (*one.changes, *two.changes),
        two.data if then.error else {},
        {**one.secrets, **two.secrets},
        notes=tuple(dict.fromkeys((*one.notes, *two.notes))),
    )
    return ServerResult(first.name, reply, then.error)
