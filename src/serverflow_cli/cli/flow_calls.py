"""Every flow that a command calls, imported when it is called. Commands are given one, so a test can give its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

from ..model.result import CommandResult, Report
from .dns_calls import DnsCalls
from .key_calls import KeyCalls

if TYPE_CHECKING:
    from ..config.environment import Settings
    from ..flows.ask import Ask
    from ..flows.config import Revise
    from ..flows.safe import Safety
    from ..flows.workspace import Workspace
    from ..model.fleet import Fleet
    from ..ui.prompts import Prompts

#: Asked with the plan; whether to go on.
Approve = Callable[[CommandResult], bool]


class FlowCalls(KeyCalls, DnsCalls):
    """The use cases, as the command line sees them. All return a CommandResult and raise SfError."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @asynccontextmanager
    async def workspace(self, ask: Ask | None) -> AsyncIterator[Workspace]:
        """The fleet that the options and the environment point to. `ask` is None where nobody can be asked."""
        from ..flows.workspace import open_workspace

        yield await open_workspace(self._settings, ask)

    async def init(self, path: str, *, key: str | None, name: str | None, ask: Ask | None) -> CommandResult:
        from ..flows.init import init

        return await init(path, key=key, name=name, settings=self._settings, ask=ask)

    async def run_action(
        self,
        workspace: Workspace,
        action_name: str,
        selector: str,
        params: dict[str, object],
        *,
        secrets: dict[str, str],
        plan: bool,
        approve: Approve,
        timeout_s: int | None,
        lock_wait_s: int,
        report: Report,
        blobs: tuple[bytes, ...] = (),
        safety: Safety | None = None,
        seal: bool = False,
        checks: bool = True,
    ) -> CommandResult:
        from ..flows.actions import run_action
        from ..flows.safe import USUAL

        if seal:
            from ..flows import sealing

            sealing.check_seal(workspace)  # before anything is made that could not be sealed then
        result = await run_action(
            workspace,
            action_name,
            selector,
            params,
            secrets=secrets,
            plan=plan,
            approve=approve,
            timeout_s=timeout_s,
            lock_wait_s=lock_wait_s,
            report=report,
            blobs=blobs,
            safety=safety or USUAL,
            checks=checks,
        )
        return sealing.put_away(workspace, result) if seal else result

    async def firewall_rules(
        self,
        workspace: Workspace,
        verb: Literal["allow", "deny", "remove"],
        selector: str,
        rules: list[str],
        **how: Any,
    ) -> CommandResult:
        from ..flows.firewall import change_rules

        return await change_rules(workspace, verb, selector, rules, **how)

    async def firewall_disable(self, workspace: Workspace, selector: str, **how: Any) -> CommandResult:
        from ..flows.firewall import disable

        return await disable(workspace, selector, **how)

    async def config_write(
        self, workspace: Workspace, kind: str, selector: str, content: str, how: Mapping[str, Any]
    ) -> CommandResult:
        from ..flows.config import How, write

        return await write(workspace, kind, selector, content, How(**how))

    async def config_set(
        self, workspace: Workspace, kind: str, selector: str, settings: Mapping[str, str], how: Mapping[str, Any]
    ) -> CommandResult:
        from ..flows.config import How, set_keys

        return await set_keys(workspace, kind, selector, settings, How(**how))

    async def config_edit(
        self, workspace: Workspace, kind: str, selector: str, revise: Revise, how: Mapping[str, Any]
    ) -> CommandResult:
        from ..flows.config import How, edit

        return await edit(workspace, kind, selector, revise, How(**how))

    async def config_remove(
        self, workspace: Workspace, kind: str, selector: str, how: Mapping[str, Any]
    ) -> CommandResult:
        from ..flows.config import How, remove

        return await remove(workspace, kind, selector, How(**how))

    async def cron_add(
        self,
        workspace: Workspace,
        name: str,
        selector: str,
        values: Mapping[str, Any],
        words: list[str],
        how: Mapping[str, Any],
    ) -> CommandResult:
        from ..flows.config import How
        from ..flows.cron import add

        return await add(workspace, name, selector, values, words, How(**how))

    async def cron_edit(
        self, workspace: Workspace, name: str, values: Mapping[str, Any], words: list[str], how: Mapping[str, Any]
    ) -> CommandResult:
        from ..flows.config import How
        from ..flows.cron import edit

        return await edit(workspace, name, values, words, How(**how))

    async def cron_remove(
        self, workspace: Workspace, name: str, selector: str | None, how: Mapping[str, Any]
    ) -> CommandResult:
        from ..flows.config import How
        from ..flows.cron import remove

        return await remove(workspace, name, selector, How(**how))

    async def cron_next(self, workspace: Workspace, name: str, count: int) -> CommandResult:
        from ..flows.cron_runs import coming

        return await coming(workspace, name, count)

    async def cron_list(self, workspace: Workspace, *, selector: str | None, report: Report) -> CommandResult:
        from ..flows.cron_runs import list_jobs

        return await list_jobs(workspace, selector=selector, report=report)

    async def cron_show(
        self, workspace: Workspace, name: str, *, selector: str | None, report: Report
    ) -> CommandResult:
        from ..flows.cron_runs import show

        return await show(workspace, name, selector=selector, report=report)

    async def cron_run(self, workspace: Workspace, name: str, **how: Any) -> CommandResult:
        from ..flows.cron_runs import run

        return await run(workspace, name, **how)

    async def cron_history(self, workspace: Workspace, name: str, **query: Any) -> CommandResult:
        from ..flows.cron_runs import history

        return await history(workspace, name, **query)

    async def cron_logs(
        self, workspace: Workspace, name: str, run: str, *, selector: str | None, report: Report
    ) -> CommandResult:
        from ..flows.cron_runs import logs

        return await logs(workspace, name, run, selector=selector, report=report)

    async def cron_import(
        self, workspace: Workspace, selector: str, *, plan: bool, approve: Approve, report: Report
    ) -> CommandResult:
        from ..flows.cron_import import import_jobs

        return await import_jobs(workspace, selector, plan=plan, approve=approve, report=report)

    async def notify_add(
        self,
        workspace: Workspace,
        name: str,
        settings: Mapping[str, Any],
        secrets: Sequence[str],
        values: Callable[[], Mapping[str, str]],
        how: Mapping[str, Any],
    ) -> CommandResult:
        from ..flows.config import How
        from ..flows.notify import add

        return await add(workspace, name, settings, secrets, values, How(**how))

    async def notify_remove(
        self, workspace: Workspace, name: str, how: Mapping[str, Any], selector: str | None
    ) -> CommandResult:
        from ..flows.config import How
        from ..flows.notify import remove

        return await remove(workspace, name, How(**how), selector)

    async def notify_test(
        self, workspace: Workspace, name: str, *, selector: str, timeout_s: int | None, report: Report
    ) -> CommandResult:
        from ..flows.notify import test

        return await test(workspace, name, selector=selector, timeout_s=timeout_s, report=report)

    async def notify_list(self, workspace: Workspace) -> CommandResult:
        from ..flows.notify import list_channels

        return await list_channels(workspace)

    async def notify_show(self, workspace: Workspace, name: str) -> CommandResult:
        from ..flows.notify import show

        return await show(workspace, name)

    async def secret_list(self, workspace: Workspace) -> CommandResult:
        from ..flows.secrets import list_secrets

        return await list_secrets(workspace)

    async def secret_show(self, workspace: Workspace, name: str) -> CommandResult:
        from ..flows.secrets import show_secret

        return await show_secret(workspace, name)

    async def secret_set(
        self, workspace: Workspace, name: str, value: Callable[[], str], *, plan: bool, exists: bool = False
    ) -> CommandResult:
        from ..flows.secrets import set_secret

        return await set_secret(workspace, name, value, plan=plan, exists=exists)

    async def secret_import(
        self, workspace: Workspace, values: Mapping[str, str], *, replace: bool, plan: bool, approve: Approve
    ) -> CommandResult:
        from ..flows.secrets import import_secrets

        return await import_secrets(workspace, values, replace=replace, plan=plan, approve=approve)

    async def secret_remove(self, workspace: Workspace, name: str, *, plan: bool, approve: Approve) -> CommandResult:
        from ..flows.secrets import remove_secret

        return await remove_secret(workspace, name, plan=plan, approve=approve)

    async def secret_reseal(self, workspace: Workspace, *, plan: bool) -> CommandResult:
        from ..flows.secrets import reseal_secrets

        return await reseal_secrets(workspace, plan=plan)

    async def plan(
        self, workspace: Workspace, *, selector: str, only: str | None, report: Report, safety: Safety
    ) -> CommandResult:
        from ..flows.whole import plan

        return await plan(workspace, selector=selector, only=only, report=report, safety=safety)

    async def apply(
        self,
        workspace: Workspace,
        *,
        selector: str,
        only: str | None,
        approve: Approve,
        lock_wait_s: int,
        report: Report,
        safety: Safety,
    ) -> CommandResult:
        from ..flows.whole import apply

        return await apply(
            workspace,
            selector=selector,
            only=only,
            approve=approve,
            lock_wait_s=lock_wait_s,
            report=report,
            safety=safety,
        )

    async def server_add(
        self, workspace: Workspace, *, prompt: Prompts, report: Report, **request: Any
    ) -> CommandResult:
        from ..flows.enroll import EnrollRequest, add

        before = workspace.fleet
        done = await add(workspace, EnrollRequest(**request), prompt, report)
        return await self._named(workspace, done, [request["name"]], before, report)

    async def server_list(self, workspace: Workspace, *, selector: str) -> CommandResult:
        from ..flows.servers import list_servers

        return await list_servers(workspace, selector=selector)

    async def server_show(self, workspace: Workspace, name: str) -> CommandResult:
        from ..flows.servers import show

        return await show(workspace, name)

    async def server_check(self, workspace: Workspace, *, selector: str, report: Report) -> CommandResult:
        from ..flows.servers import check

        return await check(workspace, selector=selector, report=report)

    async def server_facts(self, workspace: Workspace, *, selector: str, report: Report) -> CommandResult:
        from ..flows.servers import facts

        return await facts(workspace, selector=selector, report=report)

    async def server_rename(
        self, workspace: Workspace, old: str, new: str, *, plan: bool, approve: Approve, report: Report
    ) -> CommandResult:
        from ..flows.servers import rename

        before = workspace.fleet
        done = await rename(workspace, old, new, plan=plan, approve=approve)
        return done if plan else await self._named(workspace, done, [old, new], before, report)

    async def server_update(
        self, workspace: Workspace, *, selector: str, plan: bool, approve: Approve, report: Report
    ) -> CommandResult:
        from ..flows.servers import update

        return await update(workspace, selector=selector, plan=plan, approve=approve, report=report)

    async def server_rekey(
        self,
        workspace: Workspace,
        name: str,
        kind: Literal["identity", "host"],
        *,
        plan: bool,
        approve: Approve,
        report: Report,
    ) -> CommandResult:
        from ..flows.rekey import rekey

        return await rekey(workspace, name, kind, plan=plan, approve=approve, report=report)

    async def server_remove(
        self, workspace: Workspace, name: str, *, forget: bool, plan: bool, approve: Approve, report: Report
    ) -> CommandResult:
        from ..flows.servers import remove

        before = workspace.fleet
        done = await remove(workspace, name, forget=forget, plan=plan, approve=approve, report=report)
        return done if plan else await self._named(workspace, done, [name], before, report)

    async def _named(
        self, workspace: Workspace, done: CommandResult, servers: Sequence[str], before: Fleet, report: Report
    ) -> CommandResult:
        """With the servers' own names and certificates, where the fleet has zones."""
        workspace.refresh()
        if done.error or not workspace.fleet.dns.zones:
            return done
        from ..flows.server_names import bring

        return await bring(workspace, done, servers, before, report)

    async def registry_show(self, workspace: Workspace) -> CommandResult:
        from ..flows.registry import show

        return await show(workspace)

    async def registry_diff(self, workspace: Workspace) -> CommandResult:
        from ..flows.registry import diff

        return await diff(workspace)

    async def registry_sign(self, workspace: Workspace, *, plan: bool, approve: Approve) -> CommandResult:
        from ..flows.registry import sign

        return await sign(workspace, plan=plan, approve=approve)

    async def safe_history(self, workspace: Workspace, *, selector: str, limit: int, report: Report) -> CommandResult:
        from ..flows.safe_history import history

        return await history(workspace, selector=selector, limit=limit, report=report)

    async def safe_show(self, workspace: Workspace, op_id: str, *, selector: str, report: Report) -> CommandResult:
        from ..flows.safe_history import show

        return await show(workspace, op_id, selector=selector, report=report)

    async def op_list(self, workspace: Workspace, *, limit: int) -> CommandResult:
        from ..flows.ops import list_ops

        return await list_ops(workspace, limit=limit)

    async def op_named(self, workspace: Workspace, prefix: str) -> CommandResult:
        from ..flows.ops import named

        return await named(workspace, prefix)

    async def op_status(self, workspace: Workspace, op_id: str, *, report: Report) -> CommandResult:
        from ..flows.ops import status

        return await status(workspace, op_id, report=report)

    async def op_follow(self, workspace: Workspace, op_id: str, *, report: Report) -> CommandResult:
        from ..flows.ops import follow

        return await follow(workspace, op_id, report=report)

    async def op_cancel(self, workspace: Workspace, op_id: str, *, report: Report) -> CommandResult:
        from ..flows.ops import cancel

        return await cancel(workspace, op_id, report=report)

    async def audit_log(self, workspace: Workspace, **query: Any) -> CommandResult:
        from ..flows.audit import Query, log

        return await log(workspace, Query(**query))

    async def audit_verify(self, workspace: Workspace, *, against: str | None, report: Report) -> CommandResult:
        from ..flows.audit import verify

        return await verify(workspace, against=against, report=report)
