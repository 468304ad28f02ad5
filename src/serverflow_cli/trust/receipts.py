"""The operator's own chain of receipts: JSON lines, each with the SHA-256 of the line before.

It shows what this operator was told, and that nobody changed or removed a line in the middle. A cut at the end shows
only beside the servers' chains, which hold the same receipts.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import TrustError
from . import sshsig

_BLOCK = 64 * 1024


@dataclass(frozen=True)
class Entry:
    """One line. `body` is the receipt's exact text, `sig` its SSHSIG blob, `at` when it was stored (ms since 1970)."""

    server: str
    body: str
    sig: bytes
    prev: str
    at: int

    @property
    def receipt(self) -> dict[str, Any]:
        """The body, read."""
        value: dict[str, Any] = json.loads(self.body)
        return value


def append(path: Path, server: str, body: bytes, sig: bytes, at: int) -> str:
    """Add a verified receipt of a server (id) durably; returns the hash of its line.

    What a crash left half-written is moved to PATH.damaged first, so that the chain goes on from the last whole line.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        last, whole = _last_line(descriptor)
        _set_aside(descriptor, whole, path)
        entry = {"server": server, "body": body.decode(), "sig": base64.b64encode(sig).decode()}
        line = json.dumps({**entry, "prev": _hash(last), "at": at}, ensure_ascii=False).encode()
        file.seek(whole)
        file.write(line + b"\n")
        file.flush()
        os.fsync(descriptor)
    return _hash(line)


def last_hash(path: Path) -> str:
    """The SHA-256 of the last whole line, "" when there is none. Reads the end of the file only."""
    try:
        with path.open("rb") as file:
            return _hash(_last_line(file.fileno())[0])
    except FileNotFoundError:
        return ""


def entries(path: Path) -> Iterator[Entry]:
    """All whole lines, oldest first. Raises TrustError at a line that is no receipt."""
    for number, line in _lines(path):
        try:
            yield _entry(line)
        except ValueError:
            raise TrustError(f"line {number} of {path} is damaged", hint="sf audit verify shows all") from None


def verify(path: Path, identities: Mapping[str, bytes]) -> list[str]:
    """What is wrong with the chain, a sentence each; none for a sound one. `identities`: server id → raw public key."""
    problems, previous = [], ""
    for number, line in _lines(path):
        try:
            wrong = list(_wrong(_entry(line), previous, identities))
        except (ValueError, RecursionError):
            wrong = ["it is damaged"]
        problems += [f"line {number}: {what}" for what in wrong]
        previous = _hash(line)
    return problems


def _wrong(entry: Entry, previous: str, identities: Mapping[str, bytes]) -> Iterator[str]:
    """Raises ValueError when the body is no JSON object."""
    if entry.prev != previous:
        yield "it does not follow the line before: one was changed, removed or added"
    if not isinstance(entry.receipt, dict) or entry.receipt.get("server_id") != entry.server:
        yield "the receipt is of another server than the line says"
    if entry.server not in identities:
        yield f"the server {entry.server[:12]} is not pinned, so its signature says nothing"
        return
    try:
        if sshsig.verify(entry.sig, sshsig.RECEIPT, entry.body.encode()) != identities[entry.server]:
            yield "it was signed by another key than the server's"
    except TrustError as error:
        yield error.message


def _entry(line: bytes) -> Entry:
    """Raises ValueError."""
    value = json.loads(line)
    if not isinstance(value, dict) or set(value) != {"server", "body", "sig", "prev", "at"}:
        raise ValueError("not a line of receipts")
    if (
        not all(isinstance(value[name], str) for name in ("server", "body", "sig", "prev"))
        or type(value["at"]) is not int
    ):
        raise ValueError("not a line of receipts")
    return Entry(
        value["server"], value["body"], base64.b64decode(value["sig"], validate=True), value["prev"], value["at"]
    )


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Whole lines only, numbered from 1: an unfinished last one was never acknowledged to anybody."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    yield number, line[:-1]
    except FileNotFoundError:
        return


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest() if line else ""


def _last_line(descriptor: int) -> tuple[bytes, int]:
    """The last whole line without its newline, and where it ends; reads backwards."""
    at, tail = os.fstat(descriptor).st_size, b""
    while at and tail.count(b"\n") < 2:
        start = max(0, at - _BLOCK)
        tail = os.pread(descriptor, at - start, start) + tail
        at = start
    whole = tail.rfind(b"\n") + 1
    return tail[: max(0, whole - 1)].rpartition(b"\n")[2], at + whole


def _set_aside(descriptor: int, whole: int, path: Path) -> None:
    """Move what follows the last whole line out of the chain, and keep it."""
    rest = os.pread(descriptor, os.fstat(descriptor).st_size - whole, whole)
    if not rest:
        return
    with path.with_name(path.name + ".damaged").open("ab") as aside:
        aside.write(rest + b"\n")
        aside.flush()
        os.fsync(aside.fileno())
    os.ftruncate(descriptor, whole)
