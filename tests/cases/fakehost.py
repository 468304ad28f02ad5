"""A server in memory: Probe and Host for the case files. Standard library only, Python >= 3.9.

It fakes the boundary (files, systemd, apt, accounts) and refuses what the action did not declare, as the sandbox and
the broker do on a real server.
"""

from __future__ import annotations

import fnmatch
import hashlib
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import fakedns

from serverflow_actions.kit import certunits, watch
from serverflow_actions.kit.firewall import UNIT_FILE, UNIT_TEXT
from serverflow_actions.kit.powerdns import API_CONFIG, CALLS, CONFIG, DATABASE, UNIT
from serverflow_actions.kit.probe import FileState, HostError, Result, UnitState, UserState
from serverflow_actions.kit.sysctl import FILE as SYSCTL_FILE
from serverflow_actions.kit.undo import Footprint

_RUNNING = ("active", "reloading", "activating")


@dataclass
class Entry:
    """What stands at a path."""

    kind: str = "file"
    content: bytes = b""
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    mtime: float = 0.0
    target: str = ""


@dataclass
class Server:
    """All state. `now` moves on by a second with each write, so that newer and older can be told apart."""

    now: float = 1_700_000_000.0
    files: dict[str, Entry] = field(default_factory=dict)
    units: dict[str, UnitState] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    failing: tuple[str, ...] = ()
    packages: dict[str, str] = field(default_factory=dict)
    available: dict[str, dict[str, Any]] = field(default_factory=dict)
    after_refresh: dict[str, dict[str, Any]] = field(default_factory=dict)
    upgradable: dict[str, list[str]] = field(default_factory=dict)
    dependents: dict[str, list[str]] = field(default_factory=dict)
    users: dict[str, UserState] = field(default_factory=dict)
    groups: set[str] = field(default_factory=set)
    programs: dict[str, Any] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    disks: dict[str, list[int]] = field(default_factory=dict)
    addresses: list[str] = field(default_factory=list)
    certificates: dict[str, dict[str, Any]] = field(default_factory=dict)
    rebooted: bool = False
    written: dict[str, str] = field(default_factory=dict)
    kept: list[tuple[str, bytes]] = field(default_factory=list)
    aside: dict[str, dict[str, Entry]] = field(default_factory=dict)

    def snapshot(self) -> Server:
        return deepcopy(self)

    def add(self, described: dict[str, Any]) -> None:
        """Take in a case's `host`, or what a package provides."""
        for name, value in described.get("users", {}).items():
            self.add_user(name, **value)
        self.groups.update(described.get("groups", []))
        for path, value in described.get("folders", {}).items():
            self.put(path, Entry(kind="directory", **_owned({"mode": "0755", **value})))
        for path, value in described.get("files", {}).items():
            fields = {"content": value} if isinstance(value, (str, list)) else dict(value)
            content = fields.pop("content", "")
            text = "".join(f"{line}\n" for line in content) if isinstance(content, list) else content
            self.put(path, Entry(content=text.encode(), **_owned(fields)))
        for path, target in described.get("links", {}).items():
            self.put(path, Entry(kind="link", mode=0o777, target=target))
        for name, value in described.get("units", {}).items():
            self.units[name] = UnitState(**{"name": name, "load": "loaded", "enabled": "disabled", **value})
        for key in (
            "packages",
            "available",
            "after_refresh",
            "upgradable",
            "dependents",
            "programs",
            "aliases",
            "disks",
            "certificates",
        ):
            getattr(self, key).update(described.get(key, {}))
        self.failing += tuple(described.get("failing", ()))
        self.addresses += described.get("addresses", [])
        if "powerdns" in described:
            self._add_powerdns(**described["powerdns"])
        for text in described.get("blobs", []):
            self.blobs[hashlib.sha256(text.encode()).hexdigest()] = text.encode()
        for path, text in described.get("written", {}).items():
            self.written[path] = hashlib.sha256(text.encode()).hexdigest()
        for path in described.get("absent", []):
            self.files.pop(path)

    def _add_powerdns(self, roles: Sequence[str], sql: Sequence[str] = (), running: bool = True) -> None:
        """A name server of ours, with what the SQL puts into its database."""
        self.add({"users": {"pdns": {}}})
        config = "# Written by ServerFlow (dns.server): changes by hand are undone.\n"
        config += "".join(f"{role}=yes\n" for role in roles)
        self.put(CONFIG, Entry(content=config.encode()))
        self.put(API_CONFIG, Entry(content=b"api-key=0123456789abcdef0123\n", mode=0o640, group="pdns"))
        text = fakedns.database("\n".join([fakedns.SCHEMA, *sql]))
        self.put(DATABASE, Entry(content=text.encode(), mode=0o640, owner="pdns", group="pdns"))
        unit = UnitState(UNIT, load="loaded", enabled="enabled")
        self.units[UNIT] = unit._replace(active="active", sub="running", since=self.now) if running else unit

    def at(self, path: str) -> dict[str, Entry]:
        """What stands at the path and below it."""
        return {p: entry for p, entry in self.files.items() if p == path or p.startswith(f"{path}/")}

    def put(self, path: str, entry: Entry) -> None:
        parent = posixpath.dirname(path)
        if path != "/" and parent not in self.files:
            self.put(parent, Entry(kind="directory", mode=0o755))
        self.files[path] = entry

    def add_user(self, name: str, uid: int | None = None, group: str = "", home: str = "", **fields: Any) -> None:
        if uid is None:
            uid = max([999, *(user.uid for user in self.users.values() if user.uid < 60000)]) + 1
        groups = tuple(sorted(fields.pop("groups", ())))
        shell = fields.pop("shell", "/bin/bash")
        self.groups.add(group or name)
        self.users[name] = UserState(
            name, uid, uid, group or name, home or f"/home/{name}", shell, groups=groups, **fields
        )


