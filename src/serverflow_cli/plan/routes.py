"""Routes of the fleet file as resources of the servers that answer for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..model import selector
from .resource import Resource
from .welcome import PAGE, unwelcoming, welcoming
from .wishes import OWN, certificate_of, hosts

if TYPE_CHECKING:
    from ..model.fleet import Fleet, Route, RouteTarget

#: Keys of the stanza that are parameters as they stand.
_PLAIN = ("hsts", "body_size", "read_timeout", "rate", "burst", "maintenance_page")
_SWITCHES = ("redirect", "websockets", "maintenance", "access_log")


def routes(fleet: Fleet) -> Iterator[Resource]:
    """One for each route on each of its servers, then the pages at servers' own names. Raises ConfigError."""
    if OWN in fleet.routes:
        raise ConfigError(
            f"routes.{OWN}: that is what the page at a server's own name is called", hint="give it another name"
        )
    for name, route in fleet.routes.items():
        for server in selector.resolve(fleet.servers, route.on):
            params = _params(name, route, certificate_of(fleet, server, name))
            secrets = {"auth-password": route.login.password.secret} if route.login else {}
            yield Resource(server, f"route.{name}", "route.set", params, "routes", secrets)
    for server, host in welcoming(fleet).items():
        params = {"name": OWN, "host": [host], "to": f"page:{server}", "certificate": OWN}
        yield Resource(server, PAGE, "route.set", params, "acme")
    for server in unwelcoming(fleet):
        yield Resource(server, PAGE, "route.remove", {"name": OWN}, "acme")


def _params(name: str, route: Route, certificate: str) -> dict[str, Any]:
    params: dict[str, Any] = {"name": name, "host": list(hosts(route))}
    if route.to:
        params["to"] = _place(route.to)
    if route.paths:
        params["path"] = [f"{path} {_place(to)}" for path, to in route.paths.items()]
    if certificate:
        params["certificate"] = certificate
    for key in _PLAIN:
        if (value := getattr(route, key)) is not None:
            params[key.replace("_", "-")] = value
    for key in _SWITCHES:
        if key in route.model_fields_set:
            params[key.replace("_", "-")] = getattr(route, key)
    if route.login:
        params["auth-user"] = route.login.user
    return params


def _place(to: RouteTarget) -> str:
    """As route.set reads it."""
    if to.port is not None:
        return str(to.port)
    if to.socket is not None:
        return f"unix:{to.socket}"
    return to.app or to.address or to.folder or ""
