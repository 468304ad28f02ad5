"""Groups that amount to root."""

from __future__ import annotations

#: Whoever is in one of these can become root, by sudo, a container, a raw disk, or what root runs from /usr/local.
ROOT_GROUPS = frozenset(
    {
        "admin", "disk", "docker", "incus", "incus-admin", "kmem", "libvirt", "lxd", "root", "serverflow", "shadow",
        "staff", "sudo", "wheel",
    }
)  # fmt: skip