def _owned(fields: dict[str, Any]) -> dict[str, Any]:
    if "mode" in fields:
        fields = {**fields, "mode": int(fields["mode"], 8)}
    return fields


def debian(described: dict[str, Any]) -> Server:
    """A Debian server with what every one has, and what the case adds."""
    server = Server()
    server.add(
        {
            "users": {"root": {"uid": 0, "home": "/root"}, "nobody": {"uid": 65534, "home": "/nonexistent"}},
            "groups": ["sudo", "docker", "users", "www-data"],
            "folders": {
                **{
                    path: {}
                    for path in (
                        "/srv",
                        "/home",
                        "/tmp",
                        "/etc/systemd/system",
                        "/etc/serverflow/apps",
                        "/etc/serverflow/firewall",
                    )
                },
                **{f"/etc/serverflow/{name}": {"mode": "0700"} for name in ("cron", "notify", "cert")},
            },
            "files": {
                "/var/lib/dpkg/status": "",
                "/etc/shells": ["/bin/sh", "/bin/bash"],
                "/etc/os-release": ['PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"', "ID=debian"],
                "/etc/hostname": ["old"],
                "/proc/sys/kernel/hostname": ["old"],
                "/usr/share/zoneinfo/Europe/Paris": "TZif2",
                "/usr/share/zoneinfo/Etc/UTC": "TZif2",
                "/etc/timezone": ["Etc/UTC"],
            },
            "links": {"/etc/localtime": "/usr/share/zoneinfo/Etc/UTC"},
            "units": {"ssh.service": {"active": "active", "sub": "running", "enabled": "enabled", "since": 1}},
            "aliases": {"sshd.service": "ssh.service"},
        }
    )
    server.files["/"] = Entry(kind="directory", mode=0o755)
    server.add(described)
    return server


