"""Snapshot, arm, apply, confirm, roll back: a change that could lock everyone out undoes itself unless it is confirmed.

Confirm and rollback race for one file; whoever makes it has won. Enrolment uses this for sshd, sudoers and users, and
`server.rekey` for the host key. Going back needs no room on the disk: what it writes was written before the change.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any, Callable

import layout
import snapshots
import store

#: What is done after files were put back, by name: a snapshot holds data, never commands.
_AFTER = {
    # At boot sshd waits for the rollback; `reload` would wait for sshd, and both for ever.
    "reload-ssh": ["systemctl", "try-reload-or-restart", "ssh.service"],
    "daemon-reload": ["systemctl", "daemon-reload"],
}
#: The kernel's ticks, in which it says when a process began (proc_pid_stat(5)).
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_RETRY_S = 30


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


def change(
    op_id: str, action: str, paths: Sequence[str], after: Sequence[str], seconds: int, apply: Callable[[], object]
) -> None:
    """Snapshot, arm, apply. Whatever `apply` raises, everything is put back at once.

    Raises NotPending or CannotArm when nothing was changed; Undone when it was, and says what stands now.
    """
    with _alone():
        try:
            snapshot(op_id, action, paths, [], after)
        except OSError as error:
            shutil.rmtree(folder(op_id), ignore_errors=True)
            raise CannotArm(f"no snapshot can be made, so nothing was changed: {error}") from error
        arm(op_id, seconds)
    try:
        apply()
        with _alone():
            if pending() != op_id:
                raise CannotArm("it took too long")
            # From here on it can be confirmed: over a connection that begins later.
            store.write_file(f"{folder(op_id)}/applied", str(_ticks()).encode())
    except Exception as error:
        raise Undone(f"{told(error)} ({_taken_back(op_id)})") from error


def told(error: BaseException) -> str:
    """What a program said that failed, else the error itself."""
    said = getattr(error, "stderr", None) or b""
    return said.decode("utf-8", "replace").strip()[-300:] or str(error)


def _taken_back(op_id: str) -> str:
    try:
        problems = rollback(op_id)
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


def snapshot(op_id: str, action: str, paths: Sequence[str], users: Sequence[str], after: Sequence[str]) -> None:
    """Keep what stands at each path; `users` are removed on rollback if they do not exist now."""
    if pending():
        raise NotPending(f"another change waits for confirmation: {pending()}")
    _tidy()
    os.makedirs(folder(op_id), mode=0o700)
    try:
        entries = [snapshots.keep(path, f"{folder(op_id)}/{number}") for number, path in enumerate(paths)]
    except snapshots.NotPlain as error:
        shutil.rmtree(folder(op_id), ignore_errors=True)
        raise NotPending(str(error)) from None
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


def arm(op_id: str, seconds: int) -> int:
    """Start the countdown; returns the deadline. From here on nothing but `confirm` keeps the change.

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
        subprocess.run(argv, env=layout.ENVIRONMENT, check=True, capture_output=True, timeout=seconds)
        store.write_file(f"{layout.SAFE}/pending", op_id.encode())
        if time.monotonic() - began > seconds / 2:
            raise CannotArm("this server is too slow for a countdown; nothing was changed")
    except Exception as error:
        _disarm(op_id)
        if isinstance(error, CannotArm):
            raise
        raise CannotArm(f"no countdown can be started, so nothing was changed: {told(error)}") from error
    return deadline


def _disarm(op_id: str) -> None:
    """Of a change that never began, nothing may wait, and no copy stay."""
    _clear(op_id)
    _stop_timer(op_id)
    shutil.rmtree(folder(op_id), ignore_errors=True)


def _timer(op_id: str) -> str:
    return f"serverflow-rollback-{op_id.lower()}"


def _stop_timer(op_id: str) -> None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        _run(["systemctl", "stop", f"{_timer(op_id)}.timer"])


