"""What a zone's parent has to be told, and what `sf dns move` has to know of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..plan.zone_view import ADDRESSES
from ..plan.zones import wanted, zone_of

if TYPE_CHECKING:
    from ..model.fleet import Fleet
    from ..transport.delegation import Delegation
    from ..transport.dnssec import Answers, Trust
    from ..transport.nameservers import Server


class NotSwitched(ConfigError):
    """The world still finds the old name servers, or nobody can say."""

    default_code = "not-switched"


def delegation(fleet: Fleet, zone: str, names: Sequence[str]) -> tuple[str, ...]:
    """What the registrar has to be told, or the zone of the file that this one is in."""
    if not names:
        return ()
    if above := zone_of(fleet, zone.partition(".")[2]):
        return (f"{above} has to lead to it: sf dns record set {zone} NS {' '.join(names)}",)
    told = f"at your registrar, {zone} needs these name servers: {', '.join(names)}"
    inside = [name for name in names if zone_of(fleet, name) == zone]
    there = [each.served.rrset for each in wanted(fleet, zone)] if inside else []
    glue = [
        f"{name} {' '.join(value for each in found for value in each.values)}"
        for name in inside
        if (found := [each for each in there if each.name == name and each.type in ADDRESSES])
    ]
    if glue:
        told += f" with the addresses of those that are in it themselves (glue): {', '.join(glue)}"
    return (told,)


async def before_switch(zone: str, servers: Sequence[Server], nameservers: Sequence[str]) -> list[str]:
    """What the registrar has to be told, and in which order: a DS that no key of the new side fits makes the zone
    bogus (RFC 6781 section 4.3.5). `servers` and `nameservers` are those of the new side.
    """
    from ..transport.delegation import delegations
    from ..transport.dnssec import keys_of, to_hand_in

    found = [each for each in await delegations(zone) if not each.problem]
    keys = await keys_of(servers, zone)
    own = to_hand_in(zone, keys)
    trust = _trust(zone, own, keys, found)
    steps = []
    there = sorted({ds for each in found for ds in each.ds})
    if there and _errors(trust):
        wait = max(each.ds_ttl for each in found)
        steps.append(f"take out the DS {'; '.join(there)}, and wait {wait} seconds, until nobody remembers them")
    elif not found:
        steps.append("take out the DS, if there are any, and wait for their TTL: the parent's servers cannot be asked")
    now = sorted({name for each in found for name in each.nameservers})
    was = f", instead of {', '.join(now)}" if now else ""
    steps.append(f"set the name servers to {', '.join(nameservers)}{was}")
    if own and trust.state != "matches":
        steps.append(_hand_in(own))
    return [f"at your registrar, {number}. {step}" for number, step in enumerate(steps, 1)]


async def after_switch(zone: str, servers: Sequence[Server], nameservers: Sequence[str], *, force: bool) -> list[str]:
    """What is left to be told there. Raises NotSwitched with every server of the parent that names others."""
    from ..transport.delegation import delegations
    from ..transport.dnssec import keys_of, to_hand_in

    said = await delegations(zone)
    found = [each for each in said if not each.problem]
    old = [each for each in found if each.nameservers != frozenset(nameservers)]
    if not force and not found:
        silent = "".join(f"\n{_place(each)}: {each.problem}" for each in said)
        raise NotSwitched(
            f"no server of the parent of {zone} says whether its name servers are switched{silent}",
            hint="--force, if you know it",
        )
    if not force and old:
        raise NotSwitched(
            f"the name servers of {zone} are not switched to {', '.join(nameservers)} everywhere\n"
            + "\n".join(f"{_place(each)} still has {', '.join(sorted(each.nameservers)) or 'none'}" for each in old),
            hint="the registry may take some hours; --force, if you know better",
        )
    keys = await keys_of(servers, zone)
    own = to_hand_in(zone, keys)
    return list(_left_to_do(said, old, own, _trust(zone, own, keys, found)))


def _left_to_do(
    said: Sequence[Delegation], old: Sequence[Delegation], own: Sequence[str], trust: Trust
) -> Iterator[str]:
    yield from (f"{_place(each)} could not be asked: {each.problem}" for each in said if each.problem)
    yield from (f"{_place(each)} still has {', '.join(sorted(each.nameservers)) or 'none'}" for each in old)
    if trust.state == "missing":
        yield from _errors(trust)
    else:
        yield from (sentence for _, sentence in trust.findings)
    if own and trust.state in ("missing", "unknown"):
        yield f"at your registrar, {_hand_in(own)}"


def _trust(zone: str, own: Sequence[str], keys: Answers, found: Sequence[Delegation]) -> Trust:
    """By what the new side serves: the old one's keys are of no use once the name servers are switched."""
    from ..transport.dnssec import judge

    return judge(zone, own, keys, {each.server: tuple(each.ds) for each in found})


def _errors(trust: Trust) -> list[str]:
    return [sentence for severity, sentence in trust.findings if severity == "error"]


def _hand_in(own: Sequence[str]) -> str:
    return f"hand in the DS {'; '.join(own)}, once the old NS have run out (two days)"


def _place(each: Delegation) -> str:
    name, address, _ = each.server
    return f"{name} ({address})"
