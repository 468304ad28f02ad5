"""Secrets sealed to an operator's X25519 key (libsodium's sealed boxes): anyone can seal, only the operator opens."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ConfigError, TrustError
from . import keyfile

_PUBLIC = "x25519:"
_PRIVATE = "x25519-private:"


@dataclass(frozen=True)
class SealKey:
    """Opens what was sealed to `public` (`x25519:` and base64, as in fleet.toml). `private` is 32 bytes."""

    public: str
    private: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The private half as a file or an environment variable holds it."""
        return _PRIVATE + base64.b64encode(self.private).decode()


def new_seal_key() -> SealKey:
    """A fresh key in memory."""
    from nacl.public import PrivateKey

    return _from_private(bytes(PrivateKey.generate()))


def save_seal_key(path: Path, key: SealKey) -> None:
    """Write it to a new file, mode 0600. Raises ConfigError when the file exists."""
    keyfile.create(path, f"{key.text}\n")


def load_seal_key(path: Path) -> SealKey:
    """Read it from its file. Raises ConfigError, also when others may read the file."""
    return seal_key_from_text(keyfile.read(path))


def seal_key_from_text(text: str) -> SealKey:
    """Read it from an environment variable. Raises ConfigError."""
    return _from_private(_decode(text, _PRIVATE, "a private X25519 key"))


def seal(public: str, data: bytes) -> bytes:
    """Encrypt for the holder of `public`. Raises ConfigError when that is no X25519 key."""
    from nacl.exceptions import CryptoError
    from nacl.public import PublicKey, SealedBox

    try:
        return SealedBox(PublicKey(_decode(public, _PUBLIC, "an X25519 key"))).encrypt(data)
    except CryptoError:  # a point of small order: whatever was sealed to it, anyone could open
        raise ConfigError("an X25519 key that protects nothing") from None


def unseal(key: SealKey, box: bytes) -> bytes:
    """Open what `seal` made. Raises TrustError when it was sealed to another key or was changed."""
    from nacl.exceptions import CryptoError
    from nacl.public import PrivateKey, SealedBox

    try:
        return SealedBox(PrivateKey(key.private)).decrypt(box)
    except (CryptoError, ValueError, TypeError):
        raise TrustError(
            "a sealed secret does not open with this key", hint="it was sealed to another operator"
        ) from None


def _from_private(private: bytes) -> SealKey:
    from nacl.public import PrivateKey

    public = bytes(PrivateKey(private).public_key)
    return SealKey(_PUBLIC + base64.b64encode(public).decode(), private)


def _decode(text: str, prefix: str, what: str) -> bytes:
    given = text.strip()
    try:
        raw = base64.b64decode(given.removeprefix(prefix), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not given.startswith(prefix) or len(raw) != 32:
        raise ConfigError(f"not {what} ({prefix}…)")
    return raw
