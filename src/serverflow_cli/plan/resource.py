"""Resource: one thing that should exist on one server, as the action that makes it so."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Resource:
    """A stanza of the fleet file on one of the servers that it selects.

    `key` names it on its server ("redis.cache"), `table` is where the file has it ("redis"). `secrets` are the action's
    secret parameters, each with the name in secrets.toml of its value, which no Resource holds.
    """

    server: str
    key: str
    action: str
    params: Mapping[str, Any]
    table: str
    secrets: Mapping[str, str] = field(default_factory=dict)


def resource_hash(resource: Resource) -> str:
    """SHA-256, in hex, of what is asked for. Servers keep it, so that an apply from another base is noticed.

    The order of parameters does not matter; server, key and table are not part of it, nor are the values of secrets:
    whether these are the same, only the server can say.
    """
    asked: dict[str, Any] = {"action": resource.action, "params": dict(resource.params)}
    if resource.secrets:
        asked["secrets"] = dict(resource.secrets)
    return hashlib.sha256(
        json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    ).hexdigest()
