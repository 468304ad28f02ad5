"""The files of the receipt chain: the open segment, the closed ones, and a signed checkpoint for each that was closed.

    receipts.chain          grows; one line for each receipt
    receipts.N.chain        was closed when it was full; the oldest go
    receipts.checkpoints    where each ended, and which have gone: one line for each closed segment, for ever

A crash or a full disk between any two steps leaves something that `keep_bounded` finishes next time. No step is needed
for the next receipt to be written, and the hash of a segment's last line goes on into the next segment's first.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import layout
import store
from signing import CHECKPOINT, Identity

#: Bytes after which a segment is closed, and how many closed ones are kept.
SEGMENT_SIZE = 8 << 20
SEGMENTS_KEPT = 64

_BLOCK = 64 << 10
#: No line of ours is longer.
_LONGEST = 1 << 20
_PAGE = 900_000


def path(number: int) -> str:
    """A closed segment."""
    stem, extension = os.path.splitext(layout.CHAIN)
    return f"{stem}.{number}{extension}"


def checkpoints() -> str:
    return os.path.splitext(layout.CHAIN)[0] + ".checkpoints"


def closed() -> list[int]:
    """The numbers of the closed segments that are there, oldest first."""
    folder, name = os.path.split(layout.CHAIN)
    stem, extension = os.path.splitext(name)
    pattern = re.compile(rf"{re.escape(stem)}\.([1-9][0-9]{{0,8}}){re.escape(extension)}", re.ASCII)
    found = map(pattern.fullmatch, os.listdir(folder))
    return sorted(int(match.group(1)) for match in found if match)


def newest() -> Iterator[bytes]:
    """All complete lines of all segments, newest first. One that is closed meanwhile comes twice, none is left out."""
    yield from backwards(layout.CHAIN)
    for number in reversed(closed()):
        yield from backwards(path(number))


def backwards(name: str) -> Iterator[bytes]:
    """The complete lines of a file from its end; none when it is not there. A torn line, from a crash, was never sent
    to anyone and does not count.
    """
    with contextlib.suppress(FileNotFoundError), open(name, "rb") as file:
        at, rest, whole = file.seek(0, os.SEEK_END), b"", False
        while at:
            start = max(0, at - _BLOCK)
            first, *lines = (os.pread(file.fileno(), at - start, start) + rest).split(b"\n")
            if lines and not whole:
                whole = True
                lines.pop()
            yield from reversed(lines)
            at, rest = start, first
        if whole:
            yield rest


def append(name: str, line: bytes) -> None:
    """Durable, after the last complete line; what a full disk cuts off is taken back. Raises OSError."""
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        data_end = _complete_size(descriptor)
        os.ftruncate(descriptor, data_end)
        written = 0
        try:
            while written < len(line):
                written += os.pwrite(descriptor, line[written:], data_end + written)
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, data_end)
            raise
    finally:
        os.close(descriptor)


def _complete_size(descriptor: int) -> int:
    position = os.fstat(descriptor).st_size
    while position > 0:
        start = max(0, position - _BLOCK)
        end = os.pread(descriptor, position - start, start).rfind(b"\n")
        if end >= 0:
            return start + end + 1
        position = start
    return 0


# --- closing ---------------------------------------------------------------------------------------------------------


def keep_bounded(identity: Identity) -> None:
    """Close the open segment when it is full, sign the checkpoints that are missing, drop what is too old.

    Under the chain's lock, before a receipt is written. What does not work now is left for the next time, because no
    receipt may be lost for its sake.
    """
    with contextlib.suppress(OSError):
        if os.path.getsize(layout.CHAIN) >= SEGMENT_SIZE:
            _close()
    try:
        there, last = closed(), _last_checkpoint()
        for number in there:
            if number > last["segment"]:
                last = _check(identity, number, last)
        for number in there:
            if number <= last["dropped"]:
                os.unlink(path(number))
    except (OSError, ValueError, LookupError, TypeError) as error:
        _log(f"the receipt chain is not kept bounded: {error}")


def _log(message: str) -> None:
    import syslog

    syslog.openlog("serverflow")
    syslog.syslog(syslog.LOG_WARNING, message)


def _close() -> None:
    with open(layout.CHAIN, "r+b") as file:
        if not file.truncate(_complete_size(file.fileno())):
            return
        os.fsync(file.fileno())
    os.rename(layout.CHAIN, path(_open_number()))
    store.sync_folder(os.path.dirname(layout.CHAIN))


def _open_number() -> int:
    return max([0, int(_last_checkpoint()["segment"]), *closed()]) + 1


def _last_checkpoint() -> dict[str, Any]:
    """Its body; with zeros when there is none yet. A damaged one is passed over: whoever reads the chain sees it, and
    what it was about is checked again, but the chain must not grow for ever.
    """
    for line in backwards(checkpoints()):
        try:
            body: dict[str, Any] = json.loads(json.loads(line)["body"])
            if all(type(body[name]) is int and 0 <= body[name] < 10**9 for name in ("segment", "dropped")):
                return body
        except (ValueError, LookupError, TypeError, RecursionError):
            pass
        _log(f"a line of {checkpoints()} is damaged")
    return {"segment": 0, "dropped": 0}


def _check(identity: Identity, number: int, last: dict[str, Any]) -> dict[str, Any]:
    """Append the checkpoint of a closed segment; returns its body."""
    with open(path(number), "rb") as file:
        first_line = file.readline()[:-1]
    last_line = next(backwards(path(number)), b"")
    previous = next(backwards(checkpoints()), b"")
    body = {
        "v": 1,
        "typ": "checkpoint",
        "server_id": (store.read_file(layout.SERVER_ID) or b"").decode().strip(),
        "segment": number,
        "first_seq": seq_of(first_line),
        "last_seq": seq_of(last_line),
        "last_hash": hashlib.sha256(last_line).hexdigest(),
        "dropped": max(last["dropped"], number - SEGMENTS_KEPT),
        "at": store.now_ms(),
        "prev_checkpoint": hashlib.sha256(previous).hexdigest() if previous else "",
    }
    append(checkpoints(), signed_line(identity, CHECKPOINT, store.encode(body))[1])
    return body


def seq_of(line: bytes) -> int:
    """The sequence number in a receipt's line."""
    return int(json.loads(json.loads(line)["body"])["seq"])


