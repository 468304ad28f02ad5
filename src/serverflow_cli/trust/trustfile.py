"""The trust file's content: who may sign as root, as release, and which commands.

A trust file is read by writing it again: what comes out must be the same bytes. So there is one form for each
content (JSON, keys sorted, one space of indent, a newline at the end), and no room for doubled keys or odd numbers.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, TrustError
from .keys import parse_public, public_line

SIZE_LIMIT = 1024 * 1024
LATEST_MS = 253_370_764_800_000  # the year 9999: sshd's expiry-time has four digits for it

_HEX32 = re.compile(r"[0-9a-f]{32}")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_ACTION = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\.[a-z][a-z0-9]*(-[a-z0-9]+)*")
_PARAM = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_LOGIN = re.compile(r"(ssh-ed25519|sk-ssh-ed25519@openssh\.com) ([A-Za-z0-9+/]{68,400}={0,2})")
_SEAL = re.compile(r"x25519:[A-Za-z0-9+/]{43}=")
_SECRET = re.compile(r"\*|[a-z][a-z0-9_-]{0,62}")
_NETWORK = re.compile(r"[0-9a-fA-F:.]{2,45}(/[0-9]{1,3})?")


@dataclass(frozen=True)
class RootKey:
    """A key of the root or release role; `public_key` is the raw 32 bytes."""

    name: str
    public_key: bytes


@dataclass(frozen=True)
class Role:
    """So many of these keys must sign."""

    threshold: int
    keys: tuple[RootKey, ...]


@dataclass(frozen=True)
class Grant:
    """Action names, servers (ids), and the parameters that must have a certain value."""

    actions: tuple[str, ...]
    servers: tuple[str, ...] = ()
    where: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Seal:
    """What opens secrets: `key` is `x25519:` and base64. `secrets` are the names that are sealed to it; `*` is all."""

    key: str
    secrets: tuple[str, ...] = ("*",)


@dataclass(frozen=True)
class CommandKey:
    """A key that signs commands. `ssh` are public login keys without comment, `addresses` where they may come from.

    Two keys of one name are one holder's old key and new key, in this order, while the key is being rotated. With
    `everything` its holder is meant to have every action on every server, also those to come; the grants alone say
    what servers allow. Times in ms since 1970.
    """

    name: str
    public_key: bytes
    expires: int
    grants: tuple[Grant, ...]
    not_before: int = 0
    ssh: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    seal: Seal | None = None
    everything: bool = False


@dataclass(frozen=True)
class Trust:
    """One version of the trust file. `fleet` is 32 hex digits, `expires` in ms since 1970."""

    fleet: str
    version: int
    expires: int
    root: Role
    release: Role
    command: tuple[CommandKey, ...]


def body(trust: Trust) -> bytes:
    """The exact bytes of N.json, which are what root keys sign."""
    roles = {
        "root": _role_out(trust.root),
        "release": _role_out(trust.release),
        "command": {"keys": [_key_out(key) for key in trust.command]},
    }
    head = {"v": 1, "typ": "trust", "fleet": trust.fleet, "version": trust.version, "expires": trust.expires}
    return (json.dumps({**head, "roles": roles}, indent=1, sort_keys=True) + "\n").encode()


def parse(data: bytes) -> Trust:
    """The model of a trust file's bytes. Its signatures are another question (store.py). Raises TrustError."""
    try:
        value = json.loads(data)
        roles = value["roles"]
        trust = Trust(
            value["fleet"],
            value["version"],
            value["expires"],
            _role_in(roles["root"]),
            _role_in(roles["release"]),
            tuple(_key_in(key) for key in roles["command"]["keys"]),
        )
        same = body(trust) == data
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, ConfigError):
        raise TrustError("not a trust file") from None
    if not same:
        raise TrustError("a trust file that is not in the form that sf writes")
    return checked(trust)


def _role_out(role: Role) -> dict[str, Any]:
    keys = [{"name": key.name, "key": public_line(key.public_key)} for key in role.keys]
    return {"threshold": role.threshold, "keys": keys}


def _role_in(value: Any) -> Role:
    return Role(value["threshold"], tuple(RootKey(key["name"], parse_public(key["key"])) for key in value["keys"]))


def _key_out(key: CommandKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "key": public_line(key.public_key),
        "ssh": list(key.ssh),
        "from": list(key.addresses),
        "not_before": key.not_before,
        "expires": key.expires,
        "all": key.everything,
        "seal": {"key": key.seal.key, "secrets": list(key.seal.secrets)} if key.seal else None,
        "grants": [
            {"actions": list(grant.actions), "where": dict(grant.where), "servers": list(grant.servers)}
            for grant in key.grants
        ],
    }


