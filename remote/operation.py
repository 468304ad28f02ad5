"""An operation from its burned id to its receipt, whoever asked for it: a client (changes.py), or a job of cron, when
nobody is there. Starting its executor, and saying how it ended when nobody is left to.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

import armed
import chain
import core
import layout
import receipt
import store
from messages import Command, Denied, Trust
from request import Request, app_user, check_params
from signing import Identity
from verify import Signed

HERE = os.path.dirname(os.path.realpath(__file__))
_LOOK_S = 0.25


# --- the executor ----------------------------------------------------------------------------------------------------


def start(request: Request, folder: str, user: str, lock: int, own: int, *, key: str = "", trigger: str = "") -> None:
    """The executor as a unit of its own. Its standard input is the server's lock, its standard output the operation's:
    both are held as long as it lives, whatever becomes of us. `folder` has the blobs, `key` is the signer's, `trigger`
    the operation that this one follows from. Raises OSError.
    """
    command = request.command
    timeout, memory = request.limits
    base = command.base
    job = {
        **request.job,
        "about": request.about,
        "key": key,
        "manifest": request.entry,
        "timeout": timeout,
        "memory": memory,
        "plan_sha256": command.plan_sha256,
        "blobs": folder,
        "user": user,
        "secrets": _keep_secrets(command.op_id, dict(request.secrets)),
        "base": {"resource": base.resource, "from": base.before, "to": base.after} if base else None,
        "trigger": trigger,
    }
    store.write_file(f"{store.op_folder(command.op_id)}/job", json.dumps(job).encode())
    properties = ("KillMode=control-group", "OOMScoreAdjust=-500", f"RuntimeMaxSec={timeout + 900}")
    argv = [
        "systemd-run",
        "--pipe",
        "--collect",
        "--quiet",
        f"--unit={core.executor_unit(command.op_id)}",
        *(f"--property={line}" for line in properties),
        "--",
        layout.PYTHON,
        "-IS",
        f"{HERE}/executor.py",
        command.op_id,
    ]
    # A pipe to the SSH side would kill the executor when the session drops; a session of its own keeps signals away.
    subprocess.Popen(
        argv,
        stdin=lock if lock >= 0 else subprocess.DEVNULL,
        stdout=own,
        stderr=subprocess.DEVNULL,
        env=layout.ENVIRONMENT,
        start_new_session=True,
    )


def _keep_secrets(op_id: str, values: dict[str, str]) -> str:
    """In memory only; systemd hands it to the worker as a credential."""
    if not values:
        return ""
    folder = f"{layout.RUN}/{op_id}"
    os.makedirs(folder, mode=0o700)
    store.write_file(f"{folder}/secrets", json.dumps(values).encode())
    return f"{folder}/secrets"


def record(identity: Identity, op_id: str, body: dict[str, Any]) -> bytes:
    """The chain counts; the file in the operation's folder is found again from it."""
    frame = chain.append_receipt(identity, body)
    with contextlib.suppress(OSError):
        store.write_file(f"{store.op_folder(op_id)}/receipt", frame)
    return frame


def concluded(identity: Identity, op_id: str, about: dict[str, Any]) -> bytes | None:
    """The receipt of an operation that nobody works on any more, made now if there is none; None while somebody does,
    and where nobody ever did. `about` is what to say where its own is lost.

    Nobody holds its lock, we do: it is not running, will not start, and nobody else concludes. Without a receipt in the
    chain nobody can say how far it came.
    """
    lock = store.claim(op_id)
    if lock is None:
        return None
    try:
        frame = chain.receipt_of(op_id)
        if frame is None:
            job = json.loads(store.read_file(f"{store.op_folder(op_id)}/job") or b"{}")
            body = broken_off(job.get("about", about), op_id)
            frame = record(identity, op_id, {**body, "trigger": job.get("trigger", "")})
        return frame
    finally:
        os.close(lock)


def broken_off(about: dict[str, Any], op_id: str) -> dict[str, Any]:
    """The receipt of what ended without one. A rollback that is at work is waited for."""
    waits, is_back = armed.still_pending(op_id), armed.was_rolled_back(op_id)
    if is_back and not waits:
        return _went_back(about, op_id)
    message = "the server stopped in the middle; look at its state before you go on"
    if is_back:
        message = "its time was over before it had ended; it is going back, and that is not done yet"
    elif waits:
        message = "the server stopped in the middle; what it changed goes back by itself unless it is confirmed"
    return receipt.build(about, "indeterminate", code="indeterminate", message=message)


def _went_back(about: dict[str, Any], op_id: str) -> dict[str, Any]:
    """What could not be put back is for the rollback's own receipt to say; a run that undid itself leaves none."""
    import history

    problems = history.problems(op_id)
    message = "its time was over before it had ended; all was put back"
    if problems is None:
        message = "it failed and was put back, but nobody is left to say whether all of it was"
    elif problems:
        message = "its time was over before it had ended; not all could be put back: " + "; ".join(problems)
    data = {"problems": problems or []}
    return receipt.build(about, "rolled-back", code="rolled-back", message=message[:4000], data=data)


# --- without a client ------------------------------------------------------------------------------------------------


class Wish(NamedTuple):
    """What a job of cron wants done. `says` is where a person's name would stand, `content` what the job consists of:
    the receipt has its hash. `name` and `key` (its fingerprint) are who installed the job, by the operation `trigger`.
    `timeout` and `patience`, the wait for a lock, in seconds.
    """

    action: str
    params: Mapping[str, Any]
    says: str
    content: bytes
    name: str
    key: str
    trigger: str
    timeout: int
    patience: int


