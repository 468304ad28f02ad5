"""Old and new side by side: sf and a server of other versions, and bundles that several release keys sign. What does
not fit together is said clearly, with the side that is to be updated, and nothing is done by halves.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serverflow_cli.trust import bundle, chain, keys, sshsig
from serverflow_cli.trust.trustfile import Role, RootKey

from .attacker import BUNDLE, encode
from .operator import Operator
from .target import Fleet
from .victim import Victim, fresh_victim

CRON = {"unit": "cron"}
RESTART = ("service", "restart", "cron", "--on", "victim", "--yes")


@pytest.fixture(scope="module")
def victim(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with fresh_victim(fleet, tmp_path_factory.mktemp("versions")) as found:
        yield found


@contextlib.contextmanager
def other_version(victim: Victim, path: str, change: Callable[[str], str]) -> Iterator[None]:
    """The server runs a bundle in which one file is that of another version; rightly signed, and gone afterwards."""
    files = victim.bundle_files()
    text = files[path].decode()
    changed = change(text)
    assert changed != text, f"{path} is not what this test expects"
    answer = victim.push_bundle({**files, path: changed.encode()})
    assert answer.verdict == "done", answer.body
    try:
        yield
    finally:
        answer = victim.push_bundle(files)
        assert answer.verdict == "done", answer.body


def replaced(before: str, after: str) -> Callable[[str], str]:
    return lambda text: text.replace(before, after)


def registered(**fields: Any) -> Callable[[str], str]:
    """registry.json with another service.restart; without fields, with none."""

    def change(text: str) -> str:
        registry = json.loads(text)
        entry = registry["actions"].pop("service.restart")
        if fields:
            registry["actions"]["service.restart"] = {**entry, **fields}
        return json.dumps(registry)

    return change


def refused(operator: Operator, *argv: str) -> dict[str, str]:
    """The error of a command that ends with exit code 4."""
    done = operator.run("--json", *argv, check=False)
    assert done.returncode == 4, done.stdout + done.stderr
    document = json.loads(done.stdout)
    error = document["error"] or document["servers"][0]["error"]
    return dict(error)


HELLO_V = '"v": 1,\n            "typ": "hello",'

#: What differs on the server, where, and what sf says.
SERVERS: dict[str, tuple[str, Callable[[str], str], str, str]] = {
    "a newer protocol": ("session.py", replaced(HELLO_V, HELLO_V.replace("1", "2")), "newer-server", "update sf"),
    "a greeting with a key more": (
        "session.py", replaced(HELLO_V, HELLO_V + '"weather": "fine",'), "newer-server", "update sf",
    ),
    "a newer action": ("registry.json", registered(version=7), "action-version", "update sf"),
    "an older action": ("registry.json", registered(version=0), "action-version", "run sf server update"),
    "an action that it does not have": ("registry.json", registered(), "unknown-action", "run sf server update"),
    "a runner that does not know a key of commands": (
        "messages.py",
        lambda text: text.replace('receipt actor"', 'receipt"').replace('_actor(value["actor"], "actor")', '""'),
        "bad-frame", "run sf server update",
    ),
    "a runner that wants a key more in commands": (
        "messages.py", replaced('prev_receipt actor"', 'prev_receipt actor weather"'), "bad-frame", "update sf",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("path", "change", "code", "says"), SERVERS.values(), ids=SERVERS)
def test_sf_and_a_server_of_another_version(
    victim: Victim, path: str, change: Callable[[str], str], code: str, says: str
) -> None:
    before = victim.canary()
    with other_version(victim, path, change):
        error = refused(victim.operator, *RESTART)
    assert error["code"] == code
    assert says in f"{error['message']}: {error['hint']}"
    assert victim.canary() == before
    victim.operator.run(*RESTART)
    assert victim.canary() != before


def test_nothing_is_sent_to_a_server_with_a_newer_protocol(victim: Victim) -> None:
    with other_version(victim, "session.py", replaced(HELLO_V, HELLO_V.replace("1", "2"))):
        receipts = victim.chain_length()
        for argv in (("server", "check"), ("server", "update", "--yes"), ("plan",), RESTART):
            done = victim.operator.run(*argv, check=False)
            assert done.returncode in (0, 4), argv
            assert "update sf" in done.stderr or argv == ("plan",), done.stderr
        assert victim.chain_length() == receipts


def test_an_answer_that_says_more_than_sf_understands(victim: Victim) -> None:
    """The forecast is refused, so that nothing is begun."""
    before = victim.canary()
    with other_version(victim, "receipt.py", replaced('"v": 1,', '"v": 1,\n        "weather": "fine",')):
        for argv in (("system", "info", "--on", "victim"), RESTART):
            error = refused(victim.operator, *argv)
            assert (error["code"], error["hint"]) == ("newer-server", "update sf")
            assert "weather" in error["message"]
    assert victim.canary() == before


def test_a_receipt_that_says_more_than_sf_understands(victim: Victim) -> None:
    """Strictly refused all the same. What was asked for is done, as a whole, and sf says how to learn of it."""
    more = '"v": 1,\n        **({} if reply else {"weather": "fine"}),'
    with other_version(victim, "receipt.py", replaced('"v": 1,', more)):
        before = victim.canary()
        error = refused(victim.operator, *RESTART)
        assert error["code"] == "newer-server"
        assert "update sf, then: sf op status" in error["hint"]
        assert victim.canary() != before


CLIENTS: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str, str]] = {
    "a newer sf: a key more": (lambda body: {**body, "weather": "fine"}, "bad-frame", "run sf server update"),
    "a newer sf: another protocol": (lambda body: {**body, "v": 2}, "bad-frame", "version 1"),
    "a newer sf: a newer action": (
        lambda body: {**body, "action_version": 2}, "action-version", "run sf server update",
    ),
    "a newer sf: a mode more": (lambda body: {**body, "mode": "rehearse"}, "bad-frame", "mode"),
    "a newer sf: a limit more": (lambda body: {**body, "limits": {"disk": 1}}, "bad-frame", "limits"),
    "a newer sf: a parameter more": (lambda body: {**body, "params": {**CRON, "gently": True}}, "bad-params", "gently"),
    "an older sf: a key less": (
        lambda body: {key: value for key, value in body.items() if key != "prev_receipt"}, "bad-frame", "update sf",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "code", "says"), CLIENTS.values(), ids=CLIENTS)
def test_a_client_of_another_version(
    victim: Victim, change: Callable[[dict[str, Any]], dict[str, Any]], code: str, says: str
) -> None:
    with victim.untouched(), victim.client.session() as session:
        session.send_command(change(session.command("service.restart", CRON)))
        answer = session.echoed(session.answer())
        assert answer.verdict == code
        assert says in answer.body["message"]


def test_a_bundle_of_two_release_keys(victim: Victim, tmp_path: Path) -> None:
    """ana proposes, bob signs the same bytes on his machine; until then the server keeps what it has, and trust still
    goes out.
    """
    ana, fleet = victim.operator, victim.operator.fleet
    files = {**bundle.collect(), "machine.py": bundle.collect()["machine.py"] + b"# other\n"}
    other = bundle.manifest(victim.bundle_version() + 1, files)
    signature = keys.load(ana.private / "release")
    assert (
        victim.client.push(BUNDLE, other, victim.release, content=[files[path] for path in sorted(files)]).verdict
        == "done"
    )
    (fleet / "bundle.json").write_bytes(other)
    (fleet / "bundle.json.sig").write_text(sshsig.armor(sshsig.sign(signature, sshsig.BUNDLE, other)))
    installed = victim.bundle_version()
    assert ana.json("registry", "diff")["data"]["files"]["changed"] == ["machine.py"]
    assert ana.run("registry", "diff", "--check", check=False).returncode == 11

    bob = Operator(tmp_path / "bob", fleet)
    private = bob.home / ".local/share/serverflow" / ana.private.name
    private.mkdir(parents=True)
    theirs = keys.generate(private / "release", "bob")
    trust = chain.load_chain(fleet / "trust", None)
    role = Role(2, (*trust.release.keys, RootKey("bob", theirs.public_key)))
    chain.write_version(fleet / "trust", chain.successor(trust, release=role), [keys.load(ana.private / "root")])
    ana.run("trust", "show")
    for name in ("anchor.json", "command"):
        shutil.copy(ana.private / name, private / name)

    proposed = ana.json("registry", "sign", "--yes")
    assert (proposed["data"]["version"], proposed["data"]["signed_by"]) == (installed + 1, ["ana"])
    assert "bob must sign" in proposed["notes"][0]
    update = ana.run("server", "update", "--yes")
    assert "release keys have to sign" in update.stderr
    assert (victim.bundle_version(), victim.trust()["roles"]["release"]["threshold"]) == (installed, 2)
    assert "bob must sign" in ana.json("registry", "show")["notes"][-1]

    assert bob.json("registry", "sign", "--yes")["data"]["signed_by"] == ["ana", "bob"]
    ana.run("server", "update", "--yes")
    assert victim.bundle_version() == installed + 1
    assert victim.bundle_files() == bundle.collect()
    assert ana.run("registry", "diff", "--check").returncode == 0
    before = victim.canary()
    ana.run(*RESTART)
    assert victim.canary() != before
    alone = encode({"v": 1, "typ": "bundle", "version": installed + 2, "files": json.loads(other)["files"]})
    assert victim.client.push(BUNDLE, alone, victim.release).verdict == "bad-bundle"

    # Somebody with merge rights puts the bundle of before back, or changes the new one.
    newest = (fleet / "bundle.json").read_bytes(), (fleet / "bundle.json.sig").read_bytes()
    armored = sshsig.armor(sshsig.sign(signature, sshsig.BUNDLE, other)).encode()
    for manifest, signatures, code in (
        (other, armored, "older-version"),
        (newest[0].replace(b"runner.py", b"runner.pz"), newest[1], "trust"),
        (newest[0][:-1], newest[1], "bad-bundle"),
    ):
        (fleet / "bundle.json").write_bytes(manifest)
        (fleet / "bundle.json.sig").write_bytes(signatures)
        error = refused(ana, "server", "update", "--yes")
        assert error["code"] == code, error
        assert "bundle.json" in error["message"] + error["hint"]
    assert victim.bundle_version() == installed + 1
