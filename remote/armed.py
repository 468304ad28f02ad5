"""The safe change that waits, as it lies on the disk: who made it, what it keeps, and whether it is decided."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any

import layout
import rollback
import store


class Unsafe(Exception):
    """A sentence: why it was not done, and what became of it. All that safe.py raises of its own."""


class Decided(Unsafe):
    """The other side was first; the argument is its verdict, `confirmed` or `rolled back`."""


class NotPending(Unsafe):
    """There is no such change, or it cannot be snapshot."""


class CannotArm(Unsafe):
    """No countdown, so nothing may be changed, and nothing was."""


class NotProved(Unsafe):
    """Whoever confirms has not shown that the server can still be reached."""


class Undone(Unsafe):
    """It broke in the middle."""


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Whoever arms, confirms or puts back is alone: enrolment and commands have no other lock in common."""
    with store.alone(f"{layout.SAFE}/lock"):
        yield


def folder(op_id: str) -> str:
    """All that is kept of one safe change."""
    return f"{layout.SAFE}/{op_id}"


def pending() -> str:
    """The op id of the change that waits for confirmation; "" for none."""
    return (store.read_file(f"{layout.SAFE}/pending") or b"").decode()


def pending_key() -> tuple[str, bytes] | None:
    """The change that waits, and the raw public key that signed it, b"" where none did (enrolment)."""
    op_id = pending()
    try:
        return (op_id, bytes.fromhex(manifest_of(op_id)["key"])) if op_id else None
    except NotPending:  # it ends at this moment
        return None


def status() -> dict[str, Any] | None:
    """The pending change with its deadline; None where none waits, or it ends at this moment."""
    op_id = pending()
    try:
        manifest = manifest_of(op_id) if op_id else None
    except NotPending:
        manifest = None
    if manifest is None:
        return None
    deadline = int((store.read_file(f"{folder(op_id)}/deadline") or b"0").decode())
    return {
        "state": "going back" if verdict_of(op_id) else "armed",
        "op_id": op_id,
        "action": manifest["action"],
        "deadline": deadline,
        "paths": [e["path"] for e in manifest["paths"]],
    }


def was_rolled_back(op_id: str) -> bool:
    """Whether this operation was a safe change that has gone back, or is going back."""
    return verdict_of(op_id) == b"rolling-back"


def still_pending(op_id: str) -> bool:
    """Whether it still waits, or is not back yet, once whoever is at work on that has finished or given up."""
    with alone():
        return pending() == op_id


def manifest_of(op_id: str) -> dict[str, Any]:
    """What arming.py has written down of it, as of this version. Raises NotPending where there is none."""
    data = store.read_file(f"{folder(op_id)}/manifest")
    if data is None:
        raise NotPending(f"no safe change {op_id}")
    manifest = dict(json.loads(data))
    if manifest["v"] == 1:
        manifest = _of_version_1(manifest)
    return manifest


def verdict_of(op_id: str) -> bytes:
    """Which side has won, b"" while none has. A file that lost its content confirms nothing."""
    found = store.read_file(f"{folder(op_id)}/verdict")
    return b"" if found is None else found or b"rolling-back"


def packages() -> str:
    """The state of all packages (dpkg(1)), in short, to tell whether it has changed."""
    return hashlib.sha256(store.read_file("/var/lib/dpkg/status") or b"").hexdigest()


# --- version 1 -------------------------------------------------------------------------------------------------------


def _of_version_1(manifest: dict[str, Any]) -> dict[str, Any]:
    """Armed by a runner before this one, which a new bundle has replaced since. It knew paths only."""
    entries = [{**entry, "atime": entry.get("mtime"), "xattrs": {}} for entry in manifest["paths"]]
    known = {"key": "", "run": False, "units": [], "packages": packages()}
    manifest = {**manifest, **known, "paths": entries}
    return {**manifest, "steps": rollback.steps(manifest)}


def make_ready(op_id: str, manifest: dict[str, Any]) -> None:
    """What version 1 left to the way back: it dressed its copies then, and kept no journal."""
    for entry in manifest["paths"]:
        with contextlib.suppress(FileNotFoundError):  # it is back already
            if entry["type"] == "file":
                os.chown(entry["copy"], entry["uid"], entry["gid"])
                os.chmod(entry["copy"], entry["mode"])
                os.utime(entry["copy"], ns=(entry["mtime"], entry["mtime"]))
    journal = f"{folder(op_id)}/journal"
    if not os.path.exists(journal):
        rollback.with_room(lambda: store.write_file(journal, b"0" * len(manifest["steps"])))
