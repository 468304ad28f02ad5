"""What a server is reached by, and what filters its packets: units by their names, as globs.

One list for the actions, which say no in a plan, and for the broker, which says no to whatever asks it.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from . import firewall

#: SSH, and the network that it comes over. Without one of these nobody may get in any more.
WAYS_IN = (
    "ssh.*", "sshd.*", "ssh@*", "sshd@*", "dropbear*",
    "networking.service", "ifup@*", "NetworkManager.service", "systemd-networkd.*", "netplan-*",
    "connman.*", "connman-vpn.*", "wpa_supplicant*", "iwd.*", "dhcpcd*", "dhclient*", "isc-dhcp-client*", "udhcpc*",
    "wg-quick@*", "tailscaled.*", "zerotier-one.*", "openvpn*", "strongswan*", "ipsec.*",
)  # fmt: skip

OUR_FIREWALL = firewall.UNIT

#: The firewalls of others. Each sets the kernel's rules when it starts, stops or reloads, some drop everybody else's.
FIREWALLS = (
    "nftables.*", "iptables*", "ip6tables*", "netfilter-persistent.*", "ufw.*", "firewalld.*", "shorewall*", "ferm.*",
)  # fmt: skip

#: What may lock everyone out, or open everything: told to start, stop and the like in a safe change, or not at all.
LIFELINES = (*WAYS_IN, OUR_FIREWALL, *FIREWALLS)

#: Without these nothing could be put back either.
CORE = ("dbus.*", "dbus-broker.*", "systemd-[!n]*", "systemd-networkd-*", "serverflow-rollback*")

#: Parts of systemd that are services like others; the rest of systemd-* powers off, suspends or carries the system.
ORDINARY = (
    "systemd-journald.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-oomd.service",
)

#: systemd.unit(5): who names a unit in Requires=, Requisite=, BindsTo=, PartOf= or StopPropagatedFrom= stops with it.
STOPS_WITH = ("RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo")
#: What stops when a unit starts.
CONFLICTS = ("Conflicts", "ConflictedBy")

#: Why the firewalls of others are left alone.
NO_WAY_BACK = (
    "is a firewall of its own: what it does to the kernel's rules, and to those of others such as Docker, is in no "
    "snapshot and cannot be undone. Tell it by hand, over a console; sf firewall has rules of its own"
)


def matches(names: Iterable[str], patterns: Iterable[str]) -> bool:
    """Whether one of a unit's names is meant by one of the globs."""
    globs = tuple(patterns)
    return any(fnmatchcase(name, pattern) for name in names for pattern in globs)


def is_core(name: str) -> bool:
    """Whether the server could not put itself right without this unit."""
    return name not in ORDINARY and matches([name], CORE)
