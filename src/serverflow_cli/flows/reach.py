"""Servers that do not answer while something is planned: said before the question, and not waited for twice. Without
some of them an edit is refused: names that lead to nothing are worse than none.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from serverflow_actions.kit.rrset import fqdn

from ..errors import TrustError, Unreachable
from ..model.result import CommandResult, ServerResult
from .stages import is_early, is_route, needs

if TYPE_CHECKING:
    from ..model.fleet import Fleet
    from ..plan.resource import Resource

Away = Mapping[str, ServerResult]
NOTHING = "nothing was done, and fleet.toml is as it was"


def away(*planned: CommandResult) -> dict[str, ServerResult]:
    """The servers and zones of which nobody answered, by name, and the servers that zones were asked of; but not one
    that was planned itself, from which only a zone's answer was lost.
    """
    found: dict[str, ServerResult] = {}
    there = {row.name for each in planned for row in each.servers if not row.error}
    for row in (row for each in planned for row in each.failures):
        if isinstance(row.error, Unreachable):
            found[row.name] = replace(row, reply=None)
            if row.error.server and row.error.server not in there:
                found.setdefault(row.error.server, ServerResult(row.error.server, error=row.error))
    return found


async def zone_plans(
    fleet: Fleet, zones: Iterable[str], known: Away, plan: Callable[[str], Awaitable[CommandResult]]
) -> list[CommandResult]:
    """The plan of each. Of one whose primary is away, that it is: it is not asked again."""
    found: list[CommandResult] = []
    for zone in zones:
        silent = {**known, **away(*found)}.get(primary_of(fleet, zone))
        found.append(of_silent([zone], silent) if silent else await plan(zone))
    return found


def of_silent(zones: Iterable[str], primary: ServerResult) -> CommandResult:
    """The plan of zones whose primary does not answer."""
    return CommandResult(servers=tuple(ServerResult(zone, error=primary.error, kind="zone") for zone in zones))


def primary_of(fleet: Fleet, zone: str) -> str:
    """The server of ours where a zone is changed; "" for one that is kept elsewhere."""
    provider = fleet.dns.providers[fleet.dns.zones[zone].provider]
    return provider.on if provider.provider == "powerdns" else ""


def needed_first(
    fleet: Fleet, due: Iterable[Resource], zone: str, names: Collection[str], broken: Collection[str]
) -> str:
    """The one of the `broken` servers without which these names of a zone are not to be made: its primary, or one to
    which they are to lead for a route. "" for none.
    """
    if (primary := primary_of(fleet, zone)) in broken:
        return primary
    for each in due:
        if is_route(each) and each.server in broken and not {*names}.isdisjoint(map(fqdn, each.params["host"])):
            return each.server
    return ""


def refused(
    fleet: Fleet, due: Collection[Resource], names: Mapping[str, Collection[str]], planned: CommandResult
) -> CommandResult | None:
    """What an edit ends with before anybody is asked: when all that it is for would be held up by what cannot be
    planned, its names would lead to a server that cannot, or nothing is left to ask about. None when it can be made, if
    only in part.
    """
    if planned.failures and not any(row.reply and row.reply.changes for row in planned.servers):
        return replace(planned, notes=(*planned.notes, NOTHING))
    lost = {row.name: row for row in planned.failures if _is_lost(fleet, row)}
    held = _held_up(fleet, due, lost)
    aim = [each for each in due if not is_early(each)] or due
    in_vain = all(each in held for each in aim) if aim else names.keys() <= lost.keys()
    if not lost or not (in_vain or any(needed_first(fleet, due, zone, only, lost) for zone, only in names.items())):
        return None
    by_server: dict[str, ServerResult] = {}
    for row in lost.values():
        server = (row.error and row.error.server) or row.name
        by_server[server] = row if server == row.name else ServerResult(server, error=row.error)
    rows = tuple(_with_way_out(due, lost, replace(row, reply=None)) for row in by_server.values())
    return CommandResult(planned.fleet, servers=rows, notes=(NOTHING,))


def _with_way_out(due: Iterable[Resource], lost: Collection[str], row: ServerResult) -> ServerResult:
    """A route that is for others, too, can be made there."""
    routes = [each for each in due if is_route(each)]
    here = {each.key for each in routes if each.server == row.name}
    if row.error and any(each.key in here and each.server not in lost for each in routes):
        row = replace(row, error=copy.copy(row.error))
        assert row.error
        row.error.hint = "\n".join(filter(None, (row.error.hint, f"--on without {row.name} for the other servers")))
    return row


def _is_lost(fleet: Fleet, row: ServerResult) -> bool:
    """Not a zone that has a way out, such as --force: that needs the file as the edit leaves it."""
    return row.name in fleet.servers or isinstance(row.error, (Unreachable, TrustError))


def _held_up(fleet: Fleet, due: Iterable[Resource], broken: Iterable[str]) -> list[Resource]:
    """Those that need something broken, or what does."""
    lost, found = {*broken}, []
    for each in due:
        if not lost.isdisjoint([each.server] if is_early(each) else needs(fleet, each)):
            lost.add(f"{each.server} {each.key}")
            found.append(each)
    return found
