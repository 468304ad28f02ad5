"""The flows of `sf dns`, `sf cert` and `sf route`, each imported when it is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..model.result import CommandResult, Report

if TYPE_CHECKING:
    from ..flows.workspace import Workspace

How = Mapping[str, Any]


class DnsCalls:
    """As flow_calls.FlowCalls, of which this is a part. `how` is what flows.config.How is made of."""

    async def dns_setup(
        self,
        workspace: Workspace,
        zone: str,
        provider: str,
        settings: Mapping[str, Any],
        token: Callable[[], str],
        how: How,
    ) -> CommandResult:
        from ..flows.config import How
        from ..flows.dns_setup import setup

        return await setup(workspace, zone, provider, settings, token, How(**how))

    async def dns_plan(
        self, workspace: Workspace, zones: Sequence[str], *, adopt: bool, force: bool, report: Report
    ) -> CommandResult:
        from ..flows.zones import Wish, plan

        return await plan(workspace, zones, Wish(adopt, force), report)

    async def dns_apply(
        self,
        workspace: Workspace,
        zones: Sequence[str],
        *,
        adopt: bool,
        force: bool,
        wait_s: float | None,
        approve: Callable[[CommandResult], bool],
        report: Report,
    ) -> CommandResult:
        from ..flows.zones import Wish, apply

        return await apply(workspace, zones, Wish(adopt, force, wait_s=wait_s), approve, report)

    async def dns_zone_list(self, workspace: Workspace, report: Report) -> CommandResult:
        from ..flows.zone_view import list_zones

        return await list_zones(workspace, report)

    async def dns_zone_show(self, workspace: Workspace, zone: str, report: Report) -> CommandResult:
        from ..flows.zone_view import show_zone

        return await show_zone(workspace, zone, report)

    async def dns_zone_check(
        self, workspace: Workspace, zones: Sequence[str], ca: str | None, report: Report
    ) -> CommandResult:
        from ..flows.zone_view import check_zones

        return await check_zones(workspace, zones, ca, report)

    async def dns_zone_export(self, workspace: Workspace, zone: str, report: Report) -> CommandResult:
        from ..flows.zone_view import export_zone

        return await export_zone(workspace, zone, report)

    async def dns_zone_import(self, workspace: Workspace, zone: str, text: str | None, how: How) -> CommandResult:
        from ..flows.config import How
        from ..flows.zone_import import import_zone

        return await import_zone(workspace, zone, text, How(**how))

    async def dns_zone_add(self, workspace: Workspace, zone: str, provider: str | None, how: How) -> CommandResult:
        from ..flows.config import How
        from ..flows.zone_stanza import add_zone

        return await add_zone(workspace, zone, provider, How(**how))

    async def dns_zone_remove(self, workspace: Workspace, zone: str, delete: bool, how: How) -> CommandResult:
        from ..flows.config import How
        from ..flows.zone_stanza import remove_zone

        return await remove_zone(workspace, zone, delete, How(**how))

    async def dns_provider_list(self, workspace: Workspace) -> CommandResult:
        from ..flows.provider_stanza import listed

        return listed(workspace)

    async def dns_provider_remove(self, workspace: Workspace, name: str, how: How) -> CommandResult:
        from ..flows.config import How
        from ..flows.provider_stanza import remove

        return await remove(workspace, name, How(**how))

    async def dns_move(
        self, workspace: Workspace, zone: str, provider: str, *, switched: bool, force: bool, how: How
    ) -> CommandResult:
        from ..flows.config import How
        from ..flows.dns_move import move

        return await move(workspace, zone, provider, switched, How(**how), force=force)

    async def dns_record_list(self, workspace: Workspace, zones: Sequence[str]) -> CommandResult:
        from ..flows.records import listed

        return listed(workspace, zones)

    async def dns_record_change(
        self,
        workspace: Workspace,
        verb: str,
        name: str,
        kind: str,
        values: Sequence[str],
        settings: Mapping[str, Any],
        *,
        adopt: bool,
        force: bool,
        wait_s: float | None,
        how: How,
    ) -> CommandResult:
        from ..flows import records
        from ..flows.config import How
        from ..flows.zones import Wish

        wish, done = Wish(adopt, force, wait_s=wait_s), How(**how)
        if verb == "remove":
            return await records.remove(workspace, name, kind, values, wish, done)
        change = records.add if verb == "add" else records.set_
        return await change(workspace, name, kind, values, settings, wish, done)

    async def cert_setup(
        self, workspace: Workspace, values: Mapping[str, Any], secrets: Callable[[], Mapping[str, str]], how: How
    ) -> CommandResult:
        from ..flows.certificates import setup
        from ..flows.config import How

        return await setup(workspace, values, secrets, How(**how))

    async def cert_remove(self, workspace: Workspace, name: str, selector: str, how: How) -> CommandResult:
        from ..flows.certificates import remove
        from ..flows.config import How

        return await remove(workspace, name, selector, How(**how))

    async def cert_add(
        self, workspace: Workspace, name: str, selector: str, names: Sequence[str], how: How
    ) -> CommandResult:
        from ..flows.certificates import add
        from ..flows.config import How

        return await add(workspace, name, selector, names, How(**how))

    async def cert_list(
        self, workspace: Workspace, *, selector: str | None, timeout_s: int | None, report: Report
    ) -> CommandResult:
        from ..flows.cert_reads import listed

        return await listed(workspace, selector=selector, timeout_s=timeout_s, report=report)

    async def cert_check(
        self, workspace: Workspace, name: str | None, *, selector: str | None, timeout_s: int | None, report: Report
    ) -> CommandResult:
        from ..flows.cert_reads import checked

        return await checked(workspace, name, selector=selector, timeout_s=timeout_s, report=report)

    async def route_write(
        self,
        workspace: Workspace,
        name: str,
        values: Mapping[str, Any],
        password: Callable[[], str] | None,
        is_new: bool,
        how: How,
    ) -> CommandResult:
        from ..flows.config import How
        from ..flows.routes import write

        return await write(workspace, name, values, password, is_new, How(**how))

    async def route_list(self, workspace: Workspace) -> CommandResult:
        from ..flows.routes import list_routes

        return await list_routes(workspace)

    async def route_remove(self, workspace: Workspace, name: str, how: How) -> CommandResult:
        from ..flows.config import How
        from ..flows.routes import remove

        return await remove(workspace, name, How(**how))
