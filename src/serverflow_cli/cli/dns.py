"""`sf dns`: zones and their records, at Cloudflare or on PowerDNS of our own."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..errors import Drift, UsageError
from . import dns_record, dns_zone
from .dns_record import Adopt, Force, Wait, wait_s
from .dns_zone import Zone, Zones
from .how import how_of
from .options import LockWait, Plan, Yes
from .secret import asked_twice, text_of_stdin
from .session import Session


def setup(
    context: typer.Context,
    zone: Zone,
    *,
    provider: Annotated[str, typer.Option("--provider", metavar="cloudflare|powerdns", help="Who serves the zone")],
    on: Annotated[
        str | None, typer.Option("--on", metavar="SERVER", help="powerdns: the server that has the zones")
    ] = None,
    secondary: Annotated[
        list[str] | None,
        typer.Option("--secondary", metavar="SERVER", help="powerdns: a server that copies them (may be repeated)"),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Its name in fleet.toml [default: as --provider]")
    ] = None,
    stdin: Annotated[bool, typer.Option("--stdin", help="cloudflare: read the token from stdin")] = False,
    plan: Plan = False,
    yes: Yes = False,
    lock_wait: LockWait = "30s",
) -> int:
    """Let a zone be served by Cloudflare, or by PowerDNS on servers of the fleet.

    Cloudflare's token is asked for, checked at once and sealed into secrets.toml; it needs Zone:Read and DNS:Edit for
    the zone, and nothing else. A --secondary that a PowerDNS does not have yet is added to it. What has to be told to
    the registrar is shown at the end.
    """
    session: Session = context.obj
    settings = {key: value for key, value in {"name": name, "on": on, "secondary": secondary or []}.items() if value}
    if provider not in ("cloudflare", "powerdns"):
        raise UsageError(f"--provider {provider}: cloudflare or powerdns")
    if provider == "cloudflare" and (on or secondary):
        raise UsageError("--on and --secondary are for powerdns")
    if provider == "powerdns" and stdin:
        raise UsageError("--stdin is for cloudflare: PowerDNS has no token")

    def token() -> str:
        question = f"API token for {zone} at Cloudflare"
        return text_of_stdin(session).strip() if stdin else asked_twice(session, question)

    how = how_of(session, plan, yes, lock_wait)
    result = session.in_workspace(lambda w: session.flows.dns_setup(w, zone, provider, settings, token, how))
    return session.finish(result, mutates=True, planned=plan)


def plan(
    context: typer.Context,
    zones: Zones = None,
    adopt: Adopt = False,
    force: Force = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 11 when a zone is not as the file says")] = False,
) -> int:
    """Show what would make zones be as fleet.toml says. Nothing is written."""
    session: Session = context.obj
    result = session.in_workspace(
        lambda w: session.flows.dns_plan(w, zones or (), adopt=adopt, force=force, report=session.report)
    )
    drifted = [row.name for row in result.servers if row.reply and row.reply.changes]
    error = Drift(f"{', '.join(drifted)}: not as fleet.toml says") if check and drifted and not result.error else None
    return session.finish(result, planned=True, error=error)


def apply(
    context: typer.Context,
    zones: Zones = None,
    adopt: Adopt = False,
    force: Force = False,
    wait: Wait = None,
    plan: Plan = False,
    yes: Yes = False,
) -> int:
    """Make zones be as fleet.toml says, and see that every authoritative server serves it.

    Only records that sf made are changed and removed, unless the zone is declared complete.
    """
    session: Session = context.obj
    within_s = wait_s(wait)
    if plan:
        result = session.in_workspace(
            lambda w: session.flows.dns_plan(w, zones or (), adopt=adopt, force=force, report=session.report)
        )
        return session.finish(result, planned=True)
    approve = session.approver(yes=yes, early=False)
    result = session.in_workspace(
        lambda w: session.flows.dns_apply(
            w, zones or (), adopt=adopt, force=force, wait_s=within_s, approve=approve, report=session.report
        )
    )
    return session.finish(result, mutates=True)


def move(
    context: typer.Context,
    zone: Zone,
    *,
    to: Annotated[str, typer.Option("--to", metavar="NAME", help="A provider in fleet.toml")],
    switched: Annotated[
        bool,
        typer.Option("--switched", help="The name servers are switched: look at that, and go by the new provider"),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Also where more than 30 % of the zone there changes; with --switched: whatever its parent's servers "
            "say, and without what only the old provider has",
        ),
    ] = False,
    plan: Plan = False,
    yes: Yes = False,
    lock_wait: LockWait = "30s",
) -> int:
    """Copy a zone to another provider, and compare what both sides answer, before its name servers are switched.

    It says what the registrar has to be told. Once that is done, --switched copies nothing: it asks the servers of the
    zone's parent, compares, and lets fleet.toml go by the new provider.
    """
    session: Session = context.obj
    how = how_of(session, plan, yes, lock_wait)
    result = session.in_workspace(
        lambda w: session.flows.dns_move(w, zone, to, switched=switched, force=force, how=how)
    )
    return session.finish(result, mutates=True, planned=plan)


# --- providers -------------------------------------------------------------------------------------------------------


def provider_list(context: typer.Context) -> int:
    """List who serves zones by fleet.toml, on which servers, and which zones. Asks nobody."""
    session: Session = context.obj
    return session.finish(session.in_workspace(session.flows.dns_provider_list))


def provider_remove(
    context: typer.Context,
    provider: Annotated[str, typer.Argument(metavar="PROVIDER", help="Its name in fleet.toml")],
    *,
    plan: Plan = False,
    yes: Yes = False,
) -> int:
    """Take a provider without zones out of fleet.toml. PowerDNS goes on on its servers; what ends it is said."""
    session: Session = context.obj
    how = how_of(session, plan, yes, "30s")
    result = session.in_workspace(lambda w: session.flows.dns_provider_remove(w, provider, how))
    return session.finish(result, mutates=True, planned=plan)


COMMANDS: dict[str, Any] = {
    "setup": setup,
    "plan": plan,
    "apply": apply,
    "move": move,
    "zone": dns_zone.COMMANDS,
    "provider": {"list": provider_list, "remove": provider_remove},
    "record": dns_record.COMMANDS,
}
