"""The unit in which certbot talks to the authority, and its hook to name servers: nobody's user, no capability, one
folder to write. It gets its order as a credential of systemd (systemd.exec(5)): the certificate's names, what DNS is
changed with, a signing request. It never sees the key of the certificate, and says on its standard output what came of
it.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

import hidden
import layout
import store
import strict

UNIT = "serverflow-acme.service"
CREDENTIAL = "order"
#: For all of it: an order, the waiting for name servers, the authority's own.
SECONDS = 900
#: Its accounts, and what certbot keeps beside them.
FOLDER = f"{layout.ACME}/{{}}"
_SAID_LIMIT = 1 << 20
#: The timer's, or one of certunit.py, in a line of cgroups(7).
_OURS = re.compile(r"/(serverflow-cert[^/\n]*\.service)$", re.M)
#: By which it would reach others than strangers.
_CLOSED = (
    layout.RUN, layout.CONFIG, "/etc/letsencrypt", "/run/dbus", "/run/systemd/private", "/run/docker.sock",
    "/run/containerd",
)  # fmt: skip
_WITHHELD = "process_vm_readv process_vm_writev io_uring_setup io_uring_enter io_uring_register userfaultfd"


def perform(name: str, order: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out an order (certacme.py) and return what it says: `ok`, and `said` or what came of it. Only one at a
    time: the caller holds the lock. Whatever was left of one before is ended first.
    """
    folder = _folder(name)
    os.makedirs(layout.CERT_RUN, mode=0o700, exist_ok=True)
    path = f"{layout.CERT_RUN}/order"
    try:
        _systemctl("stop", UNIT)
        _systemctl("reset-failed", UNIT)
        store.write_file(path, json.dumps(order).encode())
        argv = [
            "systemd-run", "--wait", "--pipe", "--collect", "--quiet", f"--unit={UNIT}",
            *(f"--property={line}" for line in (*properties(folder, path), *bound(_own_group()))),
            *(f"--setenv={key}={value}" for key, value in layout.ENVIRONMENT.items()),
            "--", layout.RUNNER, "cert-acme", layout.ACME,
        ]  # fmt: skip
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, env=layout.ENVIRONMENT, capture_output=True, check=False,
            timeout=SECONDS + 60,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        _systemctl("stop", UNIT)
        return {"ok": False, "said": f"it did not end within {SECONDS} s"}
    except OSError as error:
        return {"ok": False, "said": f"it cannot be started: {error.strerror}"}
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return _heard(done.stdout, done.returncode, done.stderr)


def _heard(said: bytes, code: int, errors: bytes) -> dict[str, Any]:
    """Its last line. The process has met strangers, and may be one."""
    try:
        answer = strict.parse_json(said.rstrip(b"\n").rpartition(b"\n")[2], _SAID_LIMIT)
        if type(answer.get("ok")) is bool and all(type(each) in (bool, str, int) for each in answer.values()):
            return answer
    except strict.Malformed:
        pass
    tail = errors.decode("utf-8", "replace").strip()[-300:]
    return {"ok": False, "said": f"it broke off (exit code {code}) {tail}".strip()}


def _folder(name: str) -> str:
    """Made when it is missing; the sandbox's user has it. Only root reaches it from outside."""
    os.makedirs(layout.ACME, mode=0o700, exist_ok=True)
    path = FOLDER.format(name)
    user = pwd.getpwnam(layout.READ_USER)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    os.chown(path, user.pw_uid, user.pw_gid)
    return path


def forget(name: str) -> None:
    shutil.rmtree(FOLDER.format(name), ignore_errors=True)


def properties(folder: str, order: str) -> list[str]:
    """systemd.exec(5)."""
    found = [
        f"User={layout.READ_USER}", "Type=exec", "UMask=0077", "LimitCORE=0", "WorkingDirectory=/",
        "NoNewPrivileges=yes", "CapabilityBoundingSet=", "AmbientCapabilities=", "RestrictSUIDSGID=yes",
        "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes",
        "ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectKernelLogs=yes", "ProtectControlGroups=yes",
        "ProtectClock=yes", "ProtectHostname=yes", "ProtectProc=invisible", "RestrictNamespaces=yes",
        "RestrictRealtime=yes", "LockPersonality=yes", "KeyringMode=private",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "SystemCallFilter=@system-service", f"SystemCallFilter=~{_WITHHELD}", "SystemCallErrorNumber=EPERM",
        "SystemCallArchitectures=native",
        "MemoryMax=512M", "MemorySwapMax=0", "TasksMax=64", f"RuntimeMaxSec={SECONDS}", "TimeoutStopSec=5",
        "KillMode=control-group",
        f"LoadCredential={CREDENTIAL}:{order}",
        # An empty folder, with its own in it: one level down, since systemd 247 makes those between for root alone.
        f"TemporaryFileSystem={layout.STATE}:ro", f"BindPaths={folder}:{layout.ACME}",
    ]  # fmt: skip
    found += [f"InaccessiblePaths=-{path}" for path in (*_CLOSED, "/etc/ssl/private")]
    return found + [f"InaccessiblePaths=-{path}" for pattern in hidden.FILES for path in glob.glob(pattern)]


def bound(group: str) -> list[str]:
    """The property with which an order ends with the unit that has it done (systemd.unit(5)), whose control group as
    /proc/PID/cgroup has it this is. There is no After= with it: the timer's unit is of Type=oneshot, which starts as
    long as it runs, so an order after it would wait for its end.
    """
    found = _OURS.search(group)
    return [f"BindsTo={found.group(1)}"] if found else []


def _own_group() -> str:
    with open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:
        return file.read()


def _systemctl(verb: str, unit: str) -> None:
    subprocess.run(
        ["systemctl", verb, "--quiet", "--", unit], stdin=subprocess.DEVNULL, env=layout.ENVIRONMENT,
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
