"""Changes and tasks, from the verified command to the executor and back: lock, burn, start, tail, send the receipt."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from typing import Any

import core
import layout
import receipt
import safe
import session as sessions
import store
from messages import Command, Denied
from session import Session

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
#: May run while a safe change waits for confirmation.
_ALWAYS = ("safe.confirm", "safe.rollback", "op.cancel")


def perform(
    session: Session,
    frame: bytes,
    command: Command,
    entry: dict[str, Any],
    about: dict[str, Any],
    values: dict[str, str],
) -> None:
    """Raises Denied before anything is burned; after that every way out is a receipt."""
    job: dict[str, Any] = {"action": command.action, "module": entry["module"], "params": dict(command.params)}
    params = sessions.check_params(job, values)
    if store.burned(command.op_id):
        _answer_burned(session, command, about)
        return
    if safe.pending() and command.action not in _ALWAYS:
        raise Denied("pending-change", f"a safe change waits for confirmation: {safe.pending()}")
    if command.confirm_s:
        raise Denied("unsupported", f"{command.action} cannot be made a safe change yet")
    if entry["profile"] == "core" and command.plan_sha256 not in (None, core.forecast(command.action)["plan_sha256"]):
        raise Denied("plan-changed", "another plan was approved")
    user = sessions.app_user(entry, command.params)
    blobs = _receive_blobs(session, command)
    locks = entry["locks"]
    descriptor = -1
    try:
        if locks:
            descriptor = _lock(session, command, about, locks[0])
        _check_base(command)
        try:
            store.burn(command.op_id, frame)
        except store.Burned:
            _answer_burned(session, command, about)
            return
        except store.DiskFull as error:
            raise Denied("disk-full", f"the operation cannot be recorded: {error}") from None
        if entry["profile"] == "core":
            _core(session, command, about, vars(params))
            return
        timeout, memory = sessions.limits(command, entry)
        job.update(
            about=about, manifest=entry, timeout=timeout, memory=memory, plan_sha256=command.plan_sha256, blobs=blobs,
            user=user, secrets=_keep_secrets(command.op_id, values),
            base=_base(command),
        )  # fmt: skip
        blobs = ""
        _start(command.op_id, job, descriptor)
    finally:
        if blobs:
            shutil.rmtree(blobs, ignore_errors=True)
        if descriptor >= 0:
            os.close(descriptor)
    _follow(session, command.op_id, about)
    store.prune()


def _lock(session: Session, command: Command, about: dict[str, Any], name: str) -> int:
    wait = min(command.limits.get("lock_wait_s", 30), sessions.LOCK_WAIT_LIMIT_S)
    owner = {"op_id": command.op_id, "action": command.action, "actor": about["actor"]["name"], "since": store.now_ms()}
    try:
        return store.take_lock(name, 0.05, owner)
    except store.Busy as busy:
        session.channel.tell({"t": "note", "text": "waiting: " + store.lock_story(str(busy))})
    try:
        return store.take_lock(name, wait, owner)
    except store.Busy as busy:
        raise Denied("locked", store.lock_story(str(busy))) from None


def _check_base(command: Command) -> None:
    """Compare-and-swap: someone may have applied another wish since this one was planned."""
    if command.base is None:
        return
    found = store.applied(command.base.resource)
    have = found["hash"] if found else ""
    if found and have not in (command.base.before, command.base.after):
        raise Denied(
            "base-changed",
            f"{command.base.resource} was changed by {found['by']} in op {found['op_id']} since this was planned",
        )


def _base(command: Command) -> dict[str, str] | None:
    base = command.base
    return {"resource": base.resource, "from": base.before, "to": base.after} if base else None


def _receive_blobs(session: Session, command: Command) -> str:
    """The folder with the blobs, each named by its hash; "" without any. Disk budget first, then the go-ahead."""
    if not command.blobs:
        return ""
    sessions.check_disk(sum(blob.size for blob in command.blobs))
    folder = tempfile.mkdtemp(prefix=f"{command.op_id}-", dir=layout.BLOBS)
    try:
        session.channel.send(b"G", b"{}")
        for blob in command.blobs:
            _receive_one(session, f"{folder}/{blob.sha256}", blob.sha256, blob.size)
        os.chmod(folder, 0o755)  # noqa: S103  the sandbox shows this folder, and it alone, to the app's user
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _receive_one(session: Session, path: str, sha256: str, size: int) -> None:
    digest = hashlib.sha256()
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "wb") as file:
            while size:
                data = session.channel.read(min(size, 1 << 18), time.monotonic() + sessions.BLOB_IDLE_S)
                digest.update(data)
                file.write(data)
                size -= len(data)
            os.fchmod(file.fileno(), 0o444)
    except OSError as error:
        raise Denied("disk-full", f"a blob cannot be stored: {error.strerror}") from None
    if digest.hexdigest() != sha256:
        raise Denied("bad-frame", "a blob is not what the command committed to")


def _keep_secrets(op_id: str, values: dict[str, str]) -> str:
    """In memory only; systemd hands it to the worker as a credential."""
    if not values:
        return ""
    folder = f"{layout.RUN}/{op_id}"
    os.makedirs(folder, mode=0o700)
    store.write_file(f"{folder}/secrets", json.dumps(values).encode())
    return f"{folder}/secrets"


def _core(session: Session, command: Command, about: dict[str, Any], params: dict[str, Any]) -> None:
    try:
        outcome, data = core.perform(command.action, params, session.channel.tell)
        body = receipt.build(about, outcome, data=data)
    except Denied as denial:
        body = receipt.build(about, "failed", code=denial.code, message=denial.message)
    frame = store.append_receipt(session.identity, body)
    store.write_file(f"{store.op_folder(command.op_id)}/receipt", frame)
    session.channel.send(b"R", frame)


def _start(op_id: str, job: dict[str, Any], lock: int) -> None:
    """The executor as a unit of its own. Its standard input is the lock: held as long as it lives, whatever becomes of
    us.
    """
    store.write_file(f"{store.op_folder(op_id)}/job", json.dumps(job).encode())
    properties = [
        "--property=KillMode=control-group",
        "--property=OOMScoreAdjust=-500",
        f"--property=RuntimeMaxSec={job['timeout'] + 900}",
    ]
    unit = core.executor_unit(op_id)
    argv = [
        "systemd-run",
        "--pipe",
        "--collect",
        "--quiet",
        f"--unit={unit}",
        *properties,
        "--",
        layout.PYTHON,
        "-IS",
        f"{sessions.HERE}/executor.py",
        op_id,
    ]
    null = os.open("/dev/null", os.O_RDWR)
    # A pipe to the SSH side would kill the executor when the session drops; a session of its own keeps signals away.
    subprocess.Popen(
        argv, stdin=lock if lock >= 0 else null, stdout=null, stderr=null, env=_ENVIRONMENT, start_new_session=True
    )
    os.close(null)


def _follow(session: Session, op_id: str, about: dict[str, Any]) -> None:
    """Pass progress on until the receipt is there. When the client goes, the action goes on without us."""
    folder = store.op_folder(op_id)
    position, pause, checked = 0, 0.005, time.monotonic()
    while True:
        frame = store.read_file(f"{folder}/receipt")
        position = _pass_progress(session, f"{folder}/progress", position)
        if frame is not None:
            break
        if time.monotonic() - checked > 2:
            checked = time.monotonic()
            if not core.running(op_id):
                frame = store.read_file(f"{folder}/receipt") or indeterminate(session, op_id, about)
                break
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    session.show_once(op_id)
    session.channel.send(b"R", frame)


def _pass_progress(session: Session, path: str, position: int) -> int:
    data = (store.read_file(path) or b"")[position:]
    complete = data[: data.rfind(b"\n") + 1]
    for line in complete.splitlines():
        session.channel.send(b"P", line[: sessions.PROGRESS_LIMIT])
    return position + len(complete)


def _answer_burned(session: Session, command: Command, about: dict[str, Any]) -> None:
    """The same operation again: its receipt if there is one; never a second run."""
    frame = store.read_file(f"{store.op_folder(command.op_id)}/receipt")
    if frame is None and core.running(command.op_id):
        _follow(session, command.op_id, about)
        return
    session.channel.send(b"R", frame or indeterminate(session, command.op_id, about))


def indeterminate(session: Session, op_id: str, about: dict[str, Any]) -> bytes:
    """Burned, not running, and no receipt: nobody can say how far it came, and it never runs again.

    Unless the executor died between chain and file: then the chain has the receipt.
    """
    chained = store.find_receipt(op_id)
    if chained:
        store.write_file(f"{store.op_folder(op_id)}/receipt", chained)
        return chained
    body = receipt.build(
        about,
        "indeterminate",
        code="indeterminate",
        message="the server stopped in the middle; look at its state before you go on",
    )
    frame = store.append_receipt(session.identity, body)
    store.write_file(f"{store.op_folder(op_id)}/receipt", frame)
    return frame
