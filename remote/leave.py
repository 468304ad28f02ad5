"""Takes ServerFlow off a server, with the folder that it came from: nothing is imported once it works. Started with the
server's lock on descriptor 0 and its operation's lock as the argument.

What apps own (users, data, services) stays, and so does the firewall with its unit: it belongs to the operator. So do
certificates that were issued: somebody serves them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import syslog
import time
from typing import Callable

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

import layout

_FILES = (
    layout.SERVER_ID,
    layout.BOOT_UNIT,
    layout.BOOT_LINK,
    layout.BOOT_LINK_ONCE,
    layout.SUDOERS,
    *(f"{layout.UNITS}/serverflow-{name}" for name in ("watch.service", "watch.timer", "cert.service", "cert.timer")),
    *(f"{layout.UNITS}/timers.target.wants/serverflow-{name}.timer" for name in ("watch", "cert")),
)
#: What starts by itself, and what it has others do.
_TURNS = ("serverflow-watch.*", "serverflow-cert*", "serverflow-acme*", "serverflow-notify-*.timer")
_INCLUDE = f"Include {layout.SSHD_DROP_IN}\n"
_FOLDERS = (layout.LIBEXEC, layout.TRUST, layout.CRON, layout.CERT, layout.STATE, layout.RUN)


def main() -> None:
    """Each step for itself: what cannot be removed must not keep the rest. The login goes last: once it is closed,
    which the client waits for, all else is done.
    """
    _wait_for_the_answer()
    _attempt(os.unlink, layout.CRONTAB)
    _attempt(_run, ["systemctl", "stop", *_TURNS])
    # Before the jobs: nobody is to hear that they were killed.
    shutil.rmtree(layout.NOTIFY, ignore_errors=True)
    _attempt(_run, ["systemctl", "stop", "serverflow-cron-*", "serverflow-job-*", "serverflow-notify-*"])
    for folder in _FOLDERS:
        shutil.rmtree(folder, ignore_errors=True)
    for path in _FILES:
        _attempt(os.unlink, path)
    # rmdir(2): only when nothing of the operator's is left in it.
    for folder in (layout.APPS, layout.FIREWALL, layout.CONFIG):
        _attempt(os.rmdir, folder)
    _attempt(_take_include_out)
    for command in (["systemctl", "daemon-reload"], ["userdel", "--force", layout.READ_USER]):
        _attempt(_run, command)
    _attempt(os.unlink, layout.SSHD_DROP_IN)
    for command in (["pkill", "-KILL", "-u", layout.LOGIN_USER], ["userdel", "--force", layout.LOGIN_USER]):
        _attempt(_run, command)
    _attempt(os.unlink, layout.AUTHORIZED_KEYS)
    _attempt(_run, ["systemctl", "reload", "ssh.service"])


def _wait_for_the_answer() -> None:
    """The runner holds its operation's lock until it has written the receipt; sshd then has to send it."""

    def give_up(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(30)
    _attempt(lambda: fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX))
    signal.alarm(0)
    time.sleep(1)


def _attempt(step: Callable[..., object], *arguments: object) -> None:
    try:
        step(*arguments)
    except FileNotFoundError:
        pass
    except Exception as error:  # a removal goes on to its end, whatever it meets
        syslog.syslog(syslog.LOG_WARNING, f"serverflow leaves: {error}")


def _run(command: list[str]) -> None:
    subprocess.run(command, check=False, capture_output=True, timeout=60, env=layout.ENVIRONMENT)


def _take_include_out() -> None:
    """The line that enrolment puts first into an sshd_config that reads no drop-ins."""
    with open(layout.SSHD_CONFIG, encoding="utf-8", errors="surrogateescape") as file:
        first, rest = file.readline(), file.read()
    if first != _INCLUDE:
        return
    found = os.stat(layout.SSHD_CONFIG)
    temporary = layout.SSHD_CONFIG + ".serverflow"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", errors="surrogateescape") as file:
        file.write(rest)
        os.fchown(file.fileno(), found.st_uid, found.st_gid)
        os.fchmod(file.fileno(), found.st_mode & 0o7777)
    os.rename(temporary, layout.SSHD_CONFIG)


if __name__ == "__main__":
    main()
