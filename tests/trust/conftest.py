"""A small fleet made by the operator's side, for the server's side to judge."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

import messages
import verify
from serverflow_cli.trust import sshsig, trustfile
from serverflow_cli.trust.keys import PrivateKey, new_private_key

NOW = 1_800_000_000_000
DAY = 86_400_000


@dataclass(frozen=True)
class Fleet:
    """Keys by what they may do, one server, and the trust file that says so."""

    ana: PrivateKey
    bob: PrivateKey
    ci: PrivateKey
    stranger: PrivateKey
    server_id: str
    trust: trustfile.Trust
    registry: dict[str, Any] = field(default_factory=dict)

    @property
    def server_trust(self) -> messages.Trust:
        """The same trust file as the server reads it."""
        return messages.parse_trust(trustfile.body(self.trust))

    def command(self, **changes: Any) -> dict[str, Any]:
        """A body that every check accepts, with changes."""
        return {
            "v": 1,
            "typ": "command",
            "server_id": self.server_id,
            "challenge": "c" * 64,
            "op_id": "01J0000000000000000000000A",
            "action": "service.restart",
            "action_version": 2,
            "params": {"unit": "nginx.service", "app": "shop"},
            "trust_version": 1,
            "issued_at": NOW,
            "expires_at": NOW + 60_000,
            "limits": {},
            "mode": "run",
            "confirm_s": 0,
            "base": None,
            "plan_sha256": None,
            "secrets_commit": None,
            "blobs": [],
            "prev_receipt": "",
            "actor": "ci",
            **changes,
        }


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    ana, bob, ci, stranger = (new_private_key(name) for name in ("ana", "bob", "ci", "stranger"))
    server_id = "5e" * 32
    everything = trustfile.Grant(("service.restart", "cron.add", "safe.confirm"), (server_id,))
    narrow = trustfile.Grant(("service.restart", "cron.add"), (server_id,), {"app": "shop"})
    trust = trustfile.Trust(
        fleet="f1" * 16,
        version=1,
        expires=NOW + 365 * DAY,
        root=trustfile.Role(1, (trustfile.RootKey("ana", ana.public_key),)),
        release=trustfile.Role(1, (trustfile.RootKey("ana", ana.public_key),)),
        command=(
            trustfile.CommandKey("ana", ana.public_key, NOW + 365 * DAY, (everything,)),
            trustfile.CommandKey("ci", ci.public_key, NOW + 90 * DAY, (narrow,), addresses=("203.0.113.0/24",)),
        ),
    )
    registry = {
        "v": 1,
        "actions": {
            "service.restart": {"module": "serverflow_actions.service.restart", "version": 2},
            "user.add": {"module": "serverflow_actions.user.add", "version": 2},
            "cron.add": {"module": "serverflow_actions.cron.add", "version": 1, "schedules": "action"},
        },
    }
    return Fleet(ana, bob, ci, stranger, server_id, trust, registry)


@pytest.fixture
def signed() -> Callable[..., verify.Signed]:
    """A frame by the operator's code, taken apart by the server's."""

    def make(body: bytes, *signers: sshsig.Signer, namespace: str = sshsig.COMMAND) -> verify.Signed:
        blobs = [sshsig.sign(signer, namespace, body) for signer in signers]
        return verify.parse_signed(sshsig.pack_signed(body, blobs))

    return make


@pytest.fixture
def two_roots(fleet: Fleet) -> trustfile.Trust:
    """Version 1 of a fleet in which ana and bob must both sign as root."""
    keys = (trustfile.RootKey("ana", fleet.ana.public_key), trustfile.RootKey("bob", fleet.bob.public_key))
    return replace(fleet.trust, root=trustfile.Role(2, keys))
