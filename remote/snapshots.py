"""What stands at a path, and putting it back: type, mode, owner, times, extended attributes with ACLs, content.

Paths are walked by descriptors, never through a link: some lie in folders that others own. What a rollback will need is
whole and dressed on the disk before the change, so that going back is a rename, which takes no room.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO

import store
from serverflow_actions.kit import nofollow
from serverflow_actions.kit.probe import HostError

#: Values of the kernel, which look like files (proc(5)).
VALUES = "/proc/sys/"
#: ioctl_iflags(2): neither replaced nor removed, whoever asks.
_GET_FLAGS, _IMMUTABLE, _APPEND_ONLY = 0x80086601, 0x10, 0x20
_PART = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: Bytes of a file that is kept. Who owns a file may make it larger than the disk (a sparse one), to keep us busy.
LARGEST = 64 << 20


class CannotKeep(Exception):
    """A sentence: what stands there could not be put back."""


def keep(path: str, copy: str) -> dict[str, Any]:
    """What stands there, with its content at `copy`. Raises CannotKeep, and OSError where there is no room."""
    if path.startswith(VALUES):
        return _keep_value(path)
    with _parent(path) as (folder, name):
        found = _status(folder, name)
        if found is None:
            return {"path": path, "type": "absent"}
        if stat.S_ISLNK(found.st_mode):
            return {**_described(path, found, {}), "type": "link", "target": _target(path, folder, name)}
        if stat.S_ISDIR(found.st_mode):
            attributes = _xattrs(f"/proc/self/fd/{folder}/{name}")
            return {**_described(path, found, attributes), "type": "directory"}
        with _regular(folder, name, path) as (file, found):
            _check_plain(path, file.fileno(), found)
            entry = _described(path, found, _xattrs(f"/proc/self/fd/{file.fileno()}", follow=True))
            return {**entry, "type": "file", "copy": copy, "sha256": _copy(file, copy, entry)}


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


def keep_folder(path: str, aside: str) -> dict[str, Any]:
    """A folder that the change will move to `aside`, beside it. Raises CannotKeep."""
    with _parent(path) as (folder, name):
        found = _status(folder, name)
        if found is None:
            return {"path": path, "type": "absent"}
        if not stat.S_ISDIR(found.st_mode):
            raise CannotKeep(f"{path} is no folder")
        if any(point == path or point.startswith(f"{path}/") for point in _mount_points()):
            raise CannotKeep(f"something is mounted at or in {path}: it cannot be moved away and back")
        return {"path": path, "type": "aside", "aside": aside}


def move_aside(path: str, aside: str) -> None:
    """To a name beside it. Raises OSError with the reason."""
    move(path, os.path.basename(aside), beside=True)


def move(path: str, to: str, beside: bool = False) -> None:
    """Raises OSError with the reason."""
    try:
        with _parent(path) as (folder, name):
            if folder < 0:
                raise FileNotFoundError(errno.ENOENT, "its folder is gone")
            os.rename(name, to, src_dir_fd=folder, dst_dir_fd=folder if beside else None)
            nofollow.sync(folder)
    except CannotKeep as error:
        raise OSError(errno.ELOOP, str(error)) from error


def fingerprint(path: str) -> str:
    """What stands there in short, to tell whether somebody else has changed it; "" for nothing."""
    if path.startswith(VALUES):
        return _value(path) or ""
    with contextlib.suppress(CannotKeep, OSError), _parent(path) as (folder, name):
        found = _status(folder, name)
        if found is None:
            return ""
        if stat.S_ISLNK(found.st_mode):
            return "link " + os.readlink(name, dir_fd=folder)
        if stat.S_ISDIR(found.st_mode):
            return "directory"
        return "file " + _sha256(folder, name)
    return "other"


def before(entry: dict[str, Any]) -> str:
    """The fingerprint of what an entry keeps."""
    told = {"file": "sha256", "link": "target"}.get(entry["type"])
    if entry["type"] == "value":
        return entry["value"] or ""
    return f"{entry['type']} {entry[told]}" if told else _BARE[entry["type"]]


_BARE = {"absent": "", "directory": "directory", "aside": "directory", "tree": ""}


# --- putting back ----------------------------------------------------------------------------------------------------


def put_back(entry: dict[str, Any]) -> None:
    """So that all is as it was; again after a crash. Raises OSError with the reason."""
    path, kind = entry["path"], entry["type"]
    if kind == "value":
        _write_value(entry)
        return
    try:
        with _parent(path) as (folder, name):
            if folder >= 0:
                _remove_half_written(folder, name)
                _PUT_BACK[kind](entry, folder, name)
                nofollow.sync(folder)
            elif kind not in ("absent", "tree"):
                raise FileNotFoundError(errno.ENOENT, "its folder is gone")
    except CannotKeep as error:
        raise OSError(errno.ELOOP, str(error)) from error


def _remove(_: dict[str, Any], folder: int, name: str) -> None:
    found = _status(folder, name)
    if found is None:
        return
    if stat.S_ISDIR(found.st_mode):
        os.rmdir(name, dir_fd=folder)
    else:
        os.unlink(name, dir_fd=folder)


def _remove_tree(entry: dict[str, Any], folder: int, name: str) -> None:
    found = _status(folder, name)
    if found is not None and stat.S_ISDIR(found.st_mode):
        nofollow.empty(name, folder)
    _remove(entry, folder, name)


def _return(entry: dict[str, Any], folder: int, name: str) -> None:
    away = os.path.basename(entry["aside"])
    if _status(folder, away) is not None:
        os.rename(away, name, src_dir_fd=folder, dst_dir_fd=folder)
    elif _status(folder, name) is None:
        raise FileNotFoundError(errno.ENOENT, f"it was moved to {entry['aside']}, and is not there any more")


def _link(entry: dict[str, Any], folder: int, name: str) -> None:
    found = _status(folder, name)
    same = found is not None and stat.S_ISLNK(found.st_mode)
    if same and os.readlink(name, dir_fd=folder) == entry["target"]:
        return
    temporary = _temporary(name)
    os.symlink(entry["target"], temporary, dir_fd=folder)
    os.chown(temporary, entry["uid"], entry["gid"], dir_fd=folder, follow_symlinks=False)
    os.utime(temporary, ns=(entry["atime"], entry["mtime"]), dir_fd=folder, follow_symlinks=False)
    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def _directory(entry: dict[str, Any], folder: int, name: str) -> None:
    if _status(folder, name) is None:
        os.mkdir(name, 0o700, dir_fd=folder)
    descriptor = os.open(name, _PART | os.O_DIRECTORY, dir_fd=folder)
    try:
        _dress(descriptor, entry)
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
            _dress(file.fileno(), entry)
            os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        nofollow.unlink(temporary, folder)
        raise


_PUT_BACK = {
    "absent": _remove,
    "tree": _remove_tree,
    "aside": _return,
    "link": _link,
    "directory": _directory,
    "file": _file,
}


def _is_as_kept(entry: dict[str, Any], folder: int, name: str) -> bool:
    found = _status(folder, name)
    if found is None or not stat.S_ISREG(found.st_mode):
        return False
    have = (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns)
    return (
        have == (entry["mode"], entry["uid"], entry["gid"], entry["mtime"])
        and _xattrs(f"/proc/self/fd/{folder}/{name}") == entry["xattrs"]
        and _sha256(folder, name) == entry["sha256"]
    )


# --- parts -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _parent(path: str) -> Iterator[tuple[int, str]]:
    """The folder that holds the path, as a descriptor, and the last part's name. -1 where there is no such folder."""
    try:
        folder, name = nofollow.open_parent(path)
    except FileNotFoundError:
        yield -1, os.path.basename(path)
        return
    except HostError as error:
        raise CannotKeep(str(error)) from None
    try:
        yield folder, name
    finally:
        os.close(folder)


