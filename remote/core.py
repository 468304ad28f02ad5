"""What the runner does itself, without a sandbox: looking at operations and receipts, confirming and undoing safe
changes, leaving the fleet. Declared like every action, so that grants cover them; written here because they need the
state that all sandboxes hide.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Mapping
from typing import Any, Callable

import layout
import safe
import store
from messages import Denied

Tell = Callable[[dict[str, Any]], None]
#: outcome and data
Answer = tuple[str, dict[str, Any]]
_PAGE = 900_000


def forecast(action: str) -> dict[str, Any]:
    """Check mode of a core task: what it would do, and the hash that a person approves."""
    from serverflow_actions.kit.change import Change, forecast_hash

    change = Change("run", "action", action)
    return {"changes": [change.as_json()], "plan_sha256": forecast_hash(action, [change])}


def perform(action: str, params: Mapping[str, Any], tell: Tell) -> Answer:
    """Run a core action. Raises Denied."""
    return _ACTIONS[action](params, tell)


def _op_list(params: Mapping[str, Any], tell: Tell) -> Answer:
    names = sorted(os.listdir(layout.OPS), reverse=True)[: int(params.get("limit", 50))]
    return "done", {"ops": [_describe(name) for name in names]}


def _op_status(params: Mapping[str, Any], tell: Tell) -> Answer:
    return "done", _status(params["op"])


def _op_follow(params: Mapping[str, Any], tell: Tell) -> Answer:
    """Progress lines from the start, until the receipt is there."""
    op_id = params["op"]
    path = f"{store.op_folder(op_id)}/progress"
    position = 0
    while True:
        over = _status(op_id)["state"] != "running"
        data = (store.read_file(path) or b"")[position:]
        complete = data[: data.rfind(b"\n") + 1]
        position += len(complete)
        for line in complete.splitlines():
            tell(json.loads(line))
        if over:
            return "done", _status(op_id)
        time.sleep(0.1)


def _op_cancel(params: Mapping[str, Any], tell: Tell) -> Answer:
    """The executor looks for this file; it kills the whole control group and still writes a receipt."""
    op_id = params["op"]
    if _status(op_id)["state"] != "running":
        return "unchanged", _status(op_id)
    store.write_file(f"{store.op_folder(op_id)}/cancel", b"")
    for _ in range(200):
        if _status(op_id)["state"] != "running":
            break
        time.sleep(0.1)
    return "done", _status(op_id)


def actor_of(op_id: str) -> str:
    """The fingerprint of the key that asked for an operation; "" when it is not known."""
    job = json.loads(store.read_file(f"{store.op_folder(op_id)}/job") or b"{}")
    return str(job.get("about", {}).get("actor", {}).get("key", ""))


def running(op_id: str) -> bool:
    """Whether the executor's unit is alive."""
    argv = ["systemctl", "is-active", "--quiet", executor_unit(op_id)]
    return subprocess.run(argv, check=False, capture_output=True, env={"PATH": "/usr/bin:/bin"}).returncode == 0


def executor_unit(op_id: str) -> str:
    return f"serverflow-op-{op_id.lower()}.service"


def _describe(op_id: str) -> dict[str, Any]:
    frame = store.read_file(f"{store.op_folder(op_id)}/receipt")
    job = json.loads(store.read_file(f"{store.op_folder(op_id)}/job") or b"{}")
    about = job.get("about", {})
    body = json.loads(receipt_parts(frame)[1]) if frame else {}
    return {
        "op": op_id,
        "action": about.get("action", ""),
        "actor": about.get("actor", {}).get("name", ""),
        "started_at": about.get("started_at", 0),
        "state": body.get("outcome") or ("running" if running(op_id) else "indeterminate"),
    }


def _status(op_id: str) -> dict[str, Any]:
    if not os.path.isdir(store.op_folder(op_id)):
        return {"state": "unknown"}
    frame = store.read_file(f"{store.op_folder(op_id)}/receipt")
    if frame is None:
        # The unit may have ended between our two looks.
        alive = running(op_id)
        frame = store.read_file(f"{store.op_folder(op_id)}/receipt")
        if frame is None:
            return {"state": "running" if alive else "indeterminate"}
    blob, body = receipt_parts(frame)
    return {"state": "ended", "body": body.decode(), "sig": base64.b64encode(blob).decode()}


def receipt_parts(frame: bytes) -> tuple[bytes, bytes]:
    """Signature and body of a stored receipt."""
    size = int.from_bytes(frame[1:3], "big")
    return frame[3 : 3 + size], frame[3 + size :]


def _safe_status(params: Mapping[str, Any], tell: Tell) -> Answer:
    return "done", {"pending": safe.status()}


def _safe_confirm(params: Mapping[str, Any], tell: Tell) -> Answer:
    try:
        safe.confirm(params["op"])
    except safe.Decided as verdict:
        raise Denied("rolled-back", f"too late: the change is {verdict}") from None
    except safe.NotPending as error:
        raise Denied("action-failed", str(error)) from None
    return "done", {"op": params["op"], "state": "confirmed"}


def _safe_rollback(params: Mapping[str, Any], tell: Tell) -> Answer:
    try:
        problems = safe.rollback(params["op"])
    except safe.Decided as verdict:
        raise Denied("action-failed", f"too late: the change is {verdict}") from None
    except safe.NotPending as error:
        raise Denied("action-failed", str(error)) from None
    return "rolled-back", {"op": params["op"], "problems": problems}


def _audit_read(params: Mapping[str, Any], tell: Tell) -> Answer:
    """Lines of the receipt chain from a sequence number on, as many as fit into one reply."""
    since, size, lines = int(params.get("since", 1)), 0, []
    every = store.chain_lines()
    for line in every[max(0, since - 1) :]:
        size += len(line) + 8
        if size > _PAGE:
            break
        lines.append(line.decode())
    return "done", {"lines": lines, "total": len(every)}


def _applied_list(params: Mapping[str, Any], tell: Tell) -> Answer:
    return "done", {"applied": store.all_applied()}


def _server_leave(params: Mapping[str, Any], tell: Tell) -> Answer:
    """Take ServerFlow off this server, once the receipt has reached the client."""
    if params["confirm"] != (store.read_file(layout.SERVER_ID) or b"").decode().strip():
        raise Denied("bad-params", "confirm must be this server's id")
    script = f"{layout.RUN}/leave.py"
    source = store.read_file(f"{layout.CURRENT}/leave.py")
    if source is None:
        raise Denied("action-failed", "leave.py is missing from the bundle")
    store.write_file(script, source)
    argv = [
        "systemd-run",
        "--quiet",
        "--collect",
        "--on-active=1s",
        "--timer-property=AccuracySec=100ms",
        layout.PYTHON,
        "-IS",
        script,
    ]
    subprocess.run(argv, check=True, capture_output=True, env={"PATH": "/usr/bin:/bin"})
    left = (
        [f"/etc/serverflow/apps/{name}" for name in sorted(os.listdir(layout.APPS))]
        if os.path.isdir(layout.APPS)
        else []
    )
    return "done", {"left": left}


_ACTIONS: dict[str, Callable[[Mapping[str, Any], Tell], Answer]] = {
    "op.list": _op_list,
    "op.status": _op_status,
    "op.follow": _op_follow,
    "op.cancel": _op_cancel,
    "safe.status": _safe_status,
    "safe.confirm": _safe_confirm,
    "safe.rollback": _safe_rollback,
    "audit.read": _audit_read,
    "applied.list": _applied_list,
    "server.leave": _server_leave,
}
