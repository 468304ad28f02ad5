"""Valid messages of every kind: from near them more paths of a parser are reached than from noise."""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

from serverflow_cli.config import pins, secrets
from serverflow_cli.trust import bundle, invitation, keys, seal, sshsig, trustfile

EXAMPLE = (Path(__file__).parents[1] / "unit/fleet.example.toml").read_text()
HASH = "5e" * 32
SIGNER = keys.PrivateKey(
    bytes.fromhex("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"), bytes(range(32))
)
OTHER = keys.new_private_key("another")
BOTH = (SIGNER, OTHER)
SEAL_KEY = seal.seal_key_from_text("x25519-private:" + base64.b64encode(bytes(range(1, 33))).decode())

COMMAND: dict[str, Any] = {
    "v": 1, "typ": "command", "server_id": HASH, "challenge": HASH, "op_id": "01J0000000000000000000000A",
    "action": "service.restart", "action_version": 1,
    "params": {"unit": "nginx", "lines": 5, "now": True, "names": ["a"]},
    "trust_version": 1, "issued_at": 1_800_000_000_000, "expires_at": 1_800_000_060_000,
    "limits": {"timeout_s": 5, "memory": 1 << 20, "lock_wait_s": 0}, "mode": "run", "confirm_s": 0,
    "base": {"resource": "redis.cache", "from": "", "to": HASH}, "plan_sha256": HASH, "secrets_commit": None,
    "blobs": [{"sha256": HASH, "size": 3}], "prev_receipt": "", "actor": "ana@laptop",
}  # fmt: skip
HELLO: dict[str, Any] = {
    "v": 1, "typ": "hello", "nonce": HASH, "challenge": HASH, "server_id": HASH, "trust_version": 1,
    "trust_sha256": HASH, "bundle_version": 1, "boot": "ab" * 16, "clock": 1_800_000_000_000,
    "last_receipt": "", "pending": "",
}  # fmt: skip
RECEIPT: dict[str, Any] = {
    "v": 1, "typ": "receipt", "body_sha256": HASH, "nonce": HASH, "challenge": HASH, "server_id": HASH, "op_id": "",
    "action": "service.restart", "action_version": 1, "mode": "run", "anchor": "",
    "actor": {"name": "ana", "key": "SHA256:x", "says": "ana@laptop"}, "outcome": "done", "code": "", "message": "",
    "exit": {"code": None, "signal": None}, "started_at": 1, "finished_at": 2, "boot": "",
    "output": {"sha256": HASH, "length": 0, "truncated": False}, "sandbox": {"profile": "svc", "effective": {}},
    "changes": [{"verb": "run", "kind": "unit", "name": "cron.service", "fields": {"restart": [None, "active"]}}],
    "data": {"unit": "cron.service"}, "plan_sha256": "", "safe": None, "versions": {"trust": 1, "bundle": 1},
    "base": None, "trigger": "", "seq": 1, "prev_receipt": "",
}  # fmt: skip
EVENT = {"t": "step", "doing": "restart cron.service"}
LINE = keys.public_line(SIGNER.public_key)


def encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def signed(namespace: str, body: bytes, *signers: keys.PrivateKey) -> bytes:
    """A frame's content."""
    return sshsig.pack_signed(body, [sshsig.sign(signer, namespace, body) for signer in signers or (SIGNER,)])


@cache
def trust() -> trustfile.Trust:
    grant = trustfile.Grant(("service.restart", "cron.add"), (HASH,), {"app": "shop"})
    key = trustfile.CommandKey(
        "ci", OTHER.public_key, 1_900_000_000_000, (grant,), 0, (LINE,), ("203.0.113.0/24",),
        trustfile.Seal(SEAL_KEY.public, ("*",)),
    )  # fmt: skip
    roots = trustfile.RootKey("ana", SIGNER.public_key), trustfile.RootKey("bob", OTHER.public_key)
    return trustfile.Trust("f1" * 16, 1, 1_900_000_000_000, trustfile.Role(2, roots), trustfile.Role(1, roots), (key,))


def trust_bytes() -> bytes:
    return trustfile.body(trust())


def bundle_bytes() -> bytes:
    return bundle.manifest(3, {"runner.py": b"1", "serverflow_actions/service/restart.py": b"", "registry.json": b"{}"})


@cache
def pin() -> pins.Pin:
    return pins.Pin("web1", (LINE,), "fingerprint", "2026-11-22T19:00:00Z", "203.0.113.7:22", HASH, LINE)


def armored() -> str:
    return "".join(sshsig.armor(sshsig.sign(signer, sshsig.TRUST, trust_bytes())) for signer in (SIGNER, OTHER))


def chain_line(prev: str = "") -> bytes:
    """One line of an operator's chain of receipts."""
    body = encode(RECEIPT)
    sig = base64.b64encode(sshsig.sign(SIGNER, sshsig.RECEIPT, body)).decode()
    return encode({"server": HASH, "body": body.decode(), "sig": sig, "prev": prev, "at": 1}) + b"\n"


def pins_bytes() -> bytes:
    return pins.dump({"web1": pin()}, 3, "f1" * 16)


def server_line() -> bytes:
    """One line of a server's chain."""
    body = encode(RECEIPT)
    sig = base64.b64encode(sshsig.sign(SIGNER, sshsig.RECEIPT, body)).decode()
    return encode({"body": body.decode(), "sig": sig}) + b"\n"


def secrets_bytes() -> bytes:
    box = secrets.box_name("ana", SEAL_KEY.public)
    return secrets.dump(secrets.Content("f1" * 16, 1, {"redis_password": {box: bytes(60)}}))


def invited() -> invitation.Invitation:
    return invitation.Invitation(
        "f1" * 16, "bob", OTHER.public_key, (LINE,), SEAL_KEY.public, OTHER.public_key, SIGNER.public_key
    )
