"""The next trust version: shown, approved, signed, and brought to the servers. All of `sf key` and `sf trust` end here.

Where one root key is not enough, the version waits in the fleet folder until the others have signed it (`sf trust
sign`). What follows from a version (signatures of pins and bundle by keys that are root and release in it, secrets
sealed to whom it names) is done beside it, each step so that it can be done again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from serverflow_actions.kit.change import Change

from ..config.edit import Editor, edit
from ..errors import OutcomeUnknown, PlanChanged, SfError, TrustError
from ..model.result import CommandResult, Reply, Report, ServerResult
from .countersign import countersign, pins_to_vouch_for
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
    if plan:
        return planned
    changed = replace(after, version=0) != replace(workspace.trust, version=0)
    if changed:
        workspace.root_signers(after)  # before anything is asked or edited
        if not approve(planned):
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
    """One change at a time waits for signatures; one that no root key has signed is nobody's. Raises PlanChanged."""
    from ..trust import proposal

    try:
        waiting = proposal.load(workspace.folder.trust, workspace.trust)
    except TrustError:
        return  # whoever may merge can put anything there: it must not hold up a revocation
    if waiting and waiting.signers and waiting.trust != after:
        raise PlanChanged(
            f"another change waits for signatures, as trust version {waiting.trust.version}",
            hint="sf trust sign shows it, sf trust discard withdraws it",
        )


def difference(workspace: Workspace, after: Trust) -> CommandResult:
    """What a version would change, as a plan."""
    changes = tuple(changes_to(workspace, after))
    reply = Reply("", "done" if changes else "unchanged", changes)
    return CommandResult(workspace.label, servers=(ServerResult(TRUST_ROW, reply, is_server=False),))


def changes_to(workspace: Workspace, after: Trust) -> list[Change]:
    """The differences between the newest version and `after`, and what our signature would vouch for besides."""
    from ..trust import difference

    found = difference.changes(workspace.trust, after, words(workspace))
    return found + pins_to_vouch_for(workspace, after)


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
    notes = countersign(workspace, after) + _consequences(workspace, after)
    blobs = [sshsig.sign(signer, sshsig.TRUST, body(after)) for signer in signers]
    lacking = proposal.add(workspace.folder.trust, before, after, blobs)
    if lacking:
        raise OutcomeUnknown(
            f"trust version {after.version} waits for {lacking} more root signature{'s' if lacking > 1 else ''}",
            code="needs-signatures",
            hint="commit the fleet folder; who holds another root key runs: sf trust sign",
        )
    workspace.refresh()
    return notes + settle(workspace)


def _consequences(workspace: Workspace, after: Trust) -> list[str]:
    """What somebody has to do elsewhere once this version counts."""
    from ..trust import chain
    from ..trust.anchor import read_out
    from . import sealing

    notes = []
    if chain.publics(workspace.trust.root) != chain.publics(after.root):
        notes.append(f"the root fingerprint is another one now, also for SF_ROOT in CI: {read_out(after.root)}")
    kept = {key.public_key for key in after.command}
    names = {key.name for key in after.command}
    gone = [key for key in workspace.trust.command if key.public_key not in kept and key.name not in names]
    opened = [sealing.readable_by(workspace, key) for key in gone]
    read = sorted({secret for found in opened for secret in found or ()})
    if None in opened:
        notes.append("secrets.toml cannot be verified, so see yourself which secrets could be opened there")
    if read:
        notes.append(f"give these secrets new values, they could be opened (sf secret rotate): {', '.join(read)}")
    return notes


def settle(workspace: Workspace) -> list[str]:
    """Seal the secrets to those whom the newest version names. Returns notes, also about what could not be done."""
    from . import sealing

    try:
        return sealing.reseal(workspace)
    except SfError as error:
        return [f"secrets are sealed as before: {error.message}; then: sf secret list"]
