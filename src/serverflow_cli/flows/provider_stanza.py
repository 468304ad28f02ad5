"""A provider of zones in fleet.toml: `sf dns provider list · remove`. `sf dns setup` makes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from serverflow_actions.kit.change import Change

from ..config.edit import Editor, edit
from ..config.load import parse, read_text
from ..config.references import references
from ..errors import ConfigError, SfError, UsageError
from ..model.result import CommandResult, Reply, ServerResult
from ..plan.desired import resources
from . import vault
from .config import How
from .workspace import Workspace

if TYPE_CHECKING:
    from ..model.fleet import CloudflareDns, PowerDns

_TABLE = "dns.providers"


def listed(workspace: Workspace) -> CommandResult:
    """What the file has; nobody is asked."""
    dns = workspace.fleet.dns
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "provider": settings.provider,
            "servers": _servers(settings),
            "zones": [zone for zone, stanza in dns.zones.items() if stanza.provider == name],
        }
        for name, settings in dns.providers.items()
    ]
    return CommandResult(
        workspace.label, data={"providers": rows}, notes=() if rows else ("no providers: sf dns setup",)
    )


async def remove(workspace: Workspace, name: str, how: How) -> CommandResult:
    """Take a provider that has no zones any more out of the file. Its servers are not contacted: what goes on there is
    told. Raises UsageError.
    """
    dns = workspace.fleet.dns
    if name not in dns.providers:
        raise UsageError(f"there is no {_TABLE}.{name} in fleet.toml", hint="sf dns provider list")
    if zones := [zone for zone, stanza in dns.zones.items() if stanza.provider == name]:
        raise UsageError(
            f"{_TABLE}.{name} has {', '.join(zones)}",
            hint=f"first: sf dns zone remove {zones[0]}, or sf dns move {zones[0]} --to NAME",
        )

    def change(editor: Editor) -> None:
        editor.remove_entry(_TABLE, name)

    editor = Editor(read_text(workspace.folder.fleet_toml))
    change(editor)
    try:
        resources(parse(editor.text))
    except ConfigError as error:
        raise UsageError(f"{_TABLE}.{name} is still needed in fleet.toml: {error.message}", hint=error.hint) from None
    settings = dns.providers[name]
    notes = tuple(_left(settings))
    changes = (Change("delete", "stanza", f"{_TABLE}.{name}"),)
    row = ServerResult(name, Reply("", "changed", changes), is_server=False)
    planned = CommandResult(workspace.label, servers=(row,), notes=notes)
    if how.plan:
        return planned
    if not how.approve(planned):
        raise SfError("nothing was done", code="declined")
    with edit(workspace.folder) as editor:
        change(editor)
    workspace.refresh()
    row = ServerResult(name, Reply("", "done", changes), is_server=False)
    return CommandResult(workspace.label, servers=(row,), notes=(*notes, *_unused(workspace, settings)))


def _servers(settings: CloudflareDns | PowerDns) -> list[str]:
    """Of the fleet, the one that has the zones first."""
    if settings.provider != "powerdns":
        return []
    return list(dict.fromkeys((settings.on, *settings.nameservers.values())))


def _left(settings: CloudflareDns | PowerDns) -> Iterator[str]:
    """What the file knows nothing of any more, and how to end it."""
    if servers := ",".join(_servers(settings)):
        yield (
            f"PowerDNS on {servers} goes on, and serves what it has; to end that, once no registrar names it any more: "
            f"sf package remove pdns-server --on {servers}"
        )


def _unused(workspace: Workspace, settings: CloudflareDns | PowerDns) -> Iterator[str]:
    used = references(workspace.fleet)
    for secret in references(settings):
        if secret not in used and secret in vault.read(workspace).boxes:
            yield f"nothing refers to secret {secret} any more: sf secret remove {secret}"
