"""The server's state: files, locks, operations. Every write is complete and on disk before it counts."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from typing import Any

import layout
import verify

BALLAST_SIZE = 1 << 20
OPS_KEPT = 500
BLOBS_KEPT_S = 86_400
#: Stands for the signed command of an operation that a job of cron asked for. No frame begins so.
SCHEDULED = b"scheduled"


class Busy(Exception):
    """Another operation holds the lock; the argument says which."""


class DiskFull(Exception):
    """No room to record the operation, so it must not run."""


class Burned(Exception):
    """This operation id was used before."""


@contextlib.contextmanager
def alone(path: str) -> Iterator[None]:
    """Hold this lock file, flock(2), after whoever holds it. A crash frees it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def new_id() -> str:
    """A ULID: 48 bits of time in ms, 80 random ones, in Crockford's base 32."""
    number = now_ms() << 80 | secrets.randbits(80)
    return "".join("0123456789ABCDEFGHJKMNPQRSTVWXYZ"[number >> 5 * place & 31] for place in range(25, -1, -1))


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


def burn(op_id: str, frame: bytes) -> int:
    """Use the operation id up. Existence of its folder alone means burned. Raises Burned or DiskFull; then nothing may
    run.

    Returns the operation's lock (flock(2) on a descriptor). It goes on to the executor; while anyone holds it, the
    operation runs or is about to, and nobody may conclude how it ended.
    """
    folder = op_folder(op_id)
    # Without the room for its receipt an operation must not begin.
    if not keep_ballast():
        raise DiskFull("no room for the receipt")
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        raise Burned(op_id) from None
    except OSError as error:
        raise DiskFull(str(error)) from error
    lock = -1
    try:
        lock = _open_lock(op_id)
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_file(f"{folder}/command", frame, exclusive=True)
        sync_folder(layout.OPS)
    except OSError as error:
        # Nothing ran, and nothing will: without the record the caller stops here.
        for name in ("command", "lock"):
            with contextlib.suppress(OSError):
                os.unlink(f"{folder}/{name}")
        with contextlib.suppress(OSError):
            os.rmdir(folder)
        if lock >= 0:
            os.close(lock)
        raise DiskFull(str(error)) from error
    return lock


def lock_path(op_id: str) -> str:
    return f"{op_folder(op_id)}/lock"


def _open_lock(op_id: str) -> int:
    """Read-only: as the executor's standard output it must take nothing. A folder cannot be Python's."""
    return os.open(lock_path(op_id), os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def burned(op_id: str) -> bool:
    return os.path.lexists(op_folder(op_id))


def burned_by(op_id: str) -> verify.Signed | None:
    """The signed command that used the id up; None when it was pruned, a crash came before it was written, or a job of
    cron asked for it.
    """
    frame = read_file(f"{op_folder(op_id)}/command")
    return verify.parse_signed(frame) if frame and frame != SCHEDULED else None


def is_scheduled(op_id: str) -> bool:
    """Whether a job of cron asked for it."""
    return read_file(f"{op_folder(op_id)}/command") == SCHEDULED


def claim(op_id: str) -> int | None:
    """The lock of an operation that nobody works on, as a descriptor; None while somebody does."""
    try:
        lock = _open_lock(op_id)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def running(op_id: str) -> bool:
    """Whether somebody works on the operation."""
    try:
        lock = _open_lock(op_id)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def prune() -> None:
    """Keep the newest operations, by our clock: ids come from clients. What is removed cannot be replayed all the same,
    since a command is bound to one connection's challenge. Blobs that nobody fetched for a day go as well.
    """
    ended = []
    for name in os.listdir(layout.OPS):
        with contextlib.suppress(FileNotFoundError):
            folder = op_folder(name)
            has_receipt = os.path.exists(f"{folder}/receipt")
            if has_receipt or not running(name):
                ended.append((os.stat(f"{folder}/receipt" if has_receipt else folder).st_mtime_ns, folder))
    stale = [folder for _, folder in sorted(ended)[:-OPS_KEPT]]
    for name in os.listdir(layout.BLOBS):
        with contextlib.suppress(FileNotFoundError):
            if os.stat(f"{layout.BLOBS}/{name}").st_mtime < time.time() - BLOBS_KEPT_S:
                stale.append(f"{layout.BLOBS}/{name}")
    for folder in stale:
        with contextlib.suppress(OSError):
            for entry in os.listdir(folder):
                os.unlink(f"{folder}/{entry}")
            os.rmdir(folder)


def keep_ballast() -> bool:
    """Set aside the room that the next receipt may need; whether it is there. Random bytes: zeros take none on a file
    system that compresses.
    """
    with contextlib.suppress(OSError):
        if os.path.getsize(layout.BALLAST) >= BALLAST_SIZE:
            return True
    try:
        write_file(layout.BALLAST, secrets.token_bytes(BALLAST_SIZE))
    except OSError:
        return False
    return True


def encode(value: Any) -> bytes:
    """The JSON that is signed: compact, sorted, UTF-8."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode("utf-8", "replace")
