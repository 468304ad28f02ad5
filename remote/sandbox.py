"""The unit that a change or task runs in: systemd.exec(5) properties by profile, and the floor below which nothing
runs.

Root that can reach the D-Bus or systemd sockets is not sandboxed, so every profile hides them; units, packages and
accounts are asked of the broker instead.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Sequence
from typing import Any

import hidden
import layout

#: Capabilities that the engine keeps, by profile. The broker, outside, does what needs more.
_CAPABILITIES = {
    "svc": "CAP_DAC_READ_SEARCH",
    "pkg": "CAP_DAC_READ_SEARCH",
    "cfg": "CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE CAP_CHOWN CAP_FOWNER CAP_FSETID",
    "account": "CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE CAP_CHOWN CAP_FOWNER CAP_FSETID",
    "sql": "",
    "app": "",
}

#: Within @system-service, but no action's business: other processes' memory, and interfaces with a history of holes.
_WITHHELD = "process_vm_readv process_vm_writev io_uring_setup io_uring_enter io_uring_register userfaultfd"

#: Root without CAP_KILL may still signal root's processes: the executor, sshd. Whoever must end is killed from outside.
_SIGNALS = "kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal"

_DROP_IN = re.compile(
    r"/etc/(?:systemd/system/[A-Za-z0-9@_-]+\.(?:service|timer|socket)\.d|systemd/journald\.conf\.d|motd\.d"
    r"|serverflow/(?:firewall|cron|notify|cert))\Z"
)
#: What only root may look at: command lines of jobs, the passwords of channels, and those for certificates.
_PRIVATE = ("/etc/serverflow/cron", "/etc/serverflow/notify", "/etc/serverflow/cert")
_CONDITION = re.compile(r"\{([a-z-]+)=([a-z0-9-]+)\}")

_HIDDEN = (layout.STATE, layout.CERT_VERSIONS, "/root/.ssh")

#: Where folders of apps may be made: for a folder that does not exist yet its nearest existing parent is opened.
_GROWING = ("/srv/", "/home/", "/opt/", "/var/www/", "/var/lib/")


def expand(patterns: Sequence[str], params: dict[str, Any]) -> list[str]:
    """`/etc/redis/redis-{name}.conf` with the parameters filled in; a list parameter gives one value for each of its
    items. `{kind=sshd}/etc/ssh/sshd_config.d` counts only where the parameter `kind` is `sshd`.
    """
    out: list[str] = []
    for pattern in patterns:
        condition = _CONDITION.match(pattern)
        if condition and params.get(condition.group(1)) != condition.group(2):
            continue
        values = [pattern[condition.end() :] if condition else pattern]
        for name, value in params.items():
            marker = "{" + name + "}"
            items = value if isinstance(value, list) else [value]
            values = [v.replace(marker, str(item)) for v in values for item in (items if marker in v else [""])]
        # A parameter that was left out opens nothing.
        out += [v for v in values if "{" not in v]
    return out


def open_folders(writes: Sequence[str]) -> list[str]:
    """What ReadWritePaths gets. A folder that is missing is ignored; the executor starts the worker again once it
    exists.
    """
    out = []
    for path in writes:
        while not os.path.lexists(path) and path.startswith(_GROWING) and path.count("/") > 2:
            path = os.path.dirname(path)
        if (path.startswith(_GROWING) and path.rstrip("/") + "/" in _GROWING and path != "/var/lib") or (
            os.path.isdir(path)
            and not os.path.islink(path)
            and path not in ("/", "/etc", "/usr", "/var", "/var/lib", "/run")
        ):
            out.append(path)
    return sorted(set(out))


def make_drop_ins(writes: Sequence[str]) -> list[str]:
    """Make the drop-in folders that are declared and missing (systemd.unit(5), journald.conf(5), pam_motd(8)), and our
    own: to declare all of /etc/systemd/system or /etc/serverflow instead would be to declare root. Returns those that
    were made.
    """
    missing = [path for path in writes if _DROP_IN.match(path) and not os.path.lexists(path)]
    for path in missing:
        os.mkdir(path, 0o700 if path in _PRIVATE else 0o755)
    return missing


def properties(
    manifest: dict[str, Any], folders: Sequence[str], user: str, timeout: int, memory: int, credential: str, blobs: str
) -> list[str]:
    """The transient unit's properties for one run."""
    profile = manifest["profile"]
    found = [
        "NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateTmp=yes", "PrivateDevices=yes", "PrivateNetwork=yes",
        "ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectKernelLogs=yes", "ProtectControlGroups=yes",
        "ProtectClock=yes",
        "ProtectHostname=yes", "ProtectProc=invisible", "RestrictNamespaces=yes", "RestrictSUIDSGID=yes",
        "RestrictRealtime=yes", "LockPersonality=yes",
        "RestrictAddressFamilies=AF_UNIX", "SystemCallFilter=@system-service", "SystemCallErrorNumber=EPERM",
        "SystemCallArchitectures=native",
        f"CapabilityBoundingSet={_CAPABILITIES[profile]}",
        # On cgroup v1 systemd calls the kernel's out-of-memory kill a plain SIGKILL, and the counters go with the
        # group: it stays for a moment, so that run.py can read them.
        """ExecStopPost=/bin/sh -c 'test "$$EXIT_STATUS" != KILL || sleep 0.3'""",
        f"MemoryMax={memory}", "MemorySwapMax=0", "TasksMax=64", f"RuntimeMaxSec={timeout + 10}", "TimeoutStopSec=1",
        "KillSignal=SIGKILL", "LimitCORE=0", "UMask=0077", "Type=exec",
    ]  # fmt: skip
    found.append(f"SystemCallFilter=~{_WITHHELD}")
    if not user:
        found.append(f"SystemCallFilter=~{_SIGNALS}")
    homes = any(folder.startswith("/home") for folder in folders)
    found.append("ProtectHome=no" if homes else "ProtectHome=yes")
    found += [f"InaccessiblePaths=-{path}" for path in _HIDDEN if homes or not path.startswith("/root")]
    found += [f"InaccessiblePaths=-{path}" for pattern in hidden.FILES for path in glob.glob(pattern)]
    for folder in filter(os.path.isdir, hidden.SIFTED):
        found.append(f"TemporaryFileSystem={folder}:ro")
        # A file that is mounted by itself could not be replaced: what is written is there as a whole folder.
        opened = tuple(f"{path}/" for path in folders if path.startswith(f"{folder}/"))
        found += [f"BindReadOnlyPaths=-{path}" for path in hidden.shown(folder) if not path.startswith(opened)]
        found += [f"BindPaths={path[:-1]}" for path in opened]
    found += [f"ReadWritePaths={folder}" for folder in folders]
    # An empty /run: every socket that root could ask for more lies there, also those that nobody thought of.
    found.append("TemporaryFileSystem=/run:ro")
    # Never user 0, whatever it may do to files: root without capabilities still owns the user namespaces of other
    # units (PrivateUsers=), and with that their processes (user_namespaces(7)).
    found += [f"User={user or layout.READ_USER}", f"AmbientCapabilities={_CAPABILITIES[profile]}"]
    if credential:
        found.append(f"LoadCredential=secrets:{credential}")
    if blobs:
        found.append(f"BindReadOnlyPaths={blobs}:/run/serverflow-blobs")
    return found