def perform(
    wish: Wish, trust: Trust, server_id: str, bundle: int, stop: Callable[[], str], still: Callable[[], Trust]
) -> dict[str, Any]:
    """Do it, and return its receipt. `stop` is asked again and again; once it says why, the operation is cancelled.

    The caller has looked whether it may be done, and `still` looks again after the wait for its turn: it returns the
    trust file of then, or raises. Raises Denied where nothing was begun.
    """
    request = _request(wish, trust, server_id, bundle)
    op_id = request.command.op_id
    check_params(request)
    _check_possible(request)
    app_user(request)
    lock = own = -1
    try:
        lock = _wait_for_turn(request, wish.patience, stop)
        versions = {**request.about["versions"], "trust": still().version}
        request = request._replace(about={**request.about, "versions": versions})
        _check_decided()
        user = app_user(request)
        try:
            own = store.burn(op_id, store.SCHEDULED)
            start(request, "", user, lock, own, trigger=wish.trigger)
        except (store.DiskFull, store.Burned) as error:
            raise Denied("disk-full", f"the operation cannot be recorded: {error}") from None
        except OSError as error:
            body = receipt.build(request.about, "failed", code="action-failed", message=f"it was not started: {error}")
            record(Identity(), op_id, {**body, "trigger": wish.trigger})
            return body
    finally:
        for descriptor in (lock, own):
            if descriptor >= 0:
                os.close(descriptor)
        with contextlib.suppress(OSError):
            store.prune()
    return _awaited(request, stop)


def _request(wish: Wish, trust: Trust, server_id: str, bundle: int) -> Request:
    """As a client's would be, but signed by nobody. Raises Denied."""
    registry = json.loads(store.read_file(f"{HERE}/registry.json") or b"{}")
    entry = registry.get("actions", {}).get(wish.action)
    if entry is None:
        raise Denied("unknown-action", f"this server's bundle has no {wish.action} any more")
    now = store.now_ms()
    command = Command(
        v=1, typ="command", server_id=server_id, challenge="", op_id=store.new_id(), action=wish.action,
        action_version=entry["version"], params=dict(wish.params), trust_version=trust.version, issued_at=now,
        expires_at=now, limits={"timeout_s": wish.timeout}, mode="run", confirm_s=0, base=None, plan_sha256=None,
        secrets_commit=None, blobs=(), prev_receipt="", actor=wish.says,
    )  # fmt: skip
    told = {name: getattr(command, name) for name in ("op_id", "action", "action_version", "mode", "actor")}
    told.update(challenge="", server_id=server_id, prev_receipt="")
    versions = {"trust": trust.version, "bundle": bundle}
    about = receipt.context(told, wish.content, "", wish.name, wish.key, versions)
    return Request(store.SCHEDULED, Signed("", (), b"", ()), command, entry, about, {})


def _check_possible(request: Request) -> None:
    """Raises Denied."""
    import changes

    changes.check_safe(request.command, request.entry)
    if request.entry["kind"] == "read" or request.entry["profile"] == "core":
        raise Denied("unsupported", f"{request.command.action} is nothing for a schedule")


def _check_decided() -> None:
    """Raises Denied(pending-change)."""
    if op_id := armed.pending():
        raise Denied("pending-change", f"a safe change waits for confirmation: {op_id}")


def _wait_for_turn(request: Request, patience: float, stop: Callable[[], str]) -> int:
    """Until no safe change waits for its confirmation; returns the lock then, -1 for an action that has none. It is not
    held meanwhile: whoever confirms needs it. Raises Denied(locked, pending-change, killed).
    """
    deadline = time.monotonic() + patience
    while True:
        if not armed.pending():
            lock, left = -1, max(0, deadline - time.monotonic())
            if request.entry["locks"]:
                lock = _wait_for_lock(request.entry["locks"][0], request.about, left, stop)
            if not armed.pending():
                return lock
            if lock >= 0:  # another one came while we waited for it
                os.close(lock)
        if time.monotonic() > deadline:
            _check_decided()
        if stop():
            raise Denied("killed", stop())
        time.sleep(_LOOK_S)


def _wait_for_lock(name: str, about: dict[str, Any], patience: float, stop: Callable[[], str]) -> int:
    """Raises Denied(locked, killed)."""
    told = {"op_id": about["op_id"], "action": about["action"], "actor": about["actor"]["name"]}
    deadline = time.monotonic() + patience
    while True:
        try:
            return store.take_lock(name, 1, {**told, "since": store.now_ms()})
        except store.Busy as busy:
            if time.monotonic() > deadline:
                raise Denied("locked", store.lock_story(str(busy))) from None
        if stop():
            raise Denied("killed", stop())


def _awaited(request: Request, stop: Callable[[], str]) -> dict[str, Any]:
    op_id = request.command.op_id
    folder = store.op_folder(op_id)
    is_cancelled = False
    while True:
        frame = store.read_file(f"{folder}/receipt") or concluded(Identity(), op_id, request.about)
        if frame:
            return dict(json.loads(core.receipt_parts(frame)[1]))
        if stop() and not is_cancelled:
            is_cancelled = True
            with contextlib.suppress(OSError):
                store.write_file(f"{folder}/cancel", b"")
        time.sleep(_LOOK_S)
