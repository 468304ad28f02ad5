"""`sf audit` without a server: filters, what is read from a server that lies, and which failure counts."""

from __future__ import annotations

import asyncio
import io
import selectors
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from serverflow_cli.cli import audit as line
from serverflow_cli.errors import SfError, TrustError, Unreachable, UsageError
from serverflow_cli.flows import audit
from serverflow_cli.model.result import CommandResult, Reply, ServerResult
from serverflow_cli.rpc.hello import Link
from serverflow_cli.trust.serverchain import PROBLEMS_KEPT, Elsewhere, Head, Own, ServerChain
from serverflow_cli.ui.result_view import print_error
from serverflow_cli.ui.terminal import Terminal

RECEIPT = {"actor": {"name": "ana"}, "action": "redis.create", "outcome": "done", "finished_at": 1_000}


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, True),
        ({"actor": "ana"}, True),
        ({"actor": "an"}, False),
        ({"action": "redis.*"}, True),
        ({"action": "redis"}, False),
        ({"action": "*.create"}, True),
        ({"outcome": "done"}, True),
        ({"outcome": "denied"}, False),
        ({"since": 1_000}, True),
        ({"since": 1_001}, False),
        ({"actor": "ana", "action": "redis.*", "since": 1, "outcome": "done"}, True),
        ({"actor": "bob", "action": "redis.*", "since": 1, "outcome": "done"}, False),
    ],
    ids=repr,
)
def test_filters_combine(fields: dict[str, Any], shown: bool) -> None:
    assert audit.Query(**fields).matches(RECEIPT) is shown


def test_since() -> None:
    assert line._milliseconds("2026-11-01T00:00:00Z") == int(datetime(2026, 11, 1, tzinfo=UTC).timestamp() * 1000)
    assert line._milliseconds("2026-11-01T02:00:00+02:00") == line._milliseconds("2026-11-01T00:00:00Z")
    assert line._milliseconds("7d") < line._milliseconds("1h")
    for text in ("", "7", "yesterday", "2026-11-01", "2026-11-01T00:00:00", "9999-99-99T00:00:00Z", "-1d"):
        with pytest.raises(UsageError):
            line._milliseconds(text)


BROKEN = ServerResult("web1", error=TrustError("its chain is not sound: …", code="audit"))
AWAY = ServerResult("db1", error=Unreachable("no answer"))
SOUND = ServerResult("web2", Reply("", "done"))


@pytest.mark.parametrize(
    ("servers", "problems", "code"),
    [
        ((SOUND,), [], 0),
        ((SOUND, AWAY), [], 10),
        ((AWAY,), [], 5),
        ((BROKEN,), [], 4),
        ((BROKEN, SOUND), [], 4),
        ((BROKEN, AWAY), [], 4),
        ((SOUND, AWAY), ["line 1: it is damaged"], 4),
        ((), ["line 1: it is damaged"], 4),
    ],
)
def test_what_is_not_sound_counts_most(servers: tuple[ServerResult, ...], problems: list[str], code: int) -> None:
    result = CommandResult(servers=servers)
    verdict: SfError | None = line._verdict(result, problems)
    assert (verdict.exit_code if verdict else result.exit_code) == code


def test_all_problems_are_shown_and_not_too_many() -> None:
    assert audit.told("it is bad", ["one"]) == "it is bad: one"
    terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO())
    print_error(terminal, TrustError(audit.told("it is bad", [f"line {number}" for number in range(70)])), "web1")
    said = terminal.stderr.getvalue().splitlines()  # type: ignore[attr-defined]  # it is a StringIO
    assert said[:2] == ["sf: error: web1: it is bad:", "  line 0"]
    assert said[-1] == "  and 20 more"


# --- a server that lies about its chain ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"lines": "abc"},
        {"lines": [1]},
        {"lines": None},
        {"next": 5, "more": True},
        {"next": 6, "more": True},
        {"next": "7"},
        {"first": None},
        {"last": True},
        {"extra": 1},
    ],
    ids=repr,
)
def test_a_page_that_makes_no_sense(change: dict[str, Any]) -> None:
    page = {"lines": [], "next": 5, "more": False, "first": 1, "last": 1}
    assert audit._page(page, 5, "web1").next == 5
    with pytest.raises(TrustError) as caught:
        audit._page({**page, **change}, 5, "web1")
    assert (caught.value.code, caught.value.server) == ("bad-answer", "web1")


def _answers(**said: Any) -> tuple[Callable[[int, int], Awaitable[audit._Page]], list[int]]:
    asked: list[int] = []

    async def page_at(segment: int, offset: int) -> audit._Page:
        asked.append(segment)
        return audit._Page(**{"lines": [], "next": offset, "more": False, "first": 1, "last": 1, **said})

    return page_at, asked


