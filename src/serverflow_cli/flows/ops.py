"""Operations: what was sent, what came back, and what still runs. Views of the receipts and of the note of what was
sent.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from serverflow_actions import registry
from serverflow_actions.kit.change import from_json

from ..errors import OutcomeUnknown, TrustError, UsageError, from_code
from ..model.ids import new_ulid, ulid_time_ms
from ..model.result import CommandResult, Reply, Report, Request
from .times import rfc3339
from .workspace import Workspace

if TYPE_CHECKING:
    from ..rpc.call import Caller
    from ..rpc.hello import Link


@dataclass(frozen=True)
class Sent:
    """A command that left this machine."""

    op: str
    server: str
    server_id: str
    action: str


async def list_ops(workspace: Workspace, *, limit: int) -> CommandResult:
    """Newest first, one row an operation; an operation without a receipt from each server is open."""
    outcomes = _outcomes(workspace)
    rows: dict[str, dict[str, Any]] = {}
    for sent in reversed(list(_sent(workspace))):
        row = rows.setdefault(
            sent.op,
            {"op": sent.op, "at": rfc3339(ulid_time_ms(sent.op)), "action": sent.action, "servers": [], "outcome": []},
        )
        row["servers"].insert(0, sent.server)
        row["outcome"].insert(0, outcomes.get((sent.op, sent.server_id), "open"))
        if len(rows) > limit:
            rows.popitem()
            break
    table = [
        {**row, "servers": list(dict.fromkeys(row["servers"])), "outcome": list(dict.fromkeys(row["outcome"]))}
        for row in rows.values()
    ]
    return CommandResult(workspace.label, data={"ops": table})


async def status(workspace: Workspace, op_id: str, *, report: Report) -> CommandResult:
    """How it ended on each server: asked of the servers, and stored if it was missing here."""
    return await _ask(workspace, op_id, "op.status", report)


async def follow(workspace: Workspace, op_id: str, *, report: Report) -> CommandResult:
    """The progress from its start to its end."""
    return await _ask(workspace, op_id, "op.follow", report)


async def cancel(workspace: Workspace, op_id: str, *, report: Report) -> CommandResult:
    """Kill it where it runs; its receipt says so."""
    return await _ask(workspace, op_id, "op.cancel", report)


async def _ask(workspace: Workspace, op_id: str, action: str, report: Report) -> CommandResult:
    ids = {sent.server_id: sent.server for sent in _sent(workspace) if sent.op == op_id}
    names = [name for name, pin in workspace.pins.items() if pin.server_id in ids and name in workspace.servers]
    if not ids:
        raise UsageError(f"no operation {op_id} was sent from here", hint="sf op list")
    if not names:
        raise UsageError(f"{', '.join(sorted(set(ids.values())))} is no longer in the fleet", hint="sf audit log")
    declared = registry.load(action)
    async with workspace.caller() as caller:

        async def work(link: Link) -> Reply:
            request = Request(action, {"op": op_id}, read_only=declared.kind == "read", timeout_s=declared.timeout)
            answer = await caller.call(link, request, new_ulid(), declared.version, report)
            return outcome_of(caller, link, op_id, answer, cancelling=action == "op.cancel")

        return CommandResult(workspace.label, op_id, await workspace.on_all(names, work, report))


def outcome_of(caller: Caller, link: Link, op_id: str, answer: Reply, *, cancelling: bool) -> Reply:
    """The receipt that the server kept. Raises the error that the operation ended with; to be killed is what a
    cancellation wants.
    """
    state = answer.data.get("state")
    if state == "running":
        return Reply(op_id, "running", notes=(f"still running: sf op follow {op_id}",))
    if state == "unknown":
        raise OutcomeUnknown(
            f"the server has no operation {op_id}: the command never arrived, or it is too old",
            server=link.name,
            code="unknown-op",
        )
    if state != "ended":
        raise OutcomeUnknown(
            "the server stopped in the middle of it; look at its state before you go on",
            server=link.name,
            code="indeterminate",
        )
    try:
        text, signature = str(answer.data["body"]).encode(), base64.b64decode(str(answer.data["sig"]), validate=True)
    except (KeyError, ValueError):
        raise TrustError("the server's answer cannot be read", server=link.name, code="bad-answer") from None
    body = caller.keep_receipt(link, op_id, text, signature)
    changes = tuple(map(from_json, body["changes"]))
    reply = Reply(
        op_id,
        str(body["outcome"]),
        changes,
        {"op": op_id, "action": body["action"], "outcome": body["outcome"], **body["data"]},
        # What an operation shows once waits on the server for whoever asks first.
        secrets=answer.secrets,
        receipt=body,
    )
    if body["code"] and not (cancelling and body["code"] == "killed"):
        error = from_code(str(body["code"]), str(body["message"]), server=link.name)
        error.reply = reply
        raise error
    return reply


def _sent(workspace: Workspace) -> Iterator[Sent]:
    path = workspace.state / "sent.jsonl"
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
            yield Sent(entry["op"], entry["server"], entry["server_id"], entry["action"])
        except (ValueError, KeyError):
            continue  # a line that a crash cut off


def _outcomes(workspace: Workspace) -> dict[tuple[str, str], str]:
    from ..trust import receipts

    return {
        (entry.receipt["op_id"], entry.server): str(entry.receipt["outcome"])
        for entry in receipts.entries(workspace.chain)
    }
