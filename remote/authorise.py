"""Who may do what: the verification order of a command, and the rules by which trust files and bundles succeed.

Pure as verify.py is: the caller brings the clock, the challenge and the files. Refused means that nobody we know
signed; Denied, that someone we know may not.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from messages import Bundle, Command, CommandKey, Denied, Role, Trust, Value, parse_bundle, parse_command, parse_trust
from strict import Malformed, parse_json
from verify import BUNDLE, COMMAND, SECRETS_LIMIT, TRUST, Refused, Signed, SshSig

LIFETIME_MS = 300_000
#: Beyond it a stolen release key would use the numbers up: versions only go up.
LONGEST_JUMP = 1000
SECRET_VALUE_LIMIT = 8 * 1024
SALT_LENGTH = 32

#: What ends a safe change. With expired trust a fleet must still be able to get out of one that waits.
ENDINGS = frozenset(("safe.confirm", "safe.rollback"))


class Verified(NamedTuple):
    """A command that may run, the key that signed it, and the action's entry in the registry."""

    command: Command
    key: CommandKey
    entry: Mapping[str, Any]


class Pending(NamedTuple):
    """The safe change that waits for confirmation, or was the last to, and the raw public key that signed it, b"" where
    none did.
    """

    op_id: str
    public_key: bytes


def verify_command(
    signed: Signed,
    *,
    trust: Trust,
    server_id: str,
    challenge: str,
    hello_clock_ms: int,
    elapsed_ms: int,
    now_ms: int,
    bundle_registry: Mapping[str, Any],
    pending: Pending | None = None,
) -> Verified:
    """Every check that comes before the lock, in this order; each stands alone and a test removes each.

    `hello_clock_ms` is the clock that HELLO told, `elapsed_ms` what has passed since by the monotonic clock, `now_ms`
    the wall clock, `bundle_registry` the parsed registry.json, `pending` the change that waits for confirmation.

    Raises Refused while the signer is unknown; then Denied, with the key and, once it is read, the command.
    """
    signature = only_signature(signed)
    key = known_key(trust, signature)
    check_signature(signature, signed.body)
    command = None
    try:
        check_key_dates(key, now_ms)
        command = parse_command(signed.body)
        check_kind(command)
        check_server(command, server_id)
        check_challenge(command, challenge)
        check_trust_version(command, trust)
        check_trust_date(command, trust, now_ms)
        check_time(command, hello_clock_ms, elapsed_ms)
        check_grant(key, command, server_id, pending)
        entry = look_up(command, bundle_registry)
        check_resource(command, entry)
        check_scheduled(key, command, server_id, entry)
    except Denied as denial:
        denial.key, denial.command = key, command
        raise
    return Verified(command, key, entry)


def verify_again(
    signed: Signed,
    command: Command,
    entry: Mapping[str, Any],
    *,
    trust: Trust,
    now_ms: int,
    pending: Pending | None = None,
) -> None:
    """After a wait for blobs or for the lock, all that may have changed in the meantime, by the trust file of now.

    Raises Refused when the key was revoked, else Denied.
    """
    key = known_key(trust, only_signature(signed))
    check_key_dates(key, now_ms)
    check_trust_date(command, trust, now_ms)
    check_grant(key, command, command.server_id, pending)
    check_scheduled(key, command, command.server_id, entry)


def only_signature(signed: Signed) -> SshSig:
    """A command has one signature, made for commands. Raises Refused."""
    if signed.namespace != COMMAND or len(signed.signatures) != 1:
        raise Refused("not one signature of a command")
    return signed.signatures[0]


def known_key(trust: Trust, signature: SshSig) -> CommandKey:
    """The command key, byte for byte; root and release keys are none. Raises Refused."""
    for key in trust.command:
        if key.public_key == signature.public_key:
            return key
    raise Refused("a key that the trust file does not have")


def check_signature(signature: SshSig, body: bytes) -> None:
    """Raises Refused: naming a known key proves nothing."""
    if not signature.signs(body):
        raise Refused("the signature is not valid")


def check_key_dates(key: CommandKey, now_ms: int) -> None:
    """After the signature, so that only its holder learns that a key has expired. Raises Denied(key-expired)."""
    if not key.not_before <= now_ms < key.expires:
        raise Denied("key-expired", f"the key {key.name} is outside its dates")


def check_kind(command: Command) -> None:
    """Raises Denied(bad-frame)."""
    if (command.v, command.typ) != (1, "command"):
        raise Denied("bad-frame", "not a command of version 1, which is all that this server's runner knows")


