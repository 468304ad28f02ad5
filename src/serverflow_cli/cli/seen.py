"""Unit names that servers have told of, kept for the shell's completion. Losing them costs nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.folder import state_dir

if TYPE_CHECKING:
    from ..model.result import CommandResult

_MOST = 500


def seen_units(file: Path | None = None) -> list[str]:
    """The names; none when there is no file."""
    try:
        return (file or _file()).read_text().splitlines()
    except (OSError, ValueError):
        return []


def remember_units(result: CommandResult, file: Path | None = None) -> None:
    """Add the unit names in replies of the service area."""
    found = {name for server in result.servers if server.reply for name in _unit_names(dict(server.reply.data))}
    target = file or _file()
    known = set(seen_units(target))
    if found <= known:
        return
    with suppress(OSError):  # a full disk or a read-only home must not spoil the command
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = target.with_name(f"{target.name}.{os.getpid()}")
        fresh.write_text("".join(f"{name}\n" for name in sorted(known | found)[:_MOST]))
        fresh.replace(target)


def _file() -> Path:
    """One name a line."""
    return state_dir() / "seen-units"


def _unit_names(value: Any, key: str = "") -> Iterator[str]:
    """Values of the keys `unit` and `name` that are unit names: what a server says is checked before it is kept."""
    from serverflow_actions.kit import grammar  # completion reads names only and does not pay for this

    if isinstance(value, dict):
        for inner, item in value.items():
            yield from _unit_names(item, inner)
    elif isinstance(value, list):
        for item in value:
            yield from _unit_names(item, key)
    elif key in ("unit", "name"):
        with suppress(ValueError):
            yield str(grammar.unit(value))
