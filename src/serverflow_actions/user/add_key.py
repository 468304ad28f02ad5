"""Let a key open an account."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action, param
from ..kit.steps import AuthorizedKeys
from ._shared import NAME, existing, home_of


@action(
    "user.add-key",
    "Add a public key to a user",
    kind="change",
    profile="account",
    safe="always",
    writes=("/home",),
    params=[NAME, param("key", "sshkey", "Public key: type, base64, comment", positional=True)],
)
def add_key(params: Params, probe: Probe) -> Steps:
    home = home_of(existing(probe, params.name))
    yield AuthorizedKeys(params.name, home, add=(params.key,))
