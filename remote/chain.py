"""The receipt chain: one line for each receipt, signed, with the hash of the line before (docs/protocol.md)."""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any

import layout
import store
from signing import RECEIPT, Identity

DENIALS_AN_HOUR = 60


def last_receipt() -> tuple[int, str]:
    """Sequence number and hash of the newest receipt; (0, "") for an empty chain."""
    line = _last_line()
    if not line:
        return 0, ""
    return int(json.loads(json.loads(line)["body"])["seq"]), hashlib.sha256(line).hexdigest()


def _last_line() -> bytes:
    """The last complete line, read from the tail. A torn line, from a crash, was never sent to anyone and does not
    count.
    """
    try:
        with open(layout.CHAIN, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            window = 65536
            while True:
                start = max(0, size - window)
                file.seek(start)
                data = file.read(size - start)
                end = data.rfind(b"\n")
                begin = data.rfind(b"\n", 0, end) if end > 0 else -1
                if end >= 0 and (begin >= 0 or start == 0):
                    return data[begin + 1 : end]
                if start == 0:
                    return b""
                window *= 4
    except FileNotFoundError:
        return b""


def lines() -> list[bytes]:
    """All complete lines, oldest first."""
    data = store.read_file(layout.CHAIN) or b""
    return data[: data.rfind(b"\n") + 1].splitlines()


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
            count = _denials_this_hour()
            if count >= DENIALS_AN_HOUR:
                return None
            frame = _append_receipt(identity, receipt, ballast=False)
            store.write_file(_denials(), f"{_hour()} {count + 1}".encode())
        except OSError:
            return None
        return frame


def _append_receipt(identity: Identity, receipt: dict[str, Any], ballast: bool) -> bytes:
    seq, previous = last_receipt()
    body = store.encode(dict(receipt, seq=seq + 1, prev_receipt=previous))
    blob = identity.sign(RECEIPT, body)
    entry = {"body": body.decode(), "sig": base64.b64encode(blob).decode()}
    line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
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


def _denials() -> str:
    return f"{layout.RUN}/denials"


def _hour() -> int:
    return store.now_ms() // 3_600_000


def _denials_this_hour() -> int:
    """Kept in memory, beside the chain: what others append in between must not hide them."""
    hour, _, count = (store.read_file(_denials()) or b"0 0").partition(b" ")
    return int(count) if int(hour) == _hour() else 0


def _append(line: bytes) -> None:
    with open(os.open(layout.CHAIN, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b") as file:
        data_end = _complete_size(file.fileno())
        file.truncate(data_end)
        file.seek(data_end)
        try:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            file.truncate(data_end)
            raise


def _complete_size(descriptor: int) -> int:
    size = os.fstat(descriptor).st_size
    position = size
    while position > 0:
        start = max(0, position - 65536)
        end = os.pread(descriptor, position - start, start).rfind(b"\n")
        if end >= 0:
            return start + end + 1
        position = start
    return 0


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    descriptor = os.open(layout.CHAIN + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def receipt_of(op_id: str) -> bytes | None:
    """An operation's receipt: the file in its folder or, when a full disk or a crash left none, the chain's entry."""
    frame = store.read_file(f"{store.op_folder(op_id)}/receipt")
    first = None if frame else store.burned_by(op_id)
    return find_receipt(op_id, hashlib.sha256(first.body).hexdigest()) if first else frame


def find_receipt(op_id: str, body_sha256: str) -> bytes | None:
    """The frame of an operation's receipt, from the chain. Not every entry with its id is one: denials of another
    command that named the same id are there too, so the hash of the command's body has to agree.
    """
    for line in reversed(_tail(store.OPS_KEPT)):
        entry = json.loads(line)
        body = json.loads(entry["body"])
        if (body["op_id"], body["body_sha256"]) == (op_id, body_sha256):
            return _signed(base64.b64decode(entry["sig"]), entry["body"].encode())
    return None


def _tail(count: int) -> list[bytes]:
    """The last complete lines of the chain, oldest first; never more than 4 MiB of it is read."""
    try:
        with open(layout.CHAIN, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - (4 << 20))
            file.seek(start)
            data = file.read()
    except FileNotFoundError:
        return []
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    return lines[1 if start else 0 :][-count:]
