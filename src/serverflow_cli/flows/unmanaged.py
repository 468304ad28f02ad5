"""What servers still have that no stanza asks for any more: reported, since only a named removal removes."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from serverflow_actions import registry

from ..errors import Unreachable
from ..model.ids import new_ulid
from ..model.result import Reply, Report, Request, ServerResult
from ..plan.desired import resources
from ..plan.diff import Unmanaged, unmanaged
from ..plan.welcome import PAGE, given_way
from .workspace import Workspace

if TYPE_CHECKING:
    from ..rpc.call import Caller
    from ..rpc.hello import Link

#: What goes on by itself, and what ends it: alerts leave, jobs run, certificates are renewed, routes answer.
_AT_WORK = {
    "notify": "sf notify remove {name} --on {server}",
    "cron": "sf cron remove {name} --on {server}",
    "cert": "sf cert remove {name} --on {server}",
    "route": "sf action run route.remove --on {server} name={name}",
}


async def find(
    workspace: Workspace, caller: Caller, selector: str, report: Report, failed: Collection[str] = ()
) -> tuple[list[Unmanaged], list[ServerResult]]:
    """Resources that were applied once and that the file no longer has for that server; and the servers that could not
    be asked. Those that `failed` already are left alone.
    """
    selected = workspace.select(selector) if workspace.servers else []
    names = [name for name in selected if name in workspace.ids and name not in failed]
    version = registry.load("applied.list").version
    applied: dict[str, list[str]] = {}

    async def work(link: Link) -> Reply:
        reply = await caller.call(
            link, Request("applied.list", read_only=True, timeout_s=20), new_ulid(), version, report
        )
        applied[link.name] = list(reply.data["applied"])
        return reply

    asked = await workspace.on_all(names, work, report)
    replaced = given_way(workspace.fleet)  # route.set of what came instead has taken the page away
    found = [
        each
        for each in unmanaged(applied, resources(workspace.fleet))
        if each.key != PAGE or each.server not in replaced
    ]
    return found, [result for result in asked if isinstance(result.error, Unreachable)]


async def at_work(
    workspace: Workspace, caller: Caller, selector: str, only: str | None, failed: Collection[str], report: Report
) -> list[str]:
    """Notes on what a changed file has left on servers, and goes on there."""
    areas = [area for area in _AT_WORK if only in (None, area)]
    if not areas:
        return []
    found, silent = await find(workspace, caller, selector, report, failed)
    notes = [remark(workspace, entry) for entry in found if entry.key.partition(".")[0] in areas]
    return [*notes, *not_told(result.name for result in silent)]


def not_told(names: Iterable[str]) -> list[str]:
    """A note on servers that did not answer, and of which nothing else was wanted."""
    return [f"could not be asked what they still have: {text}"] if (text := ", ".join(names)) else []


def remark(workspace: Workspace, entry: Unmanaged) -> str:
    """Whether its stanza is gone, or is for other servers only; with the command that ends what goes on by itself."""
    area, _, name = entry.key.partition(".")
    # A channel to which no route sends is no resource of any server.
    there = {f"notify.{channel}" for channel in workspace.fleet.notify.channels}
    there |= {resource.key for resource in resources(workspace.fleet)}
    why = f"no longer for {entry.server}" if entry.key in there else "no longer in fleet.toml"
    way_out = _AT_WORK.get(area, "").format(name=shlex.quote(name), server=entry.server)
    said = f"{entry.server}: {entry.key} is unmanaged: it was applied once and is {why}"
    return f"{said}: {way_out}" if way_out else said
