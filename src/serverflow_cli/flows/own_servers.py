"""Zones on name servers of our own: PowerDNS, its zones and their first records, after one question."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from serverflow_actions.kit.rrset import RRset, fqdn

from ..config.edit import Editor
from ..config.load import parse, read_text
from ..errors import ProviderError, Unreachable
from ..model.result import CommandResult, Reply, ServerResult
from ..model.zone import ZoneState
from ..plan.desired import FIREWALL, resources
from ..plan.zone_diff import diff
from ..plan.zones import wanted
from . import zones
from .config import How
from .dns_providers import Providers
from .follow import changed
from .foretold import Foretold
from .parent import delegation
from .stages import Stages
from .stanza import edited
from .workspace import Workspace

if TYPE_CHECKING:
    from ..model.fleet import Fleet, PowerDns
    from ..providers.dns import DnsProvider


@dataclass(frozen=True)
class Edit:
    """An edit of fleet.toml about a provider, with the values of secrets that it is to refer to."""

    provider: str
    change: Callable[[Editor], None]
    given: Mapping[str, str]

    def text(self, workspace: Workspace) -> str:
        """The file after it."""
        editor = Editor(read_text(workspace.folder.fleet_toml))
        self.change(editor)
        return editor.text


async def served(workspace: Workspace, edit: Edit, zone: str, how: How) -> CommandResult:
    """The name servers and `zone` by their actions, then its records, and those that other zones have of a name server
    that is new. With "" for `zone` no zone is new there.
    """
    fleet = parse(edit.text(workspace))
    is_other = _other_servers(workspace.fleet, fleet, edit.provider)
    names: dict[str, set[str] | None] = {zone: None} if zone else {}
    if is_other:
        names |= {each: only for each, only in changed(workspace.fleet, fleet)[1].items() if each != zone}
    rows = [row for each, only in names.items() for row in await _to_come(workspace, fleet, each, only, how)]
    ask = Foretold(
        how.approve,
        rows,
        (each for each in resources(fleet) if _is_meant(each.key)),
        {(each.server, each.key) for each in resources(workspace.fleet)},
    )
    how = replace(how, approve=ask)
    done = await _name_servers(workspace, edit, how, ask)
    if how.plan:
        return ask.whole(done)
    if done.error:
        return done
    work = Stages(workspace, ask, how.lock_wait_s, how.report)
    work.add(done)
    for each, only in names.items():
        made = await work.go(partial(_records, workspace, each, only, how), [each])
        if each == zone and all(row.reply for row in made.failures):
            await work.go(partial(_seen, workspace, zone, bool(made.failures), how), [zone])
    others = [each for each, stanza in fleet.dns.zones.items() if stanza.provider == edit.provider and each != zone]
    settings = _settings(fleet, edit.provider)
    told = [
        note
        for each in (others if is_other else ())
        for note in delegation(workspace.fleet, each, [fqdn(name) for name in settings.nameservers])
    ]
    return replace(work.done, notes=(*work.done.notes, *told))


def sealed(given: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"sealed into secrets.toml: sf secret show {name}" for name in given)


def _settings(fleet: Fleet, provider: str) -> PowerDns:
    settings = fleet.dns.providers[provider]
    assert settings.provider == "powerdns"
    return settings


def _other_servers(old: Fleet, new: Fleet, provider: str) -> bool:
    """Whether a provider that was there has other name servers now."""
    return (
        provider in old.dns.providers and _settings(old, provider).nameservers != _settings(new, provider).nameservers
    )


def _is_meant(key: str) -> bool:
    """The keys of proofs are for `sf apply`, which brings them to both sides."""
    return key == FIREWALL or (key.startswith("dns.") and not key.startswith("dns.update-key."))


async def _to_come(
    workspace: Workspace, fleet: Fleet, zone: str, only: Collection[str] | None, how: How
) -> tuple[ServerResult, ...]:
    """What is to be made in a zone: by its provider where that has it, else all that the file wants. What else keeps a
    zone from being planned keeps it from being made, and is told then. Raises Unreachable.
    """
    if zone in workspace.fleet.dns.zones:
        (row,) = (await zones.plan(workspace, [zone], zones.Wish(), how.report, fleet, only)).servers
        if isinstance(row.error, Unreachable):
            raise row.error
        if not isinstance(row.error, ProviderError):  # there is no zone yet, or nobody who could have one
            return (row,) if row.reply and row.reply.changes else ()
    ours = [each.served for each in wanted(fleet, zone) if not only or each.served.rrset.name in only]
    plan = diff(ours, ZoneState(fqdn(zone), (), "", ()), zones.mark(workspace), complete=False, adopt=False)
    lines = tuple(map(zones.line, plan.changes))
    return (ServerResult(zone, Reply("", "changed", lines), kind="zone"),) if lines else ()


async def _name_servers(workspace: Workspace, edit: Edit, how: How, ask: Foretold) -> CommandResult:
    """PowerDNS and its zones on the servers of a provider; where they have a firewall of ours, port 53 before that."""
    settings = _settings(parse(edit.text(workspace)), edit.provider)
    servers = dict.fromkeys((settings.on, *settings.nameservers.values()))
    done = await edited(
        workspace,
        edit.change,
        _is_meant,
        ",".join(servers),
        how.plan,
        how.approve,
        how.timeout_s,
        how.lock_wait_s,
        how.report,
        how.safety,
        edit.given,
        ask.before_write,
    )
    return done if how.plan or done.error else replace(done, notes=(*done.notes, *sealed(edit.given)))


async def _records(workspace: Workspace, zone: str, only: Collection[str] | None, how: How) -> CommandResult:
    return await zones.apply(workspace, [zone], zones.Wish(), how.approve, how.report, only=only)


async def _seen(workspace: Workspace, zone: str, is_late: bool, how: How) -> CommandResult:
    """What has to be told to the parent, and who does not have the zone yet, unless it `is_late` anyhow."""
    async with Providers(workspace, how.report) as providers:
        provider = await providers.of(zone)
        with zones.telling(how.report, zone, "asking all name servers"):
            names = (await provider.fetch(fqdn(zone))).nameservers
            late = None if is_late else await _not_there(provider, zone, names)
    rows = (ServerResult(zone, error=late, kind="zone"),) if late else ()
    return CommandResult(servers=rows, notes=delegation(workspace.fleet, zone, names))


async def _not_there(provider: DnsProvider, zone: str, names: Sequence[str]) -> zones.NotServed | None:
    """Who does not have the zone yet, though the catalog tells secondaries within seconds."""
    from ..transport.nameservers import all_disagreeing

    apex = RRset(fqdn(zone), "NS", 0, tuple(sorted(names)))
    (wrong,) = await all_disagreeing(await provider.addresses(fqdn(zone)), [apex], zones.SERVED_WITHIN_S)
    if not wrong:
        return None
    lines = "\n".join(f"{one.name} ({one.address}, {one.protocol}): {one.instead}" for one in wrong)
    return zones.NotServed(f"not served by every name server yet\n{lines}", hint=f"later: sf dns zone check {zone}")
