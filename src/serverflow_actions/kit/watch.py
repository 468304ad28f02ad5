"""The units that look after jobs and alerts, every five minutes and after each start: not cron, so that a dead cron is
seen. The text of both is fixed, and the executor writes it, as with firewall.py.
"""

from __future__ import annotations

UNIT = "serverflow-watch.service"
TIMER = "serverflow-watch.timer"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
TIMER_FILE = f"/etc/systemd/system/{TIMER}"

UNIT_TEXT = """\
# Written by ServerFlow: changes by hand are undone.
[Unit]
Description=Look after ServerFlow's jobs and alerts

[Service]
Type=oneshot
ExecStart=/usr/local/libexec/serverflow/runner watch
TimeoutStartSec=10min
# Each start would be two lines in the journal, 288 times a day.
LogLevelMax=notice
NoNewPrivileges=yes
ProtectSystem=full
# The crontab is written anew when the time zone of the server has changed.
ReadWritePaths=-/etc/cron.d -/etc/serverflow/cron
PrivateTmp=yes
LockPersonality=yes
RestrictRealtime=yes
UMask=0077
"""

TIMER_TEXT = """\
# Written by ServerFlow: changes by hand are undone.
[Unit]
Description=Look after ServerFlow's jobs and alerts every five minutes

[Timer]
OnBootSec=1min
OnUnitActiveSec=5min
AccuracySec=10s

[Install]
WantedBy=timers.target
"""
#: In the order in which they are written: without its service the timer would fire into nothing.
FILES = ((UNIT_FILE, UNIT_TEXT), (TIMER_FILE, TIMER_TEXT))
