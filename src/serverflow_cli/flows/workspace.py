"""The fleet as one invocation sees it: folder, file, trust, pins, keys. Each is read when it is first asked for."""

from __future__ import annotations

import getpass
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

LOGIN = "serverflow"
#: Names in pins.toml that are no servers: jump hosts, and servers that have left, whose receipts stay verifiable.
JUMP, RETIRED = "jump-", "retired-"


class Workspace:
    """One fleet. Opening it reads nothing but its path."""

    def __init__(self, folder: FleetFolder, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings

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
            if not self.settings.root:
                raise TrustError(
                    "this machine has not seen this fleet yet, and git cannot vouch for it",
                    code="no-anchor",
                    hint="set SF_ROOT to the root fingerprint (SHA256:…) that a colleague reads out",
                )
            known = anchors.from_fingerprints(self.settings.root)
        trust = chain.load_chain(self.folder.trust, known)
        found = chain.anchor_of(trust)
        if found != known:
            anchors.save(path, found)
        return trust

    @cached_property
    def pins(self) -> dict[str, Pin]:
        """The pins, once a root key's signature over the file is checked."""
        from ..config import pins
        from ..trust import sshsig

        data = pins.read_bytes(self.folder)
        if not data:
            return {}
        try:
            blobs = sshsig.dearmor(self.pins_signature.read_text())
        except (OSError, ValueError):
            raise TrustError("pins.toml is not signed", hint="git log pins.toml pins.toml.sig") from None
        roots = {key.public_key for key in self.trust.root.keys}
        if not any(_pins_signer(blob, data) in roots for blob in blobs):
            raise TrustError("pins.toml is not signed by a root key of this fleet", hint="git log pins.toml")
        return pins.parse(data)

    @property
    def pins_signature(self) -> Path:
        return self.folder.path / "pins.toml.sig"

    def write_pins(self, change: Callable[[dict[str, Pin]], dict[str, Pin]]) -> None:
        """Read pins.toml again, change, sign and write it. A crash in between leaves the old pins or the new ones: the
        new signature goes first, beside those of the old file.
        """
        from ..config import pins
        from ..config.atomic import locked, write_atomic
        from ..trust import sshsig

        with locked(self.folder.pins_toml):
            self.__dict__.pop("pins", None)
            changed = change(dict(self.pins))
            data = pins.dump(changed)
            pins.parse(data)  # what a server said of itself must not be signed if it cannot be read again
            signature = sshsig.armor(sshsig.sign(self.root_signer(), sshsig.PINS, data))
            before = self.pins_signature.read_text() if self.pins else ""
            write_atomic(self.pins_signature, (signature + before).encode())
            write_atomic(self.folder.pins_toml, data)
            write_atomic(self.pins_signature, signature.encode())
        self.__dict__["pins"] = changed

    def refresh(self) -> None:
        """Forget what was read, after it was changed."""
        for name in ("fleet", "servers", "trust", "pins"):
            self.__dict__.pop(name, None)

    # --- keys --------------------------------------------------------------------------------------------------------

    @cached_property
    def signer(self) -> Signer:
        """The command key: from the environment, a file that was named, or this fleet's own."""
        from ..trust import keys

        if self.settings.key:
            return keys.from_text(self.settings.key)
        if self.settings.key_file:
            return keys.load(Path(self.settings.key_file).expanduser())
        return keys.load(self._own("command"))

    def root_signer(self) -> Signer:
        """The root key; only for what changes trust. Raises ConfigError when it is not on this machine."""
        return self._role_signer("root", "only who holds a root key can add servers or change keys")

    def release_signer(self) -> Signer:
        return self._role_signer("release", "only who holds a release key can sign a new bundle")

    def _role_signer(self, role: str, hint: str) -> Signer:
        from ..trust import keys

        path = self.private / role
        if not path.exists():
            raise TrustError(f"the {role} key is not on this machine ({path})", hint=hint, code=f"no-{role}-key")
        return keys.load(path)

    def _own(self, name: str) -> Path:
        """A key of this fleet; the file may be a pointer to a key elsewhere, as `sf init --key` leaves it."""
        pointer = self.private / f"{name}.path"
        return Path(pointer.read_text().strip()) if pointer.exists() else self.private / name

    @property
    def key_name(self) -> str:
        """The name that the trust file gives our command key."""
        mine = self.signer.public_key
        return next((key.name for key in self.trust.command if key.public_key == mine), "")

    # --- servers -----------------------------------------------------------------------------------------------------

    def select(self, selector: str) -> list[str]:
        from ..model.selector import resolve

        return resolve(self.servers, selector)

    def link(self, name: str) -> Link:
        """Raises ConfigError for a server that was never enrolled."""
        from ..rpc.hello import Link
        from ..trust.keys import parse_public

        pin = self.pins.get(name)
        if pin is None or not pin.server_id:
            raise ConfigError(f"{name} is not enrolled", hint=f"sf server add {name} root@HOST", code="not-enrolled")
        return Link(self.endpoint(name), pin.server_id, parse_public(pin.identity))

    def endpoint(self, name: str) -> Endpoint:
        from ..transport.ssh import Endpoint

        server = self.servers[name]
        return Endpoint(
            name, server.host, server.port, LOGIN, self.pins[name].host_keys, self.jump_endpoint(server.jump)
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
        return Endpoint(name, parsed.host, parsed.port, parsed.user, pin.host_keys, personal=True)

    @asynccontextmanager
    async def caller(self) -> AsyncIterator[Caller]:
        """Connections with our SSH key; closed at the end."""
        from ..rpc.call import Caller, Operator
        from ..transport.ssh import Connector

        name = f"{_login_name()}@{socket.gethostname()}"
        version = self.trust.version  # before our key: a fleet that is not to be trusted is not spoken for
        operator = Operator(self.signer, version, self.chain, self.state / "sent.jsonl", name)
        yield Caller(Connector([self._login_key()]), operator)

    def _login_key(self) -> str:
        """The private key that opens the forced-command login: a file that was named, else the command key."""
        from ..trust import keyfile, keys

        if self.settings.ssh_key_file:
            return keyfile.read(Path(self.settings.ssh_key_file).expanduser())
        return keys.private_text(self.signer) if isinstance(self.signer, keys.PrivateKey) else ""

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


def _pins_signer(blob: bytes, data: bytes) -> bytes:
    """Who signed these bytes; b"" when the signature is for others, as beside a file that is just being replaced."""
    from ..trust import sshsig

    try:
        return sshsig.verify(blob, sshsig.PINS, data)
    except TrustError:
        return b""


def jump_pin_name(host: str, port: int) -> str:
    """A jump host's entry in pins.toml."""
    return f"{JUMP}{host}" if port == 22 else f"{JUMP}{host}:{port}"


async def open_workspace(settings: Settings) -> Workspace:
    """The fleet that the options and the environment point to. Raises ConfigError when there is none."""
    return Workspace(folders.find(settings.fleet or None, {}), settings)


def _login_name() -> str:
    """For people only. A container may run as a user id that has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
