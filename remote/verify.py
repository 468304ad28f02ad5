"""The trust core: bytes in, verdict out. No I/O, no clock, nothing but the standard library.

A frame is taken apart only as far as its signature needs: SSHSIG (OpenSSH's PROTOCOL.sshsig) around Ed25519
(RFC 8032). What a body says is read in messages.py, what it may do is decided in authorise.py, both later.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

HELLO = "hello.v1@serverflow"
COMMAND = "command.v1@serverflow"
TRUST = "trust.v1@serverflow"
BUNDLE = "bundle.v1@serverflow"
RECEIPT = "receipt.v1@serverflow"
PINS = "pins.v1@serverflow"
CHECKPOINT = "checkpoint.v1@serverflow"
NAMESPACES = frozenset((HELLO, COMMAND, TRUST, BUNDLE, RECEIPT, PINS, CHECKPOINT))

FRAME_LIMIT = 1024 * 1024
COMMAND_LIMIT = 64 * 1024
SECRETS_LIMIT = 64 * 1024
SIGNATURES_LIMIT = 16

KEY_TYPE = b"ssh-ed25519"


class Refused(Exception):
    """Not from anyone we know. The peer hears one generic word; the message is for the server's own log."""


# --- Ed25519 ---------------------------------------------------------------------------------------------------------
#
# Only verification, so nothing here is secret and timing tells nothing. Points are (X, Y, Z, T) with x = X/Z, y = Y/Z
# and xy = T/Z, on the curve -x² + y² = 1 + dx²y² over the field of p elements (RFC 8032, 5.1.4).

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_1 = pow(2, (_P - 1) // 4, _P)
_BASE = bytes([0x58]) + bytes([0x66]) * 31

Point = tuple[int, int, int, int]


def ed25519_verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes) is the holder of `public_key`'s (32 bytes) over `message`.

    Strict, where RFC 8032 leaves a choice: S < L, so that nobody can turn one signature into another; A and R only in
    their one canonical encoding and never of small order; the equation without the cofactor. libsodium decides alike.
    Anything of the wrong type or length is False.
    """
    if not all(isinstance(part, bytes) for part in (public_key, message, signature)):
        return False
    if len(public_key) != 32 or len(signature) != 64:
        return False
    s = int.from_bytes(signature[32:], "little")
    a = _decode(public_key)
    base = _decode(_BASE)
    if s >= _L or a is None or base is None or _small_order(a):
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public_key + message).digest(), "little") % _L
    x, y, z, t = a
    r = _sum_of_multiples(s, base, h, (_P - x, y, z, _P - t))
    # R is never decoded: only the canonical encoding of s·B - h·A can be equal to it.
    return _encode(r) == signature[:32] and not _small_order(r)


def _decode(encoded: bytes) -> Point | None:
    """The point of a canonical encoding; None when there is none (RFC 8032, 5.1.3)."""
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= _P:
        return None
    u, v = y * y - 1, _D * y * y + 1
    x = u * v**3 * pow(u * v**7, (_P - 5) // 8, _P) % _P
    if (v * x * x - u) % _P:
        x = x * _ROOT_OF_MINUS_1 % _P
    if (v * x * x - u) % _P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


def _encode(point: Point) -> bytes:
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _small_order(point: Point) -> bool:
    """Whether eight times the point is the neutral element: such a key "signs" messages that nobody signed."""
    x, y, z, _ = _double(_double(_double(point)))
    return x == 0 and y == z


def _double(point: Point) -> Point:
    x, y, z, _ = point
    a, b = x * x % _P, y * y % _P
    h, g = a + b, a - b
    e, f = h - (x + y) * (x + y) % _P, 2 * z * z % _P + g
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _add(p: Point, q: Point) -> Point:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % _P, (p[1] + p[0]) * (q[1] + q[0]) % _P
    c, d = 2 * _D * p[3] * q[3] % _P, 2 * p[2] * q[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _sum_of_multiples(m: int, p: Point, n: int, q: Point) -> Point:
    """m·p + n·q by one chain of doublings for both (Straus), each scalar in signed digits (width-5 wNAF)."""
    terms = ((_digits(m), _odd_multiples(p)), (_digits(n), _odd_multiples(q)))
    total: Point = (0, 1, 1, 0)
    for position in reversed(range(max(len(digits) for digits, _ in terms))):
        total = _double(total)
        for digits, multiples in terms:
            if position < len(digits) and digits[position]:
                total = _add(total, multiples[digits[position]])
    return total


def _digits(scalar: int) -> list[int]:
    """Least significant first: each is 0 or odd within ±15, and of five in a row at most one is not 0."""
    digits = []
    while scalar:
        digit = (scalar & 31) - (scalar & 16) * 2 if scalar & 1 else 0
        digits.append(digit)
        scalar = (scalar - digit) >> 1
    return digits


def _odd_multiples(point: Point) -> dict[int, Point]:
    """±1, ±3 … ±15 times the point."""
    twice, multiple, table = _double(point), point, {}
    for factor in range(1, 16, 2):
        x, y, z, t = multiple
        table[factor], table[-factor] = multiple, (_P - x, y, z, _P - t)
        multiple = _add(multiple, twice)
    return table


# --- SSHSIG ----------------------------------------------------------------------------------------------------------


class SshSig(NamedTuple):
    """One SSHSIG blob; says nothing yet about whether it is valid. `public_key` is the raw 32 bytes."""

    public_key: bytes
    namespace: str
    signature: bytes

    def signs(self, body: bytes) -> bool:
        """Whether the holder of the key signed exactly these bytes for this namespace."""
        return ed25519_verify(self.public_key, sshsig_message(self.namespace, body), self.signature)


class Signed(NamedTuple):
    """A frame taken apart: one namespace, 1 to 16 signatures that carry it, and the bytes that they are over.

    `blobs` are the signatures as they came, for whoever stores them.
    """

    namespace: str
    signatures: tuple[SshSig, ...]
    body: bytes
    blobs: tuple[bytes, ...]


def check_frame_length(length: int, limit: int = FRAME_LIMIT) -> None:
    """Before a byte of the frame is read. Raises Refused."""
    if not 1 <= length <= limit:
        raise Refused(f"a frame of {length} bytes; at most {limit} are read")


def parse_signed(frame: bytes) -> Signed:
    """Take a signed frame apart (docs/protocol.md, Framing). Raises Refused."""
    count, rest = frame[:1], frame[1:]
    if not 1 <= int.from_bytes(count, "big") <= SIGNATURES_LIMIT:
        raise Refused("not 1 to 16 signatures")
    blobs = []
    for _ in range(count[0]):
        blob, rest = _take(rest, 2)
        blobs.append(blob)
    signatures = tuple(parse_sshsig(blob) for blob in blobs)
    namespace = signatures[0].namespace
    if namespace not in NAMESPACES or any(one.namespace != namespace for one in signatures):
        raise Refused("an unknown namespace, or several")
    return Signed(namespace, signatures, rest, tuple(blobs))


def parse_sshsig(blob: bytes) -> SshSig:
    """Read one blob, strictly: version 1, ssh-ed25519, nothing reserved, sha512, no byte left over. Raises Refused."""
    if blob[:10] != b"SSHSIG\0\0\0\1":
        raise Refused("not an SSHSIG blob of version 1")
    key, namespace, reserved, algorithm, signature = _strings(blob[10:], 5)
    if reserved or algorithm != b"sha512":
        raise Refused("SSHSIG with reserved bytes, or with another hash than sha512")
    try:
        name = namespace.decode("ascii")
    except UnicodeDecodeError:
        raise Refused("a namespace that is not ASCII") from None
    return SshSig(_ed25519(key, 32), name, _ed25519(signature, 64))


def sshsig_message(namespace: str, body: bytes) -> bytes:
    """What SSHSIG really signs (PROTOCOL.sshsig, 2.2)."""
    parts = (namespace.encode(), b"", b"sha512", hashlib.sha512(body).digest())
    return b"SSHSIG" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _ed25519(field: bytes, length: int) -> bytes:
    """The payload of a key or signature field: `string "ssh-ed25519" | string payload`."""
    kind, payload = _strings(field, 2)
    if kind != KEY_TYPE or len(payload) != length:
        raise Refused("not an Ed25519 key or signature")
    return payload


def _strings(data: bytes, count: int) -> list[bytes]:
    """Exactly `count` SSH strings (RFC 4251, 5)."""
    strings = []
    for _ in range(count):
        string, data = _take(data, 4)
        strings.append(string)
    if data:
        raise Refused("bytes are left over")
    return strings


def _take(data: bytes, width: int) -> tuple[bytes, bytes]:
    """A field whose length comes first, in `width` bytes; and what follows it."""
    end = width + int.from_bytes(data[:width], "big")
    if len(data) < width or len(data) < end:
        raise Refused("a field ends after the data does")
    return data[width:end], data[end:]
