"""Paths of keys in a TOML document: ("servers", "web1", "host"), ("grants", 0, "on")."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

#: Keys and list indexes from the root.
Path = tuple[str | int, ...]


def dotted(path: Path) -> str:
    """A path for people: `servers.web1.host`, `grants[0].on`, `dns.zones."acme.app"`."""
    out = ""
    for part in path:
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            out += ("." if out else "") + (part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"')
    return out


def lookup(document: Any, path: Path) -> Any:
    """The value at a path of a parsed document; None where there is none."""
    for part in path:
        document = _steps(document).get(part)
    return document


def matching(document: Any, pattern: Path, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every path that fits a pattern, with its value; `*` is any one step."""
    if not pattern:
        yield at, document
        return
    for key, value in _steps(document).items():
        if pattern[0] in ("*", key):
            yield from matching(value, pattern[1:], (*at, key))


def _steps(document: Any) -> dict[Any, Any]:
    """What a table or a list holds; a scalar holds nothing."""
    if isinstance(document, list):
        return dict(enumerate(document))
    return document if isinstance(document, dict) else {}
