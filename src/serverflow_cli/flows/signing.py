"""The next trust version: shown, approved, signed, and brought to the servers. All of `sf key` and `sf trust` end here.

Where one root key is not enough, the version waits in the fleet folder until the others have signed it (`sf trust
sign`). What follows from a version (signatures of pins and bundle by keys that are root and release in it, secrets
sealed to whom it names) is done beside it, each step so that it can be done again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from serverflow_actions.kit.change import Change

from ..config.edit import Editor, edit
from ..errors import OutcomeUnknown, PlanChanged, SfError
from ..model.result import CommandResult, Reply, Report, ServerResult
from .countersign import countersign
from .grants import every_action
from .pushing import behind, push_trust
from .workspace import Workspace

if TYPE_CHECKING:
    from ..trust.difference import Words
    from ..trust.trustfile import Trust

Approve = Callable[[CommandResult], bool]
#: The row of a result that is about the fleet's trust; no server can be called so.
TRUST_ROW = "trust file"


async def carry_out(
    workspace: Workspace,
    after: Trust,
    *,
    plan: bool,
    approve: Approve,
    report: Report,
    wish: Callable[[Editor], None] | None = None,
    data: dict[str, Any] | None = None,
    notes: tuple[str, ...] = (),
) -> CommandResult:
    """Show what `after` changes, ask, sign it and push it; `wish` is the edit of fleet.toml that goes with it.

    A version that is the newest but for its number changes nothing; it is pushed all the same, for those who miss it.
    Raises OutcomeUnknown(needs-signatures) when other root keys have to sign too.
    """
    check_free(workspace, after)
    planned = difference(workspace, after)
    changed = bool(planned.servers[0].reply and planned.servers[0].reply.changes)
    if plan:
        return planned
    if changed and not approve(planned):
        raise SfError("nothing was done", code="declined")
    if wish:
        with edit(workspace.folder) as editor:
            wish(editor)
    told = list(notes)
    if changed:
        told += sign_next(workspace, after, report)
    pushed = await push_trust(workspace, report)
    late = behind(pushed)
    if late:
        told.append(f"not there yet: {', '.join(late)}; each gets it on its next contact, or by: sf server update")
    return CommandResult(workspace.label, servers=(*planned.servers, *pushed), data=data or {}, notes=tuple(told))


def check_free(workspace: Workspace, after: Trust) -> None:
    """One change at a time waits for signatures. Raises PlanChanged while another does."""
    from ..trust import proposal

    waiting = proposal.load(workspace.folder.trust, workspace.trust)
    if waiting and waiting.trust != after:
        raise PlanChanged(
            f"another change waits for signatures, as trust version {waiting.trust.version}",
            hint="sf trust sign shows it, sf trust discard withdraws it",
        )


def difference(workspace: Workspace, after: Trust) -> CommandResult:
    """What a version would change, as a plan."""
    changes = tuple(changes_to(workspace, after))
    reply = Reply("", "done" if changes else "unchanged", changes)
    return CommandResult(workspace.label, servers=(ServerResult(TRUST_ROW, reply),))


def changes_to(workspace: Workspace, after: Trust) -> list[Change]:
    """The differences between the newest version and `after`."""
    from ..trust import difference

    return difference.changes(workspace.trust, after, words(workspace))


def words(workspace: Workspace) -> Words:
    """Server ids as names, by the pins."""
    from ..trust.difference import Words

    names = {pin.server_id: name for name, pin in workspace.pins.items()}
    return Words(lambda server: names.get(server, f"server {server[:12]}"), frozenset(every_action()))


def sign_next(workspace: Workspace, after: Trust, report: Report) -> list[str]:
    """Sign with the root keys of this machine, and do what follows. Returns notes.

    Raises TrustError without a root key; OutcomeUnknown(needs-signatures) when more have to sign.
    """
    from ..trust import proposal, sshsig
    from ..trust.trustfile import body

    before = workspace.trust
    signers = workspace.root_signers(after)
    report({"t": "note", "text": f"signing trust version {after.version}"})
    # First: pins and bundle that only a leaving key has signed would count no more.
    countersign(workspace, after)
    blobs = [sshsig.sign(signer, sshsig.TRUST, body(after)) for signer in signers]
    lacking = proposal.add(workspace.folder.trust, before, after, blobs)
    if lacking:
        raise OutcomeUnknown(
            f"trust version {after.version} waits for {lacking} more root signature{'s' if lacking > 1 else ''}",
            code="needs-signatures",
            hint="commit the fleet folder; who holds another root key runs: sf trust sign",
        )
    workspace.refresh()
    return settle(workspace)


def settle(workspace: Workspace) -> list[str]:
    """Seal the secrets to those whom the newest version names. Returns notes, also about what could not be done."""
    from . import sealing

    try:
        return sealing.reseal(workspace)
    except SfError as error:
        return [f"secrets are sealed as before: {error.message}; then: sf secret list"]
