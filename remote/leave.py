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
_FOLDERS = ("/usr/local/libexec/serverflow", "/etc/serverflow/trust", "/var/lib/serverflow", "/run/serverflow")


def main() -> None:
    for path in _FILES:
        if os.path.lexists(path):
            os.unlink(path)
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


if __name__ == "__main__":
    main()
