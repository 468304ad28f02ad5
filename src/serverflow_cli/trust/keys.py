"""Ed25519 keys to sign with, in OpenSSH's formats."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ConfigError, TrustError
from . import keyfile
from .sshsig import Signer

_HEAD = "-----BEGIN OPENSSH PRIVATE KEY-----"
_FOOT = "-----END OPENSSH PRIVATE KEY-----"
_TYPE = b"ssh-ed25519"
_MAGIC = b"openssh-key-v1\0"
_PLAIN = _MAGIC + b"\0\0\0\4none" * 2 + b"\0\0\0\0" + b"\0\0\0\1"  # no cipher, no kdf, one key
_MAKE_ONE = "make an Ed25519 key: ssh-keygen -t ed25519"


@dataclass(frozen=True)
class PrivateKey:
    """A Signer whose private half is in this process. `seed` is RFC 8032's 32-byte private key."""

    public_key: bytes
    seed: bytes = field(repr=False)
    comment: str = ""

    @property
    def openssh(self) -> str:
        return public_line(self.public_key, self.comment)

    def sign(self, message: bytes) -> bytes:
        from nacl.signing import SigningKey

        return SigningKey(self.seed).sign(message).signature


@dataclass(frozen=True)
class ClosedKey:
    """A key of which only the public half can be read: a file with a passphrase, or a .pub file (then `text` is "")."""

    public_key: bytes
    where: str
    text: str = field(default="", repr=False)

    def open(self, passphrase: str) -> PrivateKey:
        """Decrypt it. Raises TrustError when this is not its passphrase."""
        return _decrypt(self, passphrase)


def generate(path: Path, comment: str) -> Signer:
    """Make a signing key: an OpenSSH private key file without passphrase, mode 0600, and PATH.pub beside it.

    A passphrase is `ssh-keygen -p`'s business. Raises ConfigError when one of the files exists.
    """
    key = new_private_key(comment)
    keyfile.create(path, private_text(key))
    keyfile.create(path.with_name(path.name + ".pub"), f"{key.openssh}\n", 0o644)
    return key


def new_private_key(comment: str) -> PrivateKey:
    """A fresh key in memory, for a CI that stores it itself."""
    from nacl.signing import SigningKey

    fresh = SigningKey.generate()
    return PrivateKey(bytes(fresh.verify_key), bytes(fresh), comment)


def load(path: Path, passphrase: str | None = None) -> Signer:
    """Read an OpenSSH private key.

    Raises ConfigError when the file cannot be read, is open to others (as ssh(1) does) or holds no Ed25519 key;
    TrustError when it needs a passphrase, or another one.
    """
    key = _parse_private(keyfile.read(path, _HEAD, _MAKE_ONE), str(path))
    if isinstance(key, PrivateKey):
        return key
    if passphrase is None:
        raise TrustError(f"{path} has a passphrase, and nobody was asked for it", hint=f"ssh-add {path}")
    return key.open(passphrase)


def read(path: Path) -> PrivateKey | ClosedKey:
    """What the file of a private key says without a passphrase, or a .pub file. Raises ConfigError as `load` does."""
    if path.suffix != ".pub":
        return _parse_private(keyfile.read(path, _HEAD, _MAKE_ONE), str(path))
    line = keyfile.read_public(path)
    kind = line.split(" ", 1)[0]
    if kind != _TYPE.decode():
        raise _other_type(kind[:60], str(path))
    return ClosedKey(parse_public(line), str(path))


def from_text(text: str) -> PrivateKey:
    """Read an OpenSSH private key from an environment variable. Raises ConfigError; TrustError for a passphrase."""
    key = _parse_private(text, "the key in the environment")
    if isinstance(key, PrivateKey):
        return key
    raise TrustError(
        f"{key.where} has a passphrase", hint="take it off a copy with ssh-keygen -p, or name its file in SF_KEY_FILE"
    )


def private_text(key: PrivateKey) -> str:
    """The key as an OpenSSH private key file holds it, not encrypted."""
    text = base64.b64encode(_plain_blob(key, key.comment.encode(), os.urandom(4))).decode()
    return "\n".join((_HEAD, *(text[start : start + 70] for start in range(0, len(text), 70)), _FOOT, ""))


def blob_of(line: str) -> bytes:
    """What base64 holds in a public key's line, of whatever type. Raises ConfigError."""
    try:
        return base64.b64decode(line.split(" ")[1], validate=True)
    except (IndexError, ValueError):
        raise ConfigError(f"{line[:60]!a} is not a public key") from None


def parse_public(line: str) -> bytes:
    """The raw 32 bytes of `ssh-ed25519 AAAA… [comment]`. Raises ConfigError."""
    kind, _, rest = line.strip().partition(" ")
    if kind != _TYPE.decode():
        raise ConfigError(
            f"{kind[:60]!a} is not a key type that can sign commands; only ssh-ed25519 is", hint=_MAKE_ONE
        )
    encoded = rest.strip().partition(" ")[0]
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        blob = b""
    if len(blob) != 51 or blob[:-32] != _string(_TYPE) + b"\0\0\0\x20":
        raise ConfigError("a damaged ssh-ed25519 key")
    return blob[-32:]


