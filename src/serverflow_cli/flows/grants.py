"""What fleet.toml says that keys may do, in the words of the trust file: action names and server ids.

fleet.toml is not signed, so it is a wish: nothing of it counts before a root key has signed it, and who signs is shown
what it would change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Protocol

from serverflow_actions import registry

from ..errors import ConfigError, UsageError
from ..model.selector import Labelled, resolve

if TYPE_CHECKING:
    from ..model.fleet import Fleet
    from ..model.fleet import Grant as Wish
    from ..trust.trustfile import CommandKey, Grant, Trust

#: Command lines of people's own: a glob does not mean them.
BY_NAME_ONLY = ("cron.command",)
#: What tries [checks].
CHECK = "safe.check"
#: So many actions are named in a sentence.
_TOLD = 6


def every_action() -> list[str]:
    """All actions of this registry. A later one's new actions need a new signature (`sf server update` asks for it)."""
    return list(registry.names())


def expand(patterns: Iterable[str]) -> tuple[str, ...]:
    """The actions that names and globs mean, sorted. Raises UsageError for one that means none."""
    known, found = every_action(), set[str]()
    for pattern in patterns:
        matched = [name for name in known if _means(pattern, name)]
        if not matched:
            raise UsageError(f"there is no action {pattern}", hint="sf action list")
        found.update(matched)
    return tuple(sorted(found))


def _means(pattern: str, action: str) -> bool:
    return pattern == action if action in BY_NAME_ONLY else fnmatchcase(action, pattern)


class Asked(Protocol):
    """What a stanza of fleet.toml, or a command line, asks for."""

    @property
    def allow(self) -> Sequence[str]: ...
    @property
    def on(self) -> str: ...
    @property
    def where(self) -> Mapping[str, str] | None: ...


def check(asked: Asked, servers: Mapping[str, Labelled]) -> list[str]:
    """That a command line asks for what can be: servers that there are, and conditions that an allowed action can meet.
    Returns notes on the actions that cannot. Raises UsageError naming the option.
    """
    if not asked.allow:
        return []
    try:
        resolve(servers, asked.on)
    except UsageError as error:
        raise UsageError(f"--on: {error.message}", hint=error.hint, code=error.code) from None
    conditions, actions = sorted(asked.where or {}), expand(asked.allow)
    left_out = [
        f"{name} is not among them: it runs command lines, and has to be named"
        for name in BY_NAME_ONLY
        if name not in actions and any(fnmatchcase(name, pattern) for pattern in asked.allow)
    ]
    if not conditions:
        return left_out
    compared = {action: _compared(action) for action in actions}
    lacking = {one: [action for action in actions if one not in compared[action]] for one in conditions}
    for one, without in lacking.items():
        if len(without) == len(actions):
            names = ", ".join(sorted(set().union(*compared.values())))
            raise UsageError(
                f"--where {one}: {_told(without)} {_have(without)} no such parameter that a grant compares",
                hint=f"it can be: {names}" if names else "leave it out",
            )
    if not any(compared[action].issuperset(conditions) for action in actions):
        raise UsageError(f"--where: none of {_told(actions)} has all of {', '.join(conditions)}")
    return left_out + [
        f"never allowed by this: {_told(without)}, which {_have(without)} no {one} to compare"
        for one, without in lacking.items()
        if without
    ]


def unchecked(name: str, asked: Asked, fleet: Fleet, held: Iterable[Grant], ids: Mapping[str, str]) -> list[str]:
    """A note where this lets the key change servers that [checks] are for, and neither it nor what the key holds lets
    it try those: each safe change would be refused. `ids` as in `granted`. Raises UsageError.
    """
    allowed = expand(asked.allow)
    tries = CHECK in allowed and not asked.where  # which has none of the parameters that can be compared
    if tries or not any(registry.load(action).kind == "change" for action in allowed):
        return []
    may = {server for grant in held if CHECK in grant.actions and not grant.where for server in grant.servers}
    checked = {server for stanza in fleet.checks.values() for server in _selected(fleet.servers, stanza.on)}
    lacking = [
        server for server in _selected(fleet.servers, asked.on) if server in checked and ids.get(server) not in may
    ]
    if not lacking:
        return []
    return [
        f"[checks] are for {', '.join(lacking)}, and {name} may not try them, so safe changes are refused there: "
        f"sf key grant {name} --allow {CHECK} --on {','.join(lacking)}"
    ]


def _compared(action: str) -> set[str]:
    """The parameters that a condition can be met by: to servers a list equals nothing, and secrets travel apart."""
    return {param.name for param in registry.load(action).params if not param.many and not param.secret}


