"""A pydantic error in the words of the fleet file. Imported only when there is one."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from ..model.fleet import Fleet, Stanza
from .keypath import Path, lookup

if TYPE_CHECKING:
    from pydantic import ValidationError

#: The key that says which of several shapes a table has.
SHAPE = "provider"
_WORDS = {
    "missing": "missing",
    "union_tag_not_found": "missing",
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "tuple_type": "must be a list",
    "string_type": "must be text in quotes",
    "int_type": "must be a whole number, without quotes",
    "bool_type": "must be true or false, without quotes",
    "datetime_type": "must be a date and time, without quotes",
    "too_short": "must not be empty",
}


def explain(error: ValidationError, document: dict[str, Any]) -> list[tuple[Path, str]]:
    """Each problem with the path of its key."""
    found = [(_path(item, document), item) for item in error.errors(include_url=False, include_input=False)]
    # To pydantic a list of nothing but bad values is empty, too.
    within = {path[:-1] for path, _ in found}
    return [
        (path, _message(item, path, document))
        for path, item in found
        if item["type"] != "too_short" or path not in within
    ]


def _path(item: Any, document: dict[str, Any]) -> Path:
    """pydantic adds "[key]" to the path of a table whose name is at fault, and which of several shapes a table has (the
    value of its `provider`) behind the table's own name; where that value is at fault, it stays with the table.
    """
    path: Path = ()
    for part in item["loc"]:
        table = lookup(document, path)
        if not (isinstance(table, dict) and part not in table and table.get(SHAPE) == part):
            path = (*path, part)
    if item["type"] in ("union_tag_not_found", "union_tag_invalid"):
        return (*path, SHAPE)
    return path[:-1] if path and path[-1] == "[key]" else path


def _message(item: Any, path: Path, document: dict[str, Any]) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        *table, key = path
        # A key that stands there already is no suggestion.
        present = lookup(document, tuple(table)) or {}
        near = get_close_matches(
            str(key), [known for known in _known(tuple(table)) if known not in present], n=1, cutoff=0.5
        )
        return f"unknown key (did you mean {near[0]}?)" if near else "unknown key"
    if kind == "value_error":
        return str(context["error"])
    if kind == "union_tag_invalid":
        return f"must be one of {context['expected_tags']}"
    if kind == "literal_error":
        return f"must be {context['expected']}"
    if kind == "model_type" and context["class_name"] == "Secret":
        return 'must be a reference, { secret = "name" }: secrets never stand in this file'
    return _WORDS.get(kind) or str(item["msg"]).replace("Input should", "must").lower()


def _known(table: Path) -> list[str]:
    """The keys that a table may have."""
    models: list[Any] = [Fleet]
    for part in table:
        models = [found for model in models for found in _step(model, part)]
    return [field.alias or name for model in models for name, field in model.model_fields.items()]


def _step(model: Any, part: str | int) -> list[Any]:
    """The models at a key of a stanza. An index, or a name in a table of stanzas, stays with the same model."""
    if isinstance(part, str) and part in model.model_fields:
        return list(_stanzas(model.model_fields[part].annotation))
    return [model]


def _stanzas(annotation: Any) -> Iterator[type[Stanza]]:
    if isinstance(annotation, type) and issubclass(annotation, Stanza):
        yield annotation
    for inner in get_args(annotation):
        yield from _stanzas(inner)
