"""Keys with less than all rights; trust files and bundles that must not get in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .attack import attack
from .attacker import BUNDLE, COMMAND, TRUST, Key, Sig, encode, framed, key_line, new_op, signed
from .operator import eventually
from .target import Fleet
from .victim import Victim, fresh_victim, listing

CRON = {"unit": "cron"}
KEYS = "/etc/ssh/serverflow_authorized_keys"
NEUTRAL = b"\1" + bytes(31)  # the point of order 1: as a key it "signs" everything


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def victim(fleet: Fleet, folder: Path) -> Iterator[Victim]:
    with fresh_victim(fleet, folder) as found:
        yield found


@pytest.fixture(scope="module")
def keys(victim: Victim, folder: Path) -> dict[str, Key]:
    """Narrow keys, in a trust version that was made and signed by hand. `nobody` has a key of small order."""
    found = {name: Key.make(folder, name) for name in ("ci", "past", "future", "elsewhere", "ghost", "stranger")}
    here, now = victim.client.server_id, 1_700_000_000_000

    def grant(action: str = "service.restart", **changes: Any) -> list[dict[str, Any]]:
        return [{"actions": [action], "where": CRON, "servers": [here], **changes}]

    entries: dict[str, dict[str, Any]] = {
        "ci": {"grants": grant()},
        "past": {"expires": now},
        "future": {"not_before": 200 * now // 100},
        "elsewhere": {"grants": grant(servers=["ab" * 32])},
        "ghost": {"grants": grant("ghost.walk", where={})},
    }
    listed = [victim.command_key(found[name], name=name, **changes) for name, changes in entries.items()]
    nobody = {**listed[0], "name": "nobody", "key": key_line(NEUTRAL), "ssh": []}
    victim.push_trust(*listed, nobody)
    return found


# --- narrow keys -----------------------------------------------------------------------------------------------------

GRANTS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "what it may": ("ci", "service.restart", CRON, "done"),
    "another action": ("ci", "user.create", {"name": "mallory"}, "not-granted"),
    "a read that was not granted": ("ci", "system.info", {}, "not-granted"),
    "another parameter": ("ci", "service.restart", {"unit": "dbus"}, "not-granted"),
    "the same unit by another name": ("ci", "service.restart", {"unit": "cron.service"}, "not-granted"),
    "the parameter in a list": ("ci", "service.restart", {"unit": ["cron"]}, "not-granted"),
    "without the parameter": ("ci", "service.restart", {}, "not-granted"),
    "on this server with a key for another": ("elsewhere", "service.restart", CRON, "not-granted"),
    "with an expired key": ("past", "service.restart", CRON, "key-expired"),
    "with a key for later": ("future", "service.restart", CRON, "key-expired"),
    "an action that the bundle does not have": ("ghost", "ghost.walk", {}, "unknown-action"),
    "with a key that nobody listed": ("stranger", "service.restart", CRON, "refused"),
}


@pytest.mark.parametrize(("who", "action", "params", "verdict"), GRANTS.values(), ids=GRANTS)
@attack("key without permission", stopped_by="grants by action and server", case="another action")
@attack(
    "key without permission", stopped_by="grants by action and server", case="on this server with a key for another"
)
@attack(
    "parameter outside its constraint", stopped_by="the grant's constraint, compared as text", case="another parameter"
)
@attack(
    "parameter outside its constraint",
    stopped_by="the grant's constraint, compared as text",
    case="without the parameter",
)
@attack("expired key", stopped_by="the dates of the key", case="with an expired key")
def test_a_key_may_do_what_it_was_granted(
    victim: Victim, keys: dict[str, Key], who: str, action: str, params: dict[str, Any], verdict: str
) -> None:
    before = victim.canary()
    with victim.client.session() as session:
        session.send_command(session.command(action, params), key=keys[who])
        assert session.echoed(session.answer()).verdict == verdict
    assert (victim.canary() == before) == (verdict != "done")


@attack("small-order key or point", stopped_by="small order is refused, and nothing is multiplied by the cofactor")
def test_a_key_of_small_order_signs_nothing_even_when_root_lists_it(victim: Victim, keys: dict[str, Key]) -> None:
    with victim.untouched(), victim.client.session() as session:
        body = encode(session.command("service.restart", CRON))
        session.send(framed(signed(body, Sig(NEUTRAL, NEUTRAL + bytes(32), COMMAND).blob())) + framed(b""))
        assert session.answer().verdict == "refused"


@attack("key without permission", stopped_by="grants by action and server")
def test_a_narrow_key_cannot_look_at_what_others_do_nor_stop_it(victim: Victim, keys: dict[str, Key]) -> None:
    op = new_op()
    assert victim.client.ask("service.restart", CRON, op_id=op).verdict == "done"
    for action, params in (("op.status", {"op": op}), ("op.cancel", {"op": op}), ("op.list", {}), ("audit.read", {})):
        with victim.client.session() as session:
            session.send_command(session.command(action, params), key=keys["ci"])
            assert session.answer().verdict == "not-granted"


# --- trust files -----------------------------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], dict[str, Any]]


def _role(role: str, **changes: Any) -> Change:
    return lambda trust: {**trust, "roles": {**trust["roles"], role: {**trust["roles"][role], **changes}}}


def _key(**changes: Any) -> Change:
    """The operator's own command key with other fields."""
    return lambda trust: _role("command", keys=[{**trust["roles"]["command"]["keys"][0], **changes}])(trust)


