"""Paths walked by descriptors: no part is ever followed through a link that someone else may have put there.

openat(2) with O_NOFOLLOW for each part: openat2(2)'s RESOLVE_NO_SYMLINKS is not in Python 3.9 nor in every kernel.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd

from .probe import HostError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


#: Only a handle to walk on: that takes the right to pass through a folder, not the right to list it.
_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_parent(path: str) -> tuple[int, str]:
    """A descriptor of the folder that holds the path, and the last part's name. HostError, FileNotFoundError."""
    *folders, name = [part for part in path.split("/") if part]
    here = os.open("/", _STEP)
    for part in folders:
        try:
            following = os.open(part, _STEP, dir_fd=here)
        except FileNotFoundError:
            raise
        except OSError as error:
            reason = "a part of it is a link" if error.errno in (errno.ELOOP, errno.ENOTDIR) else error.strerror
            raise HostError(f"{path} cannot be reached: {reason}") from error
        finally:
            os.close(here)
        here = following
    return here, name


def sync(folder: int) -> None:
    """fsync(2) for a folder that was opened by open_parent."""
    readable = os.open(".", _FOLDER, dir_fd=folder)
    try:
        os.fsync(readable)
    finally:
        os.close(readable)


def own(descriptor: int, mode: int, owner: str, group: str) -> None:
    """Owner before mode: chown clears set-id bits, and the file is never open to others in between."""
    try:
        uid, gid = pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise HostError(f"no such user or group: {owner}:{group}") from error
    found = os.fstat(descriptor)
    if (found.st_uid, found.st_gid) != (uid, gid):
        os.fchown(descriptor, uid, gid)
    os.fchmod(descriptor, mode)


def unlink(name: str, folder: int) -> None:
    """Clean up after an error; that first error is the one to report."""
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)


def empty(name: str, parent: int) -> None:
    """Remove what is in a folder; links are removed, never followed."""
    folder = os.open(name, _FOLDER, dir_fd=parent)
    try:
        # Names first: removing while a scan runs may make it skip some.
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for entry_name, is_folder in found:
            if is_folder:
                empty(entry_name, folder)
                os.rmdir(entry_name, dir_fd=folder)
            else:
                os.unlink(entry_name, dir_fd=folder)
    finally:
        os.close(folder)
