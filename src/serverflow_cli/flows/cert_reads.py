"""What servers have of the certificates that they are to have: `sf cert list`, and `sf cert check` at the endpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..errors import UsageError
from ..model.cronrun import records
from ..model.result import CommandResult, Report, ServerResult
from ..plan.wishes import endpoints, wishes
from .actions import read
from .workspace import Workspace

Row = dict[str, Any]


async def listed(workspace: Workspace, *, selector: str | None, timeout_s: int | None, report: Report) -> CommandResult:
    """Each certificate as its server tells of it, and in `wrong` what is wrong with it, in sentences. `served` is None
    where no endpoint has to show it. `missing` are those of fleet.toml that their servers do not know of.
    """
    if not workspace.servers:
        return CommandResult(workspace.label)
    found = await read(workspace, "cert.list", selector or "all", {}, report, timeout_s)
    there = {row.name: {str(each.get("name")) for each in _of(row)} for row in found.servers if not row.error}
    missing = [
        {"server": wish.server, "name": wish.name, "names": list(wish.names)}
        for wish in wishes(workspace.fleet)
        if wish.server in there and wish.name not in there[wish.server]
    ]
    shown = endpoints(workspace.fleet)
    rows = tuple(
        _with(row, [judged(each, bool(shown.get((row.name, str(each.get("name")))))) for each in _of(row)])
        for row in found.servers
    )
    return replace(found, fleet=workspace.label, servers=rows, data={"missing": missing} if missing else {})


async def checked(
    workspace: Workspace, name: str | None, *, selector: str | None, timeout_s: int | None, report: Report
) -> CommandResult:
    """As `listed`, of one certificate or of all, with what each endpoint serves right now. Raises UsageError."""
    found = await listed(workspace, selector=selector, timeout_s=timeout_s, report=report)
    rows = {row.name: [each for each in _of(row) if name in (None, each.get("name"))] for row in found.servers}
    missing = [each for each in records(found.data, "missing") if name in (None, each["name"])]
    if name and not missing and not any(rows.values()) and not found.failures:
        raise UsageError(f"no server has a certificate {name}", hint="sf cert list")
    servers = {row.name: _with(row, []) for row in found.servers}
    for each in sorted({str(entry.get("name")) for found_there in rows.values() for entry in found_there}):
        on = [server for server, there in rows.items() if any(entry.get("name") == each for entry in there)]
        looked = await read(workspace, "cert.check", ",".join(on), {"name": each}, report, timeout_s)
        for row in looked.servers:
            before = servers[row.name]
            if row.error or not row.reply:
                servers[row.name] = replace(before, error=before.error or row.error)
            else:
                servers[row.name] = _with(before, [*_of(before), _looked(row.reply.data)])
    return replace(found, servers=tuple(servers.values()), data={"missing": missing} if missing else {})


def wrong(told: Mapping[str, Any], now_ms: int) -> Iterator[str]:
    """What is wrong with a certificate, by what its server tells of it (remote/certcore.py)."""
    until, failures, seen = told.get("not_after"), told.get("failures"), records(told, "endpoints")
    if told.get("problem"):
        yield str(told["problem"])
    if failures:
        yield f"{failures} failed in a row: {told.get('said') or 'nobody said why'}"
    if not told.get("path"):
        yield "there is none yet"
        return
    if not isinstance(until, int) or until <= now_ms:
        yield "it is expired"
    if told.get("revoked"):
        yield f"it is revoked ({told['revoked']})"
    # What was seen just now goes before what the server remembers.
    unseen = [each.get("problem") for each in seen] if seen else [told.get("not_served")]
    yield from (f"not served: {said}" for said in unseen if said)


def judged(told: Mapping[str, Any], asked: bool) -> Row:
    """What a server tells of a certificate, with what is wrong with it. `asked` says whether there is an endpoint:
    without one nobody has looked, whatever a server says; nor has one whose wish does not name it yet.
    """
    is_known = asked and told.get("path") and told.get("served") is not None
    served = told.get("served") is True if is_known else None
    return {**told, "served": served, "wrong": list(wrong(told, int(time.time() * 1000)))}


def _looked(told: Mapping[str, Any]) -> Row:
    """What was seen just now goes before what the server remembers."""
    seen = records(told, "endpoints")
    return judged({**told, "served": not any(each.get("problem") for each in seen)}, bool(seen))


def _of(row: ServerResult) -> list[Mapping[str, Any]]:
    return records(row.reply.data, "certificates") if row.reply and not row.error else []


def _with(row: ServerResult, certificates: list[Any]) -> ServerResult:
    if row.error or not row.reply:
        return row
    return replace(row, reply=replace(row.reply, data={"certificates": certificates}))
