"""What a server is, as far as a safe change may touch it, taken twice and compared: a change that was rolled back
leaves no difference. Looked at beside SSH, with nothing of ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .target import Target

#: Section (files, units, accounts …), thing, field, value.
State = dict[str, dict[str, dict[str, Any]]]

#: Runs on the server, on Python 3.9 or later.
_LOOK = r"""
import grp, hashlib, json, os, pwd, stat, subprocess, sys

ROOTS = "/etc", "/home", "/root", "/srv", "/var/spool/cron", "/var/mail", "/usr/local"
PASSING = "/etc/.pwd.lock", "/etc/.updated"
#: They come and go by themselves: logins, the work of ServerFlow, and what D-Bus starts for a moment.
FLEETING = "user@", "user-runtime-dir@", "session-", "serverflow-", "systemd-hostnamed", "systemd-timedated"

def said(*argv):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.splitlines()

def describe(path):
    found = os.lstat(path)
    kind = stat.S_IFMT(found.st_mode)
    told = {
        "type": {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}.get(kind, oct(kind)),
        "mode": "%04o" % stat.S_IMODE(found.st_mode), "uid": found.st_uid, "gid": found.st_gid,
    }
    for name in os.listxattr(path, follow_symlinks=False):
        told["xattr " + name] = os.getxattr(path, name, follow_symlinks=False).hex()
    if kind == stat.S_IFLNK:
        told["target"] = os.readlink(path)
    elif kind == stat.S_IFREG:
        told["links"] = found.st_nlink
        with open(path, "rb") as file:
            told["sha256"] = hashlib.sha256(file.read()).hexdigest()
        if path not in MOUNTED:  # Docker makes resolv.conf, hosts and hostname anew at each start
            told["mtime"] = found.st_mtime_ns
    return told

def files():
    for root in ROOTS:
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for path in [folder] + [os.path.join(folder, name) for name in names + folders]:
                if path not in PASSING:
                    yield path

def units():
    found = {}
    for line in said("systemctl", "list-unit-files", "--plain", "--no-legend", "--no-pager"):
        name, enabled = line.split()[:2]
        if enabled not in ("transient", "generated"):
            found[name] = {"enabled": enabled}
    listing = "systemctl", "list-units", "--plain", "--no-legend", "--no-pager", "--type=service,timer,socket"
    for line in said(*listing, "--state=active,failed"):
        name, _, active = line.split()[:3]
        if not name.startswith(FLEETING):
            found.setdefault(name, {})["active"] = active
    return found

def firewall():
    # Of the name server that Docker puts into each network there is a table that changes when the server starts.
    rules = json.loads("".join(said("nft", "-s", "-j", "list", "ruleset")) or '{"nftables": []}')["nftables"]
    found = {}
    for rule in rules:
        (kind, fields), = rule.items()
        if kind != "metainfo" and "nat" not in (fields.get("table"), fields.get("name")):
            fields.pop("handle", None)
            for part in fields.get("expr", ()):
                part.pop("counter", None)
            found["%03d %s" % (len(found), kind)] = {"rule": json.dumps(fields, sort_keys=True)}
    return found

with open("/proc/self/mountinfo") as file:
    MOUNTED = {line.split()[4] for line in file}
json.dump({
    "files": {path: describe(path) for path in files()},
    "units": units(),
    "users": {user.pw_name: {"entry": ":".join(map(str, user))} for user in pwd.getpwall()},
    "groups": {group.gr_name: {"entry": ":".join(map(str, group))} for group in grp.getgrall()},
    "firewall": firewall() if os.path.exists("/usr/sbin/nft") else {},
    "machine": {"name": {"in force": os.uname().nodename}},
}, sys.stdout)
"""


def capture(target: Target) -> State:
    """Files below /etc, /home, /root, /srv and /usr/local, mail and cron's tables: type, mode, owner, content, link
    target, time, ACLs and other extended attributes; units: enabled, active or failed; users and groups; nftables;
    the host name.
    """
    return dict(json.loads(target.run("/usr/bin/python3", "-I", "-", input=_LOOK).stdout))


def difference(before: State, after: State) -> list[str]:
    """A line for each thing that is not as it was."""
    return [
        f"{section}: {name} {told}"
        for section in sorted({*before, *after})
        for name in sorted({*before.get(section, {}), *after.get(section, {})})
        for told in _told(before.get(section, {}).get(name), after.get(section, {}).get(name))
    ]


def _told(before: dict[str, Any] | None, after: dict[str, Any] | None) -> Iterator[str]:
    if before is None or after is None:
        yield f"is gone: {before}" if after is None else f"is new: {after}"
        return
    for field in sorted({*before, *after}):
        if before.get(field) != after.get(field):
            yield f"{field}: {before.get(field)} → {after.get(field)}"
