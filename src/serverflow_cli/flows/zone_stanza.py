"""A zone in fleet.toml and at its provider: `sf dns zone add · remove`, and what `sf dns setup` does beside."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from serverflow_actions.kit.change import Change
from serverflow_actions.kit.rrset import fqdn

from ..config.edit import Editor, edit
from ..config.load import parse, read_text
from ..errors import ConfigError, SfError, UsageError
from ..model.result import CommandResult, Reply, ServerResult
from ..plan.desired import resources
from ..plan.zones import wanted
from ..providers.errors import NoZone
from . import sealing, zones
from .config import How
from .dns_providers import Providers
from .own_servers import Edit, sealed, served
from .parent import delegation
from .workspace import Workspace

if TYPE_CHECKING:
    from ..model.fleet import Fleet
    from ..model.zone import ZoneState

PROVIDERS, ZONES = "dns.providers", "dns.zones"


async def add_zone(workspace: Workspace, zone: str, provider: str | None, how: How) -> CommandResult:
    """A zone more for a provider that is set up: the only one, unless it is named."""
    zone, known = zone.lower().rstrip("."), workspace.fleet.dns.providers
    if provider is None and len(known) == 1:
        provider = next(iter(known))
    if provider not in known:
        hint = f"--provider {' or '.join(known)}" if known else f"sf dns setup {zone} --provider cloudflare"
        raise UsageError(f"which provider is to serve {zone}?", hint=hint)
    assert provider
    name = provider
    check_name(zone)
    if stays := elsewhere(workspace.fleet, zone, name):
        raise is_elsewhere(stays, zone, name)

    def change(editor: Editor) -> None:
        editor.set_entry(ZONES, zone, {"provider": name})

    return await made(workspace, zone, Edit(name, change, {}), how)


async def remove_zone(workspace: Workspace, zone: str, delete: bool, how: How) -> CommandResult:
    """Take a zone out of the file; with `delete` its provider deletes it too, before that."""
    zone = zone.lower().rstrip(".")
    if zone not in workspace.fleet.dns.zones:
        raise UsageError(f"there is no zone {zone} in fleet.toml", hint="sf dns zone list")
    editor = Editor(read_text(workspace.folder.fleet_toml))
    editor.remove_entry(ZONES, zone)
    try:
        resources(parse(editor.text))  # before anything is deleted
    except ConfigError as error:
        raise UsageError(f"{zone} is still needed in fleet.toml: {error.message}", hint=error.hint) from None
    changes = [Change("delete", "stanza", f'{ZONES}."{zone}"')]
    if delete:
        changes.insert(0, Change("delete", "zone", zone, note="with all its records"))
    left = "" if delete else "its provider goes on to serve it as it is"
    planned = CommandResult(
        workspace.label, servers=(ServerResult(zone, Reply("", "changed", tuple(changes)), is_server=False),),
        notes=(left,) if left else (),
    )  # fmt: skip
    if how.plan:
        return planned
    if not how.approve(planned):
        raise SfError("nothing was done", code="declined")
    if delete:
        async with Providers(workspace, how.report) as providers:
            with suppress(NoZone):  # as after a run that was cut off here
                await (await providers.of(zone)).remove(fqdn(zone))
    with edit(workspace.folder) as editor:
        editor.remove_entry(ZONES, zone)
    workspace.refresh()
    return _done(planned)


async def made(workspace: Workspace, zone: str, about: Edit, how: How) -> CommandResult:
    """Let a provider have a zone, by the edit that says so."""
    name, given = about.provider, about.given
    after = about.text(workspace)
    fleet = parse(after)
    if fleet.dns.providers[name].provider == "powerdns":
        return await served(workspace, about, zone, how)
    async with Providers(workspace, how.report, fleet, given) as providers:
        provider = await providers.named(name)
        is_new = fqdn(zone) not in await provider.zones()
        changes = [Change("create", "zone", zone, note=f"at {name}")] if is_new else []
        if after != read_text(workspace.folder.fleet_toml):
            changes.append(Change("update", "file", "fleet.toml"))
        row = ServerResult(zone, Reply("", "changed" if changes else "unchanged", tuple(changes)), is_server=False)
        planned = CommandResult(workspace.label, servers=(row,))
        if how.plan or not changes:
            return planned
        if not how.approve(planned):
            raise SfError("nothing was done", code="declined")
        if is_new:
            await provider.add(fqdn(zone))
        _write(workspace, about)
        state = await provider.fetch(fqdn(zone))
        told = delegation(workspace.fleet, zone, state.nameservers)
        return replace(_done(planned), notes=(*sealed(given), *told, *_first(workspace, zone, state)))


async def provider_alone(workspace: Workspace, zone: str, about: Edit, how: How) -> CommandResult:
    """Where a zone that is elsewhere may be moved to."""
    name = about.provider
    fleet = parse(about.text(workspace))
    if fleet.dns.providers[name].provider == "powerdns":
        done = await served(workspace, about, "", how)
    else:
        lines = (Change("update", "file", "fleet.toml"),)
        row = ServerResult(zone, Reply("", "changed", lines), is_server=False)
        done = CommandResult(workspace.label, servers=(row,))
        if not how.plan:
            if not how.approve(done):
                raise SfError("nothing was done", code="declined")
            _write(workspace, about)
            done = replace(_done(done), notes=sealed(about.given))
    stays = f"{zone} stays at {fleet.dns.zones[zone].provider}: sf dns move {zone} --to {name} copies it"
    return replace(done, notes=(*done.notes, stays))


def _write(workspace: Workspace, about: Edit) -> None:
    if about.given:  # first: the file never refers to what is not there
        sealing.store(workspace, about.given)
    with edit(workspace.folder) as real:
        about.change(real)
    workspace.refresh()


def _done(planned: CommandResult) -> CommandResult:
    rows = tuple(
        replace(row, reply=replace(row.reply, outcome="done")) if row.reply else row for row in planned.servers
    )
    return replace(planned, servers=rows)


def _first(workspace: Workspace, zone: str, state: ZoneState) -> tuple[str, ...]:
    """What to do next with a zone that has records already, or is to get some."""
    notes = []
    there = [each for each in state.rrsets if (each.rrset.name, each.rrset.type) != (state.name, "NS")]
    if others := [each for each in there if each.owner != zones.mark(workspace)]:
        about = f"({len(others)} of {len(there)} rrsets): sf dns zone import {zone}"
        notes.append(f"what others have made there is left alone; to have it in fleet.toml too {about}")
    if wanted(workspace.fleet, zone):
        notes.append(f"what fleet.toml wants there comes with: sf dns apply {zone}")
    return tuple(notes)


def check_name(zone: str) -> None:
    try:
        fqdn(zone)
    except ValueError as error:
        raise UsageError(str(error)) from None


def elsewhere(fleet: Fleet, zone: str, name: str) -> str:
    """The other provider that has the zone, if one has."""
    present = fleet.dns.zones.get(zone)
    return present.provider if present and present.provider != name else ""


def is_elsewhere(provider: str, zone: str, name: str) -> UsageError:
    return UsageError(f"{zone} is at {provider} already", hint=f"sf dns move {zone} --to {name}")
