"""`sf safe`: changes that undo themselves unless they are confirmed over a new connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import typer

from serverflow_actions import registry
from serverflow_actions.kit.change import Change

from ..errors import ActionFailed
from ..model.result import CommandResult, Reply, ServerResult
from ..ui.units import time
from .generated import check, read, run
from .op import Limit, OpId, count_of, whole
from .options import On, OnAll, Plan, Yes
from .session import Session

NoChecks = Annotated[bool, typer.Option("--no-checks", help="Without trying first what [checks] in fleet.toml expect")]
#: So many paths of a change are told in a table.
_PATHS = 3


def status(context: typer.Context, on: OnAll = None) -> int:
    """Show the changes that wait for confirmation, and until when."""
    session: Session = context.obj
    result = read(session, registry.load("safe.status"), {}, on=on or "all")
    return session.finish(result if session.options.json else _waiting(result))


def confirm(context: typer.Context, op_id: OpId, *, on: On, no_checks: NoChecks = False) -> int:
    """Keep a change that waits. The connection that this makes is the proof that the server can be reached.

    It ends with 12 when the server has gone back already.
    """
    op = whole(context.obj, op_id)
    return run(context.obj, registry.load("safe.confirm"), {"op": op}, {}, on=on, yes=True, checks=not no_checks)


def rollback(context: typer.Context, op_id: OpId, *, on: On, plan: Plan = False, yes: Yes = False) -> int:
    """Undo a change that waits, now and not at its deadline.

    It ends with 6 when not all could be put back.
    """
    session: Session = context.obj
    op = whole(session, op_id)
    if plan:
        result = read(session, registry.load("safe.status"), {}, on=on)
        return session.finish(_undoing(result, op), planned=True)
    return run(session, registry.load("safe.rollback"), {"op": op}, {}, on=on, yes=yes)


def history(context: typer.Context, on: OnAll = None, limit: Limit = "20") -> int:
    """List the safe changes of each server, newest first, and how they ended."""
    count = count_of(limit)
    check(registry.load("safe.history"), {"limit": count})
    session: Session = context.obj
    result = session.in_workspace(
        lambda w: session.flows.safe_history(w, selector=on or "all", limit=count, report=session.report)
    )
    return session.finish(result if session.options.json else _some(result))


def show(context: typer.Context, op_id: OpId, *, on: On) -> int:
    """Show what a safe change did, as a diff, and how it ended."""
    session: Session = context.obj
    op = whole(session, op_id)
    result = session.in_workspace(lambda w: session.flows.safe_show(w, op, selector=on, report=session.report))
    return session.finish(result, mutates=True)


def _pending(server: ServerResult) -> Mapping[str, Any]:
    """What a server says of the change that waits there; empty for none."""
    told = server.reply.data.get("pending") if server.reply and not server.error else None
    if not isinstance(told, Mapping):
        return {}
    deadline, paths = told.get("deadline"), told.get("paths")
    # What one server says wrongly must not hide what the others say.
    return {
        **told,
        "deadline": deadline if type(deadline) is int else 0,
        "paths": list(map(str, paths)) if isinstance(paths, list) else [],
    }


def _waiting(result: CommandResult) -> CommandResult:
    """A row for each server that has a change waiting; else a note on those that have none."""
    rows = [_row(server.name, pending) for server in result.servers if (pending := _pending(server))]
    idle = [server.name for server in result.servers if not server.error and not _pending(server)]
    notes = (f"nothing waits for confirmation on {', '.join(idle)}",) if idle and not rows else ()
    return replace(_without_data(result), data={"changes": rows} if rows else {}, notes=(*result.notes, *notes))


def _row(server: str, pending: Mapping[str, Any]) -> Mapping[str, Any]:
    """The moment in local time whoever reads it: it is for a person who has to decide until then."""
    paths = pending["paths"]
    shown = paths[:_PATHS] + ([f"+{len(paths) - _PATHS}"] if len(paths) > _PATHS else [])
    return {
        "server": server,
        "op": pending.get("op_id"),
        "action": pending.get("action"),
        "state": pending.get("state"),
        "undone at": time(pending["deadline"], local=True),
        "paths": shown,
    }


def _undoing(result: CommandResult, op: str) -> CommandResult:
    """What undoing this operation would put back, out of what servers say of the change that waits."""
    return replace(result, servers=tuple(_undoing_on(server, op) for server in result.servers))


def _undoing_on(server: ServerResult, op: str) -> ServerResult:
    pending = _pending(server)
    if server.error or not server.reply:
        return server
    if pending.get("op_id") != op:
        other = f"; {pending.get('op_id')} does" if pending else ""
        hint = f"sf safe show {op} --on {server.name}"
        error = ActionFailed(f"{op} does not wait for confirmation{other}", server=server.name, hint=hint)
        return replace(server, reply=None, error=error)
    change = Change("run", "action", "safe.rollback", {"paths": (None, pending["paths"])})
    return replace(server, reply=Reply(server.reply.op_id, "done", (change,)))


def _some(result: CommandResult) -> CommandResult:
    """Without the servers that have no safe changes to tell of; a note when that is all of them."""
    if any(server.reply and server.reply.data.get("changes") for server in result.servers):
        servers = (
            _with_ends(one) if one.reply and one.reply.data.get("changes") else _bare(one) for one in result.servers
        )
        return replace(result, servers=tuple(servers))
    notes = ("no safe changes",) if any(not server.error for server in result.servers) else ()
    return replace(_without_data(result), notes=(*result.notes, *notes))


def _with_ends(server: ServerResult) -> ServerResult:
    """With the problems of each change beside its end: how many; `sf safe show` tells which."""
    if not server.reply:
        return server
    rows = []
    for change in server.reply.data["changes"]:
        row = dict(change)
        count = len(row.pop("problems", ()))
        if count:
            row["ended"] = f"{row['ended']} ({count} problem{'s' if count > 1 else ''})"
        rows.append(row)
    return replace(server, reply=replace(server.reply, data={"changes": rows}))


def _without_data(result: CommandResult) -> CommandResult:
    return replace(result, servers=tuple(map(_bare, result.servers)))


def _bare(server: ServerResult) -> ServerResult:
    return replace(server, reply=replace(server.reply, data={})) if server.reply else server


COMMANDS = {"status": status, "confirm": confirm, "rollback": rollback, "history": history, "show": show}
