"""What is written is read again as what it was; and where two programs read the same bytes, they agree."""

from __future__ import annotations

import contextlib
import json
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import messages
import strict
import verify
from serverflow_actions.kit import change
from serverflow_cli.config import dotenv, pins, secrets
from serverflow_cli.errors import TrustError
from serverflow_cli.rpc import answers
from serverflow_cli.transport.frames import framed
from serverflow_cli.trust import bundle, deploykey, invitation, keys, receipts, seal, sshsig, trustfile
from serverflow_cli.ui.text import clean, clean_block

from . import seeds
from .parsers import frames
from .profile import PROFILE

seeds_of_keys = st.binary(min_size=32, max_size=32)
hexes = st.text("0123456789abcdef", min_size=64, max_size=64)
labels = st.from_regex(r"\A[a-z]([a-z0-9-]{0,8}[a-z0-9])?\Z")
times = st.integers(0, trustfile.LATEST_MS)
plain = st.text(st.characters(codec="utf-8"), max_size=20)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
)
namespaces = st.sampled_from(sorted(verify.NAMESPACES))


def private(seed: bytes) -> keys.PrivateKey:
    from nacl.signing import SigningKey

    return keys.PrivateKey(bytes(SigningKey(seed).verify_key), seed, "ana@laptop")


@PROFILE
@given(st.lists(seeds_of_keys, min_size=1, max_size=3), namespaces, st.binary(max_size=100))
def test_signed_frames(seeds_: list[bytes], namespace: str, body: bytes) -> None:
    signers = [private(seed) for seed in seeds_]
    blobs = [sshsig.sign(signer, namespace, body) for signer in signers]
    frame = sshsig.pack_signed(body, blobs)
    assert sshsig.unpack_signed(frame) == (blobs, body)
    there = verify.parse_signed(frame)
    assert (there.namespace, there.body, list(there.blobs)) == (namespace, body, blobs)
    assert all(one.signs(body) and not one.signs(body + b"\0") for one in there.signatures)
    assert [sshsig.verify(blob, namespace, body) for blob in blobs] == [signer.public_key for signer in signers]
    assert sshsig.dearmor("".join(map(sshsig.armor, blobs))) == blobs


@PROFILE
@given(st.data())
def test_both_sides_judge_a_damaged_signature_alike(data: st.DataObject) -> None:
    """Any one byte: the server's own Ed25519 and libsodium, and the two readers of SSHSIG."""
    body = b"body"
    blob = bytearray(sshsig.sign(seeds.SIGNER, sshsig.COMMAND, body))
    place, turned = data.draw(st.integers(0, len(blob) - 1)), data.draw(st.integers(0, 255))
    blob[place] ^= turned
    ours = theirs = b""
    with contextlib.suppress(TrustError):
        ours = sshsig.verify(bytes(blob), sshsig.COMMAND, body)
    with contextlib.suppress(verify.Refused):
        parsed = verify.parse_sshsig(bytes(blob))
        theirs = parsed.public_key if parsed.namespace == sshsig.COMMAND and parsed.signs(body) else b""
    assert ours == theirs == (b"" if turned else seeds.SIGNER.public_key)


@PROFILE
@given(st.lists(st.tuples(st.sampled_from([b"H", b"P", b"O", b"R"]), st.binary(max_size=50)), max_size=5))
def test_frames(sent: list[tuple[bytes, bytes]]) -> None:
    assert frames(b"".join(kind + framed(payload) for kind, payload in sent)) == sent


@PROFILE
@given(st.data())
def test_trust_files(data: st.DataObject) -> None:
    publics = data.draw(st.lists(seeds_of_keys, min_size=1, max_size=4, unique=True))
    names = data.draw(st.lists(labels, min_size=len(publics), max_size=len(publics), unique=True))
    roots = tuple(map(trustfile.RootKey, names, publics))
    where = st.dictionaries(st.from_regex(r"\A[a-z][a-z0-9_-]{0,9}\Z"), plain, max_size=2)
    grants = st.builds(
        trustfile.Grant,
        st.lists(st.builds("{}.{}".format, st.sampled_from(["app", "redis"]), labels), max_size=3, unique=True).map(
            tuple
        ),
        st.lists(hexes, max_size=2, unique=True).map(tuple),
        where,
    )
    command = tuple(
        trustfile.CommandKey(
            data.draw(labels), public, data.draw(times), tuple(data.draw(st.lists(grants, max_size=2))),
            data.draw(times),
            data.draw(st.sampled_from([(), (seeds.LINE,)])), data.draw(st.sampled_from([(), ("10.0.0.0/8", "::1")])),
            data.draw(st.sampled_from([None, trustfile.Seal(seeds.SEAL_KEY.public, ("*",))])),
            data.draw(st.booleans()),
        )
        for public in publics
    )  # fmt: skip
    threshold = data.draw(st.integers(1, len(roots)))
    role = trustfile.Role(threshold, roots)
    trust = trustfile.Trust("f1" * 16, data.draw(st.integers(1, 2**53 - 1)), data.draw(times), role, role, command)
    body = trustfile.body(trust)
    assert trustfile.parse(body) == trust
    there = messages.parse_trust(body)
    assert (there.version, there.root.threshold, set(there.root.keys)) == (trust.version, threshold, set(publics))
    assert [key.name for key in there.command] == [key.name for key in command]


