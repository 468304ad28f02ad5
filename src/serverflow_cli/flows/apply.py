"""`sf plan` and `sf apply`: the whole fleet file, with the same planner that the short commands use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from serverflow_actions import registry
from serverflow_actions.kit.change import Change

from ..errors import ActionFailed, PlanChanged, RolledBack, SfError, Unreachable, UsageError
from ..model.ids import new_ulid
from ..model.result import CommandResult, Reply, Report, Request, ServerResult, reply_of
from ..plan.desired import AREAS, not_planned, resources
from ..plan.diff import unmanaged
from ..plan.resource import Resource, resource_hash
from . import safe
from .safe import USUAL, Safety, safety_of
from .sending import Sending
from .workspace import Workspace

if TYPE_CHECKING:
    from ..rpc.call import Caller
    from ..rpc.hello import Link

Approve = Callable[[CommandResult], bool]


@dataclass(frozen=True)
class Planned:
    """A resource with its server's forecast. `base` is the hash of what was last applied there, "" for never."""

    resource: Resource
    reply: Reply
    base: str
    #: It cannot be planned before what comes earlier in the file is there: a user's shell, say, that a package brings.
    waits: bool = False
    #: Seconds within which it has to be confirmed, 0 for what is no safe change.
    confirm_s: int = 0

    @property
    def due(self) -> bool:
        """Something differs on the server, or the server does not know yet that this is what we want."""
        return self.waits or bool(self.reply.changes) or self.base != resource_hash(self.resource)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the server remarks, and whose other wish this one would take the place of."""
        known: Mapping[str, Any] = self.reply.receipt.get("base") or {}
        if not self.base or self.base == resource_hash(self.resource):
            return self.reply.notes
        other = f"{self.resource.key} was last applied with other settings, by {known['by']} in op {known['op_id']}"
        return (*self.reply.notes, other)


async def plan(
    workspace: Workspace, *, selector: str, only: str | None, report: Report, safety: Safety = USUAL
) -> CommandResult:
    """What would change; each server is asked, all at once. Nothing is written."""
    wanted = desired(workspace, selector, only)
    async with workspace.caller() as caller:
        planned, failures = await plan_all(workspace, caller, wanted, report, safety)
        notes = [
            *_on_safe_changes(planned),
            *(
                f"not applied by this version of sf: {place}"
                for place in ([] if only else not_planned(workspace.fleet))
            ),
        ]
        known, silent = await _unmanaged(workspace, caller, selector, only, report)
    failed = {result.name for result in failures}
    servers = (*_summary(planned, failures), *(result for result in silent if result.name not in failed | {*planned}))
    return CommandResult(workspace.label, servers=servers, notes=(*notes, *known))


async def apply(
    workspace: Workspace,
    *,
    selector: str,
    only: str | None,
    approve: Approve,
    lock_wait_s: int,
    report: Report,
    safety: Safety = USUAL,
) -> CommandResult:
    """Plan, ask, then run exactly that plan: a server on which things have moved since refuses."""
    wanted = desired(workspace, selector, only)
    return await apply_resources(
        workspace, wanted, approve=approve, plan_only=False, lock_wait_s=lock_wait_s, report=report, safety=safety
    )


def desired(workspace: Workspace, selector: str, only: str | None) -> list[Resource]:
    if only is not None and only not in AREAS:
        raise UsageError(f"--only {only}: there is no such area", hint=f"one of {', '.join(AREAS)}")
    names = set(workspace.select(selector)) if workspace.servers else set()
    return [
        r
        for r in resources(workspace.fleet)
        if r.server in names and (only is None or r.action.split(".", 1)[0] == only)
    ]


async def apply_resources(
    workspace: Workspace,
    wanted: Sequence[Resource],
    *,
    approve: Approve,
    plan_only: bool,
    lock_wait_s: int,
    report: Report,
    before_run: Callable[[], None] | None = None,
    timeout_s: int | None = None,
    safety: Safety = USUAL,
) -> CommandResult:
    """Plan these resources, ask, and apply them. `before_run` is called once after the approval, before the first
    change, unless no server would take one now.
    """
    async with workspace.caller() as caller:
        planned, failures = await plan_all(workspace, caller, wanted, report, safety)
        preview = CommandResult(workspace.label, servers=_summary(planned, failures), notes=_on_safe_changes(planned))
        failed = {result.name for result in failures}
        if plan_only or failed >= planned.keys():
            return preview
        # One server that cannot be asked holds up nothing on the others.
        planned = {name: items for name, items in planned.items() if name not in failed}
        if any(item.reply.changes for items in planned.values() for item in items) and not approve(preview):
            raise SfError("nothing was done", code="declined")
        if any(item.confirm_s for items in planned.values() for item in items):
            safety = safe.with_checks(workspace, safety)
        due = {name: [item for item in items if item.due] for name, items in planned.items()}
        busy = [name for name, items in due.items() if items]
        done: dict[str, ServerResult] = {}
        if before_run:
            done = await _not_now(workspace, caller, busy, lock_wait_s, report)
            if len(done) < len(planned):
                before_run()

        async def work(link: Link, safety: Safety) -> Reply:
            return await _apply_on(caller, link, due[link.name], lock_wait_s, timeout_s, report, safety)

        ready = [name for name in busy if name not in done]
        done |= {result.name: result for result in await safe.on_all(workspace, ready, work, report, safety)}
        servers = tuple(done.get(server.name, server) for server in preview.servers)
        return CommandResult(workspace.label, servers=servers)


async def plan_all(
    workspace: Workspace, caller: Caller, wanted: Sequence[Resource], report: Report, safety: Safety = USUAL
) -> tuple[dict[str, list[Planned]], tuple[ServerResult, ...]]:
    """Forecasts by server, and the servers that could not give one."""
    by_server: dict[str, list[Resource]] = {}
    for resource in wanted:
        by_server.setdefault(resource.server, []).append(resource)
    planned: dict[str, list[Planned]] = {name: [] for name in by_server}

    async def work(link: Link) -> Reply:
        async with caller.hold(link):
            for resource in by_server[link.name]:
                confirm_s = safety_of(registry.load(resource.action), resource.params, safety)
                try:
                    reply = await _forecast(caller, link, resource, confirm_s, report)
                except ActionFailed as error:
                    cannot = confirm_s and error.code == "unsupported"
                    if cannot or not any(item.reply.changes for item in planned[link.name]):
                        error.message = _about(resource, error.message, ())
                        raise
                    later = f"{resource.key} can be planned once what comes before it is there: {error.message}"
                    planned[link.name].append(
                        Planned(resource, Reply("", "unchanged", notes=(later,)), "", True, confirm_s)
                    )
                    continue
                known: Mapping[str, Any] = reply.receipt.get("base") or {}
                base = str(known.get("hash", ""))
                planned[link.name].append(Planned(resource, reply, base, confirm_s=confirm_s))
        return Reply("", "done")

    results = await workspace.on_all(by_server, work, report)
    return planned, tuple(result for result in results if result.error)


async def _forecast(caller: Caller, link: Link, resource: Resource, confirm_s: int, report: Report) -> Reply:
    action = registry.load(resource.action)
    base = {"resource": resource.key, "from": "", "to": resource_hash(resource)}
    request = Request(
        resource.action,
        resource.params,
        mode="plan",
        base=base,
        read_only=True,
        timeout_s=action.timeout,
        confirm_s=confirm_s,
    )
    return await caller.call(link, request, new_ulid(), action.version, report)


async def _not_now(
    workspace: Workspace, caller: Caller, names: Sequence[str], lock_wait_s: int, report: Report
) -> dict[str, ServerResult]:
    """The servers that refuse changes while another one waits there, or that are gone: before anything is written."""

    async def look(link: Link) -> Reply:
        await caller.wait_for_turn(link, lock_wait_s, report)
        return Reply("", "done")

    looked = await workspace.on_all(names, look, report)
    return {result.name: result for result in looked if result.error}


async def _apply_on(
    caller: Caller,
    link: Link,
    due: Sequence[Planned],
    lock_wait_s: int,
    timeout_s: int | None,
    report: Report,
    safety: Safety,
) -> Reply:
    """In order, over one connection; each safe change is confirmed over a new one, which the next goes on with. After a
    change of our own, what follows is forecast anew and must stay within the plan.
    """
    changes: list[Change] = []
    data: dict[str, Any] = {}
    secrets: dict[str, str] = {}
    notes: dict[str, None] = {}
    op_id, sending, changed = "", Sending(report), False
    async with caller.hold(link):
        for number, item in enumerate(due, 1):
            resource, action = item.resource, registry.load(item.resource.action)
            op_id = new_ulid()
            try:
                if item.waits:
                    raise PlanChanged(
                        f"{resource.key} could not be planned before", server=link.name, hint="run sf apply again"
                    )
                approved = item.reply.plan_sha256
                if changed:
                    approved = _within_plan(item, await _forecast(caller, link, resource, item.confirm_s, report), link)
                request = Request(
                    resource.action,
                    resource.params,
                    plan_sha256=approved,
                    base={"resource": resource.key, "from": item.base, "to": resource_hash(resource)},
                    timeout_s=timeout_s or action.timeout,
                    lock_wait_s=lock_wait_s,
                    confirm_s=item.confirm_s,
                )
                reply = await safe.call(caller, link, request, op_id, action.version, sending, safety)
            except SfError as error:
                # What was done and made before the failure belongs into the result too; what was undone does not.
                partial = reply_of(error) or Reply("", error.code)
                back = isinstance(error, RolledBack)
                error.reply = Reply(
                    sending.id_of(op_id),
                    "failed" if back and changed else partial.outcome,
                    (*changes, *(() if back else partial.changes)),
                    {key: partial.data[key] for key in ("safe",) if key in partial.data},
                    secrets | _named(resource, partial),
                    notes=(*notes, *partial.notes),
                )
                error.message = _about(resource, error.message, due[number:])
                raise
            changes += reply.changes
            changed = changed or bool(reply.changes) or reply.outcome == "done"  # what it changed may be lost
            data |= reply.data if len(due) == 1 else {}
            secrets |= _named(resource, reply)
            notes |= dict.fromkeys(reply.notes)
    return Reply(op_id, "done" if changed else "unchanged", tuple(changes), data, secrets, notes=tuple(notes))


def _about(resource: Resource, message: str, left: Sequence[Planned]) -> str:
    """With the resource that failed, and those after it that nothing was done for."""
    about = message if message.startswith(resource.key) else f"{resource.key}: {message}"
    return about + (f"; not tried: {', '.join(item.resource.key for item in left)}" if left else "")


def _named(resource: Resource, reply: Reply) -> dict[str, str]:
    """What was made on the server, by resource: several may make a password."""
    return {f"{resource.key} {name}": value for name, value in reply.secrets.items()}


def _on_safe_changes(planned: Mapping[str, Sequence[Planned]]) -> tuple[str, ...]:
    """A remark on those that would be safe changes."""
    found = [item for items in planned.values() for item in items if item.confirm_s and item.reply.changes]
    if not found:
        return ()
    keys = ", ".join(dict.fromkeys(item.resource.key for item in found))
    return (f"safe change: {keys}: {safe.undone_within(found[0].confirm_s)}",)


def _within_plan(item: Planned, fresh: Reply, link: Link) -> str:
    """The new forecast's hash, if it does nothing that was not approved. Raises PlanChanged."""
    approved = {(change.verb, change.kind, change.name) for change in item.reply.changes}
    beyond = [change for change in fresh.changes if (change.verb, change.kind, change.name) not in approved]
    if beyond:
        what = ", ".join(f"{change.verb} {change.kind} {change.name}" for change in beyond[:5])
        raise PlanChanged(
            f"{item.resource.key} would now also {what}", server=link.name, hint="run it again to see the new plan"
        )
    return fresh.plan_sha256


