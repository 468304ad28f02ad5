"""The read sandbox: the runner forks, and the child gives up root, writes, network and sight of the rest, by itself.

A transient unit does the same for changes, but takes 100 ms to start. A read has to be cheap, so the child uses the
kernel directly: a mount namespace in which everything is read-only, a pid namespace that dies with its first process,
an unprivileged user, no capabilities (or CAP_DAC_READ_SEARCH alone, where the action declares it), no new privileges,
and a seccomp filter. See namespaces(7), capabilities(7), seccomp(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import grp
import os
import platform
import pwd
import resource
import stat
import struct
from collections.abc import Sequence
from typing import Any

import hidden
import seccomp

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWPID = 0x00020000, 0x08000000, 0x20000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 19
MS_NOSYMFOLLOW, MS_NOATIME, MS_NODIRATIME, MS_RELATIME = 256, 1024, 2048, 1 << 21
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 8, 22, 24
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 38, 47
CAP_DAC_READ_SEARCH = 2

#: Below each home: folders that are covered but for the files named, and files.
_HIDDEN_AT_HOME = {".ssh": ("authorized_keys",), ".gnupg": (), ".aws": (), ".kube": (), ".docker": ()}
_HIDDEN_FILES_AT_HOME = (".netrc", ".pgpass", ".my.cnf", ".git-credentials", ".bash_history", ".env")
_DEVICES = ("null", "zero", "full", "random", "urandom")

_FLAG_NAMES = {
    "ro": MS_RDONLY, "nosuid": MS_NOSUID, "nodev": MS_NODEV, "noexec": MS_NOEXEC,
    "noatime": MS_NOATIME, "nodiratime": MS_NODIRATIME, "relatime": MS_RELATIME, "nosymfollow": MS_NOSYMFOLLOW,
}  # fmt: skip


class CannotConfine(Exception):
    """The kernel lacks a protection that the profile's floor asks for."""


class _Kernel:
    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._libc, name)

        def call(*arguments: Any) -> int:
            result = int(function(*arguments))
            if result < 0:
                number = ctypes.get_errno()
                raise OSError(number, f"{name}: {os.strerror(number)}")
            return result

        return call


def enter(user: str, privileged: bool, journal: bool, memory: int, seconds: int, *, network: bool = False) -> None:
    """Confine this process for good, in two forks' time: call it in a child, and then fork once more.

    After it, the next child is process 1 of its namespace: when it ends, everything that it started is killed.
    `user` is who it becomes; `privileged` keeps CAP_DAC_READ_SEARCH; `network` leaves it internet sockets.

    Raises CannotConfine when a protection cannot be had: the floor of the read profile is all of them.
    """
    kernel = _Kernel()
    try:
        kernel.unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID)
        kernel.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None)
        # First, while every mount can be seen: what is covered afterwards cannot be reached by its path.
        _read_only(kernel)
        _hide(kernel)
        if privileged:
            _hide_at_home(kernel)
            _hide_in_etc(kernel)
        _minimal_devices(kernel)
        # Scratch of its own, gone with it: apt checks signatures through temporary files.
        kernel.mount(b"tmpfs", b"/tmp", b"tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, b"mode=1777,size=16m")
        _limits(memory, seconds)
        _drop_root(kernel, user, privileged, journal)
        kernel.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _filter_syscalls(kernel, network)
        # The kernel forgets both when the user changes.
        die_with_parent()
        undumpable()
    except (OSError, KeyError) as error:
        raise CannotConfine(f"the read sandbox cannot be set up: {error}") from error


def die_with_parent() -> None:
    """PR_SET_PDEATHSIG (prctl(2)); not inherited by fork."""
    _Kernel().prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)


