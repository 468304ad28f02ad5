"""The signed runner and actions: what the fleet's bundle is, what the installed `sf` carries, and signing that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from serverflow_actions.kit.change import Change

from ..errors import SfError
from ..model.result import CommandResult, Reply, ServerResult
from . import bundles
from .bundles import Draft, Listed
from .workspace import Workspace

if TYPE_CHECKING:
    from ..trust.bundle import Manifest

Approve = Callable[[CommandResult], bool]


async def show(workspace: Workspace) -> CommandResult:
    """Version, hash, signers and size of the fleet's bundle, and what waits for signatures."""
    from ..trust import bundle

    listed = bundles.look(workspace)
    data: dict[str, Any] = {
        **_about(workspace, listed),
        "files": len(listed.read.files),
        "actions": len(listed.read.actions),
        "same_as_installed": bundle.manifest(listed.version, bundle.collect()) == listed.manifest,
    }
    notes = [] if data["same_as_installed"] else ["this sf carries other bytes: sf registry diff"]
    if bundles.lacking(workspace, listed):
        notes.append(f"too few signatures: {bundles.who_must_sign(workspace, listed)}: sf registry sign")
    proposal = bundles.proposed(workspace, listed)
    if proposal:
        data["proposed"] = _about(workspace, proposal)
        notes.append(f"version {proposal.version} waits: {bundles.who_must_sign(workspace, proposal)}")
    return CommandResult(workspace.label, data=data, notes=tuple(notes))


async def diff(workspace: Workspace) -> CommandResult:
    """What would change if the installed `sf` were signed: actions, and other files."""
    from ..trust import bundle

    listed = bundles.stored(workspace)
    ours = bundle.parse(bundle.manifest(listed.version, bundle.collect()))
    same = ours == listed.read
    data = {
        "version": listed.version,
        "same": same,
        "actions": _sorted(listed.read.actions, ours.actions),
        "files": _sorted(listed.read.files, ours.files),
    }
    notes = (f"the same: this sf carries bundle version {listed.version}",) if same else ()
    return CommandResult(workspace.label, servers=(_result(_changes(listed.read, ours)),), data=data, notes=notes)


async def sign(workspace: Workspace, *, plan: bool, approve: Approve) -> CommandResult:
    """Sign what the installed `sf` carries, as the fleet's next bundle. Where it takes several release keys, the first
    signature makes a proposal; each further one is made over the bytes that its signer's own `sf` builds.
    """
    draft = bundles.draft(workspace, unsigned=True)
    signer = workspace.release_signer()
    if signer.public_key in draft.next.signed and (draft.same or bundles.lacking(workspace, draft.next)):
        return CommandResult(
            workspace.label, data=_about(workspace, draft.next), notes=(_standing(workspace, draft.next),)
        )
    planned = CommandResult(workspace.label, servers=(_result(_planned(draft)),))
    if plan:
        return planned
    if not approve(planned):
        raise SfError("nothing was done", code="declined")
    signed = bundles.sign(workspace, draft, signer)
    notes = [_standing(workspace, signed)]
    if not bundles.lacking(workspace, signed) and not draft.same:
        notes.append("next: sf server update")
    return CommandResult(workspace.label, servers=planned.servers, data=_about(workspace, signed), notes=tuple(notes))


def _about(workspace: Workspace, listed: Listed) -> dict[str, Any]:
    return {
        "version": listed.version,
        "sha256": listed.sha256,
        "signed_by": bundles.signer_names(workspace, listed),
        "signatures_needed": workspace.trust.release.threshold,
    }


def _standing(workspace: Workspace, listed: Listed) -> str:
    if bundles.lacking(workspace, listed):
        return f"bundle version {listed.version} waits: {bundles.who_must_sign(workspace, listed)}"
    return f"bundle version {listed.version} is signed"


def _planned(draft: Draft) -> tuple[Change, ...]:
    if draft.same:
        return (Change("update", "signatures", f"bundle version {draft.next.version}"),)
    version = Change("update", "bundle", "runner and actions", {"version": (draft.base.version, draft.next.version)})
    return (version, *_changes(draft.before, draft.next.read))


def _changes(before: Manifest, after: Manifest) -> tuple[Change, ...]:
    actions = _compared("action", before.actions, after.actions)
    return (*actions, *_compared("file", before.other_files, after.other_files))


def _compared(kind: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    verbs = (("create", "added"), ("delete", "removed"), ("update", "changed"))
    found = _sorted(before, after)
    return [Change(verb, kind, name) for verb, how in verbs for name in found[how]]


def _sorted(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, list[str]]:
    """Names by what became of them."""
    return {
        "added": sorted(after.keys() - before.keys()),
        "removed": sorted(before.keys() - after.keys()),
        "changed": sorted(name for name in before.keys() & after.keys() if before[name] != after[name]),
    }


def _result(changes: tuple[Change, ...]) -> ServerResult:
    return ServerResult("bundle.json", Reply("", "done" if changes else "unchanged", changes))
