"""`sf server add`: from the administrator's SSH access to a server that takes signed commands only.

Each step can be interrupted and the command run again: what is done is found done. Nothing is written into fleet.toml
before a fresh connection as the new login has answered with a verified receipt.
"""

from __future__ import annotations

import base64
import getpass
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from serverflow_actions import registry

from ..config.edit import edit
from ..config.pins import Pin
from ..errors import ActionFailed, ConfigError, OutcomeUnknown, SfError, TrustError, Unreachable, UsageError
from ..model.ids import new_ulid
from ..model.result import CommandResult, Report, Request, ServerResult
from . import bundles, grants
from .ask import Ask
from .signing import sign_next, words
from .workspace import JUMP, LOGIN, RETIRED, Workspace, jump_pin_name

if TYPE_CHECKING:
    from ..config.pins import Origin
    from ..rpc.hello import Link
    from ..transport.admin import AdminShell, Destination, Seen
    from ..trust.trustfile import CommandKey
    from .bundles import SignedBundle

CONFIRM_S = 120
_BOOTSTRAP = 'import sys;r=sys.stdin.buffer.read;exec(compile(r(int.from_bytes(r(4),"big")),"enroll","exec"))'
_ANSWER = b"serverflow-enroll "
_SUPPORTED = {"debian": ("11", "12", "13"), "ubuntu": ("22.04", "24.04", "26.04")}
_OLDEST_PYTHON = [3, 9]


@dataclass(frozen=True)
class EnrollRequest:
    """The command line of `sf server add`."""

    name: str
    destination: str
    port: int | None = None
    roles: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    identity_files: tuple[str, ...] = ()
    jump: str | None = None
    ask_sudo: bool = False
    fingerprint: str | None = None
    install_missing: bool = False


async def add(workspace: Workspace, request: EnrollRequest, ask: Ask, report: Report) -> CommandResult:
    """Enrol a server, or finish or repair an enrolment. Raises SfError; the server is then as it was, or can be
    enrolled again.
    """
    from ..transport import admin

    if request.name in ("all", "local") or request.name.startswith((JUMP, RETIRED)):
        raise UsageError(f"{request.name} is reserved")
    workspace.root_signer()  # before anything is touched: without it the server could not be granted
    destination = _destination(request)
    report({"t": "step", "server": request.name, "doing": f"looking at {destination.host}"})
    through = await admin.look_at_jump(destination) if destination.jump else None
    shown = await admin.look(destination)
    _check_name(workspace, request, shown)
    seen = _settle(shown, request, ask, report)
    password = (
        ask.hidden(f"sudo password for {seen.user} on {seen.host}", otherwise="run it on a terminal")
        if request.ask_sudo
        else ""
    )
    async with _shell(destination, seen, password, ask) as shell:
        server = _Server(shell, request.name, report)
        await server.prepare(workspace.fleet_id, request, ask)
        bundle = bundles.ensure(workspace, report)
        placed = await server.place(bundle)
        _check_not_a_clone(workspace, request.name, placed["server_id"])
        _check_identity(workspace, request, placed)
        jump = _pin_jump(workspace, request, through)
        _pin(workspace, request, seen, placed)
        notes = _grant(workspace, request, placed["server_id"], ask, report)
        op_id = new_ulid()
        armed = await server.arm(workspace, op_id)
        try:
            reply = await _prove(workspace, _link(workspace, request.name, seen, jump), op_id if armed else "", report)
        except SfError:
            if armed:
                await server.undo(op_id)
            raise
    _enter(workspace, request, seen, jump)
    result = ServerResult(request.name, reply)
    return CommandResult(
        str(workspace.folder.path),
        op_id,
        (result,),
        {},
        (*notes, f"{request.name} takes signed commands now: sf system info --on {request.name}"),
    )


def _check_name(workspace: Workspace, request: EnrollRequest, seen: Seen) -> None:
    known = workspace.fleet.servers.get(request.name)
    if known and request.name in workspace.pins and known.host != seen.host:
        raise UsageError(
            f"{request.name} is {known.host} already", hint="give another name, or sf server remove it first"
        )


def _destination(request: EnrollRequest) -> Destination:
    from ..model.address import parse_jump
    from ..transport.admin import Destination

    try:
        # The same grammar as a jump host; an alias of ~/.ssh/config is a host name too.
        parsed = parse_jump(request.destination)
        explicit = request.destination.rpartition("@")[2].count(":") == 1 or "]:" in request.destination
        port = request.port or (parsed.port if explicit else 0)
    except ValueError as error:
        raise UsageError(f"{request.destination!r}: {error}", hint="sf server add web1 root@203.0.113.7") from None
    try:
        parse_jump(request.jump) if request.jump else None
    except ValueError as error:
        raise UsageError(f"--jump: {error}", hint="--jump ana@bastion.example.com") from None
    return Destination(request.name, parsed.host, parsed.user, port, request.identity_files, request.jump or "")


