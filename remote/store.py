"""The server's state: operations, the receipt chain, locks. Every write is complete and on disk before it counts."""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from typing import Any

import layout
from signing import RECEIPT, Identity

BALLAST_SIZE = 1 << 20
OPS_KEPT = 500
DENIALS_AN_HOUR = 60


class Busy(Exception):
    """Another operation holds the lock; the argument says which."""


class DiskFull(Exception):
    """No room to record the operation, so it must not run."""


class Burned(Exception):
    """This operation id was used before."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def write_file(path: str, data: bytes, mode: int = 0o600, exclusive: bool = False) -> None:
    """Atomic replace; with `exclusive` the file must not exist yet. File and folder are fsynced."""
    folder = os.path.dirname(path)
    target = path if exclusive else f"{folder}/.{os.path.basename(path)}.{secrets.token_hex(6)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(target, flags, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target != path:
            os.rename(target, path)
        sync_folder(folder)
    except FileExistsError:
        raise
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(target)
        raise


def sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_file(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def boot_marker() -> str:
    """Changes at each boot, also in containers, where the kernel's boot_id is the host's."""
    found = read_file(layout.BOOT)
    if found:
        return found.decode()
    os.makedirs(layout.RUN, mode=0o700, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        write_file(layout.BOOT, secrets.token_hex(16).encode(), exclusive=True)
    return (read_file(layout.BOOT) or b"").decode()


# --- locks -----------------------------------------------------------------------------------------------------------


def take_lock(name: str, wait_s: float, owner: dict[str, Any]) -> int:
    """An flock that is passed on to the executor by descriptor. Raises Busy with the owner's story when the wait is
    over.
    """
    os.makedirs(layout.LOCKS, mode=0o700, exist_ok=True)
    descriptor = os.open(f"{layout.LOCKS}/{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait_s
    pause = 0.02
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() >= deadline:
                story = os.pread(descriptor, 4096, 0).decode("utf-8", "replace")
                os.close(descriptor)
                raise Busy(story) from None
            time.sleep(pause)
            pause = min(pause * 2, 0.5)
        else:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(owner).encode(), 0)
            return descriptor


def lock_story(story: str) -> str:
    """The owner of a lock as a sentence."""
    try:
        owner = json.loads(story)
        age = max(0, now_ms() - owner["since"]) // 1000
        return f"{owner['action']} by {owner['actor']} holds the lock for {age} s (op {owner['op_id']})"
    except (ValueError, KeyError):
        return "another operation holds the lock"


# --- operations ------------------------------------------------------------------------------------------------------


def op_folder(op_id: str) -> str:
    return f"{layout.OPS}/{op_id}"


def burn(op_id: str, frame: bytes) -> None:
    """Use the operation id up. Existence of its folder alone means burned. Raises Burned or DiskFull; then nothing may
    run.
    """
    folder = op_folder(op_id)
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        raise Burned(op_id) from None
    except OSError as error:
        raise DiskFull(str(error)) from error
    try:
        write_file(f"{folder}/command", frame, exclusive=True)
        sync_folder(layout.OPS)
    except OSError as error:
        # Nothing ran, and nothing will: without the record the caller stops here.
        with contextlib.suppress(OSError):
            os.rmdir(folder)
        raise DiskFull(str(error)) from error


def burned(op_id: str) -> bool:
    return os.path.lexists(op_folder(op_id))


def prune() -> None:
    """Keep the newest operations, by our clock: ids come from clients. What is removed cannot be replayed all the same,
    since a command is bound to one connection's challenge.
    """
    folders = [op_folder(name) for name in os.listdir(layout.OPS)]
    ended = [folder for folder in folders if os.path.exists(f"{folder}/receipt")]
    ended.sort(key=lambda folder: os.stat(f"{folder}/receipt").st_mtime_ns)
    for folder in ended[:-OPS_KEPT]:
        with contextlib.suppress(OSError):
            for entry in os.listdir(folder):
                os.unlink(f"{folder}/{entry}")
            os.rmdir(folder)


# --- the receipt chain -----------------------------------------------------------------------------------------------


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


def chain_lines() -> list[bytes]:
    """All complete lines, oldest first."""
    data = read_file(layout.CHAIN) or b""
    return data[: data.rfind(b"\n") + 1].splitlines()


def append_receipt(identity: Identity, receipt: dict[str, Any]) -> bytes:
    """Number, sign and chain a receipt; returns the `signed` structure to send.

    A full disk does not lose a receipt: room for it was set aside (the ballast).
    """
    with _chain_lock():
        seq, previous = last_receipt()
        receipt = dict(receipt, seq=seq + 1, prev_receipt=previous)
        body = encode(receipt)
        blob = identity.sign(RECEIPT, body)
        line = (
            json.dumps({"body": body.decode(), "sig": base64.b64encode(blob).decode()}, separators=(",", ":")).encode()
            + b"\n"
        )
        try:
            _append(line)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            os.unlink(layout.BALLAST)
            _append(line)
    keep_ballast()
    return b"\x01" + len(blob).to_bytes(2, "big") + blob + body


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
def _chain_lock() -> Iterator[None]:
    descriptor = os.open(layout.CHAIN + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def keep_ballast() -> None:
    """Set aside the room that the next receipt may need."""
    try:
        if os.path.getsize(layout.BALLAST) >= BALLAST_SIZE:
            return
    except FileNotFoundError:
        pass
    with contextlib.suppress(OSError):
        write_file(layout.BALLAST, b"\0" * BALLAST_SIZE)


def denials_this_hour() -> int:
    """Denied entries among the last ones of the chain; more are answered but not recorded, so that nobody can fill the
    disk.
    """
    limit = now_ms() - 3_600_000
    bodies = (json.loads(json.loads(line)["body"]) for line in _tail(DENIALS_AN_HOUR))
    return sum(body["outcome"] == "denied" and body["finished_at"] > limit for body in bodies)


def find_receipt(op_id: str) -> bytes | None:
    """The newest receipts' frame for an operation, from the chain."""
    for line in reversed(_tail(OPS_KEPT)):
        entry = json.loads(line)
        if json.loads(entry["body"])["op_id"] == op_id:
            blob = base64.b64decode(entry["sig"])
            return b"\x01" + len(blob).to_bytes(2, "big") + blob + entry["body"].encode()
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


def encode(value: Any) -> bytes:
    """The JSON that is signed: compact, sorted, UTF-8."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode("utf-8", "replace")


# --- what was last applied -------------------------------------------------------------------------------------------


def applied(resource: str) -> dict[str, Any] | None:
    """Hash, actor, op and time of the last apply of a resource."""
    data = read_file(_applied_path(resource))
    return dict(json.loads(data)) if data else None


def all_applied() -> dict[str, Any]:
    """Every resource that was applied here."""
    names = os.listdir(layout.APPLIED) if os.path.isdir(layout.APPLIED) else []
    entries = [json.loads(read_file(f"{layout.APPLIED}/{name}") or b"{}") for name in names if name.endswith(".json")]
    return {entry["resource"]: entry for entry in sorted(entries, key=lambda entry: str(entry["resource"]))}


def record_applied(resource: str, entry: dict[str, Any] | None) -> None:
    """Remember what was applied; None when the resource was removed."""
    os.makedirs(layout.APPLIED, mode=0o700, exist_ok=True)
    if entry is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_applied_path(resource))
        return
    write_file(_applied_path(resource), encode(entry))


def _applied_path(resource: str) -> str:
    """The name of a resource comes from outside; its hash is a safe file name."""
    return f"{layout.APPLIED}/{hashlib.sha256(resource.encode()).hexdigest()}.json"
