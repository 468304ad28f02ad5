"""Invitations: public keys only, compared by one fingerprint."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from serverflow_cli.errors import ConfigError
from serverflow_cli.trust import deploykey, invitation, keys
from serverflow_cli.trust.invitation import Invitation

KEY = keys.new_private_key("bob")
OTHER = keys.new_private_key("other")
SEAL = "x25519:" + "A" * 43 + "="
BOB = Invitation("f1" * 16, "bob", KEY.public_key, (keys.public_line(KEY.public_key),), SEAL, KEY.public_key)


@pytest.mark.parametrize("given", [BOB, replace(BOB, seal="", root=None, login=())])
def test_it_reads_back(given: Invitation) -> None:
    found = invitation.parse(given.text)
    assert found == given
    assert found.fingerprint == given.fingerprint


def test_the_way_it_took_does_not_matter() -> None:
    mailed = "\n\n# from bob\n" + BOB.text.replace("\n", "\r\n") + "\n\n"
    assert invitation.parse(mailed).fingerprint == BOB.fingerprint


def test_each_field_counts_in_the_fingerprint() -> None:
    changes: dict[str, Any] = {
        "fleet": "f2" * 16,
        "name": "bib",
        "command": OTHER.public_key,
        "login": (keys.public_line(OTHER.public_key),),
        "seal": "x25519:" + "B" * 43 + "=",
        "root": OTHER.public_key,
        "release": OTHER.public_key,
    }
    assert set(changes) == {field.name for field in fields(Invitation)}
    prints = {replace(BOB, **{name: value}).fingerprint for name, value in changes.items()}
    assert len(prints | {BOB.fingerprint}) == len(changes) + 1


@pytest.mark.parametrize(
    "change",
    [
        ("schema = 1", "schema = 2"),
        ("schema = 1", ""),
        ('name = "bob"', 'name = "Bob Ross"'),
        ('name = "bob"', "name = 7"),
        ('name = "bob"', ""),
        (KEY.openssh.split()[1], "AAAA"),
        ("x25519:", "rsa:"),
        ('seal = "', 'extra = "x"\nseal = "'),
    ],
    ids=range(8),
)
def test_what_is_no_invitation_is_refused(change: tuple[str, str]) -> None:
    with pytest.raises(ConfigError):
        invitation.parse(BOB.text.replace(*change))


@pytest.mark.parametrize("text", ["", "\0", "=", "a = 1", "x" * 100_000])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        invitation.parse(text)


def test_a_private_key_in_its_place_is_refused_and_not_repeated() -> None:
    private = keys.private_text(KEY)
    with pytest.raises(ConfigError) as caught:
        invitation.parse(private)
    assert private.splitlines()[1] not in str(caught.value)


def test_a_deploy_key_is_one_line_with_two_keys() -> None:
    made = deploykey.new("ci")
    assert "\n" not in made.text
    for text in (made.text, f" {made.text}\n", "\n".join((made.text[:50], made.text[50:]))):
        assert deploykey.from_text(text) == made
    assert made.signing.public_key != made.login.public_key


def test_one_openssh_key_does_both() -> None:
    found = deploykey.from_text(keys.private_text(KEY))
    assert found.signing == found.login == KEY


@pytest.mark.parametrize("text", ["", "x", "é", "AAAA", keys.private_text(KEY) * 3])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        deploykey.from_text(text)