def _settle(seen: Seen, request: EnrollRequest, ask: Ask, report: Report) -> Seen:
    """Who vouches for the host key: `--fingerprint`, known_hosts, or a person. Raises TrustError."""
    from dataclasses import replace

    if request.fingerprint:
        if request.fingerprint != seen.fingerprint:
            raise TrustError(
                f"the host key's fingerprint is {seen.fingerprint}, not the given one",
                server=request.name,
                code="host-key-changed",
            )
        return replace(seen, origin="fingerprint")
    if seen.origin:
        report({"t": "note", "server": request.name, "text": f"host key {seen.fingerprint} is in known_hosts"})
        return seen
    question = (
        f"The host key of {seen.host} has the fingerprint {seen.fingerprint}. Compare it on the provider's console: "
        "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub. Is it the same?"
    )
    if not ask.confirm(
        question, otherwise=f"add --fingerprint {seen.fingerprint} once you have compared it on the provider's console"
    ):
        raise TrustError("the host key was not accepted", server=request.name, code="host-key-not-accepted")
    return replace(seen, origin="prompt")


@asynccontextmanager
async def _shell(destination: Destination, seen: Seen, password: str, ask: Ask) -> AsyncIterator[AdminShell]:
    from ..transport import admin

    def passphrase(file: str) -> str:
        return ask.hidden(f"passphrase for {file}", otherwise="load the key into ssh-agent")

    async with admin.login(destination, seen, password, passphrase) as shell:
        yield shell


class _Server:
    """The stages of remote/enroll.py, run over the administrator's shell."""

    def __init__(self, shell: AdminShell, name: str, report: Report) -> None:
        self._shell = shell
        self._name = name
        self._report = report

    async def prepare(self, fleet_id: str, request: EnrollRequest, ask: Ask) -> None:
        """Supported, complete and not somebody else's. Raises ActionFailed or ConfigError."""
        await self._python(request, ask)
        found = await self._stage("inspect", "looking around", {})
        if not found["root"]:
            raise ActionFailed("this login is not root, and sudo did not make it root", server=self._name)
        versions = _SUPPORTED.get(found["os"], ())
        if found["version"] not in versions or not found["systemd"]:
            what = found["name"] or "this system"
            reason = "does not run systemd" if versions and not found["systemd"] else "is not supported"
            raise ActionFailed(
                f"{what} {reason}; Debian 11–13 and Ubuntu 22.04+ with systemd are",
                server=self._name,
                code="unsupported",
            )
        if found["python"] < _OLDEST_PYTHON:
            raise ActionFailed("its python3 is older than 3.9", server=self._name, code="unsupported")
        if found["fleet"] not in ("", fleet_id):
            raise ConfigError(
                f"it belongs to another fleet ({found['fleet']})",
                server=self._name,
                hint="sf server remove it there first",
            )
        if found["missing"]:
            await self._install(found["missing"], request, ask)

    async def _python(self, request: EnrollRequest, ask: Ask) -> None:
        code, _, said = await self._shell.attempt(["python3", "-c", ""])
        if code == 0:
            return
        if code != 127 and "not found" not in said:
            raise ActionFailed(said[-300:] or "python3 does not start", server=self._name)
        self._agree(["python3"], request, ask)
        await self._shell.run(["apt-get", "-q", "update"])
        await self._shell.run(["apt-get", "-q", "-y", "--no-install-recommends", "install", "python3"])

    async def _install(self, tools: list[str], request: EnrollRequest, ask: Ask) -> None:
        self._agree(tools, request, ask)
        await self._stage("tools", f"installing {', '.join(tools)}", {"tools": tools})

    def _agree(self, tools: list[str], request: EnrollRequest, ask: Ask) -> None:
        names = ", ".join(tools)
        if not request.install_missing and not ask.confirm(
            f"{self._name} lacks {names}. Install with apt?", otherwise=f"add --yes to install {names}"
        ):
            raise ActionFailed(f"{names} is needed on the server", server=self._name, code="needs-package")

    async def place(self, bundle: SignedBundle) -> dict[str, Any]:
        request = {
            "version": bundle.version,
            "manifest": base64.b64encode(bundle.manifest).decode(),
            "signature": bundle.signature,
        }
        return await self._stage("place", "placing the runner", request, b"".join(bundle.files))

    async def arm(self, workspace: Workspace, op_id: str) -> bool:
        """Trust, sudo and sshd; undone by the server itself after two minutes unless it is confirmed.

        False when all of it stood already and nothing was done.
        """
        folder = workspace.folder.trust
        versions = range(1, workspace.trust.version + 1)
        files = {
            f"{n}.json{suffix}": (folder / f"{n}.json{suffix}").read_bytes()
            for n in versions
            for suffix in ("", ".sig")
        }
        encoded = {name: base64.b64encode(data).decode() for name, data in files.items()}
        request = {"op_id": op_id, "fleet": workspace.fleet_id, "trust": encoded, "seconds": CONFIRM_S}
        return bool((await self._stage("arm", "opening the login", request))["armed"])

    async def undo(self, op_id: str) -> None:
        """Best effort: the server does the same by itself at the deadline."""
        try:
            undone = await self._stage("undo", "putting everything back", {"op_id": op_id})
            for problem in undone["problems"]:
                self._report({"t": "note", "server": self._name, "text": f"could not be put back: {problem}"})
            if undone["confirmed"]:
                self._report({"t": "note", "server": self._name, "text": "it was confirmed all the same: run it again"})
        except SfError as error:
            self._report(
                {
                    "t": "note",
                    "server": self._name,
                    "text": f"it will put everything back by itself within {CONFIRM_S} s ({error.message})",
                }
            )

    async def _stage(self, stage: str, doing: str, request: dict[str, Any], data: bytes = b"") -> dict[str, Any]:
        self._report({"t": "step", "server": self._name, "doing": doing})
        source = _enroll_source()
        body = json.dumps({"stage": stage, **request}).encode()
        payload = len(source).to_bytes(4, "big") + source + len(body).to_bytes(4, "big") + body + data
        code, out, said = await self._shell.attempt(["python3", "-IS", "-c", _BOOTSTRAP], payload)
        line = next((line for line in out.splitlines() if line.startswith(_ANSWER)), None)
        if line is None:
            raise ActionFailed(f"{doing} failed: {said[-500:] or f'exit code {code}'}", server=self._name)
        answer: dict[str, Any] = json.loads(line.removeprefix(_ANSWER))
        if not answer["ok"]:
            raise ActionFailed(f"{doing} failed: {answer['error']}", server=self._name)
        return answer


