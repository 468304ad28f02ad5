"""What a server must refuse on the wire. The attacker has the operator's login and, mostly, the operator's key too.

Every attack asks for a restart of cron, or would leave a file or a user: the canary. `untouched` proves that it is as it
was, and that the very same client gets its way at once when it plays by the rules.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from nacl import bindings as curve

from . import attacker
from .attacker import BUNDLE, COMMAND, HELLO, RECEIPT, TRUST, Key, L, Session, Sig, encode, framed, signed
from .target import Fleet
from .victim import Victim, fresh_victim

CRON = {"unit": "cron"}
Frame = Callable[[Session, Victim], bytes]


@pytest.fixture(scope="module")
def victim(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with fresh_victim(fleet, tmp_path_factory.mktemp("victim")) as found:
        yield found


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Key:
    """A key that no trust file has."""
    return Key.make(tmp_path_factory.mktemp("stranger"), "stranger")


# --- replay ----------------------------------------------------------------------------------------------------------


def test_an_exchange_that_was_recorded_is_worth_nothing_on_another_connection(victim: Victim) -> None:
    with victim.client.session(shared=False) as session:
        assert session.ask("service.restart", CRON).verdict == "done"
        record, nonce = session.sent, session.nonce
    with victim.untouched(), victim.client.session(shared=False, nonce=nonce) as again:
        again.send(record)
        assert again.answer().verdict == "wrong-challenge"


def test_an_op_id_runs_once_and_is_answered_with_its_receipt(victim: Victim) -> None:
    op = attacker.new_op()
    first = victim.client.ask("service.restart", CRON, op_id=op)
    pid = victim.canary()
    with victim.client.session() as session:
        session.send_command(session.command("service.restart", CRON, op_id=op))
        again = session.answer()  # signed, but for the first command: its body_sha256, nonce and challenge
    assert (first.verdict, again.frames[-1]) == ("done", first.frames[-1])
    assert victim.canary() == pid


def test_an_op_id_that_was_used_does_not_cover_another_action(victim: Victim) -> None:
    op = attacker.new_op()
    assert victim.client.ask("service.restart", CRON, op_id=op).verdict == "done"
    with victim.untouched(), victim.client.session() as session:
        session.send_command(session.command("user.create", {"name": "mallory"}, op_id=op))
        assert session.answer().body["action"] == "service.restart"
    assert victim.target.run("id", "mallory", check=False).returncode != 0


# --- a right signature under a wrong command -------------------------------------------------------------------------

DENIED: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "another server's": (lambda c: {"server_id": "ab" * 32}, "wrong-server"),
    "another connection's": (lambda c: {"challenge": "cd" * 32}, "wrong-challenge"),
    "a challenge in upper case": (lambda c: {"challenge": c["challenge"].upper()}, "bad-frame"),
    "issued too early": (lambda c: {"issued_at": c["issued_at"] - 300_001}, "stale"),
    "issued too late": (lambda c: {"issued_at": c["issued_at"] + 300_001, "expires_at": c["issued_at"] + 310_000}, "stale"),
    "expired": (lambda c: {"issued_at": c["issued_at"] - 60_000, "expires_at": c["issued_at"] - 1}, "stale"),
    "expired before it was issued": (lambda c: {"expires_at": c["issued_at"] - 1}, "stale"),
    "living for no time": (lambda c: {"expires_at": c["issued_at"]}, "stale"),
    "living for too long": (lambda c: {"expires_at": c["issued_at"] + 300_001}, "stale"),
    "living for ever": (lambda c: {"expires_at": 2**53 - 1}, "stale"),
    "a trust version to come": (lambda c: {"trust_version": c["trust_version"] + 1}, "trust-ahead"),
    "no trust version": (lambda c: {"trust_version": 0}, "bad-frame"),
    "an action that is not granted": (lambda c: {"action": "service.frobnicate"}, "not-granted"),
    "a path as an action": (lambda c: {"action": "../../bin/sh"}, "bad-frame"),
    "a module as an action": (lambda c: {"action": "os.system"}, "not-granted"),
    "a newer version of an action": (lambda c: {"action_version": 2}, "action-version"),
    "version 0 of an action": (lambda c: {"action_version": 0}, "bad-frame"),
    "another protocol": (lambda c: {"v": 2}, "bad-frame"),
    "another type": (lambda c: {"typ": "trust"}, "bad-frame"),
    "an unknown mode": (lambda c: {"mode": "force"}, "bad-frame"),
    "a lower case op id": (lambda c: {"op_id": c["op_id"].lower()}, "bad-frame"),
    "a path as an op id": (lambda c: {"op_id": "../../../../../etc/cron.d/x"}, "bad-frame"),
    "an op id with a newline": (lambda c: {"op_id": c["op_id"] + "\n"}, "bad-frame"),
    "too long a confirm_s": (lambda c: {"confirm_s": 3601}, "bad-frame"),
    "a negative limit": (lambda c: {"limits": {"timeout_s": -1}}, "bad-frame"),
    "an unknown limit": (lambda c: {"limits": {"user": 0}}, "bad-frame"),
    "true as a number": (lambda c: {"v": True}, "bad-frame"),
    "a table as a parameter": (lambda c: {"params": {"unit": {"a": 1}}}, "bad-frame"),
    "a list of numbers as a parameter": (lambda c: {"params": {"unit": [1]}}, "bad-frame"),
    "null as a parameter": (lambda c: {"params": {"unit": None}}, "bad-frame"),
    "an unknown parameter": (lambda c: {"params": {**CRON, "run": "id"}}, "bad-params"),
    "no parameter": (lambda c: {"params": {}}, "bad-params"),
    "a parameter called __class__": (lambda c: {"params": {**CRON, "__class__": "x"}}, "bad-frame"),
    "a secret that never comes": (lambda c: {"secrets_commit": "00" * 32}, "bad-secrets"),
    "a blob of a negative size": (lambda c: {"blobs": [{"sha256": "00" * 32, "size": -1}]}, "bad-frame"),
    "a path as a blob's hash": (lambda c: {"blobs": [{"sha256": "../../../../etc/cron.d/x", "size": 1}]}, "bad-frame"),
    "blobs beyond the disk": (lambda c: {"blobs": [{"sha256": "00" * 32, "size": 2**52}]}, "disk-full"),
    "an actor of 65 characters": (lambda c: {"actor": "x" * 65}, "bad-frame"),
    "a resource with a newline": (lambda c: {"base": {"resource": "a\nb", "from": "", "to": ""}}, "bad-frame"),
}  # fmt: skip


def test_a_command_that_is_not_right_is_denied_under_the_servers_signature(victim: Victim, subtests: Any) -> None:
    with victim.untouched():
        for what, (changed, code) in DENIED.items():
            with subtests.test(what), victim.client.session() as session:
                right = session.command("service.restart", CRON)
                assert session.ask("service.restart", **{**right, **changed(right)} | {"action": changed(right).get("action", right["action"])}).verdict == code
                assert not victim.burned(right["op_id"])
