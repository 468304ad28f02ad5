"""`server.rekey`: a new identity key or SSH host key, made beside the one in use, and then put in its place.

A key is activated only by a command that names it: clients pin it first, so no key takes over that nobody knows.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

import chain
import hostkey
import layout
import store
from messages import Denied
from signing import PROOF, Identity
from units import told

Answer = tuple[str, dict[str, Any]]


def perform(params: Mapping[str, Any], op_id: str) -> Answer:
    """One stage for one kind of key, under the server's lock. Raises Denied."""
    kind, stage, key = params["kind"], params["stage"], " ".join(params["key"].split()[:2])
    if (stage == "activate") != bool(key):
        raise Denied("bad-params", "activate, and only that, names the key")
    # A switch that was decided and cut off counts: what follows must not work on the key of before.
    chain.settle()
    try:
        if kind == "host":
            return hostkey.perform(stage, key, op_id)
        if stage == "prepare":
            return _prepare()
        return _activate(key, op_id) if stage == "activate" else _discard()
    except (OSError, subprocess.SubprocessError) as error:
        raise Denied("action-failed", f"nothing was changed: {told(error)}") from error


def _prepare() -> Answer:
    """The next key, the same one however often it is asked for, with the proof that this server holds it."""
    made = not os.path.exists(layout.IDENTITY_NEXT)
    if made:
        hostkey.make(layout.IDENTITY_NEXT, "serverflow identity")
    old, new = hostkey.public_half(layout.IDENTITY), hostkey.public_half(layout.IDENTITY_NEXT)
    proof = Identity(layout.IDENTITY_NEXT).sign(PROOF, statement(old, new))
    return "done" if made else "unchanged", {"active": old, "next": new, "proof": base64.b64encode(proof).decode()}


def statement(old: str, new: str) -> bytes:
    """What the new key signs. The old one signs the receipt that carries it."""
    server_id = (store.read_file(layout.SERVER_ID) or b"").decode().strip()
    return store.encode({"v": 1, "typ": "identity", "server_id": server_id, "old": old, "new": new})


def _activate(key: str, op_id: str) -> Answer:
    """Decide for the new key. Our receipt, by the old one, is what makes it so: see `settle`."""
    active = hostkey.public_half(layout.IDENTITY)
    if active == key:
        return "unchanged", {"active": active}
    if not os.path.exists(layout.IDENTITY_NEXT) or hostkey.public_half(layout.IDENTITY_NEXT) != key:
        raise Denied("bad-params", "the key that this command names is not prepared here")
    store.write_file(layout.IDENTITY_SWITCH, op_id.encode())
    return "done", {"active": key}


def _discard() -> Answer:
    try:
        os.unlink(layout.IDENTITY_NEXT)
    except FileNotFoundError:
        return "unchanged", {}
    store.sync_folder(layout.STATE)
    return "done", {}


def settle() -> None:
    """Under the chain's lock: carry a switch of the identity key out once its receipt is in the chain, and give it up
    when its operation has ended without one. So nothing between the two is signed by the old key, a crash finds either
    the old key or the new in its place, and whoever writes to the chain next, or says HELLO, finishes.
    """
    op_id = (store.read_file(layout.IDENTITY_SWITCH) or b"").decode()
    if not op_id:
        return
    frame = chain.receipt_of(op_id)
    if frame is None and store.running(op_id):
        return
    if frame is not None and json.loads(frame[3 + int.from_bytes(frame[1:3], "big") :])["outcome"] == "done":
        with contextlib.suppress(FileNotFoundError):  # the rename is done already
            os.rename(layout.IDENTITY_NEXT, layout.IDENTITY)
            store.sync_folder(layout.STATE)
        with contextlib.suppress(OSError, subprocess.SubprocessError):  # for people; nothing reads it
            store.write_file(f"{layout.IDENTITY}.pub", f"{hostkey.public_half(layout.IDENTITY)}\n".encode(), 0o644)
    os.unlink(layout.IDENTITY_SWITCH)
    store.sync_folder(layout.STATE)
