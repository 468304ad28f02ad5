"""Where stanzas of the fleet file name each other: selectors that match nothing, apps and providers that do not exist.

It works on the parsed text, not on the model, and steps over what has the wrong shape: so a misspelt key and a dangling
reference show up in the same run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError
from ..model import selector
from .keypath import Path, lookup, matching

#: Keys that hold a selector, and keys that hold names of a table's entries. `*` is any one step.
SELECTORS: tuple[Path, ...] = (
    ("grants", "*", "on"),
    ("users", "*", "on"),
    ("apps", "*", "on"),
    ("redis", "*", "on"),
    ("redis", "*", "allow_from"),
    ("firewall", "*", "on"),
    ("config", "*", "on"),
    ("cron", "*", "on"),
    ("notify", "routes", "*", "on"),
    ("dns", "providers", "*", "on"),
    ("dns", "providers", "*", "nameservers", "*"),
    ("acme", "on"),
    ("certificates", "*", "on"),
    ("routes", "*", "on"),
    ("checks", "*", "on"),
)
REFERENCES: Mapping[Path, tuple[Path, ...]] = {
    ("apps",): (
        ("cron", "*", "app"),
        ("routes", "*", "to", "app"),
        ("routes", "*", "paths", "*", "app"),
        ("grants", "*", "where", "app"),
    ),
    ("notify", "channels"): (("notify", "routes", "*", "to", "*"),),
    ("dns", "providers"): (("dns", "zones", "*", "provider"),),
}


@dataclass(frozen=True)
class _Labels:
    roles: tuple[str, ...]
    tags: tuple[str, ...]


def problems(document: Mapping[str, Any]) -> list[tuple[Path, str]]:
    """Each dangling reference, with the path of its key."""
    return [*_selectors(document), *_references(document)]


def _selectors(document: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    servers = {
        name: _Labels(_words(stanza, "roles"), _words(stanza, "tags"))
        for (_, name), stanza in matching(document, ("servers", "*"))
        if isinstance(name, str)
    }
    for pattern in SELECTORS:
        for path, value in matching(document, pattern):
            try:
                selector.terms(value)
                selector.resolve(servers, value)
            except UsageError as error:
                yield path, f"{error.message} ({error.hint})" if error.hint else error.message
            except (ValueError, AttributeError):
                continue  # not a selector at all: the model says so


def _references(document: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    for table, patterns in REFERENCES.items():
        entries = lookup(document, table)
        known = entries if isinstance(entries, dict) else {}
        for pattern in patterns:
            for path, value in matching(document, pattern):
                if isinstance(value, str) and value not in known:
                    names = f" (there is {', '.join(known)})" if known else ""
                    yield path, f"no {'.'.join(map(str, table))}.{value} in this file{names}"


def _words(stanza: Any, key: str) -> tuple[str, ...]:
    found = stanza.get(key) if isinstance(stanza, dict) else None
    return tuple(word for word in found if isinstance(word, str)) if isinstance(found, list) else ()
