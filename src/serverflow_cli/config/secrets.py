"""secrets.toml: values sealed to each operator's key. fleet.toml refers to them by name.

Sealing itself belongs to the trust layer and is passed in. Before a value is sealed its name is put in front of it, so
that a box which someone moves to another name in the file is refused when it is opened.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping

from ..errors import ConfigError, TrustError, UsageError
from .atomic import locked, write_atomic
from .folder import FleetFolder

#: Seals bytes to one operator's key.
Seal = Callable[[bytes], bytes]
#: Opens a box with our key; raises TrustError when it was sealed to someone else's.
Unseal = Callable[[bytes], bytes]
#: Secret name → operator name → sealed box.
Boxes = dict[str, dict[str, bytes]]

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z", re.ASCII)


def read(folder: FleetFolder, name: str, unseal: Unseal) -> str:
    """Open a secret. Raises ConfigError when there is none, none for our key, or the box is another secret's."""
    boxes = _load(folder).get(name)
    if boxes is None:
        raise ConfigError(f"there is no secret {name}", hint="sf secret list")
    label, _, value = _open_any(name, boxes, unseal).partition(b"\0")
    if label != name.encode():
        raise ConfigError(f"the box of secret {name} was sealed as {label.decode('utf-8', 'replace')[:63]!a}")
    return value.decode()


def put(folder: FleetFolder, name: str, value: str, seals: Mapping[str, Seal]) -> None:
    """Seal a value to every operator in `seals`, in place of what the name held.

    Raises UsageError, Locked, ConfigError.
    """
    if not _NAME.match(name):
        raise UsageError(f"{name[:63]!a} is not a secret's name (a-z, 0-9, _ and -)")
    if not seals:
        raise UsageError(f"secret {name} would be sealed to nobody", hint="give an operator a seal key in fleet.toml")
    plain = name.encode() + b"\0" + value.encode()
    with locked(folder.secrets_toml):
        _save(folder, {**_load(folder), name: {operator: seal(plain) for operator, seal in seals.items()}})


def remove(folder: FleetFolder, name: str) -> bool:
    """Take a secret out; whether it was there. Raises Locked, ConfigError."""
    with locked(folder.secrets_toml):
        boxes = _load(folder)
        present = boxes.pop(name, None) is not None
        if present:
            _save(folder, boxes)
        return present


def recipients(folder: FleetFolder) -> dict[str, tuple[str, ...]]:
    """Each secret's name with the operators that can open it. Raises ConfigError."""
    return {name: tuple(sorted(boxes)) for name, boxes in sorted(_load(folder).items())}


def missing(folder: FleetFolder, names: Iterable[str]) -> list[str]:
    """Which of the names that fleet.toml refers to have no sealed value. Raises ConfigError."""
    present = _load(folder)
    return [name for name in names if name not in present]


def _open_any(name: str, boxes: Mapping[str, bytes], unseal: Unseal) -> bytes:
    for box in boxes.values():
        with contextlib.suppress(TrustError):
            return unseal(box)
    raise ConfigError(f"secret {name} is not sealed to this key", hint=f"it opens for {', '.join(boxes)}")


def _load(folder: FleetFolder) -> Boxes:
    try:
        document = tomllib.loads(folder.secrets_toml.read_text("utf-8"))
        return {
            name: {operator: base64.b64decode(box, validate=True) for operator, box in boxes.items()}
            for name, boxes in document.items()
        }
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{folder.secrets_toml} cannot be read: {error.strerror}") from error
    except (
        UnicodeDecodeError,
        tomllib.TOMLDecodeError,
        binascii.Error,
        AttributeError,
        TypeError,
        ValueError,
    ) as error:
        raise ConfigError(f"secrets.toml is damaged: {error}", hint="git log secrets.toml") from None


def _save(folder: FleetFolder, boxes: Boxes) -> None:
    import tomli_w

    plain = {
        name: {operator: base64.b64encode(box).decode() for operator, box in sorted(boxes[name].items())}
        for name in sorted(boxes)
    }
    text = (
        f"# Written by sf. Each value is sealed to the operator's key before the equals sign.\n{tomli_w.dumps(plain)}"
    )
    write_atomic(folder.secrets_toml, text.encode())
