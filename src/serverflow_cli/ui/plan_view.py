"""What a plan would do, or what a run did: servers that are alike are told once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from serverflow_actions.kit.change import Change

from ..model.result import ServerResult
from .terminal import Terminal
from .text import clean, clean_block

_SIGNS = {"create": ("+", "green"), "update": ("~", "yellow"), "delete": ("-", "red"), "run": (">", "cyan")}
_DIFF_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def print_changes(terminal: Terminal, servers: Sequence[ServerResult], stream: TextIO, *, planned: bool) -> None:
    """The changes of each group of servers that would be, or were, changed alike."""
    for names, summary, changes in _fold(servers, planned):
        heading = f"{', '.join(names)}: {summary}"
        print(terminal.style(heading, "bold", stream), file=stream)
        for change in changes:
            for line in _change_lines(terminal, change, stream):
                print(f"  {line}", file=stream)


def _fold(servers: Sequence[ServerResult], planned: bool) -> list[tuple[list[str], str, tuple[Change, ...]]]:
    """Servers with the same summary and the same changes together, in the order in which they first appear."""
    groups: dict[str, tuple[list[str], str, tuple[Change, ...]]] = {}
    for server in servers:
        if server.reply:
            summary = _summary(server, server.reply.changes, planned)
            key = repr((summary, server.reply.changes))
            groups.setdefault(key, ([], summary, server.reply.changes))[0].append(clean(server.name))
    return list(groups.values())


def _summary(server: ServerResult, changes: Sequence[Change], planned: bool) -> str:
    if planned and server.error:
        return "cannot be planned"
    if not changes:
        return "no changes" if planned or server.outcome == "unchanged" else clean(server.outcome)
    count = f"{len(changes)} change{'s' if len(changes) > 1 else ''}"
    return count if planned else f"{clean(server.outcome)}, {count}"


def _change_lines(terminal: Terminal, change: Change, stream: TextIO) -> Iterator[str]:
    sign, colour = _SIGNS.get(change.verb, ("?", "bold"))
    note = f"  ({clean(change.note)})" if change.note else ""
    yield terminal.style(f"{sign} {clean(change.kind)} {clean(change.name)}", colour, stream) + note
    if change.diff:
        for line in clean_block(change.diff).splitlines():
            yield "    " + terminal.style(line, _DIFF_COLOURS.get(line[:1], "dim"), stream)
        return
    for field, (before, after) in change.fields.items():
        shown = _value(after) if before is None else f"{_value(before)} → {_value(after)}"
        yield f"    {clean(field)}: {shown}"


def _value(value: Any) -> str:
    if value is None:
        return "absent"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(item) for item in value) or "none"
    return clean(str(value)) or '""'
