"""Takes ServerFlow off a server; copied to /run and started by a timer, because it removes the folder it came from.

What apps own (users, data, services) stays: it belongs to the operator.
"""

from __future__ import annotations

import os
import shutil
import subprocess

_FILES = (
    "/etc/ssh/sshd_config.d/00-serverflow.conf",
    "/etc/ssh/serverflow_authorized_keys",
    "/etc/sudoers.d/serverflow",
    "/etc/systemd/system/serverflow-rollback.service",
    "/etc/systemd/system/multi-user.target.wants/serverflow-rollback.service",
)
_SSHD_CONFIG = "/etc/ssh/sshd_config"
_INCLUDE = "Include /etc/ssh/sshd_config.d/00-serverflow.conf\n"
_FOLDERS = ("/usr/local/libexec/serverflow", "/etc/serverflow/trust", "/var/lib/serverflow", "/run/serverflow")


def main() -> None:
    for path in _FILES:
        if os.path.lexists(path):
            os.unlink(path)
    _take_include_out()
    for command in (
        ["systemctl", "reload", "ssh.service"],
        ["pkill", "-KILL", "-u", "serverflow"],
        ["userdel", "--force", "serverflow"],
        ["userdel", "--force", "serverflow-read"],
        ["systemctl", "daemon-reload"],
    ):
        subprocess.run(command, check=False, capture_output=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    for folder in _FOLDERS:
        shutil.rmtree(folder, ignore_errors=True)
    if os.path.exists("/etc/serverflow/server_id"):
        os.unlink("/etc/serverflow/server_id")
    # Only when nothing of the operator's is left in it.
    for folder in ("/etc/serverflow/apps", "/etc/serverflow"):
        if os.path.isdir(folder) and not os.listdir(folder):
            os.rmdir(folder)


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
