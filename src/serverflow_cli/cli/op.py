"""`sf op`: operations, each one invocation of `sf` with one entry a server."""

from __future__ import annotations

from typing import Annotated

import typer

from serverflow_actions.kit import grammar

from ..errors import SfError, UsageError
from .options import Yes
from .session import Session

OpId = Annotated[str, typer.Argument(metavar="ID", help="The operation's id, as `sf op list` shows it")]
Limit = Annotated[str, typer.Option("--limit", metavar="COUNT", help="At most this many, newest first")]


def list_(context: typer.Context, limit: Limit = "20") -> int:
    """List operations, newest first, from the local receipts."""
    count = count_of(limit)
    session: Session = context.obj
    return session.finish(session.in_workspace(lambda w: session.flows.op_list(w, limit=count)))


def status(context: typer.Context, op_id: OpId) -> int:
    """Show how an operation ended or how far it is."""
    op = checked(op_id)
    session: Session = context.obj
    return session.finish(session.in_workspace(lambda w: session.flows.op_status(w, op, report=session.report)))


def follow(context: typer.Context, op_id: OpId) -> int:
    """Follow an operation to its end; the rest of what a dropped connection would have shown."""
    op = checked(op_id)
    session: Session = context.obj
    result = session.in_workspace(lambda w: session.flows.op_follow(w, op, report=session.report))
    return session.finish(result, mutates=True)


def cancel(context: typer.Context, op_id: OpId, yes: Yes = False) -> int:
    """Stop an operation that runs. What it has done stays done."""
    op = checked(op_id)
    session: Session = context.obj
    if not yes and not session.prompts.confirm(f"Stop operation {op}?"):
        raise SfError("nothing was done", code="declined")
    result = session.in_workspace(lambda w: session.flows.op_cancel(w, op, report=session.report))
    return session.finish(result, mutates=True)


def count_of(text: str) -> int:
    """A count for `--limit`. Raises UsageError."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 6 and int(text)):
        raise UsageError(f"--limit: {text!r} is not a count")
    return int(text)


def checked(op_id: str) -> str:
    """An operation's id, in capitals. Raises UsageError."""
    try:
        return str(grammar.ulid(op_id.upper()))
    except ValueError as error:
        raise UsageError(f"ID: {error}", hint="see `sf op list`") from None


COMMANDS = {"list": list_, "status": status, "follow": follow, "cancel": cancel}
