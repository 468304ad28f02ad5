"""Which actions may run on a schedule, and their parameters as commands and jobs' files carry them: KEY=VALUE.

One reading for all: what a key's grant is compared with is what runs later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from .spec import Action, BadParams, needs_safe, parse

_PAIR = re.compile(r"([a-z][a-z0-9-]*)=(.*)\Z", re.S)
#: What runs when nobody is there must not change who may do what, who is found under a name, nor this machinery itself.
_AREAS = frozenset(("cert", "cron", "dns", "notify", "op", "route", "safe", "server"))


def parameters(pairs: Iterable[str]) -> dict[str, str | list[str]]:
    """`unit=nginx` is {"unit": "nginx"}; a name that is given several times has a list. Raises ValueError."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        match = _PAIR.match(pair)
        if not match:
            raise ValueError(f"{pair[:60]!a} is not a parameter such as unit=nginx")
        found.setdefault(match.group(1), []).append(match.group(2))
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def arguments(action: Action, pairs: Iterable[str]) -> dict[str, Any]:
    """The same as a command for the action carries them: what takes several values has a list also for one.

    Raises ValueError.
    """
    many = {param.name for param in action.params if param.many}
    return {
        name: [value] if name in many and isinstance(value, str) else value for name, value in parameters(pairs).items()
    }


def check(action: Action, pairs: Iterable[str]) -> dict[str, Any]:
    """The arguments of an action that may run on a schedule with them. Raises ValueError with the reason."""
    reason = _never(action)
    if reason:
        raise ValueError(f"{action.name} cannot be scheduled: {reason}")
    given = arguments(action, pairs)
    try:
        parse(action.params, given)
    except BadParams as error:
        raise ValueError(f"parameters of {action.name}: {error}") from None
    if needs_safe(action.safe, action.lifelines, given):
        raise ValueError(f"{action.name} cannot be scheduled so: somebody has to confirm it")
    return given


def _never(action: Action) -> str:
    """Why it may not run on a schedule, whatever its parameters are; "" when it may."""
    if action.area in _AREAS or action.profile == "core" or action.schedules:
        return "it is done by people"
    if action.kind == "read":
        return "it only reads, and nobody would see what"
    if any(param.secret for param in action.params) or action.blobs:
        return "it takes secrets or content that a job cannot keep"
    if action.reveals:
        return "it makes a password, and nobody would see it"
    if action.destructive:
        return "it deletes, which somebody has to confirm"
    return "somebody has to confirm it" if action.safe == "always" else ""
