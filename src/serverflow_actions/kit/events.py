"""What a server tells people by itself: kinds of events, how grave they are, and who hears of which.

The same event goes to every channel, and a webhook gets it as JSON: docs/events.schema.json is `schema()`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

#: From the least to the gravest.
SEVERITIES = ("info", "warning", "error", "critical")
STATES = ("open", "resolved", "event")
DEFAULT = "error"


class Kind(NamedTuple):
    """How grave such an event is unless its sender says otherwise, and what it means."""

    severity: str
    meaning: str


KINDS = {
    "cron.failed": Kind("error", "a job ended with an error, by a signal, by its timeout or by its memory limit"),
    "cron.missed": Kind("error", "a job did not run at its time: the host was down, or cron did not fire"),
    "cron.late": Kind("warning", "a job started later than it may"),
    "cron.hanging": Kind("warning", "a job still runs at its next time, or after its timeout"),
    "cron.skipped": Kind("warning", "a job was skipped because its last run had not ended"),
    "cron.disabled": Kind(
        "error", "the server has disabled a job: who installed it may no longer run it, or its file was changed by hand"
    ),
    "cron.changed": Kind("error", "the crontab was changed by hand, or a job's file is damaged"),
    "safe.rolled_back": Kind("error", "a safe change was not confirmed, or did not hold, and has been undone"),
    "cert.failed": Kind("error", "a certificate was not issued or renewed when it was due"),
    "cert.expiring": Kind("error", "a sixth of a certificate's life is left, and it is not renewed yet"),
    "cert.not_served": Kind("error", "a certificate was renewed, and is not what the server serves"),
    "notify.test": Kind("info", "somebody asked for a test"),
}


class Rule(NamedTuple):
    """Events of these kinds, from this severity on."""

    kinds: str
    severity: str = DEFAULT

    @property
    def text(self) -> str:
        return self.kinds if self.severity == DEFAULT else f"{self.kinds} {self.severity}"


def rule(text: Any) -> Rule:
    """`cron.*`, or with the severity from which on: `cron.* warning`. Raises ValueError."""
    words = text.split(" ") if isinstance(text, str) and len(text) <= 128 else []
    if len(words) not in (1, 2) or not re.match(r"(?:\*|[a-z][a-z_]*\.(?:\*|[a-z][a-z_]*))\Z", words[0], re.ASCII):
        raise ValueError(f"{str(text)[:60]!a} is not an event or a glob of events, with or without a severity")
    found = Rule(*words)
    if found.severity not in SEVERITIES:
        raise ValueError(f"{found.severity[:60]!a} is not one of {', '.join(SEVERITIES)}")
    if not any(fnmatchcase(kind, found.kinds) for kind in KINDS):
        raise ValueError(f"there are no events {found.kinds[:60]!a}, only {', '.join(KINDS)}")
    return found


def matches(rules: Iterable[str], kind: str, severity: str) -> bool:
    """Whether one of the rules wants to hear of it."""
    return any(
        fnmatchcase(kind, each.kinds) and SEVERITIES.index(severity) >= SEVERITIES.index(each.severity)
        for each in map(rule, rules)
    )


@dataclass(frozen=True)
class Event:
    """One event of a server.

    id         a ULID: the same event has the same one in each attempt to deliver it
    state      `open` until it is `resolved`; `event` for what has no end
    key        what it is about: an `open` and its `resolved` have the same one
    server     as operators name it; `server_id` is the server's own, which no other has
    at         when this was, RFC 3339 in UTC; `since` is when it began, the same for what has no end
    count      how often it has happened since it was opened, 1 for the first
    title      one line for people; `text` is more of it, perhaps of several lines
    data       more for programs, by kind
    """

    id: str
    kind: str
    severity: str
    state: str
    key: str
    server: str
    server_id: str
    hostname: str
    at: str
    since: str
    count: int
    title: str
    text: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """What a webhook gets, see `schema`."""
        return {"v": 1, **{name: getattr(self, name) for name in _FIELDS}, "data": dict(self.data)}


_FIELDS = tuple(each.name for each in fields(Event))


def from_json(value: Mapping[str, Any]) -> Event:
    """The event that `as_json` made. Raises ValueError when it is none."""
    try:
        if value["v"] != 1:
            raise ValueError("not an event of version 1")
        event = Event(**{name: value[name] for name in _FIELDS})
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an event: {error}") from error
    for name in _FIELDS:
        kind = int if name == "count" else dict if name == "data" else str
        if type(getattr(event, name)) is not kind:
            raise ValueError(f"not an event: {name} has a wrong type")
    if event.severity not in SEVERITIES or event.state not in STATES:
        raise ValueError("not an event: severity or state is unknown")
    return event


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of an event. Later versions of sf may add kinds and properties; none goes or changes
    its meaning as long as `v` is 1.
    """
    moment = {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"}
    meanings = "\n".join(f"{name}: {kind.meaning} (usually {kind.severity})" for name, kind in KINDS.items())
    properties = {
        "v": {"const": 1},
        "id": {
            "description": "A ULID. It stays the same in each attempt to deliver the event.",
            "type": "string",
            "pattern": "^[0-7][0-9A-HJKMNP-TV-Z]{25}$",
        },
        "kind": {
            "description": f"What happened. Further kinds will come.\n{meanings}",
            "type": "string",
            "pattern": r"^[a-z][a-z_]*\.[a-z][a-z_]*$",
            "examples": list(KINDS),
        },
        "severity": {"enum": list(SEVERITIES)},
        "state": {"description": "`open` until `resolved`; `event` for what has no end.", "enum": list(STATES)},
        "key": {
            "description": "What it is about, on this server: `open` and its `resolved` have the same key.",
            "type": "string",
        },
        "server": {"description": "The server's name in fleet.toml.", "type": "string"},
        "server_id": {"description": "The server's own, which no other has.", "type": "string"},
        "hostname": {"type": "string"},
        "at": {**moment, "description": "When this was, in UTC (RFC 3339)."},
        "since": {**moment, "description": "When it began."},
        "count": {
            "description": "How often it has happened since it was opened; repeats are told once a day at most.",
            "type": "integer",
            "minimum": 1,
        },
        "title": {"description": "One line for people.", "type": "string"},
        "text": {"description": "More for people, perhaps of several lines.", "type": "string"},
        "data": {"description": "More for programs, by kind.", "type": "object"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Event of a server that ServerFlow manages",
        "type": "object",
        "required": list(properties),
        "properties": properties,
    }
