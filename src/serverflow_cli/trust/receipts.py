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
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import TrustError
from . import serverchain, sshsig

_BLOCK = 64 * 1024


@dataclass(frozen=True)
class Entry:
    """One line. `body` is the receipt's exact text, `sig` its SSHSIG blob, `at` when it was stored (ms since 1970)."""

    server: str
    body: str
    sig: bytes
    prev: str
    at: int

    @cached_property
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


def newest(path: Path) -> Iterator[Entry]:
    """The same, newest first, read from the end of the file. Raises TrustError."""
    for line in _backwards(path):
        try:
            yield _entry(line)
        except ValueError:
            raise TrustError(f"a line of {path} is damaged", hint="sf audit verify shows all") from None


def verify(path: Path, identities: Mapping[str, Sequence[bytes]]) -> list[str]:
    """What is wrong with the chain, a sentence each; none for a sound one.

    `identities`: server id → its raw public keys, oldest first. Once a newer one has signed, by the server's own
    numbers, an older one may not.
    """
    problems, previous, by_server = [], "", defaultdict[str, list[_Numbered]](list)
    for number, line in _lines(path):
        try:
            entry = _entry(line)
            wrong = list(_wrong(entry, previous))
            try:
                numbered = _numbered(number, entry)
                if _is_reply(entry.receipt):
                    wrong.append("it is a reply and no receipt, which has no place in a chain")
                else:
                    by_server[entry.server].append(numbered)
            except TrustError as error:
                wrong.append(error.message)
        except (ValueError, RecursionError):
            wrong = ["it is damaged"]
        problems += [f"line {number}: {what}" for what in wrong]
        previous = _hash(line)
    for server, found in by_server.items():
        problems += _wrong_at(server, found, identities.get(server, ()))
    return problems


def count(path: Path) -> int:
    """How many lines there are, damaged ones too."""
    return sum(1 for _ in _lines(path))


def own(path: Path, selves: Collection[tuple[str, str]]) -> dict[str, serverchain.Own]:
    """What the servers' chains are compared with, by server id; "" has it for servers that we hold nothing of.

    `selves` are the key fingerprint and name that we act as now; those that we acted as before are in the receipts.
    Damaged lines are left out: `verify` tells of them.
    """
    lines, acted, held = set(), set(selves), defaultdict[str, dict[int, str]](dict)
    for _, line in _lines(path):
        lines.add(_hash(line))
        try:
            entry = _entry(line)
            receipt = entry.receipt
            if _is_reply(receipt):
                continue
            actor = receipt["actor"]
            if actor["says"]:
                acted.add((str(actor["key"]), str(actor["says"])))
            held[entry.server][int(receipt["seq"])] = _line_hash(entry)
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
    held[""] = {}
    return {server: serverchain.Own(lines, acted, receipts) for server, receipts in held.items()}


@dataclass(frozen=True)
class _Numbered:
    """A receipt by its place in its server's chain."""

    line: int
    seq: int
    prev: str
    hash: str
    signer: bytes


def _numbered(line: int, entry: Entry) -> _Numbered:
    """Raises TrustError, and ValueError when the body is no receipt."""
    receipt = entry.receipt
    seq, prev = receipt.get("seq"), receipt.get("prev_receipt")
    if type(seq) is not int or not isinstance(prev, str):
        raise ValueError("no receipt")
    signer = sshsig.verify(entry.sig, sshsig.RECEIPT, entry.body.encode())
    return _Numbered(line, seq, prev, _line_hash(entry), signer)


def _line_hash(entry: Entry) -> str:
    """The hash of its line in the server's chain."""
    return _hash(serverchain.line_of(entry.body, entry.sig).encode())


def _is_reply(receipt: Mapping[str, Any]) -> bool:
    """A reply has number 0, so it says nothing about the server's chain."""
    return receipt.get("typ") == "reply"


def _wrong(entry: Entry, previous: str) -> Iterator[str]:
    """Raises ValueError when the body is no JSON object."""
    if entry.prev != previous:
        yield "it does not follow the line before: one was changed, removed or added"
    if not isinstance(entry.receipt, dict):
        raise ValueError("no receipt")
    if entry.receipt.get("server_id") != entry.server:
        yield "the receipt is of another server than the line says"


def _wrong_at(server: str, found: list[_Numbered], keys: Sequence[bytes]) -> Iterator[str]:
    """What is wrong with the receipts of one server, in its own order."""
    if not keys:
        lines = ", ".join(str(one.line) for one in found[:10])
        yield f"line {lines}: the server {server[:12]} is not pinned, so its signature says nothing"
        return
    rank, last = 0, None
    for one in sorted(found, key=lambda one: (one.seq, one.line)):
        problem = serverchain.wrong_key(one.signer, keys, rank)
        if problem:
            yield f"line {one.line}: it {problem}"
        else:
            rank = keys.index(one.signer)
        if last and last.seq == one.seq and last.hash != one.hash:
            yield f"line {one.line}: the server has given its number {one.seq} to another receipt, in line {last.line}"
        if last and last.seq + 1 == one.seq and last.hash != one.prev:
            yield f"line {one.line}: the server says that it follows another receipt than that in line {last.line}"
        last = one


def _entry(line: bytes) -> Entry:
    """Raises ValueError."""
    try:
        value = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
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


def _backwards(path: Path) -> Iterator[bytes]:
    """Whole lines, the last one first."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        at, rest, whole = os.fstat(file.fileno()).st_size, b"", False
        while at:
            start = max(0, at - _BLOCK)
            first, *lines = (os.pread(file.fileno(), at - start, start) + rest).split(b"\n")
            if lines and not whole:
                whole = True
                lines.pop()  # what follows the last newline
            yield from reversed(lines)
            at, rest = start, first
        if whole:
            yield rest


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
