"""`sf dns zone list · show · export · check`: what providers have, and what the world is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from serverflow_actions.kit.rrset import fqdn

from ..errors import ConfigError, Drift, ProviderError, SfError, Unreachable
from ..model.fleet import Fleet
from ..model.result import CommandResult, Reply, Report, ServerResult
from ..model.zone import Served, ZoneState
from ..plan.proofs import PROOFS
from ..plan.zone_check import Finding, check, misplaced
from ..plan.zone_diff import diff
from ..plan.zonefile import export
from ..plan.zones import addresses, wanted, zone_of
from ..providers.dns import DnsProvider
from ..providers.errors import NoZone
from . import zones
from .dns_providers import Providers
from .workspace import Workspace
from .zones import telling

if TYPE_CHECKING:
    from ..transport.dnssec import Trust
    from ..transport.nameservers import Serial

CA = "letsencrypt.org"
#: What is not served right now is told, not waited for.
_PATIENCE_S = 2.0


async def list_zones(workspace: Workspace, report: Report) -> CommandResult:
    """A row for each zone of the file or of one of its providers; `state` is ok, drift, unmanaged or missing.
    Zones of proofs are left out: they come and go with servers and certificates.
    """
    fleet = workspace.fleet
    async with Providers(workspace, report) as providers:

        async def of(name: str) -> list[dict[str, Any]] | ServerResult:
            mine = [zone for zone, stanza in fleet.dns.zones.items() if stanza.provider == name]
            try:
                with telling(report, name, "asking for its zones"):
                    provider = await providers.named(name)
                    there = [zone.rstrip(".") for zone in await provider.zones()]
                    others = [zone for zone in there if zone not in fleet.dns.zones and not _is_of_proofs(fleet, zone)]
                    return [await _row(workspace, provider, name, zone, zone in there) for zone in [*mine, *others]]
            except SfError as error:
                return ServerResult(name, error=error, kind="provider")

        found = await asyncio.gather(*map(of, fleet.dns.providers))
    rows = [row for one in found if isinstance(one, list) for row in one]
    failed = [one for one in found if isinstance(one, ServerResult)]
    # A provider that answered counts, or one that did not would be all of them.
    good = [ServerResult(name, Reply("", "done"), kind="provider")
            for name, one in zip(fleet.dns.providers, found, strict=True) if isinstance(one, list)]  # fmt: skip
    notes = () if rows or failed else ("no zones: sf dns setup",)
    return CommandResult(
        workspace.label, servers=(*good, *failed), data={} if failed and not rows else {"zones": rows}, notes=notes
    )


async def show_zone(workspace: Workspace, zone: str, report: Report) -> CommandResult:
    """All records as the provider has them; `by` is fleet, another fleet's mark, or empty for somebody else, `from` the
    place in fleet.toml that asks for it. Of a signed zone also the DS to hand in, and whether its parent has it.
    """
    (zone,) = zones.chosen(workspace.fleet, [zone])
    async with Providers(workspace, report) as providers:
        with telling(report, zone, "asking its provider"):
            state = await (await providers.of(zone)).fetch(fqdn(zone))
            ds, trust, notes = await _signed(workspace.fleet, providers, zone)
    mark, origins = zones.mark(workspace), _origins(workspace.fleet, zone)
    rows = [
        {
            "name": each.rrset.name,
            "type": each.rrset.type,
            "ttl": each.rrset.ttl or "auto",
            "values": list(each.rrset.values),
            "proxied": each.proxied,
            "by": "fleet" if each.owner == mark else each.owner,
            "from": origins.get((each.rrset.name, each.rrset.type), ""),
        }
        for each in sorted(state.rrsets, key=lambda each: (each.rrset.name.split(".")[::-1], each.rrset.type))
    ]
    data: dict[str, Any] = {"zone": zone, "nameservers": list(state.nameservers)}
    if trust:
        data |= {"ds": list(ds), "ds_at_parent": trust.state}
    return CommandResult(workspace.label, data={**data, "records": rows}, notes=notes)


async def export_zone(workspace: Workspace, zone: str, report: Report) -> CommandResult:
    """As a zone file. Whoever reads it sees what the provider has, not what the file wants."""
    (zone,) = zones.chosen(workspace.fleet, [zone])
    async with Providers(workspace, report) as providers:
        with telling(report, zone, "asking its provider"):
            state = await (await providers.of(zone)).fetch(fqdn(zone))
    return CommandResult(workspace.label, data={"zone_file": export(state)})


async def check_zones(workspace: Workspace, names: Sequence[str], ca: str | None, report: Report) -> CommandResult:
    """Findings across records, every name server at every address held against what the provider has, and the DS of
    the parent against the zone's keys. Where the provider does not answer, its name servers are asked all the same.

    A zone with an error among them ends as Drift (exit 11).
    """
    chosen = zones.chosen(workspace.fleet, names)
    async with Providers(workspace, report) as providers:
        rows = await asyncio.gather(*(_checked(workspace, providers, zone, ca or CA, report) for zone in chosen))
    findings = [{"zone": row.name, **entry} for row in rows if row.reply for entry in row.reply.data["findings"]]
    bare = tuple(replace(row, reply=replace(row.reply, data={})) if row.reply else row for row in rows)
    notes = [note for row in rows if row.reply for note in row.reply.data["notes"]]
    if all(row.reply and not row.error and row.reply.data["as_wanted"] for row in rows) and not findings:
        notes.append("nothing to complain about")
    data = {"findings": findings} if findings else {}
    return CommandResult(workspace.label, servers=bare, data=data, notes=tuple(notes))


def _is_of_proofs(fleet: Fleet, zone: str) -> bool:
    """Such as those of plan/proofs.py, also what is left of servers that are gone: `sf plan` tells of these."""
    kind, _, parent = zone.partition(".")[2].partition(".")
    return kind in PROOFS and parent in fleet.dns.zones


async def _row(workspace: Workspace, provider: DnsProvider, name: str, zone: str, is_there: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"zone": zone, "provider": name, "state": "missing", "records": 0, "changes": 0}
    if not is_there:
        return row
    try:
        state = await provider.fetch(fqdn(zone))
    except ValueError:  # a name beyond our grammar, such as those of RFC 2317
        return row | {"state": "unmanaged"}
    row |= {"records": len(state.rrsets), "state": "unmanaged"}
    if zone in workspace.fleet.dns.zones:
        todo = _differing(workspace, zone, state)
        row |= {"state": "drift" if todo else "ok", "changes": todo}
    return row


def _differing(workspace: Workspace, zone: str, state: ZoneState) -> int:
    """How many records are not as the file says. Raises ConfigError where it says what cannot be."""
    plan = diff(
        [each.served for each in wanted(workspace.fleet, zone)], state, zones.mark(workspace),
        complete=workspace.fleet.dns.zones[zone].complete, adopt=False,
    )  # fmt: skip
    return len(plan.changes) + len(plan.conflicts)


def _drift(workspace: Workspace, zone: str, state: ZoneState) -> str:
    """A remark; "" where all is as the file says."""
    try:
        count = _differing(workspace, zone, state)
    except ConfigError as error:
        return f"whether {zone} is as fleet.toml says is not known: {error.message}"
    records = "1 record is" if count == 1 else f"{count} records are"
    return f"{records} not as fleet.toml says: sf dns plan {zone}" if count else ""


async def _checked(workspace: Workspace, providers: Providers, zone: str, ca: str, report: Report) -> ServerResult:
    fleet = workspace.fleet
    try:
        with telling(report, zone, "asking its provider"):
            provider = await providers.of(zone)
            state = await zones.fetched(fleet, provider, zone)
            ds = await provider.ds(fqdn(zone))
    except (Unreachable, ProviderError) as error:
        with telling(report, zone, "asking all name servers"):
            return await _without_provider(fleet, zone, error)
    except SfError as error:
        return ServerResult(zone, error=error, kind="zone")
    try:
        with telling(report, zone, "asking all name servers"):
            trust, asked = await asyncio.gather(_trust(fleet, providers, zone, ds), _asked(provider, state))
    except SfError as error:
        return ServerResult(zone, error=error, kind="zone")
    found = [*_across(state, ca, zones.flattens(fleet, zone)), *asked]
    found += map(_ruled, misplaced(fleet, [each.rrset for each in state.rrsets]))
    found += [_finding(severity, state.name, "DS", text) for severity, text in trust.findings]
    if fleet.dns.zones[zone].dnssec and not ds:
        found.append(_finding("warning", state.name, "DNSKEY", "fleet.toml says dnssec, and the zone is not signed"))
    notes = [f"{zone} is signed, and its parent has the DS"] if ds and trust.state == "matches" else []
    drift_told = _drift(workspace, zone, state)
    notes += [drift_told] if drift_told else []
    bad = [entry for entry in found if entry["severity"] == "error"]
    drift = Drift(f"{len(bad)} of {len(found)} findings are errors") if bad else None
    data = {"findings": found, "notes": notes, "as_wanted": not drift_told}
    return ServerResult(zone, Reply("", "drift" if bad else "ok", data=data), drift, kind="zone")


async def _without_provider(fleet: Fleet, zone: str, error: SfError) -> ServerResult:
    """What can be said of a zone whose provider does not answer: who of its name servers by the file has it. There is
    nothing to hold its records against.
    """
    from ..transport.nameservers import serials

    settings = fleet.dns.providers[fleet.dns.zones[zone].provider]
    if settings.provider != "powerdns" or isinstance(error, NoZone):
        return ServerResult(zone, error=error, kind="zone")
    servers = [
        (fqdn(name), address, 53)
        for name, server in settings.nameservers.items()
        for address in addresses(fleet, server)
    ]
    known = await serials(servers, fqdn(zone))
    notes = [
        f"{one.server[0]} ({one.server[1]}) serves {zone}, serial {one.serial}"
        for one in known
        if one.serial is not None
    ]
    data = {"findings": list(_of_serials(known, fqdn(zone))), "notes": notes, "as_wanted": False}
    return ServerResult(zone, Reply("", error.code, data=data), error, kind="zone")


def _across(state: ZoneState, ca: str, flattens: bool) -> Iterator[dict[str, Any]]:
    for each in check(state.name, [served.rrset for served in state.rrsets], issuer=ca, flattens=flattens):
        yield _ruled(each)


def _ruled(each: Finding) -> dict[str, Any]:
    return {**_finding(each.severity, each.name, each.type, each.sentence), "source": each.source}


async def _asked(provider: DnsProvider, state: ZoneState) -> list[dict[str, Any]]:
    """Who serves something else, by UDP and TCP, at each address; and serials that differ."""
    from ..transport.nameservers import all_disagreeing, is_comparable, serials

    servers = await provider.addresses(state.name)
    known = await serials(servers, state.name)
    found = list(_of_serials(known, state.name))
    served = []
    for rrset in (zones.comparable(each.rrset) for each in state.rrsets if _is_served(each, state)):
        if is_comparable(rrset):
            served.append(rrset)
        else:
            text = "nobody was asked for it: a type of the provider's own, or no value of its type"
            found.append(_finding("warning", rrset.name, rrset.type, text))
    # Who has no SOA is told of once; to wait for each rrset would take minutes.
    answering = [one.server for one in known if one.serial is not None]
    for rrset, wrong in zip(served, await all_disagreeing(answering, served, _PATIENCE_S), strict=True):
        for each in wrong:
            text = f"{each.name} ({each.address}, {each.protocol}): {each.instead}"
            found.append(_finding("error", rrset.name, rrset.type, text))
    return found


def _of_serials(known: Sequence[Serial], zone: str) -> Iterator[dict[str, Any]]:
    numbers = {one.serial for one in known if one.serial is not None}
    for one in known:
        name, address, _ = one.server
        if one.serial is None:
            yield _finding("error", zone, "SOA", f"{name} ({address}): {one.problem}")
        elif one.serial != max(numbers):
            yield _finding("error", zone, "SOA", f"{name} ({address}) is behind: {one.serial}, not {max(numbers)}")


async def _signed(
    fleet: Fleet, providers: Providers, zone: str
) -> tuple[tuple[str, ...], Trust | None, tuple[str, ...]]:
    """The DS of a signed zone, what is at its parent, and remarks. A failure is a remark: records are shown."""
    try:
        ds = await (await providers.of(zone)).ds(fqdn(zone))
        trust = await _trust(fleet, providers, zone, ds) if ds else None
    except SfError as error:
        return (), None, (f"whether its parent has the right DS is not known: {error.message}",)
    return ds, trust, tuple(text for _, text in trust.findings) if trust else ()


async def _trust(fleet: Fleet, providers: Providers, zone: str, ds: Sequence[str]) -> Trust:
    """What the zone's name servers and those of its parent say of its keys."""
    from ..transport.delegation import parents
    from ..transport.dnssec import trust

    servers = await (await providers.of(zone)).addresses(fqdn(zone))
    # A zone of the file is asked where it is, whether or not the world finds it there.
    above = zone_of(fleet, zone.partition(".")[2])
    asked = await (await providers.of(above)).addresses(fqdn(above)) if above else await parents(fqdn(zone))
    return await trust(fqdn(zone), ds, servers, asked)


def _origins(fleet: Fleet, zone: str) -> dict[tuple[str, str], str]:
    """Who looks at a zone sees it also where the file has a record that cannot be: plans tell of that."""
    try:
        return {(each.served.rrset.name, each.served.rrset.type): each.origin for each in wanted(fleet, zone)}
    except ConfigError:
        return {}


def _is_served(each: Served, state: ZoneState) -> bool:
    is_apex_ns = (each.rrset.type, each.rrset.name) == ("NS", state.name)
    return not each.proxied and not is_apex_ns and not zones.is_flattened(each.rrset, state.name)


def _finding(severity: str, name: str, kind: str, text: str) -> dict[str, Any]:
    return {"severity": severity, "name": name, "type": kind, "text": text}
