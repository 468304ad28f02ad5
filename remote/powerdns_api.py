"""PowerDNS' HTTP API, for the broker: the only way in which actions change what name servers say.

It listens on loopback, with a key that root and PowerDNS alone can read. A sandbox has neither, so it asks here, by the
name of a request in kit/powerdns.py. https://doc.powerdns.com/authoritative/http-api/
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Collection
from typing import Any

import store
from serverflow_actions.kit.host import HostError
from serverflow_actions.kit.powerdns import (
    API_ADDRESS,
    API_CONFIG,
    API_PORT,
    CALLS,
    DATA_FOLDER,
    METADATA,
    UNIT,
    api_key_in,
)
from serverflow_actions.kit.rdata.names import fqdn

_TIMEOUT_S = 60
_ANSWER_LIMIT = 4 << 20
_SAID = 1000
#: Bytes: a change needs a rollback journal beside the database, and an inode for it.
_ROOM = 1 << 20


def request(powers: Collection[str], call: str, body: dict[str, Any] | None = None, **names: str) -> dict[str, Any]:
    """Make one request with the declared powers. `names` fill in its path.

    Raises HostError with PowerDNS' own words.
    """
    if call not in CALLS:
        raise HostError(f"PowerDNS is not asked for {call}")
    wanted = CALLS[call]
    if wanted.power not in powers:
        raise HostError(f"this action does not declare {wanted.power}")
    if body is not None and not isinstance(body, dict):
        raise HostError(f"{call} takes an object")
    if set(body or ()) - wanted.body:
        raise HostError(f"{call} has no {', '.join(sorted(set(body or ()) - wanted.body))}")
    try:
        path = wanted.path.format(**{key: _checked(key, value) for key, value in names.items()})
    except KeyError as error:
        raise HostError(f"{call} needs a {error.args[0]}") from None
    return _sent(wanted.method, path, body)


def _checked(key: str, value: str) -> str:
    """What stands in a path: grammars without a slash, a dot-dot or a percent sign (http-api/zone.html, zone id)."""
    if key == "kind":
        if value not in METADATA:
            raise HostError(f"metadata {value} are not set by actions")
        return value
    return fqdn(value)


def _sent(method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    headers = {"X-API-Key": _key(), "Content-Type": "application/json"}
    connection = http.client.HTTPConnection(API_ADDRESS, API_PORT, timeout=_TIMEOUT_S)
    try:
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, f"/api/v1/servers/localhost{path}", data, headers)
        answer = connection.getresponse()
        said = answer.read(_ANSWER_LIMIT)
    except ConnectionRefusedError:
        raise HostError(f"PowerDNS does not run: its API at {API_ADDRESS}:{API_PORT} refuses ({UNIT})") from None
    except (OSError, http.client.HTTPException) as error:
        raise HostError(f"PowerDNS broke off its answer, and may have done what it was asked: {error}") from error
    finally:
        connection.close()
    if answer.status >= 500 and _disk_is_full():
        raise HostError(f"the disk with {DATA_FOLDER} is full: PowerDNS has changed nothing (HTTP {answer.status})")
    if answer.status >= 500:
        raise HostError(
            f"PowerDNS: {_reason(said) or answer.reason} (HTTP {answer.status}): the log of {UNIT} says why"
        )
    if answer.status >= 400:
        raise HostError(f"PowerDNS: {_reason(said) or answer.reason} (HTTP {answer.status})")
    return {}  # what it answers may hold keys


def _disk_is_full() -> bool:
    """PowerDNS itself says "Internal Server Error" and no more."""
    try:
        found = os.statvfs(DATA_FOLDER)
    except OSError:
        return False
    # Some file systems (btrfs) do not count inodes.
    return found.f_bavail * found.f_frsize < _ROOM or (found.f_files > 0 and found.f_favail == 0)


def _key() -> str:
    key = api_key_in((store.read_file(API_CONFIG) or b"").decode("utf-8", "replace"))
    if not key:
        raise HostError(f"{API_CONFIG} has no key for PowerDNS' API: dns.server makes one")
    return key


def _reason(said: bytes) -> str:
    try:
        found = json.loads(said)["error"]
    except (ValueError, KeyError, TypeError):
        found = said.decode("utf-8", "replace").strip()
    return str(found)[:_SAID]
