"""The unit that undoes at boot what nobody confirmed, and how it gets there.

Enrolment installs it. So does each new bundle (updates.py), since its text comes with the runner that it starts.
"""

from __future__ import annotations

import os
import subprocess

import layout
import store

NAME = os.path.basename(layout.BOOT_UNIT)

# Before all that reads what it puts back, and so before sysinit.target: waiting for that, as units do by default, would
# be a cycle wherever the network has to be up for it (cloud-init with ifupdown), and systemd breaks a cycle by leaving
# a unit of its own choice out. D-Bus is not up by then; root reaches systemd through /run/systemd/private.
TEXT = f"""[Unit]
Description=Undo a serverflow change that nobody confirmed before the machine went down
ConditionPathExists={layout.SAFE}/pending
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target systemd-sysctl.service network-pre.target ssh.service ssh.socket serverflow-firewall.service
Before=shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
# Whatever does not answer (an automount over a network that waits for us) must not hold up the boot for ever.
TimeoutStartSec=120
ExecStart={layout.RUNNER} boot
# Until it has finished: the disk may be full, or a file system not mounted yet. Nobody waits for another attempt.
Restart=on-failure
RestartSec=30
# It puts files back, below /etc and in homes, with their owners and modes, and tells systemd of units: no more. A later
# attempt also puts the kernel's values back, the network's among them: neither may be hidden from it. What takes more
# than that (kernel.kptr_restrict) it tells.
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID
NoNewPrivileges=yes
ProtectSystem=yes
PrivateTmp=yes
PrivateDevices=yes
IPAddressDeny=any
RestrictAddressFamilies=AF_UNIX
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
SystemCallArchitectures=native
UMask=0077

[Install]
WantedBy=sysinit.target
"""


def is_kept() -> bool:
    """Whether the unit stands there and starts at boot."""
    found = store.read_file(layout.BOOT_UNIT)
    return found == TEXT.encode() and os.path.islink(layout.BOOT_LINK) and not os.path.lexists(layout.BOOT_LINK_ONCE)


def keep() -> None:
    """Install it where it is missing, or another one. Raises OSError or SubprocessError."""
    if is_kept():
        return
    store.write_file(layout.BOOT_UNIT, TEXT.encode(), 0o644)
    # `enable` would leave the link of a text before this one, for another target.
    for argv in (["daemon-reload"], ["reenable", "--quiet", NAME]):
        subprocess.run(
            ["systemctl", "--no-ask-password", *argv],
            stdin=subprocess.DEVNULL, env=layout.ENVIRONMENT, check=True, capture_output=True, timeout=90,
        )  # fmt: skip
