"""Takes ServerFlow off a server; copied to /run, because it removes the folder it came from. Started with the
server's lock on descriptor 0 and its operation's lock as the argument.

What apps own (users, data, services) stays: it belongs to the operator.
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

_FILES = (
    "/etc/ssh/ssh_host_ed25519_key.serverflow-next",
    "/etc/serverflow/server_id",
    "/etc/systemd/system/serverflow-rollback.service",
    "/etc/systemd/system/multi-user.target.wants/serverflow-rollback.service",
    "/etc/sudoers.d/serverflow",
)
_DROP_IN = "/etc/ssh/sshd_config.d/00-serverflow.conf"
_KEYS = "/etc/ssh/serverflow_authorized_keys"
_SSHD_CONFIG = "/etc/ssh/sshd_config"
_INCLUDE = "Include /etc/ssh/sshd_config.d/00-serverflow.conf\n"
_FOLDERS = ("/usr/local/libexec/serverflow", "/etc/serverflow/trust", "/var/lib/serverflow", "/run/serverflow")


def main() -> None:
    """Each step for itself: what cannot be removed must not keep the rest. The login goes last: once it is closed,
    which the client waits for, all else is done.
    """
    _wait_for_the_answer()
    for folder in _FOLDERS:
        shutil.rmtree(folder, ignore_errors=True)
    for path in _FILES:
        _attempt(os.unlink, path)
    # rmdir(2): only when nothing of the operator's is left in it.
    for folder in ("/etc/serverflow/apps", "/etc/serverflow"):
        _attempt(os.rmdir, folder)
    _attempt(_take_include_out)
    for command in (["systemctl", "daemon-reload"], ["userdel", "--force", "serverflow-read"]):
        _attempt(_run, command)
    _attempt(os.unlink, _DROP_IN)
    for command in (["pkill", "-KILL", "-u", "serverflow"], ["userdel", "--force", "serverflow"]):
        _attempt(_run, command)
    _attempt(os.unlink, _KEYS)
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
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    subprocess.run(command, check=False, capture_output=True, timeout=60, env=environment)


def _take_include_out() -> None:
    """The line that enrolment puts first into an sshd_config that reads no drop-ins."""
    with open(_SSHD_CONFIG, encoding="utf-8", errors="surrogateescape") as file:
        first, rest = file.readline(), file.read()
    if first != _INCLUDE:
        return
    found = os.stat(_SSHD_CONFIG)
    temporary = _SSHD_CONFIG + ".serverflow"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", errors="surrogateescape") as file:
        file.write(rest)
        os.fchown(file.fileno(), found.st_uid, found.st_gid)
        os.fchmod(file.fileno(), found.st_mode & 0o7777)
    os.rename(temporary, _SSHD_CONFIG)


if __name__ == "__main__":
    main()
