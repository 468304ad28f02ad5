"""What signed bodies may say: the closed schemas of commands, trust files and bundles (docs/protocol.md in code).

Each `parse_*` returns a frozen model or raises Denied. Well-formed is all that it says: authorise.py decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Union

import strict
from strict import Malformed
from verify import COMMAND_LIMIT, FRAME_LIMIT

LATEST_MS = 253_370_764_800_000  # the year 9999: later dates cannot be written into authorized_keys
BUNDLE_FILES_LIMIT = 2000
BUNDLE_BYTES_LIMIT = 16 * 1024 * 1024

Value = Union[str, int, bool, list[str]]

_action = strict.text(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*\.[a-z][a-z0-9]*(?:-[a-z0-9]+)*", "an action's name")
_param = strict.text(r"[a-z][a-z0-9_-]{0,63}", "a parameter's name")
_name = strict.text(r"[a-z0-9][a-z0-9._-]{0,62}", "a name")
_resource = strict.text(r"[A-Za-z0-9*_.:/@-]{1,255}", "a resource's name")
_path = strict.text(r"[A-Za-z0-9_./-]{1,200}", "a path")
_seal_key = strict.text(r"x25519:[A-Za-z0-9+/]{43}=", "an X25519 key")
_secret = strict.text(r"\*|[a-z][a-z0-9_-]{0,62}", "a secret's name or *")
_mode = strict.text(r"run|plan", "run or plan")
_actor = strict.text(r".{0,64}", "at most 64 characters")


class Denied(Exception):
    """A known key asked for something that it does not get; the code is one of docs/protocol.md's table.

    `key` and `command` are what was known by then: the receipt of the denial names them.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.key: CommandKey | None = None
        self.command: Command | None = None


class Base(NamedTuple):
    """Compare-and-swap: `resource` must still have the hash `before` ("": never applied); `after` is what it gets."""

    resource: str
    before: str
    after: str


class Blob(NamedTuple):
    """Bytes that follow the command. `size` in bytes."""

    sha256: str
    size: int


class Command(NamedTuple):
    """A command's body, key by key. Times in ms since 1970, by the server's clock."""

    v: int
    typ: str
    server_id: str
    challenge: str
    op_id: str
    action: str
    action_version: int
    params: Mapping[str, Value]
    trust_version: int
    issued_at: int
    expires_at: int
    limits: Mapping[str, int]
    mode: str
    confirm_s: int
    base: Base | None
    plan_sha256: str | None
    secrets_commit: str | None
    blobs: tuple[Blob, ...]
    prev_receipt: str
    actor: str


class Role(NamedTuple):
    """Who may sign as root or release: raw public key → name, and how many of them it takes."""

    threshold: int
    keys: Mapping[bytes, str]


class Grant(NamedTuple):
    """The named actions, on these servers (ids), when every parameter in `where` has that value."""

    actions: frozenset[str]
    where: Mapping[str, str]
    servers: frozenset[str]


class CommandKey(NamedTuple):
    """A key that may sign commands. `ssh` and `addresses` become its forced-command login. Times in ms since 1970."""

    name: str
    public_key: bytes
    ssh: tuple[str, ...]
    addresses: tuple[str, ...]
    not_before: int
    expires: int
    grants: tuple[Grant, ...]


class Trust(NamedTuple):
    """One version of the trust file. `expires` in ms since 1970."""

    fleet: str
    version: int
    expires: int
    root: Role
    release: Role
    command: tuple[CommandKey, ...]


class BundleFile(NamedTuple):
    """One file of a bundle. `size` in bytes."""

    path: str
    size: int
    sha256: str


class Bundle(NamedTuple):
    """A version of the runner and its registry: files sorted by path, whose bytes follow in this order."""

    version: int
    files: tuple[BundleFile, ...]


_COMMAND_KEYS = (
    "v typ server_id challenge op_id action action_version params trust_version issued_at expires_at "
    "limits mode confirm_s base plan_sha256 secrets_commit blobs prev_receipt actor"
)


def parse_command(body: bytes) -> Command:
    """Read a command's body. Raises Denied(bad-frame)."""
    try:
        return _command(strict.parse_json(body, COMMAND_LIMIT))
    except Malformed as error:
        raise Denied("bad-frame", str(error)) from None


