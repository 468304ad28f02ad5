"""Reading a database that another program writes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from serverflow_actions.kit import sqlite
from serverflow_actions.kit.probe import HostError

_ALL = ("select name from things order by name", ())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "a?b%20#c.sqlite3"  # a name that must not be read as a part of a URI
    found.write_bytes(sqlite.database("create table things (name text); insert into things values ('one');"))
    return found


def test_all_queries_see_one_moment(path: Path) -> None:
    assert sqlite.rows(str(path), [_ALL, ("select count(*) from things where name = ?", ("one",))]) == [
        [("one",)],
        [(1,)],
    ]


def test_what_is_not_committed_is_not_seen(path: Path) -> None:
    writer = sqlite3.connect(path)
    writer.execute("insert into things values ('two')")
    assert sqlite.rows(str(path), [_ALL]) == [[("one",)]]
    writer.commit()
    assert sqlite.rows(str(path), [_ALL]) == [[("one",), ("two",)]]
    writer.close()


def test_nothing_can_be_written(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(HostError, match="readonly"):
        sqlite.rows(str(path), [("delete from things", ())])
    assert path.read_bytes() == before


def test_no_file_is_no_database(tmp_path: Path) -> None:
    assert sqlite.rows(str(tmp_path / "none"), [_ALL]) is None
    assert not (tmp_path / "none").exists()


def test_what_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello " * 1000)
    with pytest.raises(HostError, match="not a database"):
        sqlite.rows(str(tmp_path / "text"), [_ALL])


def test_a_writer_that_does_not_end_is_not_waited_for_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_S", 0.1)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("begin exclusive")
    with pytest.raises(HostError, match="locked"):
        sqlite.rows(str(path), [_ALL])
    writer.close()


def test_a_bad_schema_makes_nothing() -> None:
    with pytest.raises(HostError, match="cannot be made"):
        sqlite.database("create tabel x")
