"""The units that renew certificates, once an hour and after each start: a 6-day certificate has no day to lose, and an
authority may move a renewal at any time (RFC 9773). Their text is ours alone; the executor writes it, as watch.py's.
"""

from __future__ import annotations

UNIT = "serverflow-cert.service"
TIMER = "serverflow-cert.timer"
#: What a turn may do, for the timer's and for one that somebody asks for (remote/certunit.py). It is root: it puts keys
#: in place and has units reload. What talks to the network does so in sandboxes of its own. It sees every file as
#: services do, since it has them check their configuration: `nginx -t` opens the logs and keys of all sites.
PROPERTIES = (
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "UMask=0077",
    "LogLevelMax=notice",
)

_UNIT_TEXT = """\
# Written by ServerFlow: changes by hand are undone.
[Unit]
Description=Renew certificates
After=network-online.target
Wants=network-online.target

[Service]
Type=oneshot
ExecStart=/usr/local/libexec/serverflow/runner cert-renew
TimeoutStartSec=2h
{}
"""

_TIMER_TEXT = """\
# Written by ServerFlow: changes by hand are undone.
[Unit]
Description=Renew certificates when they are due

[Timer]
# Not at once: whoever has just asked for a certificate has it issued, and is told.
OnActiveSec=2min
OnUnitActiveSec=1h
# Not all servers at once.
RandomizedDelaySec=10min

[Install]
WantedBy=timers.target
"""

_FOLDER = "/etc/systemd/system"
#: In the order in which they are written: without its service the timer would fire into nothing.
FILES = (
    (f"{_FOLDER}/{UNIT}", _UNIT_TEXT.format("\n".join(PROPERTIES))),
    (f"{_FOLDER}/{TIMER}", _TIMER_TEXT),
)
