"""The order in which a fleet is made where names are part of it: servers, zones, then certificates and routes, which
need names that can be found. What fails holds up what needs it and nothing else; a no, or Ctrl-C, ends it, and what was
done by then is told.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ..errors import Interrupted, SfError
from ..model.result import CommandResult, Reply, Report, ServerResult
from ..plan.zones import zone_of
from . import sealing
from .apply import on_failures
from .issuing import issue

if TYPE_CHECKING:
    from ..model.fleet import Fleet
    from ..plan.resource import Resource
    from .workspace import Workspace

Approve = Callable[[CommandResult], bool]
Make = Callable[[Sequence["Resource"]], Awaitable[CommandResult]]
T = TypeVar("T")


class AskedOnce:
    """What was shown, and agreed to, is not asked about again; what is new is."""

    def __init__(self, approve: Approve) -> None:
        self._approve, self._asked = approve, False
        self._seen: set[tuple[str, str, str]] = set()
        #: What was asked last, when there was no yes to it: then nothing more is done.
        self.refused: CommandResult | None = None

    def __call__(self, planned: CommandResult) -> bool:
        now = set(_lines(planned))
        if now <= self._seen and (self._asked or not now):
            return True
        self._asked = True
        self._seen |= now
        self.refused = planned
        notes = dict.fromkeys((*planned.notes, *on_failures(planned.failures)))
        if not self._approve(replace(planned, notes=tuple(notes))):
            return False
        self.refused = None
        return True


class Stages:
    """What has been done so far, and the stages that come next."""

    def __init__(self, workspace: Workspace, ask: AskedOnce, lock_wait_s: int, report: Report) -> None:
        self.done = CommandResult(workspace.label)
        self._workspace, self._ask, self._lock_wait_s, self._report = workspace, ask, lock_wait_s, report
        #: Servers, zones, and `SERVER KEY` of certificates.
        self._broken: set[str] = set()

    async def go(self, stage: Callable[[], Awaitable[CommandResult]], names: Iterable[str]) -> CommandResult:
        """Do it. `names` are the servers and zones that it is about: they failed where it breaks off."""
        try:
            if self._ask.refused:
                made = CommandResult(servers=not_tried(names, "not tried"))
            else:
                made = await self._heard(stage())
        except (SfError, KeyboardInterrupt) as error:
            made = CommandResult(servers=_broken_off(self._ask.refused, error, names))
        self.add(made)
        return made

    def add(self, made: CommandResult) -> None:
        """What was done, or could not be."""
        zones = self._workspace.fleet.dns.zones
        rows = tuple(replace(row, kind="zone") if row.name in zones else row for row in made.servers)
        self.done = together(self.done, replace(made, servers=rows))
        self._broken |= {row.name for row in rows if row.error}

    async def finish(self, due: Iterable[Resource], make: Make) -> CommandResult:
        """Certificates, then routes. Returns all that was done."""
        by_stage: tuple[list[Resource], list[Resource]] = ([], [])
        for each in due:
            by_stage[is_route(each)].append(each)
        for rest in by_stage:
            ready = self._ready(rest)
            if ready:
                await self.go(partial(make, ready), dict.fromkeys(each.server for each in ready))
            well = [each for each in ready if each.server not in self._broken and not self._ask.refused]
            try:
                issued = await self._heard(issue(self._workspace, well, self._ask, self._lock_wait_s, self._report))
            except (SfError, KeyboardInterrupt) as error:
                servers = dict.fromkeys(each.server for each in well)
                self.add(CommandResult(servers=_broken_off(self._ask.refused, error, servers)))
                continue
            self._broken |= {f"{server} cert.{name}" for (server, name), row in issued.items() if row.failures}
            self.done = together(self.done, *issued.values())
        return self.done

    async def _heard(self, work: Awaitable[T]) -> T:
        """Ctrl-C would lose what was done before."""
        try:
            return await work
        except asyncio.CancelledError:
            if changed := [row.name for row in self.done.servers if row.reply and row.reply.changes]:
                self._report(
                    {"t": "left", "text": f"changed before that: {', '.join(changed)}; sf plan shows the rest"}
                )
            raise

    def _ready(self, rest: Iterable[Resource]) -> list[Resource]:
        """Those that lack nothing. The others are told, unless their servers have told already."""
        ready: list[Resource] = []
        told: list[ServerResult] = []
        for each in rest:
            lacks = [one for one in needs(self._workspace.fleet, each) if one in self._broken]
            if not lacks and not self._ask.refused:
                ready.append(each)
                continue
            if each.server not in lacks:
                why = "" if self._ask.refused else f", {lacks[0].rpartition(' ')[2]} comes first"
                told += not_tried([each.server], f"{each.key}: not tried{why}")
            self._broken.add(f"{each.server} {each.key}")
        self.done = together(self.done, CommandResult(servers=tuple(told)))
        return ready


def needs(fleet: Fleet, resource: Resource) -> list[str]:
    """What has to be there before it: the server, the zones of its names and proofs, and a route's certificate."""
    params = resource.params
    names = [*params.get("names", ()), *params.get("host", ()), params.get("zone", "")]
    zones = [zone_of(fleet, name) for name in names]
    return [resource.server, *filter(None, zones), f"{resource.server} cert.{params.get('certificate', '')}"]


