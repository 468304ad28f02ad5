"""The fleet file as resources: what each server should have, in the order in which it can be made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from serverflow_actions.kit import scheduled
from serverflow_actions.kit.events import DEFAULT, KINDS

from ..errors import UsageError
from ..model import selector
from .conflicts import check_actions, check_jobs, check_kinds, check_ports, check_rules
from .resource import Resource

if TYPE_CHECKING:
    from ..model.fleet import AlertRoute, App, CronJob, Fleet, Redis, User

#: The areas that the file is planned for, in the order in which they are made.
AREAS = ("package", "user", "firewall", "app", "redis", "config", "dns", "notify", "cron", "cert", "route")
#: What servers of a role are there for: RFC 9110, 9114 (web), 1035 (DNS), 5321, 6409, 8314 (mail).
ROLE_RULES: Mapping[str, tuple[str, ...]] = {
    "app": ("80/tcp", "443/tcp", "443/udp"),
    "dns": ("53/tcp", "53/udp"),
    "mail": ("25/tcp", "465/tcp", "587/tcp", "993/tcp"),
}
#: The key of a server's whole firewall.
FIREWALL = "firewall.all"
#: Where the file has the channels of alerts, and what goes to each of them where no route says otherwise.
CHANNELS, ALL_FAILURES = "notify.channels", f"* {DEFAULT}"
#: Where a stanza's key is not its action's parameter with `_` for `-`.
_PARAMETERS = {("user.create", "keys"): "key"}
#: Keys that say where a stanza applies, and keys that no action takes yet.
_NOT_PARAMETERS = {"on", "allow_from"}


def resources(fleet: Fleet) -> list[Resource]:
    """Packages, then users, the firewall, apps, Redis, configuration files, name servers, channels of alerts, cron's
    jobs, certificates, routes: what comes later may need what came before.

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
        *_dns(fleet),
        *_notify(fleet),
        *_cron(fleet),
        *_certificates(fleet),
        *_routes(fleet),
    ]
    check_ports(found)
    check_kinds(fleet, found)
    check_rules(fleet)
    check_jobs(fleet)
    check_actions(found)
    return found


def file_key(action: str, param: str) -> str:
    """The key in a stanza that an action's parameter is written to: `max-memory` is `max_memory`."""
    named = {(owner, name): key for (owner, key), name in _PARAMETERS.items()}
    return named.get((action, param), param.replace("-", "_"))


def file_value(action: str, param: str, value: Any) -> Any:
    """A parameter's value as the stanza has it: there, KEY=VALUE of a job's action are a table. Raises UsageError."""
    if (action, param) != ("cron.add", "params"):
        return value
    try:
        return scheduled.parameters(value)
    except ValueError as error:
        raise UsageError(str(error)) from None


def not_planned(fleet: Fleet) -> list[str]:
    """The stanzas that this version reads and checks but cannot apply yet, by their place in the file.

    `checks` are no wish for a server: they are tried whenever a safe change is made. Nor are `operators`: they belong
    to the trust file.
    """
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
    return [*settings, *(f"grants[{entry}]" for entry in range(len(fleet.grants)))]


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
            roles = dict.fromkeys((*server.roles, *_served(fleet, name)))
            allow += [rule for role in roles for rule in ROLE_RULES.get(role, ()) if rule not in deny]
        params = {"allow": list(dict.fromkeys(allow)), "deny": deny, "ssh-ports": [str(server.port)]}
        yield Resource(name, FIREWALL, "firewall.set", params, "firewall")


def _served(fleet: Fleet, server: str) -> Iterator[str]:
    """The roles that a server has by what the rest of the file lets it do."""
    if any(server in selector.resolve(fleet.servers, route.on) for route in fleet.routes.values()):
        yield "app"
    for provider in fleet.dns.providers.values():
        if provider.provider == "powerdns" and server in {provider.on, *provider.nameservers.values()}:
            yield "dns"