def _key_in(value: Any) -> CommandKey:
    return CommandKey(
        name=value["name"],
        public_key=parse_public(value["key"]),
        expires=value["expires"],
        grants=tuple(Grant(tuple(g["actions"]), tuple(g["servers"]), dict(g["where"])) for g in value["grants"]),
        not_before=value["not_before"],
        ssh=tuple(value["ssh"]),
        addresses=tuple(value["from"]),
        seal=Seal(value["seal"]["key"], tuple(value["seal"]["secrets"])) if value["seal"] else None,
        everything=value["all"],
    )


def checked(trust: Trust) -> Trust:
    """The same, once it says nothing that servers refuse. Raises TrustError with everything that is wrong."""
    wrong = [f"{place}: {what}" for place, what in _wrong(trust)]
    if len(body(trust)) > SIZE_LIMIT:
        wrong.append("it is larger than 1 MiB")
    if wrong:
        raise TrustError("the trust file cannot be so: " + "; ".join(wrong))
    return trust


def _wrong(trust: Trust) -> Iterator[tuple[str, str]]:
    if not _matches(_HEX32, trust.fleet):
        yield "fleet", "must be 32 hex digits"
    if type(trust.version) is not int or not 1 <= trust.version < 2**53:
        yield "version", "must be a whole number from 1"
    if not _is_time(trust.expires):
        yield "expires", "must be a time in milliseconds"
    for where, role in (("root", trust.root), ("release", trust.release)):
        if type(role.threshold) is not int or not 1 <= role.threshold <= len(role.keys):
            yield where, "the threshold must be from 1 to the number of keys"
        if not all(_matches(_NAME, key.name) for key in role.keys):
            yield where, "a key has no proper name"
        if _repeats([key.name for key in role.keys]) or _repeats([key.public_key for key in role.keys]):
            yield where, "a key or name is there twice"
    if _repeats([key.public_key for key in trust.command]):
        yield "command", "a key is there twice"
    for key in trust.command:
        yield from ((f"command key {key.name!a}", what) for what in _wrong_in_key(key))


def _wrong_in_key(key: CommandKey) -> Iterator[str]:
    if not _matches(_NAME, key.name):
        yield "the name must be of a-z, 0-9, dot, dash and underscore"
    if not _is_time(key.not_before) or not _is_time(key.expires):
        yield "its dates must be times in milliseconds"
    if not all(map(is_login_key, key.ssh)):
        yield "a login key must be an Ed25519 key without a comment"
    if not all(map(_is_network, key.addresses)):
        yield "an address must be an IP address, or a network without host bits"
    if type(key.everything) is not bool:
        yield "`all` must be true or false"
    if key.seal and not (is_seal_key(key.seal.key) and all(_matches(_SECRET, one) for one in key.seal.secrets)):
        yield "its seal must be an X25519 key and names of secrets"
    for grant in key.grants:
        if not all(_matches(_ACTION, one) for one in grant.actions) or _repeats(grant.actions):
            yield "a grant must list names of actions, each once (patterns are expanded before signing)"
        if not all(_matches(_HEX64, one) for one in grant.servers) or _repeats(grant.servers):
            yield "a grant must list server ids, each once"
        if not all(_matches(_PARAM, name) and _is_text(value) for name, value in grant.where.items()):
            yield "a condition must be a parameter's name and a text"


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def is_name(value: Any) -> bool:
    """Whether it can be a key's name."""
    return _matches(_NAME, value)


def is_seal_key(value: Any) -> bool:
    """Whether it is an X25519 public key as the trust file has it."""
    return _matches(_SEAL, value)


def _is_time(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LATEST_MS


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def is_login_key(line: Any) -> bool:
    """Whether it is an SSH key that may open the login, without a comment."""
    match = _LOGIN.fullmatch(line) if isinstance(line, str) else None
    try:
        blob = base64.b64decode(match[2], validate=True) if match else b""
    except binascii.Error:
        return False
    return match is not None and blob.startswith(len(match[1]).to_bytes(4, "big") + match[1].encode())


def _is_network(value: Any) -> bool:
    try:
        return _matches(_NETWORK, value) and bool(ipaddress.ip_network(value))
    except ValueError:
        return False


def _repeats(values: Sequence[Any]) -> bool:
    """By `repr`, since a value that is not checked yet may be a list, which no set takes."""
    return len(set(map(repr, values))) != len(values)