def is_early(resource: Resource) -> bool:
    """Before the zones: some servers serve them."""
    return not is_certificate(resource) and not is_route(resource)


def is_certificate(resource: Resource) -> bool:
    return resource.action == "cert.set"


def is_route(resource: Resource) -> bool:
    return resource.action.partition(".")[0] == "route"


def together(*parts: CommandResult) -> CommandResult:
    """Several results as one: each server and zone once, with what every stage did to it."""
    rows: dict[str, ServerResult] = {}
    for part in parts:
        for row in part.servers:
            rows[row.name] = _both(rows[row.name], row) if row.name in rows else row
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    data = {key: value for part in parts for key, value in part.data.items()}
    return CommandResult(parts[0].fleet, parts[0].op, tuple(rows.values()), data, notes)


def without_closed(zones: CommandResult) -> CommandResult:
    """A token that this key cannot open leaves its zones out: a deploy key applies the rest of the file."""
    closed = [row for row in zones.servers if row.error and row.error.code == sealing.NOT_OURS]
    rows = tuple(row for row in zones.servers if row not in closed)
    notes = [f"zone {row.name} is left out: {row.error.message}" for row in closed if row.error]
    return replace(zones, servers=rows, notes=(*zones.notes, *notes))


def with_way_out(zones: CommandResult) -> CommandResult:
    """A plan that goes too far for one without --force is carried out by the command that has it."""
    for row in zones.servers:
        if row.error and row.error.code in ("too-much", "nameservers"):
            row.error.hint = f"if that is meant: sf dns apply {row.name} --force"
    return zones


def not_tried(names: Iterable[str], why: str) -> tuple[ServerResult, ...]:
    return tuple(ServerResult(name, error=SfError(why, code="not-tried")) for name in names)


def _broken_off(
    asked: CommandResult | None, error: SfError | KeyboardInterrupt, names: Iterable[str]
) -> tuple[ServerResult, ...]:
    """A stage's rows when there was no yes to what it `asked`, or it could not even ask."""
    if not isinstance(error, SfError):
        error = Interrupted("interrupted")
    if asked is None:
        return tuple(ServerResult(name, error=copy.copy(error)) for name in names)
    error = copy.copy(error)
    error.message = "not done: there was no yes to it" if error.code == "declined" else f"not done: {error.message}"
    return tuple(
        row if row.error else ServerResult(row.name, error=copy.copy(error))
        for row in asked.servers
        if row.error or (row.reply and row.reply.changes)
    )


def _lines(planned: CommandResult) -> list[tuple[str, str, str]]:
    return [
        (row.name, change.verb, f"{change.kind} {change.name}")
        for row in planned.servers
        if row.reply
        for change in row.reply.changes
    ]


def _both(first: ServerResult, then: ServerResult) -> ServerResult:
    one, two = first.reply or Reply("", first.outcome), then.reply or Reply("", then.outcome)
    if first.error or then.error:
        bad = first if first.error else then
        outcome = "failed" if bad.reply is None and (*one.changes, *two.changes) else bad.outcome
    else:
        outcome = next((each for each in ("changed", "done") if each in (one.outcome, two.outcome)), two.outcome)
    reply = Reply(
        two.op_id or one.op_id,
        outcome,
        (*one.changes, *two.changes),
        {**one.data, **two.data},
        {**one.secrets, **two.secrets},
        notes=tuple(dict.fromkeys((*one.notes, *two.notes))),
    )
    return ServerResult(first.name, reply, _error(first.error, then.error), kind=first.kind)


def _error(first: SfError | None, then: SfError | None) -> SfError | None:
    """The first, which counts, with the words of both."""
    if first is None or then is None or then.message in first.message.splitlines():
        return first or then
    error = copy.copy(first)
    error.message = f"{first.message}\n{then.message}"
    return error
