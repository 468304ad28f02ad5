"""The servers of the fleet: list, show, check, facts, rename, update, remove."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from serverflow_actions import registry
from serverflow_actions.kit.change import Change

from ..config.edit import edit
from ..errors import ConfigError, OutcomeUnknown, PlanChanged, SfError, TrustError, Unreachable, UsageError
from ..model.ids import new_ulid
from ..model.result import CommandResult, Reply, Report, Request, ServerResult
from . import bundles
from .announced import Announced, on_keys
from .grants import every_action
from .pushing import bring_trust, trust_change
from .signing import check_free, difference, sign_next
from .workspace import JUMP, RETIRED, Workspace

if TYPE_CHECKING:
    from ..rpc.call import Caller
    from ..rpc.hello import Hello, Link
    from ..trust.trustfile import CommandKey, Trust
    from .bundles import SignedBundle

Approve = Callable[[CommandResult], bool]


async def list_servers(workspace: Workspace, *, selector: str) -> CommandResult:
    """From the files alone. The pins' signature is not checked here: nothing is decided by what is shown."""
    from ..config import pins

    known = pins.load(workspace.folder)
    names = workspace.select(selector) if workspace.servers else []
    rows = [
        {
            "name": name,
            "host": server.host,
            "port": server.port,
            "roles": list(server.roles),
            "tags": list(server.tags),
            "enrolled": name in known,
        }
        for name, server in ((name, workspace.servers[name]) for name in names)
    ]
    notes = () if rows else ("no servers yet: sf server add NAME root@HOST",)
    return CommandResult(workspace.label, data={"servers": rows}, notes=notes)


async def show(workspace: Workspace, name: str) -> CommandResult:
    (name,) = _only(workspace, name)
    server = workspace.fleet.servers[name]
    pin = workspace.pins.get(name)
    data: dict[str, Any] = {"name": name, **server.model_dump(exclude_none=True, mode="json")}
    if pin:
        granted = [
            key.name for key in workspace.trust.command if any(pin.server_id in grant.servers for grant in key.grants)
        ]
        data |= {
            "server_id": pin.server_id,
            "identity": pin.identity,
            "host_keys": list(pin.host_keys),
            **({"next_identity": pin.next_identity} if pin.next_identity else {}),
            **({"next_host_key": pin.next_host_key} if pin.next_host_key else {}),
            **({"announced_host_keys": announced} if (announced := Announced(workspace).of(pin.server_id)) else {}),
            "pinned_at": pin.pinned_at,
            "pinned_from": pin.origin,
            "keys_with_grants": granted,
        }
    return CommandResult(
        workspace.label, data=data, notes=() if pin else (f"not enrolled: sf server add {name} root@{server.host}",)
    )


async def check(workspace: Workspace, *, selector: str, report: Report) -> CommandResult:
    """Contact each: reachable, who it says it is, which versions it has, how far its clock is off."""
    names = workspace.select(selector)
    twins = workspace.twins
    heard: dict[str, Sequence[str]] = {}
    bundle = _fleets_bundle(workspace)
    async with workspace.caller() as caller:

        async def work(link: Link) -> Reply:
            started = time.monotonic()
            greeting, announced = await caller.greet_and_listen(link)
            took = int((time.monotonic() - started) * 1000)
            heard[link.server_id] = announced
            twin = (f"it is pinned as {twins[link.name]} too: git log pins.toml",) if link.name in twins else ()
            remarks = (*_remarks(greeting, workspace), *_on_bundle(greeting, bundle))
            notes = (*twin, *remarks, *on_keys(link, announced))
            return Reply("", "done", data=_state(greeting, took), notes=notes)

        servers = await workspace.on_all(names, work, report)
        Announced(workspace).keep(heard)
        return CommandResult(workspace.label, servers=servers)


