"""Values and keys as TOML text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def literal(value: Any) -> str:
    """A value: text in quotes, lists and tables inline; on one line, but for text of several lines."""
    import tomlkit

    if isinstance(value, Mapping):
        pairs = ", ".join(f"{key(name)} = {literal(inner)}" for name, inner in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(literal(inner) for inner in value)}]"
    if isinstance(value, str) and "\n" in value.rstrip("\n") and "\r" not in value:
        # The newline after the opening quotes is not part of the value (toml.io/en/v1.0.0#string). The dot keeps
        # tomlkit from adding one by itself.
        return '"""\n' + str(tomlkit.string(f".{value}", multiline=True).as_string()).removeprefix('""".')
    return str(tomlkit.item(value).as_string())


def key(*parts: str) -> str:
    """A dotted key; parts that need it are quoted."""
    import tomlkit

    return ".".join(tomlkit.key(part).as_string() for part in parts)
