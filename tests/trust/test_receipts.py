"""The operator's chain of receipts: what a crash leaves, and what a change shows."""

from __future__ import annotations

import hashlib
import json
from multiprocessing import get_context
from pathlib import Path

import pytest

from serverflow_cli.errors import TrustError
from serverflow_cli.trust import receipts, sshsig
from serverflow_cli.trust.keys import new_private_key

WEB = new_private_key("web1")
OTHER = new_private_key("other")
SERVER = "5e" * 32
PINNED = {SERVER: WEB.public_key}


def add(path: Path, number: int) -> str:
    body = json.dumps({"server_id": SERVER, "n": number, "text": "é\u2028\n" + "x" * 300}, ensure_ascii=False).encode()
    return receipts.append(path, SERVER, body, sshsig.sign(WEB, sshsig.RECEIPT, body), 1_000 + number)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "receipts"
    for number in range(5):
        add(path, number)
    return path


def test_what_is_added_comes_back(log: Path) -> None:
    found = list(receipts.entries(log))
    assert [entry.receipt["n"] for entry in found] == [0, 1, 2, 3, 4]
    assert [entry.at for entry in found] == [1_000, 1_001, 1_002, 1_003, 1_004]
    assert sshsig.verify(found[0].sig, sshsig.RECEIPT, found[0].body.encode()) == WEB.public_key
    assert receipts.verify(log, PINNED) == []
    assert log.stat().st_mode & 0o777 == 0o600


def test_the_last_hash(log: Path, tmp_path: Path) -> None:
    assert receipts.last_hash(log) == hashlib.sha256(log.read_bytes().splitlines()[-1]).hexdigest() == add_hash(log)
    assert receipts.last_hash(tmp_path / "nothing") == ""
    assert list(receipts.entries(tmp_path / "nothing")) == []
    assert receipts.verify(tmp_path / "nothing", {}) == []


def add_hash(log: Path) -> str:
    kept = log.read_bytes()
    returned = add(log, 9)
    assert receipts.last_hash(log) == returned
    log.write_bytes(kept)
    return receipts.last_hash(log)


def test_a_line_longer_than_a_block(log: Path) -> None:
    body = json.dumps({"server_id": SERVER, "text": "x" * 200_000}).encode()
    big = receipts.append(log, SERVER, body, sshsig.sign(WEB, sshsig.RECEIPT, body), 0)
    assert receipts.last_hash(log) == big
    add(log, 6)
    assert receipts.verify(log, PINNED) == []


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_line_that_a_crash_cut(log: Path, kept: int) -> None:
    whole = log.read_bytes()
    start = whole.rstrip(b"\n").rindex(b"\n") + 1
    cut = whole[start:][:kept]
    log.write_bytes(whole[:start] + cut)
    assert [entry.receipt["n"] for entry in receipts.entries(log)] == [0, 1, 2, 3]
    assert receipts.last_hash(log) == hashlib.sha256(whole[:start].splitlines()[-1]).hexdigest()
    add(log, 7)
    assert [entry.receipt["n"] for entry in receipts.entries(log)] == [0, 1, 2, 3, 7]
    assert receipts.verify(log, PINNED) == []
    assert log.with_name("receipts.damaged").read_bytes() == cut + b"\n"


def test_a_first_line_that_a_crash_cut(tmp_path: Path) -> None:
    log = tmp_path / "receipts"
    log.write_bytes(b"\0" * 4096)
    assert receipts.last_hash(log) == ""
    add(log, 1)
    assert receipts.verify(log, PINNED) == []


def test_changes_show(log: Path) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    for changed in (
        lines[:1] + lines[2:],
        [lines[1], lines[0], *lines[2:]],
        [*lines, lines[4]],
        lines[1:],
        [lines[0].replace(b'\\"n\\": 0', b'\\"n\\": 8'), *lines[1:]],
        [lines[0], b"{}\n", *lines[1:]],
        [lines[0], b"\n", *lines[1:]],
        [lines[0], b"[" * 100_000 + b"\n", *lines[1:]],
        [lines[0].replace(SERVER.encode(), b"0" * 64, 1), *lines[1:]],
    ):
        assert changed != lines
        log.write_bytes(b"".join(changed))
        assert receipts.verify(log, PINNED)


def test_only_the_pinned_key_counts(log: Path) -> None:
    assert len(receipts.verify(log, {})) == 5
    assert len(receipts.verify(log, {SERVER: OTHER.public_key})) == 5
    body = json.dumps({"server_id": SERVER}).encode()
    receipts.append(log, SERVER, body, sshsig.sign(OTHER, sshsig.RECEIPT, body), 0)
    receipts.append(log, SERVER, body, sshsig.sign(WEB, sshsig.HELLO, body), 0)
    assert [problem.split(":")[0] for problem in receipts.verify(log, PINNED)] == ["line 6", "line 7"]


def test_entries_stop_at_damage(log: Path) -> None:
    log.write_bytes(b"{}\n" + log.read_bytes())
    with pytest.raises(TrustError, match="line 1"):
        list(receipts.entries(log))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "receipts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        add(tmp_path / "receipts", 0)


def _add_ten(path: Path) -> None:
    for number in range(10):
        add(path, number)


def test_two_processes_at_once(tmp_path: Path) -> None:
    path = tmp_path / "receipts"
    add(path, 0)
    workers = [get_context("fork").Process(target=_add_ten, args=(path,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(list(receipts.entries(path))) == 21
    assert receipts.verify(path, PINNED) == []
