"""What the trust file lets a key do, and until when: so that sf can say it before it asks a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .trustfile import Trust

_DAY_MS = 86_400_000


def may(trust: Trust, key: bytes, action: str, params: Mapping[str, Any], server_id: str, now_ms: int) -> str:
    """Why the server would refuse this command, as a sentence; "" when nothing speaks against it.

    For a quick and clear answer only: the server decides, by its own copy and its own clock.
    """
    held = next((one for one in trust.command if one.public_key == key), None)
    if held is None:
        return "this key is not a command key of the fleet"
    if not held.not_before <= now_ms < held.expires:
        return f"the key {held.name} is outside its dates"
    if now_ms >= trust.expires and action not in ("safe.confirm", "safe.rollback"):
        return f"trust version {trust.version} has expired"
    named = [grant for grant in held.grants if action in grant.actions]
    here = [grant for grant in named if server_id in grant.servers]
    if not named:
        return f"the key {held.name} may not run {action}"
    if not here:
        return f"the key {held.name} may not run {action} on this server"
    if not any(all(_shown(params.get(name)) == value for name, value in grant.where.items()) for grant in here):
        wanted = " or ".join(", ".join(f"{name}={value}" for name, value in grant.where.items()) for grant in here)
        return f"the key {held.name} may run {action} only with {wanted}"
    return ""


def _shown(value: Any) -> str | None:
    """A parameter as a grant writes it: lists and missing ones equal nothing."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (str, int)) else None


def expiry_warnings(trust: Trust, now_ms: int, within_ms: int = 14 * _DAY_MS) -> list[str]:
    """A sentence for the trust file and for each command key that has expired or soon will."""
    dated = [
        (f"trust version {trust.version}", trust.expires),
        *((f"the key {k.name}", k.expires) for k in trust.command),
    ]
    return [_expiry(what, at - now_ms) for what, at in dated if at - now_ms < within_ms]


def _expiry(what: str, left_ms: int) -> str:
    return f"{what} has expired" if left_ms <= 0 else f"{what} expires in {-(-left_ms // _DAY_MS)} days"