async def _unmanaged(
    workspace: Workspace, caller: Caller, selector: str, only: str | None, report: Report
) -> tuple[list[str], list[ServerResult]]:
    """Resources that were applied once and that no stanza asks for any more: reported, since only a named removal
    removes. And the servers that could not be asked.
    """
    names = [name for name in (workspace.select(selector) if workspace.servers else []) if name in workspace.pins]
    version = registry.load("applied.list").version
    applied: dict[str, list[str]] = {}

    async def work(link: Link) -> Reply:
        reply = await caller.call(
            link, Request("applied.list", read_only=True, timeout_s=20), new_ulid(), version, report
        )
        applied[link.name] = list(reply.data["applied"])
        return reply

    asked = await workspace.on_all(names, work, report)
    found = unmanaged(applied, resources(workspace.fleet))
    told = [
        f"{entry.server}: {entry.key} is unmanaged: it was applied once and is no longer in fleet.toml"
        for entry in found
        if only is None or entry.key.startswith(only + ".")
    ]
    return told, [result for result in asked if isinstance(result.error, Unreachable)]


def _summary(planned: Mapping[str, Sequence[Planned]], failures: Sequence[ServerResult]) -> tuple[ServerResult, ...]:
    failed = {result.name: result for result in failures}
    return tuple(failed.get(name) or ServerResult(name, _sum(items)) for name, items in planned.items())


def _sum(items: Sequence[Planned]) -> Reply:
    """A server's forecasts as one; with nothing to change in any of them, that is the outcome."""
    changes = tuple(change for item in items for change in item.reply.changes)
    notes = tuple(dict.fromkeys(note for item in items for note in item.notes))
    return Reply("", "done" if changes else "unchanged", changes, notes=notes)
