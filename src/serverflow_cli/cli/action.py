"""`sf action`: every action by its name, for scripts and for what has no command of its own."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from serverflow_actions import registry
from serverflow_actions.kit.spec import Action

from ..errors import UsageError
from ..model.result import CommandResult
from .generated import read_secret, run, value_of
from .options import Confirm, ConfirmWithin, LockWait, NoConfirm, On, Plan, Safe, Timeout, Yes
from .session import Session

Name = Annotated[str, typer.Argument(metavar="ACTION", help="Such as service.restart")]


def run_(
    context: typer.Context,
    name: Name,
    values: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Parameters; repeat a key for a list")
    ] = None,
    *,
    on: On,
    plan: Plan = False,
    yes: Yes = False,
    confirm: Confirm = None,
    safe: Safe = False,
    confirm_within: ConfirmWithin = None,
    no_confirm: NoConfirm = False,
    timeout: Timeout = None,
    lock_wait: LockWait = "30s",
    secret_stdin: Annotated[
        str | None, typer.Option("--secret-stdin", metavar="KEY", help="Read this secret from stdin")
    ] = None,
) -> int:
    """Run an action by its name.

    `sf action run service.restart --on web1 unit=nginx` is `sf service restart nginx --on web1`.
    """
    action = _load(name)
    session: Session = context.obj
    session.tells_all = True
    params = _params(action, values or [])
    secret_params = {p.name: p for p in action.params if p.secret}
    if secret_stdin and secret_stdin not in secret_params:
        raise UsageError(f"{action.name} has no secret parameter {secret_stdin!r}", hint=f"see `sf action show {name}`")
    secrets = {
        p.name: read_secret(session, p, p.name == secret_stdin)
        for p in secret_params.values()
        if p.required or p.name == secret_stdin
    }
    return run(
        session,
        action,
        params,
        secrets,
        on=on,
        plan=plan,
        yes=yes,
        confirm=confirm,
        safe=safe,
        confirm_within=confirm_within,
        no_confirm=no_confirm,
        timeout=timeout,
        lock_wait=lock_wait,
    )


def list_(
    context: typer.Context, area: Annotated[str | None, typer.Argument(metavar="AREA", help="Only this area")] = None
) -> int:
    """List the actions that this `sf` knows."""
    if area is not None and area not in registry.areas():
        raise UsageError(f"no area has the name {area!r}", hint=_near(area, registry.areas()) or "see `sf --help`")
    actions = [registry.load(name) for name in registry.names() if area in (None, name.partition(".")[0])]
    rows = [{"action": a.name, "kind": a.kind, "summary": a.summary} for a in actions]
    session: Session = context.obj
    return session.finish(CommandResult(data={"actions": rows}))


def show(context: typer.Context, name: Name) -> int:
    """Describe an action: its parameters, its sandbox and what it may touch."""
    session: Session = context.obj
    return session.finish(CommandResult(data=describe(_load(name))))


def describe(action: Action) -> dict[str, Any]:
    """What an action declares, for people and for `--json`; what it does not use is left out."""
    touches = {
        "writes": list(action.writes),
        "units": list(action.units),
        "packages": list(action.packages),
        "accounts": action.accounts,
        "host": list(action.host_verbs),
        "reads": list(action.reads),
        "ports": list(action.ports),
        "locks": list(action.locks),
        "safe": action.safe or list(action.lifelines),
    }
    params = [
        {
            "param": p.name,
            "type": "|".join(p.choices) or p.type,
            "default": "(required)" if p.required else p.default,
            "help": " ".join(part for part in (p.help, "(list)" * p.many, "(secret)" * p.secret) if part),
        }
        for p in action.params
    ]
    return {
        "action": action.name,
        "version": action.version,
        "summary": action.summary,
        "kind": action.kind,
        "sandbox": action.profile,
        "timeout_s": action.timeout,
        "memory": action.memory,
        "destructive": action.destructive,
        **{key: value for key, value in touches.items() if value},
        **({"params": params} if params else {}),
    }


def _load(name: str) -> Action:
    try:
        return registry.load(name)
    except KeyError:
        hint = _near(name, list(registry.names())) or "see `sf action list`"
        raise UsageError(f"no action has the name {name!r}", hint=hint) from None


def _near(name: str, names: list[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, names, 1)
    return f"did you mean {near[0]}?" if near else ""


def _params(action: Action, values: list[str]) -> dict[str, Any]:
    """`key=value` words as parameters. Raises UsageError."""
    known = {p.name: p for p in action.params}
    texts: dict[str, list[str]] = {}
    for word in values:
        key, equals, text = word.partition("=")
        if not equals:
            raise UsageError(f"{word!r} is not KEY=VALUE", hint=f"see `sf action show {action.name}`")
        if key not in known:
            raise UsageError(f"{action.name} has no parameter {key!r}", hint=_near(key, list(known)))
        if known[key].secret:
            raise UsageError(f"{key} is a secret and may not stand on the command line", hint=f"--secret-stdin {key}")
        texts.setdefault(key, []).append(text)
    for key, given in texts.items():
        if len(given) > 1 and not known[key].many:
            raise UsageError(f"{key} is given more than once and is no list")
    return {key: value_of(known[key], given if known[key].many else given[0]) for key, given in texts.items()}


COMMANDS = {"list": list_, "show": show, "run": run_}
