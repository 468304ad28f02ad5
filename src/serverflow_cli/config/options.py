"""Options that are to become a stanza of fleet.toml: what is wrong with them is told by their own names, since the file
has no such line yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, UsageError
from . import crosscheck
from .keypath import Path, dotted
from .load import parse, toml

if TYPE_CHECKING:
    from ..model.fleet import Fleet


def parse_edited(text: str, stanza: Path, options: Mapping[str, str] | None = None) -> Fleet:
    """The fleet of a text that was right until options were put into the stanza. `options` are those that are not
    called as their keys are, by key. Raises UsageError.
    """
    try:
        return parse(text)
    except ConfigError as error:
        document = toml(text, "fleet.toml")
        problems = _problems(document)
        found = list(dict.fromkeys(_told(problems, stanza, options or {}))) or [error.message]
        is_early = not document.get("servers") and any(path[-1:] == ("on",) for path, _ in problems)
        raise UsageError("\n".join(found), hint="first: sf server add" if is_early else "") from None


def _problems(document: dict[str, Any]) -> list[tuple[Path, str]]:
    from pydantic import ValidationError

    from ..model.fleet import Fleet
    from .explain import explain

    problems = crosscheck.problems(document)
    try:
        Fleet.model_validate(document)
    except ValidationError as error:
        problems = [*explain(error, document), *problems]
    return problems


def _told(problems: Iterable[tuple[Path, str]], stanza: Path, options: Mapping[str, str]) -> Iterator[str]:
    for path, message in problems:
        inside = path[len(stanza) :]
        if path[: len(stanza)] != stanza:
            yield f"{dotted(path)}: {message}"
        elif inside:
            key = str(inside[0])
            yield f"{options.get(key, '--' + key.replace('_', '-'))}: {message}"
        else:
            yield message
