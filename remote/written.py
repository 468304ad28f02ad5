"""What ServerFlow last wrote, file by file, so that a file changed by hand is seen, and kept before it is replaced."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import stat
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
_KEPT_BYTES = 256 << 20


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
    with store.alone(f"{layout.WRITTEN}.lock"):
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
    """A copy of the file or link that stands there, for people; returns its name. Raises OSError."""
    copy = _kept_name(path)
    try:
        entry = snapshots.keep(path, copy)
    except snapshots.CannotKeep as error:
        raise OSError(str(error)) from error
    if entry["type"] == "link":
        os.symlink(entry["target"], copy)
    elif entry["type"] == "file":
        os.chown(copy, 0, 0)
        os.chmod(copy, 0o600)
    else:
        raise OSError(errno.EINVAL, "it is neither a file nor a link")
    store.sync_folder(layout.KEPT)
    return copy


def _kept_name(path: str) -> str:
    """A new name in the folder of what is kept, where the oldest make room."""
    os.makedirs(layout.KEPT, mode=0o700, exist_ok=True)
    names = sorted(os.listdir(layout.KEPT))
    room = _KEPT_BYTES - sum(map(_size, names))
    for number, name in enumerate(names):
        if len(names) - number < _KEPT and room > 0:
            break
        room += _size(name)
        restore.put_back({"path": f"{layout.KEPT}/{name}", "type": "tree"})
    label = re.sub(r"[^A-Za-z0-9._-]", "_", os.path.basename(path))[:60]
    return f"{layout.KEPT}/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}-{label}"


def _size(name: str) -> int:
    """What a file takes on the disk. A folder that was moved here counts as nothing: it took that room before."""
    status = os.lstat(f"{layout.KEPT}/{name}")
    return status.st_blocks * 512 if stat.S_ISREG(status.st_mode) else 0


def move_aside(path: str) -> str:
    """What stands there itself, whatever it is: a rename takes no room, and no time. Returns its new name.

    From another file system a file is copied, and stays where it is; a folder stays there under another name. Raises
    OSError.
    """
    kept = _kept_name(path)
    try:
        snapshots.move(path, kept)
        return kept
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    if os.path.islink(path) or not os.path.isdir(path):
        return keep_aside(path)
    beside = f".{os.path.basename(path)[:100]}.{os.path.basename(kept)[:29]}"
    snapshots.move(path, beside, beside=True)
    return f"{os.path.dirname(path)}/{beside}"
