"""`sf dns zone`: the zones of fleet.toml and of their providers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from .how import how_of
from .options import Confirm, LockWait, Plan, Yes
from .secret import text_of_stdin
from .session import Session

Zone = Annotated[str, typer.Argument(metavar="ZONE", help="Zone, such as acme.app")]
Zones = Annotated[list[str] | None, typer.Argument(metavar="[ZONE]", help="Only these zones (all when left out)")]


def zone_list(context: typer.Context) -> int:
    """List the zones of fleet.toml and of their providers, and whether they are as the file says."""
    session: Session = context.obj
    return session.finish(session.in_workspace(lambda w: session.flows.dns_zone_list(w, session.report)))


def zone_show(context: typer.Context, zone: Zone) -> int:
    """Show all records of a zone as its provider has them, and whose they are."""
    session: Session = context.obj
    return session.finish(session.in_workspace(lambda w: session.flows.dns_zone_show(w, zone, session.report)))


def zone_add(
    context: typer.Context,
    zone: Zone,
    *,
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="NAME", help="A provider in fleet.toml, if it has several")
    ] = None,
    plan: Plan = False,
    yes: Yes = False,
    lock_wait: LockWait = "30s",
) -> int:
    """Add a zone to a provider that is set up, and to fleet.toml."""
    session: Session = context.obj
    how = how_of(session, plan, yes, lock_wait)
    result = session.in_workspace(lambda w: session.flows.dns_zone_add(w, zone, provider, how))
    return session.finish(result, mutates=True, planned=plan)


def zone_remove(
    context: typer.Context,
    zone: Zone,
    *,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete it at its provider too, with all its records")
    ] = False,
    plan: Plan = False,
    yes: Yes = False,
    confirm: Confirm = None,
    lock_wait: LockWait = "30s",
) -> int:
    """Take a zone out of fleet.toml; its provider goes on to serve it, unless it is to be deleted there."""
    session: Session = context.obj
    asked = delete and not plan
    how = {
        **how_of(session, True, yes, lock_wait),
        "plan": plan,
        "approve": session.approver(yes=yes or plan, name=zone.lower().rstrip(".") if asked else "", confirm=confirm),
    }
    result = session.in_workspace(lambda w: session.flows.dns_zone_remove(w, zone, delete, how))
    return session.finish(result, mutates=True, planned=plan)


def zone_export(context: typer.Context, zone: Zone) -> int:
    """Print a zone as its provider has it, as a zone file (RFC 1035)."""
    session: Session = context.obj
    result = session.in_workspace(lambda w: session.flows.dns_zone_export(w, zone, session.report))
    if session.options.json or result.error:
        return session.finish(result)
    session.terminal.stdout.write(str(result.data["zone_file"]))
    return result.exit_code


def zone_import(
    context: typer.Context,
    zone: Zone,
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="A zone file, - for stdin (else what the provider has)")
    ] = None,
    *,
    plan: Plan = False,
    yes: Yes = False,
) -> int:
    """Write the records of a zone file, or of the provider, into fleet.toml. No provider is changed."""
    session: Session = context.obj
    text = None if file is None else text_of_stdin(session) if file == "-" else _read(file)
    how = how_of(session, plan, yes, "30s")
    result = session.in_workspace(lambda w: session.flows.dns_zone_import(w, zone, text, how))
    return session.finish(result, mutates=True, planned=plan)


def zone_check(
    context: typer.Context,
    zones: Zones = None,
    ca: Annotated[
        str | None,
        typer.Option("--ca", metavar="DOMAIN", help="Who is to issue certificates [default: letsencrypt.org]"),
    ] = None,
) -> int:
    """Check zones: mistakes across records, and whether all name servers serve what the provider has. 11 if not."""
    session: Session = context.obj
    result = session.in_workspace(lambda w: session.flows.dns_zone_check(w, zones or (), ca, session.report))
    return session.finish(result)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None


COMMANDS = {
    "list": zone_list,
    "add": zone_add,
    "show": zone_show,
    "remove": zone_remove,
    "export": zone_export,
    "import": zone_import,
    "check": zone_check,
}
