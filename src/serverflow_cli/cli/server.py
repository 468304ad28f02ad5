"""`sf server`: which servers the fleet has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from serverflow_actions.kit import grammar

from ..errors import UsageError
from ..model.result import CommandResult
from ..model.selector import ROLES
from .options import Confirm, OnAll, Plan, Yes
from .session import Session

Server = Annotated[str, typer.Argument(metavar="SERVER", help="The server's name")]
Strings = list[str] | None


def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name for it: a DNS label")],
    destination: Annotated[str, typer.Argument(metavar="[USER@]HOST[:PORT]", help="Your own root or sudo login there")],
    role: Annotated[
        Strings, typer.Option("--role", metavar="ROLE", help="Select it as @ROLE (may be repeated)")
    ] = None,
    tag: Annotated[Strings, typer.Option("--tag", metavar="TAG", help="Select it as +TAG (may be repeated)")] = None,
    port: Annotated[str | None, typer.Option("--port", metavar="PORT", help="SSH port (22)")] = None,
    identity: Annotated[
        Strings,
        typer.Option(
            "--identity", "-i", metavar="FILE", help="SSH key to log in with (may be repeated; else the agent's)"
        ),
    ] = None,
    jump: Annotated[
        str | None, typer.Option("--jump", metavar="[USER@]HOST[:PORT]", help="Go through this host")
    ] = None,
    ask_sudo: Annotated[bool, typer.Option("--ask-sudo", help="Ask for the sudo password")] = False,
    fingerprint: Annotated[
        str | None,
        typer.Option(
            "--fingerprint", metavar="SHA256:…", help="The host key's fingerprint, from the provider's console"
        ),
    ] = None,
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", help="Install missing programs without asking; a host key is asked about"),
    ] = False,
) -> int:
    """Enrol a server: pin its host key, install the runner, prove it over a fresh connection."""
    _checked("NAME", grammar.label, name)
    ssh_port = int(_checked("--port", grammar.port, port)) if port is not None else None
    for value in role or ():
        if value not in ROLES:
            raise UsageError(f"--role {value[:60]!a} is none of {', '.join(ROLES)}", hint="--tag takes any word")
    for value in tag or ():
        _checked("--tag", grammar.label, value)
    if destination.startswith("-") or not destination.isprintable():
        raise UsageError(f"{destination!r} is not [USER@]HOST[:PORT]")
    session: Session = context.obj
    result = session.in_workspace(
        lambda workspace: session.flows.server_add(
            workspace,
            prompt=session.prompts,
            report=session.report,
            name=name,
            destination=destination,
            port=ssh_port,
            roles=tuple(role or ()),
            tags=tuple(tag or ()),
            identity_files=tuple(identity or ()),
            jump=jump,
            ask_sudo=ask_sudo,
            fingerprint=fingerprint,
            install_missing=yes,
        )
    )
    return session.finish(result, mutates=True)


def list_(context: typer.Context, on: OnAll = None) -> int:
    """List the servers of the fleet. No server is contacted."""
    session: Session = context.obj
    return session.finish(session.in_workspace(lambda w: session.flows.server_list(w, selector=on or "all")))


def show(context: typer.Context, name: Server) -> int:
    """Show what is known of a server: address, roles, keys, versions. No server is contacted."""
    session: Session = context.obj
    return session.finish(session.in_workspace(lambda w: session.flows.server_show(w, name)))


def check(context: typer.Context, on: OnAll = None) -> int:
    """Contact servers and say what stands in the way: reachability, pins, versions, clock, trust."""
    session: Session = context.obj
    return session.finish(
        session.in_workspace(lambda w: session.flows.server_check(w, selector=on or "all", report=session.report))
    )


def facts(context: typer.Context, on: OnAll = None) -> int:
    """Show operating system, memory, disk and load."""
    session: Session = context.obj
    return session.finish(
        session.in_workspace(lambda w: session.flows.server_facts(w, selector=on or "all", report=session.report))
    )


def rename(
    context: typer.Context,
    old: Annotated[str, typer.Argument(metavar="SERVER", help="Its name now")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name: a DNS label")],
    plan: Plan = False,
    yes: Yes = False,
) -> int:
    """Give a server another name. Its identity and its history stay."""
    _checked("NEW", grammar.label, new)
    session: Session = context.obj
    approve = session.approver(yes=yes or plan)
    result = session.in_workspace(
        lambda w: session.flows.server_rename(w, old, new, plan=plan, approve=approve, report=session.report)
    )
    return session.finish(result, mutates=True, planned=plan)


def update(context: typer.Context, on: OnAll = None, plan: Plan = False, yes: Yes = False) -> int:
    """Bring the signed runner, its actions and the trust file on servers up to date."""
    session: Session = context.obj
    approve = session.approver(yes=yes or plan)
    result = session.in_workspace(
        lambda w: session.flows.server_update(
            w, selector=on or "all", plan=plan, approve=approve, report=session.report
        )
    )
    return session.finish(result, mutates=True, planned=plan)


def rekey(
    context: typer.Context,
    name: Server,
    identity: Annotated[bool, typer.Option("--identity", help="The key that signs its receipts")] = False,
    host_keys: Annotated[bool, typer.Option("--host-keys", help="The key that its sshd shows")] = False,
    plan: Plan = False,
    yes: Yes = False,
) -> int:
    """Give a server a new identity key or SSH host key, or finish a rotation that was interrupted."""
    if identity == host_keys:
        raise UsageError("which key?", hint="--identity or --host-keys")
    session: Session = context.obj

    def approve(planned: CommandResult) -> bool:
        return session.approver(yes=yes or plan)(planned)  # not earlier: the flow knows whether there is such a server

    result = session.in_workspace(
        lambda w: session.flows.server_rekey(
            w, name, "identity" if identity else "host", plan=plan, approve=approve, report=session.report
        )
    )
    return session.finish(result, mutates=True, planned=plan)


def remove(
    context: typer.Context,
    name: Server,
    forget: Annotated[
        bool, typer.Option("--forget", help="Do not contact it: it is gone for good, or was reinstalled")
    ] = False,
    plan: Plan = False,
    confirm: Confirm = None,
) -> int:
    """Take the runner, its account and its keys off a server, and the server out of the fleet."""
    session: Session = context.obj
    approve = session.approver(yes=False, name=name, confirm=name if plan else confirm)
    result = session.in_workspace(
        lambda w: session.flows.server_remove(w, name, forget=forget, plan=plan, approve=approve, report=session.report)
    )
    return session.finish(result, mutates=True, planned=plan)


def _checked(what: str, check: Callable[[str], object], value: str) -> str:
    try:
        check(value)
    except ValueError as error:
        raise UsageError(f"{what}: {error}") from None
    return value


COMMANDS = {
    "add": add, "list": list_, "show": show, "check": check, "facts": facts,
    "rename": rename, "update": update, "rekey": rekey, "remove": remove,
}  # fmt: skip
