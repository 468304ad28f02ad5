"""The fleet as one invocation sees it: folder, file, trust, pins, keys. Each is read when it is first asked for."""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import folder as folders
from ..config.environment import Settings
from ..config.folder import FleetFolder
from ..errors import ConfigError, TrustError
from ..model.result import Reply, Report, ServerResult

if TYPE_CHECKING:
    from ..config.pins import Pin
    from ..config.servers import ServerAddress
    from ..model.fleet import Fleet
    from ..rpc.call import Caller
    from ..rpc.hello import Link
    from ..transport.ssh import Endpoint
    from ..trust.sshsig import Signer
    from ..trust.trustfile import Trust
    from .ask import Ask
    from .keyring import Keyring

LOGIN = "serverflow"
#: Names in pins.toml that are no servers: jump hosts, and servers that have left, whose receipts stay verifiable.
JUMP, RETIRED = "jump-", "retired-"


class Workspace:
    """One fleet. Opening it reads nothing but its path. `ask` is None where nobody can be asked."""

    def __init__(self, folder: FleetFolder, settings: Settings, ask: Ask | None = None) -> None:
        self.folder = folder
        self.settings = settings
        self._ask = ask

    @property
    def label(self) -> str:
        """What every mutation prints, so that nobody changes the wrong fleet."""
        return str(self.folder.path)

    @cached_property
    def fleet(self) -> Fleet:
        from ..config.load import load

        return load(self.folder)

    @cached_property
    def servers(self) -> Mapping[str, ServerAddress]:
        """The servers' addresses and labels: all that most commands need of fleet.toml."""
        from ..config.servers import load_servers

        return load_servers(self.folder, self.state / "fleet.sha256")

    @cached_property
    def fleet_id(self) -> str:
        """From trust/1.json, unverified: it only says in which of our own folders to look."""
        try:
            text = (self.folder.trust / "1.json").read_text()
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{self.folder.trust}/1.json cannot be read: {error}", hint="in a new fleet: sf init"
            ) from error
        found = re.search(r'"fleet": "([0-9a-f]{32})"', text)
        if not found:
            raise ConfigError(f"{self.folder.trust}/1.json is not a trust file")
        return found.group(1)

    @property
    def private(self) -> Path:
        """Keys and the anchor of this fleet; 0700."""
        return folders.data_dir() / self.fleet_id

    @property
    def state(self) -> Path:
        """Receipts of this fleet."""
        return folders.state_dir() / self.fleet_id

    @property
    def chain(self) -> Path:
        return self.state / "receipts.jsonl"

    @cached_property
    def trust(self) -> Trust:
        """The newest trust version, verified from the first one on and against what this machine has seen."""
        from ..trust import anchor as anchors
        from ..trust import chain

        path = self.private / "anchor.json"
        known = anchors.load(path)
        if known is None:
            known = anchors.from_fingerprints(self.settings.root or self._root_read_out())
        trust = chain.load_chain(self.folder.trust, known)
        found = chain.anchor_of(trust)
        if found != known:
            anchors.save(path, found)
        return trust

    def _root_read_out(self) -> str:
        """A new clone's first contact. What the clone itself says is not shown: it would be typed off."""
        hint = "set SF_ROOT to the root fingerprint (SHA256:…) that a colleague reads out"
        if self._ask is None:
            raise TrustError(
                "this machine has not seen this fleet yet, and git cannot vouch for it", code="no-anchor", hint=hint
            )
        return self._ask.text("Root fingerprint that a colleague reads out (sf trust show)", otherwise=hint)

    @cached_property
    def pins(self) -> dict[str, Pin]:
        """The pins, once a root key's signature over the file is checked, and that it is none of the past."""
        from ..config import pins
        from ..trust import seen as records
        from ..trust import sshsig

        seen = records.load(self._pins_seen)
        data = pins.read_bytes(self.folder)
        if not data:
            records.advance(self._pins_seen, seen, "pins.toml", 0, b"")
            return {}
        try:
            blobs = sshsig.dearmor(self.pins_signature.read_text())
        except (OSError, ValueError):
            raise TrustError("pins.toml is not signed", hint="git log pins.toml pins.toml.sig") from None
        roots = {key.public_key for key in self.trust.root.keys}
        if not any(sshsig.signer_of(blob, sshsig.PINS, data) in roots for blob in blobs):
            raise TrustError("pins.toml is not signed by a root key of this fleet", hint="git log pins.toml")
        found = pins.parse(data)
        if pins.fleet(data) != self.trust.fleet:
            raise TrustError("pins.toml is another fleet's", hint="git log pins.toml")
        records.advance(self._pins_seen, seen, "pins.toml", pins.version(data), data)
        return found

    @property
    def twins(self) -> dict[str, str]:
        """Servers whose pin is another one's too, with the other: what is meant for one is done on the other. Whoever
        has a single root key can make such a pin; it is told, by `sf trust status` and `sf server check`.
        """
        from ..config import pins

        return pins.twins(self.pins, self.servers)

    @property
    def _pins_seen(self) -> Path:
        return self.private / "pins.seen.json"

    @property
    def trust_sha256(self) -> str:
        """Of the newest version's bytes: servers say theirs, and two of one number may differ."""
        from ..trust import trustfile

        return hashlib.sha256(trustfile.body(self.trust)).hexdigest()

    @property
    def pins_signature(self) -> Path:
        return self.folder.path / "pins.toml.sig"

    def write_pins(self, change: Callable[[dict[str, Pin]], dict[str, Pin]]) -> None:
        """Read pins.toml again, change, sign and write it. A crash in between leaves the old pins or the new ones: the
        new signature goes first, beside those of the old file.
        """
        from ..config import pins
        from ..config.atomic import locked, write_atomic
        from ..trust import seen as records
        from ..trust import sshsig

        with locked(self.folder.pins_toml):
            self.__dict__.pop("pins", None)
            changed = change(dict(self.pins))
            version = pins.version(pins.read_bytes(self.folder)) + 1
            data = pins.dump(changed, version, self.trust.fleet)
            pins.parse(data)  # what a server said of itself must not be signed if it cannot be read again
            signature = sshsig.armor(sshsig.sign(self.root_signer(), sshsig.PINS, data))
            before = self.pins_signature.read_text() if self.pins else ""
            write_atomic(self.pins_signature, (signature + before).encode())
            write_atomic(self.folder.pins_toml, data)
            write_atomic(self.pins_signature, signature.encode())
            records.advance(self._pins_seen, records.load(self._pins_seen), "pins.toml", version, data)
        self.__dict__["pins"] = changed

    def refresh(self) -> None:
        """Forget what was read, after it was changed."""
        for name in ("fleet", "servers", "trust", "pins", "signer"):
            self.__dict__.pop(name, None)

    # --- keys --------------------------------------------------------------------------------------------------------

    @cached_property
    def keyring(self) -> Keyring:
        """What this machine can sign with."""
        from .keyring import Keyring

        return Keyring(self.private, self.settings, self._ask)

    @cached_property
    def signer(self) -> Signer:
        """Our command key."""
        return self.keyring.command(self._command_keys)

    def root_signer(self) -> Signer:
        """A root key; only for what changes trust. Raises TrustError when none is on this machine."""
        return self._role_signer("root", "only who holds a root key can add servers or change keys")

    def root_signers(self, after: Trust) -> list[Signer]:
        """Every root key of this machine that may sign the version after the newest. Raises TrustError for none."""
        from ..trust import chain

        self.root_signer()
        return self.keyring.signers("root", chain.publics(self.trust.root) | chain.publics(after.root))

    def release_signer(self) -> Signer:
        return self._role_signer("release", "only who holds a release key can sign a new bundle")

    def _role_signer(self, role: str, hint: str) -> Signer:
        listed = self.trust.root if role == "root" else self.trust.release
        signers = self.keyring.signers(role, {key.public_key for key in listed.keys})
        if not signers:
            place = self.keyring.path(role)
            found = "is not in the trust file" if place.exists() else "is not on this machine"
            raise TrustError(f"the {role} key {found} ({place})", hint=hint, code=f"no-{role}-key")
        return signers[0]

    @property
    def _command_keys(self) -> set[bytes]:
        return {key.public_key for key in self.trust.command}

    @property
    def public_key(self) -> bytes:
        """Our command key's public half; nobody is asked for a passphrase."""
        return self.keyring.command_public(self._command_keys)

    @property
    def key_name(self) -> str:
        """The name that the trust file gives our command key."""
        mine = self.public_key
        return next((key.name for key in self.trust.command if key.public_key == mine), "")

    # --- servers -----------------------------------------------------------------------------------------------------

    @property
    def ids(self) -> dict[str, str]:
        """The server ids of the fleet's enrolled servers, by name."""
        return {name: self.pins[name].server_id for name in self.servers if name in self.pins}

    def select(self, selector: str) -> list[str]:
        from ..model.selector import resolve

        return resolve(self.servers, selector)

    def select_in_need(self, selector: str, report: Report) -> list[str]:
        """The same while a change counts down: addresses are enough, whatever else is wrong in fleet.toml."""
        from ..config.servers import servers_alone

        try:
            return self.select(selector)
        except ConfigError as error:
            try:
                self.__dict__["servers"] = servers_alone(self.folder)
            except ConfigError:
                raise error from None
        report({"t": "note", "text": "fleet.toml has mistakes (sf plan shows them): only its servers were read"})
        return self.select(selector)

    def link(self, name: str) -> Link:
        """Raises ConfigError for a server that was never enrolled."""
        from ..rpc.hello import Link

        pin = self.pins.get(name)
        if pin is None or not pin.server_id:
            raise ConfigError(f"{name} is not enrolled", hint=f"sf server add {name} root@HOST", code="not-enrolled")
        return Link.of(self.endpoint(name), pin)

    def endpoint(self, name: str) -> Endpoint:
        from ..transport.ssh import Endpoint

        server = self.servers[name]
        return Endpoint(
            name, server.host, server.port, LOGIN, self.pins[name].accepted_host_keys, self.jump_endpoint(server.jump)
        )

    def jump_endpoint(self, jump: str | None) -> Endpoint | None:
        from ..model.address import parse_jump
        from ..transport.ssh import Endpoint

        if not jump:
            return None
        parsed = parse_jump(jump)
        pin = self.pins.get(jump_pin_name(parsed.host, parsed.port))
        if pin is None:
            raise ConfigError(
                f"the jump host {parsed.host} has no pin", hint="sf server add NAME USER@HOST --jump … again"
            )
        name = f"jump host {parsed.host}"
        return Endpoint(name, parsed.host, parsed.port, parsed.user, pin.accepted_host_keys, personal=True)

    @asynccontextmanager
    async def caller(self, signer: Signer | None = None) -> AsyncIterator[Caller]:
        """Connections with our SSH key; closed at the end. With a `signer`, that key alone signs and logs in."""
        from ..rpc.call import Caller, Operator
        from ..transport.ssh import Connector

        name = f"{_login_name()}@{socket.gethostname()}"
        # Before our key: a fleet that is not to be trusted is not spoken for.
        version, digest = self.trust.version, self.trust_sha256
        sent = self.state / "sent.jsonl"
        operator = Operator(signer or self.signer, version, digest, self.chain, sent, name, self.folder.trust)
        login = self.keyring.login_of(signer) if signer else self.keyring.login_keys()
        async with Connector(login) as connector:
            yield Caller(connector, operator)

    async def on_all(
        self, names: Collection[str], work: Callable[[Link], Awaitable[Reply]], report: Report
    ) -> tuple[ServerResult, ...]:
        """Run `work` on these servers at once. One that was never enrolled is an error of its own, not everybody's."""
        from ..rpc.fanout import on_all

        links, failed = [], {}
        for name in names:
            try:
                links.append(self.link(name))
            except ConfigError as error:
                error.server = name
                failed[name] = ServerResult(name, error=error)
        done = {result.name: result for result in await on_all(links, work, report)} | failed
        return tuple(done[name] for name in names)


def jump_pin_name(host: str, port: int) -> str:
    """A jump host's entry in pins.toml."""
    return f"{JUMP}{host}" if port == 22 else f"{JUMP}{host}:{port}"


async def open_workspace(settings: Settings, ask: Ask | None = None) -> Workspace:
    """The fleet that the options and the environment point to. Raises ConfigError when there is none."""
    return Workspace(folders.find(settings.fleet or None, {}), settings, ask)


def _login_name() -> str:
    """For people only. A container may run as a user id that has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