def _config_files(fleet: Fleet) -> Iterator[Resource]:
    """Named after their kinds: a server has one file of each, whatever its stanza is called."""
    for stanza in fleet.config.values():
        params = {"kind": stanza.kind, "content": stanza.content}
        for server in selector.resolve(fleet.servers, stanza.on):
            yield Resource(server, f"config.{stanza.kind}", "config.set", params, "config")


def _dns(fleet: Fleet) -> Iterator[Resource]:
    if not fleet.dns.providers:
        return
    from .name_servers import name_servers

    yield from name_servers(fleet)


def _notify(fleet: Fleet) -> Iterator[Resource]:
    """A channel is on the servers of which some route sends it something; others have no business with its secrets."""
    from ..model.fleet import Secret  # loaded already: by now there is a Fleet

    for name, channel in fleet.notify.channels.items():
        stanza = {key: value for key, value in channel if key in channel.model_fields_set}
        secrets = {key: value.secret for key, value in stanza.items() if isinstance(value, Secret)}
        settings = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in stanza.items()
            if key not in secrets and value is not None
        }
        for server, rules in _rules(fleet, name).items():
            params = {"name": name, "server": server, "rules": rules, **settings}
            yield Resource(server, f"notify.{name}", "notify.set", params, CHANNELS, secrets)


def _rules(fleet: Fleet, channel: str) -> dict[str, list[str]]:
    """What of each server goes to a channel; without any routes all failures of all servers do."""
    if not fleet.notify.routes:
        return {server: [ALL_FAILURES] for server in fleet.servers}
    found: dict[str, list[str]] = {}
    for route in fleet.notify.routes if fleet.servers else ():
        for server in selector.resolve(fleet.servers, route.on) if channel in route.to else ():
            rules = found.setdefault(server, [])
            rules += [rule for rule in _rules_of(route) if rule not in rules]
    return found


def _rules_of(route: AlertRoute) -> Iterator[str]:
    for event in dict.fromkeys(route.events):
        kind, _, severity = event.partition(" ")
        usual = KINDS[kind].severity if kind in KINDS else DEFAULT
        yield f"{kind} {severity or route.severity or usual}"


def _cron(fleet: Fleet) -> Iterator[Resource]:
    for name, job in fleet.cron.items():
        action, params = job_action(fleet, name, job)
        for server in selector.resolve(fleet.servers, job.on):
            yield Resource(server, f"cron.{name}", action, params, "cron")


def job_action(fleet: Fleet, name: str, job: CronJob) -> tuple[str, dict[str, Any]]:
    """The action that installs a job, and its parameters. The time zone is always told: servers do not know ours."""
    params = {"name": name, **_params("", job), "timezone": job.timezone or fleet.timezone}
    if job.app:
        return "cron.command", params
    if job.params:
        from ..model.fields import param_text  # with it comes pydantic, which commands without a stanza do not need

        params["params"] = [f"{key}={text}" for key, value in job.params.items() for text in param_text(value)]
    return "cron.add", params


def _certificates(fleet: Fleet) -> Iterator[Resource]:
    if fleet.acme is None:
        return
    from .certificates import certificates

    yield from certificates(fleet)


def _routes(fleet: Fleet) -> Iterator[Resource]:
    if not fleet.routes and fleet.acme is None:
        return
    from .routes import routes

    yield from routes(fleet)


def _stanzas(fleet: Fleet, table: str, action: str, stanzas: Mapping[str, User | App | Redis]) -> Iterator[Resource]:
    area = action.partition(".")[0]
    for name, stanza in stanzas.items():
        params = {"name": name, **_params(action, stanza)}
        for server in selector.resolve(fleet.servers, stanza.on):
            yield Resource(server, f"{area}.{name}", action, params, table)


def _params(action: str, stanza: User | App | Redis | CronJob) -> dict[str, Any]:
    """What the file sets; for the rest the action's own defaults stand."""
    return {
        _PARAMETERS.get((action, key), key.replace("_", "-")): list(value) if isinstance(value, tuple) else value
        for key, value in stanza
        if key in stanza.model_fields_set and key not in _NOT_PARAMETERS
    }
