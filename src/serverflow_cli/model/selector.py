"""Selectors: which servers a command, a stanza or a grant means.

A selector is a comma list of terms that unite: a server's name, a glob (`web*`), `@role`, `+tag` or `all`. A term after
`!` excludes, wherever it stands. `local` is reserved.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

from ..errors import UsageError

ROLES = ("app", "db", "backup", "dns", "mail")
#: Words that selectors give a meaning of their own; no server may be called so.
RESERVED = ("all", "local")

_TERM = re.compile(r"!?(?:[@+]?[a-z0-9](?:[a-z0-9-]*[a-z0-9])?|[a-z0-9*?\[\]-]*[*?\[\]][a-z0-9*?\[\]-]*)\Z", re.ASCII)


class Labelled(Protocol):
    """What a selector looks at in a server."""

    @property
    def roles(self) -> Sequence[str]: ...
    @property
    def tags(self) -> Sequence[str]: ...


Server = TypeVar("Server", bound=Labelled)


def terms(selector: str) -> list[str]:
    """The terms of a selector. Raises ValueError when it is not well formed."""
    found = [term.strip(" ") for term in selector.split(",")]
    for term in found:
        if not _TERM.match(term):
            raise ValueError(
                f"{selector[:60]!a} is not a selector (web1, web*, @role, +tag, all, !excluded; commas between)"
            )
        if term.startswith(("@", "!@")) and term.lstrip("!@") not in ROLES:
            raise ValueError(f"{term.lstrip('!')} is no role ({', '.join(ROLES)})")
        if term.lstrip("!") == "local":
            raise ValueError("local is reserved: it will mean this machine")
    return found


def resolve(servers: Mapping[str, Labelled], selector: str) -> list[str]:
    """The names that a selector means, in the order of the fleet file.

    A name or tag that no server has is an error even beside terms that match: a misspelt `!db1` must not select db1.

    Raises UsageError when the selector is not well formed or selects nothing.
    """
    try:
        wanted = terms(selector)
    except ValueError as error:
        raise UsageError(str(error)) from None
    included: set[str] = set()
    excluded: set[str] = set()
    for term in wanted:
        (excluded if term.startswith("!") else included).update(_matches(servers, term.lstrip("!")))
    selected = [name for name in servers if name in included - excluded]
    if not selected:
        only_excludes = all(term.startswith("!") for term in wanted)
        raise UsageError(
            f"{selector} selects no server",
            hint=f"it only excludes; write all,{selector}" if only_excludes else _known(servers),
            code="no-server",
        )
    return selected


def _matches(servers: Mapping[str, Labelled], term: str) -> list[str]:
    if term == "all":
        return list(servers)
    if term.startswith("@"):
        return [name for name, server in servers.items() if term[1:] in server.roles]
    if term.startswith("+"):
        found = [name for name, server in servers.items() if term[1:] in server.tags]
        if not found:
            raise _unknown(
                term, [f"+{tag}" for server in servers.values() for tag in server.tags], "no server has the tag"
            )
        return found
    if set(term) & set("*?["):
        return [name for name in servers if fnmatchcase(name, term)]
    if term not in servers:
        raise _unknown(term, list(servers), "no server is called")
    return [term]


def _unknown(term: str, known: Sequence[str], what: str) -> UsageError:
    from difflib import get_close_matches

    near = get_close_matches(term, dict.fromkeys(known), n=3, cutoff=0.6)
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else (f"there are {', '.join(dict.fromkeys(known))}" if known else "")
    )
    return UsageError(f"{what} {term}", hint=hint, code="no-server")


def _known(servers: Mapping[str, Labelled]) -> str:
    return f"the fleet has {', '.join(servers)}" if servers else "the fleet has no servers yet: sf server add"
