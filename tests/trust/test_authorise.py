"""The verification order of a command: one attack a step, and each step taken out alone lets its attack through."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

import authorise
import messages
import verify
from serverflow_cli.trust import sshsig, trustfile

from .conftest import DAY, NOW, Fleet, encode

Sign = Callable[..., verify.Signed]

OWN, OTHERS = "01J0000000000000000000000B", "01J0000000000000000000000C"


def judge(fleet: Fleet, signed: verify.Signed, **changes: Any) -> authorise.Verified:
    world: dict[str, Any] = {
        "trust": fleet.server_trust,
        "server_id": fleet.server_id,
        "challenge": "c" * 64,
        "hello_clock_ms": NOW,
        "elapsed_ms": 1_000,
        "now_ms": NOW + 1_000,
        "bundle_registry": fleet.registry,
        **changes,
    }
    return authorise.verify_command(signed, **world)


@dataclass(frozen=True)
class Attack:
    """What is wrong, the step that must see it, and the code that it answers ("" for the generic refusal)."""

    step: str
    code: str
    body: dict[str, Any] = field(default_factory=dict)
    by: tuple[str, ...] = ("ci",)
    namespace: str = sshsig.COMMAND
    world: dict[str, Any] = field(default_factory=dict)
    altered: bool = False


def scheduling(*pairs: str, action: str = "service.restart") -> dict[str, Any]:
    """`app` is a parameter of cron.add here, which binds ci's grant for that one: it says nothing of the other."""
    params = {"app": "shop", "action": action, "params": list(pairs)}
    return {"action": "cron.add", "action_version": 1, "params": params}


ATTACKS = {
    "signed as trust": Attack("only_signature", "", namespace=sshsig.TRUST),
    "signed as bundle": Attack("only_signature", "", namespace=sshsig.BUNDLE),
    "signed as receipt": Attack("only_signature", "", namespace=sshsig.RECEIPT),
    "two signatures": Attack("only_signature", "", by=("ci", "ana")),
    "unknown key": Attack("known_key", "", by=("stranger",)),
    "altered after signing": Attack("check_signature", "", altered=True),
    "key expired": Attack("check_key_dates", "key-expired", world={"now_ms": NOW + 90 * DAY}),
    "another version of the protocol": Attack("check_kind", "bad-frame", {"v": 2}),
    "another type": Attack("check_kind", "bad-frame", {"typ": "trust"}),
    "another server": Attack("check_server", "wrong-server", {"server_id": "0" * 64}),
    "replay": Attack("check_challenge", "wrong-challenge", {"challenge": "d" * 64}),
    "client ahead": Attack("check_trust_version", "trust-ahead", {"trust_version": 2}),
    "trust expired": Attack("check_trust_date", "trust-expired", by=("ana",)),
    "slow": Attack("check_time", "stale", {"expires_at": NOW + 300_000}, world={"elapsed_ms": 300_001}),
    "time runs backwards": Attack("check_time", "stale", world={"elapsed_ms": -1}),
    "issued before": Attack("check_time", "stale", {"issued_at": NOW - 300_001, "expires_at": NOW - 10}),
    "issued later": Attack("check_time", "stale", {"issued_at": NOW + 300_001, "expires_at": NOW + 300_002}),
    "lives too long": Attack("check_time", "stale", {"expires_at": NOW + 300_001}),
    "lives no time": Attack("check_time", "stale", {"expires_at": NOW}),
    "expired": Attack("check_time", "stale", {"expires_at": NOW + 999}),
    "not granted": Attack("check_grant", "not-granted", {"action": "user.add"}),
    "outside its constraint": Attack("check_grant", "not-granted", {"params": {"unit": "x", "app": "bank"}}),
    "constraint left out": Attack("check_grant", "not-granted", {"params": {"unit": "x"}}),
    "constraint as a list": Attack("check_grant", "not-granted", {"params": {"app": ["shop"]}}),
    "unknown action": Attack("look_up", "unknown-action", {"action": "safe.confirm"}, by=("ana",)),
    "another version": Attack("look_up", "action-version", {"action_version": 3}),
    "marks what it does not apply": Attack(
        "check_resource", "bad-params", {"base": {"resource": "redis.cache", "from": "", "to": ""}}
    ),
    "schedules what it may not run": Attack("check_scheduled", "not-granted", scheduling(action="user.add")),
    "schedules it with other parameters": Attack("check_scheduled", "not-granted", scheduling("unit=x", "app=bank")),
    "schedules it without its parameters": Attack("check_scheduled", "not-granted", scheduling()),
    "schedules it for several": Attack("check_scheduled", "not-granted", scheduling("app=shop", "app=bank")),
    "schedules with what is no parameter": Attack("check_scheduled", "bad-params", scheduling("app=shop", "unit")),
    "schedules with a name that is none": Attack("check_scheduled", "bad-params", scheduling("app=shop", "=nginx")),
    "schedules with text for a list": Attack(
        "check_scheduled",
        "bad-params",
        {
            "action": "cron.add",
            "action_version": 1,
            "params": {"app": "shop", "action": "service.restart", "params": "app=shop"},
        },
    ),
}

