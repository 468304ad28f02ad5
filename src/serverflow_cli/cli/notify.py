"""`sf notify`: where alerts go. Channels are a wish in fleet.toml; what was sent is told by the servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from serverflow_actions import registry

from ..errors import UsageError
from . import notify_view
from .generated import check, read
from .how import how_of
from .options import ConfirmWithin, LockWait, NoConfirm, On, OnAll, Plan, Safe, Timeout, Yes, seconds
from .secret import asked_twice, text_of_stdin
from .session import Session

Channel = Annotated[str, typer.Argument(metavar="CHANNEL", help="Channel name")]
_MAIL = ("smtp", "resend")
#: The secrets of each provider, and how they are asked for.
_SECRETS: Mapping[str, Mapping[str, str]] = {
    "slack": {"url": "URL of Slack's incoming webhook"},
    "webhook": {"url": "URL of the webhook", "secret": "Secret that signs it (empty for a new one)"},
    "smtp": {"password": "Password"},
    "resend": {"token": "API key"},
}


def add(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="email|slack|webhook", help="What it is")],
    name: Channel,
    *,
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="smtp|resend", help="email: who takes the mail")
    ] = None,
    host: Annotated[str | None, typer.Option("--host", metavar="HOST", help="smtp: the mail server")] = None,
    port: Annotated[
        str | None, typer.Option("--port", metavar="PORT", help="smtp: its port [default: by --security]")
    ] = None,
    security: Annotated[
        str | None,
        typer.Option(
            "--security", metavar="starttls|tls|none", help="smtp: none only on the server itself [default: starttls]"
        ),
    ] = None,
    username: Annotated[
        str | None, typer.Option("--username", metavar="USER", help="smtp: who logs in; the password is asked for")
    ] = None,
    sender: Annotated[str | None, typer.Option("--sender", metavar="ADDRESS", help="email: whom it is from")] = None,
    to: Annotated[
        list[str] | None, typer.Option("--to", metavar="ADDRESS", help="email: whom it is for (may be repeated)")
    ] = None,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read what is secret from stdin; webhook: the URL, then its secret if any")
    ] = False,
    plan: Plan = False,
    yes: Yes = False,
    safe: Safe = False,
    confirm_within: ConfirmWithin = None,
    no_confirm: NoConfirm = False,
    timeout: Timeout = None,
    lock_wait: LockWait = "30s",
) -> int:
    """Add a channel, and bring it to the servers that have something to send there.

    `sf notify add email ops --provider resend --sender sf@acme.app --to ops@acme.app`, `sf notify add slack ops`.

    URL, password or API key are asked for, and sealed into secrets.toml. Without [[notify.routes]] in fleet.toml every
    failure of every server goes to every channel. A webhook gets a new secret unless you give one.
    """
    session: Session = context.obj
    about = {"host": host, "port": port, "security": security, "username": username}
    settings = _settings(kind, provider, {**about, "sender": sender, "to": to})
    login = settings.pop("username", None)
    secrets = _SECRETS[settings["provider"]] if settings["provider"] != "smtp" or login else {}
    if stdin and not secrets:
        raise UsageError("--stdin: without --username there is no password")
    wanted = [*(["username"] if login else []), *secrets]
    how = how_of(session, plan, yes, lock_wait, timeout, safe, confirm_within, no_confirm)

    def values() -> dict[str, str]:
        return {**({"username": login} if login else {}), **_values(session, name, secrets, stdin)}

    result = session.in_workspace(lambda w: session.flows.notify_add(w, name, settings, wanted, values, how))
    return session.finish(result, mutates=True, planned=plan)


def list_(context: typer.Context) -> int:
    """List the channels of fleet.toml, their servers, and which events go to them."""
    session: Session = context.obj
    return session.finish(session.in_workspace(session.flows.notify_list))


def show(context: typer.Context, name: Channel) -> int:
    """Show a channel: its settings, what its secrets are called, and which events of which server go to it."""
    session: Session = context.obj
    return session.finish(session.in_workspace(lambda w: session.flows.notify_show(w, name)))


def test(context: typer.Context, name: Channel, *, on: On, timeout: Timeout = None) -> int:
    """Send a test alert through a channel, from the servers themselves, and tell what the other side said."""
    session: Session = context.obj
    timeout_s = seconds("--timeout", timeout) if timeout else None
    check(registry.load("notify.test"), {"name": name})
    result = session.in_workspace(
        lambda w: session.flows.notify_test(w, name, selector=on, timeout_s=timeout_s, report=session.report)
    )
    return session.finish(result)


def remove(
    context: typer.Context,
    name: Channel,
    *,
    on: Annotated[
        str | None, typer.Option("--on", metavar="SELECTOR", help="Only from these servers, which routes have left")
    ] = None,
    plan: Plan = False,
    yes: Yes = False,
    safe: Safe = False,
    confirm_within: ConfirmWithin = None,
    no_confirm: NoConfirm = False,
    timeout: Timeout = None,
    lock_wait: LockWait = "30s",
) -> int:
    """Remove a channel from all servers that have it, then from fleet.toml, and its secrets from secrets.toml.

    With --on it stays in fleet.toml: for servers that have it still, and from which no route sends anything there now.
    """
    session: Session = context.obj
    how = how_of(session, plan, yes, lock_wait, timeout, safe, confirm_within, no_confirm)
    result = session.in_workspace(lambda w: session.flows.notify_remove(w, name, how, on))
    return session.finish(result, mutates=True, planned=plan)


def status(context: typer.Context, *, on: OnAll = None, timeout: Timeout = None) -> int:
    """Show what was sent lately, what waits to be sent, and what was given up."""
    session: Session = context.obj
    result = read(session, registry.load("notify.status"), {}, on=on or "all", timeout=timeout)
    local = session.terminal.shows_results
    return session.finish(result if session.options.json else notify_view.status(result, local=local))


def _settings(kind: str, provider: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The stanza without its secrets. Raises UsageError for what does not go together."""
    if kind not in ("email", "slack", "webhook"):
        raise UsageError(f"there is no channel of the kind {kind[:20]!a}", hint="email, slack or webhook")
    if kind == "email" and provider not in _MAIL:
        raise UsageError("mail needs a provider", hint="--provider smtp (any mail server) or --provider resend")
    if kind != "email" and provider not in (None, kind):
        raise UsageError(f"--provider is for email; {kind} has one only")
    found = {key: value for key, value in given.items() if value}
    own = {"email": {"sender", "to"}, "slack": set(), "webhook": set()}[kind]
    smtp = {"host", "port", "security", "username"} if provider == "smtp" else set()
    needed = own | ({"host"} if smtp else set())
    if foreign := [key for key in found if key not in own | smtp]:
        raise UsageError(f"--{foreign[0]} is not for {provider or kind}")
    if missing := [key for key in given if key in needed and key not in found]:
        raise UsageError(f"{provider or kind} needs {', '.join(f'--{key}' for key in missing)}")
    if "port" in found:
        found["port"] = _port(found["port"])
    return {"provider": provider or kind, **found}


def _port(text: str) -> int:
    from serverflow_actions.kit import grammar

    try:
        return grammar.port(text)
    except ValueError as error:
        raise UsageError(f"--port: {error}") from None


def _values(session: Session, name: str, secrets: Mapping[str, str], from_stdin: bool) -> dict[str, str]:
    """What is secret, from stdin or asked for; never from the command line, where `ps` shows it. What may be left out
    is left out when it is empty.
    """
    if from_stdin and not session.terminal.stdin.isatty():
        lines = text_of_stdin(session).splitlines()
        if len(lines) > len(secrets):
            raise UsageError(f"stdin has {len(lines)} lines, and {', '.join(secrets)} is what is wanted")
        found = dict(zip(secrets, lines, strict=False))
    else:
        found = {param: asked_twice(session, f"{name}: {question}") for param, question in secrets.items()}
    return {param: value for param, value in found.items() if value or param != "secret"}


COMMANDS = {"add": add, "list": list_, "show": show, "test": test, "remove": remove, "status": status}
