"""The control group of one unit, in whatever hierarchies the server has (cgroups(7)): its counters, and its end."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping

#: Where they are mounted: version 1, version 2 beside it, version 2 alone.
_ROOTS = tuple(
    f"/sys/fs/cgroup/{name}" for name in ("memory", "cpuacct", "cpu,cpuacct", "pids", "systemd", "unified", "")
)
_PAUSE_S = 0.05


class Group:
    """Of a unit in our own slice. `cpu_ms` and `peak_bytes` are as of the last look, 0 where nobody knows."""

    def __init__(self, unit: str) -> None:
        self._path = _beside(unit)
        self.cpu_ms = self.peak_bytes = 0
        self.was_killed_for_memory = False

    def _files(self, name: str) -> list[str]:
        """That file, in each hierarchy that has it."""
        found = [f"{root.rstrip('/')}{self._path}/{name}" for root in _ROOTS if self._path]
        return [path for path in found if os.path.exists(path)]

    def kill_all(self, but: int, seconds: float) -> None:
        """systemd kills what it finds, and what forks fast enough is not found. So first nothing can fork any more."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            left = {pid for path in self._files("cgroup.procs") for pid in _numbers(path)} - {but}
            if not left:
                return
            for path in self._files("pids.max"):
                with contextlib.suppress(OSError), open(path, "w", encoding="ascii") as file:
                    file.write("0")
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_PAUSE_S)

    def look(self) -> None:
        """CPU time, the most memory at once, and whether the kernel has killed for it. Version 1 has no group kill:
        there one process dies, and the rest would go on with what is left.
        """
        for path in (*self._files("memory.events"), *self._files("memory.oom_control")):
            self.was_killed_for_memory |= _table(path).get("oom_kill", 0) > 0
        peaks = [
            _number(path)
            for name in ("memory.current", "memory.peak", "memory.max_usage_in_bytes")
            for path in self._files(name)
        ]
        times = [_number(path) // 1_000_000 for path in self._files("cpuacct.usage")]
        times += [_table(path).get("usage_usec", 0) // 1000 for path in self._files("cpu.stat")]
        self.peak_bytes, self.cpu_ms = max([self.peak_bytes, *peaks]), max([self.cpu_ms, *times])


def _beside(unit: str) -> str:
    """The control group of a unit in our own slice, in all hierarchies that systemd uses."""
    with open("/proc/self/cgroup", encoding="ascii", errors="replace") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if controllers in ("", "name=systemd"):
                return f"{os.path.dirname(path).rstrip('/')}/{unit}"
    return ""


def _numbers(path: str) -> list[int]:
    try:
        with open(path, encoding="ascii") as file:
            return list(map(int, file.read().split()))
    except (OSError, ValueError):
        return []


def _number(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def _table(path: str) -> Mapping[str, int]:
    try:
        with open(path, encoding="ascii") as file:
            words = [line.split() for line in file]
        return {line[0]: int(line[1]) for line in words if len(line) == 2}
    except (OSError, ValueError):
        return {}
