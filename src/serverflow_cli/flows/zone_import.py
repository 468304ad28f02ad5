"""`sf dns zone import`: the records of a zone file, or those that a provider has, into fleet.toml."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serverflow_actions.kit.change import Change
from serverflow_actions.kit.rrset import RRset, fqdn, owner, value

from ..config.edit import Editor, edit
from ..errors import SfError
from ..model.result import CommandResult, Reply, ServerResult
from ..model.zone import Served
from ..plan.zonefile import read
from ..plan.zones import wanted
from . import zones
from .config import How
from .dns_providers import Providers
from .workspace import Workspace


async def import_zone(workspace: Workspace, zone: str, text: str | None, how: How) -> CommandResult:
    """What the file wants already is left alone, also where the values differ: that is told. Nothing is changed at the
    provider; what others made there becomes ours with `sf dns apply --adopt`.
    """
    (zone,) = zones.chosen(workspace.fleet, [zone])
    notes: list[str] = []
    if text is None:
        async with Providers(workspace, how.report) as providers:
            state = await (await providers.of(zone)).fetch(fqdn(zone))
        every = list(state.rrsets)
    else:
        parsed = read(text, fqdn(zone))
        every = [Served(each) for each in parsed.rrsets]
        notes += parsed.problems
    found = []
    for each in every:
        if problem := _problem(each.rrset, fqdn(zone)):
            notes.append(f"{each.rrset.name} {each.rrset.type} is left out: {problem}")
        elif not _is_of_others(each.rrset, fqdn(zone)):
            found.append(each)
    known = {
        (each.served.rrset.name, each.served.rrset.type): each.served.rrset for each in wanted(workspace.fleet, zone)
    }
    new = [each for each in found if (each.rrset.name, each.rrset.type) not in known]
    for each in found:
        there = known.get((each.rrset.name, each.rrset.type))
        if there and there.values != each.rrset.values:
            notes.append(f"{each.rrset.name} {each.rrset.type} is in fleet.toml with other values, and stays so")
    changes = tuple(Change("create", "record", f"{each.rrset.name} {each.rrset.type}") for each in new)
    row = ServerResult(zone, Reply("", "changed" if new else "unchanged", changes), is_server=False)
    planned = CommandResult(workspace.label, servers=(row,), notes=tuple(notes))
    if how.plan or not new:
        return planned
    if not how.approve(planned):
        raise SfError("nothing was done", code="declined")
    with edit(workspace.folder) as editor:
        _write(editor, zone, new)
    workspace.refresh()
    return CommandResult(
        workspace.label, servers=(ServerResult(zone, Reply("", "done", changes), is_server=False),),
        notes=(*notes, f"what others made at the provider becomes ours with: sf dns apply {zone} --adopt"),
    )  # fmt: skip


def _is_of_others(rrset: RRset, zone: str) -> bool:
    """The provider's own NS, and what ACME clients put there for seconds."""
    return (rrset.name, rrset.type) == (zone, "NS") or (
        rrset.type == "TXT" and "_acme-challenge" in rrset.name.split(".")
    )


def _problem(rrset: RRset, zone: str) -> str:
    """Why fleet.toml could not have it; "" if it can. Providers have types and names that are none of ours."""
    try:
        owner(rrset.name, zone)
        for each in rrset.values:
            value(rrset.type, each, zone)
    except ValueError as error:
        return str(error)
    return ""


def _write(editor: Editor, zone: str, new: list[Served]) -> None:
    editor.append_elements(("dns", "zones", zone, "records"), [dict(_element(each, fqdn(zone))) for each in new])


def _element(each: Served, zone: str) -> Iterator[tuple[str, Any]]:
    rrset = each.rrset
    yield "name", "@" if rrset.name == zone else rrset.name.removesuffix(f".{zone}")
    yield "type", rrset.type
    yield "values", list(rrset.values)
    if each.proxied:
        yield "proxied", True
    elif rrset.ttl != 3600:
        yield "ttl", f"{rrset.ttl}s" if rrset.ttl else "auto"
