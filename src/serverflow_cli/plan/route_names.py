"""Whether the host names of a route lead to its servers: as far as fleet.toml says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING

from serverflow_actions.kit.rrset import RRset, fqdn

from ..model import selector
from .wishes import hosts
from .zones import addresses, wanted, zone_of

if TYPE_CHECKING:
    from ..model.fleet import Fleet

#: Aliases of aliases: more than that are a circle.
_LONGEST = 8
_UNKNOWN = "fleet.toml does not say whether that is"


def astray(fleet: Fleet, name: str) -> list[str]:
    """Remarks: records that stand in the way of the one that the route would have, and do not lead to its servers."""
    route = fleet.routes[name]
    servers = selector.resolve(fleet.servers, route.on)
    return [remark for host in hosts(route) for remark in _remarks(fleet, fqdn(host), servers)]


def _remarks(fleet: Fleet, host: str, servers: Sequence[str]) -> Iterator[str]:
    end, theirs = host, ", ".join(servers)
    for _ in range(_LONGEST):
        found = _rrsets(fleet, end)
        alias = next((each for each in found if each.type == "CNAME"), None)
        if not alias:
            break
        (end,) = alias.values
    via = "" if end == host else f" by way of {end}"
    places = [each for each in found if each.type in ("A", "AAAA")]
    if not places and (alias or end != host):
        yield f"{host} CNAME leads to {end}, and {_UNKNOWN} {theirs}"
    for each in places:
        others, is_known = _others(fleet, each, servers)
        if others:
            where = f"{host} {each.type} leads to {', '.join(others)}{via}"
            yield f"{where}, " + (f"not to {theirs}" if is_known else f"and {_UNKNOWN} {theirs}")


def _rrsets(fleet: Fleet, name: str) -> list[RRset]:
    """Those of a name, else of the next wildcard above it (RFC 4592)."""
    zone = zone_of(fleet, name)
    there = [each.served.rrset for each in wanted(fleet, zone)] if zone else []
    labels = name.split(".")
    wildcards = (f"*.{'.'.join(labels[at:])}" for at in range(1, len(labels)))
    candidates = ([each for each in there if each.name == one] for one in (name, *wildcards))
    return next(filter(None, candidates), [])


def _others(fleet: Fleet, rrset: RRset, servers: Sequence[str]) -> tuple[list[str], bool]:
    """The addresses that are none of the servers' by the file; whether it knows that: it has the address of each of
    them, or of whom it leads to.
    """
    version = 4 if rrset.type == "A" else 6
    known = {name: {ip_address(each) for each in addresses(fleet, name)} for name in fleet.servers}
    ours = set().union(*(known[server] for server in servers))
    others = [each for each in rrset.values if ip_address(each) not in ours]
    has_all = all(any(each.version == version for each in known[server]) for server in servers)
    return others, has_all or {*map(ip_address, others)} <= set().union(*known.values())
