"""Which secrets a part of the fleet file refers to, and where."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .keypath import Path, dotted


def references(stanza: Any) -> dict[str, list[str]]:
    """Secret name → the dotted places that hold `{ secret = "name" }`, in the order of the model.

    It follows the model, not the text: in the text, a grant's `where = { secret = "x" }` would look the same.
    """
    found: dict[str, list[str]] = {}
    for name, path in _walk(stanza, ()):
        found.setdefault(name, []).append(dotted(path))
    return found


def _walk(value: Any, at: Path) -> Iterator[tuple[str, Path]]:
    from ..model.fleet import Secret, Stanza

    if isinstance(value, Secret):
        yield value.secret, at
    elif isinstance(value, Stanza):
        for field, info in type(value).model_fields.items():
            yield from _walk(getattr(value, field), (*at, info.alias or field))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, (*at, key))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _walk(item, (*at, index))
