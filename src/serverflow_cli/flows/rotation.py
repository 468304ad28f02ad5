"""`sf key rotate`: a new key in the place of an old one, without a moment in which neither works.

    made → signed in beside the old one → on every server → proved by a signed read → the old one signed out

There is no record of how far it got: two keys of one name in a role are a rotation at work, the old one first. So it
can be killed anywhere, and any root key's holder can go on with it from a fresh clone of the fleet folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serverflow_actions import registry

from ..config.edit import Editor
from ..errors import SfError, TrustError, UsageError
from ..model.ids import new_ulid
from ..model.result import CommandResult, Reply, Report, Request, ServerResult
from . import deploy, grants
from .invitations import point_to
from .keys import DAY_MS, now_ms, set_expiry, successor
from .pushing import behind, push_trust
from .signing import TRUST_ROW, Approve, carry_out, difference
from .workspace import Workspace

if TYPE_CHECKING:
    from ..rpc.hello import Link
    from ..trust.sshsig import Signer
    from ..trust.trustfile import CommandKey, RootKey, Trust

    Entry = CommandKey | RootKey

ROLES = ("command", "root", "release")


@dataclass(frozen=True)
class RotateRequest:
    """The command line. `key` is a file that the holder made himself; `undo` goes back to the old key."""

    name: str
    role: str = "command"
    key: str | None = None
    undo: bool = False


async def rotate(
    workspace: Workspace, request: RotateRequest, *, plan: bool, approve: Approve, report: Report
) -> CommandResult:
    """Begin a rotation or go on with it. Servers that cannot be reached hold up the end, not the beginning.

    Raises UsageError, TrustError; OutcomeUnknown while other root keys have to sign.
    """
    held = entries(workspace.trust, request.role, request.name)
    # An earlier run may have ended between the last signature and this machine's change to the new key.
    workspace.keyring.settle(request.role, publics(workspace.trust, request.role))
    if not held:
        raise UsageError(f"the fleet has no {request.role} key {request.name}", hint="sf key list")
    if request.undo:
        return await _undo(workspace, request, held, plan=plan, approve=approve, report=report)
    begins = len(held) == 1
    new = _next_entry(workspace, request, held[0], make=not plan) if begins else held[1]
    planned = difference(workspace, _replaced(workspace, request.role, held, [new]))
    if plan:
        return planned
    if not approve(planned):
        raise SfError("nothing was done", code="declined")
    if begins:
        after = _replaced(workspace, request.role, held, [held[0], new])
        begun = await carry_out(
            workspace, after, plan=False, approve=_yes, report=report, wish=_wish(request, held[0], new)
        )
        if _is_deploy(workspace, request, held[0]):
            return _to_be_stored(workspace, request, begun)
    else:
        begun = CommandResult(workspace.label, servers=await push_trust(workspace, report))
    if late := behind(begun.servers):
        note = f"both keys are valid until {', '.join(late)} can be reached; then: {_again(request)}"
        return replace(begun, notes=(note,))
    finished = await _finish(workspace, request, report)
    # What was shown and approved: the new key in the place of the old one.
    rows = [planned.servers[0] if row.name == TRUST_ROW else row for row in finished.servers]
    return replace(finished, servers=tuple(rows))


async def _finish(workspace: Workspace, request: RotateRequest, report: Report) -> CommandResult:
    """Both keys are on every server: prove the new one, and sign the old one out."""
    held = entries(workspace.trust, request.role, request.name)
    if request.role == "command" and (signer := _next_signer(workspace, held[1])):
        report({"t": "note", "text": "trying the new key"})
        proved = await _prove(workspace, signer, report)
        if behind(proved):
            note = f"the new key does not work everywhere, so the old one stays; then: {_again(request)}"
            return CommandResult(workspace.label, servers=proved, notes=(note,))
    after = _replaced(workspace, request.role, held, held[1:])
    result = await carry_out(workspace, after, plan=False, approve=_yes, report=report)
    return replace(result, notes=(*result.notes, *_afterwards(workspace, request, held[0])))


async def _undo(
    workspace: Workspace,
    request: RotateRequest,
    held: list[Entry],
    *,
    plan: bool,
    approve: Approve,
    report: Report,
) -> CommandResult:
    if len(held) == 1:
        raise UsageError(f"no rotation of {request.name} is at work")
    after = _replaced(workspace, request.role, held, held[:1])
    result = await carry_out(workspace, after, plan=plan, approve=approve, report=report)
    if not plan:
        for form in ("", ".pub", ".path"):
            (workspace.private / f"{request.role}.next{form}").unlink(missing_ok=True)
        deploy.told(workspace, request.name)
    return result


def entries(trust: Trust, role: str, name: str) -> list[Entry]:
    """The keys of that name in a role; two while it is rotated, the old one first."""
    every: tuple[Any, ...] = trust.command if role == "command" else getattr(trust, role).keys
    return [key for key in every if key.name == name]


def publics(trust: Trust, role: str) -> set[bytes]:
    """The raw public keys of a role."""
    every: tuple[Any, ...] = trust.command if role == "command" else getattr(trust, role).keys
    return {key.public_key for key in every}


def rotations(trust: Trust) -> list[tuple[str, str]]:
    """Role and name of every rotation at work."""
    names = {role: [key.name for key in getattr(trust, role).keys] for role in ("root", "release")}
    names["command"] = [key.name for key in trust.command]
    return [(role, name) for role, every in names.items() for name in dict.fromkeys(every) if every.count(name) > 1]


def _replaced(workspace: Workspace, role: str, held: list[Entry], now: list[Any]) -> Trust:
    """The next version, in which these entries stand where the first of the held ones stood."""
    trust = workspace.trust
    every: tuple[Any, ...] = trust.command if role == "command" else getattr(trust, role).keys
    at = every.index(held[0])
    rest = [key for key in every if key not in held]
    keys = (*rest[:at], *now, *rest[at:])
    return successor(workspace, **{role: keys if role == "command" else replace(getattr(trust, role), keys=keys)})


# --- the new key -----------------------------------------------------------------------------------------------------


def _next_entry(workspace: Workspace, request: RotateRequest, old: Any, *, make: bool) -> Any:
    """Its entry: like the old one's, with another key. An earlier run may have made the key already."""
    from ..trust import keys
    from ..trust.trustfile import RootKey

    if _is_deploy(workspace, request, old):
        return _next_deploy(workspace, old, make=make)
    public = _make_next(workspace, request, make=make)
    if request.role != "command":
        return RootKey(old.name, public)
    login = keys.public_line(public)
    own = keys.public_line(old.public_key)
    ssh = tuple(login if line == own else line for line in old.ssh)
    return replace(old, public_key=public, ssh=ssh, not_before=now_ms() - DAY_MS, expires=_lifetime(old))


