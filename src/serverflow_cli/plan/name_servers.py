"""Name servers of our own, as resources: PowerDNS, the key of their transfers, the catalog, and the zones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from serverflow_actions.kit.rrset import fqdn

from ..errors import ConfigError
from .resource import Resource
from .zones import addresses

if TYPE_CHECKING:
    from ..model.fleet import Fleet, PowerDns

TABLE = "dns.providers"


def name_servers(fleet: Fleet) -> Iterator[Resource]:
    """Of each provider the primary first, then what copies from it, then the zones. Raises ConfigError."""
    _check_apart(fleet)
    for name, settings in fleet.dns.providers.items():
        if settings.provider == "powerdns":
            yield from _servers(fleet, name, settings)


def transfer_key(provider: str) -> str:
    """The name of the TSIG key that a provider's servers know each other by."""
    return fqdn(f"transfer-{provider}")


def catalog(provider: str) -> str:
    """The zone by which secondaries learn of zones (RFC 9432). It is asked for by nobody else (RFC 6761)."""
    return fqdn(f"catalog-{provider}.invalid")


def secondaries(settings: PowerDns) -> list[str]:
    """The servers that copy from the primary."""
    return [server for server in dict.fromkeys(settings.nameservers.values()) if server != settings.on]


def _servers(fleet: Fleet, name: str, settings: PowerDns) -> Iterator[Resource]:
    copies = secondaries(settings)
    if copies and settings.transfer_key is None:
        secret = f"{name.replace('-', '_')}_transfer_key"
        raise ConfigError(
            f"dns.providers.{name} has secondaries, and no transfer_key",
            hint=f'transfer_key = {{ secret = "{secret}" }}; openssl rand -base64 32 | sf secret set {secret} --stdin',
        )
    key = settings.transfer_key.secret if settings.transfer_key else ""
    for server in (settings.on, *copies):
        role = "primary" if server == settings.on else "secondary"
        yield Resource(server, "dns.server", "dns.server", {"role": role}, TABLE)
        if key:
            about = {"name": transfer_key(name)}
            yield Resource(server, f"dns.key.{transfer_key(name)}", "dns.key", about, TABLE, {"secret": key})
    if key:
        yield from _catalog(fleet, name, settings, copies)
    yield from _zones(fleet, name, settings)


def _catalog(fleet: Fleet, name: str, settings: PowerDns, copies: list[str]) -> Iterator[Resource]:
    zone, shared = catalog(name), {"transfer-key": transfer_key(name)}
    told = {"also-notify": _addresses(fleet, copies)}
    yield _zone(settings.on, zone, {"kind": "producer", **shared, **told})
    for server in copies:
        yield _zone(server, zone, {"kind": "consumer", **shared, "primaries": _addresses(fleet, [settings.on])})


def _zones(fleet: Fleet, name: str, settings: PowerDns) -> Iterator[Resource]:
    for each, stanza in fleet.dns.zones.items():
        if stanza.provider == name:
            yield zone(fleet, name, settings, fqdn(each), dnssec=stanza.dnssec)


def zone(fleet: Fleet, provider: str, settings: PowerDns, zone: str, *, dnssec: bool = False) -> Resource:
    """A zone that is kept on the primary, and copied from there."""
    names = sorted(settings.nameservers, key=lambda each: settings.nameservers[each] != settings.on)
    params: dict[str, object] = {"kind": "primary", "nameservers": [fqdn(each) for each in names]}
    if copies := secondaries(settings):
        shared = {"transfer-key": transfer_key(provider), "catalog": catalog(provider)}
        params |= {**shared, "also-notify": _addresses(fleet, copies)}
    if dnssec:
        params["dnssec"] = True
    return _zone(settings.on, zone, params)


def _zone(server: str, zone: str, params: dict[str, object]) -> Resource:
    return Resource(server, f"dns.zone.{zone}", "dns.zone", {"zone": zone, **params}, "dns.zones")


def _addresses(fleet: Fleet, servers: list[str]) -> list[str]:
    found: list[str] = []
    for server in servers:
        known = addresses(fleet, server)
        if not known:
            raise ConfigError(
                f"nobody knows the address of {server}: its host is a name", hint=f"servers.{server}.addresses"
            )
        found += known
    return found


def _check_apart(fleet: Fleet) -> None:
    """One PowerDNS on a server, of one provider."""
    used: dict[str, str] = {}
    for name, settings in fleet.dns.providers.items():
        for server in {settings.on, *settings.nameservers.values()} if settings.provider == "powerdns" else ():
            if server in used:
                raise ConfigError(f"{server} serves zones of dns.providers.{used[server]} already, and of {name}")
            used[server] = name