@PROFILE
@given(
    st.integers(1, 2**31),
    st.dictionaries(st.from_regex(r"\A[a-z]{1,5}(/[a-z]{1,5}){0,2}\Z"), st.binary(max_size=9)),
)
def test_manifests_mean_the_same_to_both_sides(version: int, files: dict[str, bytes]) -> None:
    body = bundle.manifest(version, files)
    ours = bundle.parse(body)
    assert (ours.version, set(ours.files)) == (version, set(files))
    try:
        there = messages.parse_bundle(body)
    except messages.Denied:
        folders = {path.rpartition("/")[0] for path in files} | {path.split("/")[0] for path in files if "/" in path}
        assert not files or folders & set(files)  # no bundle at all, or a file where a folder must be
        return
    assert {file.path: file.sha256 for file in there.files} == dict(ours.files)


@PROFILE
@given(values)
def test_what_the_strict_reader_takes_every_reader_takes(value: Any) -> None:
    text = json.dumps({"v": value}).encode()
    for read in (partial(strict.parse_json, limit=verify.COMMAND_LIMIT), answers.parse):
        with contextlib.suppress(ValueError):
            assert read(text) == {"v": value} == json.loads(text)


@PROFILE
@given(seeds_of_keys)
def test_private_keys(seed: bytes) -> None:
    key = private(seed)
    assert keys.from_text(keys.private_text(key)) == key
    assert keys.parse_public(key.openssh) == key.public_key
    two = deploykey.DeployKey(key, seeds.SIGNER)
    assert deploykey.from_text(two.text).signing == key


@PROFILE
@given(labels, seeds_of_keys, st.one_of(st.none(), seeds_of_keys))
def test_invitations(name: str, command: bytes, root: bytes | None) -> None:
    made = invitation.Invitation("f1" * 16, name, command, (seeds.LINE,), seeds.SEAL_KEY.public, root, None)
    assert invitation.parse(made.text) == made
    assert invitation.parse(made.text).fingerprint == made.fingerprint


@PROFILE
@given(st.binary(max_size=200))
def test_sealed_secrets(data: bytes) -> None:
    assert seal.unseal(seeds.SEAL_KEY, seal.seal(seeds.SEAL_KEY.public, data)) == data
    assert seal.seal_key_from_text(seeds.SEAL_KEY.text) == seeds.SEAL_KEY


@PROFILE
@given(st.dictionaries(labels, st.binary(max_size=20), max_size=4), st.integers(1, 2**53 - 1))
def test_secrets_and_pins(boxes: dict[str, bytes], version: int) -> None:
    box = secrets.box_name("ana", seeds.SEAL_KEY.public)
    content = secrets.Content("f1" * 16, version, {name: {box: data} for name, data in boxes.items()})
    assert secrets.parse(secrets.dump(content)) == content
    pinned = {name: pins.Pin(name, (seeds.LINE,), "prompt", "2026-11-22T19:00:00Z", "203.0.113.7:22") for name in boxes}
    assert pins.parse(pins.dump(pinned, version, "f1" * 16)) == pinned


@PROFILE
@given(st.lists(st.tuples(hexes, plain, st.binary(max_size=9), times), max_size=4))
def test_receipts_in_a_chain(tmp_path: Path, added: list[tuple[str, str, bytes, int]]) -> None:
    path = tmp_path / "receipts.jsonl"
    path.unlink(missing_ok=True)
    for server, body, sig, at in added:
        receipts.append(path, server, body.encode(), sig, at)
    found = list(receipts.entries(path))
    assert [(entry.server, entry.body, entry.sig, entry.at) for entry in found] == added


@PROFILE
@given(
    st.dictionaries(
        st.from_regex(r"\A[a-z_][a-z0-9_]{0,8}\Z"), plain.map(lambda text: text.replace("'", "")), max_size=4
    )
)
def test_dotenv_in_single_quotes(values: dict[str, str]) -> None:
    text = "".join(f"export {name}='{value}'\n" for name, value in values.items())
    assert dotenv.parse_dotenv(text) == {name: value.replace("\r\n", "\n") for name, value in values.items()}


@PROFILE
@given(plain, plain, st.dictionaries(plain, st.tuples(st.none(), plain), max_size=2))
def test_changes(kind: str, name: str, fields: dict[str, tuple[None, str]]) -> None:
    made = change.Change("update", kind, name, fields, "a diff", "a note")
    assert change.from_json(json.loads(json.dumps(made.as_json()))) == made


@PROFILE
@given(st.one_of(st.text(max_size=60), st.text("\x1b[]0;m\x9b\x07ab\u202e\u2028\n\t\r", max_size=60)))
def test_what_is_clean_stays_as_it_is_and_drives_no_terminal(text: str) -> None:
    for show, kept in ((clean, ""), (clean_block, "\n\t")):
        shown = show(text)
        assert show(shown) == shown
        assert len(shown) <= len(text)
        assert not [c for c in shown if ord(c) < 32 and c not in kept]
        assert not set(shown) & set("\x1b\x7f\x9b\u202e\u2028")
