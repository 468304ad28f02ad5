"""What a plan amounts to: the servers' answers as one list with counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from serverflow_actions.kit.change import Change

from .resource import Resource


@dataclass(frozen=True)
class PlanLine:
    """One change on one server, for one resource of the fleet file."""

    server: str
    resource: str
    change: Change


@dataclass(frozen=True)
class PlanSummary:
    """All changes in the order of the plan. `unchanged` counts the resources that are as they should be."""

    lines: tuple[PlanLine, ...]
    create: int = 0
    update: int = 0
    delete: int = 0
    run: int = 0
    unchanged: int = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.lines


@dataclass(frozen=True)
class Unmanaged:
    """A resource that was applied to a server and that the fleet file no longer has."""

    server: str
    key: str


def summarise(replies: Mapping[str, Mapping[str, Sequence[Change]]]) -> PlanSummary:
    """Sum up plan replies: server → resource key → its changes."""
    lines = tuple(
        PlanLine(server, key, change)
        for server, answered in replies.items()
        for key, changes in answered.items()
        for change in changes
    )
    count = Counter(line.change.verb for line in lines)
    unchanged = sum(not changes for answered in replies.values() for changes in answered.values())
    return PlanSummary(lines, count["create"], count["update"], count["delete"], count["run"], unchanged)


def unmanaged(known_applied: Mapping[str, Iterable[str]], resources: Iterable[Resource]) -> list[Unmanaged]:
    """What servers say was applied (server → resource keys) and no stanza asks for any more. Only people remove it."""
    wanted = {(resource.server, resource.key) for resource in resources}
    return [
        Unmanaged(server, key)
        for server, keys in known_applied.items()
        for key in sorted(keys)
        if (server, key) not in wanted
    ]
