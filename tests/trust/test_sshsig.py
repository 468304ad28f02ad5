"""SSHSIG and frames: both implementations with each other and with ssh-keygen, and what neither may accept."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import verify
from serverflow_cli.errors import TrustError
from serverflow_cli.trust import keys, sshsig

KEY = keys.new_private_key("test")
BODY = b'{"v": 1}'
BLOB = sshsig.sign(KEY, sshsig.COMMAND, BODY)


def string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def blob(
    *,
    magic: bytes = b"SSHSIG",
    version: int = 1,
    kind: bytes = b"ssh-ed25519",
    key: bytes = KEY.public_key,
    after_key: bytes = b"",
    namespace: bytes = b"command.v1@serverflow",
    reserved: bytes = b"",
    algorithm: bytes = b"sha512",
    signature_kind: bytes = b"ssh-ed25519",
    signature: bytes = bytes(64),
    after_signature: bytes = b"",
    tail: bytes = b"",
) -> bytes:
    return (
        magic
        + struct.pack(">I", version)
        + string(string(kind) + string(key) + after_key)
        + string(namespace)
        + string(reserved)
        + string(algorithm)
        + string(string(signature_kind) + string(signature) + after_signature)
        + tail
    )


def ssh_keygen(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    assert shutil.which("ssh-keygen"), "OpenSSH's client is needed"
    return subprocess.run(["ssh-keygen", *map(str, arguments)], input=stdin, capture_output=True, check=False)


def test_ssh_keygen_verifies_what_we_sign(tmp_path: Path) -> None:
    signature, allowed = tmp_path / "body.sig", tmp_path / "allowed"
    signature.write_text(sshsig.armor(BLOB))
    allowed.write_text(f"ana {KEY.openssh}\n")
    arguments = ("-Y", "verify", "-f", allowed, "-I", "ana", "-s", signature, "-n")
    assert ssh_keygen(*arguments, sshsig.COMMAND, stdin=BODY).returncode == 0
    assert ssh_keygen(*arguments, sshsig.TRUST, stdin=BODY).returncode != 0
    assert ssh_keygen(*arguments, sshsig.COMMAND, stdin=BODY + b" ").returncode != 0


def test_both_verify_what_ssh_keygen_signs(tmp_path: Path) -> None:
    private, body = tmp_path / "key", tmp_path / "body"
    signer = keys.generate(private, "made by sf")
    body.write_bytes(BODY)
    assert ssh_keygen("-Y", "sign", "-f", private, "-n", sshsig.TRUST, body).returncode == 0
    (made,) = sshsig.dearmor((tmp_path / "body.sig").read_text())
    assert sshsig.verify(made, sshsig.TRUST, BODY) == signer.public_key
    parsed = verify.parse_sshsig(made)
    assert (parsed.public_key, parsed.namespace) == (signer.public_key, verify.TRUST)
    assert parsed.signs(BODY)
    assert not parsed.signs(BODY + b" ")
    assert made == sshsig.sign(signer, sshsig.TRUST, BODY)


def test_both_sides_use_the_same_namespaces() -> None:
    names = ("HELLO", "COMMAND", "TRUST", "BUNDLE", "RECEIPT", "PINS", "CHECKPOINT")
    assert {getattr(sshsig, name) for name in names} == verify.NAMESPACES
    assert all(getattr(sshsig, name) == getattr(verify, name) for name in names)


@pytest.mark.parametrize(
    "wrong",
    [
        blob(magic=b"SSHSIH"),
        blob(version=0),
        blob(version=2),
        blob(kind=b"ssh-rsa"),
        blob(kind=b"sk-ssh-ed25519@openssh.com"),
        blob(key=bytes(31)),
        blob(key=bytes(33)),
        blob(after_key=b"\0"),
        blob(reserved=b"x"),
        blob(algorithm=b"sha256"),
        blob(algorithm=b""),
        blob(signature_kind=b"ssh-rsa"),
        blob(signature=bytes(63)),
        blob(signature=bytes(65)),
        blob(after_signature=b"\0"),
        blob(tail=b"\0"),
        blob(namespace=b"\xff"),
        b"",
        *(BLOB[:length] for length in range(0, len(BLOB), 7)),
    ],
    ids=itertools.count(),
)
def test_neither_takes_a_blob_of_another_form(wrong: bytes) -> None:
    with pytest.raises(verify.Refused):
        verify.parse_sshsig(wrong)
    with pytest.raises(TrustError):
        sshsig.verify(wrong, sshsig.COMMAND, BODY)


def test_a_signature_is_for_one_namespace() -> None:
    with pytest.raises(TrustError):
        sshsig.verify(BLOB, sshsig.TRUST, BODY)
    relabelled = blob(namespace=b"trust.v1@serverflow", signature=BLOB[-64:])
    with pytest.raises(TrustError):
        sshsig.verify(relabelled, sshsig.TRUST, BODY)
    assert not verify.parse_sshsig(relabelled).signs(BODY)


def test_frames_go_both_ways() -> None:
    other = sshsig.sign(keys.new_private_key("other"), sshsig.COMMAND, BODY)
    frame = sshsig.pack_signed(BODY, [BLOB, other])
    assert sshsig.unpack_signed(frame) == ([BLOB, other], BODY)
    signed = verify.parse_signed(frame)
    assert (signed.namespace, signed.body, signed.blobs) == (sshsig.COMMAND, BODY, (BLOB, other))
    assert all(one.signs(BODY) for one in signed.signatures)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0" + BODY,
        bytes([17]) + (struct.pack(">H", len(BLOB)) + BLOB) * 17 + BODY,
        b"\1",
        b"\1\0",
        b"\1\xff\xff" + BLOB,
        b"\2" + struct.pack(">H", len(BLOB)) + BLOB,
    ],
)
def test_neither_takes_a_broken_frame(frame: bytes) -> None:
    with pytest.raises(verify.Refused):
        verify.parse_signed(frame)
    with pytest.raises(TrustError):
        sshsig.unpack_signed(frame)


def test_a_frame_has_one_known_namespace() -> None:
    as_trust = sshsig.sign(KEY, sshsig.TRUST, BODY)
    for blobs in ([BLOB, as_trust], [sshsig.sign(KEY, "file", BODY)], [sshsig.sign(KEY, "", BODY)]):
        with pytest.raises(verify.Refused):
            verify.parse_signed(sshsig.pack_signed(BODY, blobs))


def test_frame_length() -> None:
    verify.check_frame_length(1)
    verify.check_frame_length(verify.FRAME_LIMIT)
    for length in (0, -1, verify.FRAME_LIMIT + 1, 2**32 - 1):
        with pytest.raises(verify.Refused):
            verify.check_frame_length(length)


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_or_read_but_nothing_else(data: bytes) -> None:
    for read in (verify.parse_signed, verify.parse_sshsig):
        with contextlib.suppress(verify.Refused):
            read(data)


def test_armor_holds_several_blocks() -> None:
    text = sshsig.armor(BLOB) + sshsig.armor(BLOB[:50])
    assert sshsig.dearmor(text) == [BLOB, BLOB[:50]]
    for wrong in ("", "x", text + "x", text.replace("END", "ND"), text.replace("\nU1N", "\n=1N")):
        with pytest.raises(TrustError):
            sshsig.dearmor(wrong)
