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
from typing import Any, Callable, NamedTuple

import applied
import armed
import arming
import chain
import layout
import safe
import store
from messages import Denied

Tell = Callable[[dict[str, Any]], None]
#: outcome and data
Answer = tuple[str, dict[str, Any]]


class Asker(NamedTuple):
    """Whoever wants it done: how to tell them of progress, the name of their key, and for a task its operation and the
    server's lock.
    """

    tell: Tell
    name: str
    op_id: str = ""
    lock: int = -1


def forecast(action: str) -> dict[str, Any]:
    """Check mode of a core task: what it would do, and the hash that a person approves."""
    from serverflow_actions.kit.change import Change, forecast_hash

    change = Change("run", "action", action)
    return {"changes": [change.as_json()], "plan_sha256": forecast_hash(action, [change])}


def perform(action: str, params: Mapping[str, Any], asker: Asker) -> Answer:
    """Run a core action. Raises Denied."""
    return _ACTIONS[action](params, asker)


def _op_list(params: Mapping[str, Any], asker: Asker) -> Answer:
    names = sorted(os.listdir(layout.OPS), reverse=True)[: int(params.get("limit", 50))]
    return "done", {"ops": [_describe(name) for name in names]}


def _op_status(params: Mapping[str, Any], asker: Asker) -> Answer:
    return "done", _status(params["op"])


def _op_follow(params: Mapping[str, Any], asker: Asker) -> Answer:
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
            asker.tell(json.loads(line))
        if over:
            return "done", _status(op_id)
        time.sleep(0.1)


def _op_cancel(params: Mapping[str, Any], asker: Asker) -> Answer:
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
        "state": body.get("outcome") or ("running" if store.running(op_id) else "indeterminate"),
    }


def _status(op_id: str) -> dict[str, Any]:
    if not os.path.isdir(store.op_folder(op_id)):
        return {"state": "unknown"}
    frame = store.read_file(f"{store.op_folder(op_id)}/receipt")
    if frame is None:
        # It may have ended between our two looks.
        alive = store.running(op_id)
        frame = None if alive else chain.receipt_of(op_id)
        if frame is None:
            return {"state": "running" if alive else "indeterminate"}
    blob, body = receipt_parts(frame)
    return {"state": "ended", "body": body.decode(), "sig": base64.b64encode(blob).decode()}


def receipt_parts(frame: bytes) -> tuple[bytes, bytes]:
    """Signature and body of a stored receipt."""
    size = int.from_bytes(frame[1:3], "big")
    return frame[3 : 3 + size], frame[3 + size :]


def _safe_status(params: Mapping[str, Any], asker: Asker) -> Answer:
    if armed.pending():
        arming.count_on(armed.pending())
    return "done", {"pending": armed.status()}


def _safe_confirm(params: Mapping[str, Any], asker: Asker) -> Answer:
    import connection

    try:
        left = safe.confirm(params["op"], connection.began())
    except safe.Decided as verdict:
        raise Denied("rolled-back", f"too late: the change was {verdict}") from None
    except safe.Unsafe as error:
        raise Denied("action-failed", str(error)) from None
    return "done", {"op": params["op"], "state": "confirmed", **({"left": left} if left else {})}


def _safe_rollback(params: Mapping[str, Any], asker: Asker) -> Answer:
    try:
        problems = safe.rollback(params["op"])
    except safe.Decided as verdict:
        raise Denied("action-failed", f"too late: the change was {verdict}") from None
    except safe.Unsafe as error:
        raise Denied("action-failed", str(error)) from None
    return "rolled-back", {"op": params["op"], "problems": problems}


def _safe_check(params: Mapping[str, Any], asker: Asker) -> Answer:
    import checks

    return "done", {"results": checks.perform(params["expect"])}


def _safe_history(params: Mapping[str, Any], asker: Asker) -> Answer:
    import history

    return "done", {"changes": history.changes(params["limit"])}


def _safe_show(params: Mapping[str, Any], asker: Asker) -> Answer:
    import history

    found = history.change(params["op"])
    if found is None:
        raise Denied("action-failed", f"no safe change {params['op']} in the newest receipts of this server")
    return "done", found


