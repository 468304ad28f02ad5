"""Safe changes of the past, out of the receipt chain: what each did, and which other receipt says how it ended.

What lies further back than a bounded number of lines is no longer told of.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import armed
import segments

_LINES = 5000
_BYTES = 8 << 20
_ENDINGS = ("safe.confirm", "safe.rollback")


class _End(NamedTuple):
    """`by` is "" where nobody asked for it: the timer, a reboot, or the change itself when it broke."""

    state: str
    by: str
    at: int
    problems: list[str]


def changes(limit: int) -> list[dict[str, Any]]:
    """The newest safe changes, newest first: which, whose, when, and how each ended. Times in ms since 1970."""
    found: list[dict[str, Any]] = []
    for receipt, end in _safe_changes():
        if len(found) == limit:
            break
        found.append(_told(receipt, end))
    return found


def change(op_id: str) -> dict[str, Any] | None:
    """One of them, with its paths, its changes and what could not be put back; None where it is not found."""
    for receipt, end in _safe_changes():
        if receipt["op_id"] == op_id:
            paths = list((receipt["safe"] or {}).get("paths", ()))
            return {**_told(receipt, end), "paths": paths, "changes": receipt["changes"]}
    return None


def problems(op_id: str) -> list[str] | None:
    """What the rollback of this operation could not put back; None where no receipt of one is found."""
    end = dict(filter(None, map(_ended_by, _receipts()))).get(op_id)
    return end.problems if end and end.state == "rolled-back" else None


def _told(receipt: dict[str, Any], end: _End) -> dict[str, Any]:
    return {
        "op": receipt["op_id"],
        "action": receipt["action"],
        "actor": receipt["actor"]["name"],
        "at": receipt["started_at"],
        "ended": end.state,
        "by": end.by,
        "ended_at": end.at,
        "deadline": (receipt["safe"] or {}).get("deadline", 0),
        "problems": end.problems,
    }


def _safe_changes() -> Iterator[tuple[dict[str, Any], _End]]:
    """Receipts of safe changes, newest first, each once and with its end."""
    pending = armed.pending()
    # Not in the same pass: the receipt of what was cut off is written when somebody asks for it, maybe after its end.
    # Whoever ends a change once more changes nothing: the oldest counts, and comes last.
    ends = dict(filter(None, map(_ended_by, _receipts())))
    seen: set[str] = set()
    for receipt in _receipts():
        op_id = receipt["op_id"]
        # A segment that is closed while we read comes twice.
        if op_id not in seen and _is_safe_change(receipt, ends):
            seen.add(op_id)
            yield receipt, ends.get(op_id) or _own_end(receipt, pending)


def _is_safe_change(receipt: dict[str, Any], ends: dict[str, _End]) -> bool:
    """A denial may name any operation. One that was cut off leaves no word of being safe; the timer's receipt does."""
    if receipt["action"] in _ENDINGS or receipt["outcome"] == "denied":
        return False
    return (
        receipt["outcome"] in ("pending-confirm", "rolled-back")
        or receipt["safe"] is not None
        or receipt["op_id"] in ends
    )


def _ended_by(receipt: dict[str, Any]) -> tuple[str, _End] | None:
    """The operation that a receipt ends, and how."""
    data, at = receipt["data"], receipt["finished_at"]
    if receipt["action"] == "safe.confirm" and receipt["outcome"] in ("done", "unchanged") and data.get("op"):
        return str(data["op"]), _End("confirmed", receipt["actor"]["name"], at, [])
    if receipt["action"] == "safe.rollback" and receipt["outcome"] == "rolled-back":
        problems = [str(one) for one in data.get("problems", ())]
        op_id = receipt["trigger"] or str(data.get("op", ""))
        return op_id, _End("rolled-back", "" if receipt["trigger"] else receipt["actor"]["name"], at, problems)
    return None


def _own_end(receipt: dict[str, Any], pending: str) -> _End:
    if receipt["outcome"] == "rolled-back":
        problems = [str(one) for one in receipt["data"].get("problems", ())]
        return _End("rolled-back", "", receipt["finished_at"], problems)
    return _End("pending" if receipt["op_id"] == pending else "unknown", "", 0, [])


def _receipts() -> Iterator[dict[str, Any]]:
    """The bodies of the chain's newest lines. A damaged one is passed over: `sf audit verify` is who complains."""
    size = 0
    for line in islice(segments.newest(), _LINES):
        size += len(line)
        if size > _BYTES:
            break
        try:
            body = json.loads(json.loads(line)["body"])
        except (ValueError, LookupError, TypeError):
            continue
        yield body
