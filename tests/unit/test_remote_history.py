"""What a server tells of its safe changes (remote/history.py), out of chains that were made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import core
import history
import layout
import session
import store
from messages import Denied

A, B, C = (f"01J000000000000000000000{letter}0" for letter in "ABC")
PATHS = ["/etc/ssh/sshd_config.d/50-port.conf"]
CHANGE = {"verb": "update", "kind": "file", "name": PATHS[0]}
ARMED = {"state": "armed", "op_id": A, "action": "config.set", "deadline": 1_900, "paths": PATHS}


def said(
    action: str, outcome: str, op_id: str = "", actor: str = "ana", at: int = 1_000, **more: Any
) -> dict[str, Any]:
    """What the history looks at in a receipt. It began at `at`, and ended 100 ms later."""
    about = {"op_id": op_id, "action": action, "actor": {"name": actor, "key": "", "says": ""}, "started_at": at}
    rest = {"outcome": outcome, "finished_at": at + 100, "changes": [], "data": {}, "safe": None, "trigger": ""}
    return {**about, **rest, **more}


def changed(op_id: str = A) -> dict[str, Any]:
    return said("config.set", "pending-confirm", op_id, safe={**ARMED, "op_id": op_id}, changes=[CHANGE])


def confirmed(op_id: str = A, **more: Any) -> dict[str, Any]:
    return {**said("safe.confirm", "done", C, "bob", 1_500, data={"op": op_id}), **more}


def taken_back(op_id: str = A, problems: tuple[str, ...] = ()) -> dict[str, Any]:
    return said("safe.rollback", "rolled-back", C, "bob", 1_600, data={"op": op_id, "problems": list(problems)})


def by_itself(op_id: str = A, problems: tuple[str, ...] = ()) -> dict[str, Any]:
    """The timer's, or that of the next boot: nobody asked for it."""
    data = {"op": op_id, "problems": list(problems)}
    return said("safe.rollback", "rolled-back", "", "", 1_900, data=data, trigger=op_id)


