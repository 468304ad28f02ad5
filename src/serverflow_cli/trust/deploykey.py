"""What a CI system stores in SF_KEY: one line of text with the key that signs and the key that logs in."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from ..errors import ConfigError
from . import keys
from .keys import PrivateKey

_FOOT = "-----END OPENSSH PRIVATE KEY-----"


@dataclass(frozen=True)
class DeployKey:
    """`signing` is the command key, `login` opens the SSH login and signs nothing else."""

    signing: PrivateKey
    login: PrivateKey

    @property
    def text(self) -> str:
        """Both OpenSSH private keys, in base64 without line ends: no CI system breaks or masks only half of it."""
        blocks = keys.private_text(self.signing) + keys.private_text(self.login)
        return base64.b64encode(blocks.encode()).decode()


def new(comment: str) -> DeployKey:
    """Two fresh keys in memory."""
    return DeployKey(keys.new_private_key(comment), keys.new_private_key(f"{comment} login"))


def from_text(text: str) -> DeployKey:
    """Read SF_KEY: that form, or OpenSSH's own; one key alone does both. Raises ConfigError, TrustError."""
    given = text.strip()
    if not given.startswith("-----"):
        try:
            given = base64.b64decode("".join(given.split()), validate=True).decode("ascii").strip()
        except ValueError:  # no base64, or not of text
            raise ConfigError("SF_KEY holds no private key", hint="sf key deploy prints what belongs there") from None
    blocks = [block + _FOOT for block in given.split(_FOOT) if block.strip()]
    if not 1 <= len(blocks) <= 2:
        raise ConfigError(f"SF_KEY holds {len(blocks)} keys", hint="sf key deploy prints what belongs there")
    found = [keys.from_text(block) for block in blocks]
    return DeployKey(found[0], found[-1])