def _state(greeting: Hello, took_ms: int) -> dict[str, Any]:
    return {
        "reachable": True,
        "trust": greeting.trust_version,
        "bundle": greeting.bundle_version,
        "clock_off_s": round((greeting.clock - time.time_ns() / 1_000_000) / 1000),
        "pending": greeting.pending,
        "ms": took_ms,
    }


def _remarks(greeting: Hello, workspace: Workspace) -> tuple[str, ...]:
    from ..rpc.call import OTHER_TRUST

    ours = workspace.trust.version
    if greeting.trust_version < ours:
        return (f"it has trust version {greeting.trust_version}, the fleet {ours}: sf server update",)
    if greeting.trust_version > ours:
        return (f"it has trust version {greeting.trust_version}, this fleet folder {ours}: pull the fleet folder",)
    if greeting.trust_sha256 != workspace.trust_sha256:
        return (OTHER_TRUST.format(version=ours),)
    return ()


def _fleets_bundle(workspace: Workspace) -> int:
    """The version of the fleet folder's bundle; 0 where it is not to be believed, which other commands say."""
    try:
        return bundles.stored(workspace).version
    except TrustError:
        return 0


def _on_bundle(greeting: Hello, ours: int) -> tuple[str, ...]:
    """Versions only go up, so a server with a higher one takes no bundle of this fleet any more."""
    if not 0 < ours < greeting.bundle_version:
        return ()
    return (
        f"it has bundle version {greeting.bundle_version}, this fleet folder {ours}: pull the fleet folder; if that is "
        'up to date, the bundle is not the fleet\'s, see "When a key is lost or stolen" in docs/security.md (release)',
    )


async def facts(workspace: Workspace, *, selector: str, report: Report) -> CommandResult:
    from .actions import read

    return await read(workspace, "system.info", selector, {}, report)


def check_new_name(workspace: Workspace, name: str) -> None:
    """Raises UsageError when a server cannot be called so."""
    if name in workspace.fleet.servers:
        raise UsageError(f"there is a server {name} already")
    if name in ("all", "local") or name.startswith((JUMP, RETIRED)):
        raise UsageError(f"{name} is reserved", hint="give another name")


async def rename(workspace: Workspace, old: str, new: str, *, plan: bool, approve: Approve) -> CommandResult:
    """A new name in fleet.toml, in what refers to it, and in the pins. The server itself is not touched."""
    (old,) = _only(workspace, old)
    check_new_name(workspace, new)
    if old in workspace.pins:
        workspace.root_signer()  # the pins are signed: without the key nothing is begun
    changes = (Change("update", "server", old, {"name": (old, new)}),)
    planned = CommandResult(workspace.label, servers=(ServerResult(old, Reply("", "done", changes)),))
    if plan:
        return planned
    if not approve(planned):
        raise SfError("nothing was done", code="declined")
    # Pinned under both names while fleet.toml changes: interrupted anywhere, either name works and the rest can follow.
    if old in workspace.pins:
        workspace.write_pins(lambda pins: pins | {new: replace(pins[old], name=new)})
    with edit(workspace.folder) as editor:
        editor.rename_entry("servers", old, new)
    if old in workspace.pins:
        workspace.write_pins(lambda pins: {name: pin for name, pin in pins.items() if name != old})
    return CommandResult(workspace.label, servers=(ServerResult(new, Reply("", "done", changes)),))


