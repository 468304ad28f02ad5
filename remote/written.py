"""What ServerFlow last wrote, file by file, so that a file changed by hand is seen, and kept before it is replaced."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any

import layout
import restore
import snapshots
import store

#: Files that are remembered, and versions that are kept aside; the oldest go.
_REMEMBERED = 2000
#: Of the record, in bytes of its JSON: with a command's parameters it goes to the engine in one line.
_RECORD_LIMIT = 256 << 10
_LONGEST_PATH = 300
_KEPT = 200


def known() -> dict[str, str]:
    """Path → SHA-256 of what we last wrote there. A damaged record is none: nothing is lost by it but notes."""
    try:
        value = json.loads(store.read_file(layout.WRITTEN) or b"{}")
    except ValueError:
        return {}
    return {str(path): str(sha256) for path, sha256 in value.items()} if isinstance(value, dict) else {}


def found_now(changes: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What stands where these changes wrote files, "" where they removed one: the record's next entries."""
    paths = [str(change["name"]) for change in changes if change.get("kind") == "file"]
    return {path: snapshots.fingerprint(path).partition("file ")[2] for path in paths}


def remember(entries: Mapping[str, str]) -> None:
    """Take these into the record. Raises OSError."""
    if not entries:
        return
    with _lock():
        # At the end, as the newest.
        record = {path: sha256 for path, sha256 in known().items() if path not in entries}
        record.update({path: sha256 for path, sha256 in entries.items() if sha256 and len(path) <= _LONGEST_PATH})
        store.write_file(layout.WRITTEN, json.dumps(_bounded(record)).encode())


def _bounded(record: Mapping[str, str]) -> dict[str, str]:
    """The newest of them, as far as there is room."""
    kept: list[tuple[str, str]] = []
    size = len("{}")
    for path, sha256 in reversed(list(record.items())[-_REMEMBERED:]):
        size += len(json.dumps({path: sha256}))  # its two braces are no less than the comma and the space between two
        if size > _RECORD_LIMIT:
            break
        kept.append((path, sha256))
    return dict(reversed(kept))


def keep_aside(path: str) -> str:
    """A copy of what stands there, for people; returns its name. Raises OSError."""
    copy = _kept_name(path)
    try:
        entry = snapshots.keep(path, copy)
    except snapshots.CannotKeep as error:
        raise OSError(str(error)) from error
    if entry["type"] == "link":
        os.symlink(entry["target"], copy)
    if entry["type"] == "file":
        os.chown(copy, 0, 0)
        os.chmod(copy, 0o600)
    store.sync_folder(layout.KEPT)
    return copy


def _kept_name(path: str) -> str:
    """A new name in the folder of what is kept, where the oldest make room."""
    os.makedirs(layout.KEPT, mode=0o700, exist_ok=True)
    for name in sorted(os.listdir(layout.KEPT))[: 1 - _KEPT]:
        restore.put_back({"path": f"{layout.KEPT}/{name}", "type": "tree"})
    label = re.sub(r"[^A-Za-z0-9._-]", "_", os.path.basename(path))[:60]
    return f"{layout.KEPT}/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}-{label}"


def move_aside(path: str) -> str:
    """What stands there itself, whatever it is: a rename takes no room, and no time. Returns its new name.

    From another file system a file is copied, and stays where it is. Raises OSError.
    """
    try:
        kept = _kept_name(path)
        snapshots.move(path, kept)
        return kept
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    return keep_aside(path)


@contextlib.contextmanager
def _lock() -> Any:
    descriptor = os.open(f"{layout.WRITTEN}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
