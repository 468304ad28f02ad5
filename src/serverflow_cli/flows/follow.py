"""An edit of fleet.toml and all that follows from it, on servers and in zones: one plan, one question, then stages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..config.edit import Editor, edit
from ..config.load import parse, read_text
from ..errors import PlanChanged, SfError
from ..model.result import CommandResult
from ..plan.desired import resources
from ..plan.wishes import crowded
from ..plan.zones import homeless, wanted
from . import issuing, proof_keys, reach, sealing, stages, superfluous, vault
from .apply import apply_resources
from .config import How
from .scope import powers
from .stages import AskedOnce, Stages, is_early, together
from .stanza import AGAIN
from .workspace import Workspace

if TYPE_CHECKING:
    from ..model.fleet import Fleet
    from ..plan.resource import Resource

KEPT = "fleet.toml keeps it; sf apply tries again"


async def made(
    workspace: Workspace,
    change: Callable[[Editor], None],
    how: How,
    given: Mapping[str, str] | None = None,
    *,
    without: Callable[[Fleet], Fleet] | None = None,
) -> CommandResult:
    """Make what the edit adds and changes; what it takes away goes from the zones, and from servers by a removal. When
    the file says it all already, as after a failure, all that follows from the stanza is looked at: what tells the
    fleet from one `without` it. Then what our key cannot open is left out, and told: nothing of it was to be changed.

    The file is written once the plan was approved; not where it would be in vain, or names would lead to a server that
    cannot be planned (`reach.refused`). `given` are values of secrets that the file is to refer to. Raises PlanChanged
    when somebody has changed the file meanwhile.
    """
    before = read_text(workspace.folder.fleet_toml)
    editor = Editor(before)
    change(editor)
    fleet = parse(editor.text)
    secrets = {**(given or {}), **proof_keys.made(workspace, fleet)}
    due, names = changed(workspace.fleet, fleet)
    # A secret has a new value, and the stanza is what it was.
    due = [each for each in resources(fleet) if each in due or set(each.secrets.values()) & set(given or ())]
    closed: list[str] = []
    again = None if due or names else without
    if again:
        due, names = changed(again(fleet), fleet)
        due, closed = sealing.openable(workspace, due, secrets)
    gone = await superfluous.planned(workspace, fleet, (), how.report)
    servers, zones = await _planned(workspace, fleet, due, names, how, secrets, reach.away(gone))
    if again:
        zones = list(map(stages.without_closed, zones))
        names = {zone: names[zone] for zone, each in zip(names, zones, strict=True) if each.servers}
    old = workspace.fleet
    planned = together(servers, *zones, gone)
    left_out = [*closed, *(note for each in zones for note in each.notes if again)]
    notes = [*_new_remarks(workspace.fleet, fleet), *powers(fleet, due), *left_out]
    planned = replace(planned, notes=tuple(dict.fromkeys((*planned.notes, *notes))))
    if how.plan:
        return planned
    wanted_on = {each.server for each in due}  # an edit may well lead away from a server that is dead
    silent = tuple(row for name, row in reach.away(gone).items() if name in wanted_on)
    needed = together(servers, *zones, CommandResult(servers=silent))
    if refused := reach.refused(fleet, due, names, needed):
        return refused
    if secrets:
        vault.check_may_sign(workspace)
    ask = AskedOnce(how.approve)
    if not ask(planned):
        raise SfError("nothing was done", code="declined")
    if secrets:  # first: the file never refers to what is not there
        sealing.store(workspace, secrets)
    with edit(workspace.folder) as real:
        if real.text != before:
            raise PlanChanged("fleet.toml was changed since this was planned", hint=AGAIN)
        change(real)
    workspace.refresh()
    try:
        gone_at = superfluous.superfluous(old, workspace.fleet)
        how = replace(how, approve=ask)
        done = await in_stages(workspace, due, names, how, gone=gone_at, away=reach.away(planned))
    except asyncio.CancelledError:
        how.report({"t": "left", "text": KEPT})
        raise
    notes += [KEPT] if done.failures else []
    return replace(done, notes=tuple(dict.fromkeys((*done.notes, *notes))))


async def removed(
    workspace: Workspace,
    take: Callable[[How], Awaitable[CommandResult]],
    fleet: Fleet,
    taken: Collection[superfluous.At],
    how: How,
) -> CommandResult:
    """Take something off its servers, and then make all that follows when the file is as `fleet`: what others need
    instead, names, certificates that are superfluous. One question. `take` takes off what is `taken`, by server and
    key, and writes the file when it is off all of them; else nothing follows yet, nor is anything planned to. Raises
    UsageError when a route needs it.
    """
    before = workspace.fleet
    due, names = changed(before, fleet)
    secrets = proof_keys.made(workspace, fleet)
    off = await take(replace(how, plan=True))
    planned = off
    if not off.failures:
        gone = await superfluous.planned(workspace, fleet, taken, how.report)
        servers, zones = await _planned(workspace, fleet, due, names, how, secrets, reach.away(gone))
        planned = together(off, servers, *zones, gone)
        planned = replace(planned, notes=tuple(dict.fromkeys((*planned.notes, *powers(fleet, due)))))
    if how.plan:
        return planned
    if all(row.error for row in off.servers):
        return off
    if secrets:
        vault.check_may_sign(workspace)
    ask = AskedOnce(how.approve)
    if not ask(planned):
        raise SfError("nothing was done", code="declined")
    proof_keys.keep(workspace, secrets)
    how = replace(how, approve=ask)
    done = await take(how)
    workspace.refresh()
    if done.failures:
        return done
    gone_at = superfluous.superfluous(before, workspace.fleet, taken)
    return await in_stages(workspace, due, names, how, done, gone=gone_at, away=reach.away(planned))


async def in_stages(
    workspace: Workspace,
    due: list[Resource],
    names: Mapping[str, set[str]],
    how: How,
    done: CommandResult | None = None,
    *,
    gone: Sequence[superfluous.At] = (),
    away: reach.Away = MappingProxyType({}),
    force: bool = False,
) -> CommandResult:
    """Servers, zones, certificates, routes: each needs what comes before. Names are not made that would lead to a
    server that failed, or without their primary. What was `done` before is told with it. Certificates that are to be
    `gone` go at the end, when no route has them. Who was `away` is not asked again. With `force` zones change as much
    as it takes.
    """
    ask = how.approve if isinstance(how.approve, AskedOnce) else AskedOnce(how.approve)
    how = replace(how, approve=ask)
    work = Stages(workspace, ask, how.lock_wait_s, how.report)
    early = [each for each in due if is_early(each) and each.server not in away]
    work.done = done or work.done
    meant = {*names, *(each.server for each in due), *(server for server, _ in gone)}
    work.add(CommandResult(servers=tuple(row for name, row in away.items() if name in meant)))
    await work.go(partial(_on_servers, workspace, early, how, {}), dict.fromkeys(each.server for each in early))
    broken = {row.name for row in work.done.failures}
    for zone, only in names.items():
        if zone in away:
            continue
        if server := reach.needed_first(workspace.fleet, due, zone, only, broken):
            work.add(CommandResult(servers=stages.not_tried([zone], f"not tried, {server} comes first")))
        else:
            await work.go(partial(_named, workspace, zone, only, how, force), [zone])
    await work.finish(
        [each for each in due if not is_early(each)], lambda ready: _on_servers(workspace, ready, how, {})
    )
    broken = {row.name for row in work.done.failures}
    await work.go(
        partial(superfluous.take_off, workspace, gone, broken, how.lock_wait_s, how.report),
        dict.fromkeys(server for server, _ in gone),
    )
    return work.done


def changed(old: Fleet, new: Fleet) -> tuple[list[Resource], dict[str, set[str]]]:
    """The resources that are new or other ones, and the names that are, by zone."""
    known = resources(old)
    names: dict[str, set[str]] = {}
    for zone in new.dns.zones:
        now = {each.served for each in wanted(new, zone)}
        then = {each.served for each in wanted(old, zone)} if zone in old.dns.zones else set()
        if differing := now ^ then:
            names[zone] = {each.rrset.name for each in differing}
    return [each for each in resources(new) if each not in known], names


async def _on_servers(
    workspace: Workspace, due: Sequence[Resource], how: How, given: Mapping[str, str], *, plan_only: bool = False
) -> CommandResult:
    if not due:
        return CommandResult(workspace.label)
    return await apply_resources(
        workspace,
        due,
        approve=how.approve,
        plan_only=plan_only,
        lock_wait_s=how.lock_wait_s,
        report=how.report,
        timeout_s=how.timeout_s,
        safety=how.safety,
        given=given,
    )


async def _planned(
    workspace: Workspace,
    fleet: Fleet,
    due: Sequence[Resource],
    names: Mapping[str, set[str]],
    how: How,
    secrets: Mapping[str, str],
    known: reach.Away,
) -> tuple[CommandResult, list[CommandResult]]:
    """What would change on servers, certificates that they would get among it, and in each zone. Who is known to be
    away is not asked again.
    """
    from .zones import Wish, plan

    there = [each for each in due if each.server not in known]
    servers = await _on_servers(workspace, there, how, secrets, plan_only=True)
    known = {**known, **reach.away(servers)}
    lost = {*known, *(row.name for row in servers.failures)}
    certified = [each for each in due if not is_early(each) and each.server not in lost]
    servers = together(servers, await issuing.planned(workspace, fleet, certified, how.report))

    async def of(zone: str) -> CommandResult:
        return stages.with_way_out(await plan(workspace, [zone], Wish(), how.report, fleet, names[zone]))

    return servers, await reach.zone_plans(fleet, names, known, of)


async def _named(
    workspace: Workspace, zone: str, only: Collection[str], how: How, force: bool = False
) -> CommandResult:
    from .zones import Wish, apply

    return stages.with_way_out(await apply(workspace, [zone], Wish(force=force), how.approve, how.report, only=only))


def _new_remarks(old: Fleet, new: Fleet) -> list[str]:
    """On what leads nowhere, and on certificates of which there are too many."""
    known = _remarks(old)
    return [remark for remark in _remarks(new) if remark not in known]


def _remarks(fleet: Fleet) -> list[str]:
    return [*(remark for zone in fleet.dns.zones for remark in homeless(fleet, zone)), *crowded(fleet)]
