"""A safe change that waits on a server, looked at beside SSH: with docker, cat and systemctl, by nothing of ours."""

from __future__ import annotations

import json
from typing import Any

from .attacker import Answer, Client
from .operator import eventually
from .target import Target
from .victim import STATE

RUNNER = "/usr/local/libexec/serverflow/runner"


def waiting(target: Target) -> str:
    """The operation that waits for confirmation; "" for none."""
    return target.run("cat", f"{STATE}/safe/pending", check=False).stdout


def steps(target: Target, op: str) -> list[str]:
    """What its rollback will do, as the journal has it."""
    return list(json.loads(target.run("cat", f"{STATE}/safe/{op}/manifest").stdout)["steps"])


def unit(op: str) -> str:
    """What the timer starts at the deadline."""
    return f"serverflow-rollback-{op.lower()}.service"


def unit_is(target: Target, op: str) -> str:
    """What systemd says of it: running, auto-restart …"""
    return target.run("systemctl", "show", "--value", "--property=SubState", unit(op)).stdout.strip()


def reach_deadline(target: Target) -> str:
    """The deadline, at once, of whatever waits when nothing is at work any more; the operation, "" for none.

    Also where a crash came before the timer was set, as the boot unit would.
    """
    eventually(lambda: not _at_work(target), "no operation is at work", timeout=60)
    op = waiting(target)
    if op:
        target.run(RUNNER, "rollback", op)
        assert waiting(target) == ""
    return op


def _at_work(target: Target) -> str:
    return target.run("systemctl", "list-units", "--plain", "--no-legend", "serverflow-op-*").stdout.strip()


def until_over(target: Target, op: str, timeout: float = 30) -> None:
    """Wait for the timer to do its work."""
    eventually(lambda: waiting(target) != op, f"{op} waits no more", timeout)


def receipts(target: Target) -> list[dict[str, Any]]:
    """The bodies of the server's chain, oldest first."""
    text = target.run("cat", f"{STATE}/receipts.chain").stdout
    return [json.loads(json.loads(line)["body"]) for line in text.splitlines()]


def way_back(target: Target, op: str) -> dict[str, Any]:
    """The one receipt that says what the rollback of this operation did."""
    (found,) = (body for body in receipts(target) if body["trigger"] == op)
    assert found["outcome"] == "rolled-back"
    return found


def begin(client: Client, action: str, params: dict[str, Any], seconds: int = 600, **fields: Any) -> str:
    """A safe change that is left to wait."""
    answer = client.ask(action, params, confirm_s=seconds, **fields)
    assert answer.verdict == "pending-confirm", answer.body
    assert answer.body["safe"]["op_id"] == waiting_in(answer)
    return waiting_in(answer)


def waiting_in(answer: Answer) -> str:
    return str(answer.body["op_id"])
