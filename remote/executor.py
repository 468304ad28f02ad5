"""One change or task, from job to receipt, as a unit of its own: it outlives the SSH session that asked for it.

Root, and the only holder of the identity key on this path. From the sandboxed worker it takes bounded frames only.
Started by the runner as `executor.py OP_ID`, with the server's lock on descriptor 0 and the
operation's own on descriptor 1.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from typing import Any

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)

import applied  # noqa: E402  (the folder has to be on the path first: python3 -IS)
import armed  # noqa: E402
import chain  # noqa: E402
import layout  # noqa: E402
import receipt  # noqa: E402
import safe  # noqa: E402
import store  # noqa: E402
from run import Progress, Run, failed, shortened  # noqa: E402
from serverflow_actions.kit.host import HostError  # noqa: E402
from signing import Identity  # noqa: E402

#: Codes that are outcomes of their own.
_OUTCOMES = ("timeout", "out-of-memory", "killed", "rolled-back", "indeterminate")


def finish(run: Run, end: dict[str, Any]) -> dict[str, Any]:
    """The receipt's body."""
    job, code = run.job, end["code"]
    if code in ("plan-changed", "base-changed"):
        outcome = "denied"
    elif code:
        outcome = code if code in _OUTCOMES else "failed"
    elif run.safely.armed:
        outcome = "pending-confirm"
    else:
        outcome = "done" if run.changes or job["manifest"]["kind"] == "task" else "unchanged"
    return receipt.build(
        job["about"],
        outcome,
        code=code,
        message=end["message"],
        exit=run.exit,
        output=run.output.summary(),
        sandbox={"profile": job["manifest"]["profile"], "effective": run.effective},
        changes=shortened(run.changes),
        data=end["data"],
        plan_sha256=end["plan_sha256"],
        base=_base(job, code or ("pending" if run.safely.armed else "")),
        safe=armed.status() if outcome == "pending-confirm" else None,
        trigger=job.get("trigger", ""),
    )


def _base(job: dict[str, Any], code: str) -> dict[str, Any] | None:
    """What counts as last applied from now on; None for a resource that was removed, or that is none."""
    base = job["base"]
    if not base or code:
        return applied.last(base["resource"]) if base else None
    return _next_base(job)


def _next_base(job: dict[str, Any]) -> dict[str, Any] | None:
    base = job["base"]
    if not base["to"]:
        return None
    about = job["about"]
    told = {"resource": base["resource"], "hash": base["to"], "op_id": about["op_id"]}
    return {**told, "by": about["actor"]["name"], "at": store.now_ms()}


def record(run: Run, end: dict[str, Any], body: dict[str, Any]) -> None:
    """The chain first: nothing may count as applied without a receipt that says so. Then the rest, as far as the disk
    has room: whoever asks for the receipt finds it in the chain.
    """
    job = run.job
    frame = chain.append_receipt(Identity(), body)
    with contextlib.suppress(OSError):
        if job["base"] and not end["code"] and not run.safely.armed:
            applied.record(job["base"]["resource"], body["base"])
    with contextlib.suppress(OSError):
        if end["secrets"]:
            shown = f"{layout.RUN}/{job['about']['op_id']}"
            os.makedirs(shown, mode=0o700, exist_ok=True)
            store.write_file(f"{shown}/shown-once", json.dumps(end["secrets"]).encode())
    with contextlib.suppress(OSError):
        store.write_file(f"{run.folder}/receipt", frame)


def _settled(run: Run, end: dict[str, Any]) -> dict[str, Any]:
    """Validated; armed, it waits for its confirmation from here on."""
    if end["code"]:
        run.safely.remember(run.changes)
        return end
    if run.job["manifest"]["schedules"] or run.job["action"] == "cron.command":
        import cronvouch

        with contextlib.suppress(OSError):  # without a voucher it does not run, and an alert says so
            cronvouch.vouch(run.job)
    base = run.job["base"]
    then = {"resource": base["resource"], "to": _next_base(run.job)} if base else None
    try:
        run.safely.settle(run.changes, then)
    except (HostError, safe.Unsafe) as error:
        return {**end, "code": "action-failed", "message": str(error)}
    return end


def _taken_back(run: Run, end: dict[str, Any]) -> dict[str, Any]:
    """A safe change that failed, and what became of what it had done."""
    if not (end["code"] and run.safely.armed):
        return end
    is_back, said = run.safely.give_up()
    return {**end, "code": "rolled-back" if is_back else "indeterminate", "message": f"{end['message']} ({said})"}


def main(op_id: str) -> None:
    folder = store.op_folder(op_id)
    if os.path.exists(f"{folder}/receipt"):
        return  # somebody has concluded already that it never ran
    with open(f"{folder}/job", "rb") as file:
        job = json.load(file)
    run = Run(job, folder, Progress(folder))
    try:
        end = _settled(run, run.perform())
    except Exception as error:  # whatever breaks here, the caller gets a signed answer
        end = failed("action-failed", f"internal error in the executor: {type(error).__name__}: {error}")
    finally:
        shutil.rmtree(f"{layout.RUN}/{op_id}", ignore_errors=True)
        if job["blobs"]:
            shutil.rmtree(job["blobs"], ignore_errors=True)
    end = _taken_back(run, end)
    record(run, end, finish(run, end))
    if run.broker.reboot and not end["code"]:
        # Long enough for the receipt to reach the client.
        subprocess.run(
            ["systemd-run", "--quiet", "--on-active=2s", "--timer-property=AccuracySec=100ms", "systemctl", "reboot"],
            env=layout.ENVIRONMENT,
            check=False,
        )


if __name__ == "__main__":
    main(sys.argv[1])
