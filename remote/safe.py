"""Snapshot, arm, apply, confirm, roll back: a change that could lock everyone out undoes itself unless it is confirmed.

Confirm and rollback race for one file; whoever makes it has won. Enrolment uses this for sshd, sudoers and users,
`server.rekey` for the host key, and the executor for every change that is signed as a safe one. Going back needs no
room on the disk: what it writes was written before the change.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import armed
import arming
import rollback as way_back
import snapshots
import store
import verdicts
from armed import CannotArm as CannotArm
from armed import Decided as Decided
from armed import NotPending as NotPending
from armed import NotProved as NotProved
from armed import Undone as Undone
from armed import Unsafe as Unsafe
from units import told

#: The kernel's ticks, in which it says when a process began (proc_pid_stat(5)).
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def change(
    op_id: str, action: str, paths: Sequence[str], after: Sequence[str], seconds: int, apply: Callable[[], object]
) -> None:
    """Snapshot, arm, apply. Whatever `apply` raises, everything is put back at once.

    Raises NotPending or CannotArm when nothing was changed; Undone when it was, and says what stands now.
    """
    begin(op_id, action, seconds, {"paths": paths, "after": after})
    try:
        apply()
        settle(op_id)
    except Exception as error:
        raise Undone(f"{told(error)} ({taken_back(op_id)})") from error


def begin(
    op_id: str, action: str, seconds: int, footprint: Mapping[str, Any], *, key: str = "", run: bool = False
) -> None:
    """Snapshot and arm. `footprint` is one of serverflow_actions.kit.undo; `key` the signer's public key, in hex; `run`
    says that an executor applies it. Raises NotPending or CannotArm, and then nothing was changed.
    """
    with armed.alone():
        try:
            arming.snapshot(op_id, action, footprint, key, run)
        except (OSError, subprocess.SubprocessError) as error:
            shutil.rmtree(armed.folder(op_id), ignore_errors=True)
            raise CannotArm(f"no snapshot can be made, so nothing was changed: {error}") from error
        arming.arm(op_id, seconds)


def settle(op_id: str, then: Mapping[str, Any] | None = None) -> None:
    """All is applied: from here on it can be confirmed, over a connection that begins later. `then` is what counts once
    it is: `written` and `base`, for their records. Raises CannotArm when its time was over before.
    """
    with armed.alone():
        if armed.pending() != op_id or armed.verdict_of(op_id):
            raise CannotArm("it took too long")
        sys.audit("serverflow.arm", "applied")
        paths = {entry["path"]: snapshots.fingerprint(entry["path"]) for entry in armed.manifest_of(op_id)["paths"]}
        store.write_file(f"{armed.folder(op_id)}/then", json.dumps(then or {}).encode())
        store.write_file(f"{armed.folder(op_id)}/applied", json.dumps({"ticks": _ticks(), "paths": paths}).encode())


def taken_back(op_id: str) -> str:
    """Put all back at once, since the change failed; a sentence that says what became of it."""
    try:
        problems = rollback(op_id, own=True)
    except Decided as verdict:
        return f"it was {verdict} meanwhile"
    except (Unsafe, OSError) as error:
        return f"it goes back at the deadline, or once there is room: {told(error)}"
    return "all was put back" if not problems else "not all could be put back: " + "; ".join(problems)


def _ticks() -> int:
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS_A_SECOND)


# --- the verdict -----------------------------------------------------------------------------------------------------


def confirm(op_id: str, began: int | None) -> list[str]:
    """Keep the change; returns what of it could not be finished. `began` is when the connection did that says so, in
    the kernel's ticks since boot: one of before proves nothing. Raises NotPending, NotProved, or Decided when the
    rollback was first.
    """
    with armed.alone():
        verdict = armed.verdict_of(op_id)
        if verdict and verdict != b"confirmed":
            raise Decided("rolled back")
        if not verdict:
            if armed.pending() == op_id:
                _check_began_after(op_id, began)
            verdicts.decide(op_id, "confirmed")
        left = verdicts.end(op_id)
    # Tidiness: its rollback would find the verdict and stop.
    arming.stop_timer(op_id)
    return left


def _check_began_after(op_id: str, began: int | None) -> None:
    applied = store.read_file(f"{armed.folder(op_id)}/applied")
    if not applied:
        raise NotProved("the change is not in place yet")
    if began is None:
        raise NotProved("it cannot be seen when this connection began; confirm over SSH")
    if began <= int(way_back.applied_of(applied)["ticks"]):
        raise NotProved("this connection is older than the change; confirm over a new one")


def rollback(
    op_id: str,
    then: Callable[[list[str]], object] | None = None,
    *,
    at_boot: bool = False,
    own: bool = False,
) -> list[str]:
    """Put everything back; returns what could not be. Once: an operation that is over is not undone again.

    Until all is done it stays pending, so that it is done again after a crash; `then` is told what could not be put
    back before it counts as done. `own` says that the run itself asks, whose worker has ended. Raises NotPending or
    Decided; OSError when there is no room to go on, which is worth another attempt.
    """
    with armed.alone():
        verdict = armed.verdict_of(op_id)
        if verdict == b"confirmed":
            verdicts.end(op_id)  # a crash may have come between the verdict and this
            raise Decided("confirmed")
        if verdict and armed.pending() != op_id:
            raise Decided("rolled back")
        manifest = armed.manifest_of(op_id)
        if not verdict:
            verdicts.decide(op_id, "rolling-back")
        if manifest["v"] == 1:
            armed.make_ready(op_id, manifest)
        attempt = way_back.Rollback(armed.folder(op_id), manifest, then, at_boot=at_boot, own=own)
        if manifest["packages"] != armed.packages():
            attempt.problems.append("packages were installed, removed or upgraded meanwhile; those stay as they are")
        attempt.carry_out()
        verdicts.end(op_id)
    if not at_boot:
        arming.stop_timer(op_id)
    return attempt.problems


def roll_back_pending() -> None:
    """Undo what still waits, as far as nobody has decided meanwhile. Raises OSError when there is no room."""
    op_id = armed.pending()
    if op_id:
        with contextlib.suppress(Decided, NotPending):
            rollback(op_id)


def tidy() -> None:
    """Remove what killed commands left; it may be private keys."""
    with armed.alone():
        if not armed.pending():
            verdicts.tidy()
