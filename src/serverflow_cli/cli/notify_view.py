"""What servers tell of their alerts, for people. `--json` has it as they told it.

What one of them says wrongly must not hide what the others say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..model.cronrun import records
from ..model.result import CommandResult, ServerResult
from ..ui.units import time


def status(result: CommandResult, *, local: bool) -> CommandResult:
    """A row for each channel on each server; remarks on what is open, was given up or lost."""
    told = {s.name: s.reply.data for s in result.servers if s.reply and not s.error}
    rows = [_row(server, channel) for server, data in told.items() for channel in records(data, "channels")]
    notes = [f"{server}: {remark}" for server, data in told.items() for remark in _remarks(data, local)]
    if told and not rows:
        notes.append("no channels: sf notify add")
    return replace(
        result,
        servers=tuple(map(_bare, result.servers)),
        data={"channels": rows} if rows else {},
        notes=(*result.notes, *notes),
    )


def _row(server: str, channel: Mapping[str, Any]) -> dict[str, Any]:
    """`said` is the last refusal, as long as nothing was sent after it."""
    sent = _number(channel, "sent")
    failed = _number(channel, "failed") > sent
    return {
        "server": server,
        "channel": channel.get("name"),
        "where": channel.get("where"),
        "sent_at": sent * 1000,
        "waiting": channel.get("waiting"),
        "gave_up": channel.get("gave_up"),
        "next_at": _number(channel, "next") * 1000,
        "said": channel.get("problem") or (channel.get("said") if failed else ""),
    }


def _remarks(data: Mapping[str, Any], local: bool) -> Iterator[str]:
    for one in records(data, "open"):
        count, since = _number(one, "count"), _number(one, "since")
        times = f", {count} times" if count > 1 else ""
        begun = f" since {time(since * 1000, local=local)}" if since else ""
        yield f"{one.get('severity', '-')}: {one.get('key', '-')}{begun}{times}"
    for letter in records(data, "spool"):
        for channel, entry in _record(letter, "to").items():
            if isinstance(entry, Mapping) and entry.get("state") == "gave-up":
                what = f"{letter.get('key', '-')} ({letter.get('title', '-')})"
                yield f"{channel} did not get {what}: {entry.get('said', '-')}"
    if lost := _number(_record(data, "lost"), "count"):
        yield f"{lost} alerts were lost: too many waited, or they were damaged"


def _number(record: Mapping[str, Any], key: str) -> int:
    found = record.get(key)
    return found if type(found) is int else 0


def _record(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = record.get(key)
    return found if isinstance(found, Mapping) else {}


def _bare(server: ServerResult) -> ServerResult:
    """Without what stands in the table."""
    return replace(server, reply=replace(server.reply, data={})) if server.reply and not server.error else server
