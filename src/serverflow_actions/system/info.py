"""Facts about a server, as one flat table row."""

from __future__ import annotations

import os
import platform
from typing import Any, Dict

from ..kit import Params, Probe, action


@action("system.info", "Show the operating system, uptime, load, memory and disk", kind="read")
def info(params: Params, probe: Probe) -> Dict[str, Any]:
    release = probe.release()
    memory = _meminfo(probe)
    disk_total, disk_used, _ = probe.disk("/")
    return {
        "hostname": platform.node(),
        "os": release.get("PRETTY_NAME", "unknown"),
        "kernel": platform.release(),
        "arch": platform.machine(),
        "cpus": os.cpu_count() or 1,
        "load": (probe.read("/proc/loadavg") or b"?").decode().split()[0],
        "uptime_s": int(float((probe.read("/proc/uptime") or b"0").decode().split()[0])),
        "memory_total": memory.get("MemTotal", 0),
        "memory_used": memory.get("MemTotal", 0) - memory.get("MemAvailable", 0),
        "disk_total": disk_total,
        "disk_used": disk_used,
        "reboot_required": probe.stat("/run/reboot-required") is not None,
    }


def _meminfo(probe: Probe) -> Dict[str, int]:
    """/proc/meminfo in bytes (proc(5))."""
    lines = (probe.read("/proc/meminfo") or b"").decode().splitlines()
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {key: int(value.split()[0]) * 1024 for key, value in pairs}
