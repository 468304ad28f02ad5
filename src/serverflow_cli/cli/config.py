"""`sf config`: the configuration files of the system that are managed. `show` comes from the registry."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serverflow_actions import registry

from ..errors import ConfigError, SfError, UsageError
from .generated import run
from .options import ConfirmWithin, LockWait, NoConfirm, On, OnAll, Plan, Safe, Timeout, Yes, safety, seconds
from .session import Session

if TYPE_CHECKING:
    from ..flows.config import Revise
    from ..model.result import CommandResult

Kind = Annotated[str, typer.Argument(metavar="KIND", help="Kind of file, as `sf config list` names it")]
#: More than the 32 KiB that a file may have; so that an endless stdin is an error.
_LONGEST = 1 << 20


def list_(context: typer.Context, on: OnAll = None) -> int:
    """List the kinds of files that are managed, and on each server whether it is there and as it was written."""
    return run(context.obj, registry.load("config.list"), {}, {}, on=on or "all")


def edit(
    context: typer.Context,
    kind: Kind,
    *,
    on: On,
    plan: Plan = False,
    yes: Yes = False,
    safe: Safe = False,
    confirm_within: ConfirmWithin = None,
    no_confirm: NoConfirm = False,
    timeout: Timeout = None,
    lock_wait: LockWait = "30s",
) -> int:
    """Edit a file in $VISUAL or $EDITOR, then write it into fleet.toml and to the servers."""
    session: Session = context.obj
    how = _how(session, plan, yes, safe, confirm_within, no_confirm, timeout, lock_wait)
    revise = _editing(session, _checked(kind))
    return _finish(session, session.in_workspace(lambda w: session.flows.config_edit(w, kind, on, revise, how)), plan)


def set_(
    context: typer.Context,
    kind: Kind,
    settings: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE", help="Settings, each in place of the one before")
    ],
    *,
    on: On,
    plan: Plan = False,
    yes: Yes = False,
    safe: Safe = False,
    confirm_within: ConfirmWithin = None,
    no_confirm: NoConfirm = False,
    timeout: Timeout = None,
    lock_wait: LockWait = "30s",
) -> int:
    """Set single keys of a file (sshd, sysctl, journald, unattended-upgrades), in fleet.toml and on the servers."""
    session: Session = context.obj
    how = _how(session, plan, yes, safe, confirm_within, no_confirm, timeout, lock_wait)
    pairs = _pairs(settings)
    _checked(kind)
    return _finish(session, session.in_workspace(lambda w: session.flows.config_set(w, kind, on, pairs, how)), plan)


def apply(
    context: typer.Context,
    kind: Kind,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Its whole content; - is stdin")],
    *,
    on: On,
    plan: Plan = False,
    yes: Yes = False,
    safe: Safe = False,
    confirm_within: ConfirmWithin = None,
    no_confirm: NoConfirm = False,
    timeout: Timeout = None,
    lock_wait: LockWait = "30s",
) -> int:
    """Give a file the content of a local one, in fleet.toml and on the servers."""
    session: Session = context.obj
    how = _how(session, plan, yes, safe, confirm_within, no_confirm, timeout, lock_wait)
    _checked(kind)
    content = _content(session, file)
    return _finish(session, session.in_workspace(lambda w: session.flows.config_write(w, kind, on, content, how)), plan)


def remove(
    context: typer.Context,
    kind: Kind,
    *,
    on: On,
    plan: Plan = False,
    yes: Yes = False,
    safe: Safe = False,
    confirm_within: ConfirmWithin = None,
    no_confirm: NoConfirm = False,
    timeout: Timeout = None,
    lock_wait: LockWait = "30s",
) -> int:
    """Remove a file from the servers and its stanza from fleet.toml."""
    session: Session = context.obj
    how = _how(session, plan, yes, safe, confirm_within, no_confirm, timeout, lock_wait)
    _checked(kind)
    return _finish(session, session.in_workspace(lambda w: session.flows.config_remove(w, kind, on, how)), plan)


def _how(
    session: Session,
    plan: bool,
    yes: bool,
    safe: bool,
    confirm_within: str | None,
    no_confirm: bool,
    timeout: str | None,
    lock_wait: str,
) -> Mapping[str, Any]:
    """What flows.config.How is made of."""
    return {
        "plan": plan,
        "approve": session.approver(yes=yes or plan),
        "timeout_s": seconds("--timeout", timeout) if timeout else None,
        "lock_wait_s": seconds("--lock-wait", lock_wait),
        "report": session.report,
        "safety": safety(safe, confirm_within, no_confirm),
    }


def _finish(session: Session, result: CommandResult, plan: bool) -> int:
    return session.finish(result, mutates=True, planned=plan)


def _checked(kind: str) -> str:
    """Raises UsageError."""
    known = next(param.choices for param in registry.load("config.set").params if param.name == "kind")
    if kind not in known:
        raise UsageError(f"there is no kind {kind!a}", hint=f"one of {', '.join(known)}")
    return kind


def _pairs(settings: list[str]) -> dict[str, str]:
    pairs = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise UsageError(f"{setting[:60]!a} is not of the form KEY=VALUE")
        pairs[key.strip()] = value.strip()
    return pairs


def _content(session: Session, file: str) -> str:
    """Raises UsageError, ConfigError."""
    try:
        if file == "-":
            data = session.terminal.stdin.buffer.read(_LONGEST)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(_LONGEST)
        text: str = data.decode()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{'what came on stdin' if file == '-' else file} is not UTF-8 text") from None
    return text


def _editing(session: Session, kind: str) -> Revise:
    """A person with an editor. What is wrong with a text is told, and where someone can be asked, it can be mended."""

    def revise(text: str, problem: str) -> str:
        if problem:
            with session.progress.paused():
                session.terminal.err(f"sf: {problem}")
            if not session.terminal.interactive or not session.prompts.confirm("Edit it again?"):
                raise UsageError(f"{problem}; nothing was done")
        with session.progress.paused():
            return _edited(text, kind)

    return revise


def _edited(text: str, kind: str) -> str:
    """The text as it comes out of $VISUAL, $EDITOR or vi. Raises SfError."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="sf-") as folder:  # mode 0700
        path = Path(folder) / f"{kind}.conf"
        path.write_text(text, encoding="utf-8", newline="")
        try:
            done = subprocess.run([*shlex.split(editor), str(path)], check=False)
        except (OSError, ValueError) as error:
            raise SfError(f"the editor {editor!a} cannot be started: {error}; nothing was done") from None
        if done.returncode:
            raise SfError(f"the editor {editor!a} failed (exit code {done.returncode}); nothing was done")
        try:
            return path.read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise SfError(f"what the editor left cannot be read: {error}; nothing was done") from None


COMMANDS = {"list": list_, "edit": edit, "set": set_, "apply": apply, "remove": remove}
