"""`sf config`: edit the stanza of a configuration file, then apply that one part of fleet.toml."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from serverflow_actions import registry
from serverflow_actions.config._kinds import check
from serverflow_actions.kit import Refused

from ..config.edit import Editor
from ..errors import PlanChanged, SfError, UsageError
from ..model.fleet import ConfigFile
from ..model.result import CommandResult, Report
from .actions import run_action
from .config_lines import limits_logins, lost_ports, with_setting
from .safe import USUAL, Safety
from .stanza import AGAIN, edited, take_away, unless_changed
from .workspace import Workspace

Approve = Callable[[CommandResult], bool]
#: Given a text, and what is wrong with it ("" at first), a person's next version. Raises SfError to give up.
Revise = Callable[[str, str], str]

_TABLE = "config"


@dataclass(frozen=True)
class How:
    """How the change is made, whatever it is."""

    plan: bool
    approve: Approve
    timeout_s: int | None
    lock_wait_s: int
    report: Report
    safety: Safety = USUAL


async def write(workspace: Workspace, kind: str, selector: str, content: str, how: How) -> CommandResult:
    """Give the file this content. Raises UsageError with the line that may not stand in a file of that kind."""
    problem = problem_of(kind, content)
    if problem:
        raise UsageError(problem)
    name = _stanza(workspace, kind, selector)
    values = {"content": content} if name else {"on": selector, "kind": kind, "content": content}
    name = name or _free_name(kind, selector, workspace.fleet.config)

    lost = lost_ports(kind, content, {server: workspace.servers[server].port for server in workspace.select(selector)})
    told = [remark for remark in (lost, limits_logins(kind, content)) if remark]

    def change(editor: Editor) -> None:
        editor.set_entry(_TABLE, name, values)

    def noted(result: CommandResult) -> CommandResult:
        matters = any(server.error or (server.reply and server.reply.changes) for server in result.servers)
        return replace(result, notes=(*result.notes, *told)) if matters else result

    done = await edited(
        workspace,
        unless_changed(workspace, _TABLE, name, change),
        lambda key: key == _key(kind),
        selector,
        how.plan,
        lambda planned: how.approve(noted(planned)),
        how.timeout_s,
        how.lock_wait_s,
        how.report,
        how.safety,
    )
    return noted(done)


async def set_keys(
    workspace: Workspace, kind: str, selector: str, settings: Mapping[str, str], how: How
) -> CommandResult:
    """Set single keys, and leave the rest of the file as it is."""
    content = await _present(workspace, kind, selector, how.report)
    for key, value in settings.items():
        content = with_setting(kind, content, key, value)
    return await write(workspace, kind, selector, content, how)


async def edit(workspace: Workspace, kind: str, selector: str, revise: Revise, how: How) -> CommandResult:
    """Let a person edit the file, again while its content may not stand there.

    Raises PlanChanged when somebody else has changed the stanza in the meantime.
    """
    started = workspace.fleet.config.get(_stanza(workspace, kind, selector))
    before = await _present(workspace, kind, selector, how.report)
    if started:
        await _tell_of_edits(workspace, kind, selector, how.report)
    content = revise(before, "")
    while content != before and (problem := problem_of(kind, content)):
        content = revise(content, problem)
    if content == before:
        return CommandResult(workspace.label, notes=("nothing changed",))
    workspace.refresh()  # somebody may have taken long over it
    if workspace.fleet.config.get(_stanza(workspace, kind, selector)) != started:
        raise PlanChanged(f"fleet.toml has another {kind} file for {selector} than before the editor", hint=AGAIN)
    return await write(workspace, kind, selector, content, how)


async def remove(workspace: Workspace, kind: str, selector: str, how: How) -> CommandResult:
    """Take the file away from the servers, then its stanza out of fleet.toml."""
    name = _stanza(workspace, kind, selector)
    action = registry.load("config.remove")
    return await take_away(
        workspace,
        action,
        {"kind": kind},
        workspace.select(selector),
        _key(kind),
        [(_TABLE, name)] if name else [],
        plan=how.plan,
        approve=how.approve,
        timeout_s=how.timeout_s or action.timeout,
        lock_wait_s=how.lock_wait_s,
        report=how.report,
        safety=how.safety,
    )


def problem_of(kind: str, content: str) -> str:
    """Why this may not stand in a file of that kind, by the same check that the server makes; "" when it may."""
    from serverflow_actions.kit import grammar

    try:
        check(kind, grammar.document(content))
    except (Refused, ValueError) as error:
        return f"{kind}: {error}"
    return ""


def _key(kind: str) -> str:
    return f"config.{kind}"


def _stanza(workspace: Workspace, kind: str, selector: str) -> str:
    """The stanza of that kind for exactly these servers, "" for none.

    Raises UsageError when one of them has its file from another stanza: a server has one of each kind.
    """
    names = set(workspace.select(selector))
    for name, stanza in workspace.fleet.config.items():
        theirs = set(workspace.select(stanza.on))
        if stanza.kind != kind or names.isdisjoint(theirs):
            continue
        if names != theirs:
            raise UsageError(
                f"{_TABLE}.{name} is on {stanza.on}, and a server has one {kind} file",
                hint=f"--on {stanza.on}, or change `on` in fleet.toml first",
            )
        return name
    return ""


async def _present(workspace: Workspace, kind: str, selector: str, report: Report) -> str:
    """What a change begins with: the stanza's content, else what the servers have. UsageError when they differ."""
    name = _stanza(workspace, kind, selector)
    if name:
        return workspace.fleet.config[name].content
    found = await _shown(workspace, kind, selector, report)
    if found.error:
        raise found.error
    texts = {str(server.reply.data.get("text", "")): server.name for server in found.servers if server.reply}
    if len(texts) > 1:
        raise UsageError(
            f"{' and '.join(sorted(texts.values())[:2])} have different {kind} files",
            hint="one of them with --on, or the same content for all: sf config apply",
        )
    return next(iter(texts), "")


async def _tell_of_edits(workspace: Workspace, kind: str, selector: str, report: Report) -> None:
    """What is edited is fleet.toml's text: a version by hand on a server would go unseen. It can be edited unasked."""
    try:
        found = await _shown(workspace, kind, selector, report)
    except SfError:
        return
    for server in found.servers:
        if server.reply and not server.error and server.reply.data.get("changed_by_hand"):
            text = f"it was changed by hand there: sf config show {kind} --on {server.name}"
            report({"t": "note", "server": server.name, "text": text})


async def _shown(workspace: Workspace, kind: str, selector: str, report: Report) -> CommandResult:
    return await run_action(
        workspace,
        "config.show",
        selector,
        {"kind": kind},
        secrets={},
        plan=False,
        approve=lambda _: True,
        timeout_s=None,
        lock_wait_s=0,
        report=report,
    )


def _free_name(kind: str, selector: str, taken: Mapping[str, ConfigFile]) -> str:
    """A name for a new stanza: the kind, else with its selector (`sshd-app`), else with a number."""
    words = re.sub(r"[^a-z0-9]+", "-", selector).strip("-")
    stem = f"{kind}-{words}"[:28].strip("-")
    names = [kind, stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)
