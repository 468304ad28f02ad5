"""What fleet.toml wants in each zone: its records, and those that follow from servers and name servers."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from serverflow_actions.kit import grammar
from serverflow_actions.kit.rrset import RRset, fqdn, owner, rrset

from ..errors import ConfigError
from ..model import selector
from ..model.zone import Served

if TYPE_CHECKING:
    from ..model.fleet import Fleet, Record, Zone

#: Of records that we make ourselves: short enough that a server that moved is soon found.
_TTL = "5m"
#: What a name is found by: of these a name has those of one origin.
_PLACES = ("A", "AAAA", "CNAME")


class Wanted(NamedTuple):
    """An rrset, and where in fleet.toml it comes from."""

    served: Served
    origin: str


def zone_of(fleet: Fleet, name: str) -> str:
    """The zone of the file that an absolute name lies in, as it stands there; "" for none of them."""
    labels = name.rstrip(".").split(".")
    return next((zone for at in range(len(labels)) if (zone := ".".join(labels[at:])) in fleet.dns.zones), "")


def wanted(fleet: Fleet, zone: str) -> list[Wanted]:
    """The rrsets of a zone. What is written there goes before what would follow from the rest of the file.

    Raises ConfigError with every record that cannot be.
    """
    stanza = fleet.dns.zones[zone]
    found: dict[tuple[str, str], Wanted] = {}
    problems: list[str] = []
    for at, record in enumerate(stanza.records):
        place = f'dns.zones."{zone}".records[{at}]'
        if record.proxied and fleet.dns.providers[stanza.provider].provider != "cloudflare":
            problems.append(f"{place}: `proxied` is Cloudflare's, and {stanza.provider} is not")
        try:
            served = Served(_rrset(record, zone), proxied=record.proxied)
        except ValueError as error:
            problems.append(f"{place}: {error}")
            continue
        key = served.rrset.name, served.rrset.type
        if key in found:
            problems.append(f"{place}: {record.name} {record.type} is there already; one rrset has all its values")
        found[key] = Wanted(served, place)
    if problems:
        raise ConfigError("\n".join(problems))
    origins = {name: each.origin for (name, kind), each in found.items() if kind in _PLACES}
    for each in _following(fleet, zone, stanza):
        name, kind = each.served.rrset.name, each.served.rrset.type
        if kind not in _PLACES or origins.setdefault(name, each.origin) == each.origin:
            found.setdefault((name, kind), each)
    return list(found.values())


def addresses(fleet: Fleet, server: str) -> tuple[str, ...]:
    """Where the world finds a server; () when the file does not say."""
    stanza = fleet.servers[server]
    return stanza.addresses or ((stanza.host,) if _is_address(stanza.host) else ())


def homeless(fleet: Fleet, zone: str) -> list[str]:
    """Remarks: host names of routes that do not lead to a server, since nobody knows where it is."""
    written = {
        owner(record.name, fqdn(zone)) for record in fleet.dns.zones[zone].records if record.type in _PLACES
    }  # fmt: skip
    return [
        f"{host} does not lead to {server}: its host is no address, and servers.{server}.addresses has none"
        for _, host, servers in _hosts(fleet, zone)
        for server in servers
        if fqdn(host) not in written and not addresses(fleet, server)
    ]


def subdomain(fleet: Fleet, server: str) -> str:
    """The server's own name, absolute; "" without a base_domain."""
    return fqdn(f"{server}.{fleet.base_domain}") if fleet.base_domain else ""


def _rrset(record: Record, zone: str) -> RRset:
    ttl = 0 if record.proxied or record.ttl == "auto" else grammar.duration(record.ttl)
    return rrset(owner(record.name, fqdn(zone)), record.type, ttl, record.values, fqdn(zone))


def _following(fleet: Fleet, zone: str, stanza: Zone) -> Iterator[Wanted]:
    yield from _of_servers(fleet, zone)
    yield from _of_name_servers(fleet, zone, stanza)
    yield from _of_routes(fleet, zone)
    if fleet.acme:
        yield from _of_certificates(fleet, zone)


def _of_servers(fleet: Fleet, zone: str) -> Iterator[Wanted]:
    for server in fleet.servers if fleet.base_domain else ():
        name = subdomain(fleet, server)
        if zone_of(fleet, name) == zone:
            for each in name, f"*.{name}":
                yield from _addresses(each, addresses(fleet, server), f"servers.{server}")


def _of_name_servers(fleet: Fleet, zone: str, stanza: Zone) -> Iterator[Wanted]:
    """The addresses of name servers that are in the zone themselves. Its own NS records come with the zone."""
    provider = fleet.dns.providers[stanza.provider]
    if provider.provider != "powerdns":
        return
    origin = f"dns.providers.{stanza.provider}"
    for name, server in provider.nameservers.items():
        if zone_of(fleet, name) == zone:
            yield from _addresses(fqdn(name), addresses(fleet, server), origin)


def _of_routes(fleet: Fleet, zone: str) -> Iterator[Wanted]:
    for name, host, servers in _hosts(fleet, zone):
        found = tuple(address for server in servers for address in addresses(fleet, server))
        yield from _addresses(fqdn(host), found, f"routes.{name}")


def _hosts(fleet: Fleet, zone: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Of each route in a zone: its name, a host name, and its servers."""
    for name, route in fleet.routes.items():
        for host in dict.fromkeys((route.host, *route.aliases)):
            if zone_of(fleet, fqdn(host)) == zone:
                yield name, host, tuple(selector.resolve(fleet.servers, route.on))


def _of_certificates(fleet: Fleet, zone: str) -> Iterator[Wanted]:
    """Where proofs are looked for, and the delegations of the zones that they are in."""
    from .proofs import aliases

    found = aliases(fleet)
    wildcards = {subdomain(fleet, server): server for server in fleet.servers}
    for alias, challenge in found.items():
        if zone_of(fleet, alias) == zone:
            yield Wanted(Served(rrset(alias, "CNAME", grammar.duration(_TTL), [challenge.zone], zone)), "acme")
            # Since something is below that name now, the wildcard beside it does not count for it (RFC 4592 2.2.2).
            name = alias.partition(".")[2]
            if server := wildcards.get(name.partition(".")[2]):
                yield from _addresses(name, addresses(fleet, server), f"servers.{server}")
    for challenge in dict.fromkeys(found.values()):
        provider = fleet.dns.providers[challenge.provider]
        if zone_of(fleet, challenge.zone) == zone and provider.provider == "powerdns":
            names = sorted(map(fqdn, provider.nameservers))
            yield Wanted(Served(rrset(challenge.zone, "NS", grammar.duration("1d"), names, zone)), "acme")


def _addresses(name: str, found: tuple[str, ...], origin: str) -> Iterator[Wanted]:
    for kind, version in ("A", 4), ("AAAA", 6):
        values = [each for each in found if ipaddress.ip_address(each).version == version]
        if values:
            yield Wanted(Served(rrset(name, kind, grammar.duration(_TTL), values, name)), origin)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
