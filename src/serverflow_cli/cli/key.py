"""`sf key`: operators' and CI jobs' keys, and what they may do."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from serverflow_actions.kit import grammar

from ..errors import ConfigError, UsageError
from ..model.result import CommandResult
from ..ui.plan_view import print_changes
from .key_calls import Carrying
from .options import Plan, Yes
from .session import Session
from .trust import checked_role, expiry, lifetime

#: Characters; more than any invitation has.
_LONGEST = 1 << 20
Name = Annotated[str, typer.Argument(metavar="NAME", help="A key's name, as `sf key list` shows it")]
Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", metavar="ACTION", help="An action, or a glob such as 'app.*'; may be repeated"),
]
On = Annotated[
    str | None,
    typer.Option("--on", metavar="SELECTOR", help="Where: name, glob, @role, +tag, all; a,b adds, !x removes"),
]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="PARAMETER=VALUE", help="Only with this parameter; may be repeated"),
]
From = Annotated[
    list[str] | None,
    typer.Option("--from", metavar="ADDRESS", help="Log in from this address or network only; may be repeated"),
]
Secret = Annotated[
    list[str] | None, typer.Option("--secret", metavar="NAME", help="A secret that it may open; may be repeated")
]
Expires = Annotated[str | None, typer.Option("--expires", metavar="DURATION", help="From now on, such as 90d")]


def list_(context: typer.Context) -> int:
    """List all keys: role, expiry, and what each may do."""
    session: Session = context.obj
    return session.finish(session.in_workspace(session.flows.key_list))


def show(context: typer.Context, name: Name) -> int:
    """Show the keys of one name: fingerprints, logins, each grant."""
    session: Session = context.obj
    return session.finish(session.in_workspace(lambda w: session.flows.key_show(w, name)))


def invitation(
    context: typer.Context,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Who you are (else your login)")] = None,
    root: Annotated[bool, typer.Option("--root", help="Offer a root key too")] = False,
    release: Annotated[bool, typer.Option("--release", help="Offer a release key too")] = False,
    key: Annotated[
        str | None, typer.Option("--key", metavar="FILE", help="An Ed25519 key to sign with (else one is made)")
    ] = None,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="Write it to a file (- is standard output)")] = "-",
) -> int:
    """Make your own keys for this fleet, and an invitation: their public halves, for `sf key add`."""
    session: Session = context.obj
    result = session.in_workspace(
        lambda w: session.flows.key_invitation(w, name=name, root=root, release=release, key=key, out=out)
    )
    if not session.options.json and out == "-":
        session.terminal.out(str(result.data["invitation"]).rstrip("\n"))
        result = replace(result, data={})
    elif not session.options.json:
        result = replace(result, data={name: value for name, value in result.data.items() if name != "invitation"})
    return session.finish(result)


def add(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="An invitation (- reads standard input)")],
    allow: Allow = None,
    on: On = None,
    where: Where = None,
    addresses: From = None,
    expires: Expires = None,
    secret: Secret = None,
    root: Annotated[bool, typer.Option("--root", help="Take the root key of the invitation in")] = False,
    release: Annotated[bool, typer.Option("--release", help="Take the release key of the invitation in")] = False,
    fingerprint: Annotated[
        str | None, typer.Option("--fingerprint", metavar="SHA256:…", help="The invitation's, as its sender told it")
    ] = None,
    plan: Plan = False,
    yes: Yes = False,
) -> int:
    """Let somebody in: sign the public keys of an invitation. Without --allow they may do everything."""
    text = _read(file)
    rights = _rights(allow, on, where, expires, secret)
    session: Session = context.obj
    carrying = Carrying(plan, session.approver(yes=yes or plan), session.report)
    result = session.in_workspace(
        lambda w: session.flows.key_add(
            w,
            text,
            rights=rights,
            prompt=session.prompts,
            carrying=carrying,
            root=root,
            release=release,
            addresses=_networks(addresses),
            fingerprint=fingerprint,
        )
    )
    return session.finish(result, mutates=True, planned=plan)


def grant(
    context: typer.Context,
    name: Name,
    allow: Allow = None,
    on: On = None,
    where: Where = None,
    expires: Expires = None,
    secret: Secret = None,
    plan: Plan = False,
    yes: Yes = False,
) -> int:
    """Let a key do more, or let it live longer."""
    if not allow and not secret and expires is None:
        raise UsageError("nothing to grant", hint="add --allow ACTION, --secret NAME or --expires DURATION")
    rights = _rights(allow, on, where, expires, secret)
    session: Session = context.obj
    carrying = Carrying(plan, session.approver(yes=yes or plan), session.report)
    result = session.in_workspace(lambda w: session.flows.key_grant(w, name, rights, carrying))
    return session.finish(result, mutates=True, planned=plan)


def revoke(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A key's name, or one key's fingerprint")],
    role: Annotated[
        str | None, typer.Option("--role", metavar="command|root|release", help="Only from this role (else from all)")
    ] = None,
    plan: Plan = False,
    yes: Yes = False,
) -> int:
    """Take a name out of every role, close its SSH login, and say which secrets it could open."""
    if role is not None:
        checked_role(role, ("command", "root", "release"))
    session: Session = context.obj
    carrying = Carrying(plan, session.approver(yes=yes or plan), session.report)
    result = session.in_workspace(lambda w: session.flows.key_revoke(w, name, role, carrying))
    return session.finish(result, mutates=True, planned=plan)


def rotate(
    context: typer.Context,
    name: Name,
    role: Annotated[
        str, typer.Option("--role", metavar="command|root|release", help="Which key (command when left out)")
    ] = "command",
    key: Annotated[str | None, typer.Option("--key", metavar="FILE", help="The new key (else one is made)")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Go back to the old key")] = False,
    plan: Plan = False,
    yes: Yes = False,
) -> int:
    """Put a new key in the place of an old one. Interrupted anywhere, it goes on when it is run again."""
    checked_role(role, ("command", "root", "release"))
    session: Session = context.obj
    carrying = Carrying(plan, session.approver(yes=yes or plan), session.report)
    result = session.in_workspace(
        lambda w: session.flows.key_rotate(w, name=name, role=role, key=key, undo=undo, carrying=carrying)
    )
    return _finish_once(session, result, name, planned=plan)


def import_(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A private key, or the .pub file of one in ssh-agent")],
    role: Annotated[
        str, typer.Option("--role", metavar="command|root|release|seal", help="What it is for (command)")
    ] = "command",
    copy: Annotated[bool, typer.Option("--copy", help="Copy it, where else only its place is kept")] = False,
) -> int:
    """Use a key that exists on this machine: from a backup, or held by ssh-agent."""
    checked_role(role, ("command", "root", "release", "seal"))
    session: Session = context.obj
    return session.finish(session.in_workspace(lambda w: session.flows.key_import(w, file, role, copy=copy)))


def deploy(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the new key is called, such as ci")],
    allow: Allow = None,
    on: On = None,
    where: Where = None,
    addresses: From = None,
    expires: Expires = None,
    secret: Secret = None,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="Write it to a file (- is standard output)")] = "-",
    plan: Plan = False,
    yes: Yes = False,
) -> int:
    """Make a key for a CI job: narrow, for 90 days unless said otherwise, shown once."""
    if not allow:
        raise UsageError("a deploy key needs --allow ACTION", hint="sf action list")
    _checked("NAME", grammar.name, name)
    rights = _rights(allow, on, where, None, secret)
    lives_ms = lifetime(expires) * 1000 if expires is not None else None
    session: Session = context.obj
    carrying = Carrying(plan, session.approver(yes=yes or plan), session.report)
    result = session.in_workspace(
        lambda w: session.flows.key_deploy(
            w,
            name=name,
            rights=rights,
            addresses=_networks(addresses),
            lifetime=lives_ms,
            out=out,
            carrying=carrying,
        )
    )
    return _finish_once(session, result, name, planned=plan)


def _finish_once(session: Session, result: CommandResult, name: str, *, planned: bool) -> int:
    """What is shown once goes to standard output as lines of NAME=value, and is forgotten once it is out."""
    environment = result.data.get("environment")
    if environment and not session.options.json:
        for variable, value in environment.items():
            session.terminal.out(f"{variable}={value}")
        result = replace(result, data={})
        # Standard output is for the CI system alone.
        print_changes(session.terminal, result.servers, session.terminal.stderr, planned=False)
    code = session.finish(result, mutates=not environment, planned=planned)
    if environment or "file" in result.data:
        session.terminal.stdout.flush()
        session.in_workspace(lambda w: session.flows.key_told(w, name))
    return code


def _rights(
    allow: list[str] | None, on: str | None, where: list[str] | None, expires: str | None, secret: list[str] | None
) -> dict[str, Any]:
    if allow and on is None:
        raise UsageError("--allow needs --on: which servers?", hint="--on web1, --on @app, --on all")
    for option, given in (("--on", on), ("--where", where)):
        if given and not allow:  # who writes this expects it to narrow something
            raise UsageError(f"{option} needs --allow: which actions?", hint="sf action list")
    conditions = {}
    for condition in where or ():
        parameter, equals, value = condition.partition("=")
        if not equals or not parameter:
            raise UsageError(f"--where: {condition!r} is not PARAMETER=VALUE")
        conditions[parameter] = value
    return {
        "allow": tuple(allow or ()),
        "on": on or "all",
        "where": conditions or None,
        "expires": expiry(expires) if expires is not None else None,
        "secrets": tuple(secret or ()),
    }


def _networks(addresses: list[str] | None) -> tuple[str, ...]:
    import ipaddress

    try:
        return tuple(
            str(ipaddress.ip_network(one)) if "/" in one else str(ipaddress.ip_address(one)) for one in addresses or ()
        )
    except ValueError as error:
        raise UsageError(f"--from: {error}") from None


def _read(file: str) -> str:
    try:
        if file == "-":
            return sys.stdin.read(_LONGEST)
        with Path(file).open(encoding="utf-8") as text:
            return text.read(_LONGEST)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file} cannot be read: it is not UTF-8 text") from None


def _checked(what: str, check: Any, value: str) -> None:
    try:
        check(value)
    except ValueError as error:
        raise UsageError(f"{what}: {error}") from None


COMMANDS = {
    "list": list_, "show": show, "add": add, "grant": grant, "revoke": revoke, "rotate": rotate,
    "import": import_, "deploy": deploy, "invitation": invitation,
}  # fmt: skip
