"""How full the disks are."""

from __future__ import annotations

import re
from typing import Any

from ..kit import HostError, Params, Probe, action

#: File systems that hold data; the rest (proc, cgroup, tmpfs, squashfs images …) says nothing about disks.
_ON_DISK = {
    "ext2",
    "ext3",
    "ext4",
    "xfs",
    "btrfs",
    "zfs",
    "f2fs",
    "jfs",
    "vfat",
    "exfat",
    "ntfs3",
    "bcachefs",
    "overlay",
}


@action("system.disk", "Show how full each file system is", kind="read")
def disk(_: Params, probe: Probe) -> dict[str, Any]:
    rows = [_row(probe, *mount) for mount in _mounts((probe.read("/proc/self/mountinfo") or b"").decode())]
    return {"filesystems": [row for row in rows if row]}


def _mounts(text: str) -> list[tuple[str, str, str]]:
    """Mount point, type and device (proc(5)), each device once: at its shortest mount point."""
    found: dict[str, tuple[str, str, str]] = {}
    for line in text.splitlines():
        first, _, second = line.partition(" - ")
        (_id, _parent, number, _root, point, *_), (kind, device, *_) = first.split(), second.split()
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), point)
        if kind in _ON_DISK and (number not in found or len(point) < len(found[number][0])):
            found[number] = (point, kind, device)
    return sorted(found.values())


def _row(probe: Probe, point: str, kind: str, device: str) -> dict[str, Any] | None:
    state = probe.stat(point)
    if not state or state.kind != "directory":
        return None  # a single file that a container was given
    try:
        total, used, available = probe.disk(point)
    except (HostError, OSError):
        return None  # a mount point that an unprivileged reader may not enter
    share = round(100 * used / (used + available)) if used + available else 0
    return {
        "mount": point, "type": kind, "device": device, "total": total, "used": used, "available": available,
        "used_percent": share,
    }  # fmt: skip
