"""Take a key away from an account."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action, param
from ..kit.steps import AuthorizedKeys
from ._shared import NAME, existing, home_of


@action(
    "user.remove-key",
    "Remove a public key from a user",
    kind="change",
    profile="account",
    safe="always",
    writes=("/home",),
    destructive=True,
    params=[
        NAME,
        param("fingerprint", "fingerprint", "The key's fingerprint, as `user keys` lists it", positional=True),
    ],
)
def remove_key(params: Params, probe: Probe) -> Steps:
    home = home_of(existing(probe, params.name))
    yield AuthorizedKeys(params.name, home, remove=(params.fingerprint,))
