"""`sf key rotate`: a new key in the place of an old one, without a moment in which neither works.

A root or release key is replaced in one version, which the old and the new one sign: servers never use it, and two keys
of one holder would be two votes. A command key takes longer, because servers have to know the new one first:

    made → signed in beside the old one → on every server → proved by a signed read → the old one signed out

There is no record of how far it got: two command keys of one name are a rotation at work, the old one first. So it can
be killed anywhere, and any root key's holder can go on with it from a fresh clone of the fleet folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from serverflow_actions import registry

from ..config.edit import Editor
from ..errors import OutcomeUnknown, SfError, TrustError, UsageError
from ..model.ids import new_ulid
from ..model.result import CommandResult, Reply, Report, Request, ServerResult
from . import deploy
from .invitations import point_to
from .keys import DAY_MS, named, now_ms, set_expiry, successor
from .pushing import behind, push_trust
from .signing import TRUST_ROW, Approve, carry_out, difference
from .workspace import Workspace

if TYPE_CHECKING:
    from ..rpc.hello import Link
    from ..trust.sshsig import Signer
    from ..trust.trustfile import CommandKey, Trust


@dataclass(frozen=True)
class RotateRequest:
    """The command line. `key` is a file that the holder made himself; `undo` goes back to the old key."""

    name: str
    role: str = "command"
    key: str | None = None
    undo: bool = False

    @property
    def again(self) -> str:
        """The line that goes on with it."""
        return f"sf key rotate {self.name}" + (f" --role {self.role}" if self.role != "command" else "")


async def rotate(
    workspace: Workspace, request: RotateRequest, *, plan: bool, approve: Approve, report: Report
) -> CommandResult:
    """Begin a rotation or go on with it. Raises UsageError, TrustError; OutcomeUnknown while root keys have to sign."""
    if not plan:
        workspace.root_signer()  # before anything is made
    # An earlier run may have ended between the last signature and this machine's change to the new key.
    workspace.keyring.settle(request.role, publics(workspace.trust, request.role))
    rotation = _Rotation(workspace, request, approve, report)
    try:
        if request.role != "command":
            return await rotation.replace_role_key(plan)
        if request.undo:
            return await rotation.undo(plan)
        return await rotation.command_key(plan)
    except OutcomeUnknown as waiting:
        if waiting.code == "needs-signatures":
            waiting.hint += f"; then: {request.again}"
        raise


def publics(trust: Trust, role: str) -> set[bytes]:
    """The raw public keys of a role."""
    if role == "command":
        return {key.public_key for key in trust.command}
    return {key.public_key for key in (trust.root if role == "root" else trust.release).keys}


def rotations(trust: Trust) -> list[str]:
    """The names of the command keys that are being rotated."""
    names = [key.name for key in trust.command]
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]


@dataclass(frozen=True)
class _Rotation:
    """One run of it."""

    workspace: Workspace
    request: RotateRequest
    approve: Approve
    report: Report

    async def replace_role_key(self, plan: bool) -> CommandResult:
        """A root or release key, old for new in one version."""
        from ..trust.trustfile import RootKey

        if self.request.undo:
            raise UsageError("nothing to undo: root and release keys change in one version")
        role = self.workspace.trust.root if self.request.role == "root" else self.workspace.trust.release
        old = next((key for key in role.keys if key.name == self.request.name), None)
        if old is None:
            raise UsageError(f"the fleet has no {self.request.role} key {self.request.name}", hint="sf key list")
        if not self._is_here(old.public_key):
            raise self._not_ours()
        new = RootKey(old.name, self._make_next(make=not plan))
        keys = tuple(new if key == old else key for key in role.keys)
        after = successor(self.workspace, **{self.request.role: replace(role, keys=keys)})
        result = await carry_out(self.workspace, after, plan=plan, approve=self.approve, report=self.report)
        if not plan:
            self.workspace.keyring.settle(self.request.role, publics(self.workspace.trust, self.request.role))
        return result

    async def command_key(self, plan: bool) -> CommandResult:
        """Begin, or go on where two keys of the name are."""
        held = named(self.workspace.trust, self.request.name)
        if not held:
            raise UsageError(f"the fleet has no command key {self.request.name}", hint="sf key list")
        begins = len(held) == 1
        new = self._next_entry(held[0], make=not plan) if begins else held[1]
        planned = difference(self.workspace, self._with(held, [new]))
        if plan:
            return planned
        if not self.approve(planned):
            raise SfError("nothing was done", code="declined")
        if begins:
            after, wish = self._with(held, [held[0], new]), self._wish(held[0], new)
            begun = await carry_out(self.workspace, after, plan=False, approve=_yes, report=self.report, wish=wish)
        else:
            self._check_holds_new(held)
            begun = CommandResult(self.workspace.label, servers=await push_trust(self.workspace, self.report))
        if waiting := deploy.load_waiting(self.workspace, self.request.name):
            return self._to_be_stored(waiting, begun)
        if late := behind(begun.servers):
            note = f"both keys are valid until {', '.join(late)} can be reached; then: {self.request.again}"
            return replace(begun, notes=(*begun.notes, note))
        finished = await self._finish()
        # What was shown and approved: the new key in the place of the old one.
        rows = [planned.servers[0] if row.name == TRUST_ROW else row for row in finished.servers]
        return replace(finished, servers=tuple(rows))

    async def undo(self, plan: bool) -> CommandResult:
        """Back to the old key. A new one of ours is put aside, not deleted."""
        held = named(self.workspace.trust, self.request.name)
        if len(held) < 2:
            raise UsageError(f"no rotation of {self.request.name} is at work")
        after = self._with(held, held[:1])
        result = await carry_out(self.workspace, after, plan=plan, approve=self.approve, report=self.report)
        if not plan:
            if self._public("command.next") == held[1].public_key:
                self._put_aside()
            deploy.told(self.workspace, self.request.name)
        return result

    async def _finish(self) -> CommandResult:
        """Both keys are on every server: prove the new one, and sign the old one out."""
        held = named(self.workspace.trust, self.request.name)
        if self._public("command.next") == held[1].public_key:
            self.report({"t": "note", "text": "trying the new key"})
            signer = self.workspace.keyring.open(self.workspace.keyring.path("command.next"))
            proved = await _prove(self.workspace, signer, self.report)
            if behind(proved):
                note = f"the new key does not work everywhere, so the old one stays; then: {self.request.again}"
                return CommandResult(self.workspace.label, servers=proved, notes=(note,))
        after = self._with(held, held[1:])
        return await carry_out(self.workspace, after, plan=False, approve=_yes, report=self.report)

    def _with(self, held: Sequence[CommandKey], now: Sequence[CommandKey]) -> Trust:
        """The next version, in which these keys stand where the first of the held ones stood."""
        every = self.workspace.trust.command
        at = every.index(held[0])
        rest = [key for key in every if key not in held]
        return successor(self.workspace, command=(*rest[:at], *now, *rest[at:]))

    # --- the new key -------------------------------------------------------------------------------------------------

    def _next_entry(self, old: CommandKey, *, make: bool) -> CommandKey:
        """Its entry: like the old one's, with another key and as long a life from now on. An earlier run may have made
        the key already.
        """
        from ..trust import keys

        lifetime = old.expires - old.not_before - DAY_MS
        expires = now_ms() // 1000 * 1000 + lifetime
        own = keys.public_line(old.public_key)
        if self._is_here(old.public_key):
            public = self._make_next(make=make)
            login = keys.public_line(public)
            ssh = tuple(login if line == own else line for line in old.ssh)
            return replace(old, public_key=public, ssh=ssh, not_before=now_ms() - DAY_MS, expires=expires)
        if own in old.ssh:  # a deploy key logs in with another key than it signs with; people use one for both
            raise self._not_ours()
        request = deploy.DeployRequest(old.name, deploy.rights_of(old))
        waiting = deploy.load_waiting(self.workspace, old.name)
        if waiting is None:
            kept = min(expires, now_ms() // 1000 * 1000 + deploy.LONGEST_MS)
            waiting = deploy.new_waiting(self.workspace, request, kept, keep=make)
        return replace(
            old,
            public_key=waiting.key.signing.public_key,
            ssh=(keys.public_line(waiting.key.login.public_key),),
            seal=replace(old.seal, key=waiting.seal.public) if old.seal and waiting.seal else old.seal,
            not_before=waiting.made_at - DAY_MS,
            expires=waiting.expires,
        )

    def _make_next(self, *, make: bool) -> bytes:
        """The public half of ROLE.next on this machine; a plan shows a key that nobody keeps."""
        from ..trust import keys

        keyring, name = self.workspace.keyring, f"{self.request.role}.next"
        if there := self._public(name):
            return there
        if self.request.key:
            file = Path(self.request.key).expanduser().absolute()
            if make:
                point_to(keyring, self.workspace.private, name, file)
            return keys.read(file).public_key
        if not make:
            return keys.new_private_key("").public_key
        return keys.generate(self.workspace.private / name, f"{self.request.name} {self.request.role}").public_key

    def _wish(self, old: CommandKey, new: CommandKey) -> Callable[[Editor], None] | None:
        """Where fleet.toml says when the key expires, it is the new one's date from now on."""
        if new.expires == old.expires:
            return None
        return lambda editor: set_expiry(editor, self.request.name, new.expires)

    def _to_be_stored(self, waiting: deploy.Waiting, begun: CommandResult) -> CommandResult:
        """A CI system's new key was not told yet: so it is told now, and the old one stays."""
        data = {"name": self.request.name, "environment": deploy.environment_of(self.workspace.trust, waiting)}
        note = f"shown once: store it in your CI system, then take the old key out with: {self.request.again}"
        return replace(begun, data=data, notes=(*begun.notes, note))

    # --- what is on this machine -------------------------------------------------------------------------------------

    def _public(self, name: str) -> bytes:
        """The public half of a key of this machine; b"" when there is none."""
        from ..trust import keys

        path = self.workspace.keyring.path(name)
        return keys.read(path).public_key if path.exists() else b""

    def _is_here(self, public_key: bytes) -> bool:
        return self._public(self.request.role) == public_key

    def _check_holds_new(self, held: Sequence[CommandKey]) -> None:
        """Whoever holds the old key must not sign it out without having the new one. Raises TrustError."""
        if self._is_here(held[0].public_key) and self._public("command.next") != held[1].public_key:
            raise TrustError(
                "the new key is not on this machine, and the old one is",
                hint=f"{self.request.again} --undo, then begin again",
            )

    def _put_aside(self) -> None:
        for form in ("", ".pub", ".path"):
            with suppress(FileNotFoundError):
                path = self.workspace.private / f"command.next{form}"
                path.rename(self.workspace.private / f"command.undone{form}")

    def _not_ours(self) -> TrustError:
        """Only the holder can make the new key."""
        return TrustError(
            f"the {self.request.role} key of {self.request.name} is not on this machine",
            code="not-ours",
            hint="its holder rotates it; if it is lost: a new invitation, sf key add, and "
            f"sf key revoke {self.request.name} --role {self.request.role}",
        )


async def _prove(workspace: Workspace, signer: Signer, report: Report) -> tuple[ServerResult, ...]:
    """A login and a signed read with the new key alone, on every server."""
    version = registry.load("safe.status").version
    request = Request("safe.status", {}, timeout_s=60, read_only=True)
    async with workspace.caller(signer) as caller:

        async def work(link: Link) -> Reply:
            return await caller.call(link, request, new_ulid(), version, report)

        return await workspace.on_all(list(workspace.ids), work, report)


def _yes(_: CommandResult) -> bool:
    return True
