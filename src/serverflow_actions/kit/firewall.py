"""The firewall's two files, as actions and the executor name them: rules that the action writes, and what loads them.

The text of the unit is fixed, and the executor writes it: an action that could write units could become root.
"""

from __future__ import annotations

#: A folder of its own: what a sandbox opens is a folder, and beside it lies the trust file.
FOLDER = "/etc/serverflow/firewall"
RULES = f"{FOLDER}/rules.nft"

UNIT = "serverflow-firewall.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
UNIT_TEXT = f"""\
# Written by ServerFlow (firewall.set): changes by hand are undone.
[Unit]
Description=Firewall rules of ServerFlow
Documentation=man:nft(8)
DefaultDependencies=no
Wants=network-pre.target
Before=network-pre.target shutdown.target
Conflicts=shutdown.target
After=local-fs.target systemd-modules-load.service systemd-sysctl.service
# Debian's own rules begin with `flush ruleset`: at boot, and when they are reloaded or restarted, these follow.
After=nftables.service
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f {RULES}
ExecReload=/usr/sbin/nft -f {RULES}
ExecStop=-/usr/sbin/nft delete table inet serverflow

[Install]
WantedBy=sysinit.target
"""
