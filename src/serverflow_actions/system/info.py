"""Facts about a server, as one flat table row."""

from __future__ import annotations

import os
import platform
from typing import Any

from ..kit import Params, Probe, action


@action("system.info", "Show the operating system, uptime, load, memory and disk", kind="read")
def info(_: Params, probe: Probe) -> dict[str, Any]:
    release = probe.release()
    memory = _meminfo(probe)
    disk_total, disk_used, _available = probe.disk("/")
    return {
        "hostname": _text(probe, "/proc/sys/kernel/hostname") or platform.node(),
        "os": release.get("PRETTY_NAME", "unknown"),
        "kernel": _text(probe, "/proc/sys/kernel/osrelease") or platform.release(),
        "arch": platform.machine(),
        "cpus": os.cpu_count() or 1,
        "load": (_text(probe, "/proc/loadavg") or "?").split()[0],
        "uptime_s": int(float((_text(probe, "/proc/uptime") or "0").split()[0])),
        "memory_total": memory.get("MemTotal", 0),
        "memory_used": memory.get("MemTotal", 0) - memory.get("MemAvailable", 0),
        "disk_total": disk_total,
        "disk_used": disk_used,
        "reboot_required": probe.stat("/run/reboot-required") is not None,
    }


def _text(probe: Probe, path: str) -> str:
    return (probe.read(path) or b"").decode("utf-8", "replace").strip()


def _meminfo(probe: Probe) -> dict[str, int]:
    """/proc/meminfo in bytes (proc(5))."""
    pairs = (line.split(":", 1) for line in _text(probe, "/proc/meminfo").splitlines() if ":" in line)
    return {key: int(value.split()[0]) * 1024 for key, value in pairs}
