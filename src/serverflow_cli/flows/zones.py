"""`sf dns plan` and `sf dns apply`: bring zones to what fleet.toml wants, and see that all name servers serve it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from serverflow_actions.kit.change import Change as Line
from serverflow_actions.kit.rrset import RRset, fqdn

from ..errors import ConfigError, OutcomeUnknown, SfError, UsageError
from ..model.fleet import Fleet
from ..model.result import CommandResult, Reply, Report, ServerResult
from ..model.zone import Change, Served, ZoneState
from ..plan.zone_check import Finding, check
from ..plan.zone_diff import ZonePlan, check_share, diff
from ..plan.zones import homeless, wanted
from ..providers.dns import DnsProvider
from ..providers.errors import NoZone
from .dns_providers import Providers
from .workspace import Workspace

Approve = Callable[[CommandResult], bool]
#: For all name servers to serve what has changed: NOTIFY and a transfer take a second, a provider's network some more.
SERVED_WITHIN_S = 60.0


@dataclass(frozen=True)
class Wish:
    """How far a plan may go: `adopt` takes over rrsets that others made, `force` changes as much as it takes. `gone` is
    the name and type of an rrset that is to go. Name servers have `wait_s` seconds to serve it all, or as usual; with 0
    they are asked once.
    """

    adopt: bool = False
    force: bool = False
    gone: tuple[str, str] | None = None
    wait_s: float | None = None


@dataclass(frozen=True)
class Prepared:
    """A zone, where it is, and what is to be done there."""

    zone: str
    provider: DnsProvider
    plan: ZonePlan
    state: ZoneState


def mark(workspace: Workspace) -> str:
    """What the comments of this fleet's records say."""
    return f"serverflow {workspace.fleet_id[:8]}"


def chosen(fleet: Fleet, names: Sequence[str]) -> list[str]:
    """These zones of the file, or all. Raises UsageError for one that is not there."""
    known = fleet.dns.zones
    found = [name.lower().rstrip(".") for name in names]
    for name in found:
        if name not in known:
            raise UsageError(
                f"there is no zone {name} in fleet.toml",
                hint=f"there is {', '.join(known)}" if known else "sf dns setup",
            )
    return list(dict.fromkeys(found)) or list(known)


async def plan(
    workspace: Workspace,
    names: Sequence[str],
    wish: Wish,
    report: Report,
    fleet: Fleet | None = None,
    only: Collection[str] | None = None,
) -> CommandResult:
    """What would change, by what the providers have now."""
    fleet = fleet or workspace.fleet
    async with Providers(workspace, report, fleet) as providers:
        prepared, failed = await prepare(workspace, fleet, chosen(fleet, names), providers, wish, report, only)
    return _told(workspace, prepared, failed)


async def apply(
    workspace: Workspace,
    names: Sequence[str],
    wish: Wish,
    approve: Approve,
    report: Report,
    before_run: Callable[[], None] | None = None,
    fleet: Fleet | None = None,
    only: Collection[str] | None = None,
) -> CommandResult:
    """Plan, ask, change, and look whether every authoritative server serves it. `before_run` is called once, after the
    approval, also where no zone changes; without it nobody is asked about nothing. `fleet` is what to go by when
    fleet.toml is about to be written; `only` are the names that are to be changed.
    """
    fleet = fleet or workspace.fleet
    async with Providers(workspace, report, fleet) as providers:
        prepared, failed = await prepare(workspace, fleet, chosen(fleet, names), providers, wish, report, only)
        planned = _told(workspace, prepared, failed)
        due = [each for each in prepared if each.plan.changes]
        if due or (before_run and not failed):
            if not approve(planned):
                raise SfError("nothing was done", code="declined")
            if before_run:
                before_run()
        within_s = SERVED_WITHIN_S if wish.wait_s is None else wish.wait_s
        done = await asyncio.gather(*(_carried_out(each, report, within_s) for each in due))
    rows = {row.name: row for row in done}
    return replace(planned, servers=tuple(rows.get(row.name, row) for row in planned.servers))


