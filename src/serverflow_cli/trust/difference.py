"""What a trust version changes, for the people who sign it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from serverflow_actions.kit.change import Change, differing

from .keys import fingerprint, ssh_fingerprint
from .trustfile import CommandKey, Grant, Role, RootKey, Trust


@dataclass(frozen=True)
class Words:
    """How to tell it: a server's id as a name, and all actions that there are."""

    server: Callable[[str], str]
    actions: frozenset[str]


def changes(before: Trust, after: Trust, words: Words) -> list[Change]:
    """Every difference between two versions, apart from the number, in the words of `sf trust show`."""
    found: list[Change] = []
    if before.expires != after.expires:
        found.append(Change("update", "trust file", "expiry", {"expires": (_day(before.expires), _day(after.expires))}))
    for name, old, new in (("root", before.root, after.root), ("release", before.release, after.release)):
        found += _role(name, old, new)
    found += _command(before.command, after.command, words)
    return found


def _role(name: str, old: Role, new: Role) -> Iterator[Change]:
    if old.threshold != new.threshold:
        fields = {"signatures needed": (old.threshold, new.threshold)}
        yield Change("update", f"{name} role", f"{new.threshold} of {len(new.keys)}", fields)
    yield from (_root_key("create", name, key) for key in new.keys if key not in old.keys)
    yield from (_root_key("delete", name, key) for key in old.keys if key not in new.keys)


def _root_key(verb: str, role: str, key: RootKey) -> Change:
    return Change(verb, f"{role} key", key.name, note=fingerprint(key.public_key))


def _command(old: Sequence[CommandKey], new: Sequence[CommandKey], words: Words) -> Iterator[Change]:
    before = {key.public_key: key for key in old}
    after = {key.public_key: key for key in new}
    for public, key in after.items():
        note, held = fingerprint(public), before.get(public)
        fields = _fields(held, key) | _gains(held, key, words)
        if held is None:
            yield Change("create", "command key", key.name, fields, note=note)
        elif fields:
            yield Change("update", "command key", key.name, fields, note=note)
    for public, key in before.items():
        if public not in after:
            yield Change("delete", "command key", key.name, note=fingerprint(public))
    stayed = [public for public in before if public in after]
    if stayed != [public for public in after if public in before]:  # of two of one name the first is the old one
        yield Change("update", "command keys", "order", {"order": (None, [key.name for key in new])})


def _fields(before: CommandKey | None, after: CommandKey) -> dict[str, tuple[Any, Any]]:
    found = differing(_shown(before) if before else {}, _shown(after)) or {}
    return {name: values for name, values in found.items() if (name, values) != ("everything", (None, False))}


def _shown(key: CommandKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "from": list(key.addresses) or "anywhere",
        "valid from": _day(key.not_before),
        "expires": _day(key.expires),
        "SSH keys": [ssh_fingerprint(line) for line in key.ssh],
        "everything": key.everything,
        "opens secrets": list(key.seal.secrets) if key.seal and key.seal.secrets else "none",
        **({"seal key": key.seal.key} if key.seal else {}),
    }


#: An action on a server (id; "" for none yet) under conditions.
_Right = tuple[str, str, tuple[tuple[str, str], ...]]


def _gains(before: CommandKey | None, after: CommandKey, words: Words) -> dict[str, tuple[Any, Any]]:
    old, new = _rights(before.grants if before else ()), _rights(after.grants)
    told = {"may now": rights_text(new - old, words), "may no longer": rights_text(old - new, words)}
    return {label: (None, text) for label, text in told.items() if text}


def _rights(grants: Iterable[Grant]) -> set[_Right]:
    return {
        (action, server, tuple(sorted(grant.where.items())))
        for grant in grants
        for action in grant.actions
        for server in grant.servers or ("",)
    }


def grants_text(grants: Iterable[Grant], words: Words) -> str:
    """`service.restart on web1, web2 where unit=nginx; app.{list,show} on web1`."""
    return rights_text(_rights(grants), words)


def rights_text(rights: Iterable[_Right], words: Words) -> str:
    """Actions that are for the same servers under the same conditions are told together."""
    servers: dict[tuple[str, tuple[tuple[str, str], ...]], set[str]] = {}
    for action, server, where in rights:
        servers.setdefault((action, where), set()).add(server)
    together: dict[tuple[tuple[str, ...], tuple[tuple[str, str], ...]], set[str]] = {}
    for (action, where), ids in servers.items():
        together.setdefault((tuple(sorted(ids)), where), set()).add(action)
    return "; ".join(
        f"{_folded(actions, words.actions)} on {_servers(ids, words)}"
        + (f" where {', '.join(f'{name}={value}' for name, value in where)}" if where else "")
        for (ids, where), actions in sorted(together.items(), key=lambda item: sorted(item[1]))
    )


def _servers(ids: Sequence[str], words: Words) -> str:
    return ", ".join(sorted(words.server(one) if one else "no server yet" for one in ids))


def _folded(actions: Collection[str], every: Collection[str]) -> str:
    """`app.{create,list}` for two of an area, `app.*` for all that this sf knows, `every action` for all of all."""
    if set(every) <= set(actions):
        return ", ".join(("every action", *sorted(set(actions) - set(every))))
    areas: dict[str, list[str]] = {}
    for action in sorted(actions):
        areas.setdefault(action.partition(".")[0], []).append(action)
    return ", ".join(_area(area, named, every) for area, named in areas.items())


def _area(area: str, named: Sequence[str], every: Collection[str]) -> str:
    if len(named) == 1:
        return named[0]
    known = {action for action in every if action.startswith(area + ".")}
    if known and known == set(named):
        return f"{area}.*"
    return f"{area}.{{{','.join(action.partition('.')[2] for action in named)}}}"


def _day(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
