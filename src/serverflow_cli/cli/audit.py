"""`sf audit`: the chains of signed receipts."""

from __future__ import annotations

from typing import Annotated

import typer

from .op import Limit, count_of
from .session import Session


def log(context: typer.Context, limit: Limit = "20") -> int:
    """Show receipts: who had what done where, and how it ended."""
    count = count_of(limit)
    session: Session = context.obj
    return session.finish(session.in_workspace(lambda w: session.flows.audit_log(w, limit=count)))


def verify(
    context: typer.Context,
    against: Annotated[
        str | None, typer.Option("--against", metavar="SELECTOR", help="Compare with these servers' own chains too")
    ] = None,
) -> int:
    """Check the signatures and the chaining of all receipts."""
    session: Session = context.obj
    result = session.in_workspace(lambda w: session.flows.audit_verify(w, against=against, report=session.report))
    return session.finish(result)


COMMANDS = {"log": log, "verify": verify}
