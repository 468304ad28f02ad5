"""pins.toml: the SSH host keys and identity keys that servers were enrolled with. `sf` alone writes it.

The trust layer signs the exact bytes (pins.toml.sig); it reads `read_bytes`, checks them, and only then calls `parse`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Literal, get_args

from serverflow_actions.kit import grammar

from ..errors import ConfigError
from .folder import FleetFolder

#: How a host key came to be trusted: an entry in known_hosts, `--fingerprint`, or a person who compared it.
Origin = Literal["known_hosts", "fingerprint", "prompt"]


@dataclass(frozen=True)
class Pin:
    """One server or jump host.

    `host_keys` are full public keys, `address` is the "host:port" that they were seen at, `pinned_at` is RFC 3339.
    `server_id` (64 hex) and `identity` (ssh-ed25519) are "" for a jump host, which is never enrolled.

    While a key is rotated, `next_host_key` or `next_identity` is accepted beside the old one. `former` are identity
    keys of the past: they vouch for receipts that were kept, and for nothing that a server says now.
    """

    name: str
    host_keys: tuple[str, ...]
    origin: Origin
    pinned_at: str
    address: str
    server_id: str = ""
    identity: str = ""
    next_host_key: str = ""
    next_identity: str = ""
    former: tuple[str, ...] = ()

    @property
    def accepted_host_keys(self) -> tuple[str, ...]:
        """What the server may show."""
        return (*self.host_keys, self.next_host_key) if self.next_host_key else self.host_keys

    @property
    def identities(self) -> tuple[str, ...]:
        """All that have ever signed for this server, or are about to; the oldest first."""
        return tuple(key for key in (*self.former, self.identity, self.next_identity) if key)


def load(folder: FleetFolder) -> dict[str, Pin]:
    """The pins by name; none when there is no file yet. The signature is not checked here. Raises ConfigError."""
    return parse(read_bytes(folder))


def read_bytes(folder: FleetFolder) -> bytes:
    """The bytes that the signature covers; empty when there is no file yet. Raises ConfigError."""
    try:
        return folder.pins_toml.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ConfigError(f"{folder.pins_toml} cannot be read: {error.strerror}") from error


def parse(data: bytes) -> dict[str, Pin]:
    """The pins in the bytes of a pins.toml. Raises ConfigError: what is not exactly as `dump` writes it is refused."""
    try:
        return {name: _pin(name, entry) for name, entry in _document(data).get("pins", {}).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"pins.toml: {error}", hint="git log pins.toml") from None


def twins(pins: Mapping[str, Pin], names: Collection[str]) -> dict[str, str]:
    """Of these names each whose pin is that of another one's server too, by its id or an identity key, with the other.

    A server has one name. Two are pinned while it is renamed, but only one of them is in fleet.toml then, which has the
    `names`.
    """
    found: dict[str, str] = {}
    first: dict[str, str] = {}
    for name in names:
        if pin := pins.get(name):
            for mark in filter(None, (pin.server_id, pin.identity, pin.next_identity)):
                other = first.setdefault(mark, name)
                if other != name:
                    found |= {name: other, other: name}
    return found


def version(data: bytes) -> int:
    """How often the file was written; 0 for none. Raises ConfigError."""
    return int(_document(data)["version"])


def fleet(data: bytes) -> str:
    """The id of the fleet that it is for: a root key may be that of two. "" for no file. Raises ConfigError."""
    return str(_document(data)["fleet"])


def _document(data: bytes) -> dict[str, Any]:
    try:
        document: dict[str, Any] = tomllib.loads(data.decode()) if data else {"schema": 1, "version": 0, "fleet": ""}
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number that is too long, or nested too deeply
        raise ConfigError(f"pins.toml is damaged: {error}", hint="git log pins.toml") from None
    if document.get("schema") != 1 or set(document) - {"schema", "version", "fleet", "pins"}:
        raise ConfigError("pins.toml: written by another version of sf", hint="update sf")
    if type(document.get("version")) is not int or document["version"] < (1 if data else 0):
        raise ConfigError("pins.toml: it needs a version", hint="git log pins.toml")
    if type(document.get("fleet")) is not str:
        raise ConfigError("pins.toml: it does not say whose it is", hint="git log pins.toml")
    return document


def dump(pins: Mapping[str, Pin], version: int, fleet: str) -> bytes:
    """The file's bytes: the same pins give the same bytes, in whatever order they come."""
    import tomli_w

    entries = {}
    for name in sorted(pins):
        entry = asdict(pins[name])
        del entry["name"]
        entries[name] = entry
    text = tomli_w.dumps({"schema": 1, "version": version, "fleet": fleet, "pins": entries})
    return f"# Written by sf and signed (pins.toml.sig): edits by hand are refused.\n{text}".encode()


def _pin(name: str, entry: dict[str, Any]) -> Pin:
    expected = {field.name for field in fields(Pin)} - {"name"}
    if set(entry) != expected:
        raise ValueError(f"{name}: needs exactly {', '.join(sorted(expected))}")
    lists = {"host_keys": tuple(map(grammar.sshkey, entry["host_keys"])), "former": tuple(entry["former"])}
    pin = Pin(name=name, **{**entry, **lists})
    if not pin.host_keys or pin.origin not in get_args(Origin):
        raise ValueError(f"{name}: needs a host key and an origin ({', '.join(get_args(Origin))})")
    if pin.server_id:
        grammar.sha256(pin.server_id)
    if pin.next_host_key:
        grammar.sshkey(pin.next_host_key)
    if not all(grammar.sshkey(key).startswith("ssh-ed25519 ") for key in pin.identities):
        raise ValueError(f"{name}: identity must be an ssh-ed25519 key")
    if datetime.fromisoformat(pin.pinned_at).tzinfo is None:
        raise ValueError(f"{name}: pinned_at needs an offset")
    host, _, port = grammar.text(pin.address).rpartition(":")
    if not host:
        raise ValueError(f"{name}: address must be host:port")
    grammar.port(port)
    return pin