def _command(value: dict[str, Any]) -> Command:
    _check_age(set(value), set(_COMMAND_KEYS.split()))
    strict.fields(value, _COMMAND_KEYS, "a command")
    return Command(
        v=strict.integer(value["v"], "v"),
        typ=strict.any_text(value["typ"], "typ"),
        server_id=strict.hex64(value["server_id"], "server_id"),
        challenge=strict.hex64(value["challenge"], "challenge"),
        op_id=strict.ulid(value["op_id"], "op_id"),
        action=_action(value["action"], "action"),
        action_version=strict.integer(value["action_version"], "action_version", 1),
        params=_params(value["params"]),
        trust_version=strict.integer(value["trust_version"], "trust_version", 1),
        issued_at=strict.integer(value["issued_at"], "issued_at"),
        expires_at=strict.integer(value["expires_at"], "expires_at"),
        limits=_limits(value["limits"]),
        mode=_mode(value["mode"], "mode"),
        confirm_s=strict.integer(value["confirm_s"], "confirm_s", 0, 3600),
        base=_base(value["base"]),
        plan_sha256=strict.nullable(strict.hex64, value["plan_sha256"], "plan_sha256"),
        secrets_commit=strict.nullable(strict.hex64, value["secrets_commit"], "secrets_commit"),
        blobs=tuple(_blob(one) for one in strict.items(value["blobs"], "blobs")),
        prev_receipt=strict.hex64_or_empty(value["prev_receipt"], "prev_receipt"),
        actor=_actor(value["actor"], "actor"),
    )


def _check_age(given: set[str], known: set[str]) -> None:
    """sf and runner are updated one after the other: say which of the two is behind, where the keys show it."""
    if given > known:
        more = ascii(", ".join(sorted(given - known)))[:100]
        raise Malformed(f"this server's runner is older than sf and does not know {more}: run sf server update")
    if given < known and len(known - given) < 4:
        raise Malformed(
            f"this server's runner is newer than sf and wants {', '.join(sorted(known - given))}: update sf"
        )


def _params(value: Any) -> dict[str, Value]:
    for name, given in strict.table(value, "params").items():
        _param(name, "a parameter's name")
        of_texts = type(given) is list and all(type(item) is str for item in given)
        if type(given) not in (str, int, bool) and not of_texts:
            raise Malformed(f"{name} must be text, a whole number, true, false or a list of texts")
    return dict(value)


def _limits(value: Any) -> dict[str, int]:
    least = {"timeout_s": 1, "memory": 1, "lock_wait_s": 0}
    if not set(strict.table(value, "limits")) <= set(least):
        raise Malformed("limits may have timeout_s, memory and lock_wait_s")
    return {name: strict.integer(number, name, least[name]) for name, number in value.items()}


def _base(value: Any) -> Base | None:
    if value is None:
        return None
    resource, before, after = strict.fields(value, "resource from to", "base")
    return Base(
        _resource(resource, "resource"), strict.hex64_or_empty(before, "from"), strict.hex64_or_empty(after, "to")
    )


def _blob(value: Any) -> Blob:
    sha256, size = strict.fields(value, "sha256 size", "a blob")
    return Blob(strict.hex64(sha256, "a blob's sha256"), strict.integer(size, "a blob's size"))


def parse_trust(body: bytes) -> Trust:
    """Read a version of the trust file. Raises Denied(bad-trust)."""
    try:
        value = strict.parse_json(body, FRAME_LIMIT)
        names = "v typ fleet version expires roles"
        v, typ, fleet, version, expires, roles = strict.fields(value, names, "a trust file")
        _check_head(v, typ, "trust")
        root, release, command = strict.fields(roles, "root release command", "roles")
        (listed,) = strict.fields(command, "keys", "command")
        keys = tuple(_command_key(one) for one in strict.items(listed, "command.keys"))
        strict.distinct([key.public_key for key in keys], "command.keys")
        return Trust(
            fleet=strict.hex32(fleet, "fleet"),
            version=strict.integer(version, "version", 1),
            expires=strict.integer(expires, "expires", 0, LATEST_MS),
            root=_role(root, "root"),
            release=_role(release, "release"),
            command=keys,
        )
    except Malformed as error:
        raise Denied("bad-trust", str(error)) from None


