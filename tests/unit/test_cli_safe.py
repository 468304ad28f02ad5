"""`sf safe`: what is made of servers' answers for people; with `--json` they stand as they came."""

from __future__ import annotations

import re
from typing import Any

import pytest

from serverflow_actions.kit.change import Change
from serverflow_cli.errors import Unreachable
from serverflow_cli.model.result import CommandResult, Reply, ServerResult

from .test_cli_run import OP, FakeFlows, sf

OTHER = f"{OP[:-1]}1"
PATHS = [f"/etc/{number}" for number in range(13)]


def waiting(op: str = OP, paths: list[str] = PATHS) -> dict[str, Any]:
    return {"state": "armed", "op_id": op, "action": "config.set", "deadline": 1_795_000_000_000, "paths": paths}


def answers(key: str, **by_server: Any) -> FakeFlows:
    """Flows whose servers answer with this under one key."""
    replies = (ServerResult(name, Reply("", "done", data={key: value})) for name, value in by_server.items())
    return FakeFlows(CommandResult("acme", "", tuple(replies)))


def test_status_has_a_row_for_each_server_that_has_a_change_waiting() -> None:
    ended = sf("safe status", answers("pending", web1=waiting(), web2=None, db1=waiting(OTHER, ["/etc/a"])))
    head, *rows = (re.split(r"  +", line) for line in ended.out.splitlines())
    assert head == ["SERVER", "OP", "ACTION", "STATE", "UNDONE AT", "PATHS"]
    assert [(row[:4], row[5]) for row in rows] == [
        (["web1", OP, "config.set", "armed"], "/etc/0, /etc/1, /etc/2, +10"),
        (["db1", OTHER, "config.set", "armed"], "/etc/a"),
    ]
    assert re.fullmatch(r"2026-11-\d\d \d\d:\d\d:\d\d [+-]\d\d:\d\d", rows[0][4])
    assert "nothing waits" not in ended.err


def test_status_names_the_servers_where_nothing_waits() -> None:
    idle = tuple(ServerResult(name, Reply("", "done", data={"pending": None})) for name in ("web1", "db1"))
    down = ServerResult("db2", error=Unreachable("no route"))
    ended = sf("safe status", FakeFlows(CommandResult("acme", "", (*idle, down))))
    assert ended.out == ""
    assert ended.err.splitlines()[0] == "sf: note: nothing waits for confirmation on web1, db1"
    assert ended.code == 10


def test_status_as_json_is_what_servers_said() -> None:
    servers = sf("safe status --json", answers("pending", web1=waiting(), db1=None)).document["servers"]
    assert [server["data"]["pending"] for server in servers] == [waiting(), None]


def test_a_plan_to_undo_lists_what_would_be_put_back() -> None:
    flows = answers("pending", web1=waiting(paths=["/etc/a", "/etc/b"]))
    ended = sf(f"safe rollback {OP} --on web1 --plan", flows)
    assert flows.calls[0][1][1] == "safe.status"
    assert ended.code == 0
    assert ended.out.splitlines() == ["web1: 1 change", "  > action safe.rollback", "      paths: /etc/a, /etc/b"]


@pytest.mark.parametrize(
    ("pending", "said"),
    [(None, f"{OP} does not wait for confirmation"), (waiting(OTHER), f"confirmation; {OTHER} does")],
)
def test_a_plan_to_undo_what_does_not_wait(pending: dict[str, Any] | None, said: str) -> None:
    ended = sf(f"safe rollback {OP} --on web1 --plan", answers("pending", web1=pending))
    assert (ended.code, ended.out) == (6, "")
    assert said in ended.err


@pytest.mark.parametrize(("option", "checks"), [("", True), ("--no-checks", False)])
def test_whoever_confirms_may_go_without_the_checks(option: str, checks: bool) -> None:
    flows = FakeFlows(CommandResult("acme"))
    assert sf(f"safe confirm {OP} --on web1 {option}", flows).code == 0
    assert flows.asked["checks"] is checks


CHANGE = {"op": OP, "action": "config.set", "ended": "confirmed"}


def test_a_history_without_anything() -> None:
    for flows in (answers("changes", web1=[]), answers("changes", web1=[], db1=[])):
        ended = sf("safe history", flows)
        assert (ended.code, ended.out, ended.err) == (0, "", "sf: note: no safe changes\n")


def test_a_history_is_one_table() -> None:
    ended = sf("safe history", answers("changes", web1=[], db1=[CHANGE], db2=[CHANGE]))
    assert [line.split()[0] for line in ended.out.splitlines()] == ["SERVER", "db1", "db2"]
    assert ended.err == ""


def test_a_history_tells_how_many_problems_there_were() -> None:
    undone = {**CHANGE, "ended": "rolled-back", "problems": ["/etc/a: no room", "/etc/b: busy"]}
    flows = answers("changes", web1=[undone, {**CHANGE, "problems": []}])
    lines = sf("safe history", flows).out.splitlines()
    assert ("rolled-back (2 problems)" in lines[1], lines[2].endswith("confirmed")) == (True, True)
    assert "PROBLEMS" not in lines[0]
    assert sf("safe history --json", flows).document["servers"][0]["data"]["changes"][0] == undone


def test_what_a_safe_change_did_is_shown_with_its_changes() -> None:
    reply = Reply(OP, "confirmed", (Change("run", "unit", "x"),), data={"ended": "confirmed"})
    ended = sf(f"safe show {OP} --on web1", FakeFlows(CommandResult("acme", "", (ServerResult("web1", reply),))))
    assert ended.out.splitlines()[:2] == ["web1: confirmed, 1 change", "  > unit x"]