def public_line(public_key: bytes, comment: str = "") -> str:
    """`ssh-ed25519 AAAA… comment`."""
    encoded = base64.b64encode(public_blob(public_key)).decode()
    return f"ssh-ed25519 {encoded} {comment}".rstrip()


def public_blob(public_key: bytes) -> bytes:
    """The key as it is on the wire: what base64 holds in its line."""
    return _string(_TYPE) + _string(public_key)


def fingerprint(public_key: bytes) -> str:
    """`SHA256:…` as `ssh-keygen -l` prints it."""
    digest = hashlib.sha256(public_blob(public_key)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def ssh_fingerprint(line: str) -> str:
    """`SHA256:…` of any public SSH key, `TYPE AAAA… [comment]`, as `ssh-keygen -l` prints it."""
    digest = hashlib.sha256(base64.b64decode(line.split(" ")[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _parse_private(text: str, where: str) -> PrivateKey | ClosedKey:
    lines = text.strip().splitlines()
    if len(lines) < 3 or lines[0] != _HEAD or lines[-1] != _FOOT:
        raise ConfigError(f"{where} is not a private key in OpenSSH's format", hint=_MAKE_ONE)
    try:
        blob = base64.b64decode("".join(lines[1:-1]), validate=True)
    except ValueError:
        raise ConfigError(f"{where} has damaged base64") from None
    if blob.startswith(_PLAIN):
        return _parse_plain(blob, where)
    return ClosedKey(_public_half(blob, where), where, text)


def _parse_plain(blob: bytes, where: str) -> PrivateKey:
    """The unencrypted format. Read here because importing cryptography would double the start-up time.

    Only the seed, the comment and the check word are taken from it; the file must be what they make.
    """
    from nacl.signing import SigningKey

    _, after_public = _take(blob[len(_PLAIN) :])
    private, _ = _take(after_public)
    kind, rest = _take(private[8:])
    if kind and kind != _TYPE:
        raise _other_type(kind.decode("ascii", "replace"), where)
    pair, rest = _take(_take(rest)[1])
    comment, _ = _take(rest)
    if len(pair) == 64:
        public_key = bytes(SigningKey(pair[:32]).verify_key)
        key = PrivateKey(public_key, pair[:32], comment.decode("utf-8", "replace"))
        if blob == _plain_blob(key, comment, private[:4]):
            return key
    raise ConfigError(f"{where} is a damaged private key")


def _plain_blob(key: PrivateKey, comment: bytes, check: bytes) -> bytes:
    """PROTOCOL.key. The check word is there twice: in an encrypted file, that is how a wrong passphrase shows."""
    public = _string(_TYPE) + _string(key.public_key)
    private = check + check + public + _string(key.seed + key.public_key) + _string(comment)
    return _PLAIN + _string(public) + _string(private + bytes(range(1, 1 + -len(private) % 8)))


def _public_half(blob: bytes, where: str) -> bytes:
    """What an encrypted file says of itself: cipher, kdf, its options, the number of keys, and the public key."""
    rest = blob.removeprefix(_MAGIC)
    for _ in range(3):
        rest = _take(rest)[1]
    public, private = _take(rest[4:])
    kind, _ = _take(public)
    if kind and kind != _TYPE:
        raise _other_type(kind.decode("ascii", "replace"), where)
    if not blob.startswith(_MAGIC) or rest[:4] != b"\0\0\0\1" or public != public_blob(public[-32:]) or not private:
        raise ConfigError(f"{where} is a damaged private key")
    return public[-32:]


def _decrypt(closed: ClosedKey, passphrase: str) -> PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    secret = passphrase.encode("utf-8", "surrogateescape")  # as the terminal sent it
    try:
        key = load_ssh_private_key(closed.text.strip().encode() + b"\n", secret)
    except UnsupportedAlgorithm as error:
        raise ConfigError(f"{closed.where} cannot be decrypted here: {error}", hint=_MAKE_ONE) from None
    except (ValueError, TypeError):
        raise TrustError(f"{closed.where} does not open with this passphrase", code="wrong-passphrase") from None
    if not isinstance(key, Ed25519PrivateKey) or key.public_key().public_bytes_raw() != closed.public_key:
        raise ConfigError(f"{closed.where} is a damaged private key")
    return PrivateKey(closed.public_key, key.private_bytes_raw())


def _other_type(kind: str, where: str) -> ConfigError:
    if kind.startswith("sk-"):
        return ConfigError(
            f"{where} is on a hardware token ({kind}): those open SSH logins, they sign no commands", hint=_MAKE_ONE
        )
    return ConfigError(f"{where} is a key of type {ascii(kind)[1:-1]}; only Ed25519 keys sign commands", hint=_MAKE_ONE)


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def _take(data: bytes) -> tuple[bytes, bytes]:
    """An SSH string and what follows it. Short data gives short strings: see `_parse_plain`."""
    end = 4 + int.from_bytes(data[:4], "big")
    return data[4:end], data[end:]
