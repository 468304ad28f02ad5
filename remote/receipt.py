"""The body of a receipt or reply: every key is always there (docs/protocol.md)."""

from __future__ import annotations

import hashlib
from typing import Any

import store

EMPTY = hashlib.sha256(b"").hexdigest()


def context(
    command: dict[str, Any], body: bytes, nonce: str, key_name: str, key_fingerprint: str, versions: dict[str, int]
) -> dict[str, Any]:
    """What is known before anything runs; it travels to the executor with the job."""
    return {
        "body_sha256": hashlib.sha256(body).hexdigest(),
        "nonce": nonce,
        "challenge": command["challenge"],
        "server_id": command["server_id"],
        "op_id": command["op_id"],
        "action": command["action"],
        "action_version": command["action_version"],
        "mode": command["mode"],
        "actor": {"name": key_name, "key": key_fingerprint, "says": command["actor"]},
        "started_at": store.now_ms(),
        "versions": versions,
        "anchor": command["prev_receipt"],
    }


def build(
    about: dict[str, Any], outcome: str, *, reply: bool = False, code: str = "", message: str = "", **more: Any
) -> dict[str, Any]:
    """`more` may set any key that has a default here."""
    body = {
        "v": 1,
        "typ": "reply" if reply else "receipt",
        **about,
        "outcome": outcome,
        "code": code,
        "message": message,
        "exit": {"code": None, "signal": None},
        "finished_at": store.now_ms(),
        "boot": store.boot_marker(),
        "output": {"sha256": EMPTY, "length": 0, "truncated": False},
        "sandbox": {"profile": "", "effective": {}},
        "changes": [],
        "data": {},
        "plan_sha256": "",
        "safe": None,
        "base": None,
        "trigger": "",
        "seq": 0,
        "prev_receipt": "",
    }
    unknown = set(more) - set(body)
    if unknown:
        raise KeyError(f"no such receipt keys: {unknown}")
    return {**body, **more}
