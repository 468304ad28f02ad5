"""The receipt chain: one line for each receipt, signed, with the hash of the line before (docs/protocol.md)."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from itertools import islice
from typing import Any

import layout
import segments
import store
from signing import RECEIPT, Identity

DENIALS_AN_HOUR = 60
#: Bytes of the chain that are searched for a receipt.
_SEARCHED = 4 << 20


def last_receipt() -> tuple[int, str]:
    """Sequence number and hash of the newest receipt; (0, "") for an empty chain."""
    line = next(segments.newest(), b"")
    return (segments.seq_of(line), hashlib.sha256(line).hexdigest()) if line else (0, "")


def page(segment: int, offset: int) -> dict[str, Any]:
    """A part of the chain (segments.py), while nobody closes a segment."""
    with _lock():
        return segments.page(segment, offset)


def append_receipt(identity: Identity, receipt: dict[str, Any], *, ballast: bool = True) -> bytes:
    """Number, sign and chain a receipt; returns the `signed` structure to send.

    A full disk does not lose the receipt of what was done: room for it was set aside (the ballast). A denial must not
    use that up. Raises OSError when there is no room.
    """
    with _lock():
        return _append_receipt(identity, receipt, ballast)


def append_denial(identity: Identity, receipt: dict[str, Any]) -> bytes | None:
    """The same for a denial; None when it is not kept: the disk is full, or there were too many in this hour."""
    with _lock():
        try:
            counter = _denials(str(receipt["actor"]["key"]))
            count = _denials_this_hour(counter)
            if count >= DENIALS_AN_HOUR:
                return None
            frame = _append_receipt(identity, receipt, ballast=False)
            store.write_file(counter, f"{_hour()} {count + 1}".encode())
        except OSError:
            return None
        return frame


def _append_receipt(identity: Identity, receipt: dict[str, Any], ballast: bool) -> bytes:
    segments.keep_bounded(identity)
    seq, previous = last_receipt()
    body = store.encode(dict(receipt, seq=seq + 1, prev_receipt=previous))
    blob, line = segments.signed_line(identity, RECEIPT, body)
    try:
        _append(line)
    except OSError as error:
        if not ballast or error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        with contextlib.suppress(FileNotFoundError):
            os.unlink(layout.BALLAST)
        _append(line)
    if ballast:
        store.keep_ballast()
    return _signed(blob, body)


def _signed(blob: bytes, body: bytes) -> bytes:
    return b"\x01" + len(blob).to_bytes(2, "big") + blob + body


def _denials(key: str) -> str:
    """One for each key: whoever causes denials keeps nobody else's out. Only keys that trust lists come this far."""
    return f"{layout.RUN}/denials-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _hour() -> int:
    return store.now_ms() // 3_600_000


def _denials_this_hour(counter: str) -> int:
    """Kept in memory, beside the chain: what others append in between must not hide them."""
    hour, _, count = (store.read_file(counter) or b"0 0").partition(b" ")
    return int(count) if int(hour) == _hour() else 0


def _append(line: bytes) -> None:
    segments.append(layout.CHAIN, line)


def settle() -> None:
    """Finish or give up a switch of the identity key that was cut off."""
    if os.path.lexists(layout.IDENTITY_SWITCH):
        with _lock():
            pass


def _settle() -> None:
    if os.path.lexists(layout.IDENTITY_SWITCH):
        import rekey

        rekey.settle()


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    with store.alone(layout.CHAIN + ".lock"):
        _settle()
        yield
        _settle()


def receipt_of(op_id: str) -> bytes | None:
    """An operation's receipt: the file in its folder or, when a full disk or a crash left none, the chain's entry."""
    frame = store.read_file(f"{store.op_folder(op_id)}/receipt")
    if frame:
        return frame
    if store.is_scheduled(op_id):
        job = json.loads(store.read_file(f"{store.op_folder(op_id)}/job") or b"{}")
        return find_receipt(op_id, job["about"]["body_sha256"]) if job else None
    first = store.burned_by(op_id)
    return find_receipt(op_id, hashlib.sha256(first.body).hexdigest()) if first else None


def find_receipt(op_id: str, body_sha256: str) -> bytes | None:
    """The frame of an operation's receipt, from the chain. Not every entry with its id is one: denials of another
    command that named the same id are there too, so the hash of the command's body has to agree.
    """
    size = 0
    for line in islice(segments.newest(), store.OPS_KEPT):
        size += len(line)
        if size > _SEARCHED:
            break
        entry = json.loads(line)
        body = json.loads(entry["body"])
        if (body["op_id"], body["body_sha256"]) == (op_id, body_sha256):
            return _signed(base64.b64decode(entry["sig"]), entry["body"].encode())
    return None
