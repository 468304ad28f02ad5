"""The real server: the only file of the registry that touches the operating system.

A LocalHost writes files itself, inside the folders that the sandbox left open. What needs more power (units, packages,
accounts, reboot) it asks of a Broker: the executor outside the sandbox, which checks each request against what the
signed action declared. See docs/adr/0004-one-sandbox-one-broker.md.
"""

from __future__ import annotations

import contextlib
import grp
import hashlib
import os
import pwd
import secrets
import stat as stat_module
import subprocess
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from . import addresses, nofollow
from .lifelines import CONFLICTS, STOPS_WITH
from .probe import Broker, FileState, Host, HostError, Probe, Result, UnitState, UserState

__all__ = [
    "ENVIRONMENT", "Broker", "FileState", "Host", "HostError", "LocalHost", "LocalProbe", "Probe", "Result",
    "UnitState", "UserState", "run_program", "show_units",
]  # fmt: skip

PROGRAM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PROGRAM_PATH, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
READ_LIMIT = 4 * 1024 * 1024


class LocalProbe:
    """The real server. `broker` answers for units when the sandbox hides systemd; without one systemctl is asked.

    `blobs` is the folder with the command's blobs, each named by its SHA-256. `safe` says that what is done undoes
    itself unless it is confirmed; `written` is path → SHA-256 of what ServerFlow last wrote.
    """

    def __init__(
        self,
        broker: Broker | None = None,
        forecasting: bool = True,
        blobs: str = "",
        safe: bool = False,
        written: Mapping[str, str] | None = None,
    ) -> None:
        self._broker = broker
        self._forecasting = forecasting
        self._blobs = blobs
        self._written = dict(written or {})
        self.safe = safe

    def written(self, path: str) -> str | None:
        return self._written.get(path)

    def stat(self, path: str) -> FileState | None:
        try:
            found = os.lstat(path)
            target = os.readlink(path) if stat_module.S_ISLNK(found.st_mode) else ""
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise HostError(f"{path} cannot be read by this action: {error.strerror}") from error
        kinds = {stat_module.S_IFREG: "file", stat_module.S_IFDIR: "directory", stat_module.S_IFLNK: "link"}
        kind, mode = kinds.get(stat_module.S_IFMT(found.st_mode), "other"), stat_module.S_IMODE(found.st_mode)
        owner, group = _user_name(found.st_uid), _group_name(found.st_gid)
        return FileState(kind, mode, owner, group, found.st_size, found.st_mtime, target)

    def read(self, path: str, follow: bool = True) -> bytes | None:
        with _opened(path, follow) as file:
            data = _all_of(file) if file else None
        if data is not None and len(data) > READ_LIMIT:
            raise HostError(f"{path} is larger than {READ_LIMIT >> 20} MiB")
        return data

    def digest(self, path: str) -> str | None:
        with _opened(path, follow=False) as file:
            if not file:
                return None
            hasher = hashlib.sha256()
            for chunk in iter(lambda: file.read(1 << 20), b""):
                hasher.update(chunk)
            return hasher.hexdigest()

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise HostError(f"{folder} cannot be read by this action: {error.strerror}") from error

    def blob(self, sha256: str) -> bytes:
        try:
            with open(f"{self._blobs or '/nonexistent'}/{sha256}", "rb") as file:
                data = file.read()
        except OSError as error:
            raise HostError(f"the content with SHA-256 {sha256} did not come with the command") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise HostError(f"the content that came is not the one with SHA-256 {sha256}")
        return data

    def unit(self, name: str) -> UnitState:
        return self.units(name)[0]

    def units(self, pattern: str) -> list[UnitState]:
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

    def user(self, name: str) -> UserState | None:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            return None
        groups = tuple(sorted(g.gr_name for g in grp.getgrall() if name in g.gr_mem))
        group = _group_name(found.pw_gid)
        return UserState(name, found.pw_uid, found.pw_gid, group, found.pw_dir, found.pw_shell, found.pw_gecos, groups)

    def group(self, name: str) -> bool:
        try:
            grp.getgrnam(name)
        except KeyError:
            return False
        return True

    def release(self) -> dict[str, str]:
        text = (self.read("/etc/os-release") or b"").decode("utf-8", "replace")
        pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
        return {key: value.strip("\"'") for key, value in pairs}

    def run(self, argv: Sequence[str], timeout: int = 20) -> Result:
        return run_program(argv, timeout=timeout)

    def stream(self, argv: Sequence[str]) -> Generator[bytes, None, None]:
        return stream_program(argv)

    def generate(self, name: str, entropy: int = 24) -> str:
        return f"<{name}>" if self._forecasting else secrets.token_urlsafe(entropy)

    def now(self) -> float:
        return time.time()

    def addresses(self) -> list[str]:
        if self._broker is not None:  # a sandbox has a network of its own
            return list(self._broker.call("addresses")["addresses"])
        return addresses.own()

    def rows(self, database: str, *queries: tuple[str, Sequence[Any]]) -> list[list[Sequence[Any]]] | None:
        from . import sqlite  # for few actions, and slow to load

        return sqlite.rows(database, queries)

    def disk(self, path: str) -> tuple[int, int, int]:
        found = os.statvfs(path)
        size = found.f_blocks * found.f_frsize
        return size, size - found.f_bfree * found.f_frsize, found.f_bavail * found.f_frsize