def _status(folder: int, name: str) -> os.stat_result | None:
    if folder < 0:
        return None
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _regular(folder: int, name: str, path: str) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """A regular file of bounded size, whatever stood there when we looked last. Raises CannotKeep."""
    with open(os.open(name, _PART, dir_fd=folder), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise CannotKeep(f"{path} is neither a file, nor a folder, nor a link: it cannot be put back")
        if found.st_size > LARGEST:
            raise CannotKeep(f"{path} is larger than {LARGEST >> 20} MiB: it cannot be kept")
        yield file, found


def _temporary(name: str) -> str:
    """As kit/host.py names what it writes: nobody can take the name beforehand."""
    return f".{name[:200]}.{secrets.token_hex(6)}"


def _remove_half_written(folder: int, name: str) -> None:
    """What was cut off while it was written. Some programs read hidden files too (logrotate(8))."""
    pattern = re.compile(rf"\.{re.escape(name[:200])}\.[0-9a-f]{{12}}\Z")
    readable = os.open(".", _PART | os.O_DIRECTORY, dir_fd=folder)
    try:
        for entry in filter(pattern.match, os.listdir(readable)):
            nofollow.unlink(entry, folder)
    finally:
        os.close(readable)


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
    data = _content(source)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(copy, flags, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            _dress(file.fileno(), entry)
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(copy)
        raise
    return hashlib.sha256(data).hexdigest()


def _dress(descriptor: int, entry: dict[str, Any]) -> None:
    """Owner before mode, which chown may clear; attributes then, times last."""
    os.fchown(descriptor, entry["uid"], entry["gid"])
    os.fchmod(descriptor, entry["mode"])
    path = f"/proc/self/fd/{descriptor}"
    have = _xattrs(path, follow=True)
    for attribute in have.keys() - entry["xattrs"].keys():
        os.removexattr(descriptor, attribute)
    for attribute, value in entry["xattrs"].items():
        if have.get(attribute) != value:
            os.setxattr(descriptor, attribute, base64.b64decode(value))
    os.utime(descriptor, ns=(entry["atime"], entry["mtime"]))


def _xattrs(path: str, follow: bool = False) -> dict[str, str]:
    """xattr(7), POSIX ACLs among them (system.posix_acl_access)."""
    try:
        names = os.listxattr(path, follow_symlinks=follow)
        return {
            name: base64.b64encode(os.getxattr(path, name, follow_symlinks=follow)).decode() for name in sorted(names)
        }
    except OSError:  # a file system without them
        return {}


def _sha256(folder: int, name: str) -> str:
    """Raises CannotKeep."""
    with _regular(folder, name, name) as (file, _):
        return hashlib.sha256(_content(file)).hexdigest()


def _sha256_of(path: str) -> str:
    """Of a copy of ours."""
    with open(os.open(path, _PART), "rb") as file:
        return hashlib.sha256(_content(file)).hexdigest()


def _content(file: BinaryIO) -> bytes:
    """Raises CannotKeep where it grows beyond the bound meanwhile."""
    data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise CannotKeep(f"it is larger than {LARGEST >> 20} MiB: it cannot be kept")
    return data


# --- values of the kernel --------------------------------------------------------------------------------------------


def _keep_value(path: str) -> dict[str, Any]:
    return {"path": path, "type": "value", "value": _value(path)}


def _value(path: str) -> str | None:
    try:
        with open(os.open(path, _PART), "rb") as file:
            return file.read(65536).decode("ascii", "replace")
    except OSError:
        return None


def _write_value(entry: dict[str, Any]) -> None:
    found = _value(entry["path"])
    # Without one now: an interface that is gone has taken its values along.
    if entry["value"] is not None and found not in (None, entry["value"]):
        with open(os.open(entry["path"], os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "wb") as file:
            file.write(entry["value"].encode())
