"""The server's chain in segments: the server's code writes it, the operator's code judges it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import chain
import layout
import receipt
import segments
import signing
import store
from serverflow_cli.trust import keys, serverchain
from serverflow_cli.trust.serverchain import Own, ServerChain
from signing import Identity

SERVER = "5e" * 32
OP = "01J0000000000000000000000A"


class Killed(BaseException):
    """As by SIGKILL."""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "server_id").write_text(SERVER + "\n")
    for name, value in {
        "CHAIN": "receipts.chain", "BALLAST": "ballast", "BOOT": "boot", "RUN": "", "SERVER_ID": "server_id",
    }.items():  # fmt: skip
        monkeypatch.setattr(layout, name, str(tmp_path / value))
    monkeypatch.setattr(segments, "SEGMENT_SIZE", 2_000)  # two receipts
    for side in (segments, serverchain):
        monkeypatch.setattr(side, "SEGMENTS_KEPT", 3)
    return tmp_path


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("identity") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@pytest.fixture
def identity(key: Path) -> Identity:
    return Identity(str(key))


def body(op_id: str = OP, **more: Any) -> dict[str, Any]:
    told = {
        "challenge": "", "server_id": SERVER, "op_id": op_id, "action": "service.restart", "action_version": 1,
        "prev_receipt": "", "mode": "run", "actor": "", **more,
    }  # fmt: skip
    about = receipt.context(told, op_id.encode(), "", "", "", {"trust": 1, "bundle": 1})
    return receipt.build(about, "done")


def append(identity: Identity, count: int) -> None:
    for _ in range(count):
        assert chain.append_receipt(identity, body())


def pages(segment: int) -> Iterator[dict[str, Any]]:
    offset, more = 0, True
    while more:
        page = chain.page(segment, offset)
        yield page
        assert page["next"] > offset or not page["more"]
        offset, more = page["next"], page["more"]


def lines(segment: int) -> list[str]:
    return [line for page in pages(segment) for line in page["lines"]]


def judged(key: Path) -> ServerChain:
    """As `sf audit verify` reads it."""
    public = keys.parse_public(key.with_suffix(".pub").read_text())
    found = ServerChain(SERVER, [public], Own((), (), {}))
    for line in lines(0):
        found.checkpoint(line)
    found.begin()
    for segment in range(found.first_segment, chain.page(0, 0)["last"] + 1):
        for line in lines(segment):
            found.add(line)
    found.end()
    return found


def test_segments_are_closed_and_the_oldest_go(state: Path, identity: Identity, key: Path) -> None:
    for number in range(1, 21):
        append(identity, 1)
        assert chain.last_receipt()[0] == number
        found = judged(key)
        assert found.problems == []
        assert found.entries == number - found.dropped
    assert 0 < found.dropped < 20
    assert len(segments.closed()) == 3
    assert found.first_segment == segments.closed()[0] > 1
    assert max(path.stat().st_size for path in state.glob("receipts.*chain")) < 2 * 2_000


def test_nothing_of_a_small_chain_changes(state: Path, identity: Identity, key: Path) -> None:
    append(identity, 2)
    assert {path.name for path in state.glob("receipts*")} == {"receipts.chain", "receipts.chain.lock"}
    assert (judged(key).problems, judged(key).entries) == ([], 2)
    assert chain.page(0, 0) == {"lines": [], "next": 0, "more": False, "first": 1, "last": 1}
    assert chain.page(7, 0)["lines"] == []


STEPS: dict[str, Callable[[], tuple[object, str]]] = {
    "before the torn line is cut": lambda: (segments, "_close"),
    "before the rename": lambda: (os, "rename"),
    "after the rename": lambda: (store, "sync_folder"),
    "before the checkpoint": lambda: (segments, "_check"),
    "before it is written": lambda: (segments, "append"),
    "before the oldest goes": lambda: (os, "unlink"),
    "before the receipt": lambda: (chain, "_append"),
}


@pytest.mark.parametrize("ends", [Killed, OSError(errno.ENOSPC, "No space left on device")], ids=["killed", "full"])
@pytest.mark.parametrize("step", STEPS)
def test_broken_off_between_any_two_steps(
    state: Path,
    identity: Identity,
    key: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    ends: BaseException | type[BaseException],
) -> None:
    """Again and again at the same place: what is there is always whole, and the next receipt makes up for it."""
    monkeypatch.setattr(segments, "SEGMENT_SIZE", 1_000)  # a segment for each receipt
    owner, name = STEPS[step]()

    def broken(*_: Any, **__: Any) -> None:
        raise ends

    answered, broke = 0, False
    for _ in range(9):
        append(identity, 1)
        answered += 1
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, broken)
            try:
                chain.append_receipt(identity, body())
                answered += 1
            except (Killed, OSError):
                broke = True
        found = judged(key)
        assert found.problems == []
        assert found.entries + found.dropped == answered == chain.last_receipt()[0]
    append(identity, 1)
    assert len(segments.closed()) == 3
    assert found.closed_segments > 3
    # For the sake of a segment no receipt is lost: only where the receipt itself has no room there is none.
    assert broke == (ends is Killed or step == "before the receipt" or step == "before it is written")


def test_a_line_that_a_crash_cut_is_in_no_segment(state: Path, identity: Identity, key: Path) -> None:
    while os.path.getsize(layout.CHAIN) < 2_000 if os.path.exists(layout.CHAIN) else True:
        append(identity, 1)
    whole = Path(layout.CHAIN).read_bytes()
    Path(layout.CHAIN).write_bytes(whole + b'{"body": "torn')
    append(identity, 1)
    assert Path(segments.path(1)).read_bytes() == whole
    assert judged(key).problems == []


def test_a_receipt_is_found_in_a_closed_segment(state: Path, identity: Identity) -> None:
    import hashlib

    wanted = "01J0000000000000000000000B"
    frame = chain.append_receipt(identity, body(wanted))
    append(identity, 5)
    assert len(segments.closed()) >= 2
    assert chain.find_receipt(wanted, hashlib.sha256(wanted.encode()).hexdigest()) == frame
    assert chain.find_receipt(wanted, "0" * 64) is None


def test_pages_of_a_big_segment(state: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_SIZE", 8 << 20)
    monkeypatch.setattr(segments, "_PAGE", 4_000)
    append(identity, 12)
    found = list(pages(1))
    assert len(found) > 3
    whole = Path(layout.CHAIN).read_text().splitlines()
    assert lines(1) == whole
    monkeypatch.setattr(segments, "_PAGE", 1)
    assert [len(page["lines"]) for page in pages(1)] == [1] * 12


def test_damage_is_shown_as_it_is(state: Path, identity: Identity, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(identity, 2)
    kept = Path(layout.CHAIN).read_bytes()
    Path(layout.CHAIN).write_bytes(b"\xff\xfe\n" + kept)
    assert judged(key).problems
    monkeypatch.setattr(segments, "_LONGEST", 10_000)
    Path(layout.CHAIN).write_bytes(kept + b"x" * 25_000 + b"\n")
    assert judged(key).entries == 2 + 3
    Path(layout.CHAIN).write_bytes(kept + b"torn")
    assert judged(key).problems == []


@pytest.mark.parametrize("damage", [b"{}\n", b"\n", b"[1]\n", b'{"body": "{}"}\n'])
def test_damaged_checkpoints_stop_no_receipt(state: Path, identity: Identity, key: Path, damage: bytes) -> None:
    append(identity, 10)
    with open(segments.checkpoints(), "ab") as file:
        file.write(damage)
    append(identity, 10)
    assert chain.last_receipt()[0] == 20
    assert judged(key).problems


def test_a_checkpoint_that_was_taken_away_is_made_again(state: Path, identity: Identity, key: Path) -> None:
    append(identity, 12)
    names = Path(segments.checkpoints())
    kept = names.read_text().splitlines()
    names.write_text("".join(line + "\n" for line in kept[:-1]))
    append(identity, 1)
    assert judged(key).problems == []
    again = [json.loads(json.loads(line)["body"]) for line in names.read_text().splitlines()]
    before = [json.loads(json.loads(line)["body"]) for line in kept]
    for number, one in enumerate(before):
        assert {**again[number], "at": 0} == {**one, "at": 0}


def test_both_sides_mean_the_same() -> None:
    from serverflow_cli.trust import sshsig

    assert segments.SEGMENTS_KEPT == serverchain.SEGMENTS_KEPT
    assert (signing.CHECKPOINT, signing.RECEIPT) == (sshsig.CHECKPOINT, sshsig.RECEIPT)
