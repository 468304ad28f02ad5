"""Remove packages."""

from __future__ import annotations

from ..kit import Params, Probe, Refused, Steps, action, param
from ..kit.steps import Package
from ..kit.steps.package import removals, require_dpkg

#: Without these nobody reaches the server any more, or nothing can be put right on it. Which of them carries the
#: network cannot be seen from here, so none of those goes.
_LIFELINES = {
    "apt", "dbus", "dpkg", "init", "libpam-systemd", "login", "openssh-server", "python3", "python3-minimal", "sudo",
    "systemd", "systemd-sysv",
    "connman", "dhcpcd", "dhcpcd-base", "dhcpcd5", "dropbear", "ifupdown", "ifupdown2", "isc-dhcp-client", "iwd",
    "netplan-generator", "netplan.io", "network-manager", "openvpn", "strongswan", "strongswan-starter", "tailscale",
    "wireguard-tools", "wpasupplicant", "zerotier-one",
}  # fmt: skip


@action(
    "package.remove",
    "Remove packages and what depends on them; configuration files stay",
    kind="change",
    profile="pkg",
    timeout=1800,
    packages=("*",),
    destructive=True,
    params=[param("names", "package", "Package names", many=True, positional=True, complete="package")],
)
def remove(params: Params, probe: Probe) -> Steps:
    require_dpkg(probe)
    installed = [name for name in dict.fromkeys(params.names) if probe.package(name)]
    lost = _LIFELINES & {name.partition(":")[0] for name in (removals(probe, installed) if installed else ())}
    if lost:
        raise Refused(f"this would also remove {', '.join(sorted(lost))}, which keeps the server reachable and managed")
    yield Package(tuple(installed), absent=True)