def _told(actions: Sequence[str]) -> str:
    more = f" and {len(actions) - _TOLD} more" if len(actions) > _TOLD else ""
    return ", ".join(actions[:_TOLD]) + more


def _have(actions: Sequence[str]) -> str:
    return "has" if len(actions) == 1 else "have"


def granted(asked: Asked, servers: Mapping[str, Labelled], ids: Mapping[str, str]) -> Grant:
    """It as a grant; `ids` are the server ids of those servers that are enrolled. Raises UsageError."""
    from ..trust.trustfile import Grant

    selected = {ids[name] for name in _selected(servers, asked.on) if name in ids}
    return Grant(expand(asked.allow), tuple(sorted(selected)), dict(asked.where or {}))


def _selected(servers: Mapping[str, Labelled], selector: str) -> list[str]:
    """A selector that means nothing yet (`all` in an empty fleet, a role that no server has) is no error in a wish."""
    try:
        return resolve(servers, selector)
    except UsageError as error:
        if error.code != "no-server":
            raise
        return []


def wished(trust: Trust, fleet: Fleet, ids: Mapping[str, str]) -> tuple[CommandKey, ...]:
    """The command keys as fleet.toml would have them: same keys, other grants and, where it says so, other expiry.

    A key without a stanza in `grants` keeps what is signed; one that is to have everything follows the fleet, and loses
    that mark when a stanza narrows it. Raises ConfigError, UsageError.
    """
    return tuple(_wished(key, fleet, ids) for key in trust.command)


def _wished(key: CommandKey, fleet: Fleet, ids: Mapping[str, str]) -> CommandKey:
    wishes = wishes_of(fleet, key.name)
    if wishes:
        grants = tuple(granted(wish, fleet.servers, ids) for wish in wishes)
        return replace(key, grants=grants, expires=_expiry(key, wishes), everything=False)
    if key.everything:
        return replace(key, grants=(full_grant(ids.values()),))
    return key


def with_server(
    trust: Trust, fleet: Fleet, name: str, labels: Labelled, server_id: str
) -> tuple[tuple[CommandKey, ...], list[CommandKey]]:
    """The command keys once a server joins: whoever may do everything everywhere may there too. And, of the others,
    those that a selector in fleet.toml lets in, with what they hold already and nothing else.
    """
    servers: dict[str, Labelled] = {**fleet.servers, name: labels}
    everywhere, invited = [], []
    for key in trust.command:
        if key.everything:
            everywhere.append(replace(key, grants=tuple(_joined(grant, server_id) for grant in key.grants)))
            continue
        everywhere.append(key)
        meant = {
            (expand(wish.allow), tuple(sorted(wish.where.items())))
            for wish in wishes_of(fleet, key.name)
            if name in _selected(servers, wish.on)
        }
        joined = tuple(
            _joined(grant, server_id)
            if (tuple(sorted(grant.actions)), tuple(sorted(grant.where.items()))) in meant
            else grant
            for grant in key.grants
        )
        if joined != key.grants:
            invited.append(replace(key, grants=joined))
    return tuple(everywhere), invited


def _joined(grant: Grant, server_id: str) -> Grant:
    return replace(grant, servers=tuple(sorted({*grant.servers, server_id})))


def wishes_of(fleet: Fleet, name: str) -> list[Wish]:
    """The stanzas in `grants` for a key of this name."""
    return [wish for wish in fleet.grants if wish.to == name]


def full_grant(ids: Iterable[str]) -> Grant:
    """Every action on these servers."""
    from ..trust.trustfile import Grant

    return Grant(tuple(every_action()), tuple(sorted(set(ids))))


def _expiry(key: CommandKey, wishes: Sequence[Wish]) -> int:
    """A key expires, not a grant: so all its stanzas have to agree."""
    moments = {wish.expires for wish in wishes}
    if len(moments) > 1:
        raise ConfigError(
            f"the grants to {key.name} expire at different times, but it is the key that expires",
            hint=f'give all [[grants]] with to = "{key.name}" the same `expires`',
        )
    (moment,) = moments
    return int(moment.timestamp() * 1000) if moment else key.expires


def problems(trust: Trust, fleet: Fleet) -> Iterator[str]:
    """What fleet.toml wishes for keys that nobody has signed."""
    known = {key.name for key in trust.command}
    for name in dict.fromkeys(wish.to for wish in fleet.grants):
        if name not in known:
            yield f"fleet.toml grants something to {name}, which is no key of the fleet: sf key add, sf key deploy"