class LocalHost(LocalProbe):
    """Writes through descriptors, see nofollow.py."""

    def __init__(
        self,
        broker: Broker | None = None,
        blobs: str = "",
        safe: bool = False,
        written: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(broker, forecasting=False, blobs=blobs, safe=safe, written=written)

    def write(self, path: str, data: bytes, mode: int, owner: str, group: str) -> None:
        with _parent(path, "written") as (folder, name):
            temporary = f".{name[:200]}.{secrets.token_hex(6)}"
            try:
                with open(os.open(temporary, _NEW_FILE, 0o600, dir_fd=folder), "wb") as file:
                    file.write(data)
                    nofollow.own(file.fileno(), mode, owner, group)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                nofollow.unlink(temporary, folder)
                raise
        # A later step of the same run must not take this for a change by hand.
        self._written[path] = hashlib.sha256(data).hexdigest()

    def make_folder(self, path: str, mode: int, owner: str, group: str) -> None:
        with _parent(path, "made") as (folder, name):
            os.mkdir(name, 0o700, dir_fd=folder)
            self._own_at(folder, name, mode, owner, group)

    def own(self, path: str, mode: int, owner: str, group: str) -> None:
        with _parent(path, "given its owner and mode") as (folder, name):
            self._own_at(folder, name, mode, owner, group)

    def _own_at(self, folder: int, name: str, mode: int, owner: str, group: str) -> None:
        found = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            nofollow.own(found, mode, owner, group)
        finally:
            os.close(found)

    def remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError), _parent(path, "removed") as (folder, name):
            os.unlink(name, dir_fd=folder)

    def remove_tree(self, path: str, keep_root: bool = False) -> None:
        with contextlib.suppress(FileNotFoundError), _parent(path, "removed") as (folder, name):
            nofollow.empty(name, folder)
            if not keep_root:
                os.rmdir(name, dir_fd=folder)

    def put_aside(self, path: str) -> None:
        self._ask("put-aside", path=path)

    def keep_aside(self, path: str) -> None:
        self._ask("keep-aside", path=path)

    def execute(self, argv: Sequence[str], input: bytes = b"", timeout: int = 600) -> Result:
        return run_program(argv, input, timeout)

    def unit_do(self, verb: str, name: str) -> None:
        self._ask("unit", action=verb, unit=name)

    def packages_do(self, verb: str, names: Sequence[str]) -> dict[str, Any]:
        return self._ask("package", action=verb, names=list(names))

    def account_do(self, verb: str, **fields: Any) -> None:
        self._ask("account", action=verb, **fields)

    def machine_do(self, verb: str, value: str = "") -> None:
        self._ask("machine", action=verb, value=value)

    def certificate_do(self, verb: str, name: str, **fields: Any) -> dict[str, Any]:
        return self._ask("certificate", do=verb, name=name, **fields)

    def new_database(self, schema: str) -> bytes:
        from . import sqlite

        return sqlite.database(schema)

    def powerdns_do(self, call: str, body: Mapping[str, Any] | None = None, **names: str) -> None:
        self._ask("powerdns", call=call, body=body, **names)

    def _ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        if self._broker is None:
            raise HostError(f"this action has no broker for {verb}")
        return self._broker.call(verb, **arguments)


_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def _parent(path: str, done: str) -> Iterator[tuple[int, str]]:
    """The folder that holds the path, and the last part's name; the folder reaches the disk when the block is done.

    Raises HostError, and FileNotFoundError as it is where removing has nothing to do.
    """
    try:
        folder, name = nofollow.open_parent(path)
        try:
            yield folder, name
            nofollow.sync(folder)
        finally:
            os.close(folder)
    except FileNotFoundError as error:
        if done == "removed":
            raise
        raise HostError(f"{path} cannot be {done}: its folder does not exist") from error
    except OSError as error:
        raise HostError(f"{path} cannot be {done}: {error.strerror}") from error


