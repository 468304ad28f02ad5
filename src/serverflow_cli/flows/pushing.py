"""Trust versions on their way to servers: one after the other, as the rule of succession asks."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from serverflow_actions.kit.change import Change

from ..model.result import Reply, Report, ServerResult
from .workspace import Workspace

if TYPE_CHECKING:
    from ..rpc.call import Caller
    from ..rpc.hello import Link


async def push_trust(
    workspace: Workspace, report: Report, names: Collection[str] | None = None
) -> tuple[ServerResult, ...]:
    """Bring the newest trust version to these servers, or to all; each says how it fared. It needs no root key: the
    signatures are in the folder.
    """
    servers = list(workspace.ids) if names is None else names
    if not servers:
        return ()
    async with workspace.caller() as caller:

        async def work(link: Link) -> Reply:
            async with caller.hold(link):
                greeting = await caller.greet(link)
                await bring_trust(workspace, caller, link, greeting.trust_version, report)
            changes = trust_change(greeting.trust_version, workspace.trust.version)
            return Reply("", "done" if changes else "unchanged", changes)

        return await workspace.on_all(servers, work, report)


async def bring_trust(workspace: Workspace, caller: Caller, link: Link, installed: int, report: Report) -> None:
    """All versions that the server does not have yet. Raises SfError."""
    from ..trust import chain

    for number in range(installed + 1, workspace.trust.version + 1):
        report({"t": "step", "server": link.name, "doing": f"trust version {number}"})
        body, blobs = chain.read_version(workspace.folder.trust, number)
        await caller.push(link, body, blobs, (), report)


def trust_change(installed: int, newest: int) -> tuple[Change, ...]:
    """What bringing it changes on a server."""
    if installed >= newest:
        return ()
    return (Change("update", "trust", "trust file", {"version": (installed, newest)}),)


def behind(results: Collection[ServerResult]) -> list[str]:
    """The servers that could not be reached, or that did not take it."""
    return [result.name for result in results if result.error]