def _more(**changes: Any) -> Change:
    return lambda trust: {**trust, **changes}


def _twice(trust: dict[str, Any]) -> dict[str, Any]:
    (key,) = trust["roles"]["root"]["keys"]
    return _role("root", threshold=2, keys=[key, {"name": "bob", "key": key_line(bytes(range(32)))}])(trust)


#: What the body says, who signs it, for which namespace, and the answer.
TRUSTS: dict[str, tuple[Change, str, str, str]] = {
    "signed by a command key": (_more(), "command", TRUST, "refused"),
    "signed by a release key": (_more(), "release", TRUST, "refused"),
    "signed by a stranger": (_more(), "stranger", TRUST, "refused"),
    "signed by root as a command": (_more(), "root", COMMAND, "refused"),
    "signed by root as a bundle": (_more(), "root", BUNDLE, "refused"),
    "the version that is there": (lambda t: {**t, "version": t["version"] - 1}, "root", TRUST, "unchanged"),
    "version 1": (_more(version=1), "root", TRUST, "older-version"),
    "a version too far": (lambda t: {**t, "version": t["version"] + 1}, "root", TRUST, "bad-trust"),
    "another fleet": (_more(fleet="ab" * 16), "root", TRUST, "bad-trust"),
    "another root, signed by the old one only": (
        lambda t: _role("root", keys=[{"name": "eve", "key": key_line(bytes(range(32)))}])(t), "root", TRUST, "refused",
    ),
    "two signatures needed, one given": (_twice, "root", TRUST, "bad-trust"),
    "a threshold of 0": (_role("root", threshold=0), "root", TRUST, "bad-trust"),
    "a command by root as trust": (lambda t: {"v": 1, "typ": "command"}, "root", TRUST, "bad-trust"),
    "a key too many": (_more(sudo=True), "root", TRUST, "bad-trust"),
    "a login with an option": (_key(ssh=['command="sh" ' + key_line(bytes(32))]), "root", TRUST, "bad-trust"),
    "a login of two lines": (_key(ssh=[key_line(bytes(32)) + "\n" + key_line(bytes(32))]), "root", TRUST, "bad-trust"),
    "a login with a comment": (_key(ssh=[key_line(bytes(32)) + " eve"]), "root", TRUST, "bad-trust"),
    "a name of two lines": (_key(name="ana\n" + key_line(bytes(32))), "root", TRUST, "bad-trust"),
    "an address with an option": (_key(**{"from": ['1.2.3.4",command="sh']}), "root", TRUST, "bad-trust"),
    "all addresses but one": (_key(**{"from": ["!1.2.3.4"]}), "root", TRUST, "bad-trust"),
    "a glob as an action": (_key(grants=[{"actions": ["*"], "where": {}, "servers": []}]), "root", TRUST, "bad-trust"),
    "an expiry beyond all calendars": (_key(expires=2**53 - 1), "root", TRUST, "bad-trust"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "who", "namespace", "verdict"), TRUSTS.values(), ids=TRUSTS)
@attack(
    "a command signature used as trust or bundle", stopped_by="each role has its keys", case="signed by a command key"
)
@attack("downgraded trust", stopped_by="versions go up by one", case="version 1")
@attack("forged trust", stopped_by="the root threshold of the old and of the new version")
def test_a_trust_file_that_must_not_get_in(
    victim: Victim, keys: dict[str, Key], change: Change, who: str, namespace: str, verdict: str
) -> None:
    signer = keys.get(who) or Key(victim.operator.private / who)
    before = victim.trust_version(), victim.target.run("cat", KEYS).stdout
    body = encode(change(json.loads(victim.next_trust())))
    assert victim.client.push(namespace, body, signer).verdict == verdict
    assert (victim.trust_version(), victim.target.run("cat", KEYS).stdout) == before