def check_server(command: Command, server_id: str) -> None:
    """Raises Denied(wrong-server)."""
    if command.server_id != server_id:
        raise Denied("wrong-server", "signed for another server")


def check_challenge(command: Command, challenge: str) -> None:
    """Each HELLO has its own: what was signed for an earlier one is a replay. Raises Denied(wrong-challenge)."""
    if command.challenge != challenge:
        raise Denied("wrong-challenge", "signed for another connection")


def check_trust_version(command: Command, trust: Trust) -> None:
    """Raises Denied(trust-ahead)."""
    if command.trust_version > trust.version:
        raise Denied("trust-ahead", f"this server has trust version {trust.version}, not yet {command.trust_version}")


def check_trust_date(command: Command, trust: Trust, now_ms: int) -> None:
    """Raises Denied(trust-expired)."""
    if now_ms >= trust.expires and command.action not in ENDINGS:
        raise Denied("trust-expired", f"trust version {trust.version} has expired")


def check_time(command: Command, hello_clock_ms: int, elapsed_ms: int) -> None:
    """All by the server's clocks, so a client's clock cannot matter. Raises Denied(stale)."""
    if not 0 <= elapsed_ms <= LIFETIME_MS:
        raise Denied("stale", "more than 300 s have passed since HELLO")
    if abs(command.issued_at - hello_clock_ms) > LIFETIME_MS:
        raise Denied("stale", "issued_at is not this HELLO's clock")
    if not 0 < command.expires_at - command.issued_at <= LIFETIME_MS:
        raise Denied("stale", "a command lives at most 300 s")
    if hello_clock_ms + elapsed_ms > command.expires_at:
        raise Denied("stale", "the command has expired")


def check_grant(key: CommandKey, command: Command, server_id: str, pending: Pending | None = None) -> None:
    """Raises Denied(not-granted)."""
    if _ends_its_own(key, command, pending):
        return
    if not granted(key, command.action, command.params, server_id):
        raise Denied("not-granted", f"the key {key.name} may not run {command.action} here with these parameters")


def _ends_its_own(key: CommandKey, command: Command, pending: Pending | None) -> bool:
    """Whoever made the change that waits may confirm it and take it back. A grant for that would cover the changes of
    all others, too.
    """
    return (
        pending is not None
        and command.action in ENDINGS
        and command.params == {"op": pending.op_id}
        and key.public_key == pending.public_key
    )


def granted(key: CommandKey, action: str, params: Mapping[str, Value], server_id: str) -> bool:
    """Whether one grant covers all of it: action, this server, and each constrained parameter, given and equal."""
    return any(
        action in grant.actions
        and server_id in grant.servers
        and all(_as_text(params.get(name)) == wanted for name, wanted in grant.where.items())
        for grant in key.grants
    )


def _as_text(value: Value | None) -> str | None:
    """A parameter in the words of a grant. A missing one and a list have none, so they equal nothing."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int)) else None


def look_up(command: Command, bundle_registry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The action's entry, by its literal name and version. Raises Denied(unknown-action, action-version)."""
    entry: Mapping[str, Any] | None = bundle_registry["actions"].get(command.action)
    if entry is None:
        raise Denied("unknown-action", f"this server's bundle has no {command.action}: run sf server update")
    if entry["version"] != command.action_version:
        older = "the server: run sf server update" if entry["version"] < command.action_version else "sf"
        raise Denied("action-version", f"{command.action} is version {entry['version']} here; update {older}")
    return entry


def check_resource(command: Command, entry: Mapping[str, Any]) -> None:
    """What is recorded as applied is what the action applies: nobody marks the resources of others as theirs.

    `resource` in a registry entry is the key, with {name} for the parameter `name`; "" for an action that applies none.
    Raises Denied(bad-params).
    """
    if command.base is None:
        return
    pattern = str(entry.get("resource", ""))
    wanted = re.sub(r"\{([a-z-]+)\}", lambda found: str(command.params.get(found.group(1))), pattern)
    if not pattern or command.base.resource != wanted:
        raise Denied("bad-params", f"{command.action} does not apply {command.base.resource}")


