"""What steps see of a server: its states, Probe (reads) and Host (writes). The real ones are in host.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class HostError(Exception):
    """The operating system said no. The message is a sentence for people."""


class FileState(NamedTuple):
    """What stands at a path: stat(2) without following a link.

    `kind` is file, directory, link or other; `mode` has the permission bits only; `mtime` is in seconds.
    """

    kind: str
    mode: int
    owner: str
    group: str
    size: int = 0
    mtime: float = 0.0
    target: str = ""


class UnitState(NamedTuple):
    """A systemd unit, with `systemctl show`'s words.

    `since` is when it became active, seconds since the epoch, 0 when it is not. `stale` means that its files changed
    on disk and systemd has not read them again. `reloaded` is when an active one last changed its state, by its
    start or by a reload; 0 after a reload that failed. `stops_with` are those that stop when this one does, and
    `conflicts` those that stop when it starts.
    """

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
    stale: bool = False
    reloaded: float = 0.0
    stops_with: Sequence[str] = ()
    conflicts: Sequence[str] = ()


class UserState(NamedTuple):
    """A line of passwd(5) with its supplementary groups."""

    name: str
    uid: int
    gid: int
    group: str
    home: str
    shell: str
    comment: str = ""
    groups: tuple[str, ...] = ()


class Result(NamedTuple):
    """How a program ended."""

    code: int
    out: str
    err: str


class Broker(Protocol):
    """The executor outside the sandbox. Verbs and what each takes stand in remote/broker.py, which checks them all."""

    def call(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """Do it; raises HostError with the reason when it was refused or failed."""


class Probe(Protocol):
    """Reads. Nothing here changes the server. Each raises HostError when the sandbox or the system says no."""

    @property
    def safe(self) -> bool:
        """Whether what is done undoes itself unless it is confirmed."""

    def written(self, path: str) -> str | None:
        """SHA-256 of what ServerFlow last wrote there; None when it never did."""

    def stat(self, path: str) -> FileState | None: ...
    def read(self, path: str, follow: bool = True) -> bytes | None:
        """The content of a regular file of at most 4 MiB. Without `follow`, no part of the path may be a link."""

    def digest(self, path: str) -> str | None:
        """SHA-256 of a regular file of any size; no part of the path may be a link."""

    def names(self, folder: str) -> list[str]: ...
    def blob(self, sha256: str) -> bytes:
        """Bytes that came with the command. Check mode has none of them."""

    def unit(self, name: str) -> UnitState: ...
    def units(self, pattern: str) -> list[UnitState]: ...
    def package(self, name: str) -> str:
        """The installed version, "" when it is not installed."""

    def candidate(self, name: str) -> str:
        """The version that would be installed, "" when the package sources do not know the name."""

    def user(self, name: str) -> UserState | None: ...
    def group(self, name: str) -> bool: ...
    def release(self) -> dict[str, str]:
        """os-release(5)."""

    def run(self, argv: Sequence[str], timeout: int = 20) -> Result:
        """Run a program that only reads."""

    def stream(self, argv: Sequence[str]) -> Iterator[bytes]:
        """The output of a program that only reads, as it comes; the program ends when the iterator is closed."""

    def generate(self, name: str, entropy: int = 24) -> str:
        """A fresh secret. In a forecast it is the placeholder `<name>`, so that a plan is the same each time."""

    def now(self) -> float: ...
    def addresses(self) -> list[str]:
        """Those of the server that others may reach, IPv4 first: no loopback, link-local or temporary ones."""

    def rows(self, database: str, *queries: tuple[str, Sequence[Any]]) -> list[list[Sequence[Any]]] | None:
        """What an SQLite database answers to each query (SQL and its values), all from one moment; None when there is
        no such file.
        """

    def disk(self, path: str) -> tuple[int, int, int]:
        """Bytes in all, used, and available to users, of the file system that holds the path."""


class Host(Probe, Protocol):
    """Writes, each atomic on its own. Each raises HostError when it cannot be done."""

    def write(self, path: str, data: bytes, mode: int, owner: str, group: str) -> None: ...
    def make_folder(self, path: str, mode: int, owner: str, group: str) -> None: ...
    def own(self, path: str, mode: int, owner: str, group: str) -> None: ...
    def remove(self, path: str) -> None:
        """A file or a link."""

    def remove_tree(self, path: str, keep_root: bool = False) -> None:
        """A folder with all in it; links are removed, never followed."""

    def put_aside(self, path: str) -> None:
        """Move a folder away, with all in it; it is deleted once the change is confirmed. Only in a safe change."""

    def keep_aside(self, path: str) -> None:
        """Keep a copy, for people, of the file or link there, before it is replaced or removed."""

    def execute(self, argv: Sequence[str], input: bytes = b"", timeout: int = 600) -> Result:
        """Run a program inside the sandbox of the action."""

    def unit_do(self, verb: str, name: str) -> None:
        """start, stop, restart, reload, enable, disable, or daemon-reload (name is then ignored)."""

    def packages_do(self, verb: str, names: Sequence[str]) -> dict[str, Any]:
        """install, remove, refresh (package lists) or upgrade (names empty: all)."""

    def account_do(self, verb: str, **fields: Any) -> None:
        """user-add, user-change, user-remove, group-add, group-remove.

        Fields: `name`, and for a user `home`, `shell`, `comment`, `group`, `groups` (the exact supplementary ones),
        `system`, `create_home`; for user-remove `remove_home`. A new account has no password.
        """

    def machine_do(self, verb: str, value: str = "") -> None:
        """reboot; hostname and timezone, now and after the next boot; firewall-unit, watch-unit and cert-unit, present
        or absent; sysctl, which puts our own file (kit/sysctl.py) in force.
        """

    def certificate_do(self, verb: str, name: str, **fields: Any) -> dict[str, Any]:
        """issue (`force`), revoke (`reason`) or forget (`purge`), outside, with a network; returns what is known of the
        certificate then, and why another try failed, as remote/certcore.py tells it.
        """

    def new_database(self, schema: str) -> bytes:
        """The content of a new SQLite database with this schema, to be written somewhere."""

    def powerdns_do(self, call: str, body: Mapping[str, Any] | None = None, **names: str) -> None:
        """A request to PowerDNS by its name in kit/powerdns.py; `names` are the zone, key or kind in its path."""
