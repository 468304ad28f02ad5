"""Snapshot, arm, apply, confirm, roll back: a change that could lock everyone out undoes itself unless it is confirmed.

Confirm and rollback race for one file; whoever makes it has won. Enrolment uses this for sshd, sudoers and users,
`server.rekey` for the host key, and the executor for every change that is signed as a safe one. Going back needs no
room on the disk: what it writes was written before the change.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable

import layout
import rollback as way_back
import snapshots
import store
import units
import written

#: The kernel's ticks, in which it says when a process began (proc_pid_stat(5)).
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_RETRY_S = 30
VERDICTS_KEPT = 50
_ACCOUNTS = ("/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/subuid", "/etc/subgid")


class Unsafe(Exception):
    """A sentence: why it was not done, and what became of it. All that this module raises of its own."""


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


def folder(op_id: str) -> str:
    return f"{layout.SAFE}/{op_id}"


def pending() -> str:
    """The op id of the change that waits for confirmation; "" for none."""
    return (store.read_file(f"{layout.SAFE}/pending") or b"").decode()


def pending_key() -> tuple[str, bytes] | None:
    """The change that waits, and the raw public key that signed it, b"" where none did (enrolment)."""
    op_id = pending()
    try:
        return (op_id, bytes.fromhex(_manifest(op_id)["key"])) if op_id else None
    except NotPending:  # it ends at this moment
        return None


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
    with _alone():
        try:
            _snapshot(op_id, action, footprint, key, run)
        except (OSError, subprocess.SubprocessError) as error:
            shutil.rmtree(folder(op_id), ignore_errors=True)
            raise CannotArm(f"no snapshot can be made, so nothing was changed: {error}") from error
        _arm(op_id, seconds)


def settle(op_id: str, then: Mapping[str, Any] | None = None) -> None:
    """All is applied: from here on it can be confirmed, over a connection that begins later. `then` is what counts once
    it is: `written` and `base`, for their records. Raises CannotArm when its time was over before.
    """
    with _alone():
        if pending() != op_id or _verdict(op_id):
            raise CannotArm("it took too long")
        sys.audit("serverflow.arm", "applied")
        paths = {entry["path"]: snapshots.fingerprint(entry["path"]) for entry in _manifest(op_id)["paths"]}
        store.write_file(f"{folder(op_id)}/then", json.dumps(then or {}).encode())
        store.write_file(f"{folder(op_id)}/applied", json.dumps({"ticks": _ticks(), "paths": paths}).encode())


def told(error: BaseException) -> str:
    """What a program said that failed, else the error itself."""
    said = getattr(error, "stderr", None) or b""
    return said.decode("utf-8", "replace").strip()[-300:] or str(error)


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


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Whoever arms, confirms or puts back is alone: enrolment and commands have no other lock in common."""
    descriptor = os.open(f"{layout.SAFE}/lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


# --- before the change -----------------------------------------------------------------------------------------------


def _snapshot(op_id: str, action: str, footprint: Mapping[str, Any], key: str, run: bool) -> None:
    """Keep what stands now of all that the footprint names."""
    if pending():
        raise NotPending(f"another change waits for confirmation: {pending()}")
    _tidy()
    os.makedirs(folder(op_id), mode=0o700)
    try:
        entries = [
            {**entry, "had_folder": os.path.isdir(os.path.dirname(entry["path"]))}
            for entry in _entries(op_id, footprint)
        ]
        kept_units = units.kept(footprint.get("units", ()))
    except (snapshots.CannotKeep, units.TooMany) as error:
        shutil.rmtree(folder(op_id), ignore_errors=True)
        raise NotPending(str(error)) from None
    manifest: dict[str, Any] = {
        "v": 2,
        "op_id": op_id,
        "action": action,
        "key": key,
        "run": run,
        "paths": entries,
        "units": kept_units,
        "after": list(footprint["after"]),
        "packages": _packages(),
        "taken_at": store.now_ms(),
    }
    manifest["steps"] = way_back.steps(manifest)
    # Its room is taken now: on the way back each step overwrites one byte.
    store.write_file(f"{folder(op_id)}/journal", b"0" * len(manifest["steps"]))
    sys.audit("serverflow.arm", "manifest")
    store.write_file(f"{folder(op_id)}/manifest", store.encode(manifest))


def _entries(op_id: str, footprint: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each path once; what is moved aside or made anew as a whole goes before what is in it. `made` are folders that
    the run has made already, for its sandbox.
    """
    kept = folder(op_id)
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


def _packages() -> str:
    return hashlib.sha256(store.read_file("/var/lib/dpkg/status") or b"").hexdigest()


def _arm(op_id: str, seconds: int) -> None:
    """Start the countdown. From here on nothing but `confirm` keeps the change.

    The timer first: a change that waits without one would wait until the next boot. Raises CannotArm, and then nothing
    of it is left.
    """
    began, deadline = time.monotonic(), store.now_ms() + seconds * 1000
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
    try:
        store.write_file(f"{folder(op_id)}/deadline", str(deadline).encode())
        for verdict in ("confirmed", "rolling-back"):
            store.write_file(f"{folder(op_id)}/is-{verdict}", verdict.encode())
        sys.audit("serverflow.arm", "timer")
        subprocess.run(argv, env=layout.ENVIRONMENT, check=True, capture_output=True, timeout=seconds)
        sys.audit("serverflow.arm", "pending")
        store.write_file(f"{layout.SAFE}/pending", op_id.encode())
        if time.monotonic() - began > seconds / 2:
            raise CannotArm("this server is too slow for a countdown; nothing was changed")
    except Exception as error:
        _disarm(op_id)
        if isinstance(error, CannotArm):
            raise
        raise CannotArm(f"no countdown can be started, so nothing was changed: {told(error)}") from error


def _disarm(op_id: str) -> None:
    """Of a change that never began, nothing may wait, and no copy stay."""
    _clear(op_id)
    _stop_timer(op_id)
    shutil.rmtree(folder(op_id), ignore_errors=True)


def _timer(op_id: str) -> str:
    return f"serverflow-rollback-{op_id.lower()}"


def _stop_timer(op_id: str) -> None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        units.run(["systemctl", "stop", f"{_timer(op_id)}.timer"])


# --- the verdict -----------------------------------------------------------------------------------------------------


def confirm(op_id: str, began: int | None) -> list[str]:
    """Keep the change; returns what of it could not be finished. `began` is when the connection did that says so, in
    the kernel's ticks since boot: one of before proves nothing. Raises NotPending, NotProved, or Decided when the
    rollback was first.
    """
    with _alone():
        verdict = _verdict(op_id)
        if verdict and verdict != b"confirmed":
            raise Decided("rolled back")
        if not verdict:
            if pending() == op_id:
                _check_began_after(op_id, began)
            _decide(op_id, "confirmed")
        left = _end(op_id)
    # Tidiness: its rollback would find the verdict and stop.
    _stop_timer(op_id)
    return left


def _check_began_after(op_id: str, began: int | None) -> None:
    applied = store.read_file(f"{folder(op_id)}/applied")
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
    with _alone():
        verdict = _verdict(op_id)
        if verdict == b"confirmed":
            _end(op_id)  # a crash may have come between the verdict and this
            raise Decided("confirmed")
        if verdict and pending() != op_id:
            raise Decided("rolled back")
        manifest = _manifest(op_id)
        if not verdict:
            _decide(op_id, "rolling-back")
        if manifest["v"] == 1:
            _make_ready(op_id, manifest)
        attempt = way_back.Rollback(folder(op_id), manifest, then, at_boot=at_boot, own=own)
        if manifest["packages"] != _packages():
            attempt.problems.append("packages were installed, removed or upgraded meanwhile; those stay as they are")
        attempt.carry_out()
        _end(op_id)
    if not at_boot:
        _stop_timer(op_id)
    return attempt.problems


def roll_back_pending() -> None:
    """Undo what still waits, as far as nobody has decided meanwhile. Raises OSError when there is no room."""
    op_id = pending()
    if op_id:
        with contextlib.suppress(Decided, NotPending):
            rollback(op_id)


def was_rolled_back(op_id: str) -> bool:
    """Whether this operation was a safe change that has gone back, or is going back."""
    return _verdict(op_id) == b"rolling-back"


def still_pending(op_id: str) -> bool:
    """Whether it still waits, or is not back yet, once whoever is at work on that has finished or given up."""
    with _alone():
        return pending() == op_id


def status() -> dict[str, Any] | None:
    """The pending change with its deadline; None where none waits, or it ends at this moment."""
    op_id = pending()
    try:
        manifest = _manifest(op_id) if op_id else None
    except NotPending:
        manifest = None
    if manifest is None:
        return None
    deadline = int((store.read_file(f"{folder(op_id)}/deadline") or b"0").decode())
    return {
        "state": "going back" if _verdict(op_id) else "armed",
        "op_id": op_id,
        "action": manifest["action"],
        "deadline": deadline,
        "paths": [e["path"] for e in manifest["paths"]],
    }


def _manifest(op_id: str) -> dict[str, Any]:
    data = store.read_file(f"{folder(op_id)}/manifest")
    if data is None:
        raise NotPending(f"no safe change {op_id}")
    manifest = dict(json.loads(data))
    if manifest["v"] == 1:
        manifest = _of_version_1(manifest)
    return manifest


def _of_version_1(manifest: dict[str, Any]) -> dict[str, Any]:
    """Armed by a runner before this one, which a new bundle has replaced since. It knew paths only."""
    entries = [{**entry, "atime": entry.get("mtime"), "xattrs": {}} for entry in manifest["paths"]]
    known = {"key": "", "run": False, "units": [], "packages": _packages()}
    manifest = {**manifest, **known, "paths": entries}
    return {**manifest, "steps": way_back.steps(manifest)}


def _make_ready(op_id: str, manifest: dict[str, Any]) -> None:
    """What version 1 left to the way back: it dressed its copies then, and kept no journal."""
    for entry in manifest["paths"]:
        with contextlib.suppress(FileNotFoundError):  # it is back already
            if entry["type"] == "file":
                os.chown(entry["copy"], entry["uid"], entry["gid"])
                os.chmod(entry["copy"], entry["mode"])
                os.utime(entry["copy"], ns=(entry["mtime"], entry["mtime"]))
    journal = f"{folder(op_id)}/journal"
    if not os.path.exists(journal):
        way_back.with_room(lambda: store.write_file(journal, b"0" * len(manifest["steps"])))


def _verdict(op_id: str) -> bytes:
    """Which side has won, b"" while none has. A file that lost its content confirms nothing."""
    found = store.read_file(f"{folder(op_id)}/verdict")
    return b"" if found is None else found or b"rolling-back"


def _decide(op_id: str, verdict: str) -> None:
    """A link to a file that is whole since the change was armed: whoever reads the verdict reads all of it, also after
    a crash, and it takes no room.
    """
    if pending() != op_id:
        raise NotPending(f"no change {op_id} waits for confirmation")
    way_back.with_room(lambda: os.link(f"{folder(op_id)}/is-{verdict}", f"{folder(op_id)}/verdict"))
    store.sync_folder(folder(op_id))


def _end(op_id: str) -> list[str]:
    """It waits no more; only the verdict is kept. Copies of what stood there may be private keys: they must not outlive
    their use. In this order, so that a crash in between leads here again. Returns what could not be removed.
    """
    left: list[str] = []
    try:
        manifest = _manifest(op_id) if _verdict(op_id) == b"confirmed" else None
    except NotPending:  # it was here before
        manifest = None
    if manifest:
        _take_into_the_records(manifest)
    _clear(op_id)
    if manifest:
        left = _remove_asides(manifest)
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder(op_id)):
            if name != "verdict":
                os.unlink(f"{folder(op_id)}/{name}")
    return left


def _take_into_the_records(manifest: Mapping[str, Any]) -> None:
    """What counts only now that it is confirmed. A full disk costs a record, not the confirmation."""
    import applied

    then = json.loads(store.read_file(f"{folder(manifest['op_id'])}/then") or b"{}")
    with contextlib.suppress(OSError):
        written.remember(then.get("written", {}))
        if then.get("base"):
            applied.record(then["base"]["resource"], then["base"]["to"])


def _remove_asides(manifest: Mapping[str, Any]) -> list[str]:
    """The folders that were moved away, for good. Whatever keeps us from it keeps no change waiting."""
    left = []
    for entry in manifest["paths"]:
        if entry["type"] == "aside":
            try:
                snapshots.put_back({"path": entry["aside"], "type": "tree"})
            except OSError as error:
                left.append(f"{entry['aside']}: {error.strerror or error}")
    return left


def _clear(op_id: str) -> None:
    if pending() == op_id:
        os.unlink(f"{layout.SAFE}/pending")
        store.sync_folder(layout.SAFE)


def _tidy() -> None:
    """Nothing waits, so whatever is left is over. Verdicts stay for a while: whoever lost the answer asks again."""
    decided = []
    for name in os.listdir(layout.SAFE):
        if os.path.isdir(folder(name)):
            with contextlib.suppress(OSError):
                _end(name)  # a confirmation that was cut off still has folders to remove
            if _verdict(name):
                decided.append((os.stat(folder(name)).st_mtime_ns, name))
            else:
                shutil.rmtree(folder(name), ignore_errors=True)
    for _, name in sorted(decided)[:-VERDICTS_KEPT]:
        shutil.rmtree(folder(name), ignore_errors=True)


def tidy() -> None:
    """Remove what killed commands left; it may be private keys."""
    with _alone():
        if not pending():
            _tidy()
