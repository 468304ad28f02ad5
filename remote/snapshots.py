"""What stood at a path, and putting it back: part of a safe change (safe.py)."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from typing import Any

import store


class NotPlain(Exception):
    """Neither a plain file, nor a link, nor nothing."""


def keep(path: str, copy: str) -> dict[str, Any]:
    """What stands there, with its content at `copy`. Raises NotPlain."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return {"path": path, "type": "absent"}
    entry = {
        "path": path,
        "mode": stat.S_IMODE(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
        "mtime": found.st_mtime_ns,
    }
    if stat.S_ISLNK(found.st_mode):
        return {**entry, "type": "link", "target": os.readlink(path)}
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise NotPlain(f"{path} is not a plain file; it cannot be snapshot")
    data = store.read_file(path) or b""
    store.write_file(copy, data)
    return {**entry, "type": "file", "copy": copy, "sha256": hashlib.sha256(data).hexdigest()}


def put_back(entry: dict[str, Any]) -> None:
    """By a rename, which takes no room, where both are on one file system. Again after a crash. Raises OSError."""
    path = entry["path"]
    if entry["type"] == "absent":
        if os.path.lexists(path):
            os.unlink(path)
            store.sync_folder(os.path.dirname(path))
        return
    if entry["type"] == "link":
        temporary = path + ".serverflow-restore"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        os.symlink(entry["target"], temporary)
        os.rename(temporary, path)
        return
    if _sha256(path) == entry["sha256"]:
        _dress(path, entry)  # never changed, or put back before a crash
        return
    if _sha256(entry["copy"]) != entry["sha256"]:
        raise OSError(errno.EIO, "its snapshot is damaged")
    _dress(entry["copy"], entry)
    try:
        os.rename(entry["copy"], path)  # takes no room
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        store.write_file(path, store.read_file(entry["copy"]) or b"", entry["mode"])
        _dress(path, entry)
    store.sync_folder(os.path.dirname(path))


def _sha256(path: str) -> str:
    """ "" for what is no plain file."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return ""


def _dress(path: str, entry: dict[str, Any]) -> None:
    os.chown(path, entry["uid"], entry["gid"])
    os.chmod(path, entry["mode"])
    os.utime(path, ns=(entry["mtime"], entry["mtime"]))