def signed_line(identity: Identity, namespace: str, body: bytes) -> tuple[bytes, bytes]:
    """The signature, and the line with body and signature."""
    blob = identity.sign(namespace, body)
    entry = {"body": body.decode(), "sig": base64.b64encode(blob).decode()}
    return blob, json.dumps(entry, separators=(",", ":")).encode() + b"\n"


# --- reading ---------------------------------------------------------------------------------------------------------


def page(segment: int, offset: int) -> dict[str, Any]:
    """Complete lines of a segment from a byte offset on, as many as fit into one reply; segment 0 is the checkpoints.

    Under the chain's lock. `next` is where to go on and `more` whether there is more; `first` and `last` are the
    oldest segment that was not dropped and the open one.
    """
    last, first = _open_number(), int(_last_checkpoint()["dropped"]) + 1
    name = checkpoints() if segment == 0 else layout.CHAIN if segment == last else path(segment)
    lines: list[str] = []
    size, more = 0, False
    with contextlib.suppress(FileNotFoundError), open(name, "rb") as file:
        file.seek(offset)
        for line in iter(lambda: file.readline(_LONGEST), b""):
            if not line.endswith(b"\n") and len(line) < _LONGEST:
                break
            size += len(line)
            more = bool(lines) and size > _PAGE
            if more:
                break
            # Whoever has put other bytes there finds no mercy in the hash.
            lines.append(line.decode("utf-8", "replace").rstrip("\n"))
            offset += len(line)
    return {"lines": lines, "next": offset, "more": more, "first": first, "last": last}