async def prepare(
    workspace: Workspace,
    fleet: Fleet,
    names: Sequence[str],
    providers: Providers,
    wish: Wish,
    report: Report,
    only: Collection[str] | None = None,
) -> tuple[list[Prepared], list[ServerResult]]:
    """Each zone's plan, and those that cannot be planned, all at once."""

    async def one(zone: str) -> Prepared:
        ours = [each.served for each in wanted(fleet, zone)]
        provider = await providers.of(zone)
        with telling(report, zone, "asking its provider"):
            state = whole = await fetched(fleet, provider, zone)
        if only:
            ours = [each for each in ours if each.rrset.name in only]
            state = whole._replace(rrsets=tuple(each for each in whole.rrsets if each.rrset.name in only))
        complete = fleet.dns.zones[zone].complete
        if wish.gone and not complete:
            state = _without_others(state, wish, mark(workspace))
        found = diff(ours, state, mark(workspace), complete=complete, adopt=wish.adopt)
        if found.conflicts:
            raise ConfigError("\n".join(found.conflicts), code="not-ours", hint="--adopt takes them over")
        if not wish.force:
            check_share(found, whole)
        new = list(_new_findings(whole, found, flattens(fleet, zone)))
        if not wish.force:
            _check_whole(zone, new)
        told = [f"{each.severity}: {_sentence(each)}" for each in new]
        lost = () if only else homeless(fleet, zone)
        return Prepared(zone, provider, replace(found, notes=(*found.notes, *told, *lost)), whole)

    return await _each(names, one)


def _without_others(state: ZoneState, wish: Wish, mark: str) -> ZoneState:
    """What is to go counts as ours where it may be taken over. Raises ConfigError where it may not."""
    for each in state.rrsets:
        name, kind = each.rrset.name, each.rrset.type
        if (name, kind) == wish.gone and each.owner != mark:
            if not wish.adopt:
                raise ConfigError(
                    f"{name} {kind} is there, somebody else made it, and it would stay: {', '.join(each.rrset.values)}",
                    code="not-ours", hint="--adopt removes it there too",
                )  # fmt: skip
            return state._replace(
                rrsets=tuple(one._replace(owner=mark) if one is each else one for one in state.rrsets)
            )
    return state


def flattens(fleet: Fleet, zone: str) -> bool:
    """Whether its provider answers an alias at the apex with addresses."""
    return fleet.dns.providers[fleet.dns.zones[zone].provider].provider == "cloudflare"


def _new_findings(state: ZoneState, plan: ZonePlan, flattens: bool) -> Iterator[Finding]:
    """What would be wrong then, and is not now."""
    gone = {change.before for change in plan.changes if change.before}
    after = [each.rrset for each in state.rrsets if each not in gone]
    after += [change.after.rrset for change in plan.changes if change.after]
    known = check(state.name, [each.rrset for each in state.rrsets], flattens=flattens)
    for finding in check(state.name, after, flattens=flattens):
        if finding not in known:
            yield finding


def _check_whole(zone: str, new: Sequence[Finding]) -> None:
    """Raise ConfigError for errors: some providers take such records, and others refuse them in the midst of it."""
    if broken := [_sentence(each) for each in new if each.severity == "error"]:
        raise ConfigError(
            f"the plan would break {zone}\n" + "\n".join(broken), code="broken-zone",
            hint="if that is meant: --force, of sf dns record and sf dns apply",
        )  # fmt: skip


def _sentence(finding: Finding) -> str:
    return f"{finding.name} {finding.type}: {finding.sentence} ({finding.source})"


async def _each(
    names: Sequence[str], one: Callable[[str], Awaitable[Prepared]]
) -> tuple[list[Prepared], list[ServerResult]]:
    found = await asyncio.gather(*map(one, names), return_exceptions=True)
    prepared, failed = [], []
    for name, result in zip(names, found, strict=True):
        if isinstance(result, Prepared):
            prepared.append(result)
        elif isinstance(result, SfError):
            failed.append(ServerResult(name, error=result, kind="zone"))
        else:
            raise result
    return prepared, failed


async def fetched(fleet: Fleet, provider: DnsProvider, zone: str) -> ZoneState:
    """A zone of the file. Raises NoZone, which says what makes it: a run before was cut off, or somebody deleted it."""
    try:
        return await provider.fetch(fqdn(zone))
    except NoZone as error:
        makes = "sf dns zone add " + zone if flattens(fleet, zone) else "sf apply"
        error.hint = f"{makes} makes it"
        raise


def _told(workspace: Workspace, prepared: Sequence[Prepared], failed: Sequence[ServerResult]) -> CommandResult:
    rows = [
        ServerResult(
            each.zone,
            Reply("", "changed" if each.plan.changes else "unchanged", tuple(map(line, each.plan.changes))),
            kind="zone",
        )
        for each in prepared
    ]
    notes = [f"{each.zone}: {note}" for each in prepared for note in each.plan.notes]
    return CommandResult(workspace.label, servers=(*rows, *failed), notes=tuple(notes))


