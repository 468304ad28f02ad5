"""The flows of `sf key` and `sf trust`, imported when they are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..model.result import CommandResult, Report

if TYPE_CHECKING:
    from ..flows.workspace import Workspace
    from ..ui.prompts import Prompts


@dataclass(frozen=True)
class Carrying:
    """How a change is carried out: shown only, asked about, reported."""

    plan: bool
    approve: Callable[[CommandResult], bool]
    report: Report

    @property
    def options(self) -> dict[str, Any]:
        return {"plan": self.plan, "approve": self.approve, "report": self.report}


class KeyCalls:
    """The use cases around trust, as the command line sees them. All return a CommandResult and raise SfError."""

    async def key_list(self, workspace: Workspace) -> CommandResult:
        from ..flows.keys import list_keys

        return await list_keys(workspace)

    async def key_show(self, workspace: Workspace, name: str) -> CommandResult:
        from ..flows.keys import show_key

        return await show_key(workspace, name)

    async def key_invitation(self, workspace: Workspace, **request: Any) -> CommandResult:
        from ..flows.invitations import invite

        return await invite(workspace, **request)

    async def key_import(self, workspace: Workspace, file: str, role: str, *, copy: bool) -> CommandResult:
        from ..flows.invitations import import_key

        return await import_key(workspace, file, role, copy=copy)

    async def key_add(
        self,
        workspace: Workspace,
        text: str,
        *,
        rights: Mapping[str, Any],
        prompt: Prompts,
        carrying: Carrying,
        **admission: Any,
    ) -> CommandResult:
        from ..flows.keys import Admission, Rights, add

        admitted = Admission(Rights(**rights), **admission)
        return await add(workspace, text, admitted, prompt, **carrying.options)

    async def key_grant(
        self, workspace: Workspace, name: str, rights: Mapping[str, Any], carrying: Carrying
    ) -> CommandResult:
        from ..flows.keys import Rights, grant

        return await grant(workspace, name, Rights(**rights), **carrying.options)

    async def key_revoke(self, workspace: Workspace, name: str, role: str | None, carrying: Carrying) -> CommandResult:
        from ..flows.keys import revoke

        return await revoke(workspace, name, role, **carrying.options)

    async def key_deploy(
        self, workspace: Workspace, *, rights: Mapping[str, Any], carrying: Carrying, **request: Any
    ) -> CommandResult:
        from ..flows.deploy import DeployRequest, deploy
        from ..flows.keys import Rights

        return await deploy(workspace, DeployRequest(rights=Rights(**rights), **request), **carrying.options)

    async def key_told(self, workspace: Workspace, name: str) -> CommandResult:
        from ..flows.deploy import told

        told(workspace, name)
        return CommandResult()

    async def key_rotate(self, workspace: Workspace, *, carrying: Carrying, **request: Any) -> CommandResult:
        from ..flows.rotation import RotateRequest, rotate

        return await rotate(workspace, RotateRequest(**request), **carrying.options)

    async def trust_show(self, workspace: Workspace) -> CommandResult:
        from ..flows.trust import show

        return await show(workspace)

    async def trust_status(self, workspace: Workspace, *, selector: str, report: Report) -> CommandResult:
        from ..flows.trust import status

        return await status(workspace, selector=selector, report=report)

    async def trust_sign(self, workspace: Workspace, carrying: Carrying) -> CommandResult:
        from ..flows.trust import sign

        return await sign(workspace, **carrying.options)

    async def trust_discard(self, workspace: Workspace, *, approve: Callable[[CommandResult], bool]) -> CommandResult:
        from ..flows.trust import discard

        return await discard(workspace, approve=approve)

    async def trust_threshold(self, workspace: Workspace, count: int, role: str, carrying: Carrying) -> CommandResult:
        from ..flows.trust import threshold

        return await threshold(workspace, count, role, **carrying.options)

    async def trust_renew(self, workspace: Workspace, expires: int, carrying: Carrying) -> CommandResult:
        from ..flows.trust import renew

        return await renew(workspace, expires, **carrying.options)
