"""Debian packages, by apt-get(8) and dpkg-query(1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..change import Change
from ..probe import Host, HostError, Probe
from ..refused import Refused
from ..undo import Footprint, irreversible

_LISTS = "/var/lib/apt/lists"
_SCRIPTS = (
    "packages bring scripts that change the system in ways that nobody can list; without --safe they can go first"
)


def require_dpkg(probe: Probe) -> None:
    """Raises Refused on a system without dpkg."""
    if not probe.stat("/var/lib/dpkg/status"):
        system = probe.release().get("PRETTY_NAME", "this system")
        raise Refused(f"{system} has no dpkg: packages are managed on Debian and Ubuntu only", "unsupported")


@dataclass(frozen=True)
class Package:
    """Packages that are installed, in whatever version, or `absent`. One step for all, since apt is slow to start."""

    names: tuple[str, ...]
    absent: bool = False

    def check(self, probe: Probe) -> Change | None:
        require_dpkg(probe)
        versions = {name: probe.package(name) for name in self.names}
        if self.absent:
            found = [name for name, version in versions.items() if version]
            gone = {name: (version, None) for name, version in removals(probe, found).items()} if found else {}
            return Change("delete", "package", " ".join(found), dict(gone)) if found else None
        missing = [name for name, version in versions.items() if not version]
        fields = {name: (None, probe.candidate(name) or "unknown until the lists are refreshed") for name in missing}
        return Change("create", "package", " ".join(missing), dict(fields)) if missing else None

    def apply(self, host: Host) -> None:
        names = [name for name in self.names if bool(host.package(name)) == self.absent]
        if self.absent:
            # Exact names that dpkg knows: apt-get would take an unknown one for a pattern.
            host.packages_do("remove", names)
            return
        if not all(host.candidate(name) for name in names):
            host.packages_do("refresh", [])
        unknown = [name for name in names if not host.candidate(name)]
        if unknown:
            raise HostError(f"the package sources know no {', '.join(unknown)}")
        host.packages_do("install", names)

    def footprint(self, _: Probe) -> Footprint:
        raise irreversible(f"packages: {_SCRIPTS}")


@dataclass(frozen=True)
class PackageLists:
    """The lists of available packages, not older than `max_age` seconds."""

    max_age: int = 3600

    def check(self, probe: Probe) -> Change | None:
        require_dpkg(probe)
        # apt-get update empties and fills this folder even when no list is newer than ours.
        fetched = probe.stat(f"{_LISTS}/partial")
        if fetched and 0 <= probe.now() - fetched.mtime < self.max_age:
            return None
        return Change("run", "package", "lists", note="fetch the lists of available packages")

    def apply(self, host: Host) -> None:
        host.packages_do("refresh", [])

    def footprint(self, _: Probe) -> Footprint:
        return Footprint()  # a cache of what the package sources say


def upgradable(probe: Probe) -> dict[str, tuple[str | None, str]]:
    """What an upgrade would do: package → installed version (None for a new dependency) and new version."""
    lines = re.findall(r"^Inst (\S+) (?:\[(\S+)\] )?\((\S+)", _simulate(probe, "upgrade", "--with-new-pkgs"), re.M)
    return {name: (old or None, new) for name, old, new in lines}


def removals(probe: Probe, names: Iterable[str]) -> dict[str, str]:
    """All that goes when these installed packages are removed: package → version. Others may depend on them."""
    return dict(re.findall(r"^(?:Remv|Purg) (\S+) \[(\S+)\]", _simulate(probe, "remove", "--", *names), re.M))


def _simulate(probe: Probe, *arguments: str) -> str:
    done = probe.run(["apt-get", "--simulate", "-q", "-o", "Debug::NoLocking=1", *arguments], timeout=60)
    if done.code:
        raise HostError(f"apt-get: {done.err.strip()[:500]}")
    return done.out


@dataclass(frozen=True)
class Upgrade:
    """Every installed package at the newest version that the sources offer; nothing is removed for it."""

    def check(self, probe: Probe) -> Change | None:
        require_dpkg(probe)
        found = upgradable(probe)
        return Change("update", "package", "all", dict(found)) if found else None

    def apply(self, host: Host) -> None:
        host.packages_do("upgrade", [])

    def footprint(self, _: Probe) -> Footprint:
        raise irreversible(f"packages: {_SCRIPTS}")
