"""Short commands for what fleet.toml holds: edit the stanza, then apply that one part of the file.

`sf redis create cache --on db1` and a `[redis.cache]` written by hand end in the same plan.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from serverflow_actions.kit.spec import Action

from ..config.edit import Editor, edit, take_back
from ..config.load import parse, read_text
from ..errors import ConfigError, InternalError, OutcomeUnknown, PlanChanged, RolledBack, SfError, UsageError
from ..model.ids import new_ulid
from ..model.result import CommandResult, Reply, Report, Request, ServerResult
from ..plan.desired import file_key, file_value
from . import safe, sealing
from .apply import apply_resources
from .safe import USUAL, Safety, safety_of
from .sending import Sending
from .workspace import Workspace

if TYPE_CHECKING:
    from ..plan.resource import Resource
    from ..rpc.hello import Link

Approve = Callable[[CommandResult], bool]
AGAIN = "look at it, and run this again"
#: Nobody can say whether a server has the change.
_OPEN = (OutcomeUnknown, InternalError)


async def run_stanza(
    workspace: Workspace,
    action: Action,
    selector: str,
    params: Mapping[str, Any],
    *,
    plan: bool,
    approve: Approve,
    timeout_s: int | None,
    lock_wait_s: int,
    report: Report,
    safety: Safety = USUAL,
) -> CommandResult:
    """Create or change a stanza and apply it, or remove what it stands for and then the stanza."""
    if action.verb == "remove":
        return await _remove(
            workspace, action, selector, params, plan, approve, timeout_s or action.timeout, lock_wait_s, report, safety
        )
    name = str(params["name"])
    values = _values(workspace, action, name, selector, params)

    def change(editor: Editor) -> None:
        editor.set_entry(action.table, name, values)

    key = f"{action.area}.{name}"
    return await edited(
        workspace,
        unless_changed(workspace, action.table, name, change),
        lambda resource_key: resource_key == key,
        selector,
        plan,
        approve,
        timeout_s,
        lock_wait_s,
        report,
        safety,
    )


async def run_packages(
    workspace: Workspace,
    selector: str,
    names: list[str],
    *,
    plan: bool,
    approve: Approve,
    timeout_s: int | None,
    lock_wait_s: int,
    report: Report,
    safety: Safety = USUAL,
) -> CommandResult:
    """`sf package install`: into the servers' package lists."""

    def change(editor: Editor) -> None:
        for server in workspace.select(selector):
            for package in names:
                editor.add_to_list("servers", server, "packages", package)

    return await edited(
        workspace,
        change,
        lambda key: key == "package.all",
        selector,
        plan,
        approve,
        timeout_s,
        lock_wait_s,
        report,
        safety,
    )


def forget_packages(workspace: Workspace, servers: Iterable[str], names: Sequence[str]) -> None:
    """`sf package remove`, once it is done: the next apply must not bring them back."""
    listed = [
        (server, name) for server in servers for name in names if name in workspace.fleet.servers[server].packages
    ]
    if listed:
        with edit(workspace.folder) as editor:
            for server, name in listed:
                editor.remove_from_list("servers", server, "packages", name)
        workspace.refresh()


async def edited(
    workspace: Workspace,
    change: Callable[[Editor], None],
    meant: Callable[[str], bool],
    selector: str,
    plan: bool,
    approve: Approve,
    timeout_s: int | None,
    lock_wait_s: int,
    report: Report,
    safety: Safety,
    given: Mapping[str, str] | None = None,
    before_write: Callable[[], None] = lambda: None,
) -> CommandResult:
    """Plan against the edited text first; the file is written once the plan was approved, before the servers change.
    Secrets that are `given` are sealed then too. Ended in between, as by Ctrl-C, it takes the edit back.
    `before_write` may raise what keeps the file from being written.

    Raises PlanChanged when the file asks for something else by then.
    """
    from ..plan.desired import resources

    names = set(workspace.select(selector))

    def wanted_by(text: str) -> list[Resource]:
        return [found for found in resources(parse(text)) if meant(found.key) and found.server in names]

    editor = Editor(read_text(workspace.folder.fleet_toml))
    change(editor)
    wanted = wanted_by(editor.text)
    texts: list[str] = []

    def write() -> None:
        before_write()
        if given:  # first: the file never refers to what is not there
            sealing.store(workspace, given)
        with edit(workspace.folder) as real:
            before = real.text
            change(real)
            if wanted_by(real.text) != wanted:
                raise PlanChanged("fleet.toml was changed since this was planned", hint=AGAIN)
            texts.extend((before, real.text))
        workspace.refresh()

    sent = False

    def heard(event: Mapping[str, Any]) -> None:
        nonlocal sent
        sent = sent or (event.get("t"), event.get("mode")) == ("op", "run")
        report(event)

    try:
        result = await apply_resources(
            workspace,
            wanted,
            approve=approve,
            plan_only=plan,
            lock_wait_s=lock_wait_s,
            report=heard,
            before_run=write,
            timeout_s=timeout_s,
            safety=safety,
            given=given,
        )
    except (asyncio.CancelledError, KeyboardInterrupt):
        if texts and texts[0] != texts[1]:
            report({"t": "left", "text": _has_it() if sent else _taken_back(workspace, texts)})
        raise
    return _with_file(workspace, result, texts)


