"""What the resources of one server must not share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ..errors import ConfigError
from .resource import Resource

#: What an action listens on when the stanza names no port.
_DEFAULT_PORTS = {"redis.create": 6379}


class PlanError(ConfigError):
    """The stanzas of the fleet file cannot all be true at once."""

    default_code = "plan"


def check_ports(resources: Sequence[Resource]) -> None:
    """Raise PlanError, naming all of them, when resources of one server claim the same port."""
    claims: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    for resource in resources:
        port = resource.params.get("port", _DEFAULT_PORTS.get(resource.action))
        if port is not None:
            claims[resource.server, port].append(resource.key)
    problems = [
        f"{server}: {' and '.join(keys)} claim port {port}" for (server, port), keys in claims.items() if len(keys) > 1
    ]
    if problems:
        raise PlanError("\n".join(problems))


def check_kinds(resources: Sequence[Resource]) -> None:
    """Raise PlanError when two stanzas are for the same configuration file of a server."""
    asked: defaultdict[tuple[str, str], int] = defaultdict(int)
    for resource in resources:
        if resource.action == "config.set":
            asked[resource.server, resource.params["kind"]] += 1
    problems = [
        f"{server}: {count} config stanzas have the kind {kind}" for (server, kind), count in asked.items() if count > 1
    ]
    if problems:
        raise PlanError("\n".join(problems))


def check_rules(resources: Sequence[Resource]) -> None:
    """Raise PlanError when the firewall stanzas of a server both allow and deny the same."""
    problems = [
        f"{resource.server}: its firewall stanzas both allow and deny {rule}"
        for resource in resources
        if resource.action == "firewall.set"
        for rule in resource.params["allow"]
        if rule in resource.params["deny"]
    ]
    if problems:
        raise PlanError("\n".join(problems))
