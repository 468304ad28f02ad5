"""`sf safe history` and `sf safe show`: how safe changes ended, as servers tell it from their receipts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from serverflow_actions import registry
from serverflow_actions.kit.change import from_json

from ..model.ids import new_ulid
from ..model.result import CommandResult, Reply, Report, Request
from .workspace import Workspace

if TYPE_CHECKING:
    from ..rpc.call import Caller
    from ..rpc.hello import Link

Work = Callable[["Caller", "Link"], Awaitable[Reply]]

_COLUMNS = ("op", "action", "actor", "at", "ended", "by", "ended_at")


async def history(workspace: Workspace, *, selector: str, limit: int, report: Report) -> CommandResult:
    """The newest safe changes of each server; `ended` is pending, confirmed, rolled-back, failed or unknown, and
    `problems` what could not be put back.
    """

    async def work(caller: Caller, link: Link) -> Reply:
        from ..rpc.answers import records

        reply = await _ask(caller, link, "safe.history", {"limit": limit}, report)
        rows = records(reply.data.get("changes"), link.name)
        return replace(reply, data={"changes": list(map(_row, rows))})

    return await _on_all(workspace, selector, work, report)


def _row(told: Mapping[str, Any]) -> dict[str, Any]:
    problems = told.get("problems")  # an older server has none to tell of
    return {**{key: told.get(key) for key in _COLUMNS}, "problems": problems if isinstance(problems, list) else []}


async def show(workspace: Workspace, op_id: str, *, selector: str, report: Report) -> CommandResult:
    """One of them, with what it changed."""

    async def work(caller: Caller, link: Link) -> Reply:
        from ..rpc.answers import changes

        reply = await _ask(caller, link, "safe.show", {"op": op_id}, report)
        about = {key: value for key, value in reply.data.items() if key != "changes"}
        made = tuple(map(from_json, changes(reply.data.get("changes"), link.name)))
        return replace(reply, op_id=op_id, outcome=str(about.get("ended", "unknown")), changes=made, data=about)

    return await _on_all(workspace, selector, work, report)


async def _on_all(workspace: Workspace, selector: str, work: Work, report: Report) -> CommandResult:
    names = workspace.select_in_need(selector, report)
    async with workspace.caller() as caller:
        servers = await workspace.on_all(names, lambda link: work(caller, link), report)
    return CommandResult(workspace.label, servers=servers)


async def _ask(caller: Caller, link: Link, name: str, params: Mapping[str, Any], report: Report) -> Reply:
    declared = registry.load(name)
    request = Request(name, params, timeout_s=declared.timeout, read_only=True)
    return await caller.call(link, request, new_ulid(), declared.version, report)