# Taken out, a step answers what it would have answered to an honest command.
TAKEN_OUT: dict[str, Callable[..., Any]] = {
    "only_signature": lambda signed: verify.SshSig(
        signed.signatures[0].public_key, signed.namespace, signed.signatures[0].signature
    ),
    "known_key": lambda trust, signature: trust.command[1],
    "look_up": lambda command, registry: {},
}


def frame(fleet: Fleet, sign: Sign, attack: Attack) -> verify.Signed:
    body = encode(fleet.command(**attack.body))
    signed = sign(body, *(getattr(fleet, name) for name in attack.by), namespace=attack.namespace)
    if attack.altered:
        other = body.replace(b"nginx", b"mysql")
        return verify.Signed(signed.namespace, signed.signatures, other, signed.blobs)
    return signed


def changed_trust(fleet: Fleet, **changes: Any) -> messages.Trust:
    return messages.parse_trust(trustfile.body(replace(fleet.trust, **changes)))


def world(fleet: Fleet, attack: Attack) -> dict[str, Any]:
    if attack.code == "trust-expired":
        return {"trust": changed_trust(fleet, expires=NOW)}
    return attack.world


def test_an_honest_command_passes(fleet: Fleet, signed: Sign) -> None:
    for key in (fleet.ci, fleet.ana):
        verified = judge(fleet, signed(encode(fleet.command()), key))
        assert verified.command.action == "service.restart"
        assert verified.key.public_key == key.public_key
        assert verified.entry["version"] == 2


@pytest.mark.parametrize("name", ATTACKS)
def test_refused(fleet: Fleet, signed: Sign, name: str) -> None:
    attack = ATTACKS[name]
    expected = messages.Denied if attack.code else verify.Refused
    with pytest.raises(expected) as caught:
        judge(fleet, frame(fleet, signed, attack), **world(fleet, attack))
    if isinstance(caught.value, messages.Denied):
        assert caught.value.code == attack.code
        assert caught.value.key is not None
        assert (caught.value.command is None) == (attack.step == "check_key_dates")


