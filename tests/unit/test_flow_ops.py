"""How operations ended: what became of a safe change after its receipt was written, and what the chain here knows."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from serverflow_cli.config.environment import Settings
from serverflow_cli.config.folder import FleetFolder
from serverflow_cli.errors import OutcomeUnknown, RolledBack, TrustError, UsageError
from serverflow_cli.flows import ops
from serverflow_cli.flows.workspace import Workspace
from serverflow_cli.model.result import Reply
from serverflow_cli.trust import receipts

OP = "01JD0000000000000000000000"
OTHER = "01JD0000200000000000000000"
LINK = cast(Any, SimpleNamespace(name="web1"))
WAITED = Reply(OP, "pending-confirm", data={"op": OP, "outcome": "pending-confirm"})


class Server:
    """Answers safe.show."""

    def __init__(self, told: dict[str, Any] | TrustError) -> None:
        self.told = told

    async def call(self, *_: Any) -> Reply:
        if isinstance(self.told, TrustError):
            raise self.told
        return Reply("", "done", data=self.told)


def since_then(told: dict[str, Any] | TrustError) -> Reply:
    return asyncio.run(ops._since_then(cast(Any, Server(told)), LINK, WAITED, lambda _: None))


def test_what_was_confirmed_since_is_done() -> None:
    assert since_then({"ended": "confirmed"}).outcome == "done"


def test_what_has_gone_back_since_says_what_is_left() -> None:
    with pytest.raises(RolledBack, match="it has gone back; not all could be put back: /etc/x: no"):
        since_then({"ended": "rolled-back", "problems": ["/etc/x: no"]})
    with pytest.raises(RolledBack, match=r"it has gone back$"):
        since_then({"ended": "rolled-back", "problems": []})


def test_what_still_waits_says_how_to_confirm_it() -> None:
    with pytest.raises(OutcomeUnknown) as caught:
        since_then({"ended": "pending"})
    assert caught.value.hint == f"sf safe confirm {OP} --on web1" and caught.value.exit_code == 13


def test_a_key_that_may_not_ask() -> None:
    denied = TrustError("the key ci may not run safe.show here", code="not-granted")
    denied.reply = Reply("", "denied")
    with pytest.raises(OutcomeUnknown) as caught:
        since_then(denied)
    assert "may not run safe.show" in caught.value.hint


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """From which nothing was sent yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust/1.json").write_text(f'{{"fleet": "{"0" * 32}"}}')
    found = Workspace(FleetFolder(tmp_path), Settings())
    found.state.mkdir(parents=True)
    return found


def send(workspace: Workspace, *ops: str, action: str = "config.set") -> None:
    with (workspace.state / "sent.jsonl").open("a") as file:
        for op in ops:
            entry = {"op": op, "server": "web1", "server_id": "ab", "action": action, "at": 1}
            file.write(json.dumps(entry) + "\n")


def keep(workspace: Workspace, number: int, op: str, name: str, outcome: str, data: dict[str, str]) -> None:
    body = {"op_id": op, "action": name, "outcome": outcome, "code": "", "data": data}
    receipts.append(workspace.chain, "ab", json.dumps(body).encode(), b"sig", number)


@pytest.mark.parametrize(("action", "listed"), [("safe.confirm", "confirmed"), ("safe.rollback", "rolled-back")])
def test_the_list_knows_verdicts_that_were_asked_for_here(action: str, listed: str, workspace: Workspace) -> None:
    send(workspace, OP)
    keep(workspace, 1, OP, "config.set", "pending-confirm", {})
    keep(workspace, 2, OP[:-1] + "1", action, "done", {"op": OP})
    listing = asyncio.run(ops.list_ops(workspace, limit=5))
    assert listing.data["ops"][0]["outcome"] == [listed]


def test_the_list_says_what_is_not_known_here(workspace: Workspace) -> None:
    """After Ctrl-C the server goes on to the end, and nobody has asked how it was."""
    send(workspace, OP, OTHER)
    keep(workspace, 1, OP, "config.set", "done", {})
    listing = asyncio.run(ops.list_ops(workspace, limit=5))
    assert [row["outcome"] for row in listing.data["ops"]] == [["unknown"], ["done"]]
    assert listing.notes == (f"unknown: not told here yet how it ended; `sf op status {OTHER}` asks",)
    keep(workspace, 2, OTHER, "config.set", "done", {})
    assert asyncio.run(ops.list_ops(workspace, limit=5)).notes == ()


def named(workspace: Workspace, prefix: str) -> Any:
    return asyncio.run(ops.named(workspace, prefix)).data["op"]


def test_an_operation_is_named_by_how_its_id_begins(workspace: Workspace) -> None:
    send(workspace, OP, OTHER, OTHER)  # to two servers
    assert named(workspace, OTHER[:9]) == OTHER
    with pytest.raises(UsageError, match="no operation was sent from here whose id begins with 01JE00") as caught:
        named(workspace, "01JE00")
    assert "whole id" in caught.value.hint


def test_what_begins_several_ids_names_none(workspace: Workspace) -> None:
    send(workspace, OP)
    send(workspace, OTHER, action="cert.issue")
    with pytest.raises(UsageError) as caught:
        named(workspace, OP[:6])
    assert caught.value.message.splitlines() == [
        f"2 operations begin with {OP[:6]}", f"{OTHER}  cert.issue", f"{OP}  config.set",
    ]  # fmt: skip
    send(workspace, *(f"{OP[:-2]}{number}" for number in range(10, 21)))
    with pytest.raises(UsageError) as caught:
        named(workspace, OP[:6])
    assert len(caught.value.message.splitlines()) == 12 and caught.value.message.endswith("\nand 3 more")
