"""Errors that begin on this side: the parser's complaints, Ctrl-C and our own bugs, in the style of all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from typer.exceptions import TyperException

from ..errors import HungUp, Interrupted, Terminated, UsageError

#: Options of commands that change something which can be put back.
_SAFE = ("--safe", "--confirm-within", "--no-confirm")

#: Commands that take another command line at their end.
_RUN_COMMANDS = ("sf cron add", "sf cron edit")


def interrupted(begun: Mapping[str, tuple[str, bool]], left: Sequence[str] = (), signal: int = 0) -> Interrupted:
    """Ctrl-C, or that signal. What servers have begun they finish: by name, the operation's id and whether it is a safe
    change that is not confirmed. That they undo. `left` is what else is to be known.
    """
    hints = [
        f"{server} goes on: `sf op follow {op}`"
        + (f"; it is undone by itself, unless: `sf safe confirm {op} --on {server}`" if safe else "")
        for server, (op, safe) in begun.items()
    ]
    error = next((kind for kind in (Terminated, HungUp) if kind.exit_code == 128 + signal), Interrupted)
    return error(error.default_code.replace("-", " "), hint="\n".join((*hints, *left)))


def usage_error(error: TyperException) -> UsageError:
    """The parser's error as one sentence with a way out."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "sf"
    if getattr(error, "option_name", "") == "--fleet":  # taken off the line unless its value is missing
        return UsageError("--fleet PATH: the path is missing", hint=f"see `{path} --help`")
    near = getattr(error, "possibilities", None)
    hint = f"did you mean {near[0]}?" if near else f"see `{path} --help`"
    if hasattr(error, "possibilities") and hasattr(error, "option_name"):
        if error.option_name in _SAFE:
            hint = "this cannot be a safe change: nothing could put it back"
        if path in _RUN_COMMANDS:
            hint += "\nwhat belongs to the job's own command goes after --, as in: --app shop -- bin/report --all"
        return UsageError(f"`{path}` has no option {error.option_name}", hint=hint)
    param = getattr(error, "param", None)
    if param is not None and hasattr(error, "param_type"):  # only a missing parameter has a param_type
        return UsageError(f"{_name(param)} is missing", hint=hint)
    text = error.format_message().rstrip(".")
    return UsageError(text[:1].lower() + text[1:], hint=hint)


def _name(param: Any) -> str:
    """`--on SELECTOR`, `NAME`."""
    if param.param_type_name == "argument":
        return str(param.metavar or param.name.upper())
    return f"{max(param.opts, key=len)} {param.metavar or ''}".rstrip()
