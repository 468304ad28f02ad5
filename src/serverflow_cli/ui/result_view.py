"""A result for people: changes as a plan, data as one table or as key: value lines, errors as lines on stderr."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import PartialFailure, SfError
from ..model.result import CommandResult, ServerResult
from .plan_view import print_changes
from .tables import is_rows, print_record, print_rows
from .terminal import Terminal
from .text import clean


def print_result(terminal: Terminal, result: CommandResult, *, changes: bool, planned: bool = False) -> None:
    """`changes` says that the command changes servers, or would: then each server's changes are told, none included."""
    if changes:
        print_changes(terminal, result.servers, terminal.stdout, planned=planned)
    _print_server_data(terminal, [server for server in result.servers if server.reply and server.reply.data])
    _print_data(terminal, result.data, result.notes)
    _print_secrets(terminal, result.servers)
    for note in result.notes:
        print_note(terminal, note)
    for server in result.servers:
        for note in server.reply.notes if server.reply else ():
            print_note(terminal, note, server.name)
        if server.error:
            print_error(terminal, server.error, server.name)
    if isinstance(result.error, PartialFailure):
        print_error(terminal, result.error)


def print_error(terminal: Terminal, error: SfError, server: str = "") -> None:
    """`sf: error: web1: …` and `sf: hint: …` for each way out."""
    name = clean(server or error.server)
    label = terminal.style("error:", "red", terminal.stderr)
    first, *others = error.message.splitlines() or [""]
    terminal.err(f"sf: {label} " + (f"{name}: " if name else "") + clean(first))
    for line in others:
        terminal.err(f"  {clean(line)}")
    for hint in error.hint.splitlines():
        terminal.err(f"sf: {terminal.style('hint:', 'cyan', terminal.stderr)} {clean(hint)}")


def print_note(terminal: Terminal, note: str, server: str = "") -> None:
    """A remark that is no part of the result."""
    terminal.err("sf: note: " + (f"{clean(server)}: " if server else "") + clean(note))


def _print_server_data(terminal: Terminal, servers: Sequence[ServerResult]) -> None:
    data = [(server.name, server.reply.data) for server in servers if server.reply]
    if len(data) == 1:
        _print_data(terminal, data[0][1])
    elif any(_table_in(part) is not None for _, part in data):
        rows = [(name, row) for name, part in data for row in _table_in(part) or ()]
        print_rows(terminal, [{"server": name, **row} for name, row in rows])
    else:
        print_rows(terminal, [{"server": name, **part} for name, part in data])


def _print_data(terminal: Terminal, data: Mapping[str, Any], notes: Sequence[str] = ()) -> None:
    """`notes` come after it: one of them may say that there is nothing, and what to do."""
    rows = _table_in(data)
    if len(data) == 1 and [] in data.values():
        nothing = f"no {clean(next(iter(data))).replace('_', ' ')}"
        if not any(note.startswith(nothing) for note in notes):
            print_note(terminal, nothing)
    elif rows is None:
        print_record(terminal, data)
    else:
        print_rows(terminal, rows)


def _table_in(data: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """The rows of data that is nothing but one list of records."""
    if len(data) == 1:
        (value,) = data.values()
        if is_rows(value):
            return list(value)
    return None


def _print_secrets(terminal: Terminal, servers: Sequence[ServerResult]) -> None:
    shown = [(s.name, name, value) for s in servers if s.reply for name, value in s.reply.secrets.items()]
    for server, name, value in shown:
        terminal.out(f"{clean(server)}: {clean(name)}: {clean(value)}")
    if shown:
        print_note(terminal, "shown once: it is kept nowhere")