def check_scheduled(key: CommandKey, command: Command, server_id: str, entry: Mapping[str, Any]) -> None:
    """Who schedules an action must be allowed to run it, with the parameters that it will run with.

    `schedules` in a registry entry names the parameter that names the other action; `params` of the command has that
    one's parameters, each as KEY=VALUE. Raises Denied(bad-params, not-granted).
    """
    parameter = entry.get("schedules", "")
    if parameter and not granted(key, str(command.params.get(parameter)), _scheduled(command), server_id):
        raise Denied("not-granted", f"the key {key.name} may not run what it asks to schedule")


def _scheduled(command: Command) -> dict[str, Any]:
    """The parameters of the action that runs later, read as it reads them then. Raises Denied(bad-params)."""
    from serverflow_actions.kit.scheduled import parameters

    pairs = command.params.get("params", [])
    if not isinstance(pairs, list):
        raise Denied("bad-params", "params: must be a list")
    try:
        return dict(parameters(pairs))
    except ValueError as error:
        raise Denied("bad-params", f"params: {error}") from None


def check_secrets(command: Command, secret_frame: bytes, names: Sequence[str]) -> dict[str, str]:
    """The secret parameters (salt ‖ JSON), as committed to in the body; `names` are those that the action declares.

    Raises Denied(bad-secrets).
    """
    if any(name in command.params for name in names):
        raise Denied("bad-secrets", "a secret travels in the secrets frame only")
    if command.secrets_commit is None:
        if secret_frame:
            raise Denied("bad-secrets", "secrets that the command does not commit to")
        return {}
    if not SALT_LENGTH < len(secret_frame) <= SECRETS_LIMIT:
        raise Denied("bad-secrets", "the secrets frame is missing, too short or too long")
    if hashlib.sha256(secret_frame).hexdigest() != command.secrets_commit:
        raise Denied("bad-secrets", "the secrets are not those that were committed to")
    try:
        secrets = parse_json(secret_frame[SALT_LENGTH:], SECRETS_LIMIT)
    except Malformed as error:
        raise Denied("bad-secrets", str(error)) from None
    for name, value in secrets.items():
        if name not in names:
            raise Denied("bad-secrets", f"{command.action} has no secret parameter of one of these names")
        if type(value) is not str or len(value.encode()) > SECRET_VALUE_LIMIT:
            raise Denied("bad-secrets", f"{name} must be text of at most {SECRET_VALUE_LIMIT} bytes")
    return secrets


def verify_trust_update(current: Trust, body: bytes, signatures: Sequence[SshSig]) -> Trust:
    """Version N + 1, signed by the root threshold of N and of N + 1 (TUF specification, 5.3).

    Dates are not looked at: with expired trust this is the way out, and a server that was offline has to pass through
    versions that have expired since. Raises Refused or Denied(bad-trust, older-version).
    """
    _check_threshold(current.root, TRUST, body, signatures, "bad-trust")
    new = parse_trust(body)
    if new.fleet != current.fleet:
        raise Denied("bad-trust", "the trust file of another fleet")
    if new.version <= current.version:
        raise Denied("older-version", f"this server has trust version {current.version} already")
    if new.version != current.version + 1:
        raise Denied("bad-trust", f"version {current.version + 1} must come next")
    _check_threshold(new.root, TRUST, body, signatures, "bad-trust")
    return new


def verify_bundle(
    trust: Trust, installed_version: int, body: bytes, signatures: Sequence[SshSig], *, now_ms: int
) -> Bundle:
    """A newer bundle, signed by the release threshold of unexpired trust.

    Raises Refused or Denied(bad-bundle, older-version, trust-expired).
    """
    _check_threshold(trust.release, BUNDLE, body, signatures, "bad-bundle")
    if now_ms >= trust.expires:
        raise Denied("trust-expired", f"trust version {trust.version} has expired")
    bundle = parse_bundle(body)
    if bundle.version <= installed_version:
        raise Denied("older-version", f"this server has bundle version {installed_version} already")
    if bundle.version > installed_version + LONGEST_JUMP:
        raise Denied("bad-bundle", f"version {bundle.version} is too far from {installed_version}, which is here")
    return bundle


def _check_threshold(role: Role, namespace: str, body: bytes, signatures: Sequence[SshSig], code: str) -> None:
    """Enough keys of the role signed the body for this namespace. A set: however often a key signs, it counts once."""
    signers = {
        one.public_key
        for one in signatures
        if one.public_key in role.keys and one.namespace == namespace and one.signs(body)
    }
    if not signers:
        raise Refused("no signature by a key that may make one")
    if len(signers) < role.threshold:
        raise Denied(code, f"{role.threshold} signatures are needed, {len(signers)} given")
