"""The operator's side of the trust chain: succession, anchors, and what a swapped fleet folder can do."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import authorise
import messages
import verify
from serverflow_cli.errors import PlanChanged, TrustError
from serverflow_cli.trust import anchor, chain, permission, sshsig, trustfile
from serverflow_cli.trust.keys import PrivateKey, fingerprint

from .conftest import DAY, NOW, Fleet


def root(threshold: int, *keys: PrivateKey) -> trustfile.Role:
    return trustfile.Role(threshold, tuple(trustfile.RootKey(key.comment, key.public_key) for key in keys))


def put(folder: Path, trust: trustfile.Trust, *keys: PrivateKey) -> None:
    """As an attacker or a damaged checkout would: without any check."""
    folder.mkdir(exist_ok=True)
    body = trustfile.body(trust)
    (folder / f"{trust.version}.json").write_bytes(body)
    blocks = [sshsig.armor(sshsig.sign(key, sshsig.TRUST, body)) for key in keys]
    (folder / f"{trust.version}.json.sig").write_text("".join(blocks))


@pytest.fixture
def folder(tmp_path: Path, fleet: Fleet) -> Path:
    """Three versions; bob becomes root beside ana in the second."""
    path = tmp_path / "trust"
    chain.write_version(path, fleet.trust, [fleet.ana])
    second = chain.successor(fleet.trust, root=root(1, fleet.ana, fleet.bob))
    chain.write_version(path, second, [fleet.ana])
    chain.write_version(path, chain.next_without_server(second, fleet.server_id), [fleet.bob])
    return path


def test_a_chain_is_read_back(folder: Path, fleet: Fleet) -> None:
    trust = chain.load_chain(folder, None)
    assert trust.version == 3
    assert not any(grant.servers for key in trust.command for grant in key.grants)
    assert chain.load_chain(folder, chain.anchor_of(trust)) == trust


def test_servers_take_every_step_of_it(folder: Path) -> None:
    current = messages.parse_trust(chain.read_version(folder, 1)[0])
    for number in (2, 3):
        body, blobs = chain.read_version(folder, number)
        signed = verify.parse_signed(sshsig.pack_signed(body, blobs))
        current = authorise.verify_trust_update(current, signed.body, signed.signatures)
    assert current.version == 3


def test_ssh_keygen_can_check_it(folder: Path, fleet: Fleet, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.write_text(f"ana {fleet.ana.openssh}\n")
    signature, body = folder / "1.json.sig", (folder / "1.json").read_bytes()
    who, what = ("-f", allowed, "-I", "ana"), ("-n", sshsig.TRUST, "-s", signature)
    checked = subprocess.run(["ssh-keygen", "-Y", "verify", *who, *what], input=body, capture_output=True, check=False)
    assert checked.returncode == 0


def test_removing_a_server(fleet: Fleet) -> None:
    (here,) = {server for key in fleet.trust.command for grant in key.grants for server in grant.servers}
    without = chain.next_without_server(fleet.trust, here)
    assert without.version == 2
    assert [key.name for key in without.command] == ["ana", "ci"]
    assert not any(grant.servers for key in without.command for grant in key.grants)


def test_a_first_version_must_be_one_that_servers_take(fleet: Fleet) -> None:
    trust = fleet.trust
    assert chain.build_first(trust.fleet, trust.expires, trust.root, trust.release, trust.command) == trust
    with pytest.raises(TrustError):
        chain.build_first(trust.fleet, trust.expires, replace(trust.root, threshold=2), trust.release, trust.command)


def test_write_version_is_compare_and_swap(folder: Path, fleet: Fleet) -> None:
    trust = chain.load_chain(folder, None)
    mine, theirs = chain.successor(trust, expires=NOW), chain.successor(trust, expires=NOW + 1)
    chain.write_version(folder, theirs, [fleet.bob])
    for late in (mine, replace(mine, version=6)):
        with pytest.raises(PlanChanged):
            chain.write_version(folder, late, [fleet.ana])
    assert chain.load_chain(folder, None) == theirs


def test_nothing_is_written_without_the_threshold(tmp_path: Path, fleet: Fleet, two_roots: trustfile.Trust) -> None:
    folder = tmp_path / "trust"
    for signers in ([], [fleet.ana], [fleet.ana, fleet.ana], [fleet.ana, fleet.ci]):
        with pytest.raises(TrustError, match="lacks root signatures"):
            chain.write_version(folder, two_roots, signers)
    assert not list(folder.glob("*.json*"))
    elsewhere = sshsig.sign(fleet.bob, sshsig.TRUST, trustfile.body(two_roots))
    chain.write_version(folder, two_roots, [fleet.ana], [elsewhere])
    assert chain.load_chain(folder, None) == two_roots


def test_succession_is_checked_on_reading(folder: Path, fleet: Fleet) -> None:
    trust = chain.load_chain(folder, None)
    for wrong, signers in (
        (replace(trust, version=4), [fleet.stranger]),
        (replace(trust, version=4), [fleet.ci]),
        (replace(trust, version=4, fleet="00" * 16), [fleet.ana]),
        (replace(trust, version=4, root=root(1, fleet.stranger)), [fleet.ana]),
        (replace(trust, version=4, root=root(1, fleet.stranger)), [fleet.stranger]),
        (replace(trust, version=4, root=root(2, fleet.ana, fleet.bob)), [fleet.ana, fleet.ana]),
    ):
        put(folder, wrong, *signers)
        with pytest.raises(TrustError):
            chain.load_chain(folder, None)
    put(folder, replace(trust, version=4), fleet.ana)
    assert chain.load_chain(folder, None).version == 4


def test_a_missing_or_renamed_version(folder: Path, fleet: Fleet) -> None:
    trust = chain.load_chain(folder, None)
    put(folder, replace(trust, version=5), fleet.ana)
    with pytest.raises(TrustError, match="missing"):
        chain.load_chain(folder, None)
    for suffix in (".json", ".json.sig"):
        (folder / f"5{suffix}").rename(folder / f"4{suffix}")
    with pytest.raises(TrustError, match="says that it is version 5"):
        chain.load_chain(folder, None)


def test_damaged_files(folder: Path) -> None:
    for name, data in (
        ("3.json", b"{}"),
        ("3.json", b"[" * 5000),
        ("3.json", (folder / "3.json").read_bytes() + b"\n"),
        ("3.json", (folder / "3.json").read_bytes().replace(b'"version": 3', b'"version": 9, "version": 3')),
        ("3.json.sig", b""),
        ("3.json.sig", b"\xff"),
        ("3.json.sig", (folder / "2.json.sig").read_bytes()),
    ):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(data)
        with pytest.raises(TrustError):
            chain.load_chain(folder, None)
        (folder / name).write_bytes(kept)
    (folder / "3.json.sig").unlink()
    with pytest.raises(TrustError):
        chain.load_chain(folder, None)


def test_the_folder_cannot_go_back(folder: Path, fleet: Fleet) -> None:
    remembered = chain.anchor_of(chain.load_chain(folder, None))
    for name in ("3.json", "3.json.sig"):
        (folder / name).unlink()
    with pytest.raises(TrustError, match="went back"):
        chain.load_chain(folder, remembered)
    for path in folder.glob("[12].*"):
        path.unlink()
    for missing in (folder, folder / "nowhere"):
        with pytest.raises(TrustError, match="no trust file"):
            chain.load_chain(missing, remembered)


def test_another_history_of_the_same_length(folder: Path, fleet: Fleet, tmp_path: Path) -> None:
    """Even when a root key makes it, whoever saw the other history is told."""
    remembered = chain.anchor_of(chain.load_chain(folder, None))
    other = tmp_path / "other"
    put(other, fleet.trust, fleet.ana)
    put(other, replace(fleet.trust, version=2), fleet.ana)
    put(other, replace(fleet.trust, version=3), fleet.ana)
    assert chain.load_chain(other, None).version == 3
    with pytest.raises(TrustError, match="not the one"):
        chain.load_chain(other, remembered)


def test_first_contact_by_fingerprint(folder: Path, fleet: Fleet) -> None:
    both = f"{fingerprint(fleet.ana.public_key)}, {fingerprint(fleet.bob.public_key)}"
    for text in (fingerprint(fleet.ana.public_key), both):
        assert chain.load_chain(folder, anchor.from_fingerprints(text)).version == 3
    for stranger in (fleet.stranger, fleet.ci):
        with pytest.raises(TrustError):
            chain.load_chain(folder, anchor.from_fingerprints(fingerprint(stranger.public_key)))
    for text in ("", "SHA256:", fingerprint(fleet.ana.public_key)[7:], both + ","):
        with pytest.raises(TrustError):
            anchor.from_fingerprints(text)


def test_to_list_a_key_is_not_to_have_its_signature(fleet: Fleet, tmp_path: Path) -> None:
    """A swapped folder may name ana as root beside the attacker; the attacker alone has signed it."""
    forged = tmp_path / "trust"
    put(forged, replace(fleet.trust, root=root(1, fleet.stranger, fleet.ana)), fleet.stranger)
    assert chain.load_chain(forged, None)
    with pytest.raises(TrustError):
        chain.load_chain(forged, anchor.from_fingerprints(fingerprint(fleet.ana.public_key)))


def test_first_contact_with_several_roots(tmp_path: Path, fleet: Fleet) -> None:
    """As many as are needed have to have signed; the others may be root without ever having done so."""
    stranger = fleet.stranger
    first = replace(fleet.trust, root=root(2, fleet.ana, fleet.bob, stranger))
    chain.write_version(tmp_path / "trust", first, [fleet.ana, fleet.bob])
    told = anchor.read_out(first.root)
    assert chain.load_chain(tmp_path / "trust", anchor.from_fingerprints(told)) == first
    # A thief of ana's key alone, with a chain of their own that lists the others.
    forged = replace(first, root=root(1, fleet.ana, fleet.bob, stranger))
    chain.write_version(tmp_path / "forged", forged, [fleet.ana])
    with pytest.raises(TrustError, match="1 of the root keys"):
        chain.load_chain(tmp_path / "forged", anchor.from_fingerprints(told))
    # The same thief goes on from a time when one was enough, which both had signed before.
    chain.write_version(tmp_path / "earlier", first, [fleet.ana, fleet.bob])
    lower = chain.successor(first, root=root(1, fleet.ana, fleet.bob, stranger))
    chain.write_version(tmp_path / "earlier", lower, [fleet.ana, fleet.bob])
    chain.write_version(tmp_path / "earlier", chain.successor(lower, expires=NOW), [fleet.ana])
    with pytest.raises(TrustError, match="1 of the root keys"):
        chain.load_chain(tmp_path / "earlier", anchor.from_fingerprints(told))
    for text in (f"4:{told[2:]}", f"0:{told[2:]}", f":{told[2:]}", f"2:{told}"):
        with pytest.raises(TrustError):
            anchor.from_fingerprints(text)


def test_a_retired_root_is_no_first_contact(folder: Path, fleet: Fleet) -> None:
    trust = chain.load_chain(folder, None)
    chain.write_version(folder, chain.successor(trust, root=root(1, fleet.bob)), [fleet.ana, fleet.bob])
    with pytest.raises(TrustError):
        chain.load_chain(folder, anchor.from_fingerprints(fingerprint(fleet.ana.public_key)))
    assert chain.load_chain(folder, anchor.from_fingerprints(fingerprint(fleet.bob.public_key))).version == 4


def test_the_anchor_file(folder: Path, fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "state" / "anchor.json"
    assert anchor.load(path) is None
    remembered = chain.anchor_of(chain.load_chain(folder, None))
    anchor.save(path, remembered)
    anchor.save(path, remembered)
    assert anchor.load(path) == remembered
    assert path.stat().st_mode & 0o777 == 0o600
    anchor.save(path, replace(remembered, version=2))  # another process has seen a newer one meanwhile
    assert anchor.load(path) == remembered
    for worse in (
        replace(remembered, sha256="0" * 64),
        replace(remembered, fleet="00" * 16, version=9),
    ):
        with pytest.raises(TrustError):
            anchor.save(path, worse)
    anchor.save(path, replace(remembered, version=4, sha256="1" * 64))
    for damaged in ("", "[]", '{"roots": []}', json.dumps({"roots": 1, "version": 1, "sha256": "", "fleet": ""})):
        path.write_text(damaged)
        with pytest.raises(TrustError):
            anchor.load(path)


def test_may_agrees_with_the_server(fleet: Fleet) -> None:
    trust, server = fleet.trust, fleet.server_trust
    keys = {key.public_key: key for key in server.command}
    for private in (fleet.ana, fleet.ci):
        for action in ("service.restart", "safe.confirm", "user.add"):
            for params in ({}, {"app": "shop"}, {"app": "bank"}, {"app": ["shop"]}):
                for server_id in (fleet.server_id, "0" * 64):
                    reason = permission.may(trust, private.public_key, action, params, server_id, NOW)
                    granted = authorise.granted(keys[private.public_key], action, params, server_id)
                    assert granted is (reason == ""), reason


def test_may_says_why(fleet: Fleet) -> None:
    def why(key: PrivateKey, action: str = "service.restart", now: int = NOW, **params: str) -> str:
        return permission.may(fleet.trust, key.public_key, action, params, fleet.server_id, now)

    assert why(fleet.ci, app="shop") == ""
    assert why(fleet.ci) == "the key ci may run service.restart only with app=shop"
    assert why(fleet.ci, "user.add") == "the key ci may not run user.add"
    assert why(fleet.ci, now=NOW + 90 * DAY, app="shop") == "the key ci is outside its dates"
    assert why(fleet.bob) == "this key is not a command key of the fleet"
    elsewhere = permission.may(fleet.trust, fleet.ci.public_key, "service.restart", {"app": "shop"}, "0" * 64, NOW)
    assert elsewhere == "the key ci may not run service.restart on this server"
    expired = replace(fleet.trust, expires=NOW)
    key = fleet.ana.public_key
    assert permission.may(expired, key, "service.restart", {}, fleet.server_id, NOW) == "trust version 1 has expired"
    assert permission.may(expired, key, "safe.confirm", {}, fleet.server_id, NOW) == ""


def test_expiry_warnings(fleet: Fleet) -> None:
    assert permission.expiry_warnings(fleet.trust, NOW) == []
    assert permission.expiry_warnings(fleet.trust, NOW + 85 * DAY) == ["the key ci expires in 5 days"]
    late = permission.expiry_warnings(fleet.trust, NOW + 365 * DAY)
    assert late == ["trust version 1 has expired", "the key ana has expired", "the key ci has expired"]
