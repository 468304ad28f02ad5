"""The server's chain when something is broken: a full disk, a damaged checkpoint, a key that does not sign."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import chain
import hostkey
import layout
import rekey
import segments
import signing
from signing import Identity

from .test_segments import OP, append, body, identity, key, state

__all__ = ["identity", "key", "state"]  # fixtures

#: A file may not grow: what a full disk does, at any byte.
LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import segments
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    segments.append(sys.argv[2], b"x" * 3000 + b"\\n")
except OSError as error:
    print(error.errno)
"""


@pytest.mark.parametrize("room", [0, 6, 7, 1000, 3006])
def test_a_line_that_finds_no_room_leaves_nothing(tmp_path: Path, room: int) -> None:
    """Not even what the file's own buffer would write when it is closed."""
    path = tmp_path / "chain"
    path.write_bytes(b"first\n")
    argv = [sys.executable, "-c", LIMITED, str(Path(segments.__file__).parent), str(path), str(room)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(errno.EFBIG), done.stderr
    assert path.read_bytes() == b"first\n"


@pytest.mark.parametrize("damage", ["{}", "", "[1]", '{"body": "{}"}', "\ufffd", '{"body": "{\\"segment\\": 1e99}"}'])
def test_a_damaged_checkpoint_does_not_let_the_chain_grow_for_ever(
    state: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    told: list[str] = []
    monkeypatch.setattr(segments, "_log", told.append)
    append(identity, 10)
    with open(segments.checkpoints(), "a", encoding="utf-8") as file:
        file.write(damage + "\n")
    before = segments.closed()
    append(identity, 10)
    assert len(segments.closed()) == len(before) == 3
    assert segments.closed()[0] > before[-1]
    assert any("damaged" in line for line in told)
    assert chain.page(0, 0)["first"] == segments.closed()[0]


def test_that_the_chain_is_not_bounded_is_said(
    state: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(segments, "_log", told.append)
    append(identity, 3)
    Path(segments.path(segments.closed()[-1])).write_bytes(b"nothing\n")
    Path(segments.checkpoints()).unlink()
    append(identity, 2)
    assert chain.last_receipt()[0] > 3
    assert any("not kept bounded" in line for line in told)


def _without_key(path: Path) -> None:
    path.unlink()


def _another_text(path: Path) -> None:
    path.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")


@pytest.mark.parametrize("program", [False, True], ids=["libcrypto", "ssh-keygen"])
@pytest.mark.parametrize("broken", [_without_key, _another_text])
def test_a_key_that_does_not_sign_is_an_error_like_a_full_disk(
    state: Path, key: Path, tmp_path: Path, program: bool, broken: Callable[[Path], None]
) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(key.read_bytes())
    copy.chmod(0o600)
    found = Identity(str(copy))
    if program:
        found._crypto = None
    append(found, 1)
    broken(copy)
    with pytest.raises(signing.CannotSign):
        chain.append_receipt(found, body())
    assert chain.append_denial(found, body()) is None
    assert chain.last_receipt()[0] == 1


def test_a_checkpoint_that_cannot_be_signed_costs_no_receipt(
    state: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign = Identity.sign

    def broken(self: Identity, namespace: str, said: bytes) -> bytes:
        if namespace == signing.CHECKPOINT:
            raise signing.CannotSign(errno.ENOKEY, "the identity key cannot be used")
        return sign(self, namespace, said)

    monkeypatch.setattr(Identity, "sign", broken)
    append(identity, 6)
    assert chain.last_receipt()[0] == 6
    assert json.loads(json.loads(Path(layout.CHAIN).read_text().splitlines()[-1])["body"])["seq"] == 6


def test_a_switch_that_was_decided_counts_before_what_comes_next(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner was killed after the receipt of the activation; `discard` has waited for the server's lock."""
    for name, value in {
        "STATE": "", "IDENTITY": "identity", "IDENTITY_NEXT": "identity.next", "IDENTITY_SWITCH": "identity.switch",
        "OPS": "ops",
    }.items():  # fmt: skip
        monkeypatch.setattr(layout, name, str(tmp_path / value))
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", layout.IDENTITY], check=True)
    new = rekey.perform({"kind": "identity", "stage": "prepare", "key": ""}, OP)[1]["next"]
    assert rekey.perform({"kind": "identity", "stage": "activate", "key": new}, OP)[0] == "done"
    monkeypatch.setattr(chain, "receipt_of", lambda op_id: b'\x01\0\0{"outcome":"done"}')
    assert rekey.perform({"kind": "identity", "stage": "discard", "key": ""}, OP) == ("unchanged", {})
    assert hostkey.public_half(layout.IDENTITY) == new
