"""`sf plan` and `sf apply`: the whole fleet file, with the same planner that the short commands use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from serverflow_actions import registry
from serverflow_actions.kit.change import Change

from ..errors import ActionFailed, PlanChanged, RolledBack, SfError, TrustError, Unreachable, UsageError
from ..model.ids import new_ulid
from ..model.result import CommandResult, Reply, Report, Request, ServerResult, reply_of
from ..plan.desired import AREAS, not_planned, resources
from ..plan.resource import Resource, resource_hash
from . import safe, sealing, unmanaged
from .grants import BY_NAME_ONLY
from .rounds import Planned, both, not_done, on_waiting, waiting
from .safe import USUAL, Safety, safety_of
from .sending import Sending
from .workspace import Workspace

if TYPE_CHECKING:
    from ..rpc.call import Caller
    from ..rpc.hello import Link

Approve = Callable[[CommandResult], bool]


async def plan(
    workspace: Workspace,
    *,
    selector: str,
    only: str | None,
    report: Report,
    safety: Safety = USUAL,
    given: Mapping[str, str] | None = None,
    meant: Callable[[Resource], bool] = lambda _: True,
    away: Collection[str] = (),
) -> CommandResult:
    """What would change; each server is asked, all at once. Nothing is written. `given` is what it is in
    `apply_resources`; `meant` and `away` are what they are in `apply`.
    """
    asked = [each for each in desired(workspace, selector, only) if meant(each)]
    wanted, closed = sealing.openable(workspace, asked, given)
    async with workspace.caller() as caller:
        planned, failures = await plan_all(workspace, caller, wanted, report, safety, given, left_out=closed)
        notes = [
            *closed,
            *_on_safe_changes(planned),
            *(
                f"not applied by this version of sf: {place}"
                for place in ([] if only else not_planned(workspace.fleet))
            ),
        ]
        silent = [result for result in failures if isinstance(result.error, Unreachable)]
        known, more = await unmanaged.find(workspace, caller, selector, report, {*away, *(row.name for row in silent)})
    told = [unmanaged.remark(workspace, entry) for entry in known if only in (None, entry.key.split(".", 1)[0])]
    servers = (*_summary(planned, failures), *(result for result in more if result.name not in planned))
    return CommandResult(workspace.label, servers=servers, notes=(*notes, *told))


async def apply(
    workspace: Workspace,
    *,
    selector: str,
    only: str | None,
    approve: Approve,
    lock_wait_s: int,
    report: Report,
    safety: Safety = USUAL,
    meant: Callable[[Resource], bool] = lambda _: True,
    away: Collection[str] = (),
    looks: bool = True,
) -> CommandResult:
    """Plan, ask, then run exactly that plan: a server on which things have moved since refuses. What can be planned
    only once some of it is there comes after that, with a question of its own. `meant` says which resources; servers
    that are `away` are not asked what they still have, and none is unless this `looks`.
    """
    asked = [each for each in desired(workspace, selector, only) if meant(each)]
    wanted, notes = sealing.openable(workspace, asked)

    async def look_around(caller: Caller, failed: Collection[str]) -> list[str]:
        return await unmanaged.at_work(workspace, caller, selector, only, {*failed, *away}, report)

    done = await apply_resources(
        workspace,
        wanted,
        approve=approve,
        plan_only=False,
        lock_wait_s=lock_wait_s,
        report=report,
        safety=safety,
        left_out=notes,
        look_around=look_around if looks else None,
    )
    return replace(done, notes=(*done.notes, *notes))


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
    given: Mapping[str, str] | None = None,
    left_out: list[str] | None = None,
    look_around: Callable[[Caller, Collection[str]], Awaitable[list[str]]] | None = None,
) -> CommandResult:
    """Plan these resources, ask, and apply them. `before_run` is called once after the approval, before the first
    change, unless no server would take one now. `given` are values of secrets that secrets.toml does not have yet.
    `left_out` as in `plan_all`; `look_around` is called before the question, with the servers that cannot be asked, and
    what it finds is noted there too.

    What waits for the rest is planned anew once that is done, shown, and applied; as often as there are such steps.
    Each of them plans at least one resource that waited, or fails. Raises ConfigError, TrustError before anything is
    sent when a secret cannot be opened.
    """
    notes = [] if left_out is None else left_out
    async with workspace.caller() as caller:
        make = partial(
            _make,
            workspace,
            caller,
            approve=approve,
            plan_only=plan_only,
            lock_wait_s=lock_wait_s,
            report=report,
            timeout_s=timeout_s,
            safety=safety,
            given=given,
        )
        planned, failures = await plan_all(workspace, caller, wanted, report, safety, given, left_out)
        if look_around:
            notes += await look_around(caller, {result.name for result in failures})
        done = await make(planned, failures, notes, before_run=before_run)
        while later := [] if plan_only else waiting(planned, done):
            told = len(notes)
            try:
                planned, failures = await plan_all(workspace, caller, later, report, safety, given, left_out)
                then = await make(planned, failures, notes[told:])
            except (SfError, KeyboardInterrupt) as error:  # a no, say: what was done by then is still to be told
                then, planned = not_done(workspace.label, later, error), {}
            done = both(done, then)
        return done


async def _make(
    workspace: Workspace,
    caller: Caller,
    planned: Mapping[str, list[Planned]],
    failures: Sequence[ServerResult],
    remarks: Sequence[str],
    *,
    approve: Approve,
    plan_only: bool,
    lock_wait_s: int,
    report: Report,
    timeout_s: int | None,
    safety: Safety,
    given: Mapping[str, str] | None,
    before_run: Callable[[], None] | None = None,
) -> CommandResult:
    """Ask, then make what is planned; what waits is left for later."""
    notes = (*remarks, *_on_safe_changes(planned))
    preview = CommandResult(workspace.label, servers=_summary(planned, failures), notes=_on_safe_changes(planned))
    failed = {result.name for result in failures}
    if plan_only or failed >= planned.keys():
        return preview
    # One server that cannot be asked holds up nothing on the others.
    planned = {name: items for name, items in planned.items() if name not in failed}
    if any(item.reply.changes for items in planned.values() for item in items) and not approve(
        replace(preview, notes=(*notes, *on_failures(failures)))
    ):
        raise SfError("nothing was done", code="declined")
    if any(item.confirm_s for items in planned.values() for item in items):
        safety = safe.with_checks(workspace, safety)
    due = {name: [item for item in items if item.due] for name, items in planned.items()}
    opened = sealing.resolve_for(workspace, [item.resource for items in due.values() for item in items], given)
    busy = [name for name, items in due.items() if items]
    done: dict[str, ServerResult] = {}
    if before_run:
        done = await _not_now(workspace, caller, busy, lock_wait_s, report)
        if len(done) < len(planned):
            before_run()

    async def work(link: Link, safety: Safety) -> Reply:
        return await _apply_on(caller, link, due[link.name], opened, lock_wait_s, timeout_s, report, safety)

    ready = [name for name in busy if name not in done]
    done |= {result.name: result for result in await safe.on_all(workspace, ready, work, report, safety)}
    servers = tuple(done.get(server.name, server) for server in preview.servers)
    return CommandResult(workspace.label, servers=servers)


async def plan_all(
    workspace: Workspace,
    caller: Caller,
    wanted: Sequence[Resource],
    report: Report,
    safety: Safety = USUAL,
    given: Mapping[str, str] | None = None,
    left_out: list[str] | None = None,
) -> tuple[dict[str, list[Planned]], tuple[ServerResult, ...]]:
    """Forecasts by server, and the servers that could not give one.

    With `left_out`, what our key would need a grant by name for is none of them, and noted there: no glob means it, and
    a deploy key applies the rest of the file.
    """
    opened = sealing.resolve_for(workspace, wanted, given)
    by_server: dict[str, list[Resource]] = {}
    for resource in wanted:
        by_server.setdefault(resource.server, []).append(resource)
    planned: dict[str, list[Planned]] = {name: [] for name in by_server}

    async def work(link: Link) -> Reply:
        async with caller.hold(link):
            for resource in by_server[link.name]:
                confirm_s = safety_of(registry.load(resource.action), resource.params, safety)
                try:
                    reply = await _forecast(caller, link, resource, opened, confirm_s, report)
                except ActionFailed as error:
                    cannot = confirm_s and error.code == "unsupported"
                    if cannot or not any(item.reply.changes for item in planned[link.name]):
                        error.message = _about(resource, error.message, ())
                        raise
                    nothing = Reply("", "unchanged")
                    planned[link.name].append(Planned(resource, nothing, "", error.message or error.code, confirm_s))
                    continue
                except TrustError as error:
                    if left_out is None or error.code != "not-granted" or resource.action not in BY_NAME_ONLY:
                        raise
                    left_out.append(f"{link.name}: {resource.key} is left out: {error.message}")
                    continue
                known: Mapping[str, Any] = reply.receipt.get("base") or {}
                base = str(known.get("hash", ""))
                planned[link.name].append(Planned(resource, reply, base, confirm_s=confirm_s))
        return Reply("", "done")

    results = await workspace.on_all(by_server, work, report)
    return planned, tuple(result for result in results if result.error)


async def _forecast(
    caller: Caller, link: Link, resource: Resource, opened: Mapping[str, str], confirm_s: int, report: Report
) -> Reply:
    action = registry.load(resource.action)
    base = {"resource": resource.key, "from": "", "to": resource_hash(resource)}
    request = Request(
        resource.action,
        resource.params,
        mode="plan",
        secrets=_secrets(resource, opened),
        base=base,
        read_only=True,
        timeout_s=action.timeout,
        confirm_s=confirm_s,
    )
    return await caller.call(link, request, new_ulid(), action.version, report)


def _secrets(resource: Resource, opened: Mapping[str, str]) -> dict[str, str]:
    """The values of an action's secret parameters."""
    return {param: opened[name] for param, name in resource.secrets.items()}


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
    opened: Mapping[str, str],
    lock_wait_s: int,
    timeout_s: int | None,
    report: Report,
    safety: Safety,
) -> Reply:
    """In order, over one connection; each safe change is confirmed over a new one, which the next goes on with. After a
    change of our own, what follows is forecast anew and must stay within the plan. What waits is passed over.
    """
    later = [item for item in due if item.waits]
    alone, due = len(due) == 1, [item for item in due if not item.waits]
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
                forecast, approved = item.reply, item.reply.plan_sha256
                if changed:
                    forecast = await _forecast(caller, link, resource, opened, item.confirm_s, report)
                    approved = _within_plan(item, forecast, changes, link)
                request = Request(
                    resource.action,
                    resource.params,
                    secrets=_secrets(resource, opened),
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
                error.message = _about(resource, error.message, [*due[number:], *later])
                raise
            changes += reply.changes
            changed = changed or bool(reply.changes) or reply.outcome == "done"  # what it changed may be lost
            data |= reply.data if alone else {}
            secrets |= _named(resource, reply)
            # A plan sees what the sandbox of a run does not, such as who listens.
            notes |= dict.fromkeys((*reply.notes, *_warnings(resource, forecast), *_warnings(resource, reply)))
    return Reply(op_id, "done" if changed else "unchanged", tuple(changes), data, secrets, notes=tuple(notes))


def _about(resource: Resource, message: str, left: Sequence[Planned]) -> str:
    """With the resource that failed, and those after it that nothing was done for."""
    about = message if message.startswith(resource.key) else f"{resource.key}: {message}"
    return about + (f"; not tried: {', '.join(item.resource.key for item in left)}" if left else "")


def _warnings(resource: Resource, reply: Reply) -> list[str]:
    """What the action does not refuse, but somebody should know; of several resources `data` is not kept."""
    said = reply.data.get("warnings")
    return [f"{resource.key}: {each}" for each in said if isinstance(each, str)] if isinstance(said, list) else []


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


def on_failures(failures: Sequence[ServerResult]) -> list[str]:
    """Remarks for whoever is asked: where nothing is among the changes that are shown."""
    return [
        f"{row.name} cannot be planned: {'; '.join(row.error.message.splitlines())}" for row in failures if row.error
    ]


def _within_plan(item: Planned, fresh: Reply, done: Sequence[Change], link: Link) -> str:
    """The new forecast's hash, if it does nothing that was not approved. Raises PlanChanged."""
    approved = {(change.verb, change.kind, change.name) for change in item.reply.changes}
    # What several were to create, the first of them has: each job is a line of the one crontab.
    made = {("create", change.kind, change.name) for change in done if change.verb == "create"}
    approved |= {("update", kind, name) for _, kind, name in approved & made}
    beyond = [change for change in fresh.changes if (change.verb, change.kind, change.name) not in approved]
    if beyond:
        what = ", ".join(f"{change.verb} {change.kind} {change.name}" for change in beyond[:5])
        raise PlanChanged(
            f"{item.resource.key} would now also {what}", server=link.name, hint="run it again to see the new plan"
        )
    return fresh.plan_sha256


def _summary(planned: Mapping[str, Sequence[Planned]], failures: Sequence[ServerResult]) -> tuple[ServerResult, ...]:
    failed = {result.name: result for result in failures}
    return tuple(failed.get(name) or ServerResult(name, _sum(items)) for name, items in planned.items())


def _sum(items: Sequence[Planned]) -> Reply:
    """A server's forecasts as one; with nothing to change in any of them, that is the outcome."""
    changes = tuple(change for item in items for change in item.reply.changes)
    warnings = [note for item in items if item.due for note in _warnings(item.resource, item.reply)]
    remarks = [note for item in items for note in item.notes]
    notes = tuple(dict.fromkeys([*remarks, *warnings, *on_waiting(items)]))
    return Reply("", "done" if changes else "unchanged", changes, notes=notes)
