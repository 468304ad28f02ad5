"""Trust files and bundles on the server's side: what may follow what, and whose signatures it takes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import authorise
import messages
import verify
from serverflow_cli.errors import TrustError
from serverflow_cli.trust import sshsig, trustfile
from serverflow_cli.trust.keys import PrivateKey, public_line

from .conftest import NOW, Fleet, encode


def blobs(namespace: str, body: bytes, *keys: PrivateKey) -> list[verify.SshSig]:
    return [verify.parse_sshsig(sshsig.sign(key, namespace, body)) for key in keys]


def update(current: trustfile.Trust, new: trustfile.Trust, *keys: PrivateKey) -> messages.Trust:
    body = trustfile.body(new)
    server = messages.parse_trust(trustfile.body(current))
    return authorise.verify_trust_update(server, body, blobs(sshsig.TRUST, body, *keys))


def root(threshold: int, *keys: PrivateKey) -> trustfile.Role:
    return trustfile.Role(threshold, tuple(trustfile.RootKey(key.comment, key.public_key) for key in keys))


def test_the_next_version(fleet: Fleet) -> None:
    new = replace(fleet.trust, version=2, command=())
    assert update(fleet.trust, new, fleet.ana) == messages.parse_trust(trustfile.body(new))


def test_expired_trust_can_be_followed(fleet: Fleet) -> None:
    assert update(replace(fleet.trust, expires=0), replace(fleet.trust, version=2, expires=1), fleet.ana).version == 2


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"version": 3}, "bad-trust"),
        ({"version": 1}, "older-version"),
        ({"version": 2, "fleet": "00" * 16}, "bad-trust"),
    ],
)
def test_what_cannot_be_next(fleet: Fleet, change: dict[str, Any], code: str) -> None:
    with pytest.raises(messages.Denied) as caught:
        update(fleet.trust, replace(fleet.trust, **change), fleet.ana)
    assert caught.value.code == code


def test_an_older_version_is_named_so(fleet: Fleet) -> None:
    with pytest.raises(messages.Denied) as caught:
        update(replace(fleet.trust, version=5), replace(fleet.trust, version=4), fleet.ana)
    assert caught.value.code == "older-version"


def test_only_root_signs_it(fleet: Fleet) -> None:
    for key in (fleet.ci, fleet.stranger):
        with pytest.raises(verify.Refused):
            update(fleet.trust, replace(fleet.trust, version=2), key)


def test_the_new_root_must_sign_too(fleet: Fleet) -> None:
    new = replace(fleet.trust, version=2, root=root(1, fleet.bob))
    with pytest.raises(verify.Refused):
        update(fleet.trust, new, fleet.ana)
    with pytest.raises(verify.Refused):
        update(fleet.trust, new, fleet.bob)
    assert update(fleet.trust, new, fleet.ana, fleet.bob)


def test_the_old_threshold_counts(fleet: Fleet, two_roots: trustfile.Trust) -> None:
    """One of two root keys cannot lower the threshold to itself."""
    new = replace(two_roots, version=2, root=root(1, fleet.ana))
    for keys in ((fleet.ana,), (fleet.ana, fleet.ana), (fleet.ana, fleet.ci)):
        with pytest.raises(messages.Denied) as caught:
            update(two_roots, new, *keys)
        assert caught.value.code == "bad-trust"
    assert update(two_roots, new, fleet.ana, fleet.bob)


def test_the_new_threshold_counts(fleet: Fleet, two_roots: trustfile.Trust) -> None:
    new = replace(two_roots, version=2)
    with pytest.raises(messages.Denied):
        update(fleet.trust, new, fleet.ana)
    assert update(fleet.trust, new, fleet.ana, fleet.bob)


def test_a_signature_for_something_else_is_none(fleet: Fleet) -> None:
    body = trustfile.body(replace(fleet.trust, version=2))
    server = messages.parse_trust(trustfile.body(fleet.trust))
    for namespace in (sshsig.COMMAND, sshsig.BUNDLE):
        with pytest.raises(verify.Refused):
            authorise.verify_trust_update(server, body, blobs(namespace, body, fleet.ana))
    with pytest.raises(verify.Refused):
        authorise.verify_trust_update(server, body + b" ", blobs(sshsig.TRUST, body, fleet.ana))


def test_an_invalid_signature_does_not_spoil_a_valid_one(fleet: Fleet) -> None:
    body = trustfile.body(replace(fleet.trust, version=2))
    server = messages.parse_trust(trustfile.body(fleet.trust))
    others = blobs(sshsig.TRUST, b"something else", fleet.ana, fleet.stranger)
    assert authorise.verify_trust_update(server, body, [*others, *blobs(sshsig.TRUST, body, fleet.ana)])


def edit(fleet: Fleet, change: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(trustfile.body(fleet.trust))
    change(value)
    return encode(value)


def first_key(trust: dict[str, Any]) -> Any:
    return trust["roles"]["command"]["keys"][0]


def key_with(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda trust: first_key(trust).update({name: value})


def grant_with(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda trust: first_key(trust)["grants"][0].update({name: value})


SEAL = trustfile.Seal("x25519:" + "A" * 43 + "=", ("*", "shop_db"))
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
BAD_TRUST: dict[str, Callable[[dict[str, Any]], object]] = {
    "unknown key": lambda t: t.update(extra=1),
    "missing key": lambda t: t.pop("expires"),
    "version of the form": lambda t: t.update(v=2),
    "true for 1": lambda t: t.update(v=True),
    "type": lambda t: t.update(typ="bundle"),
    "version 0": lambda t: t.update(version=0),
    "version as text": lambda t: t.update(version="1"),
    "version as true": lambda t: t.update(version=True),
    "fleet": lambda t: t.update(fleet="x"),
    "expires after the year 9999": lambda t: t.update(expires=2**52),
    "another role": lambda t: t["roles"].update(admin={}),
    "threshold 0": lambda t: t["roles"]["root"].update(threshold=0),
    "threshold true": lambda t: t["roles"]["root"].update(threshold=True),
    "threshold above the keys": lambda t: t["roles"]["root"].update(threshold=2),
    "root without keys": lambda t: t["roles"]["root"].update(keys=[]),
    "a root key twice": lambda t: t["roles"]["root"]["keys"].append({**t["roles"]["root"]["keys"][0], "name": "b"}),
    "a root name twice": lambda t: t["roles"]["root"]["keys"].append({"name": "ana", "key": KEY}),
    "all that is no yes or no": lambda t: t["roles"]["command"]["keys"][0].update(all=1),
    "a seal that is no X25519 key": lambda t: t["roles"]["command"]["keys"][0].update(
        seal={"key": "x25519:" + "A" * 42 + "==", "secrets": ["*"]}
    ),
    "a seal for a path": lambda t: t["roles"]["command"]["keys"][0].update(
        seal={"key": "x25519:" + "A" * 43 + "=", "secrets": ["../db"]}
    ),
    "a command key twice": lambda t: t["roles"]["command"]["keys"].append(t["roles"]["command"]["keys"][0]),
    "a threshold for commands": lambda t: t["roles"]["command"].update(threshold=1),
    **{
        f"command key: {name} {value!r}"[:60]: key_with(name, value)
        for name, value in [
            ("name", "a b"),
            ("name", "ana\n"),
            ("name", ["ana"]),
            ("key", KEY + " comment"),
            ("key", "ssh-rsa " + KEY[12:]),
            ("key", KEY[:-4]),
            ("key", KEY.replace(" ", "  ")),
            ("ssh", KEY),
            ("ssh", [KEY + " comment"]),
            ("ssh", ['command="sh" ' + KEY]),
            ("ssh", [KEY + "\n" + KEY]),
            ("ssh", ["sk-ssh-ed25519@openssh.com " + KEY[12:]]),
            ("from", ["*"]),
            ("from", ['1.2.3.4",no-pty,command="sh']),
            ("from", ["203.0.113.7/24"]),
            ("not_before", -1),
            ("expires", 1.5),
            ("expires", None),
            ("grants", {}),
        ]
    },
    **{
        f"grant: {name} {value!r}"[:60]: grant_with(name, value)
        for name, value in [
            ("actions", ["*"]),
            ("actions", ["redis.*"]),
            ("actions", ["redis.create", "redis.create"]),
            ("actions", "redis.create"),
            ("servers", ["@app"]),
            ("servers", ["5E" * 32]),
            ("servers", ["5e" * 32] * 2),
            ("where", {"app": 5}),
            ("where", {"app": ["shop"]}),
            ("where", {"App": "shop"}),
            ("where", {"app": "\ud800"}),
            ("where", []),
        ]
    },
}


@pytest.mark.parametrize("name", BAD_TRUST)
def test_neither_side_takes_a_trust_file_of_another_form(fleet: Fleet, name: str) -> None:
    """Written as the operator's side writes it, so that only the content can be the reason."""
    with pytest.raises(messages.Denied) as caught:
        messages.parse_trust(edit(fleet, BAD_TRUST[name]))
    assert caught.value.code == "bad-trust"
    value = json.loads(trustfile.body(fleet.trust))
    BAD_TRUST[name](value)
    with pytest.raises(TrustError):
        trustfile.parse((json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def test_both_sides_read_the_same(fleet: Fleet) -> None:
    blob = b"\0\0\0\x1ask-ssh-ed25519@openssh.com" + b"\0\0\0\x20" + bytes(32) + b"\0\0\0\4ssh:"
    sk = f"sk-ssh-ed25519@openssh.com {base64.b64encode(blob).decode()}"
    grant = trustfile.Grant(("redis.create",), (fleet.server_id,), {"app": "Über", "n": "5"})
    key = trustfile.CommandKey(
        "bob", fleet.bob.public_key, NOW, (grant,), 5, (KEY, sk), ("10.0.0.0/8", "::1"), SEAL, True
    )
    trust = replace(fleet.trust, command=(key,))
    body = trustfile.body(trust)
    assert trustfile.parse(body) == trust
    (server,) = messages.parse_trust(body).command
    assert (server.name, server.public_key, server.not_before, server.expires) == ("bob", fleet.bob.public_key, 5, NOW)
    assert (server.ssh, server.addresses) == (key.ssh, key.addresses)
    assert server.grants[0] == messages.Grant(frozenset(grant.actions), grant.where, frozenset(grant.servers))
    assert json.loads(body)["roles"]["root"]["keys"][0]["key"] == public_line(fleet.ana.public_key)


FILE = {"path": "runner.py", "size": 5, "sha256": "0" * 64}


def bundle(files: list[Any], version: Any = 3, **more: Any) -> bytes:
    return encode({"v": 1, "typ": "bundle", "version": version, "files": files, **more})


def install(fleet: Fleet, body: bytes, *keys: PrivateKey, installed: int = 2, now: int = NOW) -> messages.Bundle:
    signatures = blobs(sshsig.BUNDLE, body, *keys)
    return authorise.verify_bundle(fleet.server_trust, installed, body, signatures, now_ms=now)


def test_a_newer_bundle(fleet: Fleet) -> None:
    assert install(fleet, bundle([FILE]), fleet.ana).files == (messages.BundleFile("runner.py", 5, "0" * 64),)


def test_bundle_signers(fleet: Fleet, two_roots: trustfile.Trust) -> None:
    for key in (fleet.ci, fleet.stranger):
        with pytest.raises(verify.Refused):
            install(fleet, bundle([FILE]), key)
    with pytest.raises(verify.Refused):
        authorise.verify_bundle(
            fleet.server_trust, 2, bundle([FILE]), blobs(sshsig.COMMAND, bundle([FILE]), fleet.ana), now_ms=NOW
        )
    two = replace(fleet.trust, release=two_roots.root)
    server = messages.parse_trust(trustfile.body(two))
    once = blobs(sshsig.BUNDLE, bundle([FILE]), fleet.ana, fleet.ana)
    with pytest.raises(messages.Denied) as caught:
        authorise.verify_bundle(server, 2, bundle([FILE]), once, now_ms=NOW)
    assert caught.value.code == "bad-bundle"


@pytest.mark.parametrize("installed", [3, 4])
def test_a_bundle_that_is_not_newer(fleet: Fleet, installed: int) -> None:
    with pytest.raises(messages.Denied) as caught:
        install(fleet, bundle([FILE]), fleet.ana, installed=installed)
    assert caught.value.code == "older-version"


def test_a_bundle_that_would_use_the_numbers_up(fleet: Fleet) -> None:
    assert install(fleet, bundle([FILE], version=1002), fleet.ana, installed=2).version == 1002
    with pytest.raises(messages.Denied) as caught:
        install(fleet, bundle([FILE], version=1003), fleet.ana, installed=2)
    assert caught.value.code == "bad-bundle"


def test_expired_trust_installs_nothing(fleet: Fleet) -> None:
    with pytest.raises(messages.Denied) as caught:
        install(fleet, bundle([FILE]), fleet.ana, now=fleet.trust.expires)
    assert caught.value.code == "trust-expired"


BAD_PATHS = [
    "/etc/passwd",
    "../x",
    "a/../b",
    "a/..",
    "..",
    ".",
    "./a",
    "a//b",
    "a/",
    "",
    "a b",
    "a\\b",
    "a\0",
    "a\n",
    "ä",
]


def at(path: str, size: int = 1) -> dict[str, Any]:
    return {"path": path, "size": size, "sha256": "0" * 64}


@pytest.mark.parametrize(
    "body",
    [
        *(bundle([at(path)]) for path in BAD_PATHS),
        bundle([]),
        bundle([at("b"), at("a")]),
        bundle([at("a"), at("a")]),
        bundle([at("a"), at("a/b")]),
        bundle([at("a"), at("a.b"), at("a/b/c")]),
        bundle([at("a", -1)]),
        bundle([at("a", 16 * 1024 * 1024 + 1)]),
        bundle([at("a", 16 * 1024 * 1024), at("b", 1)]),
        bundle([at(f"{n:05}") for n in range(2001)]),
        bundle([{**FILE, "mode": 511}]),
        bundle([{"path": "a", "size": 1}]),
        bundle([{**FILE, "sha256": "0" * 63}]),
        bundle([FILE], version=0),
        bundle([FILE], version="3"),
        bundle([FILE], extra=1),
        bundle([FILE], typ="trust"),
        bundle([FILE], v=2),
    ],
    ids=lambda body: repr(body[35:80]),
)
def test_bundles_of_another_form(fleet: Fleet, body: bytes) -> None:
    with pytest.raises(messages.Denied) as caught:
        install(fleet, body, fleet.ana)
    assert caught.value.code == "bad-bundle"
