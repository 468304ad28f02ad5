"""`sf server rekey`: a server gets a new identity key or SSH host key, and nobody is locked out on the way.

The server makes the key, a root key's holder pins it beside the old one, the server puts it in its place, a fresh
connection proves it, and the pins let go of the old one. Where that stands is read off pins.toml and the server each
time, so whoever is interrupted runs it again, or a colleague does.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from serverflow_actions import registry
from serverflow_actions.kit.change import Change

from ..errors import (
    ActionFailed,
    Locked,
    OutcomeUnknown,
    PlanChanged,
    RolledBack,
    SfError,
    TrustError,
    Unreachable,
    UsageError,
)
from ..model.ids import new_ulid
from ..model.result import CommandResult, Reply, Report, Request, ServerResult, reply_of
from .workspace import RETIRED, Workspace

if TYPE_CHECKING:
    from ..config.pins import Pin
    from ..rpc.call import Caller
    from ..rpc.hello import Hello, Link

Kind = Literal["identity", "host"]
Approve = Callable[[CommandResult], bool]

_ACTION = "server.rekey"
_SWITCH_S = 15
_NAMES = {"identity": "identity key", "host": "SSH host key"}


async def rekey(
    workspace: Workspace, name: str, kind: Kind, *, plan: bool, approve: Approve, report: Report
) -> CommandResult:
    """Rotate a key of a server, or finish a rotation that somebody began.

    Raises TrustError without a root key, when the server's proof is not right, or when the pins of this folder are of
    before another's rotation; RolledBack when the server has gone back to its old host key; else what `Caller.call`
    does. It can be run again after each of them.
    """
    if workspace.select(name) != [name]:
        raise UsageError(f"{name} is not the name of one server")
    workspace.root_signer()
    link = workspace.link(name)
    planned = CommandResult(
        workspace.label, servers=(ServerResult(name, Reply("", "done", _forecast(workspace, link, kind))),)
    )
    if plan:
        return planned
    if not approve(planned):
        raise SfError("nothing was done", code="declined")
    async with workspace.caller() as caller:
        rotation = _Rotation(workspace, caller, name, report)
        try:
            reply = await (rotation.identity() if kind == "identity" else rotation.host())
        except SfError as error:
            if isinstance(error, (OutcomeUnknown, Unreachable)):
                error.hint = "run it again: it goes on where it stopped"
            raise
    return CommandResult(workspace.label, servers=(ServerResult(name, reply),))


def _forecast(workspace: Workspace, link: Link, kind: Kind) -> tuple[Change, ...]:
    """From the pins alone: what the server has made already is asked when it counts."""
    pin = workspace.pins[link.name]
    old, new = (pin.identity, pin.next_identity) if kind == "identity" else (pin.host_keys[0], pin.next_host_key)
    return (_change(link.name, kind, old, new),)


def _change(name: str, kind: Kind, old: str, new: str) -> Change:
    from ..trust.keys import ssh_fingerprint

    return Change(
        "update", _NAMES[kind], name, {"key": (ssh_fingerprint(old), ssh_fingerprint(new) if new else "a new one")}
    )


@dataclass(frozen=True)
class _Rotation:
    """One server's, as far as it stands when it is looked at."""

    workspace: Workspace
    caller: Caller
    name: str
    report: Report

    async def identity(self) -> Reply:
        """The old key vouches for the new one by signing the receipts that carry it; the new one by its proof."""
        old = self.workspace.pins[self.name].identity
        greeting = await self._greet(self._link)
        if greeting.signer == self._link.identity:
            new = self._proved((await self._stage("identity", "prepare")).data)
            self._pin_next("identity", new)
            await self._stage("identity", "activate", new)
            greeting = await self._greet(self._link)
        if greeting.signer != self._link.also:
            raise ActionFailed("it goes on with its old identity key", server=self.name)
        new = self.workspace.pins[self.name].next_identity
        self._change_pins(lambda pin: _with_identity(pin, old, new), final=new)
        return Reply("", "done", (_change(self.name, "identity", old, new),), {"identity": new})

    async def host(self) -> Reply:
        """The identity key vouches for the new host key; a connection over nothing but that key confirms it."""
        from ..trust.keys import ssh_fingerprint

        pin = self.workspace.pins[self.name]
        new = pin.next_host_key
        if not new or not await self._shows(new):
            old, new = await self._offered()
            self._pin_next("host", new, beside=old)
            await self._activate(new)
        old = next((key for key in pin.host_keys if key.split()[0] == new.split()[0]), pin.host_keys[0])
        await self._confirm(new)
        self._change_pins(lambda pin: _with_host_key(pin, old, new), final=new, beside=old)
        note = f"other SSH clients will ask about its new host key: {ssh_fingerprint(new)}"
        return Reply("", "done", (_change(self.name, "host", old, new),), {"host_key": new}, notes=(note,))

    # --- the server ---------------------------------------------------------------------------------------------------

    @property
    def _link(self) -> Link:
        return self.workspace.link(self.name)

    def _only(self, host_key: str) -> Link:
        """A link that nothing but this host key satisfies."""
        return replace(self._link, endpoint=replace(self._link.endpoint, host_keys=(host_key,)))

    async def _greet(self, link: Link) -> Hello:
        self.report({"t": "step", "server": self.name, "doing": "connecting"})
        return await self.caller.greet(link)

    async def _stage(self, kind: Kind, stage: str, key: str = "", link: Link | None = None) -> Reply:
        self.report({"t": "step", "server": self.name, "doing": f"{stage} a new {_NAMES[kind]}"})
        params = {"kind": kind, "stage": stage, **({"key": key} if key else {})}
        return await self._ask(link or self._link, _ACTION, params)

    async def _ask(self, link: Link, name: str, params: dict[str, Any]) -> Reply:
        declared = registry.load(name)
        request = Request(name, params, timeout_s=declared.timeout, read_only=declared.kind == "read")
        return await self.caller.call(link, request, new_ulid(), declared.version, self.report)

    def _proved(self, told: Any) -> str:
        """The next identity key, when it says for itself that it belongs to this server. Raises TrustError."""
        from ..trust import sshsig
        from ..trust.keys import parse_public, public_line

        pin = self.workspace.pins[self.name]
        try:
            new = parse_public(str(told["next"]))
            said = {"v": 1, "typ": "identity", "server_id": pin.server_id, "old": pin.identity, "new": public_line(new)}
            body = json.dumps(said, separators=(",", ":"), sort_keys=True).encode()
            signer = sshsig.verify(base64.b64decode(told["proof"], validate=True), sshsig.IDENTITY, body)
        except (SfError, LookupError, ValueError, TypeError) as error:
            raise self._no_proof() from error
        if signer != new or (public_line(new) in pin.identities and public_line(new) != pin.next_identity):
            raise self._no_proof()
        return public_line(new)

    def _no_proof(self) -> TrustError:
        return TrustError("it does not prove that it holds its new identity key", server=self.name, code="bad-proof")

    # --- host keys ----------------------------------------------------------------------------------------------------

    async def _offered(self) -> tuple[str, str]:
        """The host key in use and the next one. A change of ours that waits is taken back first."""
        pin = self.workspace.pins[self.name]
        await self._take_back()
        offer = (await self._stage("host", "prepare")).data
        active, new = str(offer.get("active")), str(offer.get("next"))
        if active not in pin.host_keys or not new.startswith("ssh-ed25519 ") or new in pin.host_keys:
            raise TrustError(
                "the pinned host key is not the Ed25519 key that it would change",
                server=self.name,
                code="unsupported",
                hint=f"pin that one first: sf server remove {self.name} --forget, then sf server add",
            )
        return active, new

    async def _activate(self, new: str) -> None:
        """Raises RolledBack when the server cannot be reached over the new key."""
        try:
            await self._stage("host", "activate", new)
        except OutcomeUnknown as error:
            if error.code != "pending-confirm" or reply_of(error) is None:
                raise
        deadline, pause = time.monotonic() + _SWITCH_S, 0.1
        while time.monotonic() < deadline:  # sshd takes a moment to read its keys again
            with suppress(Unreachable):
                if await self._shows(new):
                    return
            await asyncio.sleep(pause)
            pause *= 2
        with suppress(SfError):
            await self._take_back()
        raise RolledBack(
            "it does not show its new host key, and goes back to the old one within two minutes",
            server=self.name,
            hint="then run it again",
        )

    async def _shows(self, host_key: str) -> bool:
        """Whether a fresh connection is answered with this host key."""
        try:
            await self._greet(self._only(host_key))
        except TrustError as error:
            if error.code != "host-key-changed":
                raise
            return False
        return True

    async def _confirm(self, new: str) -> None:
        """Over the new key alone. Raises RolledBack when the deadline was first."""
        link = self._only(new)
        pending = (await self._greet(link)).pending
        if pending:
            await self._check_ours(link, pending)
            await self._ask(link, "safe.confirm", {"op": pending})
        # sshd may show for a moment what was rolled back already: asked again, activate has nothing to do.
        elif (await self._stage("host", "activate", new, link)).outcome != "unchanged":
            raise RolledBack("it went back to its old host key", server=self.name, hint="run it again")

    async def _take_back(self) -> None:
        """Undo an activation that waits for its confirmation. Raises Locked when something else waits."""
        pending = (await self._greet(self._link)).pending
        if pending:
            await self._check_ours(self._link, pending)
            with suppress(ActionFailed):  # the deadline was first
                await self._ask(self._link, "safe.rollback", {"op": pending})

    async def _check_ours(self, link: Link, op_id: str) -> None:
        """Raises Locked when somebody's other change waits for confirmation."""
        waiting = (await self._ask(link, "safe.status", {})).data.get("pending") or {}
        if waiting and waiting.get("action") != _ACTION:
            raise Locked(
                f"a safe change waits for confirmation there: {op_id}", server=self.name, code="pending-change"
            )

    # --- pins ---------------------------------------------------------------------------------------------------------

    def _pin_next(self, kind: Kind, new: str, *, beside: str = "") -> None:
        """Accept the next key beside the one in use."""
        pin = self.workspace.pins[self.name]
        if kind == "identity" and pin.next_identity != new:
            self._change_pins(lambda pin: replace(pin, next_identity=new))
        if kind == "host" and pin.next_host_key != new:
            self._change_pins(lambda pin: replace(pin, next_host_key=new), beside=beside)

    def _change_pins(self, change: Callable[[Pin], Pin], *, final: str = "", beside: str = "") -> None:
        """`final` is the key that takes over; `beside` a host key: the machine may be pinned as a jump host too."""
        self.report({"t": "step", "server": self.name, "doing": "signing pins.toml"})

        def changed(pins: dict[str, Pin]) -> dict[str, Pin]:
            mine = pins[self.name]
            if final and final not in (mine.next_identity, mine.next_host_key):
                raise PlanChanged("somebody else has changed its pins", server=self.name, hint="run it again")
            alike = {self.name} | {name for name, pin in pins.items() if beside and _is_same_machine(pin, mine, beside)}
            return pins | {name: change(pins[name]) for name in alike}

        self.workspace.write_pins(changed)


def _is_same_machine(pin: Pin, mine: Pin, host_key: str) -> bool:
    """Servers made from one image may share a host key: the address has to agree too."""
    return host_key in pin.host_keys and pin.address == mine.address and not pin.name.startswith(RETIRED)


def _with_identity(pin: Pin, old: str, new: str) -> Pin:
    return replace(pin, identity=new, next_identity="", former=(*pin.former, old))


def _with_host_key(pin: Pin, old: str, new: str) -> Pin:
    keys = tuple(new if key == old else key for key in pin.host_keys)
    return replace(pin, host_keys=keys, next_host_key="")
