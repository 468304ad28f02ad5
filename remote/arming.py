"""Snapshot, and start the countdown: after that a change may be made, for it undoes itself.

Whoever calls this is alone (armed.alone).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import armed
import layout
import rollback
import snapshots
import store
import units
import verdicts
from units import told

_RETRY_S = 30
#: As long as a countdown may be (messages.py).
_LONGEST_S = 3600
_ACCOUNTS = ("/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/subuid", "/etc/subgid")


def snapshot(op_id: str, action: str, footprint: Mapping[str, Any], key: str, run: bool) -> None:
    """Keep what stands now of all that the footprint names. Raises NotPending, OSError and SubprocessError."""
    if armed.pending():
        raise armed.NotPending(f"another change waits for confirmation: {armed.pending()}")
    verdicts.tidy()
    os.makedirs(armed.folder(op_id), mode=0o700)
    try:
        entries = [
            {**entry, "had_folder": os.path.isdir(os.path.dirname(entry["path"]))}
            for entry in _entries(op_id, footprint)
        ]
        kept_units = units.kept(footprint.get("units", ()))
    except (snapshots.CannotKeep, units.TooMany) as error:
        shutil.rmtree(armed.folder(op_id), ignore_errors=True)
        raise armed.NotPending(str(error)) from None
    manifest: dict[str, Any] = {
        "v": 2,
        "op_id": op_id,
        "action": action,
        "key": key,
        "run": run,
        "paths": entries,
        "units": kept_units,
        "after": list(footprint["after"]),
        "packages": armed.packages(),
        "taken_at": store.now_ms(),
    }
    manifest["steps"] = rollback.steps(manifest)
    # Its room is taken now: on the way back each step overwrites one byte.
    store.write_file(f"{armed.folder(op_id)}/journal", b"0" * len(manifest["steps"]))
    sys.audit("serverflow.arm", "manifest")
    store.write_file(f"{armed.folder(op_id)}/manifest", store.encode(manifest))


def _entries(op_id: str, footprint: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each path once; what is moved aside or made anew as a whole goes before what is in it. `made` are folders that
    the run has made already, for its sandbox.
    """
    kept = armed.folder(op_id)
    seen: set[str] = set()
    for path in footprint.get("made", ()):
        seen.add(path)
        yield {"path": path, "type": "absent"}
    for path in footprint.get("aside", ()):
        seen.add(path)
        yield snapshots.keep_folder(path, aside_of(op_id, path))
    for path in footprint.get("trees", ()):
        entry = snapshots.keep(path, f"{kept}/tree")
        seen.add(path)
        yield {**entry, "type": "tree"} if entry["type"] == "absent" else entry
    paths = [*footprint["paths"], *units.links(footprint.get("units", ()))]
    if footprint.get("accounts"):
        paths += [name for path in _ACCOUNTS for name in (path, f"{path}-")]
    for number, path in enumerate(paths):
        if path not in seen:
            seen.add(path)
            yield snapshots.keep(path, f"{kept}/{number}")


def aside_of(op_id: str, path: str) -> str:
    """Where a folder that a change removes waits for the verdict: beside it, so that it is a rename."""
    parent, name = os.path.split(path)
    return f"{parent.rstrip('/')}/.{name[:150]}.serverflow-{op_id.lower()}"


# --- the countdown ---------------------------------------------------------------------------------------------------


def arm(op_id: str, seconds: int) -> None:
    """Start the countdown. From here on nothing but `confirm` keeps the change.

    The timer first: a change that waits without one would wait until the next boot. Raises CannotArm, and then nothing
    of it is left.
    """
    began, deadline = time.monotonic(), store.now_ms() + seconds * 1000
    try:
        store.write_file(f"{armed.folder(op_id)}/deadline", str(deadline).encode())
        for verdict in ("confirmed", "rolling-back"):
            store.write_file(f"{armed.folder(op_id)}/is-{verdict}", verdict.encode())
        sys.audit("serverflow.arm", "timer")
        _start_timer(op_id, seconds)
        sys.audit("serverflow.arm", "pending")
        store.write_file(f"{layout.SAFE}/pending", op_id.encode())
        if time.monotonic() - began > seconds / 2:
            raise armed.CannotArm("this server is too slow for a countdown; nothing was changed")
    except Exception as error:
        _disarm(op_id)
        if isinstance(error, armed.CannotArm):
            raise
        raise armed.CannotArm(f"no countdown can be started, so nothing was changed: {told(error)}") from error


def _start_timer(op_id: str, seconds: int) -> None:
    argv = [
        "systemd-run",
        "--quiet",
        "--collect",
        f"--unit={_timer(op_id)}",
        f"--on-active={seconds}s",
        "--timer-property=AccuracySec=1s",
        # Until it has finished: the disk may be full, or the machine at its end.
        "--property=Restart=on-failure",
        f"--property=RestartSec={_RETRY_S}s",
        layout.RUNNER,
        "rollback",
        op_id,
    ]
    subprocess.run(argv, env=layout.ENVIRONMENT, check=True, capture_output=True, timeout=max(seconds, 5))


def count_on(op_id: str) -> None:
    """Where somebody has stopped the countdown of a change that waits, it goes on: else it would wait for ever, and
    nothing could be changed. Does nothing where it counts, is going back, or waits no more.
    """
    unit, found = _timer(op_id), armed.status()
    if found is None or found["op_id"] != op_id:
        return
    with contextlib.suppress(subprocess.SubprocessError, OSError):  # whoever asks next tries again
        states = units.run(["systemctl", "is-active", f"{unit}.timer", f"{unit}.service"]).stdout.decode().split()
        if not {"active", "activating", "deactivating", "reloading"}.intersection(states):
            left = (found["deadline"] - store.now_ms()) // 1000
            _start_timer(op_id, min(max(left, 1), _LONGEST_S))


def _disarm(op_id: str) -> None:
    """Of a change that never began, nothing may wait, and no copy stay."""
    verdicts.clear(op_id)
    stop_timer(op_id)
    shutil.rmtree(armed.folder(op_id), ignore_errors=True)


def stop_timer(op_id: str) -> None:
    """Where it does not stop it finds nothing to do."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        units.run(["systemctl", "stop", f"{_timer(op_id)}.timer"])


def _timer(op_id: str) -> str:
    return f"serverflow-rollback-{op_id.lower()}"