def _make_next(workspace: Workspace, request: RotateRequest, *, make: bool) -> bytes:
    """The public half of ROLE.next on this machine. Raises TrustError when this machine does not hold the old key."""
    from ..trust import keys

    keyring, name = workspace.keyring, f"{request.role}.next"
    there = keyring.path(name)
    if there.exists():
        return keys.read(there).public_key
    if request.key:
        file = Path(request.key).expanduser().absolute()
        if make:
            point_to(keyring, workspace.private, name, file)
        return keys.read(file).public_key
    if not make:  # a plan shows a key that nobody keeps
        return keys.new_private_key("").public_key
    return keys.generate(workspace.private / name, f"{request.name} {request.role}").public_key


def _wish(request: RotateRequest, old: Any, new: Any) -> Callable[[Editor], None] | None:
    """Where fleet.toml says when the key expires, it is the new one's date from now on."""
    if request.role != "command" or new.expires == old.expires:
        return None
    return lambda editor: set_expiry(editor, request.name, new.expires)


def _lifetime(old: CommandKey) -> int:
    """The new key's expiry: as long from now as the old one had."""
    return now_ms() // 1000 * 1000 + old.expires - old.not_before - DAY_MS


def _is_deploy(workspace: Workspace, request: RotateRequest, old: Any) -> bool:
    """Whether the key is a CI system's: not on this machine, and not an operator's. Raises TrustError for somebody
    else's: only the holder can make the new one.
    """
    from ..trust import keys

    path = workspace.keyring.path(request.role)
    if path.exists() and keys.read(path).public_key == old.public_key:
        return False
    if request.role == "command" and not grants.has_all(old) and (old.seal is None or "*" not in old.seal.secrets):
        return True
    raise TrustError(
        f"the {request.role} key of {request.name} is not on this machine",
        code="not-ours",
        hint=f"its holder rotates it; if it is lost: sf key revoke {request.name}, and a new invitation",
    )


def _next_deploy(workspace: Workspace, old: CommandKey, *, make: bool) -> CommandKey:
    from ..trust import deploykey, keys

    waiting, expires = deploy.load_waiting(workspace, old.name), _lifetime(old)
    if waiting is None and make:
        waiting = deploy.keep_waiting(workspace, old.name, expires, with_seal=old.seal is not None)
    key = waiting.key if waiting else deploykey.new(old.name)
    seal = replace(old.seal, key=waiting.seal.public) if old.seal and waiting and waiting.seal else old.seal
    return replace(
        old,
        public_key=key.signing.public_key,
        ssh=(keys.public_line(key.login.public_key),),
        seal=seal,
        not_before=now_ms() - DAY_MS,
        expires=waiting.expires if waiting else expires,
    )


def _to_be_stored(workspace: Workspace, request: RotateRequest, result: CommandResult) -> CommandResult:
    waiting = deploy.load_waiting(workspace, request.name)
    data = {"name": request.name}
    if waiting:
        data["environment"] = deploy.environment_of(workspace.trust, waiting)  # type: ignore[assignment]
    note = f"shown once: store it in your CI system, then take the old key out with: {_again(request)}"
    return replace(result, data=data, notes=(*result.notes, note))


# --- proof -----------------------------------------------------------------------------------------------------------


def _next_signer(workspace: Workspace, new: Any) -> Signer | None:
    """The new key, where it is on this machine; another operator goes on without this proof."""
    path = workspace.keyring.path("command.next")
    if not path.exists():
        return None
    signer = workspace.keyring.open(path)
    return signer if signer.public_key == new.public_key else None


async def _prove(workspace: Workspace, signer: Signer, report: Report) -> tuple[ServerResult, ...]:
    """A login and a signed read with the new key alone, on every server."""
    version = registry.load("safe.status").version
    request = Request("safe.status", {}, timeout_s=60, read_only=True)
    async with workspace.caller(signer) as caller:

        async def work(link: Link) -> Reply:
            return await caller.call(link, request, new_ulid(), version, report)

        return await workspace.on_all(list(workspace.ids), work, report)


# --- words -----------------------------------------------------------------------------------------------------------


def _yes(_: CommandResult) -> bool:
    return True


def _again(request: RotateRequest) -> str:
    return f"sf key rotate {request.name}" + (f" --role {request.role}" if request.role != "command" else "")


def _afterwards(workspace: Workspace, request: RotateRequest, old: Any) -> tuple[str, ...]:
    from ..trust.anchor import read_out
    from ..trust.keys import fingerprint

    if request.role == "root":
        return (f"the root fingerprint is another one now, also for SF_ROOT in CI: {read_out(workspace.trust.root)}",)
    return (f"{fingerprint(old.public_key)} is no key of this fleet any more",)
