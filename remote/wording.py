"""An event in words, for people: what a mail and a chat message say. Pure.

Titles and texts can hold what a job printed. Control characters go, so that nothing of it counts as a header, a command
of a terminal or a direction of writing; and what is long loses its middle.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TITLE_LIMIT = 200
TEXT_LIMIT = 4000

#: ECMA-48 control sequences: colours and the like.
_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_NEWLINE = re.compile(r"\r\n?")


def text(raw: str, limit: int = TEXT_LIMIT) -> str:
    """Lines without other control characters than tab, at most `limit` characters."""
    lines = _NEWLINE.sub("\n", _SEQUENCE.sub("", raw))
    return cut("".join(c if c in "\n\t" else _shown(c) for c in lines), limit)


def line(raw: str, limit: int = TITLE_LIMIT) -> str:
    """The same on one line; what is too long loses its end."""
    words = " ".join(text(raw, max(len(raw), limit)).split())
    return words if len(words) <= limit else words[: limit - 1] + "…"


def cut(whole: str, limit: int) -> str:
    """At most `limit` characters: the beginning, and twice as much of the end, where errors stand."""
    if len(whole) <= limit:
        return whole
    note = f"\n[… {len(whole) - limit} characters or more are left out …]\n"
    room = limit - len(note)
    if room < 3:
        return whole[:limit]
    return whole[: room // 3] + note + whole[-(room - room // 3) :]


def subject(event: Mapping[str, Any]) -> str:
    """`[web1] error: Cron job report failed`."""
    word = "resolved" if event["state"] == "resolved" else event["severity"]
    return line(f"[{event['server'] or event['hostname']}] {word}: {event['title']}")


def facts(event: Mapping[str, Any]) -> list[str]:
    """What stands below the text, a line each."""
    name = event["server"] or event["hostname"]
    told = [f"Server: {name}" + (f" ({event['hostname']})" if name != event["hostname"] else "")]
    told.append(f"Event: {event['kind']} ({event['state']}, {event['severity']})")
    told.append(f"At: {event['at']}")
    if event["count"] > 1 or event["since"] != event["at"]:
        told.append(f"Since: {event['since']}, {event['count']} times")
    return [*told, f"Id: {event['id']}"]


def body(event: Mapping[str, Any]) -> str:
    """The text of a mail."""
    parts = [event["title"], event["text"].strip("\n"), "\n".join(facts(event))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else "?"
