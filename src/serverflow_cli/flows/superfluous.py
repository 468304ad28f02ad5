"""Certificates that an edit makes superfluous: they go, with their keys, once no route on their server names them.

nginx does not start while a file that its configuration names is not there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..model import selector
from ..model.cronrun import records
from ..model.result import CommandResult, Report, ServerResult
from ..plan.desired import resources
from ..plan.wishes import wishes
from .actions import read
from .issuing import run
from .stages import together
from .workspace import Workspace

if TYPE_CHECKING:
    from ..model.fleet import Fleet

#: A server, and the key of a resource or the name of a certificate there.
At = tuple[str, str]


def superfluous(before: Fleet, after: Fleet, taken: Collection[At] = ()) -> list[At]:
    """The certificates, by server and name, that servers were to have and are not any more, without those that are
    `taken` off by themselves. Raises UsageError where a route of the file names one of them.
    """
    now = {(wish.server, wish.name) for wish in wishes(after)}
    gone = [
        (wish.server, wish.name)
        for wish in wishes(before)
        if (wish.server, wish.name) not in now and wish.server in after.servers
    ]
    for key, route in after.routes.items():
        for server in selector.resolve(after.servers, route.on):
            if (server, route.certificate) in gone:
                raise UsageError(
                    f"routes.{key} uses the certificate {route.certificate} on {server}",
                    hint=f"sf route edit {key} --certificate none",
                )
    return [(server, name) for server, name in gone if (server, f"cert.{name}") not in taken]


async def planned(workspace: Workspace, after: Fleet, taken: Collection[At], report: Report) -> CommandResult:
    """What `take_off` would do, once routes are as `after` has them, and what is `taken` off is off."""
    done = CommandResult(workspace.label)
    gone = superfluous(workspace.fleet, after, taken)
    used, silent = await users(workspace, dict.fromkeys(server for server, _ in gone), report)
    managed = {(each.server, each.key) for each in resources(after)} | {*taken}
    for server, name in gone:
        routes = [each for each in used.get((server, name), ()) if (server, f"route.{each}") not in managed]
        if server in silent:
            done = together(done, CommandResult(servers=(silent[server],)))
        elif routes:
            done = together(done, CommandResult(notes=(_stays(server, name, routes),)))
        else:
            done = together(done, await _remove(workspace, server, name, 0, report, plan=True))
    return done


async def take_off(
    workspace: Workspace, gone: Sequence[At], broken: Collection[str], lock_wait_s: int, report: Report
) -> CommandResult:
    """Remove these, but not from servers where something is `broken`: a route there may still need its old one."""
    done = CommandResult(workspace.label)
    whole = dict.fromkeys(server for server, _ in gone if server not in broken)
    used, silent = await users(workspace, whole, report)
    for server, name in gone:
        if server in silent:
            done = together(done, CommandResult(servers=(silent[server],)))
        if server in silent or server in broken:
            later = f"{server}: the certificate {name} is still there: later sf cert remove {name} --on {server}"
            done = together(done, CommandResult(notes=(later,)))
        elif routes := used.get((server, name)):
            done = together(done, CommandResult(notes=(_stays(server, name, routes),)))
        else:
            done = together(done, await _remove(workspace, server, name, lock_wait_s, report, plan=False))
    return done


async def users(
    workspace: Workspace, servers: Collection[str], report: Report
) -> tuple[Mapping[At, Sequence[str]], Mapping[str, ServerResult]]:
    """The routes that servers have, whoever wants them, by server and certificate; and the servers that do not tell."""
    if not servers:
        return {}, {}
    told = await read(workspace, "route.list", ",".join(servers), {}, report)
    found: dict[At, list[str]] = {}
    for row in told.servers:
        for each in records(row.reply.data, "routes") if row.reply and not row.error else ():
            found.setdefault((row.name, str(each.get("certificate", ""))), []).append(str(each.get("name")))
    return found, {row.name: row for row in told.servers if row.error}


def _stays(server: str, name: str, routes: Sequence[str]) -> str:
    return (
        f"{server}: the certificate {name} stays, since nginx there names it for {', '.join(routes)}: "
        f"sf action run route.remove --on {server} name={routes[0]}, then sf cert remove {name} --on {server}"
    )


async def _remove(
    workspace: Workspace, server: str, name: str, lock_wait_s: int, report: Report, *, plan: bool
) -> CommandResult:
    params = {"name": name, "purge": True}
    return await run(workspace, "cert.remove", server, params, lock_wait_s, report, plan=plan)
