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
from serverflow_cli.errors import OutcomeUnknown, RolledBack, TrustError
from serverflow_cli.flows import ops
from serverflow_cli.flows.workspace import Workspace
from serverflow_cli.model.result import Reply
from serverflow_cli.trust import receipts

OP = "01JD0000000000000000000000"
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


@pytest.mark.parametrize(("action", "listed"), [("safe.confirm", "confirmed"), ("safe.rollback", "rolled-back")])
def test_the_list_knows_verdicts_that_were_asked_for_here(
    action: str, listed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust/1.json").write_text(f'{{"fleet": "{"0" * 32}"}}')
    workspace = Workspace(FleetFolder(tmp_path), Settings())
    workspace.state.mkdir(parents=True)
    sent = {"op": OP, "server": "web1", "server_id": "ab", "action": "config.set", "at": 1}
    (workspace.state / "sent.jsonl").write_text(json.dumps(sent) + "\n")

    def keep(number: int, op: str, name: str, outcome: str, data: dict[str, str]) -> None:
        body = {"op_id": op, "action": name, "outcome": outcome, "code": "", "data": data}
        receipts.append(workspace.chain, "ab", json.dumps(body).encode(), b"sig", number)

    keep(1, OP, "config.set", "pending-confirm", {})
    keep(2, OP[:-1] + "1", action, "done", {"op": OP})
    listing = asyncio.run(ops.list_ops(workspace, limit=5))
    assert listing.data["ops"][0]["outcome"] == [listed]