def unless_changed(
    workspace: Workspace, table: str, name: str, change: Callable[[Editor], None]
) -> Callable[[Editor], None]:
    """`change`, for a text in which that stanza is what it is in the fleet that we have read: what was decided by that
    would undo what somebody else has written meanwhile. Raises PlanChanged.
    """
    entries = attrgetter(table)
    known = entries(workspace.fleet).get(name)

    def checked(editor: Editor) -> None:
        if entries(parse(editor.text)).get(name) != known:
            what = "was changed in" if known is not None else "has come into"
            raise PlanChanged(f"{table}.{name} {what} fleet.toml meanwhile", hint=AGAIN)
        change(editor)

    return checked


def _with_file(workspace: Workspace, result: CommandResult, texts: Sequence[str]) -> CommandResult:
    """`texts` are the file before and after. What no server has must not come with the next `sf apply`: then the file
    goes back too. What only some of them have, or may have, stays, and is told.
    """
    if not texts:
        return result
    notes, edited_now = [], texts[0] != texts[1]
    maybe = [server.name for server in result.servers if isinstance(server.error, _OPEN)]
    without = [server for server in result.failures if server.name not in maybe]
    if without and edited_now and len(without) == len(result.servers) and not any(map(_has_part, without)):
        notes.append(_taken_back(workspace, texts, [server.name for server in without]))
    elif without:
        notes.append(_keeps_it([server.name for server in without]))
    if maybe and edited_now:
        notes.append(_has_it(maybe))
    return replace(result, notes=(*result.notes, *notes))


def _keeps_it(servers: Sequence[str]) -> str:
    return f"fleet.toml keeps it; the next sf apply makes it again{_on(servers)}"


def _has_it(servers: Sequence[str] = ()) -> str:
    where = _on(servers)
    return (
        f"fleet.toml has it already; if it goes back{where}, take it out there too, or the next sf apply makes it again"
    )


def _on(servers: Sequence[str]) -> str:
    return f" on {', '.join(servers)}" if servers else ""


def _taken_back(workspace: Workspace, texts: Sequence[str], servers: Sequence[str] = ()) -> str:
    """Make the file again what it was; a sentence that says what became of it."""
    try:
        if take_back(workspace.folder, texts[0], texts[1]):
            return "fleet.toml is as it was before, too"
    except SfError as error:
        return f"{_keeps_it(servers)}: it could not be taken back ({error.message})"
    finally:
        workspace.refresh()
    return _keeps_it(servers)


def _has_part(server: ServerResult) -> bool:
    """Whether a change broke in the middle, and what it had done by then stands."""
    return bool(server.reply and server.reply.changes) and not isinstance(server.error, RolledBack)


def _values(
    workspace: Workspace, action: Action, name: str, selector: str, params: Mapping[str, Any]
) -> dict[str, Any]:
    values = {
        file_key(action.name, param): file_value(action.name, param, value)
        for param, value in params.items()
        if param != "name"
    }
    known = getattr(workspace.fleet, action.table).get(name)
    if known is not None:
        if set(workspace.select(known.on)) != set(workspace.select(selector)):
            raise UsageError(
                f"{action.table}.{name} is on {known.on}; a name is used once in a fleet",
                hint="change `on` in fleet.toml, or give another name",
            )
        return values
    return {"on": selector, **values}


