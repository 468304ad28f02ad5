"""The fleet file as resources: what each server should have, in the order in which it can be made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..model import address, selector
from .conflicts import check_ports
from .resource import Resource

if TYPE_CHECKING:
    from ..model.fleet import Fleet, Redis


def resources(fleet: Fleet) -> list[Resource]:
    """Packages, then users, then apps, then Redis: what comes later may need what came before.

    Within a kind it is the order of the file. Raises PlanError for what cannot all be true, UsageError for a selector
    that selects nothing (a loaded file has none).
    """
    kinds: tuple[Callable[[Fleet], Iterator[Resource]], ...] = (_packages, _users, _apps, _redis)
    found = [resource for kind in kinds for resource in kind(fleet)]
    check_ports(found)
    return found


def not_planned(fleet: Fleet) -> list[str]:
    """The stanzas that this version reads and checks but cannot apply yet, by their place in the file."""
    tables: tuple[tuple[str, Any], ...] = (
        ("cron", fleet.cron),
        ("notify.channels", fleet.notify.channels),
        ("notify.routes", range(len(fleet.notify.routes))),
        ("dns.providers", fleet.dns.providers),
        ("dns.zones", fleet.dns.zones),
        ("routes", fleet.routes),
        ("operators", fleet.operators),
        ("grants", range(len(fleet.grants))),
    )
    settings = [
        f"servers.{name}.{key}"
        for name, server in fleet.servers.items()
        for key in ("timezone", "hostname")
        if getattr(server, key)
    ]
    return settings + [
        f"{table}[{entry}]" if isinstance(entry, int) else f"{table}.{entry}"
        for table, names in tables
        for entry in names
    ]


def _packages(fleet: Fleet) -> Iterator[Resource]:
    """One resource for a server's whole list: apt locks and resolves once."""
    for name, server in fleet.servers.items():
        if server.packages:
            yield Resource(name, "package.all", "package.install", {"names": list(server.packages)}, "servers")


def _users(fleet: Fleet) -> Iterator[Resource]:
    for name, user in fleet.users.items():
        params = _present(
            name=name, keys=list(user.keys), groups=list(user.groups), shell=user.shell, comment=user.comment
        )
        for server in selector.resolve(fleet.servers, user.on):
            yield Resource(server, f"user.{name}", "user.create", params, "users")


def _apps(fleet: Fleet) -> Iterator[Resource]:
    for name, app in fleet.apps.items():
        params = _present(name=name, user=app.user, data=list(app.data), port=app.port)
        for server in selector.resolve(fleet.servers, app.on):
            yield Resource(server, f"app.{name}", "app.create", params, "apps")


def _redis(fleet: Fleet) -> Iterator[Resource]:
    for name, redis in fleet.redis.items():
        for server in selector.resolve(fleet.servers, redis.on):
            allowed, notes = _allowed(fleet, redis, server)
            params = {"name": name, "max-memory": redis.max_memory, **_present(port=redis.port)}
            if allowed:
                params["allow-from"] = allowed
            yield Resource(server, f"redis.{name}", "redis.create", params, "redis", notes)


def _allowed(fleet: Fleet, redis: Redis, server: str) -> tuple[list[str], tuple[str, ...]]:
    """The addresses that may connect, and who was left out.

    Names are not resolved here: a plan does no I/O, and what DNS says is no reason to open a port. A server reaches
    itself over loopback.
    """
    if redis.allow_from is None:
        return [], ()
    others = [name for name in selector.resolve(fleet.servers, redis.allow_from) if name != server]
    hosts = {name: fleet.servers[name].host for name in others}
    notes = tuple(
        f"{name} is left out of allow_from: {host} is a name, and only IP addresses are let in"
        for name, host in hosts.items()
        if not address.is_ip(host)
    )
    return list(dict.fromkeys(host for host in hosts.values() if address.is_ip(host))), notes


def _present(**params: Any) -> dict[str, Any]:
    """The parameters that the file sets; the action's own defaults stand for the others."""
    return {name: value for name, value in params.items() if value is not None}
