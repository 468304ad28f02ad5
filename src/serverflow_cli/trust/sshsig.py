"""OpenSSH signatures (PROTOCOL.sshsig) and the frames that carry them. Private keys stay behind the Signer."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from collections.abc import Sequence
from typing import Protocol

from ..errors import TrustError

HELLO = "hello.v1@serverflow"
COMMAND = "command.v1@serverflow"
TRUST = "trust.v1@serverflow"
BUNDLE = "bundle.v1@serverflow"
RECEIPT = "receipt.v1@serverflow"
IDENTITY = "identity.v1@serverflow"
PINS = "pins.v1@serverflow"
SECRETS = "secrets.v1@serverflow"
CHECKPOINT = "checkpoint.v1@serverflow"

_TYPE = b"ssh-ed25519"
_PREAMBLE = b"SSHSIG"
_ARMOR = re.compile(r"-----BEGIN SSH SIGNATURE-----\n([A-Za-z0-9+/=\n]+)\n-----END SSH SIGNATURE-----\n?")


class Signer(Protocol):
    """Whoever holds an Ed25519 private key: a file, an environment variable, an ssh-agent.

    `public_key` is the raw 32 bytes; `openssh` the same as `ssh-ed25519 AAAA… comment`. `sign` returns the raw 64
    bytes over exactly `message`; it raises TrustError when the holder declines.
    """

    @property
    def public_key(self) -> bytes: ...

    @property
    def openssh(self) -> str: ...

    def sign(self, message: bytes) -> bytes: ...


def sign(signer: Signer, namespace: str, body: bytes) -> bytes:
    """An SSHSIG blob over the body."""
    key = _string(_TYPE) + _string(signer.public_key)
    signature = _string(_TYPE) + _string(signer.sign(_to_be_signed(namespace, body)))
    return (
        _PREAMBLE
        + struct.pack(">I", 1)
        + _string(key)
        + _string(namespace.encode())
        + _string(b"")
        + _string(b"sha512")
        + _string(signature)
    )


def verify(blob: bytes, namespace: str, body: bytes) -> bytes:
    """The raw public key that signed the body for this namespace. Whether it is one to trust is the caller's question.

    Raises TrustError.
    """
    from nacl.exceptions import CryptoError
    from nacl.signing import VerifyKey

    public_key, signature = _parse(blob, namespace)
    try:
        VerifyKey(public_key).verify(_to_be_signed(namespace, body), signature)
    except (CryptoError, ValueError):
        raise TrustError("the signature is not valid") from None
    return public_key


def signer_of(blob: bytes, namespace: str, body: bytes) -> bytes:
    """The same, for one signature of several: b"" when it is not valid for these bytes."""
    try:
        return verify(blob, namespace, body)
    except TrustError:
        return b""


def armor(blob: bytes) -> str:
    """The block that `ssh-keygen -Y verify -s` reads."""
    text = base64.b64encode(blob).decode()
    lines = (text[start : start + 70] for start in range(0, len(text), 70))
    return "\n".join(("-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""))


def dearmor(text: str) -> list[bytes]:
    """The blobs of a text that consists of such blocks and nothing else. Raises TrustError."""
    if not text or _ARMOR.sub("", text).strip():
        raise TrustError("not a text of SSH signatures")
    try:
        return [base64.b64decode(block.replace("\n", ""), validate=True) for block in _ARMOR.findall(text)]
    except binascii.Error:
        raise TrustError("an SSH signature's base64 is damaged") from None


def pack_signed(body: bytes, blobs: Sequence[bytes]) -> bytes:
    """A signed frame without its length (docs/protocol.md, Framing)."""
    if not 1 <= len(blobs) <= 16:
        raise TrustError("a frame carries 1 to 16 signatures")
    return bytes([len(blobs)]) + b"".join(struct.pack(">H", len(blob)) + blob for blob in blobs) + body


def unpack_signed(frame: bytes) -> tuple[list[bytes], bytes]:
    """The SSHSIG blobs and the body of a signed frame; nothing is verified yet. Raises TrustError."""
    count, at, blobs = (frame[0] if frame else 0), 1, []
    if not 1 <= count <= 16:
        raise TrustError("a frame carries 1 to 16 signatures")
    for _ in range(count):
        length = int.from_bytes(frame[at : at + 2], "big")
        blobs.append(frame[at + 2 : at + 2 + length])
        at += 2 + length
        if at > len(frame):
            raise TrustError("a signed frame was cut short")
    return blobs, frame[at:]


def _to_be_signed(namespace: str, body: bytes) -> bytes:
    digest = hashlib.sha512(body).digest()
    return _PREAMBLE + _string(namespace.encode()) + _string(b"") + _string(b"sha512") + _string(digest)


def _string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def _parse(blob: bytes, namespace: str) -> tuple[bytes, bytes]:
    """Raw key and signature. The form has no room for choice: all of it but these 96 bytes is known beforehand."""
    head = _PREAMBLE + struct.pack(">I", 1) + struct.pack(">I", 51) + _string(_TYPE) + struct.pack(">I", 32)
    middle = _string(namespace.encode()) + _string(b"") + _string(b"sha512")
    middle += struct.pack(">I", 83) + _string(_TYPE) + struct.pack(">I", 64)
    after_key = len(head) + 32
    public_key, signature = blob[len(head) : after_key], blob[after_key + len(middle) :]
    if blob != head + public_key + middle + signature or len(public_key) != 32 or len(signature) != 64:
        raise TrustError(f"not an Ed25519 SSHSIG blob for {namespace}")
    return public_key, signature
