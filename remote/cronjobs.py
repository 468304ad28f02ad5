"""The jobs of this server: their files, and what is remembered of each.

On the disk a job has a folder below CRON_STATE/jobs, in memory one below CRON_RUN/jobs. So no name of a job is one of
ours.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import journal
import layout
import store
from serverflow_actions.kit import grammar
from serverflow_actions.kit.cronjob import Job, from_json

#: No file of a job is longer: its command line came in a frame of this size.
_LONGEST = 1 << 20
#: Whoever holds one of our locks for longer does not come back.
_LOCK_S = 60
_PAUSE_S = 0.02


class Found(NamedTuple):
    """A job's file: its exact bytes, and the job, None where they are none."""

    name: str
    content: bytes
    job: Job | None


# --- files -----------------------------------------------------------------------------------------------------------


def read(name: str) -> Found | None:
    """None where there is no such job. Only a plain file of root's that nobody else can write counts as one."""
    grammar.name(name)
    content = _content(f"{layout.CRON}/{name}.json")
    if content is None:
        return None
    try:
        job = from_json(content)
        return Found(name, content, job if job.name == name else None)
    except ValueError:
        return Found(name, content, None)


def _content(path: str) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return b""
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            return b""
        return file.read(_LONGEST)


def everything() -> list[Found]:
    """All jobs, by name."""
    found = []
    files = os.listdir(layout.CRON) if os.path.isdir(layout.CRON) else []
    for name in sorted(file[: -len(".json")] for file in files if file.endswith(".json")):
        with contextlib.suppress(ValueError):
            one = read(name)
            found += [one] if one else []
    return found


def written_at(name: str) -> float:
    """When its file was put there, in seconds; 0 where there is none."""
    try:
        return os.lstat(f"{layout.CRON}/{name}.json").st_mtime
    except OSError:
        return 0.0


def place(name: str) -> str:
    """The folder of a job's state and history. Raises ValueError."""
    return f"{layout.CRON_STATE}/jobs/{grammar.name(name)}"


def folder(name: str) -> str:
    """The same, made when it is missing. Raises ValueError or OSError."""
    path = place(name)
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


def in_memory(name: str) -> str:
    """The folder of a job's locks, and of what a full disk does not take; made when it is missing. Raises ValueError or
    OSError.
    """
    path = f"{layout.CRON_RUN}/jobs/{grammar.name(name)}"
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


@contextlib.contextmanager
def alone(name: str, what: str = "state") -> Iterator[None]:
    """Holding that lock of the job: see `locked`."""
    with locked(f"{in_memory(name)}/{what}.lock"):
        yield


@contextlib.contextmanager
def locked(path: str, wait_s: float = _LOCK_S) -> Iterator[None]:
    """Holding that lock. It is in memory: a full disk keeps nobody out. Raises TimeoutError when it is not free in
    time, and says so in the journal.
    """
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + wait_s
        while not taken(descriptor):
            if time.monotonic() >= deadline:
                told = f"{path} is held by another process for more than {wait_s:g} s"
                journal.note(told)
                raise TimeoutError(told)
            time.sleep(_PAUSE_S)
        yield
    finally:
        os.close(descriptor)


def taken(descriptor: int) -> bool:
    """Whether this lock is ours now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# --- what is known of a job ------------------------------------------------------------------------------------------


def state(name: str) -> dict[str, Any]:
    """`last_due`: the last time that it was fired for; `watched`: up to when missed runs were looked for, and `judged`:
    the latest that this ever was; `expired`: since when its key is seen to have, 0 where it has not. In seconds. What a
    full disk did not take is in memory. A damaged file is none.
    """
    found: dict[str, Any] = {}
    for path in (f"{place(name)}/state", f"{in_memory(name)}/state"):
        with contextlib.suppress(ValueError, TypeError):
            found.update(json.loads(store.read_file(path) or b"{}"))
    return {key: value for key, value in found.items() if type(value) is int}


def set_state(name: str, **values: int) -> None:
    """Under the job's lock (`alone(name)`)."""
    content = json.dumps({**state(name), **values}).encode()
    not_on_disk = f"{in_memory(name)}/state"
    try:
        store.write_file(f"{folder(name)}/state", content)
    except OSError:
        store.write_file(not_on_disk, content)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(not_on_disk)


# --- clocks ----------------------------------------------------------------------------------------------------------


def server_zone() -> str:
    """By whose clock cron goes: kit/zone.py, for the runner."""
    from serverflow_actions.kit.host import LocalProbe
    from serverflow_actions.kit.zone import server_zone as zone

    return zone(LocalProbe())


def now() -> int:
    """Seconds, by the clock that cron goes by."""
    return int(time.time())
