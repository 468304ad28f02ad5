"""Probe (reads) and Host (writes): the only file of the registry that touches the operating system.

A Host writes files itself, inside the folders that the sandbox left open. What needs more power (units, packages,
accounts, reboot) it asks of a Broker: the executor outside the sandbox, which checks each request against what the
signed action declared. See docs/adr/0004-one-sandbox-one-broker.md.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import secrets
import stat as stat_module
import subprocess
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Protocol, Sequence, Tuple

PROGRAM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PROGRAM_PATH, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
READ_LIMIT = 4 * 1024 * 1024


class HostError(Exception):
    """The operating system said no. The message is a sentence for people."""


@dataclass(frozen=True)
class FileState:
    """What stands at a path. `kind` is file, directory, link or other; `mode` has the permission bits only; `mtime` is in seconds."""

    kind: str
    mode: int
    owner: str
    group: str
    size: int = 0
    mtime: float = 0.0
    target: str = ""


@dataclass(frozen=True)
class UnitState:
    """A systemd unit, with `systemctl show`'s words. `since` is when it became active, seconds since the epoch, 0 when it is not."""

    name: str
    load: str = "not-found"
    active: str = "inactive"
    sub: str = "dead"
    enabled: str = ""
    since: float = 0.0
    description: str = ""
    pid: int = 0
    memory: int = 0
    result: str = ""


@dataclass(frozen=True)
class UserState:
    """A line of passwd(5) with its groups."""

    name: str
    uid: int
    gid: int
    group: str
    home: str
    shell: str
    comment: str = ""
    groups: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """How a program ended."""

    code: int
    out: str
    err: str


class Broker(Protocol):
    """The executor outside the sandbox. Verbs and what each takes stand in remote/broker.py, which checks them all."""

    def call(self, verb: str, **arguments: Any) -> Dict[str, Any]:
        """Do it; raises HostError with the reason when it was refused or failed."""


class Probe(Protocol):
    """Reads. Nothing here changes the server."""

    def stat(self, path: str) -> Optional[FileState]: ...
    def read(self, path: str) -> Optional[bytes]: ...
    def names(self, folder: str) -> List[str]: ...
    def unit(self, name: str) -> UnitState: ...
    def units(self, pattern: str) -> List[UnitState]: ...
    def package(self, name: str) -> str:
        """The installed version, "" when it is not installed."""

    def candidate(self, name: str) -> str:
        """The version that would be installed, "" when the package sources do not know the name."""

    def user(self, name: str) -> Optional[UserState]: ...
    def group(self, name: str) -> bool: ...
    def release(self) -> Dict[str, str]:
        """os-release(5)."""

    def run(self, argv: Sequence[str], timeout: int = 20) -> Result:
        """Run a program that only reads."""

    def generate(self, name: str, entropy: int = 24) -> str:
        """A fresh secret. In a forecast it is the placeholder `<name>`, so that a plan is the same each time."""

    def now(self) -> float: ...
    def disk(self, path: str) -> Tuple[int, int, int]:
        """Bytes in all, used, and available to users, of the file system that holds the path."""


class Host(Probe, Protocol):
    """Writes, each atomic on its own."""

    def write(self, path: str, data: bytes, mode: int, owner: str, group: str) -> None: ...
    def make_folder(self, path: str, mode: int, owner: str, group: str) -> None: ...
    def own(self, path: str, mode: int, owner: str, group: str) -> None: ...
    def remove(self, path: str) -> None:
        """A file or a link."""

    def remove_tree(self, path: str, keep_root: bool = False) -> None:
        """A folder with all in it; links are removed, never followed."""

    def execute(self, argv: Sequence[str], input: bytes = b"", timeout: int = 600) -> Result:
        """Run a program inside the sandbox of the action."""

    def unit_do(self, verb: str, name: str) -> None:
        """start, stop, restart, reload, enable, disable, or daemon-reload (name is then ignored)."""

    def packages_do(self, verb: str, names: Sequence[str]) -> Dict[str, Any]:
        """install, remove, refresh (package lists) or upgrade (names empty: all)."""

    def account_do(self, verb: str, **fields: Any) -> None:
        """user-add, user-change, user-remove, group-add, group-remove."""

    def machine_do(self, verb: str, value: str = "") -> None:
        """reboot, hostname, timezone."""