def undumpable() -> None:
    """PR_SET_DUMPABLE (prctl(2)): no other process of the same user may look into this one or change it."""
    _Kernel().prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def effective() -> dict[str, Any]:
    """What the kernel says is in force for this process (proc_pid_status(5))."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    return {
        "uid": int(status["Uid"].split()[1]),
        "no_new_privs": status.get("NoNewPrivs") == "1",
        "seccomp": status.get("Seccomp") == "2",
        "cap_eff": status["CapEff"],
        "cap_bnd": status["CapBnd"],
        "read_only": not _writable(("/etc", "/usr", "/var")),
    }


def _writable(folders: Sequence[str]) -> bool:
    return any(not os.statvfs(folder).f_flag & os.ST_RDONLY for folder in folders)


def _hide(kernel: _Kernel) -> None:
    for folder in hidden.FOLDERS:
        if os.path.isdir(folder):
            _cover(kernel, folder.encode(), b"mode=0555,nr_inodes=2")
    for pattern in hidden.FILES:
        for path in glob.glob(pattern):
            kernel.mount(b"/dev/null", path.encode(), None, MS_BIND, None)
    for folder in hidden.SIFTED:
        if os.path.isdir(folder):
            _sift(kernel, folder)


def _sift(kernel: _Kernel, folder: str) -> None:
    """A folder of our own in its place, with the files that may be seen."""
    held = {path: os.open(path, _LOOK) for path in hidden.shown(folder)}
    _cover(kernel, folder.encode(), b"mode=0755", flags=0)
    for path, descriptor in held.items():
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        _put(kernel, path, descriptor)
    kernel.mount(None, folder.encode(), None, _SEALED | MS_NODEV, None)


def _put(kernel: _Kernel, path: str, descriptor: int) -> None:
    """A file that is held, at a new name. The descriptor is closed."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    kernel.mount(_by_descriptor(descriptor), path.encode(), None, MS_BIND, None)
    os.close(descriptor)


def _hide_in_etc(kernel: _Kernel) -> None:
    """The same for /etc itself, but for what is hidden: passwords are replaced there whenever an account is made."""
    left_out = {path for pattern in hidden.FILES for path in glob.glob(pattern)}
    links, held = {}, {}
    for entry in os.scandir("/etc"):
        if entry.is_symlink():
            links[entry.path] = os.readlink(entry.path)
        elif entry.path not in left_out and (entry.is_file() or entry.is_dir()):
            held[entry.path] = entry.is_dir(), os.open(entry.path, _LOOK)
    _cover(kernel, b"/etc", b"mode=0755", flags=0)
    for path, target in links.items():
        os.symlink(target, path)
    for path, (is_folder, descriptor) in held.items():
        if is_folder:
            os.mkdir(path, 0o755)
            kernel.mount(_by_descriptor(descriptor), path.encode(), None, MS_BIND | MS_REC, None)
            os.close(descriptor)
        else:
            _put(kernel, path, descriptor)
    kernel.mount(None, b"/etc", None, _SEALED | MS_NODEV, None)


def _cover(kernel: _Kernel, path: bytes, options: bytes, flags: int = MS_RDONLY) -> None:
    kernel.mount(b"tmpfs", path, b"tmpfs", flags | MS_NOSUID | MS_NODEV | MS_NOEXEC, b"size=64k," + options)


def _hide_at_home(kernel: _Kernel) -> None:
    """Private keys and the like of users, who own the names here: no link is followed.

    A folder is covered as a whole, since its user could fill it with more files than there can be mounts.
    """
    for home in glob.glob("/home/*"):
        try:
            folder = os.open(home, _LOOK | os.O_DIRECTORY)
        except OSError:
            continue
        for name, shown in _HIDDEN_AT_HOME.items():
            with contextlib.suppress(_Absent):
                _hide_folder(kernel, folder, name, shown)
        for name in _HIDDEN_FILES_AT_HOME:
            with contextlib.suppress(_Absent):
                found = _look(folder, name)
                kernel.mount(b"/dev/null", _by_descriptor(found), None, MS_BIND, None)
                os.close(found)
        os.close(folder)


def _hide_folder(kernel: _Kernel, parent: int, name: str, shown: Sequence[str]) -> None:
    """Cover a folder with an empty one of the same owner and mode, and put the files that are `shown` back."""
    folder = _look(parent, name, os.O_DIRECTORY)
    status = os.fstat(folder)
    held = {}
    for file in shown:
        with contextlib.suppress(_Absent):
            held[file] = _look(folder, file)
    owner = f"mode={stat.S_IMODE(status.st_mode):o},uid={status.st_uid},gid={status.st_gid}"
    _cover(kernel, _by_descriptor(folder), owner.encode(), flags=0)
    os.close(folder)
    cover = _look(parent, name, os.O_DIRECTORY)
    for file, descriptor in held.items():
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=cover))
        target = _look(cover, file)
        kernel.mount(_by_descriptor(descriptor), _by_descriptor(target), None, MS_BIND, None)
        os.close(descriptor)
        os.close(target)
    kernel.mount(None, _by_descriptor(cover), None, _SEALED | MS_NODEV, None)
    os.close(cover)


