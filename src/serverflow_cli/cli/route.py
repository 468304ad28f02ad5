"""`sf route`: host names that lead to apps, ports, folders and other machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from serverflow_actions.kit.route import split_location, target_of

from ..errors import UsageError
from .how import how_of
from .options import Confirm, ConfirmWithin, LockWait, NoConfirm, Plan, Safe, Timeout, Yes
from .secret import asked_twice, text_of_stdin
from .session import Session

Name = Annotated[str, typer.Argument(metavar="ROUTE", help="Route name")]
Host = Annotated[
    list[str] | None, typer.Option("--host", metavar="HOST", help="Host name, *.NAME for all below (may be repeated)")
]
To = Annotated[
    str | None,
    typer.Option(
        "--to", metavar="TARGET", help="App, port, ADDRESS:PORT, unix:SOCKET, or folder below /srv or /var/www"
    ),
]
Path = Annotated[
    list[str] | None,
    typer.Option(
        "--path", metavar="PATH=TARGET", help="What begins so leads elsewhere, as /api=3001 (may be repeated)"
    ),
]
Certificate = Annotated[
    str | None,
    typer.Option("--certificate", metavar="NAME|none", help="Another certificate than the one that covers the names"),
]
Redirect = Annotated[bool | None, typer.Option("--redirect/--no-redirect", help="HTTP to HTTPS [default: yes]")]
Hsts = Annotated[str | None, typer.Option("--hsts", metavar="DURATION", help="Browsers use HTTPS only, for so long")]
BodySize = Annotated[str | None, typer.Option("--body-size", metavar="SIZE", help="Largest request [default: 16MiB]")]
ReadTimeout = Annotated[
    str | None, typer.Option("--read-timeout", metavar="DURATION", help="Longest silence of the app")
]
Rate = Annotated[str | None, typer.Option("--rate", metavar="RATE", help="Requests of one address, as 10/s; else 429")]
Burst = Annotated[
    str | None, typer.Option("--burst", metavar="COUNT", help="Requests above that at once [default: 20]")
]
AuthUser = Annotated[
    str | None,
    typer.Option("--auth-user", metavar="USER", help="User name that visitors give; the password is asked for"),
]
Stdin = Annotated[bool, typer.Option("--stdin", help="Read that password from stdin")]
Websockets = Annotated[
    bool | None, typer.Option("--websockets/--no-websockets", help="Let WebSockets through [default: yes]")
]
AccessLog = Annotated[
    bool | None, typer.Option("--access-log/--no-access-log", help="A line of JSON for each request [default: yes]")
]


def add(
    context: typer.Context,
    name: Name,
    *,
    on: Annotated[str, typer.Option("--on", metavar="SELECTOR", help="Servers that answer for it")],
    host: Host = None,
    to: To = None,
    path: Path = None,
    certificate: Certificate = None,
    redirect: Redirect = None,
    hsts: Hsts = None,
    body_size: BodySize = None,
    read_timeout: ReadTimeout = None,
    rate: Rate = None,
    burst: Burst = None,
    auth_user: AuthUser = None,
    stdin: Stdin = False,
    websockets: Websockets = None,
    access_log: AccessLog = None,
    plan: Plan = False,
    yes: Yes = False,
    safe: Safe = False,
    confirm_within: ConfirmWithin = None,
    no_confirm: NoConfirm = False,
    timeout: Timeout = None,
    lock_wait: LockWait = "30s",
) -> int:
    """Lead host names somewhere: `sf route add shop --on web1 --host shop.acme.app --to 3000`.

    One plan shows the DNS records, the certificate, nginx and the firewall, and does them in that order.
    """
    if not host:
        raise UsageError("which host name?", hint="--host shop.acme.app")
    if not to and not path:
        raise UsageError("where does it lead?", hint="--to 3000, or --path /api=3001")
    given = {
        "certificate": certificate, "redirect": redirect, "hsts": hsts, "body_size": body_size,
        "read_timeout": read_timeout, "rate": rate, "burst": burst, "auth_user": auth_user,
        "websockets": websockets, "access_log": access_log,
    }  # fmt: skip
    values = {"on": on, **_values(host, to, path, given)}
    how = how_of(context.obj, plan, yes, lock_wait, timeout, safe, confirm_within, no_confirm)
    return _write(context.obj, name, values, stdin, True, how)


def edit(
    context: typer.Context,
    name: Name,
    *,
    on: Annotated[str | None, typer.Option("--on", metavar="SELECTOR", help="Servers that answer for it")] = None,
    host: Host = None,
    to: To = None,
    path: Path = None,
    certificate: Certificate = None,
    redirect: Redirect = None,
    hsts: Hsts = None,
    body_size: BodySize = None,
    read_timeout: ReadTimeout = None,
    rate: Rate = None,
    burst: Burst = None,
    auth_user: AuthUser = None,
    stdin: Stdin = False,
    websockets: Websockets = None,
    access_log: AccessLog = None,
    maintenance: Annotated[
        bool | None, typer.Option("--maintenance/--no-maintenance", help="Answer everything with 503 and a page")
    ] = None,
    plan: Plan = False,
    yes: Yes = False,
    safe: Safe = False,
    confirm_within: ConfirmWithin = None,
    no_confirm: NoConfirm = False,
    timeout: Timeout = None,
    lock_wait: LockWait = "30s",
) -> int:
    """Change a route; what is not given stays."""
    given = {
        "certificate": certificate, "redirect": redirect, "hsts": hsts, "body_size": body_size,
        "read_timeout": read_timeout, "rate": rate, "burst": burst, "auth_user": auth_user,
        "websockets": websockets, "access_log": access_log, "maintenance": maintenance, "on": on,
    }  # fmt: skip
    values = _values(host, to, path, given)
    if not values:
        raise UsageError("nothing to change was given", hint="sf route edit --help")
    how = how_of(context.obj, plan, yes, lock_wait, timeout, safe, confirm_within, no_confirm)
    return _write(context.obj, name, values, stdin, False, how)


def list_(context: typer.Context) -> int:
    """List the routes of fleet.toml."""
    session: Session = context.obj
    return session.finish(session.in_workspace(session.flows.route_list))


def remove(
    context: typer.Context,
    name: Name,
    *,
    plan: Plan = False,
    yes: Yes = False,
    confirm: Confirm = None,
    safe: Safe = False,
    confirm_within: ConfirmWithin = None,
    no_confirm: NoConfirm = False,
    timeout: Timeout = None,
    lock_wait: LockWait = "30s",
) -> int:
    """Take a route off its servers and out of fleet.toml, then its names out of DNS."""
    session: Session = context.obj
    how = {
        **how_of(session, True, yes, lock_wait, timeout, safe, confirm_within, no_confirm),
        "plan": plan,
        "approve": session.approver(yes=yes or plan, name="" if plan else name, confirm=confirm),
    }
    result = session.in_workspace(lambda w: session.flows.route_remove(w, name, how))
    return session.finish(result, mutates=True, planned=plan)


def _write(
    session: Session, name: str, values: dict[str, Any], stdin: bool, is_new: bool, how: Mapping[str, Any]
) -> int:
    def password() -> str:
        if stdin:
            return text_of_stdin(session).rstrip("\n")
        return asked_twice(session, f"Password of {values['auth_user']} for {name}")

    wanted = password if "auth_user" in values else None
    result = session.in_workspace(lambda w: session.flows.route_write(w, name, values, wanted, is_new, how))
    return session.finish(result, mutates=True, planned=bool(how["plan"]))


def _values(host: list[str] | None, to: str | None, path: list[str] | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """As the stanza has them."""
    found = {key: value for key, value in given.items() if value is not None}
    if "burst" in found:
        if not str(found["burst"]).isdecimal():
            raise UsageError(f"--burst: {found['burst']!a} is not a number")
        found["burst"] = int(found["burst"])
    if host:
        found["host"] = host[0]
        found["aliases"] = host[1:] or None
    if to is not None:
        found["to"] = _target(to, "--to")
    if path:
        found["paths"] = dict(_path(each) for each in path)
    return found


def _path(text: str) -> tuple[str, dict[str, Any]]:
    prefix, equals, to = text.partition("=")
    try:
        if not equals:
            raise ValueError(f"{text[:60]!a} is not PATH=TARGET, as /api=3001")
        prefix, _ = split_location(f"{prefix} {to}")
    except ValueError as error:
        raise UsageError(f"--path: {error}") from None
    return prefix, _target(to, "--path")


def _target(text: str, option: str) -> dict[str, Any]:
    try:
        kind, value = target_of(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
    if kind == "proxy":
        address, _, port = value.rpartition(":")
        return {"port": int(port)} if address == "127.0.0.1" else {"address": value}
    return {kind: value}


COMMANDS = {"add": add, "edit": edit, "list": list_, "remove": remove}