async def _remove(
    workspace: Workspace,
    action: Action,
    selector: str,
    params: Mapping[str, Any],
    plan: bool,
    approve: Approve,
    timeout_s: int,
    lock_wait_s: int,
    report: Report,
    safety: Safety,
) -> CommandResult:
    name = str(params["name"])
    names = workspace.select(selector)
    stanza = getattr(workspace.fleet, action.table).get(name)
    if stanza is not None and set(workspace.select(stanza.on)).isdisjoint(names):
        stanza = None  # it is for other servers by now, and stays
    if stanza is not None:
        _check_removal(workspace, action, name, stanza.on, names)
    return await take_away(
        workspace,
        action,
        params,
        names,
        f"{action.area}.{name}",
        [(action.table, name)] if stanza is not None else [],
        plan=plan,
        approve=approve,
        timeout_s=timeout_s,
        lock_wait_s=lock_wait_s,
        report=report,
        safety=safety,
    )


async def take_away(
    workspace: Workspace,
    action: Action,
    params: Mapping[str, Any],
    names: list[str],
    key: str,
    stanzas: Sequence[tuple[str, str]],
    *,
    plan: bool,
    approve: Approve,
    timeout_s: int,
    lock_wait_s: int,
    report: Report,
    safety: Safety,
) -> CommandResult:
    """Remove a resource from servers, then the stanzas (table and name) that ask for it.

    The servers first: a stanza that went before its resource would leave it unmanaged.
    """
    confirm_s = safety_of(action, params, safety)
    if confirm_s and not plan:
        safety = safe.with_checks(workspace, safety)
    request = Request(action.name, dict(params), timeout_s=timeout_s, lock_wait_s=lock_wait_s, confirm_s=confirm_s)
    op_id, sending = new_ulid(), Sending(report)
    async with workspace.caller() as caller:
        bases: dict[str, str] = {}

        async def look(link: Link) -> Reply:
            base = {"resource": key, "from": "", "to": ""}
            reply = await caller.call(
                link, replace(request, mode="plan", read_only=True, base=base), new_ulid(), action.version, report
            )
            bases[link.name] = str((reply.receipt.get("base") or {}).get("hash", ""))
            return reply

        looked = CommandResult(workspace.label, servers=await workspace.on_all(names, look, report))
        planned = safe.told_before(looked, confirm_s)
        approved = {s.name: s.reply.plan_sha256 for s in planned.servers if s.reply and not s.error}
        if plan or not approved:
            return planned
        if not approve(planned):
            raise SfError("nothing was done", code="declined")

        async def work(link: Link, safety: Safety) -> Reply:
            base = {"resource": key, "from": bases[link.name], "to": ""}
            mine = replace(request, plan_sha256=approved[link.name], base=base)
            return await safe.call(caller, link, mine, op_id, action.version, sending, safety)

        ran = {s.name: s for s in await safe.on_all(workspace, list(approved), work, report, safety)}
        done = CommandResult(workspace.label, sending.id_of(op_id), tuple(ran.get(s.name, s) for s in planned.servers))
    if not stanzas:
        return done
    if done.error:
        return replace(done, notes=tuple(note for table, name in stanzas for note in _kept(f"{table}.{name}", done)))
    with edit(workspace.folder) as editor:
        for table, name in stanzas:
            editor.remove_entry(table, name)
    return done


def _kept(stanza: str, done: CommandResult) -> Iterator[str]:
    """Why the stanza is not taken out yet, and when it will be."""
    waiting = [s.name for s in done.failures if s.error and s.error.code == "pending-confirm"]
    left = [s.name for s in done.failures if s.name not in waiting]
    if left:
        yield f"{stanza} stays in fleet.toml until it is gone from {', '.join(left)} too"
    if waiting:
        where = f" on {', '.join(waiting)}"
        yield f"once it is confirmed{where}, run this again: only then {stanza} leaves fleet.toml"


def _check_removal(workspace: Workspace, action: Action, name: str, on: str, names: list[str]) -> None:
    """Before anything is taken apart: the stanza goes as a whole, and fleet.toml must load without it.

    Raises UsageError.
    """
    if set(workspace.select(on)) != set(names):
        raise UsageError(
            f"{action.table}.{name} is on {on}; removed from a part of them it would come back with the next sf apply",
            hint=f"--on {on}, or change `on` in fleet.toml first",
        )
    editor = Editor(read_text(workspace.folder.fleet_toml))
    editor.remove_entry(action.table, name)
    try:
        parse(editor.text)
    except ConfigError as error:
        raise UsageError(f"{action.table}.{name} is still needed in fleet.toml: {error.message}") from None