def _check_head(v: Any, typ: Any, expected: str) -> None:
    if strict.integer(v, "v") != 1 or typ != expected:
        raise Malformed(f"not a {expected} file of version 1")


def _role(value: Any, where: str) -> Role:
    threshold, listed = strict.fields(value, "threshold keys", where)
    pairs = [strict.fields(one, "key name", f"a key of {where}") for one in strict.items(listed, where)]
    keys = strict.distinct([strict.public_key(key, f"a key of {where}") for key, _ in pairs], where)
    names = strict.distinct([_name(name, f"a name in {where}") for _, name in pairs], where)
    return Role(strict.integer(threshold, f"the threshold of {where}", 1, len(pairs)), dict(zip(keys, names)))


def _command_key(value: Any) -> CommandKey:
    name, key, ssh, addresses, not_before, expires, everything, seal, grants = strict.fields(
        value, "name key ssh from not_before expires all seal grants", "a command key"
    )
    where = f"command key {_name(name, 'a command key')}"
    if type(everything) is not bool:
        raise Malformed(f"all of {where} must be true or false")
    _check_seal(seal, f"the seal of {where}")
    return CommandKey(
        name=name,
        public_key=strict.public_key(key, where),
        ssh=tuple(strict.login_key(one, where) for one in strict.items(ssh, where)),
        addresses=tuple(strict.address(one, where) for one in strict.items(addresses, where)),
        not_before=strict.integer(not_before, f"not_before of {where}", 0, LATEST_MS),
        expires=strict.integer(expires, f"expires of {where}", 0, LATEST_MS),
        grants=tuple(_grant(one, f"a grant of {where}") for one in strict.items(grants, where)),
    )


def _check_seal(value: Any, where: str) -> None:
    """Which secrets are sealed to this key's holder, and with what; operators need it signed, servers do not use it."""
    if value is None:
        return
    key, secrets = strict.fields(value, "key secrets", where)
    _seal_key(key, where)
    for one in strict.items(secrets, where):
        _secret(one, where)


def _grant(value: Any, where: str) -> Grant:
    actions, conditions, servers = strict.fields(value, "actions where servers", where)
    for parameter, wanted in strict.table(conditions, where).items():
        _param(parameter, where)
        strict.any_text(wanted, f"{parameter} in {where}")
    return Grant(
        actions=frozenset(strict.distinct([_action(one, where) for one in strict.items(actions, where)], where)),
        where=dict(conditions),
        servers=frozenset(strict.distinct([strict.hex64(one, where) for one in strict.items(servers, where)], where)),
    )


def parse_bundle(body: bytes) -> Bundle:
    """Read a bundle's list of files. Raises Denied(bad-bundle)."""
    try:
        v, typ, version, files = strict.fields(strict.parse_json(body, FRAME_LIMIT), "v typ version files", "a bundle")
        _check_head(v, typ, "bundle")
        return Bundle(strict.integer(version, "version", 1), _files(strict.items(files, "files")))
    except Malformed as error:
        raise Denied("bad-bundle", str(error)) from None


def _files(listed: list[Any]) -> tuple[BundleFile, ...]:
    if not 1 <= len(listed) <= BUNDLE_FILES_LIMIT:
        raise Malformed(f"a bundle has 1 to {BUNDLE_FILES_LIMIT} files")
    files = tuple(_file(one) for one in listed)
    paths = [file.path for file in files]
    if paths != sorted(set(paths)):
        raise Malformed("files must be sorted by path, each once")
    if not {"/".join(path.split("/")[:n]) for path in paths for n in range(1, path.count("/") + 1)}.isdisjoint(paths):
        raise Malformed("a file stands where a folder must be")
    if sum(file.size for file in files) > BUNDLE_BYTES_LIMIT:
        raise Malformed(f"a bundle has at most {BUNDLE_BYTES_LIMIT} bytes")
    return files


def _file(value: Any) -> BundleFile:
    path, size, sha256 = strict.fields(value, "path size sha256", "a file of a bundle")
    if any(part in ("", ".", "..") for part in _path(path, "a path").split("/")):
        raise Malformed("a path must be relative, without empty, . or .. parts")
    return BundleFile(path, strict.integer(size, "a size"), strict.hex64(sha256, "a sha256"))
