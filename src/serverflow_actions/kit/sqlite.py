"""SQLite databases of other programs: reading one while its owner writes, and making one."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .probe import HostError

_BUSY_S = 10
Row = Sequence[Any]


def rows(path: str, queries: Sequence[tuple[str, Sequence[Any]]]) -> list[list[Row]] | None:
    """The answers to all queries (SQL and its values), from one moment; None when there is no such file.

    It is opened read-only, so it works where nothing can be written, as long as the database has a rollback journal
    and no write-ahead log (sqlite.org/wal.html, section 5). Raises HostError.
    """
    if not Path(path).exists():
        return None
    try:
        connection = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, timeout=_BUSY_S, isolation_level=None)
        try:
            connection.execute("BEGIN")
            return [connection.execute(sql, tuple(values)).fetchall() for sql, values in queries]
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise HostError(f"{path} cannot be read: {error}") from error


def database(schema: str) -> bytes:
    """The file of a new database with this schema."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new"
        connection = sqlite3.connect(path)
        try:
            connection.executescript(schema)
        except sqlite3.Error as error:
            raise HostError(f"the database cannot be made: {error}") from error
        finally:
            connection.close()
        return path.read_bytes()
