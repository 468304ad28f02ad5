"""A command for each action of the registry, derived from what the action declares."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from serverflow_actions.kit.spec import Action, BadParams, Param, parse

from ..errors import UsageError
from ..model.result import CommandResult
from ..ui.units import duration, size
from .options import (
    Confirm,
    ConfirmWithin,
    LockWait,
    NoConfirm,
    On,
    Plan,
    Safe,
    Seal,
    Timeout,
    Yes,
    safety,
    seconds,
)
from .seen import remember_units
from .session import Session

#: The options that generated commands share; no parameter of an action may have such a name.
COMMON = (
    "on", "plan", "yes", "confirm", "safe", "confirm_within", "no_confirm", "timeout", "lock_wait", "seal",
)  # fmt: skip
RESERVED = frozenset((*COMMON, "json", "fleet", "verbose", "debug", "no_color", "help"))
_DEFAULT_LOCK_WAIT = "30s"


def action_function(action: Action) -> Callable[..., int]:
    """A function whose signature is the command line of the action."""

    def command(context: typer.Context, **values: Any) -> int:
        common = {name: values.pop(name, None) for name in COMMON}
        return run(context.obj, action, _params_of(action, values), _secrets_of(action, context.obj, values), **common)

    command.__signature__ = inspect.Signature(_signature(action))  # type: ignore[attr-defined]  # PEP 362
    return command


def run(
    session: Session,
    action: Action,
    params: dict[str, Any],
    secrets: dict[str, str],
    *,
    on: str,
    plan: bool | None = False,
    yes: bool | None = False,
    confirm: str | None = None,
    safe: bool | None = False,
    confirm_within: str | None = None,
    no_confirm: bool | None = False,
    timeout: str | None = None,
    lock_wait: str | None = None,
    seal: bool | None = False,
    blobs: tuple[bytes, ...] = (),
    checks: bool = True,
) -> int:
    """Check the values here, by the same door that the server uses, then run the action and show the result.

    `checks` is whether those of fleet.toml have to hold for a confirmation.
    """
    check(action, {**params, **secrets})
    timeout_s = seconds("--timeout", timeout) if timeout else None
    lock_wait_s = seconds("--lock-wait", lock_wait or _DEFAULT_LOCK_WAIT)
    mutates = action.kind != "read"
    safely = safety(bool(safe), confirm_within, bool(no_confirm))
    approve: Callable[[CommandResult], bool] = _without_asking
    if mutates and not plan:
        name = target_name(action, params, on) if action.destructive else ""
        approve = session.approver(yes=bool(yes), name=name, confirm=confirm)
    result = session.in_workspace(
        lambda workspace: session.flows.run_action(
            workspace,
            action.name,
            on,
            params,
            secrets=secrets,
            plan=bool(plan),
            approve=approve,
            timeout_s=timeout_s,
            lock_wait_s=lock_wait_s,
            report=session.report,
            blobs=blobs,
            safety=safely,
            seal=bool(seal) and not plan,
            checks=checks,
        )
    )
    if action.area == "service":
        remember_units(result)
    return session.finish(result, mutates=mutates, planned=bool(plan))


def read(
    session: Session, action: Action, params: dict[str, Any], *, on: str, timeout: str | None = None
) -> CommandResult:
    """What servers answer to an action that changes nothing, for a command that shows it its own way."""
    check(action, params)
    return session.in_workspace(
        lambda workspace: session.flows.run_action(
            workspace,
            action.name,
            on,
            params,
            secrets={},
            plan=False,
            approve=_without_asking,
            timeout_s=seconds("--timeout", timeout) if timeout else None,
            lock_wait_s=0,
            report=session.report,
        )
    )


def check(action: Action, params: dict[str, Any]) -> None:
    """The door that the server uses too. Raises UsageError."""
    try:
        parse(action.params, params)
    except BadParams as error:
        raise UsageError(str(error), hint=f"see `sf action show {action.name}`") from None


def _without_asking(_planned: CommandResult) -> bool:
    """A read changes nothing, and a plan is only shown."""
    return True


def target_name(action: Action, params: Mapping[str, Any], selector: str) -> str:
    """What is typed to confirm a destructive action: its first positional value, or the selector when it has none."""
    for param in action.params:
        if param.positional and param.name in params:
            value = params[param.name]
            return ",".join(value) if isinstance(value, list) else str(value)
    return selector


def value_of(param: Param, raw: Any) -> Any:
    """A value in the form that the signed body carries: whole numbers as numbers, all else, and lists, as written."""
    return list(raw) if param.many else value_of_one(param, raw)


def value_of_one(param: Param, raw: Any) -> Any:
    """One item of a value. What does not fit its grammar is left as it is: `parse` says what is wrong with it."""
    if param.type in ("integer", "port") and isinstance(raw, str) and raw.isascii() and raw.isdecimal():
        return int(raw)
    if param.type == "boolean" and raw in ("true", "false"):
        return raw == "true"
    return raw


def _params_of(action: Action, values: Mapping[str, Any]) -> dict[str, Any]:
    given = {p.name: values.get(_python_name(p)) for p in action.params if not p.secret}
    return {p.name: value_of(p, given[p.name]) for p in action.params if given.get(p.name) is not None}


def _secrets_of(action: Action, session: Session, values: Mapping[str, Any]) -> dict[str, str]:
    wanted = [(p, bool(values.get(f"{_python_name(p)}_stdin"))) for p in action.params if p.secret]
    if sum(from_stdin for _, from_stdin in wanted) > 1:
        raise UsageError("only one secret can be read from stdin")
    return {p.name: read_secret(session, p, from_stdin) for p, from_stdin in wanted if from_stdin or p.required}


def read_secret(session: Session, param: Param, from_stdin: bool) -> str:
    """A secret from stdin, or asked for; never from the command line, where `ps` and the shell's history show it."""
    stdin = session.terminal.stdin
    if from_stdin and not stdin.isatty():
        return stdin.read().rstrip("\r\n")
    return session.prompts.hidden(
        f"{param.name} ({param.help})", otherwise=f"give it on stdin with --{param.name}-stdin"
    )


