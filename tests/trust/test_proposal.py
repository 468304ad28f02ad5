"""The next trust version while it waits: signatures from several machines, and what a stranger can do to it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from serverflow_cli.errors import PlanChanged, TrustError
from serverflow_cli.trust import chain, proposal, sshsig, trustfile
from serverflow_cli.trust.keys import PrivateKey, new_private_key
from serverflow_cli.trust.trustfile import Trust

from .conftest import DAY, NOW, Fleet

CAROL = new_private_key("carol")


def role(threshold: int, *keys: PrivateKey) -> trustfile.Role:
    return trustfile.Role(threshold, tuple(trustfile.RootKey(key.comment, key.public_key) for key in keys))


def blob(key: PrivateKey, trust: Trust, namespace: str = sshsig.TRUST) -> bytes:
    return sshsig.sign(key, namespace, trustfile.body(trust))


@pytest.fixture
def newest(fleet: Fleet, tmp_path: Path) -> Trust:
    """Version 1 of a fleet with two of three root keys."""
    trust = replace(fleet.trust, root=role(2, fleet.ana, fleet.bob, CAROL))
    chain.write_version(tmp_path / "trust", trust, [fleet.ana, fleet.bob])
    return trust


@pytest.fixture
def folder(newest: Trust, tmp_path: Path) -> Path:
    return tmp_path / "trust"


@pytest.fixture
def following(newest: Trust) -> Trust:
    return chain.successor(newest, expires=newest.expires + DAY)


def test_it_becomes_the_next_version_once_enough_have_signed(
    folder: Path, newest: Trust, following: Trust, fleet: Fleet, tmp_path: Path
) -> None:
    assert proposal.add(folder, newest, following, [blob(fleet.ana, following)]) == 1
    assert chain.load_chain(folder, None) == newest
    elsewhere = tmp_path / "clone"
    shutil.copytree(folder, elsewhere)  # as git would carry it to carol's machine
    waiting = proposal.load(elsewhere, newest)
    assert waiting is not None
    assert (waiting.trust, waiting.signers) == (following, {fleet.ana.public_key})
    assert proposal.add(elsewhere, newest, following, [blob(CAROL, following)]) == 0
    assert chain.load_chain(elsewhere, chain.anchor_of(newest)) == following
    assert proposal.load(elsewhere, following) is None
    assert not (elsewhere / "proposed").exists()


def test_a_key_counts_once_and_a_stranger_not_at_all(
    folder: Path, newest: Trust, following: Trust, fleet: Fleet
) -> None:
    twice = [blob(fleet.ana, following), blob(fleet.ana, following)]
    assert proposal.add(folder, newest, following, twice) == 1
    assert proposal.add(folder, newest, following, [blob(fleet.stranger, following)]) == 1
    assert chain.load_chain(folder, None) == newest


def test_it_waits_for_the_old_threshold_and_for_the_new_one(folder: Path, newest: Trust, fleet: Fleet) -> None:
    dave = new_private_key("dave")
    moved = chain.successor(newest, root=role(2, CAROL, dave))
    assert proposal.add(folder, newest, moved, [blob(fleet.ana, moved), blob(fleet.bob, moved)]) == 2
    assert proposal.add(folder, newest, moved, [blob(CAROL, moved)]) == 1
    assert proposal.add(folder, newest, moved, [blob(dave, moved)]) == 0
    assert chain.load_chain(folder, chain.anchor_of(newest)) == moved


def test_a_lower_threshold_needs_the_higher_one_first(folder: Path, newest: Trust, fleet: Fleet) -> None:
    alone = chain.successor(newest, root=role(1, fleet.ana))
    assert proposal.add(folder, newest, alone, [blob(fleet.ana, alone)]) == 1


def test_what_someone_with_merge_rights_writes_into_it_carries_no_signature(
    folder: Path, newest: Trust, following: Trust, fleet: Fleet
) -> None:
    proposal.add(folder, newest, following, [blob(fleet.ana, following)])
    worse = replace(following, root=role(1, fleet.stranger))
    (folder / "proposed" / "2.json").write_bytes(trustfile.body(worse))
    waiting = proposal.load(folder, newest)
    assert waiting is not None
    assert (waiting.trust, waiting.signers) == (worse, set())


def test_a_signature_for_something_else_does_not_count(
    folder: Path, newest: Trust, following: Trust, fleet: Fleet
) -> None:
    for wrong in (blob(fleet.bob, following, sshsig.PINS), blob(fleet.bob, newest)):
        with pytest.raises(TrustError):
            proposal.add(folder, newest, following, [blob(fleet.ana, following), wrong])
    assert proposal.load(folder, newest) is None


def test_one_change_waits_at_a_time(folder: Path, newest: Trust, following: Trust, fleet: Fleet) -> None:
    proposal.add(folder, newest, following, [blob(fleet.ana, following)])
    other = chain.successor(newest, expires=NOW)
    with pytest.raises(PlanChanged, match="another proposal"):
        proposal.add(folder, newest, other, [blob(fleet.bob, other)])
    assert proposal.discard(folder)
    assert not proposal.discard(folder)
    assert proposal.add(folder, newest, other, [blob(fleet.bob, other), blob(CAROL, other)]) == 0


def test_what_came_too_late_is_no_proposal(folder: Path, newest: Trust, following: Trust, fleet: Fleet) -> None:
    proposal.add(folder, newest, following, [blob(fleet.ana, following)])
    other = chain.successor(newest, expires=NOW)
    chain.write_version(folder, other, [fleet.bob, CAROL])
    assert proposal.load(folder, other) is None
    with pytest.raises(PlanChanged):
        proposal.add(folder, newest, following, [blob(fleet.bob, following)])


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[" * 100_000, None])
def test_a_damaged_one_is_told_and_holds_up_nobody(
    folder: Path, newest: Trust, following: Trust, fleet: Fleet, data: bytes | None
) -> None:
    (folder / "proposed").mkdir()
    planted = folder / "proposed" / "2.json"
    planted.mkdir() if data is None else planted.write_bytes(data)
    with pytest.raises(TrustError) as told:
        proposal.load(folder, newest)
    assert told.value.hint == "sf trust discard"
    if data is not None:
        assert proposal.add(folder, newest, following, [blob(fleet.ana, following)]) == 1
    assert proposal.discard(folder)


def test_one_that_nobody_signed_gives_way(folder: Path, newest: Trust, following: Trust, fleet: Fleet) -> None:
    (folder / "proposed").mkdir()
    planted = replace(following, root=role(1, fleet.stranger))
    (folder / "proposed" / "2.json").write_bytes(trustfile.body(planted))
    assert proposal.add(folder, newest, following, [blob(fleet.ana, following)]) == 1
    waiting = proposal.load(folder, newest)
    assert waiting is not None and waiting.trust == following


def test_one_of_another_fleet_or_number_is_told(folder: Path, newest: Trust, following: Trust) -> None:
    (folder / "proposed").mkdir()
    for wrong in (replace(following, fleet="ab" * 16), replace(following, version=7)):
        (folder / "proposed" / "2.json").write_bytes(trustfile.body(wrong))
        with pytest.raises(TrustError, match="not the version that comes next"):
            proposal.load(folder, newest)
