"""`sf config`: the configuration files of the system that are managed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serverflow_actions import registry

from ..errors import ConfigError, SfError, UsageError
from ..model.result import CommandResult, Reply
from ..ui.result_view import print_note
from .editor import Draft, editor_for
from .generated import read
from .how import how_of
from .options import ConfirmWithin, LockWait, NoConfirm, On, OnAll, Plan, Safe, Timeout, Yes
from .session import Session

if TYPE_CHECKING:
    from ..flows.config import Revise
    from ..flows.workspace import Workspace

Kind = Annotated[str, typer.Argument(metavar="KIND", help="Kind of file, as `sf config list` names it")]
#: More than the 32 KiB that a file may have; so that an endless stdin is an error.
_LONGEST = 1 << 20


def list_(context: typer.Context, on: OnAll = None) -> int:
    """List the kinds of files that are managed, and on each server whether it is there and as it was written."""
    session: Session = context.obj
    result = read(session, registry.load("config.list"), {}, on=on or "all")
    return session.finish(result if session.options.json else _with_replies(result, _states))


def show(context: typer.Context, kind: Kind, *, on: On, timeout: Timeout = None) -> int:
    """Show a file as it is on servers. Each text is there once, below the names of its servers if there are several."""
    session: Session = context.obj
    result = read(session, registry.load("config.show"), {"kind": _checked(kind)}, on=on, timeout=timeout)
    if session.options.json:
        return session.finish(result)
    texts: dict[str, list[str]] = {}
    for server in result.servers:
        if server.reply and not server.error:
            texts.setdefault(str(server.reply.data.get("text", "")), []).append(server.name)
    for text, names in texts.items():
        session.terminal.text(text, ", ".join(names) if len(texts) > 1 else "")
    return session.finish(_with_replies(result, _told_of))


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
    how = how_of(session, plan, yes, lock_wait, timeout, safe, confirm_within, no_confirm)
    aside = session.options.json or not session.terminal.shows_results
    draft = Draft(_checked(kind), editor_for(session.terminal), to_stderr=aside)
    revise = _editing(session, draft)

    async def flow(workspace: Workspace) -> CommandResult:
        with draft.within(workspace.state / "edits"):
            result = await session.flows.config_edit(workspace, kind, on, revise, how)
            draft.needed = plan or result.error is not None
        return result

    try:
        return _finish(session, session.in_workspace(flow), plan)
    finally:
        if draft.path:
            print_note(session.terminal, f"your text is in {draft.path}")


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
    how = how_of(session, plan, yes, lock_wait, timeout, safe, confirm_within, no_confirm)
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
    how = how_of(session, plan, yes, lock_wait, timeout, safe, confirm_within, no_confirm)
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
    how = how_of(session, plan, yes, lock_wait, timeout, safe, confirm_within, no_confirm)
    _checked(kind)
    return _finish(session, session.in_workspace(lambda w: session.flows.config_remove(w, kind, on, how)), plan)


def _finish(session: Session, result: CommandResult, plan: bool) -> int:
    return session.finish(result, mutates=True, planned=plan)


def _checked(kind: str) -> str:
    """Raises UsageError."""
    known = next(param.choices for param in registry.load("config.set").params if param.name == "kind")
    if kind not in known:
        raise UsageError(f"there is no kind {kind!a}", hint=f"one of {', '.join(known)}")
    return kind


def _pairs(settings: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise UsageError(f"{setting[:60]!a} is not of the form KEY=VALUE")
        # sshd reads keywords without regard to case; the other kinds have none that differ in it alone.
        if key.strip().lower() in map(str.lower, pairs):
            raise UsageError(f"{key.strip()} is given twice", hint="Port=22,2222 are two lines, for keys that repeat")
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
    if not text.strip():
        what = "nothing came on stdin" if file == "-" else f"{file} is empty"
        raise UsageError(f"{what}: that would empty the file", hint="to take the file away: sf config remove")
    return text


def _editing(session: Session, draft: Draft) -> Revise:
    """A person with an editor. What is wrong with a text is told, and where someone can be asked, it can be mended."""

    def revise(text: str, problem: str) -> str:
        if problem and not session.terminal.interactive:
            raise UsageError(f"{problem}; nothing was done")
        if problem:
            with session.progress.paused():
                session.terminal.err(f"sf: {problem}")
            if not session.prompts.confirm("Edit it again?"):
                raise SfError("nothing was done", code="declined")
        with session.progress.paused():
            return draft.edited(text)

    return revise


def _state(facts: Mapping[str, Any]) -> str:
    """How a file is: what the facts that servers tell of it come to, in a word."""
    if not facts["managed"]:
        return "not ours" if facts["present"] else "absent"
    if not facts["changed_by_hand"]:
        return "as written"
    return "changed by hand" if facts["present"] else "removed by hand"


def _states(reply: Reply) -> Reply:
    rows = [{"kind": facts["kind"], "state": _state(facts), "path": facts["path"]} for facts in reply.data["files"]]
    return replace(reply, data={"files": rows})


def _told_of(reply: Reply) -> Reply:
    """Without the text, which is shown as it is."""
    return replace(reply, data={}, notes=(f"{reply.data['path']}: {_state(reply.data)}", *reply.notes))


def _with_replies(result: CommandResult, view: Callable[[Reply], Reply]) -> CommandResult:
    """The result as people see it: `view` of what each server answered."""
    servers = (replace(one, reply=view(one.reply)) if one.reply and not one.error else one for one in result.servers)
    return replace(result, servers=tuple(servers))


COMMANDS = {"list": list_, "show": show, "edit": edit, "set": set_, "apply": apply, "remove": remove}
