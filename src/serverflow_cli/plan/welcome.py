"""The page by which a server with a certificate answers at its own name, until a route of the file has that name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from serverflow_actions.kit.route import takes

from ..model import selector
from .once import once

if TYPE_CHECKING:
    from ..model.fleet import Fleet

#: The key of its resource, and so the route's name on its server: `server`, as the certificate is called.
PAGE = "route.server"


@once
def welcoming(fleet: Fleet) -> Mapping[str, str]:
    """The host names of the pages, by server."""
    return {
        server: host
        for server, host in _named(fleet).items()
        if fleet.acme and fleet.acme.welcome and not _is_taken(fleet, server, host)
    }


def unwelcoming(fleet: Fleet) -> list[str]:
    """The servers that would have one, and are not to: `welcome` says so."""
    return [] if fleet.acme is None or fleet.acme.welcome else list(_named(fleet))


def given_way(fleet: Fleet) -> list[str]:
    """The servers on which a route of the file has taken the place of the page."""
    return [server for server, host in _named(fleet).items() if _is_taken(fleet, server, host)]


def _named(fleet: Fleet) -> dict[str, str]:
    """Servers of role app that get a certificate for their own names."""
    if fleet.acme is None or not fleet.base_domain or not fleet.servers:
        return {}
    names = selector.resolve(fleet.servers, fleet.acme.on)
    return {name: f"{name}.{fleet.base_domain}" for name in names if "app" in fleet.servers[name].roles}


def _is_taken(fleet: Fleet, server: str, host: str) -> bool:
    return any(takes(name, host) for name in _routed(fleet).get(server, ()))


@once
def _routed(fleet: Fleet) -> Mapping[str, list[str]]:
    """The host names of the file's routes, by server."""
    found: dict[str, list[str]] = {}
    for route in fleet.routes.values():
        for server in selector.resolve(fleet.servers, route.on):
            found.setdefault(server, []).extend((route.host, *route.aliases))
    return found
