"""`sf trust`: who may do what, and the signatures that say so."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import UsageError
from .key_calls import Carrying
from .options import OnAll, Plan, Yes, seconds
from .session import Session

Role = Annotated[str, typer.Option("--role", metavar="root|release", help="Which role (root when left out)")]
_LONGEST_S = 36_500 * 86_400  # a hundred years


def show(context: typer.Context) -> int:
    """Show the newest trust version: which keys may do what where, and what to read out to a new colleague."""
    session: Session = context.obj
    return session.finish(session.in_workspace(session.flows.trust_show))


def status(context: typer.Context, on: OnAll = None) -> int:
    """Say what needs attention, and ask the servers which trust version they have."""
    session: Session = context.obj
    result = session.in_workspace(lambda w: session.flows.trust_status(w, selector=on or "all", report=session.report))
    return session.finish(result)


def sign(context: typer.Context, plan: Plan = False, yes: Yes = False) -> int:
    """Sign the trust version that waits for signatures, else what fleet.toml grants and nobody has signed yet."""
    session: Session = context.obj
    carrying = Carrying(plan, session.approver(yes=yes or plan), session.report)
    result = session.in_workspace(lambda w: session.flows.trust_sign(w, carrying))
    return session.finish(result, mutates=True, planned=plan)


def discard(context: typer.Context, yes: Yes = False) -> int:
    """Withdraw the trust version that waits for signatures."""
    session: Session = context.obj
    approve = session.approver(yes=yes)
    return session.finish(session.in_workspace(lambda w: session.flows.trust_discard(w, approve=approve)))


def threshold(
    context: typer.Context,
    count: Annotated[str, typer.Argument(metavar="COUNT", help="So many keys of the role have to sign")],
    role: Role = "root",
    plan: Plan = False,
    yes: Yes = False,
) -> int:
    """Set how many root or release keys have to sign. For the root role, as many have to sign this change."""
    if not (count.isascii() and count.isdecimal() and 1 <= int(count) <= 16):
        raise UsageError(f"{count!r} is not a number of keys from 1 to 16")
    checked_role(role, ("root", "release"))
    session: Session = context.obj
    carrying = Carrying(plan, session.approver(yes=yes or plan), session.report)
    result = session.in_workspace(lambda w: session.flows.trust_threshold(w, int(count), role, carrying))
    return session.finish(result, mutates=True, planned=plan)


def renew(
    context: typer.Context,
    expires: Annotated[
        str, typer.Option("--expires", metavar="DURATION", help="From now on, such as 730d (the default)")
    ] = "730d",
    plan: Plan = False,
    yes: Yes = False,
) -> int:
    """Give the trust file another expiry. Keys keep theirs: sf key grant NAME --expires."""
    moment = expiry(expires)
    session: Session = context.obj
    carrying = Carrying(plan, session.approver(yes=yes or plan), session.report)
    result = session.in_workspace(lambda w: session.flows.trust_renew(w, moment, carrying))
    return session.finish(result, mutates=True, planned=plan)


def expiry(duration: str) -> int:
    """When that will be, in ms since 1970: on a whole second, as fleet.toml writes it. Raises UsageError."""
    import time

    return (int(time.time()) + lifetime(duration)) * 1000


def lifetime(duration: str) -> int:
    """The seconds that --expires asks for. Raises UsageError for none, and for more than a calendar can tell."""
    found = seconds("--expires", duration)
    if not 0 < found <= _LONGEST_S:
        raise UsageError(f"--expires: {duration} is not between 1s and {_LONGEST_S // 86_400}d")
    return found


def checked_role(role: str, known: tuple[str, ...]) -> str:
    """Raises UsageError."""
    if role not in known:
        raise UsageError(f"--role: {role!r} is none of {', '.join(known)}")
    return role


COMMANDS = {
    "show": show, "status": status, "sign": sign, "discard": discard, "threshold": threshold, "renew": renew,
}  # fmt: skip
