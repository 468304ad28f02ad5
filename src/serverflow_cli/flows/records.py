"""`sf dns record`: edit a zone's records in fleet.toml, then bring that one rrset to its provider."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from serverflow_actions.kit.rrset import fqdn, owner, value

from ..config.edit import Editor, edit
from ..config.load import parse, read_text
from ..errors import PlanChanged, UsageError
from ..model.fleet import Fleet, Record
from ..model.result import CommandResult
from ..plan.zone_view import ADDRESSES
from ..plan.zones import Wanted, wanted, zone_of
from . import zones
from .config import How
from .stanza import AGAIN
from .workspace import Workspace
from .zones import Wish

#: Whose values end in a host name.
_NAMING = ("CNAME", "MX", "NS", "PTR", "SRV")
#: Of what follows from the rest of the file all go, where the records of a zone have one.
_PLACES = (*ADDRESSES, "CNAME")
#: What at a zone's own name belongs into the zone above, as its delegation (RFC 1034 section 4.2.1, RFC 4035 section
#: 2.4). The zone's own NS come with its provider.
_OF_PARENT = ("NS", "DS")


async def add(
    workspace: Workspace, name: str, kind: str, values: Sequence[str], settings: Mapping[str, Any], wish: Wish, how: How
) -> CommandResult:
    """One or more values more; the rrset is made when there is none. Raises UsageError for values that are there, and
    where what follows from the rest of the file would go for it: to add takes nothing away.
    """
    zone, label = _place(workspace.fleet, name, kind)
    present = _record(workspace.fleet, zone, label, kind)
    found = _all_written(kind, values, zone)
    if present is None:
        _check_adds(workspace.fleet, zone, label, kind, found)
        return await set_(workspace, name, kind, values, settings, wish, how)
    known = {_canonical(kind, each, zone) for each in present.values}
    if all(_canonical(kind, each, zone) in known for each in found):
        hint = f"sf dns apply {zone}, if it is not served; sf dns record set changes the rest"
        raise UsageError(f"{name} {kind} has that value in fleet.toml already", hint=hint)
    more = [each for each in found if _canonical(kind, each, zone) not in known]
    return await _edited(workspace, zone, label, kind, {"values": [*present.values, *more], **settings}, wish, how)


async def set_(
    workspace: Workspace, name: str, kind: str, values: Sequence[str], settings: Mapping[str, Any], wish: Wish, how: How
) -> CommandResult:
    """These values instead of those that are there."""
    zone, label = _place(workspace.fleet, name, kind)
    found = _all_written(kind, values, zone)
    return await _edited(workspace, zone, label, kind, {"values": found, **settings}, wish, how)


async def remove(
    workspace: Workspace, name: str, kind: str, values: Sequence[str], wish: Wish, how: How
) -> CommandResult:
    """The rrset, or only these values of it. What somebody else made at the provider goes if it is adopted; else that
    is refused, since it would stay, and nobody would know.
    """
    zone, label = _place(workspace.fleet, name, kind, is_there=True)
    present = _record(workspace.fleet, zone, label, kind)
    if present is None:
        raise UsageError(
            f"fleet.toml has no record {name} {kind}{_why_there(workspace.fleet, zone, label, kind)}",
            hint=f"sf dns record list {zone}",
        )
    gone = {_canonical(kind, each, zone) for each in _all_written(kind, values, zone)}
    known = {_canonical(kind, each, zone) for each in present.values}
    if gone - known:
        raise UsageError(f"{name} {kind} has no value {', '.join(sorted(gone - known))}")
    left = [each for each in present.values if _canonical(kind, each, zone) not in gone] if values else []
    if left:
        return await _edited(workspace, zone, label, kind, {"values": left}, wish, how)
    wish = replace(wish, gone=(owner(label, fqdn(zone)), kind))
    return await _edited(workspace, zone, label, kind, None, wish, how)


def listed(workspace: Workspace, names: Sequence[str]) -> CommandResult:
    """What fleet.toml wants, with what follows from servers and routes, and where it comes from."""
    rows = [
        {
            "zone": zone,
            "name": each.served.rrset.name,
            "type": each.served.rrset.type,
            "ttl": each.served.rrset.ttl or "auto",
            "values": list(each.served.rrset.values),
            "from": each.origin,
        }
        for zone in zones.chosen(workspace.fleet, names)
        for each in sorted(wanted(workspace.fleet, zone), key=lambda each: each.served.rrset.name.split(".")[::-1])
    ]
    notes = () if rows else ("no records: sf dns record add",)
    return CommandResult(workspace.label, data={"records": rows}, notes=notes)


async def _edited(
    workspace: Workspace, zone: str, label: str, kind: str, values: Mapping[str, Any] | None, wish: Wish, how: How
) -> CommandResult:
    """Plan against the edited text; the file is written once the plan was approved, before the provider is told."""
    change = _change(zone, label, kind, values)
    known = _record(workspace.fleet, zone, label, kind)
    editor = Editor(read_text(workspace.folder.fleet_toml))
    change(editor)
    fleet = parse(editor.text)
    only = [owner(label, fqdn(zone))]
    written = False

    def write() -> None:
        nonlocal written
        with edit(workspace.folder) as real:
            if _record(parse(real.text), zone, label, kind) != known:
                raise PlanChanged(f"{label} {kind} of {zone} was changed in fleet.toml meanwhile", hint=AGAIN)
            change(real)
        written = True
        workspace.refresh()

    if how.plan:
        return await zones.plan(workspace, [zone], wish, how.report, fleet, only)
    done = await zones.apply(workspace, [zone], wish, how.approve, how.report, write, fleet, only)
    if done.failures and written:
        return replace(done, notes=(*done.notes, f"fleet.toml has it; sf dns apply {zone} tries again"))
    return done


def _change(zone: str, label: str, kind: str, values: Mapping[str, Any] | None) -> Callable[[Editor], None]:
    path = ("dns", "zones", zone, "records")

    def matches(element: Mapping[str, Any]) -> bool:
        return _is(element["name"], element["type"], zone, label, kind)

    def change(editor: Editor) -> None:
        if values is None:
            editor.remove_elements(path, matches)
        elif any(map(matches, editor.elements(path))):
            editor.update_elements(path, matches, values)
        else:
            editor.append_element(path, {"name": label, "type": kind, **_given(values)})

    return change


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _place(fleet: Fleet, name: str, kind: str, *, is_there: bool = False) -> tuple[str, str]:
    """The zone of the file and the name in it, `@` for the zone itself. What leads to a zone is in the one above it; in
    the zone itself only where it `is_there` to be taken out. Raises UsageError.
    """
    whole = name.lower().rstrip(".")
    zone = zone_of(fleet, whole)
    if not zone:
        known = list(fleet.dns.zones)
        hint = (
            f"names are whole, as www.{known[0]}; there is {', '.join(known)}" if known else "first: sf dns setup ZONE"
        )
        raise UsageError(f"{name} is in no zone of fleet.toml", hint=hint)
    if whole == zone and kind in _OF_PARENT:
        zone = _leading_to(fleet, zone, kind, is_there)
    label = whole.removesuffix(zone).rstrip(".") or "@"
    try:
        owner(label, fqdn(zone))
    except ValueError as error:
        raise UsageError(str(error)) from None
    return zone, label


def _leading_to(fleet: Fleet, zone: str, kind: str, is_there: bool) -> str:
    """The zone of the file that has, or is to have, those records of another one. Raises UsageError."""
    above = zone_of(fleet, zone.partition(".")[2])
    if is_there and _record(fleet, zone, "@", kind) and not (above and _record(fleet, above, fqdn(zone), kind)):
        return zone
    if not above:
        own = "; its own come with its provider" if kind == "NS" else ""
        raise UsageError(
            f"the {kind} records that lead to {zone} are not its own, and the zone above {zone} is not in fleet.toml",
            hint=f"they are for your registrar, or whoever has the zone above{own}: sf dns zone show {zone}",
        )
    return above


def _record(fleet: Fleet, zone: str, label: str, kind: str) -> Record | None:
    records = fleet.dns.zones[zone].records if zone in fleet.dns.zones else ()
    return next((each for each in records if _is(each.name, each.type, zone, label, kind)), None)


def _why_there(fleet: Fleet, zone: str, label: str, kind: str) -> str:
    found = (each for each in _at(fleet, zone, label) if each.served.rrset.type == kind)
    return "".join(f": it follows from {each.origin}" for each in found)


def _at(fleet: Fleet, zone: str, label: str) -> list[Wanted]:
    name = owner(label, fqdn(zone))
    return [each for each in wanted(fleet, zone) if each.served.rrset.name == name]


def _check_adds(fleet: Fleet, zone: str, label: str, kind: str, values: Sequence[str]) -> None:
    """Of an rrset that the records do not have yet. Raises UsageError."""
    for each in _at(fleet, zone, label):
        there, is_written = each.served.rrset, _record(fleet, zone, label, each.served.rrset.type)
        if not is_written and (there.type == kind or {there.type, kind} <= set(_PLACES)):
            given = " ".join(shlex.quote(value) for value in values)
            found = f"{there.name} {there.type} {', '.join(there.values)}"
            raise UsageError(
                f"{found} follows from {each.origin}, and would go for that",
                hint=f"if that is meant: sf dns record set {there.name.rstrip('.')} {kind} {given}",
            )


def _is(name: str, type_: str, zone: str, label: str, kind: str) -> bool:
    return type_ == kind and owner(name, fqdn(zone)) == owner(label, fqdn(zone))


def _all_written(kind: str, values: Sequence[str], zone: str) -> list[str]:
    """As the file has them. Raises UsageError."""
    try:
        return [_written(kind, each, zone) for each in values]
    except ValueError as error:
        split = len(values) > 1 and kind not in ("A", "AAAA")
        raise UsageError(
            str(error), hint=f"if that is one value: '{' '.join(values)}', in quotes" if split else ""
        ) from None


def _written(kind: str, raw: str, zone: str) -> str:
    """On a command line a name with a dot in it is whole. Raises ValueError."""
    last = raw.rpartition(" ")[2]
    text = f"{raw}." if kind in _NAMING and "." in last and not last.endswith(".") else raw
    value(kind, text, fqdn(zone))
    return text


def _canonical(kind: str, raw: str, zone: str) -> str:
    return value(kind, raw, fqdn(zone))
