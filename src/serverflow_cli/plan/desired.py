"""The fleet file as resources: what each server should have, in the order in which it can be made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..model import selector
from .conflicts import check_kinds, check_ports, check_rules
from .resource import Resource

if TYPE_CHECKING:
    from ..model.fleet import App, Fleet, Redis, User

#: The areas that the file is planned for, in the order in which they are made.
AREAS = ("package", "user", "firewall", "app", "redis", "config")
#: What servers of a role are there for: RFC 9110, 9114 (web), 1035 (DNS), 5321, 6409, 8314 (mail).
ROLE_RULES: Mapping[str, tuple[str, ...]] = {
    "app": ("80/tcp", "443/tcp", "443/udp"),
    "dns": ("53/tcp", "53/udp"),
    "mail": ("25/tcp", "465/tcp", "587/tcp", "993/tcp"),
}
#: The key of a server's whole firewall.
FIREWALL = "firewall.all"
#: Where a stanza's key is not its action's parameter with `_` for `-`.
_PARAMETERS = {("user.create", "keys"): "key"}
#: Keys that say where a stanza applies, and keys that no action takes yet.
_NOT_PARAMETERS = {"on", "allow_from"}


def resources(fleet: Fleet) -> list[Resource]:
    """Packages, then users, the firewall, apps, Redis, configuration files: what comes later may need what came before.

    Within a kind it is the order of the file. Raises PlanError for what cannot all be true, UsageError for a selector
    that selects nothing (a loaded file has none).
    """
    found = [
        *_packages(fleet),
        *_stanzas(fleet, "users", "user.create", fleet.users),
        *_firewalls(fleet),
        *_stanzas(fleet, "apps", "app.create", fleet.apps),
        *_stanzas(fleet, "redis", "redis.create", fleet.redis),
        *_config_files(fleet),
    ]
    check_ports(found)
    check_kinds(fleet, found)
    check_rules(fleet)
    return found


def file_key(action: str, param: str) -> str:
    """The key in a stanza that an action's parameter is written to: `max-memory` is `max_memory`."""
    named = {(owner, name): key for (owner, key), name in _PARAMETERS.items()}
    return named.get((action, param), param.replace("-", "_"))


def not_planned(fleet: Fleet) -> list[str]:
    """The stanzas that this version reads and checks but cannot apply yet, by their place in the file.

    `checks` are no wish for a server: they are tried whenever a safe change is made.
    """
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
        f"{table}.{name}.{key}"
        for table, stanzas, keys in (
            ("servers", fleet.servers, ("timezone", "hostname")),
            ("redis", fleet.redis, ("allow_from",)),
        )
        for name, stanza in stanzas.items()
        for key in keys
        if getattr(stanza, key)
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


def _firewalls(fleet: Fleet) -> Iterator[Resource]:
    """One resource for all stanzas that select a server: its rules are one file. Without any it has none of ours."""
    selected = [(stanza, selector.resolve(fleet.servers, stanza.on)) for stanza in fleet.firewall.values()]
    for name, server in fleet.servers.items():
        stanzas = [stanza for stanza, names in selected if name in names]
        if not stanzas:
            continue
        deny = list(dict.fromkeys(rule for stanza in stanzas for rule in stanza.deny))
        allow = [rule for stanza in stanzas for rule in stanza.allow]
        if all(stanza.defaults for stanza in stanzas):
            allow += [rule for role in server.roles for rule in ROLE_RULES.get(role, ()) if rule not in deny]
        params = {"allow": list(dict.fromkeys(allow)), "deny": deny, "ssh-ports": [str(server.port)]}
        yield Resource(name, FIREWALL, "firewall.set", params, "firewall")


def _config_files(fleet: Fleet) -> Iterator[Resource]:
    """Named after their kinds: a server has one file of each, whatever its stanza is called."""
    for stanza in fleet.config.values():
        params = {"kind": stanza.kind, "content": stanza.content}
        for server in selector.resolve(fleet.servers, stanza.on):
            yield Resource(server, f"config.{stanza.kind}", "config.set", params, "config")


def _stanzas(fleet: Fleet, table: str, action: str, stanzas: Mapping[str, User | App | Redis]) -> Iterator[Resource]:
    area = action.partition(".")[0]
    for name, stanza in stanzas.items():
        params = {"name": name, **_params(action, stanza)}
        for server in selector.resolve(fleet.servers, stanza.on):
            yield Resource(server, f"{area}.{name}", action, params, table)


def _params(action: str, stanza: User | App | Redis) -> dict[str, Any]:
    """What the file sets; for the rest the action's own defaults stand."""
    return {
        _PARAMETERS.get((action, key), key.replace("_", "-")): list(value) if isinstance(value, tuple) else value
        for key, value in stanza
        if key in stanza.model_fields_set and key not in _NOT_PARAMETERS
    }
