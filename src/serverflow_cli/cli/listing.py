"""`sf --help` and `sf AREA --help`: what there is, from catalogue.json alone, so that looking around is quick."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

Rows = Sequence[tuple[str, str]]


def catalogue() -> dict[str, Any]:
    """The command tree as data; generate.py writes it."""
    text = Path(__file__).with_name("catalogue.json").read_text(encoding="utf-8")
    return json.loads(text)  # type: ignore[no-any-return]  # the file is ours


def wanted(argv: Sequence[str]) -> str | None:
    """The listing that a line asks for: "" for the top, else an area's name; None when it asks for something else."""
    if len(argv) == 1 and argv[0] in ("--help", "-h"):
        return ""
    if len(argv) == 2 and argv[1] in ("--help", "-h") and not argv[0].startswith("-"):
        return argv[0]
    return None


def listing(area: str) -> str | None:
    """The listing of an area, or of a group in it such as `dns zone`; None when there is none of that name, or when its
    name is itself a command.
    """
    known = catalogue()
    if not area:
        return "\n".join(_top(known))
    commands = [(path, entry["help"]) for path, entry in known["commands"].items() if path.startswith(area + " ")]
    if not commands:
        return None
    summary = known["areas"][area][1] if area in known["areas"] else ""
    return "\n".join(_area(area, summary, [(path.removeprefix(area + " "), help) for path, help in commands]))


def _top(known: Mapping[str, Any]) -> Iterator[str]:
    yield "Usage: sf AREA COMMAND …"
    yield ""
    yield from _wrapped("Manage a fleet of Linux servers over SSH with signed, predefined actions and signed receipts.")
    for group in dict.fromkeys(group for group, _ in known["areas"].values()):
        yield from _section(group, [(name, summary) for name, (at, summary) in known["areas"].items() if at == group])
    yield from _section("Global options", [(names, help) for names, help in known["global_help"]])
    yield ""
    yield from _wrapped("`sf AREA --help` lists the commands of an area, `sf AREA COMMAND --help` the options of one.")


def _area(area: str, summary: str, rows: Rows) -> Iterator[str]:
    yield f"Usage: sf {area} COMMAND …"
    if summary:
        yield ""
        yield from _wrapped(f"{summary}.")
    yield from _section("Commands", rows)
    yield ""
    yield from _wrapped(f"`sf {area} COMMAND --help` shows the options of one.")


def _section(title: str, rows: Rows) -> Iterator[str]:
    yield ""
    yield f"{title}:"
    column = max(len(left) for left, _ in rows) + 4
    for left, right in rows:
        lines = wrap(right, max(_width() - column, 20)) or [""]
        yield f"  {left}".ljust(column) + lines[0]
        yield from (" " * column + line for line in lines[1:])


def _wrapped(text: str) -> list[str]:
    return ["  " + line for line in wrap(text, _width() - 2)]


def _width() -> int:
    """At most 80 columns: longer lines are harder to read."""
    try:
        return min(os.get_terminal_size(1).columns, 80) or 80
    except OSError:
        return 80
