"""`sf plan` and `sf apply` of the whole file: servers, zones, then what needs names that can be found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ..errors import SfError
from ..model.result import CommandResult, Report, ServerResult
from . import apply as servers
from . import issuing, proof_keys, reach, stages, unmanaged
from .safe import Safety
from .scope import Scope, powers, scope
from .stages import AskedOnce, Stages, is_early, together
from .workspace import Workspace

if TYPE_CHECKING:
    from ..plan.resource import Resource

Approve = Callable[[CommandResult], bool]


async def plan(
    workspace: Workspace, *, selector: str, only: str | None, report: Report, safety: Safety
) -> CommandResult:
    """What would change, on the selected servers and, where all are, in the zones."""
    ours = await scope(workspace, servers.desired(workspace, selector, only), report)
    return await _planned(workspace, ours, selector, only, report, safety)


async def apply(
    workspace: Workspace,
    *,
    selector: str,
    only: str | None,
    approve: Approve,
    lock_wait_s: int,
    report: Report,
    safety: Safety,
) -> CommandResult:
    """In stages, where zones, certificates or routes are among it. What one plan has shown is asked about once."""
    has_zones = _has_zones(workspace, selector, only)
    asked = servers.desired(workspace, selector, only)
    ask = AskedOnce(approve)

    async def made(due: Sequence[Resource], looks: bool = False) -> CommandResult:
        keys = {(each.server, each.key) for each in due}
        return await servers.apply(
            workspace,
            selector=selector,
            only=only,
            approve=ask,
            lock_wait_s=lock_wait_s,
            report=report,
            safety=safety,
            meant=lambda each: (each.server, each.key) in keys,
            away=away,
            looks=looks,
        )

    away: dict[str, ServerResult] = {}
    ours = await scope(workspace, asked, report)
    if not has_zones and all(map(is_early, asked)) and not ours.keys and not ours.left_out:
        return await made(asked, looks=True)
    planned = await _planned(workspace, ours, selector, only, report, safety)
    if not ask(planned):
        raise SfError("nothing was done", code="declined")
    proof_keys.keep(workspace, ours.keys)
    work = Stages(workspace, ask, lock_wait_s, report)
    away |= reach.away(planned)
    meant = {*(each.server for each in ours.due), *workspace.fleet.dns.zones}
    work.add(CommandResult(servers=tuple(row for name, row in away.items() if name in meant)))
    work.add(await made([each for each in ours.due if is_early(each) and each.server not in away], looks=True))
    if zones := [zone for zone in workspace.fleet.dns.zones if zone not in away] if has_zones else []:
        await work.go(partial(_zones, workspace, zones, ask, report), zones)
    await work.finish([each for each in ours.due if not is_early(each)], made)
    if has_zones and only is None and not work.done.failures:  # what has another name now needed them until here
        await work.go(partial(_drop, workspace, lock_wait_s, report), ["zones of proofs"])
    quiet = unmanaged.not_told(name for name in away if name not in meant)
    return replace(work.done, notes=tuple(dict.fromkeys((*work.done.notes, *ours.notes, *quiet))))


async def _planned(
    workspace: Workspace, ours: Scope, selector: str, only: str | None, report: Report, safety: Safety
) -> CommandResult:
    found = await servers.plan(
        workspace,
        selector=selector,
        only=only,
        report=report,
        safety=safety,
        given=ours.keys,
        meant=lambda each: ours.has(each) and each.server not in ours.away,
        away=ours.away,
    )
    found = together(found, CommandResult(servers=tuple(ours.away.values())))
    if _has_zones(workspace, selector, only):
        found = together(found, _left_out(await _plan_zones(workspace, reach.away(found), report)))
        if only is None and not _primaries(workspace) & reach.away(found).keys():
            found = together(found, await proof_keys.planned(workspace, report))
    lost = {*reach.away(found), *(row.name for row in found.failures)}
    due = [each for each in ours.due if not is_early(each) and each.server not in lost]
    found = together(found, await issuing.planned(workspace, workspace.fleet, due, report))
    new = [each for each in ours.due if not ours.keys.keys().isdisjoint(each.secrets.values())]
    return replace(found, notes=(*found.notes, *ours.notes, *powers(workspace.fleet, new)))


async def _plan_zones(workspace: Workspace, away: reach.Away, report: Report) -> CommandResult:
    """All at once, without those whose primary is away."""
    from .zones import Wish, plan

    zones = {zone: away.get(reach.primary_of(workspace.fleet, zone)) for zone in workspace.fleet.dns.zones}
    asked = [zone for zone, silent in zones.items() if not silent]
    return together(
        await plan(workspace, asked, Wish(), report) if asked else CommandResult(workspace.label),
        *(reach.of_silent([zone], silent) for zone, silent in zones.items() if silent),
    )


async def _zones(workspace: Workspace, zones: Sequence[str], ask: AskedOnce, report: Report) -> CommandResult:
    from .zones import Wish, apply

    return _left_out(await apply(workspace, zones, Wish(), ask, report))


def _primaries(workspace: Workspace) -> set[str]:
    return {reach.primary_of(workspace.fleet, zone) for zone in workspace.fleet.dns.zones}


async def _drop(workspace: Workspace, lock_wait_s: int, report: Report) -> CommandResult:
    """What our key may not take off stays, and is told: a deploy key applies the rest of the file, each time."""
    dropped = await proof_keys.drop(workspace, lock_wait_s, report)
    closed = [row for row in dropped.servers if row.error and row.error.code == "not-granted"]
    notes = [f"{row.name}: zones of proofs that nobody needs stay: {row.error.message}" for row in closed if row.error]
    rows = tuple(
        replace(row, error=None) if row in closed else row for row in dropped.servers if row not in closed or row.reply
    )
    return replace(dropped, servers=rows, notes=(*dropped.notes, *notes))


def _left_out(zones: CommandResult) -> CommandResult:
    return stages.with_way_out(stages.without_closed(zones))


def _has_zones(workspace: Workspace, selector: str, only: str | None) -> bool:
    return bool(selector == "all" and only in (None, "dns") and workspace.fleet.dns.zones)
