"""`sf trust`: who is root, who may do what, what waits for signatures, and which server knows of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import SfError, TrustError, UsageError
from ..model.result import CommandResult, Reply, Report
from . import grants
from .keys import now_ms, rows, successor
from .rotation import rotations
from .signing import Approve, carry_out, changes_to, difference
from .times import rfc3339
from .workspace import Workspace

if TYPE_CHECKING:
    from ..rpc.hello import Link
    from ..trust.proposal import Proposal
    from ..trust.trustfile import Trust


async def show(workspace: Workspace) -> CommandResult:
    """The verified newest version. A colleague with a new clone compares what the last note reads out."""
    from ..trust.anchor import read_out
    from ..trust.permission import expiry_warnings

    trust = workspace.trust
    data: dict[str, Any] = {
        "version": trust.version,
        "expires_at": rfc3339(trust.expires),
        "root_needed": trust.root.threshold,
        "release_needed": trust.release.threshold,
        "root": read_out(trust.root),
        "keys": list(rows(workspace)),
    }
    return CommandResult(workspace.label, data=data, notes=tuple(expiry_warnings(trust, now_ms())))


async def status(workspace: Workspace, *, selector: str, report: Report) -> CommandResult:
    """What is not as it should be, and the trust version of each server, who is asked."""
    newest = workspace.trust.version
    names = workspace.select(selector) if workspace.servers else []
    data = {"version": newest, "findings": [{"finding": text} for text in findings(workspace)]}
    if not names:
        return CommandResult(workspace.label, data=data)
    async with workspace.caller() as caller:

        async def work(link: Link) -> Reply:
            greeting = await caller.greet(link)
            behind = newest - greeting.trust_version
            state = "current" if not behind else f"{behind} behind" if behind > 0 else "ahead of this folder"
            if not behind and greeting.trust_sha256 != workspace.trust_sha256:
                state = f"another version {newest}: two signed at once; sign the next one (sf trust renew)"
            return Reply("", "done", data={"trust": greeting.trust_version, "state": state})

        servers = await workspace.on_all(names, work, report)
    return CommandResult(workspace.label, servers=servers, data=data)


def findings(workspace: Workspace) -> list[str]:
    """Sentences, each with what to do; none when all is well."""
    from ..trust import proposal
    from ..trust.permission import expiry_warnings

    trust = workspace.trust
    found = list(expiry_warnings(trust, now_ms()))
    try:
        if waiting := proposal.load(workspace.folder.trust, trust):
            lacking, version = _lacking(trust, waiting), waiting.trust.version
            more = f"{lacking} more root signature{'s' if lacking > 1 else ''}"
            found.append(f"trust version {version} waits for {more}: sf trust sign")
    except TrustError as error:
        found.append(f"what waits in trust/proposed is damaged ({error.message}): sf trust discard")
    found += [f"the key {name} is being rotated: sf key rotate {name}" for name in rotations(trust)]
    found += grants.problems(trust, workspace.fleet)
    found += [
        f"{name} and {other} are pinned as one server, so what is meant for one is done on the other: git log pins.toml"
        for name, other in sorted(workspace.twins.items())
        if name < other
    ]
    if changes_to(workspace, _wished(workspace)):
        found.append("fleet.toml grants something else than what is signed: sf trust sign --plan")
    if trust.root.threshold == 1:
        found.append("one root key is enough to change everything: sf key add --root, then sf trust threshold 2")
    return found


def _lacking(trust: Trust, waiting: Proposal) -> int:
    from ..trust import chain

    return chain.missing(trust, waiting.trust, waiting.signers)


def _wished(workspace: Workspace) -> Trust:
    """The next version with the grants that fleet.toml has. Raises ConfigError, UsageError."""
    keys = grants.wished(workspace.trust, workspace.fleet, workspace.ids)
    return successor(workspace, command=keys)


async def sign(workspace: Workspace, *, plan: bool, approve: Approve, report: Report) -> CommandResult:
    """Sign what waits for signatures; when nothing does, what fleet.toml grants and nobody has signed yet."""
    from ..trust import proposal

    waiting = proposal.load(workspace.folder.trust, workspace.trust)
    after = waiting.trust if waiting else _wished(workspace)
    notes = (_signed_by(workspace, waiting),) if waiting else ()
    result = await carry_out(workspace, after, plan=plan, approve=approve, report=report)
    return replace(result, notes=(*notes, *result.notes))


def _signed_by(workspace: Workspace, waiting: Proposal) -> str:
    roots = (*workspace.trust.root.keys, *waiting.trust.root.keys)
    names = dict.fromkeys(key.name for key in roots if key.public_key in waiting.signers)
    return f"trust version {waiting.trust.version} was signed by {', '.join(names) or 'nobody'}"


async def discard(workspace: Workspace, *, approve: Approve) -> CommandResult:
    """Withdraw what waits for signatures. Raises UsageError when nothing does."""
    from ..trust import proposal

    waiting = _waiting_or_damaged(workspace)
    if waiting is not None and not approve(difference(workspace, waiting.trust)):
        raise SfError("nothing was done", code="declined")
    if not proposal.discard(workspace.folder.trust):
        raise UsageError("no trust version waits for signatures", hint="sf trust status")
    note = "withdrawn; what fleet.toml asks for is still there: git diff fleet.toml"
    return CommandResult(workspace.label, notes=(note,))


def _waiting_or_damaged(workspace: Workspace) -> Proposal | None:
    from ..trust import proposal

    try:
        return proposal.load(workspace.folder.trust, workspace.trust)
    except TrustError:
        return None  # a file that nobody can read is there to be discarded


async def threshold(
    workspace: Workspace, count: int, role: str, *, plan: bool, approve: Approve, report: Report
) -> CommandResult:
    """How many root or release keys have to sign. For root, as many sign this very change, so nobody is locked out."""
    held = getattr(workspace.trust, role)
    if count > len(held.keys):
        there = f"is 1 {role} key" if len(held.keys) == 1 else f"are {len(held.keys)} {role} keys"
        raise UsageError(f"there {there}, so {count} cannot sign", hint=f"sf key add --{role}")
    after = successor(workspace, **{role: replace(held, threshold=count)})
    return await carry_out(workspace, after, plan=plan, approve=approve, report=report)


async def renew(workspace: Workspace, expires: int, *, plan: bool, approve: Approve, report: Report) -> CommandResult:
    """Another expiry for the trust file as a whole; each key keeps its own."""
    after = successor(workspace, expires=expires)
    return await carry_out(workspace, after, plan=plan, approve=approve, report=report)
