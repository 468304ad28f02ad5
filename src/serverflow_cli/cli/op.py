"""`sf op`: operations, each one invocation of `sf` with one entry a server."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import SfError, UsageError
from ..model.ids import is_ulid
from .options import Yes
from .session import Session

OpId = Annotated[
    str, typer.Argument(metavar="ID", help="The operation's id, as `sf op list` shows it, or how it begins")
]
#: A shorter one would hardly be of one operation alone: ids begin with the time.
_SHORTEST, _WHOLE = 6, 26
Limit = Annotated[str, typer.Option("--limit", metavar="COUNT", help="At most this many, newest first")]


def list_(context: typer.Context, limit: Limit = "20") -> int:
    """List operations, newest first, from the local receipts."""
    count = count_of(limit)
    session: Session = context.obj
    return session.finish(session.in_workspace(lambda w: session.flows.op_list(w, limit=count)))


def status(context: typer.Context, op_id: OpId) -> int:
    """Show how an operation ended or how far it is."""
    session: Session = context.obj
    op = whole(session, op_id)
    return session.finish(session.in_workspace(lambda w: session.flows.op_status(w, op, report=session.report)))


def follow(context: typer.Context, op_id: OpId) -> int:
    """Follow an operation to its end; the rest of what a dropped connection would have shown."""
    session: Session = context.obj
    op = whole(session, op_id)
    result = session.in_workspace(lambda w: session.flows.op_follow(w, op, report=session.report))
    return session.finish(result, mutates=True)


def cancel(context: typer.Context, op_id: OpId, yes: Yes = False) -> int:
    """Stop an operation that runs. What it has done stays done."""
    session: Session = context.obj
    op = whole(session, op_id)
    if not yes and not session.prompts.confirm(f"Stop operation {op}?"):
        raise SfError("nothing was done", code="declined")
    result = session.in_workspace(lambda w: session.flows.op_cancel(w, op, report=session.report))
    return session.finish(result, mutates=True)


def count_of(text: str) -> int:
    """A count for `--limit`. Raises UsageError."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 6 and int(text)):
        raise UsageError(f"--limit: {text!r} is not a count")
    return int(text)


def whole(session: Session, op_id: str) -> str:
    """An operation's id, in capitals. One that is whole is taken as it is; how one begins is looked up among those that
    were sent from here. Raises UsageError.
    """
    op = op_id.upper()
    if not (len(op) >= _SHORTEST and is_ulid(op.ljust(_WHOLE, "0"))):
        hint = f"see `sf op list`; its first {_SHORTEST} characters or more are enough"
        raise UsageError(f"ID: {op_id[:60]!a} is not an operation id", hint=hint)
    if len(op) == _WHOLE:
        return op
    return str(session.in_workspace(lambda w: session.flows.op_named(w, op)).data["op"])


COMMANDS = {"list": list_, "status": status, "follow": follow, "cancel": cancel}
