"""One change or task, from job to receipt, as a unit of its own: it outlives the SSH session that asked for it.

Root, and the only holder of the identity key on this path. From the sandboxed worker it takes bounded frames only.
Started by the runner as `executor.py OP_ID`, with the server's lock on descriptor 0.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)

import layout  # noqa: E402  (the folder has to be on the path first: python3 -IS)
import receipt  # noqa: E402
import store  # noqa: E402
from run import ENVIRONMENT, Progress, Run, failed  # noqa: E402
from signing import Identity  # noqa: E402

_OUTCOMES = {"timeout": "timeout", "out-of-memory": "out-of-memory", "killed": "killed"}


def finish(run: Run, end: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The receipt's body and the values that are shown once."""
    job, code = run.job, end["code"]
    changed = bool(run.changes)
    if code in ("plan-changed", "base-changed"):
        outcome = "denied"
    elif code:
        outcome = _OUTCOMES.get(code, "failed")
    else:
        outcome = "done" if changed or job["manifest"]["kind"] == "task" else "unchanged"
    base = job["base"]
    if base and not code:
        entry = {
            "resource": base["resource"],
            "hash": base["to"],
            "by": job["about"]["actor"]["name"],
            "op_id": job["about"]["op_id"],
            "at": store.now_ms(),
        }
        store.record_applied(base["resource"], entry if base["to"] else None)
    body = receipt.build(
        job["about"],
        outcome,
        code=code,
        message=end["message"],
        exit=run.exit,
        output=run.output.summary(),
        sandbox={"profile": job["manifest"]["profile"], "effective": run.effective},
        changes=run.changes,
        data=end["data"],
        plan_sha256=end["plan_sha256"],
        base=store.applied(base["resource"]) if base else None,
    )
    return body, end["secrets"]


def main(op_id: str) -> None:
    folder = store.op_folder(op_id)
    with open(f"{folder}/job", "rb") as file:
        job = json.load(file)
    progress = Progress(folder)
    run = Run(job, folder, progress)
    try:
        end = run.perform()
    except Exception as error:  # whatever breaks here, the caller gets a signed answer
        end = failed("action-failed", f"internal error in the executor: {type(error).__name__}: {error}")
    finally:
        shutil.rmtree(f"{layout.RUN}/{op_id}", ignore_errors=True)
        if job["blobs"]:
            shutil.rmtree(job["blobs"], ignore_errors=True)
    body, secrets = finish(run, end)
    if secrets:
        os.makedirs(f"{layout.RUN}/{op_id}", mode=0o700, exist_ok=True)
        store.write_file(f"{layout.RUN}/{op_id}/shown-once", json.dumps(secrets).encode())
    frame = store.append_receipt(Identity(), body)
    store.write_file(f"{folder}/receipt", frame)
    if run.broker.reboot and not end["code"]:
        # Long enough for the receipt to reach the client.
        subprocess.run(
            ["systemd-run", "--quiet", "--on-active=2s", "--timer-property=AccuracySec=100ms", "systemctl", "reboot"],
            env=ENVIRONMENT,
            check=False,
        )


if __name__ == "__main__":
    main(sys.argv[1])
