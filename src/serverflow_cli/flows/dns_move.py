"""`sf dns move`: a zone to another provider. It is copied, and both sides are asked for all of it; only then may the
name servers be switched. Run once more after that, the parent's servers are asked, and fleet.toml follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from serverflow_actions.kit.change import Change as Line
from serverflow_actions.kit.rrset import RRset, fqdn

from ..config.edit import Editor, edit
from ..config.load import parse, read_text
from ..errors import ConfigError, SfError, UsageError
from ..model.fleet import Fleet
from ..model.result import CommandResult, Reply, ServerResult
from ..model.zone import Change, Served, ZoneState
from ..plan.zone_diff import DNSSEC, check_share, diff
from ..plan.zones import wanted
from ..providers.dns import DnsProvider
from ..providers.errors import NoZone
from . import parent, zones
from .config import How
from .dns_providers import Providers
from .workspace import Workspace
from .zones import line

#: The old side has had it all for long; the new one gets the time of every change.
_OLD_PATIENCE_S = 5.0


@dataclass(frozen=True)
class _Move:
    """A zone on its way. `fleet` is the file as it will be; `force` goes on where a look at it says no."""

    workspace: Workspace
    fleet: Fleet
    zone: str
    names: tuple[str, str]
    old: DnsProvider
    new: DnsProvider
    force: bool
    how: How


async def move(
    workspace: Workspace, zone: str, provider: str, switched: bool, how: How, *, force: bool = False
) -> CommandResult:
    """Copy and compare; with `switched` nothing is copied, and fleet.toml names the new provider.

    Raises UsageError, ConfigError for what speaks against it, and NotServed when the two sides answer differently.
    """
    (zone,) = zones.chosen(workspace.fleet, [zone])
    stanza = workspace.fleet.dns.zones[zone]
    if provider not in workspace.fleet.dns.providers:
        raise UsageError(
            f"there is no dns.providers.{provider} in fleet.toml, only {', '.join(workspace.fleet.dns.providers)}",
            hint=f"sf dns setup {zone} --provider powerdns --on SERVER, or --provider cloudflare, makes one",
        )
    if stanza.provider == provider:
        raise UsageError(f"{zone} is at {provider} already")
    editor = Editor(read_text(workspace.folder.fleet_toml))
    _hand_over(editor, workspace.fleet, zone, provider)
    fleet = parse(editor.text)
    async with Providers(workspace, how.report, fleet, dnssec=stanza.dnssec) as providers:
        old, new = await providers.named(stanza.provider), await providers.named(provider)
        this = _Move(workspace, fleet, zone, (stanza.provider, provider), old, new, force, how)
        return await (_follow(this) if switched else _copy(this))


async def _copy(this: _Move) -> CommandResult:
    """Make the new side answer as the old one does. What others have there beside it is left alone, and told."""
    name = fqdn(this.zone)
    before = await this.old.fetch(name)
    is_new = name not in await this.new.zones()
    there = ZoneState(name, (), "", ()) if is_new else await this.new.fetch(name)
    changes = _changes(this, before, there)
    lines = [Line("create", "zone", this.zone, note=f"at {this.names[1]}")] if is_new else []
    lines += [line(change) for change in changes]
    planned = _result(this, lines, list(_notes(this, before, there)))
    if this.how.plan:
        return planned
    if lines and not this.how.approve(planned):
        raise SfError("nothing was done", code="declined")
    if is_new:
        await this.new.add(name)
        there = await this.new.fetch(name)
    if changes:
        await this.new.apply(name, changes, there.revision)
    after = await this.new.fetch(name)
    this.how.report({"t": "step", "server": this.zone, "doing": "asking the name servers of both sides"})
    copied = {_key(each) for each in _copied(before)}
    both = after._replace(rrsets=tuple(each for each in after.rrsets if _key(each) in copied))
    await _compare(this.zone, "new", this.new, after)
    await _compare(this.zone, "old", this.old, both)
    told = await parent.before_switch(name, await this.new.addresses(name), after.nameservers)
    again = f"when that is done: sf dns move {this.zone} --to {this.names[1]} --switched"
    same = "both sides answer the same: the name servers may be switched"
    return _done(planned, lines, (same, *told, again))


async def _follow(this: _Move) -> CommandResult:
    """Nothing is copied: what has changed on one side since would be lost."""
    name = fqdn(this.zone)
    try:
        after = await this.new.fetch(name)
    except NoZone as error:
        raise UsageError(
            f"{this.names[1]} has no zone {this.zone} yet",
            hint=f"first, and before the name servers are switched: sf dns move {this.zone} --to {this.names[1]}",
        ) from error
    this.how.report({"t": "step", "server": this.zone, "doing": "asking the name servers of its parent"})
    servers = await this.new.addresses(name)
    told = await parent.after_switch(name, servers, after.nameservers, force=this.force)
    if found := await _left_behind(this, after):
        if not this.force:
            raise ConfigError(
                f"{this.names[1]} does not have all that {this.names[0]} has\n" + "\n".join(found), code="differs",
                hint="without --switched they are copied; --force goes on without them",
            )  # fmt: skip
        told += [f"only at {this.names[0]}: {each}" for each in found]
    await _compare(this.zone, "new", this.new, after)
    lines = [Line("update", "file", "fleet.toml")]
    planned = _result(this, lines, told)
    if this.how.plan:
        return planned
    if not this.how.approve(planned):
        raise SfError("nothing was done", code="declined")
    with edit(this.workspace.folder) as real:
        _hand_over(real, this.fleet, this.zone, this.names[1])
    this.workspace.refresh()
    old = f"{this.names[0]} still has {this.zone}; delete it there once the old NS have run out everywhere (two days)"
    rest = "sf plan shows what else follows from that"
    return _done(planned, lines, (rest, old))


def _hand_over(editor: Editor, fleet: Fleet, zone: str, provider: str) -> None:
    editor.set_entry("dns.zones", zone, {"provider": provider})
    if fleet.dns.providers[provider].provider == "powerdns":  # which proxies nothing
        editor.update_elements(("dns", "zones", zone, "records"), lambda _: True, {"proxied": None})


def _changes(this: _Move, before: ZoneState, there: ZoneState) -> list[Change]:
    """Marks stay as they are at the old side: what nobody has marked there is not ours here either."""
    ours = [each.served for each in wanted(this.fleet, this.zone)]
    found = diff(list(_target(before, ours)), there, zones.mark(this.workspace), complete=False, adopt=True)
    if found.conflicts:
        raise ConfigError(f"{this.names[1]}: " + "\n".join(found.conflicts), code="not-ours")
    if not this.force:
        check_share(found, there)
    owners = {_key(each): each.owner for each in before.rrsets}
    changes = [
        change._replace(after=change.after._replace(owner=owners.get(_key(change.after), change.after.owner)))
        if change.after
        else change
        for change in found.changes
    ]
    return [change for change in changes if change.before != change.after]


def _target(before: ZoneState, ours: Sequence[Served]) -> Iterator[Served]:
    """All that the old side has but for what belongs to it, and what follows from the file for the new one."""
    there = {_key(each) for each in before.rrsets}
    for each in _copied(before):
        yield each._replace(proxied=False, rrset=each.rrset._replace(ttl=each.rrset.ttl or 300))
    yield from (each for each in ours if _key(each) not in there)


def _copied(before: ZoneState) -> Iterator[Served]:
    for each in before.rrsets:
        if each.rrset.type not in DNSSEC | {"SOA"} and _key(each) != (before.name, "NS"):
            yield each


def _notes(this: _Move, before: ZoneState, there: ZoneState) -> Iterator[str]:
    if proxied := [each.rrset.name for each in before.rrsets if each.proxied]:
        yield f"the world will see the true addresses of {', '.join(proxied)}, which a proxy has hidden"
    known, mark = {_key(each) for each in before.rrsets}, zones.mark(this.workspace)
    if beside := [" ".join(_key(each)) for each in _copied(there) if _key(each) not in known and each.owner != mark]:
        yield f"only at the new side, and left there: {', '.join(beside)}"


async def _left_behind(this: _Move, after: ZoneState) -> list[str]:
    """What the old side has, and the new one does not, or with other values. Nothing where it is gone there."""
    try:
        before = await this.old.fetch(fqdn(this.zone))
    except NoZone:
        return []
    there = {_key(each): each.rrset.values for each in after.rrsets}
    return [
        f"{' '.join(_key(each))} {', '.join(each.rrset.values)}"
        for each in _copied(before)
        if there.get(_key(each)) != each.rrset.values
    ]


async def _compare(zone: str, side: str, provider: DnsProvider, state: ZoneState) -> None:
    """Ask every server of a side for every rrset. TTLs may differ at the old one, values not. Raises NotServed."""
    from ..transport.nameservers import all_disagreeing

    rrsets = [each.rrset for each in _copied(state) if not zones.is_flattened(each.rrset, state.name)]
    looked = [zones.comparable(rrset) if side == "new" else rrset._replace(ttl=0) for rrset in rrsets]
    patience_s = zones.SERVED_WITHIN_S if side == "new" else _OLD_PATIENCE_S
    found = await all_disagreeing(await provider.addresses(fqdn(zone)), looked, patience_s)
    wrong = dict.fromkeys(
        f"{one.name} ({one.address}), {rrset.name} {rrset.type}: {one.instead}"
        for rrset, disagreements in zip(rrsets, found, strict=True)
        for one in disagreements
    )
    if wrong:
        raise zones.NotServed(
            f"the {side} side does not answer the same; leave the name servers as they are\n" + "\n".join(wrong),
            hint="what a proxy or a flattened CNAME answers for is not comparable: look at those by hand",
        )


def _result(this: _Move, lines: Sequence[Line], notes: Sequence[str]) -> CommandResult:
    row = ServerResult(this.zone, Reply("", "changed" if lines else "unchanged", tuple(lines)), is_server=False)
    return CommandResult(this.workspace.label, servers=(row,), notes=tuple(notes))


def _done(planned: CommandResult, lines: Sequence[Line], notes: Sequence[str]) -> CommandResult:
    (row,) = planned.servers
    outcome = "done" if lines else "unchanged"
    return replace(
        planned,
        servers=(replace(row, reply=Reply("", outcome, tuple(lines))),),
        notes=(*planned.notes, *notes),
    )


def _key(served: Served) -> tuple[str, str]:
    rrset: RRset = served.rrset
    return rrset.name, rrset.type
