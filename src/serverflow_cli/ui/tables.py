"""Rows and records. Without a terminal: aligned columns, no boxes, no colour. With one: rich, imported only then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from .terminal import Terminal
from .text import clean
from .units import humane, share

Row = Mapping[str, Any]

#: Words whose colour tells good from bad at a glance.
_GOOD = frozenset(("active", "confirmed", "done", "enabled", "ok", "online", "running", "unchanged"))
_BAD = frozenset(("failed", "denied", "offline", "unreachable", "timeout", "killed", "drift", "rolled-back"))


def print_rows(terminal: Terminal, rows: Sequence[Row]) -> None:
    """A table with a line for each row.

    On a terminal that is too narrow for it the rows become records, one after the other: nothing is cut, which may be
    just what one asks for, or an id to be copied. Without a terminal lines are as long as they are.
    """
    if not rows:
        return
    folded = [_fold_pairs(row) for row in rows]
    fields = list(dict.fromkeys(field for row in folded for field in row))
    cells = [[_cell(field, row.get(field), terminal) for field in fields] for row in folded]
    heads = [_heading(field).upper() for field in fields]
    widths = [max(len(line[i]) for line in [heads, *cells]) for i in range(len(fields))]
    if not terminal.shows_results:
        for line in [heads, *cells]:
            terminal.out("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    elif sum(widths) + 2 * (len(widths) - 1) > terminal.columns:
        for index, row in enumerate(folded):
            if index:
                terminal.out()
            print_record(terminal, row)
    else:
        _print_rich(terminal, heads, cells)


def print_record(terminal: Terminal, record: Row, indent: int = 0) -> None:
    """`key: value` lines; what is nested stands indented below its key."""
    record = _fold_pairs(record)
    plain = {key: value for key, value in record.items() if not _is_nested(value)}
    width = max((len(_heading(key)) for key in plain), default=0) + 1
    for key, value in record.items():
        label = _heading(key) + ":"
        if key in plain:
            label = terminal.style(label.ljust(width), "cyan", terminal.stdout)
            terminal.out(f"{' ' * indent}{label} {_cell(key, value, terminal)}")
            continue
        terminal.out(f"{' ' * indent}{terminal.style(label, 'cyan', terminal.stdout)}")
        for item in value if isinstance(value, list) else [value]:
            print_record(terminal, item, indent + 2)


def is_rows(value: Any) -> bool:
    """Whether a value is a list of records, so that a table can show it."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _is_nested(value: Any) -> bool:
    return is_rows(value) or (isinstance(value, Mapping) and bool(value))


def _print_rich(terminal: Terminal, heads: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in heads:
        table.add_column(Text(head), no_wrap=True, overflow="ellipsis")
    for line in cells:
        table.add_row(*(Text(cell, style=_colour(cell)) for cell in line))
    system: Literal["auto"] | None = "auto" if terminal.colour else None
    Console(file=terminal.stdout, width=terminal.columns, color_system=system, highlight=False).print(table)


def _colour(cell: str) -> str:
    word = cell.partition(" ")[0]
    return "green" if word in _GOOD else "red" if word in _BAD else ""


def _cell(field: str, value: Any, terminal: Terminal) -> str:
    return clean(humane(field, value, local=terminal.shows_results))


def _heading(field: str) -> str:
    """`uptime_s` → `uptime`: the value shows its unit."""
    return clean(field).removesuffix("_s").replace("_", " ")


def _fold_pairs(row: Row) -> dict[str, Any]:
    """`memory_used` and `memory_total` become one field, `memory`: `1.2 of 4.0 GiB`."""
    out: dict[str, Any] = {}
    for field, value in row.items():
        name, _, last = field.rpartition("_")
        used, total = row.get(f"{name}_used"), row.get(f"{name}_total")
        if last in ("used", "total") and isinstance(used, int) and isinstance(total, int):
            out[name] = share(used, total)
        else:
            out[field] = value
    return out
