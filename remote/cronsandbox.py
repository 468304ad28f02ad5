"""The unit that a job's command runs in: whose it is, what it may do, what of the server it sees."""

from __future__ import annotations

import glob
import json
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

import hidden
import layout
import store
from serverflow_actions.kit.cronjob import Job

TASKS = 256
#: For the command to end once it has been told.
STOP_S = 5
_PATH = "/usr/local/bin:/usr/bin:/bin"
#: By which a user's processes would get out of the control group, or to us. Sockets of databases stay.
_CLOSED = (layout.RUN, "/run/dbus", "/run/systemd/private", "/run/docker.sock", "/run/containerd")
#: As in sandbox.py.
_WITHHELD = "process_vm_readv process_vm_writev io_uring_setup io_uring_enter io_uring_register userfaultfd"
#: What would outlive the run, by systemd before it knew PrivateIPC=: shared memory, semaphores and queues of System V,
#: and queues of POSIX.
_IPC = "shmget semget msgget mq_open"
_PRIVATE_IPC = 248


class Owner(NamedTuple):
    """An app, as far as its jobs need it."""

    user: str
    home: str
    data: tuple[str, ...]


class CannotRun(Exception):
    """A sentence: why the command was not started."""


def owner(app: str) -> Owner:
    """Raises CannotRun."""
    try:
        value = json.loads(store.read_file(f"{layout.APPS}/{app}.json") or b"null")
        account = pwd.getpwnam(value["user"])
        data = tuple(str(each) for each in value["data"])
    except (KeyError, TypeError, ValueError):
        raise CannotRun(f"there is no app {app} here, or its user is gone") from None
    if account.pw_uid == 0 or account.pw_gid == 0:
        raise CannotRun("a job does not run as root")
    if not data:
        raise CannotRun(f"the app {app} has no folder")
    for folder in data:
        # A link could have been put there by the app, to have other folders opened.
        if os.path.realpath(folder) != folder or not os.path.isdir(folder):
            raise CannotRun(f"{folder} is missing, or a link leads elsewhere")
    return Owner(account.pw_name, account.pw_dir, data)


def program(command: Sequence[str], folder: str) -> str:
    """The file that is executed: below the app's folder, or on the path. systemd wants it whole. Raises CannotRun."""
    name = command[0]
    if "/" in name:
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            raise CannotRun(f"there is no program {path}")
        return path
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise CannotRun(f"there is no program {name} in {_PATH}; one of the app's is named with a slash, as ./{name}")
    return found


def properties(job: Job, app: Owner, supervisor: str, pipes: str, version: int) -> list[str]:
    """systemd.exec(5), systemd.resource-control(5), for this version of systemd. What it may not do is not the app's
    user's to undo.
    """
    at_home = [folder for folder in app.data if folder.startswith("/home/")]
    found = [
        f"User={app.user}", f"WorkingDirectory={app.data[0]}", "Type=exec", "UMask=0027", "LimitCORE=0",
        "NoNewPrivileges=yes", "CapabilityBoundingSet=", "AmbientCapabilities=", "RestrictSUIDSGID=yes",
        "ProtectSystem=strict", "ProtectHome=tmpfs", "PrivateTmp=yes", "PrivateDevices=yes",
        "ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectKernelLogs=yes", "ProtectControlGroups=yes",
        "ProtectClock=yes", "ProtectHostname=yes", "ProtectProc=invisible", "RestrictNamespaces=yes",
        "RestrictRealtime=yes", "LockPersonality=yes", "KeyringMode=private",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        # Later lines take from what those before them allow.
        "SystemCallFilter=@system-service", f"SystemCallFilter=~{_WITHHELD}", "SystemCallErrorNumber=EPERM",
        "SystemCallArchitectures=native",
        # Shared memory of its own, that goes with the last of its processes.
        "TemporaryFileSystem=/dev/shm:mode=1777", "InaccessiblePaths=-/dev/mqueue",
        "PrivateIPC=yes" if version >= _PRIVATE_IPC else f"SystemCallFilter=~{_IPC}",
        # Some versions leave file systems below it as they are: /run/lock is everybody's.
        "ReadOnlyPaths=/run",
        "CPUAccounting=yes", "MemoryAccounting=yes", f"MemoryMax={job.memory}", "MemorySwapMax=0",
        f"TasksMax={TASKS}", "OOMPolicy=kill",
        f"RuntimeMaxSec={job.timeout}", f"TimeoutStopSec={STOP_S}", "KillMode=control-group", "SendSIGKILL=yes",
        f"BindsTo={supervisor}", f"After={supervisor}",
        f"ExecStopPost=+/bin/sh -c '{_LAST_WORD.format(pipes)}'",
    ]  # fmt: skip
    found += [f"InaccessiblePaths=-{path}" for path in (layout.STATE, layout.CONFIG, *_CLOSED)]
    found += [f"InaccessiblePaths=-{path}" for pattern in hidden.FILES for path in glob.glob(pattern)]
    if app.home.startswith("/home/"):
        found.append(f"BindReadOnlyPaths=-{app.home}")
    found += [f"BindPaths={folder}" for folder in at_home]
    return found + [f"ReadWritePaths={folder}" for folder in app.data]


#: `$$` is `$` to systemd.
_LAST_WORD = 'echo "$$$$ $$SERVICE_RESULT $$EXIT_CODE $$EXIT_STATUS" >{0}/ended; read -r _ <{0}/go'


def systemd_version() -> int:
    """0 where it does not say."""
    try:
        done = subprocess.run(
            ["systemctl", "--version"], stdin=subprocess.DEVNULL, env=layout.ENVIRONMENT, capture_output=True,
            check=False, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.match(rb"systemd ([0-9]+)", done.stdout)
    return int(found.group(1)) if found else 0


def environment(job: Job, app: Owner, run: str) -> dict[str, str]:
    return {
        "PATH": _PATH, "HOME": app.home, "LANG": "C.UTF-8", "TZ": job.timezone, "SF_JOB": job.name, "SF_RUN": run,
    }  # fmt: skip
