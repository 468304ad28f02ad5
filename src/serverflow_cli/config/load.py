"""fleet.toml → model. All problems are reported at once, each with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from . import crosscheck
from .folder import FleetFolder
from .keypath import Path as KeyPath
from .keypath import dotted

if TYPE_CHECKING:
    from ..model.fleet import Fleet

Document = dict[str, Any]
#: From each older version of the file's shape to the next: {1: one_to_two}. Empty until there is a second version.
MIGRATIONS: Mapping[int, Callable[[Document], Document]] = {}


def load(folder: FleetFolder) -> Fleet:
    """The fleet in a folder.

    Raises ConfigError with one line for each problem:
    `fleet.toml:12: servers.web1.prot: unknown key (did you mean port?)`.
    """
    return parse(read_text(folder.fleet_toml))


def read_text(path: Path) -> str:
    """A UTF-8 file as it stands, line ends and byte order mark included. Raises ConfigError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path.name}:{line}: byte 0x{data[error.start]:02x} is not UTF-8 text") from None


def parse(
    text: str, name: str = "fleet.toml", migrations: Mapping[int, Callable[[Document], Document]] = MIGRATIONS
) -> Fleet:
    """The fleet that a text describes; `name` is the file's name in messages. Raises ConfigError as `load` does."""
    from pydantic import ValidationError

    from ..model.fleet import Fleet

    document = _migrated(toml(text, name), name, migrations)
    problems: list[tuple[KeyPath, str]] = []
    fleet = None
    try:
        fleet = Fleet.model_validate(document)
    except ValidationError as error:
        from .explain import explain

        problems += explain(error, document)
    problems += crosscheck.problems(document)
    if fleet is None or problems:
        raise _all(problems, text, name)
    return fleet


def toml(text: str, name: str) -> Document:
    """The parsed text; a byte order mark, which some editors write, is ignored. Raises ConfigError with the line."""
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        message, _, place = str(error).rpartition(" (at ")
        found = re.match(r"line (\d+)", place)
        line = int(found.group(1)) if found else text.rstrip("\n").count("\n") + 1
        raise ConfigError(f"{name}:{line}: {message[:1].lower()}{message[1:]}") from None
    except ValueError:  # int() reads no more than 4300 digits
        raise ConfigError(f"{name}: a number is too long") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply") from None


def _migrated(document: Document, name: str, migrations: Mapping[int, Callable[[Document], Document]]) -> Document:
    from ..model.fleet import SCHEMA

    version = document.get("schema")
    if not isinstance(version, int) or isinstance(version, bool):
        return document  # the model says what is wrong
    if version > SCHEMA:
        which = f"schema {version}" if version < 10_000 else "its schema"  # not every number can be written in digits
        raise ConfigError(f"{name}: {which} is newer than this sf, which knows {SCHEMA}", hint="update sf")
    while version < SCHEMA:
        if version not in migrations:
            raise ConfigError(f"{name}: schema {version} is unknown; this sf knows {SCHEMA}")
        document = migrations[version](document)
        version += 1
    return {**document, "schema": SCHEMA}


def _all(problems: list[tuple[KeyPath, str]], text: str, name: str) -> ConfigError:
    """One error for all problems, in the order of the file."""
    from .scan import scan

    spans = scan(text)
    placed = sorted({(spans.line(path), dotted(path), message) for path, message in problems})
    return ConfigError("\n".join(f"{name}:{line}: {where}: {message}" for line, where, message in placed))
