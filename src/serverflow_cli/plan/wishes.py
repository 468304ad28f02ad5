"""Which certificates servers are to have, for what names, and which of them a route uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from serverflow_actions.kit.certificate import LETS_ENCRYPT, STAGING

from ..errors import ConfigError
from ..model import selector
from .once import once
from .welcome import welcoming

if TYPE_CHECKING:
    from ..model.fleet import Acme, Fleet, Route

#: The name, on each server, of the certificate for its own names.
OWN = "server"
_DIRECTORIES = {"letsencrypt": LETS_ENCRYPT, "letsencrypt-staging": STAGING}
#: Certificates for exactly the same names, renewals among them: https://letsencrypt.org/docs/rate-limits/
_EQUAL_A_WEEK = 5


class Wish(NamedTuple):
    """A certificate that a server is to have: its name there, and the host names that it is for."""

    server: str
    name: str
    names: tuple[str, ...]


@once
def wishes(fleet: Fleet) -> Sequence[Wish]:
    """All of them: servers' own, those of the file, and those of routes that no other covers. Raises ConfigError."""
    if fleet.acme is None:
        return []
    found: dict[str, dict[str, Wish]] = {}

    def add(server: str, name: str, names: tuple[str, ...]) -> None:
        found.setdefault(server, {})[name] = Wish(server, name, names)

    for server in selector.resolve(fleet.servers, fleet.acme.on) if fleet.base_domain and fleet.servers else ():
        own = f"{server}.{fleet.base_domain}"
        add(server, OWN, (own, f"*.{own}"))
    for name, stanza in fleet.certificates.items():
        if name == OWN:
            raise ConfigError(f"certificates.{OWN}: that is what the one for a server's own names is called")
        for server in selector.resolve(fleet.servers, stanza.on):
            add(server, name, tuple(stanza.names))
    for name, route in fleet.routes.items():
        for server in selector.resolve(fleet.servers, route.on):
            if route.certificate is None and not _covering(found.get(server, {}), hosts(route)):
                if name in fleet.certificates:
                    raise ConfigError(
                        f"certificates.{name} does not cover routes.{name} on {server}", hint="name it otherwise"
                    )
                add(server, name, hosts(route))
    return [wish for by_name in found.values() for wish in by_name.values()]


def hosts(route: Route) -> tuple[str, ...]:
    """The host names of a route."""
    return tuple(dict.fromkeys((route.host, *route.aliases)))


def certificate_of(fleet: Fleet, server: str, name: str) -> str:
    """The certificate of a route on a server; "" for HTTP only."""
    route = fleet.routes[name]
    if route.certificate is not None or fleet.acme is None:
        return "" if route.certificate in (None, "none") else route.certificate
    return _covering(_by_server(fleet).get(server, {}), hosts(route))


@once
def endpoints(fleet: Fleet) -> Mapping[tuple[str, str], Sequence[str]]:
    """Where a renewal has to be seen, by the certificate's server and name: at the server's page, and at the routes
    that use it.
    """
    found: dict[tuple[str, str], dict[str, None]] = {
        (server, OWN): {f"{host}:443": None} for server, host in welcoming(fleet).items()
    }
    for name, route in fleet.routes.items():
        for server in selector.resolve(fleet.servers, route.on):
            seen = found.setdefault((server, certificate_of(fleet, server, name)), {})
            seen |= {f"{host}:443": None for host in hosts(route) if not host.startswith("*.")}
    return {key: list(seen) for key, seen in found.items()}


def directory(acme: Acme) -> str:
    """The URL of the authority."""
    return _DIRECTORIES.get(acme.directory, acme.directory)


def crowded(fleet: Fleet) -> list[str]:
    """Remarks: names for which more certificates are wanted than Let's Encrypt gives equal ones in a week."""
    if fleet.acme is None or directory(fleet.acme) != LETS_ENCRYPT:
        return []
    found = Counter(frozenset(wish.names) for wish in wishes(fleet))
    return [
        f"{count} certificates are wanted for {', '.join(sorted(names))}: of equal ones Let's Encrypt gives "
        f"{_EQUAL_A_WEEK} a week, so the others have to wait, for renewals too"
        for names, count in found.items()
        if count > _EQUAL_A_WEEK
    ]


@once
def _by_server(fleet: Fleet) -> Mapping[str, Mapping[str, Wish]]:
    found: dict[str, dict[str, Wish]] = {}
    for wish in wishes(fleet):
        found.setdefault(wish.server, {})[wish.name] = wish
    return found


def _covering(known: Mapping[str, Wish], names: tuple[str, ...]) -> str:
    """The first of a server's certificates that is good for these names."""
    return next((name for name, wish in known.items() if all(_covers(wish.names, each) for each in names)), "")


def _covers(names: tuple[str, ...], host: str) -> bool:
    """RFC 6125 section 6.4.3: a wildcard stands for one label."""
    return host in names or f"*.{host.partition('.')[2]}" in names
