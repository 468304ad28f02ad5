"""What the resources of one server must not share."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..model import selector
from .resource import Resource

if TYPE_CHECKING:
    from ..model.fleet import Fleet

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


def check_kinds(fleet: Fleet, resources: Sequence[Resource]) -> None:
    """Raise PlanError when two stanzas are for the same configuration file of a server."""
    asked: defaultdict[tuple[str, str], int] = defaultdict(int)
    for resource in resources:
        if resource.action == "config.set":
            asked[resource.server, resource.params["kind"]] += 1
    problems = []
    for (server, kind), count in asked.items():
        named = (
            f"config.{name}"
            for name, stanza in fleet.config.items()
            if stanza.kind == kind and server in selector.resolve(fleet.servers, stanza.on)
        )
        if count > 1:
            problems.append(f"{server}: {' and '.join(named)} have the same kind, {kind}: a server has one such file")
    if problems:
        raise PlanError("\n".join(problems))


def check_rules(fleet: Fleet) -> None:
    """Raise PlanError, naming both stanzas, when one allows on a server what another one, or itself, denies there."""
    names = {stanza.on: selector.resolve(fleet.servers, stanza.on) for stanza in fleet.firewall.values()}
    problems, ways_out = [], []
    for (allowing, ours), (denying, theirs) in product(fleet.firewall.items(), repeat=2):
        both = [name for name in names[ours.on] if name in names[theirs.on]]
        for rule in ours.allow if both else ():
            if rule in theirs.deny:
                problems.append(
                    f"{', '.join(both)}: firewall.{allowing} allows {rule}, and firewall.{denying} denies it"
                )
                places = dict.fromkeys((ours.on, theirs.on))
                ways_out.append(" or ".join(f"sf firewall remove {rule} --on {shlex.quote(on)}" for on in places))
    if problems:
        raise PlanError("\n".join(problems), hint="\n".join(ways_out))