@pytest.mark.parametrize("name", ATTACKS)
def test_no_other_step_would_have_seen_it(
    fleet: Fleet, signed: Sign, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the test above fails as soon as its step is removed."""
    attack = ATTACKS[name]
    monkeypatch.setattr(authorise, attack.step, TAKEN_OUT.get(attack.step, lambda *_: None))
    assert judge(fleet, frame(fleet, signed, attack), **world(fleet, attack))


def test_root_and_release_keys_are_no_command_keys(fleet: Fleet, signed: Sign) -> None:
    with pytest.raises(verify.Refused):
        judge(fleet, signed(encode(fleet.command()), fleet.ana), trust=changed_trust(fleet, command=()))


def test_expired_trust_still_lets_a_waiting_change_be_confirmed(fleet: Fleet, signed: Sign) -> None:
    registry = {"v": 1, "actions": {"safe.confirm": {"version": 1}}}
    body = encode(fleet.command(action="safe.confirm", action_version=1))
    assert judge(fleet, signed(body, fleet.ana), trust=changed_trust(fleet, expires=NOW), bundle_registry=registry)


def test_an_expired_key_is_told_only_to_its_holder(fleet: Fleet, signed: Sign) -> None:
    forged = frame(fleet, signed, ATTACKS["altered after signing"])
    with pytest.raises(verify.Refused):
        judge(fleet, forged, now_ms=NOW + 90 * DAY)


def ending(fleet: Fleet, **changes: Any) -> dict[str, Any]:
    """ci confirms its own change, for which it has no grant."""
    body = {"action": "safe.confirm", "action_version": 1, "params": {"op": OWN}, **changes}
    registry = {"v": 1, "actions": {name: {"version": 1} for name in ("safe.confirm", "safe.rollback", "safe.show")}}
    waiting = authorise.Pending(OWN, fleet.ci.public_key)
    return {"body": fleet.command(**body), "bundle_registry": registry, "pending": waiting}


@pytest.mark.parametrize("action", ["safe.confirm", "safe.rollback"])
def test_whoever_made_the_change_that_waits_may_end_it(fleet: Fleet, signed: Sign, action: str) -> None:
    world = ending(fleet, action=action)
    frame = signed(encode(world.pop("body")), fleet.ci)
    verified = judge(fleet, frame, **world)
    assert verified.key.public_key == fleet.ci.public_key
    authorise.verify_again(
        frame, verified.command, verified.entry, trust=fleet.server_trust, now_ms=NOW, pending=world["pending"]
    )
    with pytest.raises(messages.Denied, match="may not run"):
        authorise.verify_again(frame, verified.command, verified.entry, trust=fleet.server_trust, now_ms=NOW)


NOT_ITS_OWN: dict[str, dict[str, Any]] = {
    "nothing waits": {"pending": lambda fleet: None},
    "somebody else's": {"pending": lambda fleet: authorise.Pending(OWN, fleet.ana.public_key)},
    "nobody's": {"pending": lambda fleet: authorise.Pending(OWN, b"")},
    "another operation": {"params": {"op": OTHERS}},
    "no operation": {"params": {}},
    "a list": {"params": {"op": [OWN]}},
    "more parameters": {"params": {"op": OWN, "app": "shop"}},
    "another action": {"action": "safe.show"},
}


@pytest.mark.parametrize("name", NOT_ITS_OWN)
def test_nobody_ends_the_change_of_others_without_a_grant(fleet: Fleet, signed: Sign, name: str) -> None:
    changes = dict(NOT_ITS_OWN[name])
    waiting = changes.pop("pending", None)
    world = ending(fleet, **changes)
    if waiting:
        world["pending"] = waiting(fleet)
    frame = signed(encode(world.pop("body")), fleet.ci)
    with pytest.raises(messages.Denied) as denied:
        judge(fleet, frame, **world)
    assert denied.value.code == "not-granted"


def test_a_grant_covers_the_changes_of_all(fleet: Fleet, signed: Sign) -> None:
    world = ending(fleet)
    assert judge(fleet, signed(encode(world.pop("body")), fleet.ana), **world)


def test_a_key_that_has_expired_ends_nothing(fleet: Fleet, signed: Sign) -> None:
    world = ending(fleet)
    with pytest.raises(messages.Denied) as denied:
        judge(fleet, signed(encode(world.pop("body")), fleet.ci), now_ms=NOW + 90 * DAY, **world)
    assert denied.value.code == "key-expired"


@pytest.mark.parametrize("pairs", [("app=shop",), ("unit=nginx.service", "app=shop")])
def test_scheduling_what_it_may_run(fleet: Fleet, signed: Sign, pairs: tuple[str, ...]) -> None:
    frame = signed(encode(fleet.command(**scheduling(*pairs))), fleet.ci)
    verified = judge(fleet, frame)
    authorise.verify_again(frame, verified.command, verified.entry, trust=fleet.server_trust, now_ms=NOW)


def test_whoever_may_run_it_with_all_parameters_may_schedule_it_with_none(fleet: Fleet, signed: Sign) -> None:
    body = fleet.command(action="cron.add", action_version=1, params={"action": "service.restart"})
    assert judge(fleet, signed(encode(body), fleet.ana))


def test_a_grant_for_the_other_action_is_none_for_scheduling_it(fleet: Fleet, signed: Sign) -> None:
    body = scheduling("app=shop")
    body["params"] = {**body["params"], "app": "bank"}
    with pytest.raises(messages.Denied, match=r"may not run cron\.add"):
        judge(fleet, signed(encode(fleet.command(**body)), fleet.ci))


def test_a_grant_that_went_while_the_command_waited_is_missed(fleet: Fleet, signed: Sign) -> None:
    frame = signed(encode(fleet.command(**scheduling("app=shop"))), fleet.ci)
    verified = judge(fleet, frame)
    left = trustfile.Grant(("cron.add",), (fleet.server_id,))
    trust = changed_trust(fleet, command=(fleet.trust.command[0], replace(fleet.trust.command[1], grants=(left,))))
    with pytest.raises(messages.Denied, match="asks to schedule"):
        authorise.verify_again(frame, verified.command, verified.entry, trust=trust, now_ms=NOW)


@pytest.mark.parametrize(
    ("given", "wanted", "equal"),
    [
        ("shop", "shop", True),
        ("Shop", "shop", False),
        ("shop ", "shop", False),
        (5, "5", True),
        ("5", "5", True),
        (5, "05", False),
        (True, "true", True),
        (True, "True", False),
        (True, "1", False),
        (False, "false", True),
        (["shop"], "shop", False),
        (["shop"], "['shop']", False),
        (None, "None", False),
    ],
)
def test_constraints_compare_texts(fleet: Fleet, given: Any, wanted: str, equal: bool) -> None:
    grant = messages.Grant(frozenset(["app.deploy"]), {"app": wanted}, frozenset([fleet.server_id]))
    key = messages.CommandKey("ci", bytes(32), (), (), 0, 0, (grant,))
    params = {} if given is None else {"app": given}
    assert authorise.granted(key, "app.deploy", params, fleet.server_id) is equal


def test_one_grant_must_cover_all_of_it(fleet: Fleet) -> None:
    here = messages.Grant(frozenset(["app.deploy"]), {"app": "bank"}, frozenset([fleet.server_id]))
    elsewhere = messages.Grant(frozenset(["app.deploy"]), {"app": "shop"}, frozenset(["0" * 64]))
    key = messages.CommandKey("ci", bytes(32), (), (), 0, 0, (here, elsewhere))
    assert not authorise.granted(key, "app.deploy", {"app": "shop"}, fleet.server_id)


@pytest.mark.parametrize(
    "change",
    [
        {"v": True},
        {"v": "1"},
        {"server_id": "5E" * 32},
        {"server_id": "5e" * 31},
        {"challenge": None},
        {"op_id": "01J0000000000000000000000I"},
        {"op_id": "81J0000000000000000000000A"},
        {"op_id": "01J0000000000000000000000A\n"},
        {"action": "service.*"},
        {"action": "service.restart\n"},
        {"action": "../etc/passwd"},
        {"action_version": 0},
        {"action_version": True},
        {"params": []},
        {"params": {"a": None}},
        {"params": {"a": {}}},
        {"params": {"a": [1]}},
        {"params": {"a": [["x"]]}},
        {"params": {"-a": "x"}},
        {"params": {"__class__": "x"}},
        {"trust_version": 0},
        {"issued_at": -1},
        {"issued_at": "now"},
        {"limits": {"timeout_s": 0}},
        {"limits": {"memory": -1}},
        {"limits": {"cpu": 1}},
        {"mode": "apply"},
        {"confirm_s": 3601},
        {"confirm_s": False},
        {"base": {}},
        {"base": {"resource": "redis.cache", "from": "", "to": "0"}},
        {"base": {"resource": "a b", "from": "", "to": "0" * 64}},
        {"plan_sha256": ""},
        {"secrets_commit": "x"},
        {"blobs": {}},
        {"blobs": [{"sha256": "0" * 64}]},
        {"blobs": [{"sha256": "0" * 64, "size": -1}]},
        {"prev_receipt": None},
        {"actor": "x" * 65},
        {"extra": 1},
    ],
    ids=repr,
)
def test_the_schema_is_closed(fleet: Fleet, change: dict[str, Any]) -> None:
    with pytest.raises(messages.Denied) as caught:
        messages.parse_command(encode(fleet.command(**change)))
    assert caught.value.code == "bad-frame"


def test_no_key_may_be_missing(fleet: Fleet) -> None:
    whole = fleet.command()
    assert len(whole) == 20
    for name in whole:
        with pytest.raises(messages.Denied):
            messages.parse_command(encode({key: value for key, value in whole.items() if key != name}))


def test_a_command_has_at_most_64_kib(fleet: Fleet) -> None:
    body = encode(fleet.command())
    assert messages.parse_command(body + b" " * (verify.COMMAND_LIMIT - len(body)))
    with pytest.raises(messages.Denied):
        messages.parse_command(body + b" " * (verify.COMMAND_LIMIT - len(body) + 1))


SALT = b"\x07" * 32


def committed(fleet: Fleet, frame: bytes, **changes: Any) -> messages.Command:
    body = fleet.command(secrets_commit=hashlib.sha256(frame).hexdigest(), **changes)
    return messages.parse_command(encode(body))


def test_secrets_that_were_committed_to(fleet: Fleet) -> None:
    frame = SALT + encode({"password": "hunter2 é"})
    assert authorise.check_secrets(committed(fleet, frame), frame, ["password"]) == {"password": "hunter2 é"}
    assert authorise.check_secrets(messages.parse_command(encode(fleet.command())), b"", ["password"]) == {}


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        SALT,
        SALT[:10],
        SALT + b"[]",
        SALT + b"{",
        SALT + encode({"other": "x"}),
        SALT + encode({"password": 5}),
        SALT + encode({"password": None}),
        SALT + encode({"password": "x" * 8193}),
        SALT + b'{"password": "a", "password": "b"}',
        SALT + encode({"password": "x"}) + b" " * verify.SECRETS_LIMIT,
    ],
    ids=lambda frame: repr(frame[32:60]),
)
def test_secrets_of_another_form(fleet: Fleet, frame: bytes) -> None:
    with pytest.raises(messages.Denied) as caught:
        authorise.check_secrets(committed(fleet, frame), frame, ["password"])
    assert caught.value.code == "bad-secrets"
    assert "x" * 20 not in caught.value.message


def test_secrets_that_do_not_match(fleet: Fleet) -> None:
    frame = SALT + encode({"password": "x"})
    plain = messages.parse_command(encode(fleet.command()))
    in_params = committed(fleet, frame, params={"password": "x"})
    for command, sent in ((plain, frame), (committed(fleet, frame), frame + b" "), (in_params, frame)):
        with pytest.raises(messages.Denied) as caught:
            authorise.check_secrets(command, sent, ["password"])
        assert caught.value.code == "bad-secrets"


def test_a_wait_is_followed_by_another_look(fleet: Fleet, signed: Sign) -> None:
    """While it waited for blobs or for the lock, a key may have been revoked or narrowed, or dates have passed."""
    frame = signed(encode(fleet.command()), fleet.ci)
    verified = judge(fleet, frame)
    ana, ci = fleet.trust.command

    def again(trust: trustfile.Trust = fleet.trust, now: int = NOW) -> None:
        server = messages.parse_trust(trustfile.body(trust))
        authorise.verify_again(frame, verified.command, verified.entry, trust=server, now_ms=now)

    again()
    with pytest.raises(verify.Refused):
        again(replace(fleet.trust, command=(ana,)))
    for code, trust, now in (
        ("key-expired", fleet.trust, NOW + 90 * DAY),
        ("trust-expired", replace(fleet.trust, expires=NOW), NOW),
        ("not-granted", replace(fleet.trust, command=(ana, replace(ci, grants=()))), NOW),
    ):
        with pytest.raises(messages.Denied) as denied:
            again(trust, now)
        assert denied.value.code == code


@pytest.mark.parametrize(
    ("pattern", "resource", "right"),
    [
        ("redis.{name}", "redis.cache", True),
        ("redis.{name}", "redis.other", False),
        ("redis.{name}", "user.cache", False),
        ("package.all", "package.all", True),
        ("package.all", "package.cache", False),
        ("config.{kind}", "config.cache", False),
        ("config.{name}", "config.cache", True),
        ("", "redis.cache", False),
    ],
)
def test_a_base_is_of_what_the_action_applies(fleet: Fleet, pattern: str, resource: str, right: bool) -> None:
    base = {"resource": resource, "from": "", "to": ""}
    command = messages.parse_command(encode(fleet.command(params={"name": "cache"}, base=base)))
    if right:
        authorise.check_resource(command, {"resource": pattern})
    else:
        with pytest.raises(messages.Denied):
            authorise.check_resource(command, {"resource": pattern})
