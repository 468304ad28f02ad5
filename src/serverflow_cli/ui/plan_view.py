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
    for names, outcome, changes in fold(servers):
        heading = f"{', '.join(names)}: {_summary(outcome, changes, planned)}"
        print(terminal.style(heading, "bold", stream), file=stream)
        for change in changes:
            for line in _change_lines(terminal, change, stream):
                print(f"  {line}", file=stream)


def fold(servers: Sequence[ServerResult]) -> list[tuple[list[str], str, tuple[Change, ...]]]:
    """Servers with the same outcome and the same changes together, in the order in which they first appear."""
    groups: dict[str, tuple[list[str], str, tuple[Change, ...]]] = {}
    for server in servers:
        if server.reply:
            key = repr((server.outcome, server.reply.changes))
            groups.setdefault(key, ([], server.outcome, server.reply.changes))[0].append(clean(server.name))
    return list(groups.values())


def _summary(outcome: str, changes: Sequence[Change], planned: bool) -> str:
    if not changes:
        return "no changes" if planned or outcome == "unchanged" else clean(outcome)
    count = f"{len(changes)} change{'s' if len(changes) > 1 else ''}"
    return count if planned else f"{clean(outcome)}, {count}"


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
