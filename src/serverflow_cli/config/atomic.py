"""Files that other processes read and write at the same time: locked, then replaced in one step."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import ConfigError, Locked

_POLL_S = 0.02


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace a file so that a reader, or a power cut, finds the old content or the new, never a part.

    A symbolic link at `path` is replaced, not followed: a fleet folder may come from someone else's branch.

    Raises ConfigError; the old file still stands then (but for a failing fsync of its folder, which comes last).
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable (fsync(2): a file's fsync does not cover its directory entry)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path, timeout_s: float = 10.0) -> Iterator[None]:
    """Hold the lock of the folder that `path` is in: flock(2) on `.sf.lock` there. It is not reentrant.

    The lock file stays: removing it would let two processes lock two different files. The kernel frees the lock when
    its owner ends, however it ends.

    Raises Locked, naming the owner, when it is not free within `timeout_s` seconds, and ConfigError when the folder
    cannot be written.
    """
    import fcntl
    import socket

    lock = path.parent / ".sf.lock"
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(f"{lock} cannot be opened: {error.strerror}") from error
    try:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    owner = os.pread(descriptor, 300, 0).decode("utf-8", "replace").strip() or "another process"
                    raise Locked(
                        f"{path.parent} is being changed by {owner}", hint="try again when it has ended"
                    ) from None
                time.sleep(_POLL_S)
        # Only a courtesy for whoever waits; a full disk must not stop us from making room.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