def floor_gap(effective: dict[str, Any], manifest: dict[str, Any]) -> str:
    """Which protection is missing: systemd drops them silently where a kernel lacks them. "" when all are in force."""
    wanted = sum(1 << _CAPABILITY_NUMBERS[name] for name in _CAPABILITIES[manifest["profile"]].split())
    if effective["uid"] == 0:
        return "an unprivileged user"
    if not effective["no_new_privs"]:
        return "no new privileges"
    if not effective["seccomp"]:
        return "system call filter"
    if int(effective["cap_bnd"], 16) & ~wanted:
        return "capability bounding set"
    if effective["open"]:
        return "hidden paths (" + ", ".join(effective["open"]) + ")"
    if effective["writable"]:
        return "read-only system (" + ", ".join(effective["writable"]) + ")"
    return ""


_CAPABILITY_NUMBERS = {
    "CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_DAC_READ_SEARCH": 2, "CAP_FOWNER": 3, "CAP_FSETID": 4,
}  # fmt: skip


def effective(folders: Sequence[str]) -> dict[str, Any]:
    """Measured inside the unit, before the action's code is loaded."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    closed = [layout.STATE] if _reachable(layout.STATE) else []
    closed += _sockets("/run")
    guarded = [path for path in ("/etc", "/usr", "/var", "/boot", "/srv") if path not in folders and _writable(path)]
    return {
        "uid": os.getuid(),
        "no_new_privs": status.get("NoNewPrivs") == "1",
        "seccomp": status.get("Seccomp") == "2",
        "cap_bnd": status["CapBnd"],
        "open": closed,
        "writable": guarded,
        "folders": list(folders),
    }


def _sockets(folder: str) -> list[str]:
    paths = [f"{parent}/{name}" for parent, _, names in os.walk(folder) for name in names]
    return [path for path in paths if stat.S_ISSOCK(os.lstat(path).st_mode)]


def _reachable(path: str) -> bool:
    """An inaccessible path has mode 000 and nothing in it; stat still answers."""
    try:
        return bool(os.listdir(path)) if os.path.isdir(path) else os.stat(path).st_mode & 0o777 != 0
    except OSError:
        return False


def _writable(path: str) -> bool:
    try:
        return not os.statvfs(path).f_flag & os.ST_RDONLY
    except OSError:
        return False


def bound_to(executor: str) -> list[str]:
    """Properties of a unit that ends with the executor's, whose end frees the lock: systemd.unit(5)."""
    return [f"BindsTo={executor}", f"After={executor}", "KillMode=control-group"]


def systemd_run(unit: str, lines: Sequence[str], argv: Sequence[str]) -> list[str]:
    """The command that starts the worker with its pipes joined to ours."""
    return [
        "systemd-run",
        "--wait",
        "--pipe",
        "--collect",
        f"--unit={unit}",
        *(f"--property={line}" for line in lines),
        "--",
        *argv,
    ]
