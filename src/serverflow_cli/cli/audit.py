"""`sf audit`: the chains of signed receipts."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from typing import Annotated

import typer

from serverflow_actions.kit import grammar

from ..errors import SfError, TrustError, UsageError
from ..model.result import CommandResult
from .op import Limit, count_of
from .session import Session

#: What a table shows; JSON has it all.
_COLUMNS = ("at", "server", "seq", "actor", "action", "outcome", "code", "op")

Server = Annotated[
    str | None, typer.Option("--server", metavar="SELECTOR", help="Only these servers (name, glob, @role, +tag)")
]
Actor = Annotated[str, typer.Option("--actor", metavar="NAME", help="Only what this holder of a key had done")]
Action = Annotated[str, typer.Option("--action", metavar="GLOB", help="Only these actions, such as 'redis.*'")]
Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help="Not older: 7d, or 2026-11-01T00:00:00Z")]
Outcome = Annotated[
    str, typer.Option("--outcome", metavar="OUTCOME", help="Only what ended so: done, denied, failed …")
]
Against = Annotated[
    str | None, typer.Option("--against", metavar="SELECTOR", help="Compare with these servers' own chains too")
]


def log(
    context: typer.Context,
    server: Server = None,
    actor: Actor = "",
    action: Action = "",
    since: Since = None,
    outcome: Outcome = "",
    limit: Limit = "20",
) -> int:
    """Show receipts: who had what done where, and how it ended. All filters have to agree."""
    count = count_of(limit)
    after = _milliseconds(since) if since is not None else None
    session: Session = context.obj
    result = session.in_workspace(
        lambda w: session.flows.audit_log(
            w, servers=server, actor=actor, action=action, outcome=outcome, since=after, limit=count
        )
    )
    return session.finish(result if session.options.json else _narrow(result))


def _narrow(result: CommandResult) -> CommandResult:
    rows = [{name: row[name] for name in _COLUMNS} for row in result.data["receipts"]]
    return replace(result, data={"receipts": rows})


def _milliseconds(text: str) -> int:
    """Since 1970, of a moment or of so long ago. Raises UsageError."""
    try:
        return int((time.time() - grammar.duration(text)) * 1000)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError("no offset")
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise UsageError(
            f"--since: {text!r} is neither a time with its zone nor so long ago", hint="7d, or 2026-11-01T00:00:00Z"
        ) from None


def verify(context: typer.Context, against: Against = None) -> int:
    """Check the signatures and the chaining of all receipts, and that nothing is missing on either side."""
    session: Session = context.obj
    result = session.in_workspace(lambda w: session.flows.audit_verify(w, against=against, report=session.report))
    problems = result.data.get("problems", [])
    shown = replace(result, data={name: result.data[name] for name in ("receipts", "chain")})
    return session.finish(result if session.options.json else shown, error=_verdict(result, problems))


def _verdict(result: CommandResult, problems: list[str]) -> SfError | None:
    """What is not sound counts more than what could not be asked."""
    if problems:
        from ..flows.audit import told

        return TrustError(told("our own chain is not sound", problems), code="audit")
    broken = [server.name for server in result.servers if server.error and server.error.code == "audit"]
    if broken and result.error and result.error.exit_code != TrustError.exit_code:
        return TrustError(f"not sound: {', '.join(broken)}", code="audit")
    return None


COMMANDS = {"log": log, "verify": verify}
