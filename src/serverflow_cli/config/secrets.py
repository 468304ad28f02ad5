"""secrets.toml: values sealed to each key that may open them. fleet.toml refers to them by name.

    version = 7
    fleet = "0123…"

    [secrets.slack_ops]
    "ana:9f2c…" = "base64 of the sealed box"

Sealing, and the signature over the whole file (secrets.toml.sig), belong to layers above. Before a value is sealed its
name is put in front of it, so that a box which someone moves to another name is refused when it is opened.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError, UsageError
from .folder import FleetFolder

#: Secret name → box name → sealed box.
Boxes = Mapping[str, Mapping[str, bytes]]

#: A value must fit into the secrets frame of a command, as JSON (docs/protocol.md).
LONGEST_VALUE = 32 * 1024
_SIZE_LIMIT = 16 * 1024 * 1024
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}", re.ASCII)
_BOX = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}:[0-9a-f]{16}", re.ASCII)
_FLEET = re.compile(r"[0-9a-f]{32}", re.ASCII)


@dataclass(frozen=True)
class Content:
    """What the file says. `version` is 0 where there is no file yet; each write adds one."""

    fleet: str = ""
    version: int = 0
    boxes: Boxes = field(default_factory=dict)


def is_name(name: str) -> bool:
    """Whether a secret can be called so."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> None:
    """Raises UsageError when a secret cannot be called so."""
    if not is_name(name):
        raise UsageError(f"{name[:63]!a} is not a secret's name (a-z, 0-9, _ and -)")


def check_value(name: str, value: str) -> None:
    """Raises UsageError, which does not show it."""
    if not value:
        raise UsageError(f"the value of {name} is empty")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise UsageError(f"the value of {name} is not UTF-8 text", hint="encode it, as base64 does") from None
    if size > LONGEST_VALUE:
        raise UsageError(f"the value of {name} is longer than {LONGEST_VALUE // 1024} KiB")


def box_name(holder: str, seal_key: str) -> str:
    """The name of the box for one key: its holder's name in the trust file, and a hash of the key, so that the old and
    the new key of one holder differ and nobody has to try which box is whose.
    """
    return f"{holder}:{_mark(seal_key)}"


def is_box_of(box: str, seal_key: str) -> bool:
    """Whether a box is named as one for this key, whoever holds it."""
    return box.endswith(f":{_mark(seal_key)}")


def holder(box: str) -> str:
    """Who opens the box, for people."""
    return box.rpartition(":")[0]


def labelled(name: str, value: str) -> bytes:
    """What is sealed. Raises UsageError."""
    check_name(name)
    check_value(name, value)
    return name.encode() + b"\0" + value.encode()


def value_of(name: str, plain: bytes) -> str:
    """The value in an opened box. Raises ConfigError when it was sealed under another name."""
    label, _, value = plain.partition(b"\0")
    if label != name.encode():
        raise ConfigError(f"the box of secret {name} was sealed as {label.decode('utf-8', 'replace')[:63]!a}")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"the value of secret {name} is not UTF-8 text") from None


def read_bytes(folder: FleetFolder) -> bytes:
    """The bytes that the signature covers; empty when there is no file yet. Raises ConfigError."""
    try:
        with folder.secrets_toml.open("rb") as file:
            data = file.read(_SIZE_LIMIT + 1)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ConfigError(f"{folder.secrets_toml} cannot be read: {error.strerror}") from error
    if len(data) > _SIZE_LIMIT:
        raise ConfigError("secrets.toml is too large")
    return data


def signature_path(folder: FleetFolder) -> Path:
    return folder.path / "secrets.toml.sig"


def parse(data: bytes) -> Content:
    """What a secrets.toml says. Its signature is another question. Raises ConfigError."""
    try:
        document: dict[str, Any] = tomllib.loads(data.decode())
        content = Content(
            document.pop("fleet"),
            document.pop("version"),
            {
                name: {box: base64.b64decode(text, validate=True) for box, text in boxes.items()}
                for name, boxes in document.pop("secrets", {}).items()
            },
        )
        boxes = [box for held in content.boxes.values() for box in held]
        good = not document and type(content.version) is int and content.version > 0 and _FLEET.fullmatch(content.fleet)
        if not good or not all(map(is_name, content.boxes)) or not all(map(_BOX.fullmatch, boxes)):
            raise ValueError("not as sf writes it")
    except (UnicodeDecodeError, binascii.Error, LookupError, AttributeError, TypeError, ValueError, RecursionError):
        raise ConfigError("secrets.toml is damaged", hint="git log secrets.toml") from None
    return content


def dump(content: Content) -> bytes:
    """The file's bytes: the same boxes give the same bytes, in whatever order they come."""
    import tomli_w

    boxes = {
        name: {box: base64.b64encode(sealed).decode() for box, sealed in sorted(content.boxes[name].items())}
        for name in sorted(content.boxes)
    }
    text = tomli_w.dumps({"version": content.version, "fleet": content.fleet, "secrets": boxes})
    return (
        "# Written by sf and signed (secrets.toml.sig): edits by hand are refused.\n"
        f"# Each value is sealed to the key whose holder stands before the equals sign.\n{text}"
    ).encode()


def _mark(seal_key: str) -> str:
    return hashlib.sha256(seal_key.encode()).hexdigest()[:16]
