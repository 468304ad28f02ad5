"""One question for what is made in rounds: what can be planned only later is told beforehand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import SfError
from ..model.result import CommandResult, ServerResult
from .stages import AskedOnce

if TYPE_CHECKING:
    from ..plan.resource import Resource

Approve = Callable[[CommandResult], bool]
#: A server or zone, a verb, and a kind and name: a change as AskedOnce knows it.
Line = tuple[str, str, str]
#: What an action of this name makes, and the parameter that is its name. What else may wait is asked about.
_MAKES = {"dns.key": ("tsig-key", "name"), "dns.zone": ("zone", "zone")}


class Foretold(AskedOnce):
    """`rows` stand in the first question as if they were planned, and its notes name what waits: `waiting` are the
    resources that may. Neither is asked about when its turn has come; whatever else is then due is.

    A resource that waits may only be made, unless the file `knew` it before: then it may be changed, too.
    """

    def __init__(
        self,
        approve: Approve,
        rows: Sequence[ServerResult],
        waiting: Iterable[Resource],
        knew: Collection[tuple[str, str]],
    ) -> None:
        super().__init__(self._first_whole)
        self._rows, self._answer = tuple(rows), approve
        self._seen |= set(_of_rows(rows))
        self._seen |= {line for each in waiting for line in _of(each, (each.server, each.key) in knew)}
        self._is_first = True

    def whole(self, planned: CommandResult) -> CommandResult:
        """The plan with what comes after it."""
        there = {row.name for row in planned.servers}
        return replace(planned, servers=(*planned.servers, *(row for row in self._rows if row.name not in there)))

    def before_write(self) -> None:
        """Ask about the rows, unless that was done with the servers' own changes. Raises SfError after a no."""
        if not self(CommandResult(servers=self._rows)):
            raise SfError("nothing was done", code="declined")

    def _first_whole(self, planned: CommandResult) -> bool:
        shown, self._is_first = (self.whole(planned) if self._is_first else planned), False
        return self._answer(shown)


def _of(resource: Resource, was_known: bool) -> Iterator[Line]:
    if resource.action in _MAKES:
        kind, param = _MAKES[resource.action]
        for verb in ("create", "update") if was_known else ("create",):
            yield resource.server, verb, f"{kind} {resource.params[param]}"


def _of_rows(rows: Iterable[ServerResult]) -> Iterator[Line]:
    for row in rows:
        for change in row.reply.changes if row.reply else ():
            yield row.name, change.verb, f"{change.kind} {change.name}"