@contextlib.contextmanager
def _opened(path: str, follow: bool) -> Iterator[BinaryIO | None]:
    """A regular file, None when there is none. A device or pipe must not block us: O_NONBLOCK."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        if follow:
            descriptor = os.open(path, flags)
        else:
            folder, name = nofollow.open_parent(path)
            try:
                descriptor = os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
            finally:
                os.close(folder)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    except OSError as error:
        raise HostError(f"{path} cannot be read by this action: {error.strerror}") from error
    with open(descriptor, "rb") as file:
        if not stat_module.S_ISREG(os.fstat(descriptor).st_mode):
            raise HostError(f"{path} is not a regular file")
        yield file


def _all_of(file: BinaryIO) -> bytes:
    """In pieces: for files under /proc/sys the kernel allocates as much as is asked for, and fails on megabytes."""
    parts, left = [], READ_LIMIT + 1
    while left and (part := file.read(min(left, 65536))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def run_program(argv: Sequence[str], input: bytes = b"", timeout: int = 20) -> Result:
    """Run a program with a fixed environment and no shell; bytes that are not UTF-8 become replacement characters.

    Raises HostError when it cannot be started or does not end in time.
    """
    try:
        done = subprocess.run(
            list(argv), input=input, capture_output=True, timeout=timeout, env=ENVIRONMENT, check=False, cwd="/"
        )
    except OSError as error:
        raise HostError(f"{argv[0]} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise HostError(f"{argv[0]} did not end within {timeout} s") from error
    return Result(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def stream_program(argv: Sequence[str]) -> Generator[bytes, None, None]:
    """A program's output as it comes. It is killed when the iterator is closed. Raises HostError when it fails."""
    try:
        program = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            cwd="/",
        )
    except OSError as error:
        raise HostError(f"{argv[0]} cannot be run: {error.strerror}") from error
    with program:
        try:
            assert program.stdout and program.stderr  # both are pipes
            output = program.stdout.fileno()
            yield from iter(lambda: os.read(output, 65536), b"")
            complaint = program.stderr.read(4096).decode("utf-8", "replace").strip()
            if program.wait():
                raise HostError(f"{argv[0]}: {complaint or f'exit code {program.returncode}'}")
        finally:
            program.kill()


_SHOWN = ",".join(
    (
        "Id,LoadState,ActiveState,SubState,UnitFileState,Description,MainPID,MemoryCurrent,Result,NeedDaemonReload,"
        "ActiveEnterTimestampMonotonic,StateChangeTimestampMonotonic,ReloadResult",
        *STOPS_WITH,
        *CONFLICTS,
    )
)


def show_units(pattern: str) -> list[UnitState]:
    """`systemctl show` for one unit, or for each loaded one that a glob matches."""
    out = run_program(["systemctl", "show", "--no-pager", f"--property={_SHOWN}", "--", pattern]).out
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in out.split("\n\n")]
    found = [_unit_state(block) for block in blocks if block.get("Id")]
    if not found and not set(pattern) & set("*?["):
        return [UnitState(pattern)]
    return found


def _unit_state(block: dict[str, str]) -> UnitState:
    def number(key: str) -> int:
        text = block.get(key, "")
        # systemd prints 2^64-1 for "not set".
        return int(text) if text.isdigit() and int(text) < 1 << 63 else 0

    running = block.get("ActiveState") in ("active", "reloading")
    boot = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)

    def moment(key: str) -> float:
        return boot + number(key) / 1e6 if running and number(key) else 0.0

    reload_failed = block.get("ReloadResult", "success") != "success"
    return UnitState(
        name=block["Id"],
        load=block.get("LoadState", ""),
        active=block.get("ActiveState", ""),
        sub=block.get("SubState", ""),
        enabled=block.get("UnitFileState", ""),
        since=moment("ActiveEnterTimestampMonotonic"),
        description=block.get("Description", ""),
        pid=number("MainPID"),
        memory=number("MemoryCurrent"),
        result=block.get("Result", ""),
        stale=block.get("NeedDaemonReload") == "yes",
        reloaded=0.0 if reload_failed else moment("StateChangeTimestampMonotonic"),
        stops_with=_units_in(block, STOPS_WITH),
        conflicts=[name for name in _units_in(block, CONFLICTS) if name != "shutdown.target"],
    )


def _units_in(block: Mapping[str, str], keys: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name for key in keys for name in block.get(key, "").split()))


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
