"""The chains of receipts: the operator's own, and each server's."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

from serverflow_actions import registry

from ..errors import TrustError
from ..model.ids import new_ulid
from ..model.result import CommandResult, Reply, Report, Request
from .times import rfc3339
from .workspace import Workspace

if TYPE_CHECKING:
    from ..rpc.call import Caller
    from ..rpc.hello import Link


async def log(workspace: Workspace, *, limit: int) -> CommandResult:
    """The newest receipts: who did what where, and how it ended."""
    from collections import deque

    from ..trust import receipts

    names = {pin.server_id: name for name, pin in workspace.pins.items()}
    rows = deque(
        (
            _row(entry.receipt, names.get(entry.server, entry.server[:12]))
            for entry in receipts.entries(workspace.chain)
        ),
        maxlen=limit,
    )
    return CommandResult(workspace.label, data={"receipts": list(reversed(rows))})


def _row(receipt: dict[str, Any], server: str) -> dict[str, Any]:
    return {
        "at": rfc3339(receipt["finished_at"]),
        "server": server,
        "seq": receipt["seq"],
        "actor": receipt["actor"]["name"],
        "action": receipt["action"],
        "outcome": receipt["outcome"],
        "op": receipt["op_id"],
    }


async def verify(workspace: Workspace, *, against: str | None, report: Report) -> CommandResult:
    """Check our chain; with `against`, the chains of these servers too, and that none of our receipts is missing there.

    Raises TrustError with everything that is wrong.
    """
    from ..trust import receipts
    from ..trust.keys import parse_public

    identities = {pin.server_id: parse_public(pin.identity) for pin in workspace.pins.values() if pin.identity}
    problems = receipts.verify(workspace.chain, identities)
    if problems:
        raise TrustError("; ".join(problems[:20]), code="audit", hint=f"the chain is {workspace.chain}")
    entries = list(receipts.entries(workspace.chain))
    ours: dict[str, list[str]] = {}
    for entry in entries:
        ours.setdefault(entry.server, []).append(entry.body)
    data: dict[str, Any] = {"receipts": len(entries), "chain": "sound"}
    if against is None:
        return CommandResult(workspace.label, data=data)
    async with workspace.caller() as caller:

        async def work(link: Link) -> Reply:
            bodies = await _server_chain(caller, link, report)
            missing = [body for body in ours.get(link.server_id, []) if body not in bodies]
            if missing:
                seqs = ", ".join(str(json.loads(body)["seq"]) for body in missing[:10])
                raise TrustError(f"receipts that we hold are not in its chain: {seqs}", server=link.name, code="audit")
            return Reply(
                "", "done", data={"entries": len(bodies), "ours": len(ours.get(link.server_id, [])), "chain": "sound"}
            )

        servers = await workspace.on_all(workspace.select(against), work, report)
        return CommandResult(workspace.label, servers=servers, data=data)


async def _server_chain(caller: Caller, link: Link, report: Report) -> set[str]:
    """All bodies of the server's chain, each checked: signature, sequence, and the hash of the line before. Raises
    TrustError.
    """
    from ..trust import sshsig

    version = registry.load("audit.read").version
    bodies: set[str] = set()
    number, previous = 0, ""
    async with caller.hold(link):
        while True:
            request = Request("audit.read", {"since": number + 1}, read_only=True, timeout_s=60)
            page = await caller.call(link, request, new_ulid(), version, report)
            for line in page.data["lines"]:
                number += 1
                entry = json.loads(line)
                body = str(entry["body"])
                receipt = json.loads(body)
                signer = sshsig.verify(base64.b64decode(entry["sig"]), sshsig.RECEIPT, body.encode())
                if signer != link.identity or receipt["seq"] != number or receipt["prev_receipt"] != previous:
                    raise TrustError(f"its chain is broken at entry {number}", server=link.name, code="audit")
                previous = hashlib.sha256(str(line).encode()).hexdigest()
                bodies.add(body)
            if number >= page.data["total"] or not page.data["lines"]:
                return bodies
