"""The operator's chain of receipts: what a crash leaves, and what a change shows."""

from __future__ import annotations

import hashlib
import itertools
import json
from multiprocessing import get_context
from pathlib import Path

import pytest

from serverflow_cli.errors import TrustError
from serverflow_cli.trust import receipts, sshsig
from serverflow_cli.trust.keys import PrivateKey, new_private_key

WEB = new_private_key("web1")
OTHER = new_private_key("other")
SERVER = "5e" * 32
ELSEWHERE = itertools.count(100, 10)
PINNED = {SERVER: [WEB.public_key]}


def said(seq: int = 0, prev: str = "", **more: object) -> bytes:
    """A receipt's body, as far as the chain looks at it. Not neighbours at the server unless the numbers say so."""
    seq = seq or next(ELSEWHERE)
    return json.dumps({"server_id": SERVER, "seq": seq, "prev_receipt": prev, **more}, ensure_ascii=False).encode()


def add(path: Path, number: int) -> str:
    body = said(n=number, text="é\u2028\n" + "x" * 300)
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
    body = said(text="x" * 200_000)
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


def store(path: Path, body: bytes, key: PrivateKey = WEB, namespace: str = sshsig.RECEIPT) -> None:
    receipts.append(path, SERVER, body, sshsig.sign(key, namespace, body), 0)


def test_only_the_pinned_key_counts(log: Path) -> None:
    assert len(receipts.verify(log, {})) == 1
    assert len(receipts.verify(log, {SERVER: [OTHER.public_key]})) == 5
    store(log, said(), OTHER)
    store(log, said(), WEB, sshsig.HELLO)
    assert [problem.split(":")[0] for problem in receipts.verify(log, PINNED)] == ["line 7", "line 6"]


def test_an_older_key_signs_nothing_newer(log: Path) -> None:
    """By the server's numbers: a receipt may come here late."""
    keys = {SERVER: [WEB.public_key, OTHER.public_key]}
    store(log, said(seq=9_000), OTHER)
    store(log, said(seq=8_990), WEB)
    assert receipts.verify(log, keys) == []
    store(log, said(seq=9_010), WEB)
    assert receipts.verify(log, keys) == ["line 8: it was signed by a key that had been replaced before"]


def test_a_server_that_tells_two_stories(log: Path) -> None:
    store(log, said(seq=50))
    store(log, said(seq=50))
    assert receipts.verify(log, PINNED) == []  # the same receipt again
    store(log, said(seq=51, prev="ab" * 32))
    store(log, said(seq=50, other=True))
    assert [problem.split(":")[0] for problem in receipts.verify(log, PINNED)] == ["line 9", "line 8"]


def test_the_newest_first(log: Path, tmp_path: Path) -> None:
    with log.open("ab") as file:
        file.write(b"torn")
    assert [entry.receipt["n"] for entry in receipts.newest(log)] == [4, 3, 2, 1, 0]
    assert list(receipts.newest(tmp_path / "nothing")) == []
    store(log, said(n=5, text="x" * 200_000))
    store(log, said(n=6))
    assert [entry.receipt["n"] for entry in receipts.newest(log)] == [6, 5, 4, 3, 2, 1, 0]
    log.write_bytes(b"{}\n" + log.read_bytes())
    with pytest.raises(TrustError, match="damaged"):
        list(receipts.newest(log))


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
