"""An invitation: the public keys of somebody who is to join a fleet, for a root key's holder to sign in.

Nothing in it is secret, and nothing in it is proven: whoever adds it compares its fingerprint with the sender.
"""

from __future__ import annotations

import base64
import hashlib
import tomllib
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from .keys import parse_public, public_line
from .trustfile import is_login_key, is_name, is_seal_key

_HEAD = "# An invitation to a ServerFlow fleet: public keys only. Who adds it compares the fingerprint: sf key add FILE"
_LONGEST = 64 * 1024


@dataclass(frozen=True)
class Invitation:
    """`command`, `root` and `release` are raw public keys (root and release may be absent); `login` are SSH keys
    without comment, `seal` is an X25519 key as in the trust file.
    """

    fleet: str
    name: str
    command: bytes
    login: tuple[str, ...]
    seal: str = ""
    root: bytes | None = None
    release: bytes | None = None

    @property
    def text(self) -> str:
        """The file."""
        import tomli_w

        values: dict[str, Any] = {
            "fleet": self.fleet,
            "name": self.name,
            "command": public_line(self.command),
            "login": list(self.login),
            "seal": self.seal,
            "root": public_line(self.root) if self.root else "",
            "release": public_line(self.release) if self.release else "",
        }
        return f"{_HEAD}\nschema = 1\n{tomli_w.dumps(values)}"

    @property
    def fingerprint(self) -> str:
        """`SHA256:…` over all that it says, however it was wrapped on its way."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.text.encode()).digest()).decode().rstrip("=")


def parse(text: str) -> Invitation:
    """Read one. Raises ConfigError for anything that is not exactly an invitation."""
    if len(text) > _LONGEST:
        raise ConfigError("this is too long for an invitation")
    try:
        value = tomllib.loads(text)
        if value.pop("schema") != 1:
            raise ConfigError("the invitation was written by another version of sf", hint="update sf")
        found = Invitation(
            fleet=value.pop("fleet"),
            name=value.pop("name"),
            command=parse_public(value.pop("command")),
            login=tuple(value.pop("login")),
            seal=value.pop("seal"),
            root=_optional(value.pop("root")),
            release=_optional(value.pop("release")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ConfigError("this is not an invitation", hint="its sender makes one with: sf key invitation") from None
    logins = all(map(is_login_key, found.login))
    if value or not is_name(found.name) or not logins or not (found.seal == "" or is_seal_key(found.seal)):
        raise ConfigError("the invitation is damaged", hint="its sender makes one with: sf key invitation")
    return found


def _optional(line: str) -> bytes | None:
    return parse_public(line) if line else None
