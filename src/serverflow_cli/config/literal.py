"""Values and keys as TOML text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def literal(value: Any) -> str:
    """A value on one line: text in quotes, lists and tables inline."""
    import tomlkit

    if isinstance(value, Mapping):
        pairs = ", ".join(f"{key(name)} = {literal(inner)}" for name, inner in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(literal(inner) for inner in value)}]"
    return str(tomlkit.item(value).as_string())


def key(*parts: str) -> str:
    """A dotted key; parts that need it are quoted."""
    import tomlkit

    return ".".join(tomlkit.key(part).as_string() for part in parts)
