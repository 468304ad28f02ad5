"""Certificates for people. `--json` has them as the flows gave them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..model.cronrun import records
from ..model.result import CommandResult, ServerResult

#: So many host names are shown of one.
_FEW = 3


def certificates(result: CommandResult) -> CommandResult:
    """A row for each certificate on each server, and for each that its server does not know of yet."""
    told = _told(result)
    rows = [_row(server, each) for server, each in told]
    rows += [_missing(each) for each in records(result.data, "missing")]
    notes = [
        f"{server}: the rehearsal of {each.get('name')} failed: {each['rehearsal']}"
        for server, each in told
        if each.get("rehearsal")
    ]
    if not rows and not result.error:
        notes.append("no certificates: sf cert setup")
    return replace(
        result,
        servers=tuple(map(_bare, result.servers)),
        data={"certificates": sorted(rows, key=_place)} if rows else {},
        notes=(*result.notes, *notes),
    )


def wrong(result: CommandResult) -> list[str]:
    """Those that are missing, or with which something is wrong: `web1: shop`."""
    bad = [f"{server}: {each.get('name')}" for server, each in _told(result) if each.get("wrong")]
    return sorted([*bad, *(f"{each['server']}: {each['name']}" for each in records(result.data, "missing"))])


def _told(result: CommandResult) -> list[tuple[str, Mapping[str, Any]]]:
    return [
        (row.name, each)
        for row in result.servers
        if row.reply and not row.error
        for each in records(row.reply.data, "certificates")
    ]


def _row(server: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """When it is renewed is a moment, or now: at the timer's next turn."""
    due = told.get("retry_at") if told.get("failures") else told.get("next")
    return {
        "server": server,
        "certificate": told.get("name"),
        "names": _short(told.get("names")),
        "ends_at": told.get("not_after"),
        "renews_at": due or ("now" if told.get("why") else None),
        "served": told.get("served"),
        "problem": "; ".join(map(str, told.get("wrong") or ())),
    }


def _missing(wish: Mapping[str, Any]) -> dict[str, Any]:
    return {**_row(wish["server"], wish), "problem": "not applied: sf apply"}


def _short(names: Any) -> list[str]:
    found = [str(name) for name in names] if isinstance(names, list) else []
    return [*found[:_FEW], f"{len(found) - _FEW} more"] if len(found) > _FEW else found


def _place(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row["server"]), str(row["certificate"])


def _bare(server: ServerResult) -> ServerResult:
    """Without what stands in the table."""
    return replace(server, reply=replace(server.reply, data={})) if server.reply and not server.error else server
