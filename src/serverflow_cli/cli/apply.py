"""`sf plan` and `sf apply`: the whole fleet file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import Drift, SfError
from ..model.result import CommandResult
from .options import LockWait, OnAll, Only, Plan, Yes, safety, seconds
from .session import Session

if TYPE_CHECKING:
    from ..flows.safe import Safety

#: Of a whole file not everything can be a safe change: how those are made that are says nothing about the others.
Safe = Annotated[bool, typer.Option("--safe", help="Make every change a safe one, not only those that always are")]
ConfirmWithin = Annotated[
    str | None,
    typer.Option(
        "--confirm-within", metavar="DURATION", help="The time to confirm safe changes, 10s to 1h [default: 2m]"
    ),
]
NoConfirm = Annotated[bool, typer.Option("--no-confirm", help="Leave confirming safe changes to `sf safe confirm`")]


def plan(
    context: typer.Context,
    on: OnAll = None,
    only: Only = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with 11 when a server is not as the file says")] = False,
) -> int:
    """Show what would make the servers be as fleet.toml says. Nothing is written."""
    session: Session = context.obj
    result = _planned(session, on, only, safety(False, None, False))
    return session.finish(result, planned=True, error=_drift(result) if check and not result.error else None)


def apply(
    context: typer.Context,
    on: OnAll = None,
    only: Only = None,
    plan: Plan = False,
    yes: Yes = False,
    safe: Safe = False,
    confirm_within: ConfirmWithin = None,
    no_confirm: NoConfirm = False,
    lock_wait: LockWait = "30s",
) -> int:
    """Make the servers be as fleet.toml says: plan, ask, then run exactly that plan."""
    session: Session = context.obj
    safely = safety(safe, confirm_within, no_confirm, implied=False)
    if plan:
        return session.finish(_planned(session, on, only, safely), planned=True)
    approve = session.approver(yes=yes)
    wait_s = seconds("--lock-wait", lock_wait)
    result = session.in_workspace(
        lambda w: session.flows.apply(
            w,
            selector=on or "all",
            only=only,
            approve=approve,
            lock_wait_s=wait_s,
            report=session.report,
            safety=safely,
        )
    )
    return session.finish(result, mutates=True)


def _planned(session: Session, on: str | None, only: str | None, safely: Safety) -> CommandResult:
    return session.in_workspace(
        lambda w: session.flows.plan(w, selector=on or "all", only=only, report=session.report, safety=safely)
    )


def _drift(result: CommandResult) -> SfError | None:
    drifted = [s.name for s in result.servers if s.reply and s.reply.changes]
    if not drifted:
        return None
    return Drift(f"not as fleet.toml says: {', '.join(drifted)}", hint="`sf apply` makes it so")


COMMANDS = {"plan": plan, "apply": apply}
