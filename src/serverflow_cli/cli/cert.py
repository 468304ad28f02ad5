"""`sf cert`: what spans the fleet; the verbs of one server come from the registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from ..errors import Drift, UsageError
from . import cert_view
from .how import how_of
from .options import Confirm, LockWait, On, OnAll, Plan, Timeout, Yes, seconds
from .secret import asked_twice, text_of_stdin
from .session import Session

Name = Annotated[str, typer.Argument(metavar="CERTIFICATE", help="Certificate name")]
_QUESTIONS = {"token": "API token for the servers (Cloudflare)", "eab_hmac_key": "HMAC key of the account binding"}


def setup(
    context: typer.Context,
    *,
    on: Annotated[
        str | None, typer.Option("--on", metavar="SELECTOR", help="Servers that get one for their names [default: all]")
    ] = None,
    directory: Annotated[
        str | None,
        typer.Option(
            "--directory", metavar="URL", help="letsencrypt, letsencrypt-staging or any [default: letsencrypt]"
        ),
    ] = None,
    email: Annotated[
        str | None, typer.Option("--email", metavar="ADDRESS", help="Whom the authority may write to")
    ] = None,
    token: Annotated[
        bool, typer.Option("--token", help="Ask for the servers' token: zones at Cloudflare only")
    ] = False,
    eab_key_id: Annotated[
        str | None, typer.Option("--eab-key-id", metavar="ID", help="External account; its HMAC key is asked for")
    ] = None,
    rehearsal: Annotated[
        bool | None, typer.Option("--rehearsal/--no-rehearsal", help="Try it against staging once a week")
    ] = None,
    welcome: Annotated[
        bool | None,
        typer.Option(
            "--welcome/--no-welcome", help="Servers of role app answer at their own names with a page [default: yes]"
        ),
    ] = None,
    stdin: Annotated[bool, typer.Option("--stdin", help="Read what is secret from stdin, a line each")] = False,
    plan: Plan = False,
    yes: Yes = False,
    timeout: Timeout = None,
    lock_wait: LockWait = "30s",
) -> int:
    """Let servers get certificates by ACME, for NAME.base_domain and *.NAME.base_domain, and renew them by themselves.

    With this you agree to the terms of the authority. Each server makes its own key, which never leaves it.
    """
    session: Session = context.obj
    given = {
        "on": on, "directory": directory, "email": email, "eab_key_id": eab_key_id, "rehearsal": rehearsal,
        "welcome": welcome,
    }  # fmt: skip
    values: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    values |= {"token": token, "eab_hmac_key": bool(eab_key_id)}
    wanted = [key for key in _QUESTIONS if values[key]]

    def secrets() -> Mapping[str, str]:
        if not stdin:
            return {key: asked_twice(session, _QUESTIONS[key]) for key in wanted}
        lines = text_of_stdin(session).splitlines()
        if len(lines) != len(wanted):
            raise UsageError(f"stdin has {len(lines)} lines, and {', '.join(wanted)} is what is wanted")
        return dict(zip(wanted, lines, strict=True))

    answers: dict[str, str] = {}

    def once() -> Mapping[str, str]:
        answers.update(answers or secrets())
        return answers

    how = how_of(session, plan, yes, lock_wait, timeout)
    result = session.in_workspace(lambda w: session.flows.cert_setup(w, values, once, how))
    return session.finish(result, mutates=True, planned=plan)


def add(
    context: typer.Context,
    name: Name,
    names: Annotated[list[str], typer.Argument(metavar="HOST", help="Host name, or *.NAME for all below")],
    *,
    on: On,
    plan: Plan = False,
    yes: Yes = False,
    timeout: Timeout = None,
    lock_wait: LockWait = "30s",
) -> int:
    """Let servers have one more certificate: `sf cert add base acme.app *.acme.app --on web1`."""
    session: Session = context.obj
    how = how_of(session, plan, yes, lock_wait, timeout)
    result = session.in_workspace(lambda w: session.flows.cert_add(w, name, on, names, how))
    return session.finish(result, mutates=True, planned=plan)


def remove(
    context: typer.Context,
    name: Name,
    *,
    on: On,
    plan: Plan = False,
    yes: Yes = False,
    confirm: Confirm = None,
    timeout: Timeout = None,
    lock_wait: LockWait = "30s",
) -> int:
    """Take a certificate and its key off servers; it is not revoked."""
    session: Session = context.obj
    how = {
        **how_of(session, True, yes, lock_wait, timeout),
        "plan": plan,
        "approve": session.approver(yes=yes or plan, name="" if plan else name, confirm=confirm),
    }
    result = session.in_workspace(lambda w: session.flows.cert_remove(w, name, on, how))
    return session.finish(result, mutates=True, planned=plan)


def list_(context: typer.Context, *, on: OnAll = None, timeout: Timeout = None) -> int:
    """List certificates: until when each counts, when it is renewed, whether it is served and what failed last."""
    session: Session = context.obj
    limit = seconds("--timeout", timeout) if timeout else None
    result = session.in_workspace(
        lambda w: session.flows.cert_list(w, selector=on, timeout_s=limit, report=session.report)
    )
    return session.finish(result if session.options.json else cert_view.certificates(result))


def check(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[CERTIFICATE]", help="Only this one (all when left out)")
    ] = None,
    *,
    on: OnAll = None,
    timeout: Timeout = None,
) -> int:
    """Look whether certificates are served right now, by a connection to each place where they have to be.

    It ends with 11 when one is missing, expired or not served, or when its renewal fails.
    """
    session: Session = context.obj
    limit = seconds("--timeout", timeout) if timeout else None
    result = session.in_workspace(
        lambda w: session.flows.cert_check(w, name, selector=on, timeout_s=limit, report=session.report)
    )
    wrong = cert_view.wrong(result)
    error = Drift(f"not as it should be: {', '.join(wrong)}") if wrong and not result.error else None
    return session.finish(result if session.options.json else cert_view.certificates(result), error=error)


COMMANDS = {"setup": setup, "add": add, "remove": remove, "list": list_, "check": check}