def _signature(action: Action) -> list[inspect.Parameter]:
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    params = [_parameter(action, p) for p in sorted(action.params, key=lambda p: not p.positional)]
    common = [_keyword("on", On)]
    if action.kind != "read":
        common += [_keyword("plan", Plan, False)]
        common += [_keyword("yes", Yes, False)]
        common += [_keyword("confirm", Confirm, None)] if action.destructive else []
    if action.kind == "change":
        common += [_keyword("safe", Safe, False)]
        common += [_keyword("confirm_within", ConfirmWithin, None)]
        common += [_keyword("no_confirm", NoConfirm, False)]
    common += [_keyword("timeout", Timeout, None)]
    if action.reveals:
        common += [_keyword("seal", Seal, False)]
    if action.locks:
        common += [_keyword("lock_wait", LockWait, _DEFAULT_LOCK_WAIT)]
    return [context, *params, *common]


def _parameter(action: Action, p: Param) -> inspect.Parameter:
    if _python_name(p) in RESERVED:
        raise TypeError(f"action {action.name}: every command has an option --{p.name}")
    if p.secret:
        flag = Annotated[bool, typer.Option(f"--{p.name}-stdin", help=f"Read from stdin, not asked for: {p.help}")]
        return _keyword(f"{_python_name(p)}_stdin", flag, False)
    default = inspect.Parameter.empty if p.required else None
    kind: Any = list[str] if p.many else str
    metavar = "|".join(p.choices) or p.type.upper()
    if p.positional:
        return _keyword(
            _python_name(p), Annotated[kind, typer.Argument(metavar=p.name.upper(), help=_help(p))], default
        )
    if p.type == "boolean":
        return _keyword(
            _python_name(p), Annotated[bool, typer.Option(f"--{p.name}/--no-{p.name}", help=_help(p))], default
        )
    return _keyword(
        _python_name(p), Annotated[kind, typer.Option(f"--{p.name}", metavar=metavar, help=_help(p))], default
    )


def _help(p: Param) -> str:
    default = "" if p.required or p.default in (None, "", [], ()) else f"[default: {_shown_default(p)}]"
    many = "(may be repeated)" if p.many and not p.positional else ""
    return " ".join(part for part in (p.help, many, default) if part)


def _shown_default(p: Param) -> str:
    if isinstance(p.default, bool):
        return "yes" if p.default else "no"
    if isinstance(p.default, (list, tuple)):
        return ", ".join(map(str, p.default))
    if p.type in ("duration", "size") and isinstance(p.default, int):
        return duration(p.default) if p.type == "duration" else size(p.default)
    return str(p.default)


def _keyword(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _python_name(p: Param) -> str:
    return p.name.replace("-", "_")
