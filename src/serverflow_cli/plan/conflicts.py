"""What the resources of one server must not share."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from serverflow_actions import registry
from serverflow_actions.kit import scheduled

from ..errors import ConfigError
from ..model import selector
from .resource import Resource

if TYPE_CHECKING:
    from ..model.fleet import Fleet

#: What an action listens on when the stanza names no port.
_DEFAULT_PORTS = {"redis.create": 6379}
#: Actions whose port is one that they connect to.
_PORTS_OF_OTHERS = {"notify.set"}


class PlanError(ConfigError):
    """The stanzas of the fleet file cannot all be true at once."""

    default_code = "plan"


def check_ports(resources: Sequence[Resource]) -> None:
    """Raise PlanError, naming all of them, when resources of one server claim the same port."""
    claims: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    for resource in resources:
        port = resource.params.get("port", _DEFAULT_PORTS.get(resource.action))
        if port is not None and resource.action not in _PORTS_OF_OTHERS:
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


def check_jobs(fleet: Fleet) -> None:
    """Raise PlanError when a job is for a server that does not have the job's app."""
    problems, ways_out = [], []
    for name, job in fleet.cron.items():
        app = fleet.apps.get(job.app or "")
        if app is None:
            continue  # the job is an action; a name without a stanza is refused when the file is read
        there = selector.resolve(fleet.servers, app.on)
        without = [server for server in selector.resolve(fleet.servers, job.on) if server not in there]
        if without:
            where = f"{', '.join(without)} (apps.{job.app} is on {app.on})"
            problems.append(f"cron.{name}: the app {job.app} is not on {where}")
            # No command: `sf cron edit` keeps jobs where they may be at work, and needs a file in which all others fit.
            ways_out.append(f'give cron.{name} on = "{app.on}", or a part of that; or change `on` of apps.{job.app}')
    if problems:
        raise PlanError("\n".join(problems), hint="\n".join(ways_out))


def check_actions(resources: Sequence[Resource]) -> None:
    """Raise PlanError when a job's action does not exist, or cannot run on a schedule with these parameters: no key has
    a grant for that, so servers would say that it is not allowed.
    """
    asked = {resource.key: resource.params for resource in resources if resource.action == "cron.add"}
    problems, ways_out = [], []
    for key, params in asked.items():
        name = params["action"]
        try:
            scheduled.check(registry.load(name), params.get("params", ()))
        except KeyError:
            problems.append(f"{key}: no action has the name {name}")
            ways_out.append(_near(name))
        except ValueError as error:
            problems.append(f"{key}: {error}")
            ways_out.append(f"sf action show {name}")
    if problems:
        raise PlanError("\n".join(problems), hint="\n".join(dict.fromkeys(ways_out)))


def _near(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, list(registry.names()), 1)
    return f"did you mean {near[0]}?" if near else "sf action list"
