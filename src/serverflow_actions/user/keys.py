"""The keys that open an account."""

from __future__ import annotations

from typing import Any

from ..kit import Params, Probe, Refused, action
from ..kit.steps.authorized_keys import keys_of
from ._shared import NAME, home_of


@action("user.keys", "List the public keys that open an account", kind="read", reads=("/home",), params=[NAME])
def keys(params: Params, probe: Probe) -> dict[str, Any]:
    found = probe.user(params.name)
    if not found:
        raise Refused(f"there is no user {params.name}")
    return {
        "keys": [
            {"fingerprint": key.fingerprint, "type": key.type, "comment": key.comment, "options": key.options}
            for key in keys_of(probe, home_of(found))
        ]
    }
