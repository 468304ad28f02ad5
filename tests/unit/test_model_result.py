"""What is said of a command of which some part failed."""

from __future__ import annotations

import pytest

from serverflow_cli.errors import ActionFailed, Unreachable
from serverflow_cli.model.result import CommandResult, Reply, ServerResult

DONE = Reply("", "done")


def rows(kind: str, good: int, bad: int) -> list[ServerResult]:
    return [
        ServerResult(f"{kind}{number}", DONE, ActionFailed("no") if number < bad else None, kind=kind)
        for number in range(good + bad)
    ]


@pytest.mark.parametrize(
    ("servers", "zones", "said"),
    [
        ((2, 1), (0, 0), "1 of 3 servers failed"),
        ((2, 1), (1, 0), "1 of 3 servers failed"),
        ((0, 2), (1, 0), "2 of 3 failed"),
        ((3, 0), (0, 1), "1 of 4 failed"),
        ((3, 0), (1, 1), "1 of 2 zones failed"),
        ((1, 1), (1, 1), "2 of 4 failed"),
        ((0, 0), (1, 1), "1 of 2 zones failed"),
    ],
)
def test_a_zone_is_no_server(servers: tuple[int, int], zones: tuple[int, int], said: str) -> None:
    result = CommandResult(servers=(*rows("server", *servers), *rows("zone", *zones)))
    assert result.error and (result.error.message, result.exit_code) == (said, 10)


def test_all_that_fails_alike_is_that_error() -> None:
    assert CommandResult(servers=(*rows("server", 0, 2), *rows("zone", 0, 1))).exit_code == ActionFailed.exit_code
    away = ServerResult("web9", error=Unreachable("no answer"))
    told = CommandResult(servers=(*rows("server", 0, 2), away)).error
    assert told and (told.message, told.exit_code) == ("3 of 3 failed", 10)


def test_what_is_only_told_of_is_not_counted() -> None:
    trust = ServerResult("trust file", DONE, is_server=False)
    assert CommandResult(servers=(trust, *rows("server", 0, 1))).exit_code == ActionFailed.exit_code
    told = CommandResult(servers=(trust, *rows("server", 1, 1))).error
    assert told and told.message == "1 of 2 servers failed"