class _Absent(Exception):
    """Nothing there that a read could see: no such name, a link, or a place that not even root reaches."""


_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_SEALED = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC


def _look(folder: int, name: str, flags: int = 0) -> int:
    """A descriptor that only names a file, for mounts. Raises _Absent."""
    try:
        found = os.open(name, _LOOK | flags, dir_fd=folder)
    except OSError:
        raise _Absent from None
    if stat.S_ISLNK(os.fstat(found).st_mode):
        os.close(found)
        raise _Absent
    return found


def _by_descriptor(descriptor: int) -> bytes:
    return f"/proc/self/fd/{descriptor}".encode()


def _minimal_devices(kernel: _Kernel) -> None:
    """CAP_DAC_READ_SEARCH would open block devices for reading."""
    held = {name: os.open(f"/dev/{name}", os.O_PATH) for name in _DEVICES}
    kernel.mount(b"tmpfs", b"/dev", b"tmpfs", MS_NOSUID | MS_NOEXEC, b"mode=0755,size=64k")
    os.symlink("/proc/self/fd", "/dev/fd")
    for name, descriptor in held.items():
        os.close(os.open(f"/dev/{name}", os.O_CREAT | os.O_EXCL, 0o666))
        kernel.mount(_by_descriptor(descriptor), f"/dev/{name}".encode(), None, MS_BIND, None)
        os.close(descriptor)
    kernel.mount(None, b"/dev", None, _SEALED, None)


def _read_only(kernel: _Kernel) -> None:
    """mount_setattr(2) does it at once from Linux 5.12; before that, mount by mount."""
    attributes = struct.pack("QQQQ", 1, 0, 0, 0)  # MOUNT_ATTR_RDONLY
    try:
        kernel.syscall(442, -100, b"/", 0x8000, attributes, len(attributes))  # AT_FDCWD, AT_RECURSIVE
    except OSError:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mounts = [line.split() for line in file]
        for number, _, _, _, point, options, *_ in mounts:
            flags = sum(_FLAG_NAMES.get(option, 0) for option in set(options.split(",")))
            path = point.encode("utf-8", "surrogateescape").decode("unicode_escape").encode("latin-1")
            if not flags & MS_RDONLY and _mount_at(path) == number:
                kernel.mount(None, path, None, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, None)
    if _writable(("/etc", "/usr", "/var")):
        raise CannotConfine("file systems cannot be made read-only")


def _mount_at(path: bytes) -> str:
    """The number of the mount that the path leads to, as in mountinfo; another one when the mount there is covered."""
    try:
        found = os.open(path, _LOOK)
    except FileNotFoundError:
        return ""
    try:
        with open(f"/proc/self/fdinfo/{found}", encoding="ascii") as file:
            return next(line.split()[1] for line in file if line.startswith("mnt_id:"))
    finally:
        os.close(found)


def _limits(memory: int, seconds: int) -> None:
    # Address space, not resident memory: an interpreter maps about 200 MiB more than it uses.
    for limit, value in (
        (resource.RLIMIT_AS, memory + (256 << 20)),
        (resource.RLIMIT_CPU, seconds + 1),
        (resource.RLIMIT_FSIZE, 16 << 20),
        (resource.RLIMIT_NPROC, 512),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 256),
    ):
        resource.setrlimit(limit, (value, value))


def _drop_root(kernel: _Kernel, name: str, privileged: bool, journal: bool) -> None:
    user = pwd.getpwnam(name)
    groups = [grp.getgrnam("systemd-journal").gr_gid] if journal else []
    kept = 1 << CAP_DAC_READ_SEARCH if privileged else 0
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        last = int(file.read())
    for capability in range(last + 1):
        if not kept >> capability & 1:
            kernel.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups(groups)
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    kernel.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    header = struct.pack("II", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    low = struct.pack("III", kept, kept, kept)
    kernel.capset(header, low + struct.pack("III", 0, 0, 0))
    if privileged:
        # Ambient, so that programs which the action runs can read the same.
        kernel.prctl(PR_CAP_AMBIENT, 2, CAP_DAC_READ_SEARCH, 0, 0)


def _filter_syscalls(kernel: _Kernel, network: bool) -> None:
    program = seccomp.program_for(platform.machine(), network)
    if program is None:
        raise CannotConfine(f"no system call filter for {platform.machine()}")
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    kernel.prctl(PR_SET_SECCOMP, 2, header, 0, 0)
