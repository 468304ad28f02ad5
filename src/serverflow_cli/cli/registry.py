"""`sf registry`: the runner and the actions that servers get, and who vouches for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from ..errors import Drift
from .options import Plan, Yes
from .session import Session


def show(context: typer.Context) -> int:
    """Show the fleet's signed bundle: version, hash, who signed it, and whether this sf carries the same bytes."""
    session: Session = context.obj
    return session.finish(session.in_workspace(session.flows.registry_show))


def diff(
    context: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="Exit with 11 when they are not the same")] = False,
) -> int:
    """Show what differs between the fleet's signed bundle and this sf: actions and files. Nothing is written."""
    session: Session = context.obj
    result = session.in_workspace(session.flows.registry_diff)
    error = None
    if check and not result.data["same"]:
        error = Drift("this sf carries another runner or registry than the fleet's bundle", hint="sf registry sign")
    if result.data["same"] and not session.options.json:
        result = replace(result, servers=(), data={})  # its note says it all
    return session.finish(result, planned=True, error=error)


def sign(context: typer.Context, plan: Plan = False, yes: Yes = False) -> int:
    """Sign the runner and the actions of this sf with your release key, as the fleet's next bundle.

    Where several release keys have to sign, the first one proposes, and the others run this too.
    """
    session: Session = context.obj
    approve = session.approver(yes=yes or plan)
    result = session.in_workspace(lambda w: session.flows.registry_sign(w, plan=plan, approve=approve))
    return session.finish(result, mutates=True, planned=plan)


COMMANDS = {"show": show, "sign": sign, "diff": diff}
