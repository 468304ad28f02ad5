"""A server's own names, its certificate and the page that it answers with: made, renamed and removed with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import SfError
from ..model.result import CommandResult, Report, ServerResult
from ..plan.desired import resources
from ..plan.proofs import challenges
from ..plan.welcome import PAGE, welcoming
from ..plan.zones import addresses, zone_of
from . import follow, proof_keys
from .config import How
from .stages import together

if TYPE_CHECKING:
    from ..model.fleet import Fleet
    from ..plan.resource import Resource
    from .workspace import Workspace

#: What follows from a server's name; all else is `sf apply`.
_OF_PRIMARIES = ("dns.zone", "dns.update-key")
_FINISH = "sf apply"


async def bring(
    workspace: Workspace, done: CommandResult, servers: Sequence[str], before: Fleet, report: Report
) -> CommandResult:
    """`done`, with what became of the names of these servers since the file was as `before`. What could not be made is
    a failure of its own: the server is added or gone all the same.
    """
    fleet = workspace.fleet
    if not fleet.dns.zones:
        return done
    gone = [server for server in servers if server not in fleet.servers]
    how = How(plan=False, approve=lambda _: True, timeout_s=None, lock_wait_s=30, report=report)
    try:
        made = await _made(workspace, servers, before, how)
    except SfError as error:
        made = CommandResult(workspace.label, servers=(ServerResult(", ".join(servers), error=error),))
    # A server with another name needs what it had until it has the new one; whoever stole one that is gone must not.
    if gone and (len(gone) == len(servers) or not made.failures):
        made = await _dropped(workspace, made, before, how)
    rows = [_told(row) for row in made.servers if row.error or (row.reply and row.reply.changes)]
    notes = [*made.notes, *_without_address(fleet, servers), *_answering(fleet, before, servers, made)]
    if made.failures:
        notes.append(f"fleet.toml has it; what is missing of names and certificates comes with {_FINISH}")
    return replace(done, servers=(*done.servers, *rows), notes=(*done.notes, *notes))


async def _made(workspace: Workspace, servers: Sequence[str], before: Fleet, how: How) -> CommandResult:
    fleet = workspace.fleet
    # Of those that have come, too: what another server of the name has left behind.
    proof_keys.forget(workspace, fleet.servers.keys() ^ before.servers.keys())
    keys = proof_keys.made(workspace, fleet)
    proof_keys.keep(workspace, keys)
    due, names = follow.changed(before, fleet)
    # Where several servers have one key, the others need the new one.
    due = [each for each in resources(fleet) if each in due or not keys.keys().isdisjoint(each.secrets.values())]
    meant = [each for each in due if _is_meant(each, servers, keys)]
    return await follow.in_stages(workspace, meant, names, how, force=True)


async def _dropped(workspace: Workspace, made: CommandResult, before: Fleet, how: How) -> CommandResult:
    """With the zones of proofs of servers that are gone taken off the primary, and no others: a colleague may have
    added what this folder has not heard of.
    """
    gone = _zones(before) - _zones(workspace.fleet)
    try:
        dropped = await proof_keys.drop(workspace, how.lock_wait_s, how.report, gone)
    except SfError as error:
        dropped = CommandResult(workspace.label, servers=(ServerResult("zones of proofs", error=error),))
    kept = [f"{row.name} still has the zone of proofs and its key: {_FINISH} removes them" for row in dropped.failures]
    return replace(together(made, dropped), notes=(*made.notes, *dropped.notes, *kept))


def _zones(fleet: Fleet) -> set[str]:
    return {each.zone for each in challenges(fleet).values()}


def _is_meant(resource: Resource, servers: Sequence[str], keys: dict[str, str]) -> bool:
    if resource.action in _OF_PRIMARIES:
        return True
    is_theirs = resource.server in servers or not keys.keys().isdisjoint(resource.secrets.values())
    return is_theirs and (resource.action == "cert.set" or resource.key == PAGE)


def _without_address(fleet: Fleet, servers: Sequence[str]) -> list[str]:
    if not fleet.base_domain or not zone_of(fleet, fleet.base_domain):
        return []
    return [
        f"{server} gets no name: its host is no address, and servers.{server}.addresses has none"
        for server in servers
        if server in fleet.servers and not addresses(fleet, server)
    ]


def _answering(fleet: Fleet, before: Fleet, servers: Sequence[str], made: CommandResult) -> list[str]:
    """Where the pages that were made now answer."""
    broken, pages, then = {row.name for row in made.failures}, welcoming(fleet), welcoming(before)
    return [
        f"https://{pages[server]} answers"
        for server in servers
        if server in pages and pages[server] != then.get(server) and server not in broken
    ]


def _told(row: ServerResult) -> ServerResult:
    if row.error and not row.error.hint:
        is_page = row.error.message.startswith(PAGE) and row.error.code != "not-tried"
        row.error.hint = f"{_FINISH}; without the page: [acme] welcome = false" if is_page else _FINISH
    return row