class FakeProbe:
    """Probe."""

    def __init__(self, server: Server, forecasting: bool = True, safe: bool = False) -> None:
        self._server = server
        self._forecasting = forecasting
        self._generated = 0
        self.safe = safe

    def written(self, path: str) -> str | None:
        return self._server.written.get(path)

    def stat(self, path: str) -> FileState | None:
        entry = self._server.files.get(self._resolved_parent(path))
        if not entry:
            return None
        size = len(entry.content)
        return FileState(entry.kind, entry.mode, entry.owner, entry.group, size, entry.mtime, entry.target)

    def _resolved_parent(self, path: str) -> str:
        parent, name = posixpath.split(path)
        return path if path == "/" else posixpath.join(self._resolved(parent), name)

    def _resolved(self, path: str) -> str:
        if path == "/":
            return path
        here = self._resolved_parent(path)
        entry = self._server.files.get(here)
        return self._resolved(posixpath.join(posixpath.dirname(here), entry.target)) if entry and entry.target else here

    def _file(self, path: str, follow: bool) -> Entry | None:
        if not follow and self._resolved(path) != path:
            raise HostError(f"{path} cannot be reached: a part of it is a link")
        entry = self._server.files.get(self._resolved(path))
        if entry and entry.kind != "file":
            raise HostError(f"{path} is not a regular file")
        return entry

    def read(self, path: str, follow: bool = True) -> bytes | None:
        if path == "/etc/passwd":
            users = self._server.users.values()
            return "".join(f"{u.name}:x:{u.uid}:{u.gid}:{u.comment}:{u.home}:{u.shell}\n" for u in users).encode()
        entry = self._file(path, follow)
        return entry.content if entry else None

    def digest(self, path: str) -> str | None:
        entry = self._file(path, follow=False)
        return hashlib.sha256(entry.content).hexdigest() if entry else None

    def names(self, folder: str) -> list[str]:
        here = self._resolved(folder)
        return sorted(posixpath.basename(p) for p in self._server.files if p != "/" and posixpath.dirname(p) == here)

    def blob(self, sha256: str) -> bytes:
        if sha256 not in self._server.blobs or self._forecasting:
            raise HostError("the content did not come with the command")
        return self._server.blobs[sha256]

    def unit(self, name: str) -> UnitState:
        name = self._server.aliases.get(name, name)
        if name in self._server.units:
            return self._server.units[name]
        stem, at, rest = name.partition("@")
        template = self._server.units.get(f"{stem}@.{rest.rpartition('.')[2]}") if at else None
        return template._replace(name=name) if template else UnitState(name)

    def units(self, pattern: str) -> list[UnitState]:
        return [unit for name, unit in sorted(self._server.units.items()) if fnmatch.fnmatchcase(name, pattern)]

    def package(self, name: str) -> str:
        return self._server.packages.get(name, "")

    def candidate(self, name: str) -> str:
        return str(self._server.available.get(name, {}).get("version", "")) or self._server.packages.get(name, "")

    def user(self, name: str) -> UserState | None:
        return self._server.users.get(name)

    def group(self, name: str) -> bool:
        return name in self._server.groups

    def release(self) -> dict[str, str]:
        lines = (self.read("/etc/os-release") or b"").decode().splitlines()
        return {key: value.strip('"') for key, value in (line.split("=", 1) for line in lines)}

    def run(self, argv: Sequence[str], timeout: int = 20) -> Result:
        line = " ".join(argv)
        if line in self._server.programs:
            return Result(**{"code": 0, "out": "", "err": "", **self._server.programs[line]})
        if "--simulate" in argv and "upgrade" in argv:
            lines = [f"Inst {name} [{old}] ({new} Debian)" for name, (old, new) in self._server.upgradable.items()]
            return Result(0, "\n".join(lines), "")
        if "--simulate" in argv and "remove" in argv:
            gone = self._dependents(argv[argv.index("--") + 1 :])
            return Result(0, "\n".join(f"Remv {name} [{self._server.packages[name]}]" for name in gone), "")
        raise AssertionError(f"the case says nothing of the program: {line}")

    def _dependents(self, names: Sequence[str]) -> list[str]:
        more = [other for name in names for other in self._server.dependents.get(name, ())]
        return [*more, *names]

    def stream(self, argv: Sequence[str]) -> Iterator[bytes]:
        yield self.run(argv).out.encode()

    def generate(self, name: str, entropy: int = 24) -> str:
        if self._forecasting:
            return f"<{name}>"
        self._generated += 1
        return f"generated-{name}-{self._generated}-x"

    def now(self) -> float:
        return self._server.now

    def disk(self, path: str) -> tuple[int, int, int]:
        total, used, available = self._server.disks.get(path, [100, 40, 50])
        return total, used, available

    def addresses(self) -> list[str]:
        return list(self._server.addresses)

    def rows(self, database: str, *queries: tuple[str, Sequence[Any]]) -> list[list[Sequence[Any]]] | None:
        entry = self._file(database, follow=True)
        return fakedns.rows(entry.content.decode(), queries) if entry else None