def _audit_read(params: Mapping[str, Any], asker: Asker) -> Answer:
    """Lines of one segment of the receipt chain, or of the checkpoints: as many as fit into one reply."""
    return "done", chain.page(int(params.get("segment", 0)), int(params.get("offset", 0)))


def _applied_list(params: Mapping[str, Any], asker: Asker) -> Answer:
    return "done", {"applied": applied.everything()}


def _server_leave(params: Mapping[str, Any], asker: Asker) -> Answer:
    """Take ServerFlow off this server, once the receipt has reached the client."""
    if params["confirm"] != (store.read_file(layout.SERVER_ID) or b"").decode().strip():
        raise Denied("bad-params", "confirm must be this server's id")
    argv = ["systemd-run", "--pipe", "--collect", "--quiet", "--", layout.PYTHON, "-IS", f"{layout.CURRENT}/leave.py"]
    # It holds the server's lock on descriptor 0, so that no change begins any more.
    subprocess.Popen(
        [*argv, store.lock_path(asker.op_id)],
        stdin=asker.lock,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=layout.ENVIRONMENT,
        start_new_session=True,
    )
    kept = [folder for folder in (layout.APPS, layout.FIREWALL) if os.path.isdir(folder)]
    left = [f"{folder}/{name}" for folder in kept for name in sorted(os.listdir(folder))]
    return "done", {"left": left}


def _server_rekey(params: Mapping[str, Any], asker: Asker) -> Answer:
    import rekey

    return rekey.perform(params, asker.op_id)


def _cron_list(params: Mapping[str, Any], asker: Asker) -> Answer:
    import croncore

    return "done", croncore.cron_list()


def _cron_show(params: Mapping[str, Any], asker: Asker) -> Answer:
    import croncore

    return "done", croncore.cron_show(params["name"])


def _cron_history(params: Mapping[str, Any], asker: Asker) -> Answer:
    import croncore

    return "done", croncore.cron_history(params["name"], params["limit"])


def _cron_logs(params: Mapping[str, Any], asker: Asker) -> Answer:
    import croncore

    return "done", croncore.cron_logs(params["name"], params["run"])


def _cron_run(params: Mapping[str, Any], asker: Asker) -> Answer:
    import croncore

    return "done", croncore.cron_run(params["name"], asker.name)


def _notify_list(params: Mapping[str, Any], asker: Asker) -> Answer:
    import channels

    return "done", {"channels": channels.shown()}


def _notify_status(params: Mapping[str, Any], asker: Asker) -> Answer:
    import deliver

    return "done", deliver.status()


def _notify_test(params: Mapping[str, Any], asker: Asker) -> Answer:
    import deliver

    try:
        return "done", deliver.test(params["name"])
    except KeyError:
        raise Denied("action-failed", f"there is no channel {params['name']} on this server") from None


def _cert_list(params: Mapping[str, Any], asker: Asker) -> Answer:
    import certcore

    return "done", {"certificates": certcore.listed()}


def _cert_check(params: Mapping[str, Any], asker: Asker) -> Answer:
    import certcore

    return "done", certcore.checked(params["name"])


_ACTIONS: dict[str, Callable[[Mapping[str, Any], Asker], Answer]] = {
    "op.list": _op_list,
    "op.status": _op_status,
    "op.follow": _op_follow,
    "op.cancel": _op_cancel,
    "safe.status": _safe_status,
    "safe.confirm": _safe_confirm,
    "safe.rollback": _safe_rollback,
    "safe.check": _safe_check,
    "safe.history": _safe_history,
    "safe.show": _safe_show,
    "audit.read": _audit_read,
    "applied.list": _applied_list,
    "cron.list": _cron_list,
    "cron.show": _cron_show,
    "cron.history": _cron_history,
    "cron.logs": _cron_logs,
    "cron.run": _cron_run,
    "cert.list": _cert_list,
    "cert.check": _cert_check,
    "notify.list": _notify_list,
    "notify.status": _notify_status,
    "notify.test": _notify_test,
    "server.leave": _server_leave,
    "server.rekey": _server_rekey,
}