class LocalProbe:
    """The real server. `broker` answers for units when the sandbox hides systemd; without one systemctl is asked."""

    def __init__(self, broker: Optional[Broker] = None, forecasting: bool = True) -> None:
        self._broker = broker
        self._forecasting = forecasting

    def stat(self, path: str) -> Optional[FileState]:
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise HostError(f"{path} cannot be read by this action") from error
        kinds = {stat_module.S_IFREG: "file", stat_module.S_IFDIR: "directory", stat_module.S_IFLNK: "link"}
        kind = kinds.get(stat_module.S_IFMT(found.st_mode), "other")
        target = os.readlink(path) if kind == "link" else ""
        return FileState(
            kind, stat_module.S_IMODE(found.st_mode), _user_name(found.st_uid), _group_name(found.st_gid), found.st_size, found.st_mtime, target
        )

    def read(self, path: str) -> Optional[bytes]:
        try:
            with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
                if not stat_module.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise HostError(f"{path} is not a regular file")
                data = file.read(READ_LIMIT + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise HostError(f"{path} cannot be read by this action") from error
        if len(data) > READ_LIMIT:
            raise HostError(f"{path} is larger than {READ_LIMIT >> 20} MiB")
        return data

    def names(self, folder: str) -> List[str]:
        try:
            return sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except PermissionError as error:
            raise HostError(f"{folder} cannot be read by this action") from error

    def unit(self, name: str) -> UnitState:
        return self.units(name)[0]

    def units(self, pattern: str) -> List[UnitState]:
        if self._broker is not None:
            return [UnitState(**fields) for fields in self._broker.call("unit-show", pattern=pattern)["units"]]
        return show_units(pattern)

    def package(self, name: str) -> str:
        found = self.run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", name])
        status, _, version = found.out.partition(" ")
        return version if found.code == 0 and status == "installed" else ""

    def candidate(self, name: str) -> str:
        for line in self.run(["apt-cache", "policy", name]).out.splitlines():
            if line.strip().startswith("Candidate:"):
                version = line.split(":", 1)[1].strip()
                return "" if version == "(none)" else version
        return ""

    def user(self, name: str) -> Optional[UserState]:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            return None
        groups = tuple(sorted(g.gr_name for g in grp.getgrall() if name in g.gr_mem))
        return UserState(name, found.pw_uid, found.pw_gid, _group_name(found.pw_gid), found.pw_dir, found.pw_shell, found.pw_gecos, groups)

    def group(self, name: str) -> bool:
        try:
            grp.getgrnam(name)
        except KeyError:
            return False
        return True

    def release(self) -> Dict[str, str]:
        text = (self.read("/etc/os-release") or b"").decode("utf-8", "replace")
        pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
        return {key: value.strip("\"'") for key, value in pairs}

    def run(self, argv: Sequence[str], timeout: int = 20) -> Result:
        return run_program(argv, timeout=timeout)

    def generate(self, name: str, entropy: int = 24) -> str:
        return f"<{name}>" if self._forecasting else secrets.token_urlsafe(entropy)

    def now(self) -> float:
        return time.time()

    def disk(self, path: str) -> Tuple[int, int, int]:
        found = os.statvfs(path)
        size = found.f_blocks * found.f_frsize
        return size, size - found.f_bfree * found.f_frsize, found.f_bavail * found.f_frsize


class LocalHost(LocalProbe):
    """Writes through descriptors: no part of a path is ever followed through a link that someone else may have put there."""

    def __init__(self, broker: Optional[Broker] = None) -> None:
        super().__init__(broker, forecasting=False)

    def write(self, path: str, data: bytes, mode: int, owner: str, group: str) -> None:
        folder, name = _open_parent(path)
        temporary = f".{name[:200]}.{secrets.token_hex(6)}"
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder), "wb") as file:
                file.write(data)
                _own(file.fileno(), mode, owner, group)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        except BaseException as error:
            _unlink(temporary, folder)
            if isinstance(error, OSError):
                raise HostError(f"{path} cannot be written: {error.strerror}") from error
            raise
        finally:
            os.close(folder)

    def make_folder(self, path: str, mode: int, owner: str, group: str) -> None:
        folder, name = _open_parent(path)
        try:
            os.mkdir(name, 0o700, dir_fd=folder)
            made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            try:
                _own(made, mode, owner, group)
            finally:
                os.close(made)
            os.fsync(folder)
        except OSError as error:
            raise HostError(f"{path} cannot be made: {error.strerror}") from error
        finally:
            os.close(folder)

    def own(self, path: str, mode: int, owner: str, group: str) -> None:
        folder, name = _open_parent(path)
        try:
            found = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            try:
                _own(found, mode, owner, group)
            finally:
                os.close(found)
        except OSError as error:
            raise HostError(f"{path}: owner or mode cannot be set: {error.strerror}") from error
        finally:
            os.close(folder)

    def remove(self, path: str) -> None:
        folder, name = _open_parent(path)
        try:
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise HostError(f"{path} cannot be removed: {error.strerror}") from error
        finally:
            os.close(folder)

    def remove_tree(self, path: str, keep_root: bool = False) -> None:
        folder, name = _open_parent(path)
        try:
            _empty(name, folder)
            if not keep_root:
                os.rmdir(name, dir_fd=folder)
            os.fsync(folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise HostError(f"{path} cannot be removed: {error.strerror}") from error
        finally:
            os.close(folder)

    def execute(self, argv: Sequence[str], input: bytes = b"", timeout: int = 600) -> Result:
        return run_program(argv, input, timeout)

    def unit_do(self, verb: str, name: str) -> None:
        self._ask("unit", action=verb, unit=name)

    def packages_do(self, verb: str, names: Sequence[str]) -> Dict[str, Any]:
        return self._ask("package", action=verb, names=list(names))

    def account_do(self, verb: str, **fields: Any) -> None:
        self._ask("account", action=verb, **fields)

    def machine_do(self, verb: str, value: str = "") -> None:
        self._ask("machine", action=verb, value=value)

    def _ask(self, verb: str, **arguments: Any) -> Dict[str, Any]:
        if self._broker is None:
            raise HostError(f"this action has no broker for {verb}")
        return self._broker.call(verb, **arguments)


def run_program(argv: Sequence[str], input: bytes = b"", timeout: int = 20) -> Result:
    """Run a program with a fixed environment and no shell; output that is not UTF-8 is shown with replacement characters.

    Raises HostError when it cannot be started or does not end in time.
    """
    try:
        done = subprocess.run(list(argv), input=input, capture_output=True, timeout=timeout, env=ENVIRONMENT, check=False, cwd="/")
    except OSError as error:
        raise HostError(f"{argv[0]} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise HostError(f"{argv[0]} did not end within {timeout} s") from error
    return Result(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


_SHOWN = "Id,LoadState,ActiveState,SubState,UnitFileState,Description,MainPID,MemoryCurrent,Result,ActiveEnterTimestampMonotonic"


def show_units(pattern: str) -> List[UnitState]:
    """`systemctl show` for one unit, or for each loaded one that a glob matches."""
    out = run_program(["systemctl", "show", "--no-pager", f"--property={_SHOWN}", "--", pattern]).out
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in out.split("\n\n") if block.strip()]
    found = [_unit_state(block) for block in blocks if block.get("Id")]
    if not found and not set(pattern) & set("*?["):
        return [UnitState(pattern)]
    return found


def _unit_state(block: Dict[str, str]) -> UnitState:
    def number(key: str) -> int:
        text = block.get(key, "")
        # systemd prints 2^64-1 for "not set".
        return int(text) if text.isdigit() and int(text) < 1 << 63 else 0

    monotonic = number("ActiveEnterTimestampMonotonic")
    running = block.get("ActiveState") in ("active", "reloading")
    since = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC) + monotonic / 1e6 if running and monotonic else 0.0
    return UnitState(
        block["Id"], block.get("LoadState", ""), block.get("ActiveState", ""), block.get("SubState", ""), block.get("UnitFileState", ""),
        since, block.get("Description", ""), number("MainPID"), number("MemoryCurrent"), block.get("Result", ""),
    )  # fmt: skip


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _open_parent(path: str) -> Tuple[int, str]:
    """A descriptor of the folder that holds the path, reached without following a link, and the last part's name."""
    *folders, name = [part for part in path.split("/") if part]
    here = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in folders:
        try:
            following = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        except OSError as error:
            reason = "a part of it is a link" if error.errno in (errno.ELOOP, errno.ENOTDIR) else error.strerror
            raise HostError(f"{path} cannot be reached: {reason}") from error
        finally:
            os.close(here)
        here = following
    return here, name


def _own(descriptor: int, mode: int, owner: str, group: str) -> None:
    """Owner before mode: chown clears set-id bits, and the file is never open to others in between."""
    try:
        uid, gid = pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise HostError(f"no such user or group: {owner}:{group}") from error
    found = os.fstat(descriptor)
    if (found.st_uid, found.st_gid) != (uid, gid):
        os.fchown(descriptor, uid, gid)
    os.fchmod(descriptor, mode)


def _unlink(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        pass  # the first error is the one to report


def _empty(name: str, parent: int) -> None:
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                _empty(entry.name, folder)
                os.rmdir(entry.name, dir_fd=folder)
            else:
                os.unlink(entry.name, dir_fd=folder)
    finally:
        os.close(folder)
