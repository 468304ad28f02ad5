"""Operations and the receipt chain on disk: an id is used once, by one key, and one side concludes how it ended."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import chain
import layout
import receipt
import store
from serverflow_cli.trust import sshsig
from signing import Identity

from .conftest import Fleet, encode

OP = "01J0000000000000000000000A"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The server's folders, somewhere else."""
    for name in ("OPS", "BLOBS", "LOCKS", "RUN"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(layout, name, str(tmp_path / name))
    for name in ("CHAIN", "BALLAST", "BOOT"):
        monkeypatch.setattr(layout, name, str(tmp_path / name.lower()))
    return tmp_path


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return Identity(str(path))


def body(op_id: str = OP, sha256: str = "a" * 64, outcome: str = "done") -> dict[str, Any]:
    told = {"challenge": "", "server_id": "", "op_id": op_id, "action": "service.restart", "action_version": 1}
    told["prev_receipt"] = "ab" * 32
    about = receipt.context({**told, "mode": "run", "actor": ""}, b"", "", "", "", {"trust": 1, "bundle": 1})
    return receipt.build({**about, "body_sha256": sha256}, outcome)


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_an_id_is_used_once_and_says_by_whom(state: Path, fleet: Fleet) -> None:
    command = encode(fleet.command())
    frame = sshsig.pack_signed(command, [sshsig.sign(fleet.ci, sshsig.COMMAND, command)])
    os.close(store.burn(OP, frame))
    first = store.burned_by(OP)
    assert first and first.signatures[0].public_key == fleet.ci.public_key
    with pytest.raises(store.Burned):
        store.burn(OP, frame)


def test_nobody_concludes_while_somebody_works_on_it(state: Path) -> None:
    own = store.burn(OP, b"frame")
    executor = os.dup(own)  # as it is handed over
    os.close(own)
    assert store.running(OP)
    assert store.claim(OP) is None
    os.close(executor)
    assert not store.running(OP)
    claimed = store.claim(OP)
    assert claimed is not None
    assert store.claim(OP) is None
    os.close(claimed)


def test_without_room_for_the_receipt_nothing_begins(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (state / "there").write_text("")
    monkeypatch.setattr(layout, "BALLAST", str(state / "there" / "ballast"))
    with pytest.raises(store.DiskFull):
        store.burn(OP, b"frame")
    assert not store.burned(OP)


def test_the_ballast_is_made_again_and_for_receipts_only(
    state: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.keep_ballast()
    append, ballast = chain._append, state / "ballast"
    monkeypatch.setattr(chain, "_append", lambda line: full() if ballast.exists() else append(line))
    assert chain.append_denial(identity, body(outcome="denied")) is None
    assert ballast.exists()
    for _ in range(2):
        assert chain.append_receipt(identity, body())
        assert ballast.stat().st_size == store.BALLAST_SIZE
    ballast.unlink()
    monkeypatch.setattr(chain, "_append", full)
    with pytest.raises(OSError, match="No space"):
        chain.append_receipt(identity, body())


def test_a_receipt_is_found_by_the_command_that_it_answers(state: Path, identity: Identity) -> None:
    true = chain.append_receipt(identity, body(sha256="a" * 64))
    chain.append_denial(identity, body(sha256="b" * 64, outcome="denied"))
    assert chain.find_receipt(OP, "a" * 64) == true
    assert chain.find_receipt(OP, "c" * 64) is None


def test_what_comes_between_does_not_hide_denials(
    state: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "now_ms", lambda: 1_800_000_000_000)  # no new hour begins in the middle
    kept = 0
    for _ in range(chain.DENIALS_AN_HOUR + 5):
        kept += chain.append_denial(identity, body(outcome="denied")) is not None
        chain.append_receipt(identity, body())
    assert kept == chain.DENIALS_AN_HOUR
    other = {**body(outcome="denied"), "actor": {"name": "ci", "key": "SHA256:other", "says": ""}}
    assert chain.append_denial(identity, other) is not None


def test_old_operations_and_forgotten_blobs_go(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "OPS_KEPT", 2)
    names = [f"01J000000000000000000000{n:02d}" for n in range(5)]
    at_work = store.burn(names[0], b"frame")
    for name in names[1:]:
        os.close(store.burn(name, b"frame"))
    (state / "OPS" / names[4] / "receipt").write_bytes(b"")
    for age, name in enumerate(reversed(names)):
        os.utime(state / "OPS" / name, (1000 - age, 1000 - age))
    for name, age in (("old", 200_000), ("new", 0)):
        (state / "BLOBS" / name).mkdir()
        (state / "BLOBS" / name / "x").write_bytes(b"x")
        when = store.now_ms() / 1000 - age
        os.utime(state / "BLOBS" / name, (when, when))
    store.prune()
    assert sorted(path.name for path in (state / "OPS").iterdir()) == [names[0], names[3], names[4]]
    assert [path.name for path in (state / "BLOBS").iterdir()] == ["new"]
    os.close(at_work)