@attack("forged trust", stopped_by="the root threshold of the old and of the new version")
def test_a_key_counts_once_however_often_it_signs(victim: Victim, keys: dict[str, Key]) -> None:
    body = encode(_twice(json.loads(victim.next_trust())))
    before = victim.trust_version()
    assert victim.client.push(TRUST, body, victim.root, victim.root, victim.root).verdict == "bad-trust"
    assert victim.client.push(TRUST, body, victim.root, keys["stranger"]).verdict == "bad-trust"
    assert victim.trust_version() == before


@attack("downgraded trust", stopped_by="versions go up by one")
def test_trust_that_was_current_once_does_not_come_back(victim: Victim, keys: dict[str, Key]) -> None:
    """With its true signature: a rollback would bring revoked keys back."""
    old = victim.trust_version() - 1
    body = victim.target.run("cat", f"/etc/serverflow/trust/{old}.json").stdout.encode()
    assert victim.client.push(TRUST, body, victim.root).verdict == "older-version"
    assert victim.trust_version() == old + 1


# --- revocation ------------------------------------------------------------------------------------------------------


@attack("revoked key, by signature", stopped_by="the trust file of the moment, read again before anything runs")
@attack("revoked key, by SSH login", stopped_by="the login keys are made from the trust file")
def test_a_revoked_key_neither_logs_in_nor_signs(victim: Victim, keys: dict[str, Key], folder: Path) -> None:
    key = Key.make(folder, "leaver")
    leaver = victim.client.as_(key, login=key)
    listed = [each for each in victim.trust()["roles"]["command"]["keys"] if each["name"] != "leaver"]
    victim.push_trust(victim.command_key(key, name="leaver"))
    assert leaver.ask("service.restart", CRON).verdict == "done"
    with leaver.session() as early:  # greeted while the key was good
        trust = victim.trust()
        trust = {**_role("command", keys=listed)(trust), "version": trust["version"] + 1}
        assert victim.client.push(TRUST, encode(trust), victim.root).verdict == "done"
        with victim.untouched():
            early.send_command(early.command("service.restart", CRON))
            assert early.answer().verdict == "refused"
            with leaver.session() as late:  # the connection is open still, a new one is not had
                late.send_command(late.command("service.restart", CRON))
                assert late.answer().verdict == "refused"
            with victim.client.session() as lent:
                lent.send_command(lent.command("service.restart", CRON), key=key)
                assert lent.answer().verdict == "refused"
            denied = leaver.ssh(f"sf1 {'ab' * 32}")
            assert (denied.returncode, denied.stdout) == (255, b"")
            assert b"Permission denied" in denied.stderr
    leaver.close()


@attack("expired key", stopped_by="the dates of the key")
def test_an_expired_key_does_not_log_in(victim: Victim, keys: dict[str, Key]) -> None:
    denied = victim.client.as_(keys["past"], login=keys["past"]).ssh(f"sf1 {'ab' * 32}")
    assert (denied.returncode, denied.stdout) == (255, b"")


@attack("a deploy key used from elsewhere", stopped_by="`from` of the key")
def test_a_login_that_is_bound_to_an_address_opens_from_nowhere_else(victim: Victim, folder: Path) -> None:
    key = Key.make(folder, "office")
    victim.push_trust(victim.command_key(key, name="office", **{"from": ["203.0.113.0/24"]}))
    denied = victim.client.as_(key, login=key).ssh(f"sf1 {'ab' * 32}")
    assert (denied.returncode, denied.stdout) == (255, b"")


# --- bundles ---------------------------------------------------------------------------------------------------------

