"""Putting back what stood at a path, as snapshots.py has kept it: each time to the same end, also after a crash."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
from typing import Any

import inodes
from serverflow_actions.kit import nofollow


def put_back(entry: dict[str, Any]) -> None:
    """So that all is as it was; again after a crash. Raises OSError with the reason."""
    path, kind = entry["path"], entry["type"]
    if kind == "value":
        _write_value(entry)
        return
    try:
        with inodes.parent(path) as (folder, name):
            if folder >= 0:
                _remove_half_written(folder, name)
                _PUT_BACK[kind](entry, folder, name)
                nofollow.sync(folder)
            elif kind not in ("absent", "tree"):
                raise FileNotFoundError(errno.ENOENT, "its folder is gone")
    except inodes.CannotKeep as error:
        raise OSError(errno.ELOOP, str(error)) from error


def _remove(_: dict[str, Any], folder: int, name: str) -> None:
    found = inodes.status(folder, name)
    if found is None:
        return
    if stat.S_ISDIR(found.st_mode):
        os.rmdir(name, dir_fd=folder)
    else:
        os.unlink(name, dir_fd=folder)


def _remove_tree(entry: dict[str, Any], folder: int, name: str) -> None:
    found = inodes.status(folder, name)
    if found is not None and stat.S_ISDIR(found.st_mode):
        nofollow.empty(name, folder)
    _remove(entry, folder, name)


def _return(entry: dict[str, Any], folder: int, name: str) -> None:
    away = os.path.basename(entry["aside"])
    if inodes.status(folder, away) is not None:
        os.rename(away, name, src_dir_fd=folder, dst_dir_fd=folder)
    elif inodes.status(folder, name) is None:
        raise FileNotFoundError(errno.ENOENT, f"it was moved to {entry['aside']}, and is not there any more")


def _link(entry: dict[str, Any], folder: int, name: str) -> None:
    found = inodes.status(folder, name)
    same = found is not None and stat.S_ISLNK(found.st_mode)
    if same and os.readlink(name, dir_fd=folder) == entry["target"]:
        return
    temporary = _temporary(name)
    os.symlink(entry["target"], temporary, dir_fd=folder)
    os.chown(temporary, entry["uid"], entry["gid"], dir_fd=folder, follow_symlinks=False)
    os.utime(temporary, ns=(entry["atime"], entry["mtime"]), dir_fd=folder, follow_symlinks=False)
    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def _directory(entry: dict[str, Any], folder: int, name: str) -> None:
    if inodes.status(folder, name) is None:
        os.mkdir(name, 0o700, dir_fd=folder)
    descriptor = os.open(name, inodes.PART | os.O_DIRECTORY, dir_fd=folder)
    try:
        inodes.dress(descriptor, entry)
    finally:
        os.close(descriptor)


def _file(entry: dict[str, Any], folder: int, name: str) -> None:
    if _is_as_kept(entry, folder, name):
        return  # never changed, or put back before a crash
    copy = entry["copy"]
    with contextlib.suppress(FileNotFoundError):
        if _sha256_of(copy) == entry["sha256"]:
            _place(entry, folder, name)
            return
    raise OSError(errno.EIO, "its snapshot is damaged")


_PUT_BACK = {
    "absent": _remove,
    "tree": _remove_tree,
    "aside": _return,
    "link": _link,
    "directory": _directory,
    "file": _file,
}


def _is_as_kept(entry: dict[str, Any], folder: int, name: str) -> bool:
    found = inodes.status(folder, name)
    if found is None or not stat.S_ISREG(found.st_mode):
        return False
    have = (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns)
    return (
        have == (entry["mode"], entry["uid"], entry["gid"], entry["mtime"])
        and inodes.xattrs(f"/proc/self/fd/{folder}/{name}") == entry["xattrs"]
        and inodes.sha256(folder, name) == entry["sha256"]
    )


def _sha256_of(path: str) -> str:
    """Of a copy of ours."""
    with open(os.open(path, inodes.PART), "rb") as file:
        return hashlib.sha256(inodes.content(file)).hexdigest()


def _place(entry: dict[str, Any], folder: int, name: str) -> None:
    try:
        os.rename(entry["copy"], name, dst_dir_fd=folder)  # takes no room
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    temporary = _temporary(name)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(entry["copy"], "rb") as source, open(os.open(temporary, flags, 0o600, dir_fd=folder), "wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
            file.flush()
            inodes.dress(file.fileno(), entry)
            os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        nofollow.unlink(temporary, folder)
        raise


def _temporary(name: str) -> str:
    """As kit/host.py names what it writes: nobody can take the name beforehand."""
    return f".{name[:200]}.{secrets.token_hex(6)}"


def _remove_half_written(folder: int, name: str) -> None:
    """What was cut off while it was written. Some programs read hidden files too (logrotate(8))."""
    pattern = re.compile(rf"\.{re.escape(name[:200])}\.[0-9a-f]{{12}}\Z")
    readable = os.open(".", inodes.PART | os.O_DIRECTORY, dir_fd=folder)
    try:
        for entry in filter(pattern.match, os.listdir(readable)):
            nofollow.unlink(entry, folder)
    finally:
        os.close(readable)


def _write_value(entry: dict[str, Any]) -> None:
    found = inodes.kernel_value(entry["path"])
    # Without one now: an interface that is gone has taken its values along.
    if entry["value"] is not None and found not in (None, entry["value"]):
        with open(os.open(entry["path"], os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "wb") as file:
            file.write(entry["value"].encode())