@dataclass(frozen=True)
class Powers:
    """What the action declared, with its parameters filled in."""

    writes: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    accounts: bool = False
    host_verbs: tuple[str, ...] = ()


class Crash(Exception):
    """The power went."""


class FakeHost(FakeProbe):
    """Host. After `fuse` writes the next one ends in a Crash, before it has any effect."""

    def __init__(self, server: Server, powers: Powers, fuse: int = -1, safe: bool = False) -> None:
        super().__init__(server, forecasting=False, safe=safe)
        self._powers = powers
        self._fuse = fuse
        self.writes = 0
        self.armed: Footprint | None = None

    def arm(self, footprint: Footprint) -> None:
        """The broker's verb of that name: once, and before anything is written."""
        assert self.safe and self.armed is None and self.writes == 0
        self.armed = footprint

    def _act(self) -> None:
        assert not self.safe or self.armed, "a safe change wrote before it was armed"
        if self.writes == self._fuse:
            raise Crash
        self.writes += 1
        self._server.now += 1

    def _may_write(self, path: str) -> None:
        if not any(path == folder or path.startswith(f"{folder}/") for folder in self._powers.writes):
            raise HostError(f"{path} is outside of what the action may write")
        parent = posixpath.dirname(path)
        if self._resolved(parent) != parent:
            raise HostError(f"{path} cannot be reached: a part of it is a link")
        if parent in self._powers.writes and parent.endswith(".service.d"):
            self._server.files.setdefault(parent, Entry(kind="directory", mode=0o755))  # the executor makes these
        if parent not in self._server.files:
            raise HostError(f"{path}: its folder does not exist")
        self._act()

    def _known(self, owner: str, group: str) -> None:
        if owner not in self._server.users or group not in self._server.groups:
            raise HostError(f"no such user or group: {owner}:{group}")

    def write(self, path: str, data: bytes, mode: int, owner: str, group: str) -> None:
        self._known(owner, group)
        self._may_write(path)
        self._server.files[path] = Entry("file", data, mode, owner, group, self._server.now)
        self._server.written[path] = hashlib.sha256(data).hexdigest()

    def make_folder(self, path: str, mode: int, owner: str, group: str) -> None:
        self._known(owner, group)
        self._may_write(path)
        assert path not in self._server.files
        self._server.files[path] = Entry("directory", b"", mode, owner, group, self._server.now)

    def own(self, path: str, mode: int, owner: str, group: str) -> None:
        self._known(owner, group)
        self._may_write(path)
        entry = self._server.files[path]
        entry.mode, entry.owner, entry.group = mode, owner, group

    def remove(self, path: str) -> None:
        self._may_write(path)
        self._server.files.pop(path, None)

    def remove_tree(self, path: str, keep_root: bool = False) -> None:
        self._may_write(path)
        for below in self._server.at(path):
            if below != path or not keep_root:
                del self._server.files[below]

    def put_aside(self, path: str) -> None:
        self._act()
        if not self.armed or path not in self.armed.aside:
            raise HostError(f"{path} is not among what this change may put aside")
        self._server.aside[path] = self._server.at(path)
        for below in self._server.aside[path]:
            del self._server.files[below]

    def keep_aside(self, path: str) -> None:
        self._act()
        self._server.kept.append((path, self._server.files[path].content))

    def execute(self, argv: Sequence[str], input: bytes = b"", timeout: int = 600) -> Result:
        self._act()
        return self.run(argv)

    def unit_do(self, verb: str, name: str) -> None:
        self._act()
        if verb == "daemon-reload":
            return self._reload_units()
        name = self._server.aliases.get(name, name)
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in self._powers.units):
            raise HostError(f"{name} is not among the units that this action declares")
        found = self.unit(name)
        if found.load == "not-found":
            raise HostError(f"Unit {name} not found.")
        if verb in ("start", "restart") and name in self._server.failing:
            self._server.units[name] = found._replace(active="failed", sub="failed", result="exit-code", since=0.0)
            raise HostError(f"Job for {name} failed.")
        if verb == "start" and found.result == "start-limit-hit":
            raise HostError(f"{name}: Start request repeated too quickly.")
        active = {"active": "active", "sub": "running", "result": "success", "since": self._server.now}
        stopped = {"active": "inactive", "sub": "dead", "since": 0.0}
        changed: dict[str, dict[str, Any]] = {
            "start": {} if found.active in _RUNNING else active,
            "restart": active,
            "reload": {"reloaded": self._server.now},
            "stop": stopped,
            "enable": {"enabled": "enabled"},
            "disable": {"enabled": "disabled"},
            "reset-failed": {**stopped, "result": "success"} if found.active == "failed" else {},
        }
        self._server.units[name] = found._replace(**changed[verb])
        return None

    def new_database(self, schema: str) -> bytes:
        return fakedns.database(schema).encode()

    def powerdns_do(self, call: str, body: Mapping[str, Any] | None = None, **names: str) -> None:
        self._act()
        if CALLS[call].power not in self._powers.host_verbs:
            raise HostError(f"this action does not declare {CALLS[call].power}")
        if self.unit(UNIT).active != "active":
            raise HostError("PowerDNS does not run")
        entry = self._server.files[DATABASE]
        entry.content = fakedns.requested(entry.content.decode(), call, body or {}, names).encode()

    def _reload_units(self) -> None:
        folder = "/etc/systemd/system"
        for name in self.names(folder):
            if name.endswith((".service", ".timer")):
                installs = b"[Install]" in self._server.files[f"{folder}/{name}"].content
                found = self._server.units.get(name, UnitState(name, enabled="disabled" if installs else "static"))
                self._server.units[name] = found._replace(load="loaded", stale=False)
        for name in [n for n in self._server.units if n.startswith("serverflow-")]:
            if f"{folder}/{name}" not in self._server.files:
                del self._server.units[name]

    def packages_do(self, verb: str, names: Sequence[str]) -> dict[str, Any]:
        self._act()
        server = self._server
        for name in names:
            if name not in self._powers.packages and "*" not in self._powers.packages:
                raise HostError(f"{name} is not among the packages that this action declares")
        if verb == "refresh":
            server.available.update(server.after_refresh)
            server.put("/var/lib/apt/lists/partial", Entry(kind="directory", mtime=server.now))
        elif verb == "install":
            for name in names:
                server.packages[name] = server.available[name]["version"]
                server.add(server.available[name].get("provides", {}))
        elif verb == "remove":
            for name in self._dependents(names):
                server.packages.pop(name, None)
        elif verb == "upgrade":
            server.packages.update({name: new for name, (_, new) in server.upgradable.items()})
            server.upgradable.clear()
        else:
            raise HostError(f"packages cannot be asked to {verb}")
        return {}

    def account_do(self, verb: str, **fields: Any) -> None:
        self._act()
        if not self._powers.accounts:
            raise HostError("this action does not declare that it changes accounts")
        name = fields.pop("name")
        if verb == "user-add":
            system, _create_home = fields.pop("system"), fields.pop("create_home")
            uid = (
                max([99, *(user.uid for user in self._server.users.values() if user.uid < 1000)]) + 1
                if system
                else None
            )
            self._server.add_user(name, uid=uid, **fields)
            home = self._server.users[name].home
            if home not in self._server.files:  # useradd(8) leaves one that is there as it is
                self._server.put(home, Entry("directory", b"", 0o700, name, name))
        elif verb == "user-change":
            changed: dict[str, Any] = {key: tuple(value) if key == "groups" else value for key, value in fields.items()}
            self._server.users[name] = self._server.users[name]._replace(**changed)
        elif verb == "user-remove":
            gone = self._server.users.pop(name)
            self._server.groups.discard(name)
            if fields.pop("remove_home"):
                for path in self._server.at(gone.home):
                    del self._server.files[path]
        else:
            raise HostError(f"accounts cannot be asked to {verb}")

    def certificate_do(self, verb: str, name: str, **fields: Any) -> dict[str, Any]:
        """What a unit of its own would do: `certificates` of the server say how it ends."""
        self._act()
        if f"cert-{verb}" not in self._powers.host_verbs:
            raise HostError(f"this action does not declare cert-{verb}")
        if verb == "forget" and fields["purge"]:
            self._server.files.pop(f"/etc/serverflow/certs/{name}", None)
        return {} if verb == "forget" else dict(self._server.certificates.get(name, {"name": name}))

    def machine_do(self, verb: str, value: str = "") -> None:
        self._act()
        if verb not in self._powers.host_verbs:
            raise HostError(f"this action does not declare {verb}")
        if verb == "hostname":
            for path in ("/etc/hostname", "/proc/sys/kernel/hostname"):
                self._server.files[path].content = f"{value}\n".encode()
        elif verb == "firewall-unit":
            if value == "present":
                self._server.put(UNIT_FILE, Entry(content=UNIT_TEXT.encode(), mtime=self._server.now))
            else:
                self._server.files.pop(UNIT_FILE, None)
            self._reload_units()
        elif verb == "watch-unit":
            for path, text in watch.FILES:
                if value == "present":
                    self._server.put(path, Entry(content=text.encode(), mtime=self._server.now))
                else:
                    self._server.files.pop(path, None)
            self._reload_units()
        elif verb == "cert-unit":
            for path, text in certunits.FILES:
                if value == "present":
                    self._server.put(path, Entry(content=text.encode(), mtime=self._server.now))
                else:
                    self._server.files.pop(path, None)
            self._reload_units()
        elif verb == "sysctl":
            for line in self._server.files[SYSCTL_FILE].content.decode().splitlines():
                key, _, setting = (part.strip() for part in line.partition("="))
                entry = self._server.files.get("/proc/sys/" + key.replace(".", "/"))
                if entry and not line.startswith("#"):
                    entry.content = f"{setting}\n".encode()
        elif verb == "timezone":
            self._server.files["/etc/localtime"] = Entry("link", target=f"/usr/share/zoneinfo/{value}")
            if "/etc/timezone" in self._server.files:
                self._server.files["/etc/timezone"].content = f"{value}\n".encode()
        else:
            self._server.rebooted = True


