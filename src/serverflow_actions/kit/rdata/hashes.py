"""Types that hold hashes of keys and certificates: DS (RFC 4034 section 5), SSHFP (RFC 4255), TLSA (RFC 6698)."""

from __future__ import annotations

from .numbers import digest, fields, hexadecimal, number

#: Octets by the number of the kind: SHA-1, SHA-256, GOST R 34.11-94, SHA-384 (RFC 4509, 5933, 6605).
_DS = {1: 20, 2: 32, 3: 32, 4: 48}
#: SHA-1, SHA-256 (RFC 6594).
_SSHFP = {1: 20, 2: 32}
#: SHA-256, SHA-512; 0 is the whole certificate or key (RFC 6698 section 2.1.3).
_TLSA = {1: 32, 2: 64}


def ds(raw: str) -> str:
    """`KEYTAG ALGORITHM KIND HASH`."""
    tag, algorithm, kind, rest = fields(raw, 4, "KEYTAG ALGORITHM KIND HASH, in numbers and hexadecimal")
    number_of_kind = number(kind, 8, "a kind of hash")
    if not number_of_kind:
        raise ValueError("0 is no kind of hash for DS (RFC 4034 section A.2)")
    head = f"{number(tag, 16, 'a key tag')} {number(algorithm, 8, 'an algorithm')} {number_of_kind}"
    return f"{head} {digest(rest, number_of_kind, _DS)}"


def sshfp(raw: str) -> str:
    """`ALGORITHM KIND HASH`, as `ssh-keygen -r` prints it."""
    algorithm, kind, rest = fields(raw, 3, "ALGORITHM KIND HASH, in numbers and hexadecimal")
    number_of_kind = number(kind, 8, "a kind of hash")
    return f"{number(algorithm, 8, 'an algorithm')} {number_of_kind} {digest(rest, number_of_kind, _SSHFP)}"


def tlsa(raw: str) -> str:
    """`USAGE SELECTOR MATCHING DATA`, such as `3 1 1` and the SHA-256 of a public key."""
    usage, selector, matching, rest = fields(raw, 4, "USAGE SELECTOR MATCHING DATA, in numbers and hexadecimal")
    kind = number(matching, 8, "a matching type")
    data = digest(rest, kind, _TLSA) if kind else hexadecimal(rest, "a certificate or key")
    return f"{number(usage, 8, 'a usage')} {number(selector, 8, 'a selector')} {kind} {data}"
