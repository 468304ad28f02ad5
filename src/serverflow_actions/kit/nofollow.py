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
    """Remove what is in a folder; links are removed, never followed, and no other file system is entered.

    However deep it is: one descriptor at a time, and on the way up each folder is the one that we came from. Raises
    OSError.
    """
    here = os.open(name, _FOLDER, dir_fd=parent)
    try:
        way = [(_identity(here), "", _clear(here))]
        while True:
            identity, _, folders = way[-1]
            if folders:
                below = folders.pop()
                here = _step(here, below)
                if _identity(here)[0] != identity[0]:
                    raise OSError(errno.EBUSY, f"another file system is mounted in it, at {below}")
                way.append((_identity(here), below, _clear(here)))
                continue
            emptied = way.pop()[1]
            if not way:
                return
            here = _step(here, "..")
            if _identity(here) != way[-1][0]:
                raise OSError(errno.EAGAIN, "its folders are moved about meanwhile")
            os.rmdir(emptied, dir_fd=here)
    finally:
        os.close(here)


def _step(here: int, name: str) -> int:
    """The folder beside or below, in the place of this one, which is closed."""
    following = os.open(name, _FOLDER, dir_fd=here)
    os.close(here)
    return following


def _identity(folder: int) -> tuple[int, int]:
    found = os.fstat(folder)
    return found.st_dev, found.st_ino


def _clear(folder: int) -> list[str]:
    """Remove all but the folders in it, and return their names."""
    # Names first: removing while a scan runs may make it skip some.
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
    return [name for name, is_folder in found if is_folder]
