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