def test_a_server_that_claims_segments_without_end() -> None:
    page_at, asked = _answers(last=10**17)
    assert asyncio.run(audit._read(ServerChain("", [], Own((), (), {})), page_at, True))
    assert asked == [0, 1]


def test_a_server_that_has_a_line_in_each_of_them() -> None:
    """Segments without a checkpoint are what a crash leaves: one or two, not any number."""
    asked: list[int] = []

    async def page_at(segment: int, offset: int) -> audit._Page:
        asked.append(segment)
        return audit._Page(["x"] if segment else [], offset + 1, False, 1, 10**17)

    assert asyncio.run(audit._read(ServerChain("", [], Own((), (), {})), page_at, True))
    assert asked == [0, 1, 2, 3]


def test_pages_without_end() -> None:
    """Of nonsense, until enough is wrong; of whatever else, until no segment is so long."""
    pages = 0

    async def page_at(segment: int, offset: int) -> audit._Page:
        nonlocal pages
        pages += 1
        return audit._Page(["x" * 1_000_000], offset + 1, True, 1, 1)

    chain = ServerChain("", [], Own((), (), {}))
    assert asyncio.run(audit._read(chain, page_at, True))
    assert (pages, len(chain.problems)) == (PROBLEMS_KEPT, PROBLEMS_KEPT)

    async def long_ones(segment: int, offset: int) -> audit._Page:
        return audit._Page(["x" * 1_400_000], offset + 1, True, 1, 1)

    with pytest.raises(TrustError, match="segment 0 of its chain is longer"):
        asyncio.run(audit._read(ServerChain("", [], Own((), (), {})), long_ones, True))


class _AtOnce(selectors.DefaultSelector):
    """Waits for nobody: the time has passed."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.passed += timeout or 0
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock = _AtOnce()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.passed


def test_a_server_that_keeps_us_waiting() -> None:
    """Each page a minute after the last one, with one line: time is given for what comes, not for its own sake."""
    asked = 0

    async def page_at(segment: int, offset: int) -> audit._Page:
        nonlocal asked
        asked += 1
        await asyncio.sleep(60)
        return audit._Page(["x"], offset + 1, True, 1, 1)

    with asyncio.Runner(loop_factory=_Loop) as runner, pytest.raises(Unreachable, match="too slowly"):
        runner.run(audit._read(ServerChain("", [], Own((), (), {})), page_at, True))
    assert asked == 3

    async def steady(segment: int, offset: int) -> audit._Page:
        await asyncio.sleep(40)
        return audit._Page(["x" * 900_000], offset + 1, offset < 30, 1, 1)

    with asyncio.Runner(loop_factory=_Loop) as runner:
        assert runner.run(audit._read(ServerChain("", [], Own((), (), {})), steady, True))


def test_how_the_use_of_our_key_elsewhere_is_told() -> None:
    chain = ServerChain("", [], Own((), (), {}))
    chain.elsewhere["x@\x1b[2J"] = Elsewhere(
        "x@\x1b[2J", 2, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "secret.read", 1_700_000_000_000
    )
    chain.elsewhere[""] = Elsewhere("", 1, "01ARZ3NDEKTSV4RRFFQ69G5FAW", "redis.create", 10**300)
    first, second = audit._notes(chain)
    assert first.startswith(
        "our key was used as 'x@\\x1b[2J', which this machine never was: 2 times, at last 2023-11-14T"
    )
    assert "secret.read (op 01ARZ3NDEKTSV4RRFFQ69G5FAV)" in first
    assert "as '', " in second and "once" in second


def test_what_is_remembered_of_a_chain(tmp_path: Path) -> None:
    """Also by an `sf` that did not know of checkpoints."""
    heads = audit._Heads(tmp_path / "heads.json")
    link = cast("Link", SimpleNamespace(server_id="ab"))
    assert heads.of(link) is None
    heads.keep(link, Head(7, "cd", 2, "ef"))
    assert heads.of(link) == Head(7, "cd", 2, "ef")
    (tmp_path / "heads.json").write_text('{"ab": {"seq": 7, "hash": "cd"}}')
    assert heads.of(link) == Head(7, "cd")


def test_a_segment_that_went_while_we_read() -> None:
    """Once more from the start; what is gone for good is judged as it is."""
    page_at, _ = _answers(first=2)
    chain = ServerChain("", [], Own((), (), {3: "ab"}))
    assert not asyncio.run(audit._read(chain, page_at, True))
    assert asyncio.run(audit._read(chain, page_at, False))
    chain.end()
    assert chain.problems == ["receipts that we hold are not in its chain: 3"]