def _enroll_source() -> bytes:
    from ..trust import bundle

    return bundle.collect()["enroll.py"]


def _check_not_a_clone(workspace: Workspace, name: str, server_id: str) -> None:
    for other, pin in workspace.pins.items():
        if other != name and not other.startswith(RETIRED) and pin.server_id == server_id:
            raise ConfigError(
                f"it has the server id of {other}: one is a copy of the other",
                server=name,
                hint="on the copy, as root: rm -r /etc/serverflow /var/lib/serverflow, then run this again",
            )


def _grant(workspace: Workspace, request: EnrollRequest, server_id: str, ask: Ask, report: Report) -> list[str]:
    """Trust version N+1, in which the keys that may do everything may on this server too, and those that fleet.toml
    means, once somebody has agreed. Returns notes.

    Raises OutcomeUnknown while other root keys have to sign: then `sf server add` goes on from here.
    """
    from ..model.fleet import Server
    from ..trust import chain

    if not workspace.key_name:
        raise TrustError("our command key is not in the trust file", hint="sf trust show")
    known = workspace.fleet.servers.get(request.name)
    labels = Server.model_validate(
        {
            "host": "localhost",  # only its labels count here
            "roles": request.roles or (known.roles if known else ()),
            "tags": request.tags or (known.tags if known else ()),
        }
    )
    keys, invited = grants.with_server(workspace.trust, workspace.fleet, request.name, labels, server_id)
    agreed = [key for key in invited if _agrees(workspace, request, key, ask)]
    joined = {key.public_key: key for key in agreed}
    keys = tuple(joined.get(key.public_key, key) for key in keys)
    left = [key.name for key in invited if key not in agreed]
    notes = [f"{name} is not let in to {request.name}, as fleet.toml would have it: sf trust sign" for name in left]
    if keys == workspace.trust.command:
        return notes
    try:
        return notes + sign_next(workspace, chain.successor(workspace.trust, command=keys), report)
    except OutcomeUnknown as waiting:
        waiting.hint += f"; then run sf server add {request.name} again"
        raise