@pytest.fixture(autouse=True)
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("SAFE", "OPS"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(layout, name, str(tmp_path / name))
    monkeypatch.setattr(layout, "CHAIN", str(tmp_path / "receipts.chain"))
    return tmp_path


def keep(*receipts: dict[str, Any]) -> None:
    """The chain, oldest first. Signatures and hashes are for others to look at."""
    with open(layout.CHAIN, "w") as file:
        for number, body in enumerate(receipts, 1):
            file.write(json.dumps({"body": json.dumps({**body, "seq": number}), "sig": ""}) + "\n")


def wait_for(op_id: str) -> None:
    store.write_file(f"{layout.SAFE}/pending", op_id.encode())


def ends() -> list[tuple[str, str, str, int]]:
    return [(one["op"], one["ended"], one["by"], one["ended_at"]) for one in history.changes(20)]


def test_an_empty_chain_has_none() -> None:
    assert history.changes(20) == [] and history.change(A) is None


def test_one_that_is_not_found_is_no_matter_of_trust() -> None:
    with pytest.raises(Denied, match="no safe change") as denied:
        core.perform("safe.show", {"op": A}, core.Asker(lambda _: None, "ana"))
    assert denied.value.code == "action-failed"


def test_one_that_waits() -> None:
    keep(changed())
    wait_for(A)
    told = {"op": A, "action": "config.set", "actor": "ana", "at": 1_000, "deadline": 1_900}
    end = {"ended": "pending", "by": "", "ended_at": 0, "problems": []}
    assert history.changes(20) == [{**told, **end}]
    assert history.change(A) == {**told, **end, "paths": PATHS, "changes": [CHANGE]}


@pytest.mark.parametrize(
    ("receipts", "end"),
    [
        ([changed(), confirmed()], ("confirmed", "bob", 1_600)),
        ([changed(), taken_back()], ("rolled-back", "bob", 1_700)),
        ([changed(), by_itself()], ("rolled-back", "", 2_000)),
        ([said("config.set", "rolled-back", A, code="rolled-back")], ("rolled-back", "", 1_100)),
        ([changed()], ("unknown", "", 0)),
        ([changed(), confirmed(), confirmed(finished_at=9_000)], ("confirmed", "bob", 1_600)),
        ([changed(), confirmed(B)], ("unknown", "", 0)),
        ([changed(), confirmed(outcome="failed", data={})], ("unknown", "", 0)),
        ([changed(), said("safe.confirm", "denied", A)], ("unknown", "", 0)),
        ([said("config.set", "indeterminate", A), by_itself()], ("rolled-back", "", 2_000)),
        ([by_itself(), said("config.set", "indeterminate", A)], ("rolled-back", "", 2_000)),
        ([taken_back(), said("config.set", "rolled-back", A)], ("rolled-back", "bob", 1_700)),
    ],
    ids=[
        "confirmed", "taken back", "nobody confirmed it", "it broke", "no word of an end", "confirmed twice",
        "another one was confirmed", "in vain", "denied", "cut off", "cut off and asked for later",
        "taken back while it ran",
    ],
)  # fmt: skip
def test_how_it_ended(receipts: list[dict[str, Any]], end: tuple[str, str, int]) -> None:
    keep(*receipts)
    assert ends() == [(A, *end)]


def test_the_newest_come_first_and_no_more_than_asked_for() -> None:
    keep(changed(A), confirmed(A), said("service.restart", "done", "x"), changed(B), by_itself(B), changed(C))
    wait_for(C)
    assert ends() == [(C, "pending", "", 0), (B, "rolled-back", "", 2_000), (A, "confirmed", "bob", 1_600)]
    assert [one["op"] for one in history.changes(2)] == [C, B]


def test_a_denial_that_names_a_change_is_none() -> None:
    keep(changed(), confirmed(), said("user.remove", "denied", A, "eve"))
    assert [one["action"] for one in history.changes(20)] == ["config.set"]


@pytest.mark.parametrize("last", [taken_back, by_itself])
def test_what_could_not_be_put_back_is_told(last: Any) -> None:
    keep(changed(), last(problems=("/etc/x: No space left on device",)))
    told = history.change(A)
    assert told and told["problems"] == ["/etc/x: No space left on device"]


def test_damaged_lines_are_passed_over(server: Path) -> None:
    keep(changed(), confirmed())
    chain = server / "receipts.chain"
    first, last = chain.read_text().splitlines()
    chain.write_text("\n".join([first, "{", '{"body": 5}', "[]", '{"body": "{"}', last]) + "\n")
    assert ends() == [(A, "confirmed", "bob", 1_600)]


def test_a_segment_that_was_closed_meanwhile_says_it_once(server: Path) -> None:
    keep(changed(), confirmed())
    (server / "receipts.1.chain").write_text((server / "receipts.chain").read_text())
    assert ends() == [(A, "confirmed", "bob", 1_600)]


@pytest.mark.parametrize("bound", ["_LINES", "_BYTES"])
def test_it_reads_no_further_than_it_may(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    keep(changed(A), changed(B), changed(C))
    size = Path(layout.CHAIN).stat().st_size
    monkeypatch.setattr(history, bound, 2 if bound == "_LINES" else size * 2 // 3)
    assert [one["op"] for one in history.changes(20)] == [C, B]
    assert history.change(A) is None


def burned(op_id: str, key: bytes) -> None:
    """As a signed command that arrived: SSHSIG by this key (PROTOCOL.sshsig)."""

    def string(data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + data

    public, sig = (string(string(b"ssh-ed25519") + string(data)) for data in (key, bytes(64)))
    parts = public + string(b"command.v1@serverflow") + string(b"") + string(b"sha512") + sig
    blob = b"SSHSIG\0\0\0\1" + parts
    Path(store.op_folder(op_id)).mkdir()
    store.write_file(f"{store.op_folder(op_id)}/command", b"\x01" + len(blob).to_bytes(2, "big") + blob + b"{}")


def test_whose_change_it_is_stays_known_until_the_next_one() -> None:
    """Whoever confirms again, or too late, is not told that it is none of theirs."""
    assert session.safe_change() is None
    burned(A, b"k" * 32)
    assert session.safe_change() is None
    Path(layout.SAFE, "lock").touch()
    Path(layout.SAFE, A).mkdir()
    Path(layout.SAFE, A, "verdict").write_text("confirmed")
    assert session.safe_change() == (A, b"k" * 32)
    wait_for(B)
    Path(layout.SAFE, B).mkdir()
    Path(layout.SAFE, B, "manifest").write_text(json.dumps({"v": 2, "key": (b"j" * 32).hex()}))
    assert session.safe_change() == (B, b"j" * 32)