def _run(argv: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(argv, env=layout.ENVIRONMENT, check=False, capture_output=True, timeout=90)


# --- the verdict -----------------------------------------------------------------------------------------------------


def confirm(op_id: str, began: int | None) -> None:
    """Keep the change. `began` is when the connection did that says so, in the kernel's ticks since boot: one of before
    proves nothing. Raises NotPending, NotProved, or Decided when the rollback was first.
    """
    with _alone():
        verdict = _verdict(op_id)
        if verdict and verdict != b"confirmed":
            raise Decided("rolled back")
        if not verdict:
            if pending() == op_id:
                _check_began_after(op_id, began)
            _decide(op_id, "confirmed")
        _end(op_id)
    # Tidiness: its rollback would find the verdict and stop.
    _stop_timer(op_id)


def _check_began_after(op_id: str, began: int | None) -> None:
    applied = store.read_file(f"{folder(op_id)}/applied")
    if not applied:
        raise NotProved("the change is not in place yet")
    if began is None:
        raise NotProved("it cannot be seen when this connection began; confirm over SSH")
    if began <= int(applied):
        raise NotProved("this connection is older than the change; confirm over a new one")


def rollback(op_id: str, then: Callable[[list[str]], object] | None = None) -> list[str]:
    """Put everything back; returns what could not be. Once: an operation that is over is not undone again.

    Until all is done it stays pending, so that it is done again after a crash; `then` is told what could not be put
    back before it counts as done. Raises NotPending or Decided; OSError when there is no room to go on, which is worth
    another attempt.
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
        problems = _put_back(manifest)
        if then:
            then(problems)
        _end(op_id)
        return problems


def _put_back(manifest: dict[str, Any]) -> list[str]:
    problems = []
    for entry in reversed(manifest["paths"]):
        try:
            _with_room(lambda entry=entry: snapshots.put_back(entry))  # type: ignore[misc]  # mypy cannot infer the default
        except OSError as error:
            if _is_full(error):
                raise
            problems.append(f"{entry['path']}: {error.strerror}")
    for name in manifest["after"]:
        try:
            done = _run(_AFTER[name])
        except subprocess.TimeoutExpired:
            problems.append(f"{name}: it does not end")
            continue
        if done.returncode:
            problems.append(f"{name}: {done.stderr.decode('utf-8', 'replace').strip()[:200]}")
    for user in manifest["new_users"]:
        with contextlib.suppress(subprocess.TimeoutExpired):
            _run(["userdel", "--force", user])
    return problems


def _is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _with_room(step: Callable[[], None]) -> None:
    """With the room that is set aside, where there is no other."""
    try:
        step()
    except OSError as error:
        if not _is_full(error):
            raise
        with contextlib.suppress(FileNotFoundError):
            os.unlink(layout.BALLAST)
        step()


def roll_back_pending() -> None:
    """Undo what still waits, as far as nobody has decided meanwhile. Raises OSError when there is no room."""
    op_id = pending()
    if op_id:
        with contextlib.suppress(Decided, NotPending):
            rollback(op_id)


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
    """A link to a file that is whole since the change was armed: whoever reads the verdict reads all of it, also after
    a crash, and it takes no room.
    """
    if pending() != op_id:
        raise NotPending(f"no change {op_id} waits for confirmation")
    _with_room(lambda: os.link(f"{folder(op_id)}/is-{verdict}", f"{folder(op_id)}/verdict"))
    store.sync_folder(folder(op_id))


def _end(op_id: str) -> None:
    """It waits no more; only the verdict is kept. Copies of what stood there may be private keys: they must not outlive
    their use. In this order, so that a crash in between leads here again.
    """
    _clear(op_id)
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder(op_id)):
            if name != "verdict":
                os.unlink(f"{folder(op_id)}/{name}")


def _clear(op_id: str) -> None:
    if pending() == op_id:
        os.unlink(f"{layout.SAFE}/pending")
        store.sync_folder(layout.SAFE)


def _tidy() -> None:
    """Nothing waits, so whatever is left is over: of commands that were killed, and what has its verdict."""
    for name in os.listdir(layout.SAFE):
        if os.path.isdir(folder(name)):
            shutil.rmtree(folder(name), ignore_errors=True)


def tidy() -> None:
    """Remove what killed commands left; it may be private keys."""
    with _alone():
        if not pending():
            _tidy()
