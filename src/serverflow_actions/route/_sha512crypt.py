"""SHA-512-crypt, `$6$SALT$HASH`: what nginx hands to crypt(3), and Python has had no module for since 3.13.

Ulrich Drepper, "Unix crypt using SHA-256 and SHA-512", version 0.6; the numbers of its steps are in the comments. Of
what nginx reads without another program's help ({SHA}, {SSHA}, $apr1$, crypt(3)) it costs a thief the most.
"""

from __future__ import annotations

import hashlib
import hmac

_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: The default of the specification. nginx pays for it with each request, a few milliseconds.
_ROUNDS = 5000
_SALT = 16


def crypt(password: str, salt: str) -> str:
    """The hash of a password, with a salt of at most 16 characters of [./0-9A-Za-z]. Raises ValueError."""
    if not 1 <= len(salt) <= _SALT or set(salt) - set(_ALPHABET):
        raise ValueError("a salt is 1 to 16 characters of [./0-9A-Za-z]")
    return f"$6${salt}${_encoded(_digest(password.encode(), salt.encode()))}"


def fits(password: str, hashed: str) -> bool:
    """Whether `crypt` made this hash of this password."""
    parts = hashed.split("$")
    if len(parts) != 4 or parts[:2] != ["", "6"]:
        return False
    try:
        return hmac.compare_digest(crypt(password, parts[2]).encode(), hashed.encode())
    except ValueError:
        return False


def _digest(password: bytes, salt: bytes) -> bytes:
    length = len(password)
    other = hashlib.sha512(password + salt + password).digest()  # 4 to 8
    first = hashlib.sha512(password + salt + _cut(other, length))  # 1 to 3, 9, 10
    bits = length
    while bits:  # 11
        first.update(other if bits & 1 else password)
        bits >>= 1
    result = first.digest()  # 12
    p = _cut(hashlib.sha512(password * length).digest(), length)  # 13 to 16
    s = _cut(hashlib.sha512(salt * (16 + result[0])).digest(), len(salt))  # 17 to 20
    for number in range(_ROUNDS):  # 21
        turn = hashlib.sha512(p if number % 2 else result)
        if number % 3:
            turn.update(s)
        if number % 7:
            turn.update(p)
        turn.update(result if number % 2 else p)
        result = turn.digest()
    return result


def _cut(block: bytes, length: int) -> bytes:
    """The block, again and again, up to this length."""
    return (block * (length // len(block) + 1))[:length]


def _encoded(digest: bytes) -> str:
    """22: groups of three bytes, whose order goes round, as four characters; the last byte as two."""
    out = []
    a, b, c = 0, 21, 42
    for _ in range(21):
        out.append(_characters(digest[a] << 16 | digest[b] << 8 | digest[c], 4))
        a, b, c = b + 1, c + 1, a + 1
    return "".join(out) + _characters(digest[63], 2)


def _characters(value: int, count: int) -> str:
    return "".join(_ALPHABET[value >> 6 * place & 63] for place in range(count))
