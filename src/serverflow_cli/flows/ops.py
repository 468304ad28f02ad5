"""Operations: what was sent, what came back, and what still runs. Views of the receipts and of the note of what was
sent.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from serverflow_actions import registry
from serverflow_actions.kit.change import from_json

from ..errors import ActionFailed, OutcomeUnknown, RolledBack, SfError, TrustError, UsageError, from_code
from ..model.ids import new_ulid, ulid_time_ms
from ..model.result import CommandResult, Reply, Report, Request, reply_of
from .times import rfc3339
from .workspace import Workspace

if TYPE_CHECKING:
    from ..rpc.call import Caller
    from ..rpc.hello import Link

#: What they make of the safe change that they are about.
_ENDINGS = {"safe.confirm": "confirmed", "safe.rollback": "rolled-back"}
#: Of an operation without a receipt here: it runs, or it has ended since and nobody has asked.
_UNKNOWN = "unknown"
#: So many operations are named where it is not clear which one is meant.
_NAMED = 10


@dataclass(frozen=True)
class Sent:
    """A command that left this machine."""

    op: str
    server: str
    server_id: str
    action: str


async def list_ops(workspace: Workspace, *, limit: int) -> CommandResult:
    """Newest first, one row an operation; `outcome` is unknown where no receipt came. No server is asked."""
    outcomes = _outcomes(workspace)
    rows: dict[str, dict[str, Any]] = {}
    for sent in reversed(list(_sent(workspace))):
        row = rows.setdefault(
            sent.op,
            {"op": sent.op, "at": rfc3339(ulid_time_ms(sent.op)), "action": sent.action, "servers": [], "outcome": []},
        )
        row["servers"].insert(0, sent.server)
        row["outcome"].insert(0, outcomes.get((sent.op, sent.server_id), _UNKNOWN))
        if len(rows) > limit:
            rows.popitem()
            break
    table = [
        {**row, "servers": list(dict.fromkeys(row["servers"])), "outcome": list(dict.fromkeys(row["outcome"]))}
        for row in rows.values()
    ]
    unsettled = [row["op"] for row in table if _UNKNOWN in row["outcome"]]
    notes = (f"unknown: not told here yet how it ended; `sf op status {unsettled[0]}` asks",) if unsettled else ()
    return CommandResult(workspace.label, data={"ops": table}, notes=notes)


async def named(workspace: Workspace, prefix: str) -> CommandResult:
    """`op` is the one operation sent from here whose id begins so. Raises UsageError, which lists them where there are
    more.
    """
    found: dict[str, Sent] = {sent.op: sent for sent in _sent(workspace) if sent.op.startswith(prefix)}
    if not found:
        hint = "sf op list; one that was sent from another machine goes by its whole id"
        raise UsageError(f"no operation was sent from here whose id begins with {prefix}", hint=hint)
    if len(found) > 1:
        lines = [f"{op}  {found[op].action}" for op in sorted(found, reverse=True)]
        more = [f"and {len(lines) - _NAMED} more"] if len(lines) > _NAMED else []
        said = "\n".join([f"{len(found)} operations begin with {prefix}", *lines[:_NAMED], *more])
        raise UsageError(said, hint="add more of its characters")
    return CommandResult(workspace.label, data={"op": next(iter(found))})


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
            ended = outcome_of(caller, link, op_id, answer, cancelling=action == "op.cancel")
            if ended.outcome != "pending-confirm":
                return ended
            return await _since_then(caller, link, ended, report)

        return CommandResult(workspace.label, op_id, await workspace.on_all(names, work, report))


async def _since_then(caller: Caller, link: Link, ended: Reply, report: Report) -> Reply:
    """What became of a safe change that waited for confirmation when its receipt was written.

    Raises RolledBack, or OutcomeUnknown while it still waits and where nobody can say.
    """
    declared = registry.load("safe.show")
    request = Request(declared.name, {"op": ended.op_id}, read_only=True, timeout_s=declared.timeout)
    by_hand = f"sf safe show {ended.op_id} --on {link.name}"
    try:
        told = (await caller.call(link, request, new_ulid(), declared.version, report)).data
    except (TrustError, ActionFailed) as error:
        if reply_of(error) is None:
            raise
        told, by_hand = {}, error.message
    if told.get("ended") == "confirmed":
        return replace(ended, outcome="done", data={**ended.data, "outcome": "confirmed"})
    failure: SfError = OutcomeUnknown("nobody can say how this safe change ended", server=link.name, hint=by_hand)
    if told.get("ended") == "rolled-back":
        problems = told.get("problems")
        left = "; not all could be put back: " + "; ".join(map(str, problems)) if isinstance(problems, list) else ""
        failure = RolledBack(f"it has gone back{left if problems else ''}", server=link.name, hint=by_hand)
    elif told.get("ended") == "pending":
        hint = f"sf safe confirm {ended.op_id} --on {link.name}"
        failure = OutcomeUnknown("it waits for confirmation", server=link.name, hint=hint, code="pending-confirm")
    failure.reply = ended
    raise failure


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

    found: dict[tuple[str, str], str] = {}
    for entry in receipts.entries(workspace.chain):
        receipt, ended = entry.receipt, _ENDINGS.get(entry.receipt["action"])
        found[receipt["op_id"], entry.server] = str(receipt["outcome"])
        about = (str(receipt["data"].get("op", "")), entry.server)
        if ended and not receipt["code"] and found.get(about) == "pending-confirm":
            found[about] = ended
    return found
