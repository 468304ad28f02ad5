"""The password of a route: a file with one line, USER:HASH, as ngx_http_auth_basic_module reads it."""

from __future__ import annotations

from ..kit import Probe, Refused
from ..kit.steps import File
from ._files import text_of, users
from ._sha512crypt import crypt, fits

#: Of the password, in bytes: more is an attack on the processor.
_LONGEST = 256


def file(probe: Probe, name: str, user: str, password: str, group: str) -> File:
    """The file for this user; without a password the one that is there stays. nginx's workers read it, others not.

    Raises Refused; no message has the password in it.
    """
    there, _, hashed = text_of(probe, users(name)).rstrip("\n").partition(":")
    kept = hashed if there == user else ""
    if password:
        _check(password)
        kept = kept if fits(password, kept) else crypt(password, _salt(probe))
    elif not kept.startswith("$6$"):
        raise Refused(f"{user} has no password on this server yet: give auth-password")
    return File(users(name), f"{user}:{kept}\n", 0o640, "root", group, secret=True)


def _check(password: str) -> None:
    if not password.isprintable() or len(password.encode()) > _LONGEST:
        raise Refused(f"the password is not one line of printable text of at most {_LONGEST} bytes")


def _salt(probe: Probe) -> str:
    """16 characters. A forecast has a placeholder, and its hash is shown to nobody."""
    letters = [letter for letter in probe.generate("salt") if letter.isalnum()]
    return "".join(letters)[:16].ljust(16, ".")