def described(server: Server, wanted: dict[str, Any]) -> dict[str, Any]:
    """The part of the server's state that `wanted` (a case's `after`) speaks of, in the same form."""
    out: dict[str, Any] = {}
    for path, value in wanted.get("files", {}).items():
        entry = server.files.get(path)
        facts: Any = entry and {"content": entry.content.decode(), "mode": f"{entry.mode:04o}", "owner": entry.owner,
                                "group": entry.group, "kind": entry.kind}  # fmt: skip
        if isinstance(facts, dict):
            facts = facts["content"] if isinstance(value, str) else {key: facts[key] for key in value or facts}
        out.setdefault("files", {})[path] = facts
    for kind, states in (("units", server.units), ("users", server.users)):
        for name, value in wanted.get(kind, {}).items():
            found = states.get(name)
            facts = {**found._asdict(), "groups": list(getattr(found, "groups", ()))} if found else None
            out.setdefault(kind, {})[name] = {key: facts[key] for key in value or facts} if facts else None
    for name in wanted.get("packages", {}):
        out.setdefault("packages", {})[name] = server.packages.get(name)
    for sql in wanted.get("rows", {}):
        found_rows = fakedns.rows(server.files[DATABASE].content.decode(), [(sql, ())])[0]
        out.setdefault("rows", {})[sql] = [list(row) for row in found_rows]
    return out
