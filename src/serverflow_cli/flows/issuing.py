"""Getting the certificates that are not on their servers as the file says, before a route needs them.

What is merely due by time is the timer's, with its pauses after failures: whoever applies in a loop must not spend what
the authority gives, and a plan must not change by itself.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from serverflow_actions.kit.change import Change

from ..errors import SfError, Unreachable
from ..model.cronrun import records
from ..model.result import CommandResult, Reply, Report, ServerResult
from ..plan.wishes import wishes
from .actions import read, run_action
from .workspace import Workspace

if TYPE_CHECKING:
    from ..model.fleet import Fleet
    from ..plan.resource import Resource

#: Why a certificate is not as the file says, in a server's words (remote/certdue.py); its other words are about time.
_NOT_AS_SAID = ("missing", "changed", "revoked")

Approve = Callable[[CommandResult], bool]
#: By server and name.
Issued = dict[tuple[str, str], CommandResult]


class _Meant(NamedTuple):
    """`made` is what the file says of it, where that is among it; of one that is `unserved` it is no matter whether
    routes show it.
    """

    made: Mapping[str, Any]
    unserved: bool


class _Told(NamedTuple):
    """What servers have, by server and name; and the rows of those that did not tell."""

    known: Mapping[str, Mapping[str, Mapping[str, Any]]]
    silent: Mapping[str, ServerResult]


async def issue(
    workspace: Workspace, resources: Iterable[Resource], approve: Approve, lock_wait_s: int, report: Report
) -> Issued:
    """Of certificates those that are not as the file says; of routes, look whether theirs are served. Servers are asked
    first what they have: one that does not tell gets none, and that is noted. A result for each, by server and name;
    errors about all of them are in there too, since what was done before has to be told. On a server they come one
    after the other, which its lock would enforce anyway.

    Raises SfError (declined) when there is no yes to it; `approve` knows what was shown.
    """
    by_server = _meant(workspace.fleet, resources)
    if not by_server:
        return {}
    try:
        told = await _told(workspace, by_server, report)
    except SfError as error:
        return {(server, name): _failed(server, error) for server, names in by_server.items() for name in names}
    due = _due(by_server, told)
    if due and not approve(_shown(workspace, due)):
        raise SfError("nothing was done", code="declined")

    async def of(server: str, names: Iterable[str]) -> Issued:
        return {
            (server, name): await run(
                workspace,
                "cert.issue",
                server,
                {"name": name, "unserved": True} if by_server[server][name].unserved else {"name": name},
                lock_wait_s,
                report,
            )
            for name in names
        }

    found = await asyncio.gather(*(of(server, names) for server, names in due.items()))
    untold = {(server, name): _not_told(row) for server, row in told.silent.items() for name in by_server[server]}
    return {**untold, **{key: result for results in found for key, result in results.items()}}


async def planned(workspace: Workspace, fleet: Fleet, resources: Iterable[Resource], report: Report) -> CommandResult:
    """What `issue` would have issued, as a plan of certificates and routes of `fleet` shows it."""
    by_server = _meant(fleet, resources)
    try:
        told = await _told(workspace, by_server, report) if by_server else _Told({}, {})
    except SfError as error:  # about our key, say: what comes before it has told, or will
        told = _Told({}, {server: ServerResult(server, error=error) for server in by_server})
    notes = tuple(map(_untold, told.silent))
    return replace(_shown(workspace, _due(by_server, told)), notes=notes)


async def missing(
    workspace: Workspace, certificates: Iterable[Resource], report: Report
) -> tuple[set[tuple[str, str]], dict[str, ServerResult]]:
    """Those of these that are not on their servers, by server and name; and the servers that do not answer."""
    asked = {(each.server, str(each.params["name"])) for each in certificates}
    servers = dict.fromkeys(sorted(server for server, _ in asked))
    told = await _told(workspace, servers, report) if servers else _Told({}, {})
    away = {server: row for server, row in told.silent.items() if isinstance(row.error, Unreachable)}
    absent = {(at, name) for at, name in asked if not told.known.get(at, {}).get(name, {}).get("path")}
    return {(server, name) for server, name in absent if server not in away}, away


async def run(
    workspace: Workspace,
    action: str,
    server: str,
    params: Mapping[str, Any],
    lock_wait_s: int,
    report: Report,
    *,
    plan: bool = False,
) -> CommandResult:
    """Without a question: what it is part of was agreed to. Errors are in the result, also those about all servers."""
    try:
        return await run_action(
            workspace,
            action,
            server,
            params,
            secrets={},
            plan=plan,
            approve=lambda _: True,
            timeout_s=None,
            lock_wait_s=lock_wait_s,
            report=report,
        )
    except SfError as error:
        return _failed(server, error)


def _failed(server: str, error: SfError) -> CommandResult:
    return CommandResult(servers=(ServerResult(server, error=copy.copy(error)),))


def _meant(fleet: Fleet, resources: Iterable[Resource]) -> dict[str, dict[str, _Meant]]:
    """The certificates that these are, or need, by server and name."""
    ours = {(wish.server, wish.name) for wish in wishes(fleet)}
    found: dict[str, dict[str, _Meant]] = {}
    for each in resources:
        is_certificate = each.action == "cert.set"
        name = str(each.params.get("name" if is_certificate else "certificate"))
        if (each.server, name) not in ours:
            continue
        known = found.setdefault(each.server, {}).get(name, _Meant({}, unserved=True))
        made = each.params if is_certificate else known.made
        found[each.server][name] = _Meant(made, unserved=known.unserved and is_certificate)
    return found


async def _told(workspace: Workspace, servers: Collection[str], report: Report) -> _Told:
    told = await read(workspace, "cert.list", ",".join(servers), {}, report)
    known = {
        row.name: {str(each.get("name")): each for each in records(row.reply.data, "certificates")}
        for row in told.servers
        if row.reply and not row.error
    }
    return _Told(known, {row.name: replace(row, reply=None) for row in told.servers if row.name not in known})


def _due(by_server: Mapping[str, Mapping[str, _Meant]], told: _Told) -> dict[str, list[str]]:
    """The names, by server, without servers of which there are none."""
    found = {
        server: [name for name, meant in by_server[server].items() if _is_due(has.get(name), meant)]
        for server, has in told.known.items()
    }
    return {server: names for server, names in found.items() if names}


def _is_due(row: Mapping[str, Any] | None, meant: _Meant) -> bool:
    if row is None or not row.get("path") or row.get("why") in _NOT_AS_SAID:
        return True
    end = row.get("not_after")
    is_over = isinstance(end, int) and 0 < end <= time.time() * 1000
    return is_over or _will_change(row, meant.made) or (not meant.unserved and row.get("served") is False)


def _will_change(row: Mapping[str, Any], made: Mapping[str, Any]) -> bool:
    """Whether a server will say `changed` once it is told what the file says now."""
    names = row.get("names")
    if not made or not isinstance(names, list) or not names:
        return False
    return {*map(str, names)} != {*made["names"]} or row.get("directory") != made["directory"]


def _shown(workspace: Workspace, due: Mapping[str, Iterable[str]]) -> CommandResult:
    rows = (
        ServerResult(server, Reply("", "done", tuple(Change("run", "certificate", name) for name in names)))
        for server, names in due.items()
    )
    return CommandResult(workspace.label, servers=tuple(rows))


def _not_told(row: ServerResult) -> CommandResult:
    """What needs a certificate of a server that is gone has to wait; one that may not tell may have it."""
    is_gone = isinstance(row.error, Unreachable)
    return CommandResult(servers=(row,)) if is_gone else CommandResult(notes=(_untold(row.name),))


def _untold(server: str) -> str:
    return f"{server}: it did not tell which certificates it has: none is issued there now"
