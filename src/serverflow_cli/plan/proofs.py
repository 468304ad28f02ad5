"""How a server proves that names are its own, RFC 8555 section 8.4: by a zone that only its key may change, and one
for each name that others have too. What a thief of the keys could do is said in `power`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from serverflow_actions.kit.rrset import fqdn

from .once import once
from .wishes import OWN, Wish, wishes
from .zones import addresses, zone_of

if TYPE_CHECKING:
    from ..model.fleet import Fleet
    from .resource import Resource

#: Below these labels are the zones of proofs: of servers, and of certificates for names that several servers have.
PROOFS = _ALONE, _SHARED = "acme-challenge", "acme-shared"
#: How the names in secrets.toml begin of keys that several servers have.
SHARED_KEYS = "proof_shared_"


class Challenge(NamedTuple):
    """Where proofs are put: a zone at that provider, which only its key may change. `secret` is the key's name in
    secrets.toml, `servers` have it.
    """

    zone: str
    provider: str
    secret: str
    servers: tuple[str, ...]


@once
def challenges(fleet: Fleet) -> Mapping[tuple[str, str], Challenge]:
    """Where each certificate is proved, by its server and name; {} where there is a token. Raises ConfigError.

    `_acme-challenge` of a name leads to one zone only. So servers that are to have certificates for the same name share
    a zone, which is named after one of these.
    """
    found: dict[tuple[str, str], Challenge] = {}
    for group in _sharing(wishes(fleet)):
        servers = tuple(dict.fromkeys(wish.server for wish in group))
        if len(servers) == 1:
            challenge = challenge_of(fleet, servers[0])
        else:  # one of them is no server's own: those have no name in common
            name = min(wish.name for wish in group if wish.name != OWN)
            challenge = _challenge(fleet, f"{name}.{_SHARED}", _shared_secret(name, servers), servers)
        if challenge:
            found |= {(wish.server, wish.name): challenge for wish in group}
    return found


def challenge_of(fleet: Fleet, server: str) -> Challenge | None:
    """A server's own. None where no zone is at PowerDNS: then there is a token."""
    return _challenge(fleet, f"{server}.{_ALONE}", secret_of(server), (server,))


@once
def aliases(fleet: Fleet) -> Mapping[str, Challenge]:
    """`_acme-challenge` of each name, and where it leads. Raises ConfigError."""
    proved = challenges(fleet)
    return {
        alias: proved[wish.server, wish.name]
        for wish in wishes(fleet)
        if (wish.server, wish.name) in proved
        for alias in map(_alias, wish.names)
    }


def secret_of(server: str) -> str:
    """The name in secrets.toml of the key by which a server changes its own zone of proofs."""
    # With the kind in it: a server `token` does not share a name with a token, nor one `shop` with a certificate.
    return f"proof_server_{_plain(server)}"


def _shared_secret(name: str, servers: Iterable[str]) -> str:
    """Other servers, another key: whoever had it and has it no more must not know the next one."""
    digest = hashlib.sha256("\n".join((name, *sorted(servers))).encode()).hexdigest()
    return f"{SHARED_KEYS}{_plain(name)[:32]}_{digest[:8]}"


def _plain(name: str) -> str:
    return name.replace("-", "_")


def power(fleet: Fleet, server: str) -> str:
    """What whoever steals the server's credentials could do, for plans."""
    names: dict[Challenge, list[str]] = {}
    for alias, challenge in aliases(fleet).items():
        if server in challenge.servers:
            names.setdefault(challenge, []).append(alias.removeprefix("_acme-challenge.").rstrip("."))
    if names:
        return f"{server} gets " + "; and ".join(
            f"a key for {challenge.zone} alone{_had_too(challenge, server)}: "
            f"with it one could get certificates for {', '.join(found)}"
            for challenge, found in names.items()
        )
    zones = ", ".join(dict.fromkeys(zone_of(fleet, name) for wish in wishes(fleet) for name in wish.names))
    return f"{server} gets a token for Cloudflare: with it one could change every record of {zones}"


def by_hand(fleet: Fleet, resources: Iterable[Resource]) -> list[str]:
    """Remarks: what whoever has their zones is to make for names of these that lie in no zone of the file: where a
    route's are found, and where those of a certificate are proved.
    """
    found: dict[str, dict[str, None]] = {}

    def add(name: str, record: str) -> None:
        if not zone_of(fleet, name):
            found.setdefault(name, {})[record] = None

    alias_of = aliases(fleet)
    for each in resources:
        if each.action == "route.set":
            for name in each.params["host"]:
                for address in addresses(fleet, each.server) or (f"that leads to {each.server}",):
                    add(name, f"{name} {'AAAA' if ':' in address else 'A'} {address}")
        elif each.action == "cert.set":
            for name in each.params["names"]:
                if challenge := alias_of.get(_alias(name)):
                    add(name, f"{_alias(name)} CNAME {challenge.zone}")
    known = f"; there is {', '.join(fleet.dns.zones)}" if fleet.dns.zones else ""
    return [
        f"{name} is in no zone of fleet.toml{known}. To be made by hand, where its zone is: {', '.join(records)}"
        for name, records in found.items()
    ]


def _had_too(challenge: Challenge, server: str) -> str:
    others = ", ".join(each for each in challenge.servers if each != server)
    return f", as {others} {'do' if ',' in others else 'does'}" if others else ""


def _challenge(fleet: Fleet, label: str, secret: str, servers: tuple[str, ...]) -> Challenge | None:
    at_home = [
        zone for zone, stanza in fleet.dns.zones.items() if fleet.dns.providers[stanza.provider].provider == "powerdns"
    ]
    if not at_home:
        return None
    base = zone_of(fleet, fleet.base_domain) if fleet.base_domain else ""
    parent = base if base in at_home else at_home[0]
    return Challenge(fqdn(f"{label}.{parent}"), fleet.dns.zones[parent].provider, secret, servers)


def _sharing(found: Sequence[Wish]) -> list[list[Wish]]:
    """Certificates, those that have a name in common together."""
    groups: dict[str, list[Wish]] = {}
    for wish in found:
        met = {id(group): group for alias in map(_alias, wish.names) if (group := groups.get(alias))}
        joined = [*chain.from_iterable(met.values()), wish]
        groups |= {_alias(name): joined for each in joined for name in each.names}
    return list({id(group): group for group in groups.values()}.values())


def _alias(name: str) -> str:
    """Where an authority looks for the proof of a name (RFC 8555 section 8.4), and of its wildcard."""
    return fqdn(f"_acme-challenge.{name.removeprefix('*.')}")
