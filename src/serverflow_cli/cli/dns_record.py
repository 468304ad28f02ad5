"""`sf dns record`: the records that fleet.toml wants in its zones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from serverflow_actions.kit import grammar
from serverflow_actions.kit.rrset import TYPES

from ..errors import UsageError
from ..model.result import CommandResult
from .dns_zone import Zones
from .how import how_of
from .options import Plan, Yes, seconds
from .session import Session

Name = Annotated[str, typer.Argument(metavar="NAME", help="The whole name, such as www.acme.app")]
Type = Annotated[str, typer.Argument(metavar="TYPE", help=f"Record type: {', '.join(TYPES)}")]
Values = Annotated[list[str], typer.Argument(metavar="VALUE", help="Its value, as in a zone file; TXT as plain text")]
SomeValues = Annotated[list[str] | None, typer.Argument(metavar="[VALUE]", help="Only these values")]
Ttl = Annotated[str | None, typer.Option("--ttl", metavar="DURATION", help="Time to live, such as 5m, or auto")]
Proxied = Annotated[
    bool | None, typer.Option("--proxied/--no-proxied", help="Cloudflare: show its own address, and pass requests on")
]
Adopt = Annotated[bool, typer.Option("--adopt", help="Take over records that somebody else made")]
Force = Annotated[
    bool, typer.Option("--force", help="Also where more than 30 % of a zone changes, or its name servers do")
]
Wait = Annotated[
    str | None,
    typer.Option("--wait", metavar="DURATION", help="For all name servers to serve it; 0 asks them once [default: 1m]"),
]


def record_list(context: typer.Context, zones: Zones = None) -> int:
    """List the records that fleet.toml wants, and where each comes from. Asks nobody."""
    session: Session = context.obj
    return session.finish(session.in_workspace(lambda w: session.flows.dns_record_list(w, zones or ())))


def record_add(
    context: typer.Context,
    name: Name,
    type_: Type,
    values: Values,
    *,
    ttl: Ttl = None,
    proxied: Proxied = None,
    adopt: Adopt = False,
    force: Force = False,
    wait: Wait = None,
    plan: Plan = False,
    yes: Yes = False,
) -> int:
    """Add a record, or a value to one: `sf dns record add www.acme.app A 203.0.113.7`."""
    settings = {"ttl": _ttl(ttl), "proxied": proxied}
    return _change(context.obj, "add", name, type_, values, settings, adopt, force, wait, plan, yes)


def record_set(
    context: typer.Context,
    name: Name,
    type_: Type,
    values: Values,
    *,
    ttl: Ttl = None,
    proxied: Proxied = None,
    adopt: Adopt = False,
    force: Force = False,
    wait: Wait = None,
    plan: Plan = False,
    yes: Yes = False,
) -> int:
    """Give a record these values instead of those that it has; it is made when there is none."""
    settings = {"ttl": _ttl(ttl), "proxied": proxied}
    return _change(context.obj, "set", name, type_, values, settings, adopt, force, wait, plan, yes)


def record_remove(
    context: typer.Context,
    name: Name,
    type_: Type,
    values: SomeValues = None,
    *,
    adopt: Adopt = False,
    force: Force = False,
    wait: Wait = None,
    plan: Plan = False,
    yes: Yes = False,
) -> int:
    """Remove a record, or some of its values. What somebody else made there goes with --adopt only."""
    return _change(context.obj, "remove", name, type_, values or [], {}, adopt, force, wait, plan, yes)


def _change(
    session: Session,
    verb: str,
    name: str,
    type_: str,
    values: list[str],
    settings: Mapping[str, Any],
    adopt: bool,
    force: bool,
    wait: str | None,
    plan: bool,
    yes: bool,
) -> int:
    kind = type_.upper()
    if kind not in TYPES:
        raise UsageError(f"{type_} is not a record type that sf knows", hint=" ".join(TYPES))
    given = {key: value for key, value in settings.items() if value is not None}
    how, within_s = how_of(session, plan, yes, "30s"), wait_s(wait)

    async def change(workspace: Any) -> CommandResult:
        return await session.flows.dns_record_change(
            workspace, verb, name, kind, values, given, adopt=adopt, force=force, wait_s=within_s, how=how
        )

    return session.finish(session.in_workspace(change), mutates=True, planned=plan)


def wait_s(text: str | None) -> float | None:
    """Seconds; None as usual."""
    return None if text is None else 0 if text == "0" else seconds("--wait", text)


def _ttl(text: str | None) -> str | None:
    if text not in (None, "auto"):
        try:
            grammar.duration(text)
        except ValueError as error:
            raise UsageError(f"--ttl: {error}, or auto") from None
    return text


COMMANDS = {"list": record_list, "add": record_add, "set": record_set, "remove": record_remove}
