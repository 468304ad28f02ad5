"""Keeping what stands at a path, so that it can be put back: whole and dressed on the disk before the change, so that
going back (restore.py) is a rename, which takes no room.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import stat
from typing import Any, BinaryIO

import inodes
import store
from inodes import CannotKeep as CannotKeep
from serverflow_actions.kit import nofollow

#: ioctl_iflags(2): neither replaced nor removed, whoever asks.
_GET_FLAGS, _IMMUTABLE, _APPEND_ONLY = 0x80086601, 0x10, 0x20


def keep(path: str, copy: str) -> dict[str, Any]:
    """What stands there, with its content at `copy`. Raises CannotKeep, and OSError where there is no room."""
    if path.startswith(inodes.VALUES):
        return _keep_value(path)
    with inodes.parent(path) as (folder, name):
        found = inodes.status(folder, name)
        if found is None:
            return {"path": path, "type": "absent"}
        if stat.S_ISLNK(found.st_mode):
            return {**_described(path, found, {}), "type": "link", "target": _target(path, folder, name)}
        if stat.S_ISDIR(found.st_mode):
            attributes = inodes.xattrs(f"/proc/self/fd/{folder}/{name}")
            return {**_described(path, found, attributes), "type": "directory"}
        with inodes.regular(folder, name, path) as (file, found):
            _check_plain(path, file.fileno(), found)
            entry = _described(path, found, inodes.xattrs(f"/proc/self/fd/{file.fileno()}", follow=True))
            return {**entry, "type": "file", "copy": copy, "sha256": _copy(file, copy, entry)}


def _keep_value(path: str) -> dict[str, Any]:
    return {"path": path, "type": "value", "value": inodes.kernel_value(path)}


def _described(path: str, found: os.stat_result, xattrs: dict[str, str]) -> dict[str, Any]:
    return {
        "path": path,
        "mode": stat.S_IMODE(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
        "mtime": found.st_mtime_ns,
        "atime": found.st_atime_ns,
        "xattrs": xattrs,
    }


def _target(path: str, folder: int, name: str) -> str:
    target = os.readlink(name, dir_fd=folder)
    try:
        target.encode()
    except UnicodeEncodeError:
        raise CannotKeep(f"{path} is a link to what is not UTF-8: it cannot be kept") from None
    return target


def _check_plain(path: str, descriptor: int, found: os.stat_result) -> None:
    """Raises CannotKeep for what a rename cannot put back as it was."""
    if found.st_nlink > 1:
        raise CannotKeep(f"{path} has {found.st_nlink} names (hard links): putting it back would part them")
    if path in _mount_points():
        raise CannotKeep(f"{path} is mounted there (a bind mount): it cannot be replaced")
    flags = bytearray(8)
    with contextlib.suppress(OSError):  # a file system without such flags
        fcntl.ioctl(descriptor, _GET_FLAGS, flags)
    if int.from_bytes(flags[:4], "little") & (_IMMUTABLE | _APPEND_ONLY):
        raise CannotKeep(f"{path} is immutable (chattr(1)): somebody wants it to stay as it is")


def _mount_points() -> set[str]:
    """proc_pid_mountinfo(5): the fifth field, with blanks and backslashes in octal."""
    text = (store.read_file("/proc/self/mountinfo") or b"").decode("utf-8", "replace")
    fields = (line.split(" ") for line in text.splitlines())
    return {re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), parts[4]) for parts in fields}


def _copy(source: BinaryIO, copy: str, entry: dict[str, Any]) -> str:
    """The file with all its attributes, on the disk; returns its SHA-256. What no room is left for is taken back."""
    data = inodes.content(source)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(copy, flags, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            inodes.dress(file.fileno(), entry)
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(copy)
        raise
    return hashlib.sha256(data).hexdigest()


def keep_folder(path: str, aside: str) -> dict[str, Any]:
    """A folder that the change will move to `aside`, beside it. Raises CannotKeep."""
    with inodes.parent(path) as (folder, name):
        found = inodes.status(folder, name)
        if found is None:
            return {"path": path, "type": "absent"}
        if not stat.S_ISDIR(found.st_mode):
            raise CannotKeep(f"{path} is no folder")
        if any(point == path or point.startswith(f"{path}/") for point in _mount_points()):
            raise CannotKeep(f"something is mounted at or in {path}: it cannot be moved away and back")
        return {"path": path, "type": "aside", "aside": aside}


# --- moving ----------------------------------------------------------------------------------------------------------


def move_aside(path: str, aside: str) -> None:
    """To a name beside it. Raises OSError with the reason."""
    move(path, os.path.basename(aside), beside=True)


def move(path: str, to: str, beside: bool = False) -> None:
    """Raises OSError with the reason."""
    try:
        with inodes.parent(path) as (folder, name):
            if folder < 0:
                raise FileNotFoundError(errno.ENOENT, "its folder is gone")
            os.rename(name, to, src_dir_fd=folder, dst_dir_fd=folder if beside else None)
            nofollow.sync(folder)
    except CannotKeep as error:
        raise OSError(errno.ELOOP, str(error)) from error


# --- comparing -------------------------------------------------------------------------------------------------------


def fingerprint(path: str) -> str:
    """What stands there in short, to tell whether somebody else has changed it; "" for nothing."""
    if path.startswith(inodes.VALUES):
        return inodes.kernel_value(path) or ""
    with contextlib.suppress(CannotKeep, OSError), inodes.parent(path) as (folder, name):
        found = inodes.status(folder, name)
        if found is None:
            return ""
        if stat.S_ISLNK(found.st_mode):
            return "link " + os.readlink(name, dir_fd=folder)
        if stat.S_ISDIR(found.st_mode):
            return "directory"
        return "file " + inodes.sha256(folder, name)
    return "other"


def before(entry: dict[str, Any]) -> str:
    """The fingerprint of what an entry keeps."""
    told = {"file": "sha256", "link": "target"}.get(entry["type"])
    if entry["type"] == "value":
        return entry["value"] or ""
    return f"{entry['type']} {entry[told]}" if told else _BARE[entry["type"]]


_BARE = {"absent": "", "directory": "directory", "aside": "directory", "tree": ""}