def _agrees(workspace: Workspace, request: EnrollRequest, key: CommandKey, ask: Ask) -> bool:
    """Selectors are a wish of fleet.toml, which nobody signs; so a person decides, now or with `sf trust sign`. `--yes`
    is for what the server needs, not for this.
    """
    from ..trust.difference import Words, grants_text

    told = grants_text(key.grants, Words(lambda _: request.name, words(workspace).actions))
    try:
        return ask.confirm(f"By fleet.toml, {key.name} is to be let in to {request.name}: {told}. Sign that too?")
    except UsageError:
        return False


def _pin(workspace: Workspace, request: EnrollRequest, seen: Seen, placed: dict[str, Any]) -> None:
    known = workspace.pins.get(request.name)
    same = known if known and known.server_id == placed["server_id"] else None
    if same and placed["identity"] in (same.identity, same.next_identity) and seen.key in same.accepted_host_keys:
        return
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    address = f"{seen.host}:{seen.port}"
    identity = placed["identity"]
    # Its receipts stay verifiable.
    former = tuple(key for key in same.identities if key != identity) if same else ()
    origin = cast("Origin", seen.origin)
    pin = Pin(request.name, (seen.key,), origin, moment, address, placed["server_id"], identity, former=former)
    workspace.write_pins(lambda pins: pins | {request.name: pin})


def _check_identity(workspace: Workspace, request: EnrollRequest, placed: dict[str, Any]) -> None:
    """A server that is in the fleet already must be that server. An enrolment that never ended binds nothing."""
    known = workspace.pins.get(request.name)
    if not known or request.name not in workspace.fleet.servers:
        return
    if known.server_id != placed["server_id"] or placed["identity"] not in (known.identity, known.next_identity):
        raise TrustError(
            "it has another identity than the pinned one",
            server=request.name,
            code="identity-changed",
            hint=f"if it was reinstalled: sf server remove {request.name} --forget, then add it again",
        )


def _pin_jump(workspace: Workspace, request: EnrollRequest, through: Seen | None) -> str | None:
    """Pin the jump host's key; returns `jump` for fleet.toml, with what ~/.ssh/config said of an alias."""
    if through is None or request.jump is None:
        return None
    name = jump_pin_name(through.host, through.port)
    known = workspace.pins.get(name)
    if known is None or known.host_keys != (through.key,):
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        pin = Pin(name, (through.key,), cast("Origin", through.origin), moment, f"{through.host}:{through.port}")
        workspace.write_pins(lambda pins: pins | {name: pin})
    # One's own name is left out: colleagues have theirs.
    login = f"{through.user}@" if "@" in request.jump or through.user != getpass.getuser() else ""
    host = f"[{through.host}]" if ":" in through.host else through.host
    return f"{login}{host}" + (f":{through.port}" if through.port != 22 else "")


async def _prove(workspace: Workspace, link: Link, op_id: str, report: Report) -> Any:
    """A fresh connection as the new login, with a verified HELLO, confirms the change. Raises SfError.

    Without an `op_id` there is nothing to confirm, and a signed read proves that the login works.
    """
    report({"t": "step", "server": link.name, "doing": "confirming over a fresh connection"})
    action, params = ("safe.confirm", {"op": op_id}) if op_id else ("safe.status", {})
    request = Request(action, params, timeout_s=60, read_only=not op_id)
    async with workspace.caller() as caller:
        await _reachable(caller, link)
        return await caller.call(link, request, new_ulid(), registry.load(action).version, report)


async def _reachable(caller: Any, link: Link) -> None:
    """sshd takes a moment to read its configuration again after a reload."""
    import asyncio

    deadline = time.monotonic() + 10
    while True:
        try:
            await caller.greet(link)
            return
        except (TrustError, Unreachable):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


def _link(workspace: Workspace, name: str, seen: Seen, jump: str | None) -> Link:
    from ..rpc.hello import Link
    from ..transport.ssh import Endpoint

    pin = workspace.pins[name]
    endpoint = Endpoint(name, seen.host, seen.port, LOGIN, pin.accepted_host_keys, workspace.jump_endpoint(jump))
    return Link.of(endpoint, pin)


def _enter(workspace: Workspace, request: EnrollRequest, seen: Seen, jump: str | None) -> None:
    """Into fleet.toml, last. Roles and tags that were given replace the ones that are there; others stay."""
    values: dict[str, Any] = {"host": seen.host, "port": seen.port if seen.port != 22 else None, "jump": jump}
    if request.roles:
        values["roles"] = list(request.roles)
    if request.tags:
        values["tags"] = list(request.tags)
    with edit(workspace.folder) as editor:
        editor.set_entry("servers", request.name, values)
    workspace.refresh()
