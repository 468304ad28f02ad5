"""Snapshot, arm, confirm, roll back: a change that could lock everyone out undoes itself unless somebody confirms it.

Confirm and rollback race for one file; whoever creates it has won. Enrolment uses this for sshd, sudoers and users.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Sequence
from typing import Any

import layout
import store

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}

#: What is done after files were put back, by name: a snapshot holds data, never commands.
_AFTER = {
    # At boot sshd waits for the rollback; `reload` would wait for sshd, and both for ever.
    "reload-ssh": ["systemctl", "try-reload-or-restart", "ssh.service"],
    "daemon-reload": ["systemctl", "daemon-reload"],
}


class Decided(Exception):
    """The other side was first; the argument is its verdict."""


class NotPending(Exception):
    """There is no such change, or it cannot be snapshot."""


def folder(op_id: str) -> str:
    return f"{layout.SAFE}/{op_id}"


def pending() -> str:
    """The op id of the change that waits for confirmation; "" for none."""
    return (store.read_file(f"{layout.SAFE}/pending") or b"").decode()


def snapshot(op_id: str, action: str, paths: Sequence[str], users: Sequence[str], after: Sequence[str]) -> None:
    """Keep what stands at each path; `users` are removed on rollback if they do not exist now."""
    if pending():
        raise NotPending(f"another change waits for confirmation: {pending()}")
    os.makedirs(folder(op_id), mode=0o700)
    entries = [_entry(op_id, number, path) for number, path in enumerate(paths)]
    passwd = {line.split(b":", 1)[0].decode() for line in (store.read_file("/etc/passwd") or b"").splitlines()}
    manifest = {
        "v": 1,
        "op_id": op_id,
        "action": action,
        "paths": entries,
        "new_users": [user for user in users if user not in passwd],
        "after": list(after),
        "taken_at": store.now_ms(),
    }
    store.write_file(f"{folder(op_id)}/manifest", store.encode(manifest))


def _entry(op_id: str, number: int, path: str) -> dict[str, Any]:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return {"path": path, "type": "absent"}
    entry = {
        "path": path,
        "mode": stat.S_IMODE(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
        "mtime": found.st_mtime_ns,
    }
    if stat.S_ISLNK(found.st_mode):
        return {**entry, "type": "link", "target": os.readlink(path)}
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise NotPending(f"{path} is not a plain file; it cannot be snapshot")
    data = store.read_file(path) or b""
    copy = f"{folder(op_id)}/{number}"
    store.write_file(copy, data)
    return {**entry, "type": "file", "copy": copy, "sha256": hashlib.sha256(data).hexdigest()}


def arm(op_id: str, seconds: int) -> int:
    """Start the countdown; returns the deadline. From here on nothing but `confirm` keeps the change.

    The timer first: a change that waits without one would wait until the next boot.
    """
    deadline = store.now_ms() + seconds * 1000
    store.write_file(f"{folder(op_id)}/deadline", str(deadline).encode())
    argv = [
        "systemd-run",
        "--quiet",
        "--collect",
        f"--unit={_timer(op_id)}",
        f"--on-active={seconds}s",
        "--timer-property=AccuracySec=1s",
    ]
    subprocess.run([*argv, layout.RUNNER, "rollback", op_id], env=_ENVIRONMENT, check=True, capture_output=True)
    store.write_file(f"{layout.SAFE}/pending", op_id.encode())
    return deadline


def _timer(op_id: str) -> str:
    return f"serverflow-rollback-{op_id.lower()}"


def confirm(op_id: str) -> None:
    """Keep the change. Raises NotPending, or Decided when the rollback was first."""
    if _verdict(op_id) != b"confirmed":
        _decide(op_id, "confirmed")
    # Stopping the timer is tidiness: its rollback would find the verdict and stop.
    subprocess.run(["systemctl", "stop", f"{_timer(op_id)}.timer"], env=_ENVIRONMENT, check=False, capture_output=True)
    _forget_copies(op_id)
    _clear(op_id)


def rollback(op_id: str) -> list[str]:
    """Put everything back; returns what could not be. Raises NotPending or Decided. Safe to run again after a crash."""
    manifest = _manifest(op_id)
    if _verdict(op_id) == b"confirmed":
        _forget_copies(op_id)
        _clear(op_id)  # a crash may have come between the verdict and this
        raise Decided("confirmed")
    if _verdict(op_id) != b"rolling-back":
        _decide(op_id, "rolling-back")
    problems = []
    for entry in reversed(manifest["paths"]):
        try:
            _restore(entry)
        except OSError as error:
            problems.append(f"{entry['path']}: {error.strerror}")
    for name in manifest["after"]:
        done = subprocess.run(_AFTER[name], env=_ENVIRONMENT, check=False, capture_output=True)
        if done.returncode:
            problems.append(f"{name}: {done.stderr.decode('utf-8', 'replace').strip()[:200]}")
    for user in manifest["new_users"]:
        subprocess.run(["userdel", "--force", user], env=_ENVIRONMENT, check=False, capture_output=True)
    _clear(op_id)
    if not problems:
        _forget_copies(op_id)
    return problems


def roll_back_pending() -> str:
    """At boot: a change that nobody confirmed before the machine went down is undone. Returns its op id."""
    op_id = pending()
    if op_id:
        rollback(op_id)
    return op_id


def status() -> dict[str, Any] | None:
    """The pending change with its deadline."""
    op_id = pending()
    if not op_id:
        return None
    manifest = _manifest(op_id)
    deadline = int((store.read_file(f"{folder(op_id)}/deadline") or b"0").decode())
    return {
        "state": "armed",
        "op_id": op_id,
        "action": manifest["action"],
        "deadline": deadline,
        "paths": [e["path"] for e in manifest["paths"]],
    }


def _manifest(op_id: str) -> dict[str, Any]:
    data = store.read_file(f"{folder(op_id)}/manifest")
    if data is None:
        raise NotPending(f"no safe change {op_id}")
    return dict(json.loads(data))


def _verdict(op_id: str) -> bytes:
    """Which side has won, b"" while none has. A file that lost its content confirms nothing."""
    found = store.read_file(f"{folder(op_id)}/verdict")
    return b"" if found is None else found or b"rolling-back"


def _decide(op_id: str, verdict: str) -> None:
    """A link to a file that is already whole: whoever reads the verdict reads all of it, also after a crash."""
    if pending() != op_id:
        raise NotPending(f"no change {op_id} waits for confirmation")
    candidate = f"{folder(op_id)}/{verdict}.{os.getpid()}"
    store.write_file(candidate, verdict.encode())
    try:
        os.link(candidate, f"{folder(op_id)}/verdict")
    except FileExistsError:
        raise Decided(_verdict(op_id).decode()) from None
    finally:
        os.unlink(candidate)
    store.sync_folder(folder(op_id))


def _restore(entry: dict[str, Any]) -> None:
    path = entry["path"]
    if entry["type"] == "absent":
        if os.path.lexists(path):
            os.unlink(path)
            store.sync_folder(os.path.dirname(path))
        return
    if entry["type"] == "link":
        temporary = path + ".serverflow-restore"
        os.symlink(entry["target"], temporary)
        os.rename(temporary, path)
        return
    data = store.read_file(entry["copy"])
    if data is None or hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise OSError(5, "its snapshot is damaged")
    store.write_file(path, data, entry["mode"])
    os.chown(path, entry["uid"], entry["gid"])
    os.chmod(path, entry["mode"])
    os.utime(path, ns=(entry["mtime"], entry["mtime"]))


def _forget_copies(op_id: str) -> None:
    """What stood there before. It may be a private key, which must not outlive its use."""
    for entry in _manifest(op_id)["paths"]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(entry.get("copy", ""))


def _clear(op_id: str) -> None:
    if pending() == op_id:
        os.unlink(f"{layout.SAFE}/pending")
        store.sync_folder(layout.SAFE)