async def update(workspace: Workspace, *, selector: str, plan: bool, approve: Approve, report: Report) -> CommandResult:
    """Bring trust and bundle to all; nothing else does. A server that has both is left alone."""
    names = workspace.select(selector)
    granted, unsigned = _signable_actions(workspace)
    newest = granted.version if granted else workspace.trust.version
    version, notes = bundles.preview(workspace)
    async with workspace.caller() as caller:

        async def look(link: Link) -> Reply:
            greeting = await caller.greet(link)
            return Reply("", "done", _pending_changes(greeting, newest, version))

        rows = difference(workspace, granted).servers if granted else ()
        looked = await workspace.on_all(names, look, report)
        planned = CommandResult(workspace.label, servers=(*rows, *looked), notes=(*notes, *unsigned))
        if plan:
            return planned
        waiting = {server.name: server.reply.changes for server in looked if server.reply and server.reply.changes}
        if not waiting:
            return planned
        if not approve(planned):
            raise SfError("nothing was done", code="declined")
        if granted:
            sign_next(workspace, granted, report)
        bundle, notes = _signed_bundle(workspace, report)

        async def work(link: Link) -> Reply:
            return await _bring(workspace, caller, link, bundle, report)

        done = {s.name: s for s in await workspace.on_all(list(waiting), work, report)}
        servers = tuple(done.get(server.name, server) for server in planned.servers)
        return CommandResult(workspace.label, servers=servers, notes=(*notes, *unsigned))


def _pending_changes(greeting: Hello, trust: int, bundle: int) -> tuple[Change, ...]:
    changes = list(trust_change(greeting.trust_version, trust))
    if greeting.bundle_version < bundle:
        changes.append(Change("update", "bundle", "runner and actions", {"version": (greeting.bundle_version, bundle)}))
    return tuple(changes)


async def _bring(
    workspace: Workspace, caller: Caller, link: Link, bundle: SignedBundle | None, report: Report
) -> Reply:
    """Trust first, then the bundle, if it is newer."""
    from ..trust import sshsig

    async with caller.hold(link):
        greeting = await caller.greet(link)
        changes = _pending_changes(greeting, workspace.trust.version, bundle.version if bundle else 0)
        await bring_trust(workspace, caller, link, greeting.trust_version, report)
        if bundle and greeting.bundle_version < bundle.version:
            report({"t": "step", "server": link.name, "doing": f"bundle version {bundle.version}"})
            await caller.push(link, bundle.manifest, sshsig.dearmor(bundle.signature), bundle.files, report)
        return Reply("", "done" if changes else "unchanged", changes)


def _signable_actions(workspace: Workspace) -> tuple[Trust | None, tuple[str, ...]]:
    """The version with new actions, where this machine alone can sign it; else why not. What is signed, and so
    revocations, must not wait for that.
    """
    granted = _with_new_actions(workspace)
    if granted is None:
        return None, ()
    try:
        signers = workspace.root_signers(granted)
        check_free(workspace, granted)
    except (TrustError, PlanChanged) as error:
        return None, (f"nobody gets the new actions of this sf yet: {error.message}",)
    if len(signers) < workspace.trust.root.threshold:
        return None, ("nobody gets the new actions of this sf yet: several root keys have to sign, with sf trust sign",)
    return granted, ()


def _with_new_actions(workspace: Workspace) -> Trust | None:
    """A grant names actions one by one, so a new registry grants nothing: the next trust version, in which those who
    may do everything may do the new ones too; None when they may already.
    """
    from ..trust import chain

    trust, every = workspace.trust, set(every_action())

    def grown(key: CommandKey) -> CommandKey:
        if not key.everything or all(every <= set(grant.actions) for grant in key.grants):
            return key
        grants = (replace(one, actions=tuple(sorted(every | set(one.actions)))) for one in key.grants)
        return replace(key, grants=tuple(grants))

    keys = tuple(map(grown, trust.command))
    return None if keys == trust.command else chain.successor(trust, command=keys)


def _signed_bundle(workspace: Workspace, report: Report) -> tuple[SignedBundle | None, tuple[str, ...]]:
    """The bundle to bring. None when we alone cannot sign it: trust, and so revocations, still go out."""
    try:
        return bundles.ensure(workspace, report), ()
    except TrustError as error:
        if error.code not in bundles.NOT_BROUGHT:
            raise
        return None, (bundles.not_brought(error),)


