"""Any registered action on any servers: plan, ask, run. What `sf AREA VERB` and `sf action run` call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from serverflow_actions import registry
from serverflow_actions.kit.spec import Action

from ..errors import ActionFailed, ConfigError, SfError
from ..model.ids import new_ulid
from ..model.result import CommandResult, Reply, Report, Request
from . import reboot, safe, safe_checks
from .safe import USUAL, Safety, safety_of
from .safe_ends import listed
from .sending import Sending
from .workspace import Workspace

if TYPE_CHECKING:
    from ..rpc.call import Caller
    from ..rpc.hello import Link

#: Parameters for one run: a fleet file that kept them would do it again and again.
MOMENTARY = {"new-password"}
NOT_PUT_BACK = "not-put-back"

Approve = Callable[[CommandResult], bool]


async def run_action(
    workspace: Workspace,
    action_name: str,
    selector: str,
    params: Mapping[str, Any],
    *,
    secrets: Mapping[str, str],
    plan: bool,
    approve: Approve,
    timeout_s: int | None,
    lock_wait_s: int,
    report: Report,
    blobs: tuple[bytes, ...] = (),
    safety: Safety = USUAL,
    checks: bool = True,
) -> CommandResult:
    """Run one action on all selected servers at once.

    A change is planned first and run with the hash of what was approved, so that a server on which things have moved
    since refuses; one that could lock everyone out is confirmed over a new connection (flows/safe.py). Without `checks`
    a change is confirmed by hand without trying what fleet.toml expects of the server. Raises SfError for what concerns
    all servers; what concerns one is in its result.
    """
    action = registry.load(action_name)
    confirm_s = safety_of(action, params, safety)
    names = workspace.select_in_need(selector, report) if action.area == "safe" else workspace.select(selector)
    if action.table and not MOMENTARY & set(params):
        from .stanza import run_stanza

        return await run_stanza(
            workspace,
            action,
            selector,
            params,
            plan=plan,
            approve=approve,
            timeout_s=timeout_s,
            lock_wait_s=lock_wait_s,
            report=report,
            safety=safety,
        )
    if action_name == "package.install":
        from .stanza import run_packages

        return await run_packages(
            workspace,
            selector,
            list(params["names"]),
            plan=plan,
            approve=approve,
            timeout_s=timeout_s,
            lock_wait_s=lock_wait_s,
            report=report,
            safety=safety,
        )
    # For a reboot --timeout is the wait for the server's return.
    limit = action.timeout if action_name == "system.reboot" else timeout_s or action.timeout
    request = Request(
        action_name,
        dict(params),
        secrets=secrets,
        blobs=blobs,
        timeout_s=limit,
        lock_wait_s=lock_wait_s,
        confirm_s=confirm_s,
    )
    if not plan and (confirm_s or (action_name == "safe.confirm" and checks)):
        safety = _with_checks(workspace, safety, confirming=not confirm_s)
    async with workspace.caller() as caller:
        if action.kind == "read":
            return await _on_all(workspace, caller, names, action, replace(request, read_only=True), report)
        planned = await _on_all(
            workspace, caller, names, action, replace(request, mode="plan", read_only=True, blobs=()), report
        )
        planned = safe.told_before(planned, confirm_s)
        approved = {s.name: s.reply.plan_sha256 for s in planned.servers if s.reply and not s.error}
        if plan or not approved:
            return planned
        if not approve(planned):
            raise SfError("nothing was done", code="declined")
        names = [name for name in names if name in approved]
        done = await _on_all(
            workspace, caller, names, action, request, report, approved, timeout_s or reboot.BACK_WITHIN_S, safety
        )
    if action_name == "package.remove":
        from .stanza import forget_packages

        forget_packages(workspace, [s.name for s in done.servers if not s.error], params["names"])
    if action_name == "safe.rollback":
        done = replace(done, notes=(*done.notes, *_on_the_file(workspace, done)))
    ran = {server.name: server for server in done.servers}
    return replace(done, servers=tuple(ran.get(server.name, server) for server in planned.servers))


async def read(
    workspace: Workspace,
    action_name: str,
    selector: str,
    params: Mapping[str, Any],
    report: Report,
    timeout_s: int | None = None,
) -> CommandResult:
    """What an action that only reads tells of each selected server. Nothing is asked, and no lock waited for."""
    return await run_action(
        workspace,
        action_name,
        selector,
        params,
        secrets={},
        plan=False,
        approve=lambda _: True,
        timeout_s=timeout_s,
        lock_wait_s=0,
        report=report,
    )


def _with_checks(workspace: Workspace, safety: Safety, *, confirming: bool) -> Safety:
    try:
        return safe.with_checks(workspace, safety)
    except ConfigError as error:
        error.hint = error.hint or ("without what [checks] expects: --no-checks" if confirming else "")
        raise


async def _on_all(
    workspace: Workspace,
    caller: Caller,
    names: list[str],
    action: Action,
    request: Request,
    report: Report,
    approved: Mapping[str, str] | None = None,
    back_within_s: int = 0,
    safety: Safety = USUAL,
) -> CommandResult:
    op_id, sending = new_ulid(), Sending(report)

    async def work(link: Link, safety: Safety) -> Reply:
        if approved is None:
            return await caller.call(link, request, op_id, action.version, sending)
        if action.name == "safe.confirm":
            expected = safety.checks.get(link.name, ())
            await safe_checks.before_confirming(
                caller, link, str(request.params["op"]), expected, report, key=safety.key
            )
        mine = replace(request, plan_sha256=approved[link.name])
        reply = await safe.call(caller, link, mine, op_id, action.version, sending, safety)
        if action.name == "system.reboot":
            await reboot.wait_until_back(caller, link, reply, back_within_s, report)
        if action.name == "safe.rollback":
            _check_put_back(link, str(request.params["op"]), reply)
        return reply

    servers = await safe.on_all(workspace, names, work, report, safety)
    return CommandResult(workspace.label, sending.id_of(op_id), servers)


def _check_put_back(link: Link, op_id: str, undone: Reply) -> None:
    """Raises ActionFailed with what `safe.rollback` could not put back."""
    left = listed(undone.data.get("problems"))
    if left:
        hint = f"sf safe show {op_id} --on {link.name}"
        error = ActionFailed(f"not all could be put back: {left}", server=link.name, code=NOT_PUT_BACK, hint=hint)
        error.reply = undone
        raise error


def _on_the_file(workspace: Workspace, undone: CommandResult) -> tuple[str, ...]:
    """What `sf safe rollback` leaves to say: the wish that made the change may still be in the file."""
    from ..plan.desired import resources

    back = {server.name for server in undone.servers if not server.error or server.error.code == NOT_PUT_BACK}
    try:
        wished = any(resource.server in back for resource in resources(workspace.fleet))
    except ConfigError:  # it is undone, whatever the file says
        return ()
    return ("fleet.toml is not changed by this",) if wished else ()
