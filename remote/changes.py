"""Changes and tasks, from the verified command to the executor and back: lock, burn, start, tail, send the receipt."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Mapping
from typing import Any

import applied
import armed
import arming
import authorise
import blobs
import core
import layout
import operation
import receipt
import store
from channel import PROGRESS_LIMIT
from messages import Command, Denied
from request import Request, app_user, check_params
from serverflow_actions.kit.spec import needs_safe
from session import Session, safe_change

LOCK_WAIT_LIMIT_S = 600
#: Less would not do for a new connection. More is for what has to be a safe change: meanwhile nobody changes anything.
SHORTEST_S, LONGEST_ON_WISH_S = 5, 600
#: May run while a safe change waits for confirmation.
_ALWAYS = ("safe.confirm", "safe.rollback", "op.cancel")


def perform(session: Session, request: Request) -> None:
    """Raises Denied or Refused before anything is burned; after that every way out is a receipt."""
    command, entry = request.command, request.entry
    params = check_params(request)
    if store.burned(command.op_id):
        _answer_burned(session, request)
        return
    _check_possible(request)
    app_user(request)  # before the upload; once more after it
    folder = blobs.receive(session.channel, command, entry["blobs"])
    lock = -1
    try:
        if entry["locks"]:
            wait = min(command.limits.get("lock_wait_s", 30), LOCK_WAIT_LIMIT_S)
            lock = session.lock(entry["locks"][0], request.about, wait)
        session.reload_trust()
        authorise.verify_again(
            request.signed,
            command,
            entry,
            trust=session.trust,
            now_ms=store.now_ms(),
            pending=safe_change(),
        )
        _check_possible(request)
        _check_base(command)
        user = app_user(request)
        try:
            own = store.burn(command.op_id, request.frame)
        except store.Burned:
            _answer_burned(session, request)
            return
        except store.DiskFull as error:
            raise Denied("disk-full", f"the operation cannot be recorded: {error}") from None
        try:
            if entry["profile"] == "core":
                _core(session, request, params, lock)
                return
            try:
                key = request.signed.signatures[0].public_key.hex()
                operation.start(request, folder, user, lock, own, key=key)
                folder = ""
            except OSError as error:
                _never_started(session, request, error)
                return
        finally:
            os.close(own)
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        if lock >= 0:
            os.close(lock)
        # Old operations must not stand in the way of this one.
        with contextlib.suppress(OSError):
            store.prune()
            blobs.sweep()
    _follow(session, request)


def _check_possible(request: Request) -> None:
    command, entry = request.command, request.entry
    if armed.pending() and command.action not in _ALWAYS:
        arming.count_on(armed.pending())
        raise Denied("pending-change", f"a safe change waits for confirmation: {armed.pending()}")
    check_safe(command, entry)
    is_core = entry["profile"] == "core"
    if is_core and command.plan_sha256 not in (None, core.forecast(command.action)["plan_sha256"]):
        raise Denied("plan-changed", "another plan was approved")


def check_safe(command: Command, entry: Mapping[str, Any]) -> None:
    """Raises Denied when it has to be a safe change and is none, or cannot be one."""
    if command.confirm_s and entry["kind"] != "change":
        raise Denied("unsupported", f"{command.action} is a one-off: it cannot be undone, so it is no safe change")
    if 0 < command.confirm_s < SHORTEST_S:
        raise Denied("unsupported", f"a safe change waits for {SHORTEST_S} s at least")
    has_to_be = needs_safe(entry["safe"], entry["lifelines"], command.params)
    if has_to_be and not command.confirm_s:
        message = f"{command.action} could lock everyone out: here it is a safe change, or none (confirm_s)"
        raise Denied("unsupported", message)
    if command.confirm_s > LONGEST_ON_WISH_S and not has_to_be:
        message = f"{command.action} need not be a safe change: as one it waits for {LONGEST_ON_WISH_S} s at most"
        raise Denied("unsupported", message)


def _check_base(command: Command) -> None:
    """Compare-and-swap: someone may have applied another wish since this one was planned."""
    if command.base is None:
        return
    found = applied.last(command.base.resource)
    have = found["hash"] if found else ""
    if found and have not in (command.base.before, command.base.after):
        raise Denied(
            "base-changed",
            f"{command.base.resource} was changed by {found['by']} in op {found['op_id']} since this was planned",
        )


def _core(session: Session, request: Request, params: dict[str, Any], lock: int) -> None:
    op_id, action = request.command.op_id, request.command.action
    try:
        outcome, data = core.perform(
            action, params, core.Asker(session.channel.tell, request.about["actor"]["name"], op_id, lock)
        )
        waits = armed.status() if outcome == "pending-confirm" else None
        body = receipt.build(request.about, outcome, data=data, safe=waits)
    except Denied as denial:
        body = receipt.build(request.about, "failed", code=denial.code, message=denial.message)
    except Exception as error:  # whatever breaks here, the caller gets a signed answer
        code = "disk-full" if _is_full(error) else "action-failed"
        body = receipt.build(request.about, "failed", code=code, message=f"{type(error).__name__}: {error}"[:500])
    session.channel.send(b"R", operation.record(session.identity, op_id, body))


def _is_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _never_started(session: Session, request: Request, error: OSError) -> None:
    """Burned, and then no room or no means to start it."""
    code = "disk-full" if _is_full(error) else "action-failed"
    shutil.rmtree(f"{layout.RUN}/{request.command.op_id}", ignore_errors=True)
    body = receipt.build(request.about, "failed", code=code, message=f"it was not started: {error.strerror}")
    session.channel.send(b"R", operation.record(session.identity, request.command.op_id, body))


def _follow(session: Session, request: Request) -> None:
    """Pass progress on until the receipt is there. When the client goes, the action goes on without us."""
    op_id = request.command.op_id
    folder = store.op_folder(op_id)
    position, pause, looked = 0, 0.005, time.monotonic()
    while True:
        frame = store.read_file(f"{folder}/receipt")
        position = _pass_progress(session, f"{folder}/progress", position)
        if frame is None and time.monotonic() - looked > 0.5:
            looked = time.monotonic()
            frame = _conclude(session, request)
        if frame is not None:
            break
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    session.show_once(op_id)
    session.channel.send(b"R", frame)


def _pass_progress(session: Session, path: str, position: int) -> int:
    data = (store.read_file(path) or b"")[position:]
    complete = data[: data.rfind(b"\n") + 1]
    for line in complete.splitlines():
        session.channel.send(b"P", line[:PROGRESS_LIMIT])
    return position + len(complete)


def _answer_burned(session: Session, request: Request) -> None:
    """The same operation again, by the key that asked for it: its receipt; never a second run. Raises Denied."""
    first = store.burned_by(request.command.op_id)
    if store.is_scheduled(request.command.op_id):
        raise Denied("bad-frame", "this operation id was used by a job of this server")
    if first and first.signatures[0].public_key != request.signed.signatures[0].public_key:
        raise Denied("bad-frame", "this operation id was used by another key")
    _follow(session, request)


def _conclude(session: Session, request: Request) -> bytes | None:
    """The receipt of an operation that nobody works on any more; None while somebody does. Raises Denied."""
    op_id = request.command.op_id
    frame = operation.concluded(session.identity, op_id, request.about)
    if frame is None and not store.burned(op_id):
        raise Denied("bad-frame", "this operation id was used, and its receipt is kept no more")
    return frame