async def remove(
    workspace: Workspace, name: str, *, plan: bool, approve: Approve, report: Report, forget: bool = False
) -> CommandResult:
    """Take ServerFlow off the server and the server out of the fleet. With `forget` the server is not contacted."""
    (name,) = _only(workspace, name)
    workspace.root_signer()
    _check_removable(workspace, name)
    if following := _without(workspace, name):
        check_free(workspace, following)
    changes = [] if forget else [Change("delete", "login", "serverflow account, keys, runner and state")]
    changes.append(Change("delete", "server", f"{name} in fleet.toml, pins and grants"))
    planned = CommandResult(workspace.label, servers=(ServerResult(name, Reply("", "done", tuple(changes))),))
    if plan:
        return planned
    if not approve(planned):
        raise SfError("nothing was done", code="declined")
    op_id, left = new_ulid(), []
    if not forget and name in workspace.pins:
        left = await _leave(workspace, workspace.link(name), op_id, report)
    notes = (*_drop(workspace, name, report), *(f"left on the server: {path}" for path in left))
    return CommandResult(
        workspace.label, op_id, (ServerResult(name, Reply(op_id, "done", tuple(changes), notes=notes)),)
    )


def _check_removable(workspace: Workspace, name: str) -> None:
    """That nothing else in fleet.toml names it, before the server is taken apart. Raises ConfigError."""
    from ..config.edit import Editor
    from ..config.load import parse, read_text

    editor = Editor(read_text(workspace.folder.fleet_toml))
    editor.remove_entry("servers", name)
    try:
        parse(editor.text)
    except ConfigError as error:
        error.hint = f"take out what is meant for {name}, or give it another server; then remove {name}"
        raise


async def _leave(workspace: Workspace, link: Link, op_id: str, report: Report) -> list[str]:
    """Ask the server to take it all away, and see that the login is closed. Raises SfError."""
    async with workspace.caller() as caller:
        request = Request("server.leave", {"confirm": link.server_id}, timeout_s=60)
        try:
            reply = await caller.call(link, request, op_id, registry.load("server.leave").version, report)
        except (Unreachable, TrustError) as error:
            error.hint = f"if it is gone for good, or has left already: sf server remove {link.name} --forget"
            raise
        for _ in range(40):
            await asyncio.sleep(0.5)
            try:
                await caller.greet(link)
            except Unreachable:
                continue  # the runner and its sudo rule go before the login does
            except TrustError as error:
                if error.code != "ssh-key-refused":
                    raise
                return [str(path) for path in reply.data.get("left", [])]
        raise SfError(
            "the server accepted to leave the fleet, but its login still works", server=link.name, hint="run it again"
        )


def _drop(workspace: Workspace, name: str, report: Report) -> tuple[str, ...]:
    """Grants first: whatever is interrupted after that, nobody may act on the server any more. Returns notes."""
    notes: tuple[str, ...] = ()
    if following := _without(workspace, name):
        try:
            notes = tuple(sign_next(workspace, following, report))
        except OutcomeUnknown as waiting:
            # Meanwhile the grants are for a server that takes no commands any more.
            notes = (f"{waiting.message}, to take its grants out: sf trust sign",)
    if pin := workspace.pins.get(name):
        # Its receipts stay in the chains, and have to stay verifiable.
        retired = replace(pin, name=f"{RETIRED}{pin.server_id[:12]}")
        workspace.write_pins(lambda pins: {n: p for n, p in pins.items() if n != name} | {retired.name: retired})
    with edit(workspace.folder) as editor:
        editor.remove_entry("servers", name)
    workspace.refresh()
    return notes


def _without(workspace: Workspace, name: str) -> Trust | None:
    """The next trust version, without grants on this server; None when there are none."""
    from ..trust import chain

    pin = workspace.pins.get(name)
    granted = {server for key in workspace.trust.command for grant in key.grants for server in grant.servers}
    return chain.next_without_server(workspace.trust, pin.server_id) if pin and pin.server_id in granted else None


def _only(workspace: Workspace, name: str) -> list[str]:
    """One server by its plain name."""
    found = workspace.select(name)
    if found != [name]:
        raise UsageError(f"{name} is not the name of one server")
    return found
