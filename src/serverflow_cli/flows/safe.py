"""Safe changes: what may lock out undoes itself, unless a new connection shows that the server can still be reached.

`call` is the door for every change on a server that may be one. It tries the operator's checks first, makes the change,
tries them again over a new connection and confirms over it. The server counts down meanwhile: whatever breaks here, it
goes back by itself, and then that is what is told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from serverflow_actions.kit.spec import Action, needs_safe

from ..errors import OutcomeUnknown, UsageError
from ..model.result import CommandResult, Reply, Report, Request, ServerResult, reply_of
from . import lifelines
from .confirming import SafeChange
from .safe_ends import told_late

if TYPE_CHECKING:
    from ..rpc.call import Caller
    from ..rpc.hello import Link
    from .workspace import Workspace

CONFIRM_S = 120
#: More is for what has to be a safe change: while one waits, nobody else changes anything there.
LONGEST_ON_WISH_S = 600


@dataclass(frozen=True)
class Safety:
    """How safe changes are made. `wanted` makes one of what need not be one; `checks` are what has to hold, by server.

    Without `confirm` somebody else has to, within `within_s` seconds. `several` says that other servers are changed at
    the same time; `key` is the name of the key that we act with, where there are checks.
    """

    wanted: bool = False
    within_s: int = CONFIRM_S
    confirm: bool = True
    checks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    several: bool = False
    key: str = ""


#: What nobody asked to be otherwise.
USUAL = Safety()


def safety_of(action: Action, params: Mapping[str, Any], safety: Safety) -> int:
    """The seconds within which this has to be confirmed, 0 for what is no safe change.

    Raises UsageError for what can never be one, or not for so long.
    """
    if needs_safe(action.safe, action.lifelines, params):
        return safety.within_s
    if safety.wanted and action.kind != "change":
        why = "it changes nothing" if action.kind == "read" else "it is done once, and nothing could put that back"
        raise UsageError(f"{action.name} cannot be a safe change: {why}", hint="leave --safe out", code="unsupported")
    if safety.wanted and safety.within_s > LONGEST_ON_WISH_S:
        raise UsageError(
            f"{action.name} need not be a safe change: as one it waits for {LONGEST_ON_WISH_S // 60}m at most",
            hint=f"--confirm-within {LONGEST_ON_WISH_S // 60}m or less",
            code="unsupported",
        )
    return safety.within_s if safety.wanted else 0


def with_checks(workspace: Workspace, safety: Safety) -> Safety:
    """With what fleet.toml expects of each server. Raises ConfigError when the file cannot be loaded."""
    from ..model.selector import resolve

    checks: dict[str, tuple[str, ...]] = {}
    for stanza in workspace.fleet.checks.values():
        for name in resolve(workspace.fleet.servers, stanza.on):
            checks[name] = tuple(dict.fromkeys((*checks.get(name, ()), *stanza.expect)))
    return replace(safety, checks=checks, key=workspace.key_name if checks else "")


def told_before(planned: CommandResult, confirm_s: int) -> CommandResult:
    """The plan with a remark, when something in it would be a safe change."""
    if not confirm_s or not any(server.reply and server.reply.changes for server in planned.servers):
        return planned
    return replace(planned, notes=(*planned.notes, f"safe change: {undone_within(confirm_s)}"))


def undone_within(seconds: int) -> str:
    unit, length = next((unit, length) for unit, length in (("h", 3600), ("m", 60), ("s", 1)) if seconds % length == 0)
    return f"undone by itself unless confirmed within {seconds // length}{unit}"


async def on_all(
    workspace: Workspace,
    names: Collection[str],
    work: Callable[[Link, Safety], Awaitable[Reply]],
    report: Report,
    safety: Safety,
) -> tuple[ServerResult, ...]:
    """Make changes on these servers at once, as `Workspace.on_all` does. What is over by then is told as that."""
    safety = replace(safety, several=len(names) > 1)
    servers = await workspace.on_all(names, lambda link: work(link, safety), report)
    for server in servers:
        told_late(server.error)
    return servers


async def call(
    caller: Caller, link: Link, request: Request, op_id: str, version: int, report: Report, safety: Safety
) -> Reply:
    """Run a change; one with `confirm_s` is confirmed too, over a new connection.

    Raises what `Caller.call` does; RolledBack when the server says that it has gone back; OutcomeUnknown while nobody
    can say, with the code pending-confirm where it waits.
    """
    change = SafeChange(caller, link, request, op_id, report, safety)
    if request.confirm_s:
        await change.check_before()
    try:
        reply = await caller.call(link, request, op_id, version, report)
    except OutcomeUnknown as error:
        found = reply_of(error)
        if found is None and request.confirm_s:
            return await change.lost(error)
        if found is None or found.outcome != "pending-confirm":
            raise
        reply = found
    if reply.outcome == "pending-confirm":
        return await change.confirmed(reply)
    await lifelines.prove(caller, link, reply, report)
    return reply
