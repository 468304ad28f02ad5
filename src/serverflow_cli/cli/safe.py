"""`sf safe`: changes that undo themselves unless they are confirmed over a new connection."""

from __future__ import annotations

import typer

from serverflow_actions import registry

from .generated import run
from .op import Limit, OpId, checked, count_of
from .options import On, OnAll, Plan, Yes
from .session import Session


def status(context: typer.Context, on: OnAll = None) -> int:
    """Show the changes that wait for confirmation, and until when."""
    return run(context.obj, registry.load("safe.status"), {}, {}, on=on or "all")


def confirm(context: typer.Context, op_id: OpId, *, on: On) -> int:
    """Keep a change that waits. The connection that this makes is the proof that the server can be reached.

    It ends with 12 when the server has gone back already.
    """
    return run(context.obj, registry.load("safe.confirm"), {"op": checked(op_id)}, {}, on=on, yes=True)


def rollback(context: typer.Context, op_id: OpId, *, on: On, plan: Plan = False, yes: Yes = False) -> int:
    """Undo a change that waits, now and not at its deadline."""
    return run(context.obj, registry.load("safe.rollback"), {"op": checked(op_id)}, {}, on=on, plan=plan, yes=yes)


def history(context: typer.Context, on: OnAll = None, limit: Limit = "20") -> int:
    """List the safe changes of each server, newest first, and how they ended."""
    count = count_of(limit)
    session: Session = context.obj
    return session.finish(
        session.in_workspace(
            lambda w: session.flows.safe_history(w, selector=on or "all", limit=count, report=session.report)
        )
    )


def show(context: typer.Context, op_id: OpId, *, on: On) -> int:
    """Show what a safe change did, as a diff, and how it ended."""
    op = checked(op_id)
    session: Session = context.obj
    result = session.in_workspace(lambda w: session.flows.safe_show(w, op, selector=on, report=session.report))
    return session.finish(result, mutates=True)


COMMANDS = {"status": status, "confirm": confirm, "rollback": rollback, "history": history, "show": show}
