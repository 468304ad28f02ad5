"""What stands at a path, as inode(7) has it: type, mode, owner, times, extended attributes with ACLs, content.

Paths are walked by descriptors, never through a link: some lie in folders that others own.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO

from serverflow_actions.kit import nofollow
from serverflow_actions.kit.probe import HostError

#: Values of the kernel, which look like files (proc(5)).
VALUES = "/proc/sys/"
#: How a part of a path is opened: no link is followed, and no pipe waited for.
PART = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: Bytes of a file that is kept. Who owns a file may make it larger than the disk (a sparse one), to keep us busy.
LARGEST = 64 << 20


class CannotKeep(Exception):
    """A sentence: what stands there could not be put back."""


@contextlib.contextmanager
def parent(path: str) -> Iterator[tuple[int, str]]:
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


def status(folder: int, name: str) -> os.stat_result | None:
    """Of what stands there itself, also a link; None for nothing."""
    if folder < 0:
        return None
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def regular(folder: int, name: str, path: str) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """A regular file of bounded size, whatever stood there when we looked last. Raises CannotKeep."""
    with open(os.open(name, PART, dir_fd=folder), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise CannotKeep(f"{path} is neither a file, nor a folder, nor a link: it cannot be put back")
        if found.st_size > LARGEST:
            raise CannotKeep(f"{path} is larger than {LARGEST >> 20} MiB: it cannot be kept")
        yield file, found


def content(file: BinaryIO) -> bytes:
    """Raises CannotKeep where it grows beyond the bound meanwhile."""
    data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise CannotKeep(f"it is larger than {LARGEST >> 20} MiB: it cannot be kept")
    return data


def sha256(folder: int, name: str) -> str:
    """Raises CannotKeep."""
    with regular(folder, name, name) as (file, _):
        return hashlib.sha256(content(file)).hexdigest()


def xattrs(path: str, follow: bool = False) -> dict[str, str]:
    """xattr(7), POSIX ACLs among them (system.posix_acl_access)."""
    try:
        names = os.listxattr(path, follow_symlinks=follow)
        return {
            name: base64.b64encode(os.getxattr(path, name, follow_symlinks=follow)).decode() for name in sorted(names)
        }
    except OSError:  # a file system without them
        return {}


def dress(descriptor: int, entry: dict[str, Any]) -> None:
    """Owner before mode, which chown may clear; attributes then, times last."""
    os.fchown(descriptor, entry["uid"], entry["gid"])
    os.fchmod(descriptor, entry["mode"])
    path = f"/proc/self/fd/{descriptor}"
    have = xattrs(path, follow=True)
    for attribute in have.keys() - entry["xattrs"].keys():
        os.removexattr(descriptor, attribute)
    for attribute, value in entry["xattrs"].items():
        if have.get(attribute) != value:
            os.setxattr(descriptor, attribute, base64.b64decode(value))
    os.utime(descriptor, ns=(entry["atime"], entry["mtime"]))


# --- values of the kernel --------------------------------------------------------------------------------------------


def kernel_value(path: str) -> str | None:
    """None where there is none, or it cannot be read."""
    try:
        with open(os.open(path, PART), "rb") as file:
            return file.read(65536).decode("ascii", "replace")
    except OSError:
        return None