#: More in the manifest, who signs it, for which namespace, and the answer. The content sent is what the files say.
BUNDLES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "signed by a command key": ({}, "command", BUNDLE, "refused"),
    "signed by root": ({}, "root", BUNDLE, "refused"),
    "signed by a stranger": ({}, "stranger", BUNDLE, "refused"),
    "signed by release as a command": ({}, "release", COMMAND, "refused"),
    "signed by release as trust": ({}, "release", TRUST, "refused"),
    "version 1": ({"version": 1}, "release", BUNDLE, "older-version"),
    "version 0": ({"version": 0}, "release", BUNDLE, "bad-bundle"),
    "another type": ({"typ": "command"}, "release", BUNDLE, "bad-bundle"),
    "a version that uses the numbers up": ({"version": 2**31}, "release", BUNDLE, "bad-bundle"),
    "no files": ({"files": []}, "release", BUNDLE, "bad-bundle"),
    "a key too many": ({"run": "id"}, "release", BUNDLE, "bad-bundle"),
    **{
        f"the path {path!r}": (
            {"files": [{"path": path, "size": 0, "sha256": "00" * 32}]}, "release", BUNDLE, "bad-bundle",
        )
        for path in (
            "../../../../../canary", "/canary", "a/../../canary", "./canary", "a//b", "a/", "a\n", "a\0", "", "~/a",
            "a b",
        )
    },
    "a file twice": ({"files": listing({"a": b""}) * 2}, "release", BUNDLE, "bad-bundle"),
    "files out of order": ({"files": listing({"a": b"", "b": b""})[::-1]}, "release", BUNDLE, "bad-bundle"),
    "a file that is a folder": ({"files": listing({"a": b"", "a/b": b""})}, "release", BUNDLE, "bad-bundle"),
    "more than 16 MiB": (
        {"files": [{"path": "a", "size": 2**24 + 1, "sha256": "00" * 32}]}, "release", BUNDLE, "bad-bundle",
    ),
    "a file with another hash": (
        {"files": [{"path": "a", "size": 1, "sha256": "00" * 32}]}, "release", BUNDLE, "bad-bundle",
    ),
}  # fmt: skip


def _bundles(victim: Victim) -> tuple[int, str, str]:
    """The version, what is there besides, and whether a canary was dropped."""
    there = victim.target.run("ls", "-A", "/usr/local/libexec/serverflow/versions").stdout
    return (
        victim.bundle_version(),
        there,
        victim.target.run("sh", "-c", "ls -d /canary /usr/local/canary || true").stdout,
    )


@pytest.mark.parametrize(("changes", "who", "namespace", "verdict"), BUNDLES.values(), ids=BUNDLES)
@attack("downgraded bundle", stopped_by="versions only go up", case="version 1")
@attack(
    "a command signature used as trust or bundle", stopped_by="each role has its keys", case="signed by a command key"
)
@attack("tampered bundle", stopped_by="the release key's signature over every file's hash")
def test_a_bundle_that_must_not_get_in(
    victim: Victim, keys: dict[str, Key], changes: dict[str, Any], who: str, namespace: str, verdict: str
) -> None:
    signer = keys.get(who) or Key(victim.operator.private / who)
    before = _bundles(victim)
    files = {"runner.py": b"open('/canary', 'w')\n"}
    manifest = {"v": 1, "typ": "bundle", "version": before[0] + 1, "files": listing(files), **changes}
    content = [files["runner.py"]] if "files" not in changes else [b"x"]
    assert victim.client.push(namespace, encode(manifest), signer, content=content).verdict == verdict
    assert _bundles(victim) == before


@attack("tampered bundle", stopped_by="the release key's signature over every file's hash")
def test_a_bundle_that_breaks_off_is_not_installed(victim: Victim, keys: dict[str, Key]) -> None:
    before = _bundles(victim)
    files = victim.bundle_files()
    manifest = {"v": 1, "typ": "bundle", "version": before[0] + 1, "files": listing(files)}
    with victim.untouched(), victim.client.session() as session:
        session.send(framed(signed(encode(manifest), victim.release.sshsig(BUNDLE, encode(manifest)))))
        assert session.frame() == ("G", b"{}")
        session.send(b"".join(files[path] for path in sorted(files))[:-1])
        session.close_input()
        assert session.answer().verdict == "closed"
    eventually(lambda: _bundles(victim) == before, "nothing is left of it")


@attack("tampered bundle", stopped_by="the release key's signature over every file's hash")
def test_a_changed_byte_in_a_bundles_file_is_noticed(victim: Victim, keys: dict[str, Key]) -> None:
    before, files = _bundles(victim), victim.bundle_files()
    true = listing(files)
    files["verify.py"] = files["verify.py"].replace(b"return False", b"return True ", 1)
    with victim.untouched():
        assert victim.push_bundle(files, files=true).verdict == "bad-bundle"
        assert _bundles(victim) == before


@attack("downgraded bundle", stopped_by="versions only go up")
def test_a_right_bundle_gets_in_and_the_one_before_does_not_come_back(victim: Victim, keys: dict[str, Key]) -> None:
    old = victim.target.run("cat", "/usr/local/libexec/serverflow/current/bundle.json").stdout.encode()
    version, files = victim.bundle_version(), victim.bundle_files()
    with victim.untouched():
        assert victim.push_bundle(files).verdict == "done"
        assert victim.client.push(BUNDLE, old, victim.release).verdict == "older-version"
        assert victim.bundle_version() == version + 1