@contextmanager
def telling(report: Report, name: str, doing: str) -> Iterator[None]:
    """Say what is done about a zone or a provider while it is: one that does not answer takes 15 seconds."""
    report({"t": "step", "server": name, "doing": doing})
    try:
        yield
    finally:
        report({"t": "done", "server": name})


async def _carried_out(each: Prepared, report: Report, within_s: float) -> ServerResult:
    lines = tuple(map(line, each.plan.changes))
    try:
        with telling(report, each.zone, f"changing {len(each.plan.changes)} rrsets"):
            await each.provider.apply(fqdn(each.zone), each.plan.changes, each.state.revision)
            await _see(each, report, within_s)
    except SfError as error:
        reply = Reply("", "changed", lines) if isinstance(error, NotServed) else None
        return ServerResult(each.zone, reply, error, kind="zone")
    return ServerResult(each.zone, Reply("", "done", lines), kind="zone")


class NotServed(OutcomeUnknown):
    """The provider has it, and not every name server serves it yet."""

    default_code = "not-served"


async def _see(each: Prepared, report: Report, within_s: float) -> None:
    """Ask every authoritative server, at each address. Raises NotServed."""
    from ..transport.nameservers import all_disagreeing

    expected = list(_expected(each))
    if not expected:
        return
    report({"t": "step", "server": each.zone, "doing": "asking all name servers"})
    servers = await each.provider.addresses(fqdn(each.zone))
    asked = await all_disagreeing(servers, expected, within_s)
    found = {
        f"{one.name} ({one.address}, {one.protocol}), {rrset.name} {rrset.type}: {one.instead}": None
        for rrset, wrong in zip(expected, asked, strict=True)
        for one in wrong
    }
    if found:
        hint = f"the provider has it all; ask again with sf dns zone check {each.zone}"
        raise NotServed("not served by every name server yet\n" + "\n".join(found), hint=hint)


def _expected(each: Prepared) -> Iterator[RRset]:
    """What has to be seen, and what not any more. Not of what a proxy answers for, nor where a wildcard steps in, nor
    of a delegation that is gone: its servers may have the zone below all the same.
    """
    gone = {change.before.rrset for change in each.plan.changes if change.before}
    made = {change.after.rrset for change in each.plan.changes if change.after}
    left = {served.rrset for served in each.state.rrsets} - gone | made
    wildcards = [rrset.name.removeprefix("*") for rrset in left if rrset.name.startswith("*.")]
    for before, after in each.plan.changes:
        if is_flattened((after or before).rrset, each.state.name):  # type: ignore[union-attr]  # never both None
            continue
        if after and not after.proxied:
            yield comparable(after.rrset)
        elif before and not after and before.rrset.type != "NS" and not before.rrset.name.endswith(tuple(wildcards)):
            yield before.rrset._replace(ttl=0, values=())


def is_flattened(rrset: RRset, zone: str) -> bool:
    """An alias at the apex, where none may be: whose provider takes one answers with addresses instead."""
    return rrset.type == "CNAME" and rrset.name == zone


def comparable(rrset: RRset) -> RRset:
    """As all of its servers can answer: one that has the zone below a delegation, too, tells of that one's own NS."""
    return rrset._replace(ttl=0) if rrset.type == "NS" else rrset


def line(change: Change) -> Line:
    """As plans show it."""
    served = change.after or change.before
    assert served
    before, after = change.before, change.after
    verb = "create" if before is None else "delete" if after is None else "update"
    fields = {
        name: (old, new)
        for name, old, new in (
            ("values", _values(before), _values(after)),
            ("ttl", _ttl(before), _ttl(after)),
            ("proxied", before.proxied if before else None, after.proxied if after else None),
            ("owner", before.owner if before else None, after.owner if after else None),
        )
        if old != new and not (verb != "update" and name in ("proxied", "owner"))
    }
    return Line(verb, "rrset", f"{served.rrset.name} {served.rrset.type}", fields)


def _values(served: Served | None) -> str | None:
    return ", ".join(served.rrset.values) if served else None


def _ttl(served: Served | None) -> str | int | None:
    return (served.rrset.ttl or "auto") if served else None
