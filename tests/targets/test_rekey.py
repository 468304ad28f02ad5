"""A server's identity key and its SSH host key are rotated: cut off anywhere, finished by somebody else, and never
taken over on the word of anyone but a root key's holder.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from .attacker import Client, Key, line_key, new_op, verified
from .operator import Operator, eventually, pull, root_of
from .target import Fleet, Target, call
from .victim import STATE, Victim, client_of, fresh_victim

HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
OPTION = {"identity": "--identity", "host": "--host-keys"}
KINDS = pytest.mark.parametrize("kind", ["identity", "host"])
RUNNER = "/usr/local/libexec/serverflow/runner"
PROOF = "identity.v1@serverflow"

#: `sf` that is killed at its Nth step that others can see: a connection, or a file of the pins put in its place.
KILLED_SF = """
import os, signal, sys
left = int(sys.argv.pop(1))
def watch(event, arguments):
    global left
    left -= event == "socket.connect" or event == "os.rename" and "pins" in str(arguments[1])
    if left == 0:
        left = -1
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
from serverflow_cli.main import main
sys.exit(main())
"""

#: The runner, killed the same way: before a file is opened for writing, renamed, removed, or a program is started.
KILLED_RUNNER = """#!/usr/bin/python3 -IS
import os, signal, sys
left = {left}
def watch(event, arguments):
    global left
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    left -= bool(writes) or event in ("os.rename", "os.remove", "os.link", "os.mkdir", "subprocess.Popen")
    if left == 0:
        left = -1
        os.kill(os.getpid(), signal.SIGKILL)
sys.path.insert(0, os.path.realpath("/usr/local/libexec/serverflow/current"))
import runner
sys.addaudithook(watch)
runner.main()
"""


@pytest.fixture(scope="module")
def victim(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with fresh_victim(fleet, tmp_path_factory.mktemp("victim")) as found:
        yield found


def colleague(operator: Operator, folder: Path) -> Operator:
    """Another machine: the same keys, a fresh clone of the fleet folder, and nothing seen yet."""
    keys = folder / "home/.local/share/serverflow" / operator.private.name
    shutil.copytree(operator.private, keys, ignore=shutil.ignore_patterns("*anchor*"))
    shutil.copytree(operator.fleet, folder / "fleet")
    return Operator(folder / "home", folder / "fleet", {"SF_ROOT": root_of(operator)})


def pin(operator: Operator, name: str = "victim") -> dict[str, Any]:
    return dict(tomllib.loads((operator.fleet / "pins.toml").read_text())["pins"][name])


def public_half(target: Target, path: str) -> str:
    """From the private key, by ssh-keygen."""
    return " ".join(target.run("ssh-keygen", "-y", "-f", path).stdout.split()[:2])


def shown_host_key(target: Target) -> str:
    """What sshd shows to a stranger, by ssh-keyscan; "" while it reads its keys again."""
    said = call("ssh-keyscan", "-t", "ed25519", "-p", str(target.port), target.host, check=False).stdout
    return " ".join(said.split()[-2:])


def check_settled(operator: Operator, target: Target, name: str = "victim") -> dict[str, Any]:
    """Pins and server agree, nothing is left over, and a client that is not ours gets its answers. Returns the pin."""
    pinned = pin(operator, name)
    assert (pinned["next_identity"], pinned["next_host_key"]) == ("", "")
    assert pinned["identity"] == public_half(target, f"{STATE}/identity")
    (host_key,) = pinned["host_keys"]
    assert host_key == public_half(target, HOST_KEY) == shown_host_key(target) == target.host_key()
    assert target.run("stat", "-c", "%a %U", HOST_KEY, f"{STATE}/identity").stdout == "600 root\n" * 2
    left = target.run("sh", "-c", f"ls -A /etc/ssh {STATE} {STATE}/safe/*").stdout.split()
    assert not [entry for entry in left if re.search(r"next|making|switch|^\.|^[0-9]+$", entry)], left
    client = client_of(operator, name, target)
    assert client.ask("op.list").verdict == "done"
    client.close()
    return pinned


@KINDS
def test_rotation(victim: Victim, kind: str) -> None:
    operator, target = victim.operator, victim.target
    operator.run("service", "restart", "cron", "--on", "victim", "--yes")
    before = check_settled(operator, target)
    planned = operator.run("server", "rekey", "victim", OPTION[kind], "--plan")
    assert "SHA256:" in planned.stdout and pin(operator) == before
    done = operator.json("server", "rekey", "victim", OPTION[kind], "--yes")
    assert done["ok"]
    after = check_settled(operator, target)
    if kind == "identity":
        assert after["former"] == [*before["former"], before["identity"]]
        assert (after["identity"] != before["identity"], after["host_keys"]) == (True, before["host_keys"])
        assert done["servers"][0]["data"]["identity"] == after["identity"]
    else:
        assert (after["identity"], after["host_keys"] != before["host_keys"]) == (before["identity"], True)
    assert public_half(target, f"{STATE}/identity") in target.run("cat", f"{STATE}/identity.pub").stdout
    # Receipts of before count, those of now too, and an operation of before can be asked for.
    operator.run("service", "restart", "cron", "--on", "victim", "--yes")
    assert operator.json("audit", "verify", "--against", "victim")["ok"]
    first = operator.json("op", "list", "--limit", "50")["data"]["ops"][-1]["op"]
    assert operator.json("op", "status", first)["servers"][0]["outcome"] == "done"


def test_every_signature_up_to_the_switch_is_the_old_keys_and_every_later_one_the_new_keys(victim: Victim) -> None:
    operator, target = victim.operator, victim.target
    old = pin(operator)["identity"]
    operator.run("server", "rekey", "victim", "--identity", "--yes")
    new = pin(operator)["identity"]
    operator.run("service", "restart", "cron", "--on", "victim", "--yes")
    entries = [json.loads(line) for line in target.run("cat", f"{STATE}/receipts.chain").stdout.splitlines()]
    signers = [line_key_of(base64.b64decode(entry["sig"])) for entry in entries]
    switch = signers.index(line_key(new))
    assert set(signers[switch:]) == {line_key(new)} and line_key(new) not in signers[:switch]
    last_by_old = json.loads(entries[switch - 1]["body"])
    assert (last_by_old["action"], last_by_old["data"]) == ("server.rekey", {"active": new})
    assert signers[switch - 1] == line_key(old)


def line_key_of(sshsig: bytes) -> bytes:
    """The public key that an SSHSIG names (PROTOCOL.sshsig)."""
    return sshsig[33:65]


@KINDS
def test_killed_at_every_step_and_finished_by_another_operator(victim: Victim, kind: str, tmp_path: Path) -> None:
    operator, target = victim.operator, victim.target
    for step in range(1, 60):
        before = check_settled(operator, target)
        argv = [sys.executable, "-c", KILLED_SF, str(step), "server", "rekey", "victim", OPTION[kind], "--yes"]
        killed = subprocess.run(argv, env=operator.environment(), cwd=operator.fleet, capture_output=True, text=True)
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        other = colleague(operator, tmp_path / str(step))
        finished = other.run("server", "rekey", "victim", OPTION[kind], "--yes", check=False)
        assert finished.returncode == 0, (step, finished.stderr)
        after = check_settled(other, target)
        assert after != before
        pull(operator, other)
    assert step > 8, "the rotation has more steps than that"
    assert operator.json("audit", "verify")["ok"]


# --- the server's side -----------------------------------------------------------------------------------------------


def ask(client: Client, kind: str, stage: str, **more: Any) -> Any:
    return client.ask("server.rekey", {"kind": kind, "stage": stage, **more})


def current(victim: Victim) -> Client:
    """By what the server has at this moment, looked at beside SSH."""
    target = victim.target
    identity = line_key(public_half(target, f"{STATE}/identity"))
    return replace(client_of(victim.operator, "victim", target), identity=identity, host_key=target.host_key())


@contextlib.contextmanager
def dying_runner(target: Target, left: int) -> Iterator[None]:
    right = target.run("cat", RUNNER).stdout
    target.run("sh", "-c", f"cat >{RUNNER}", input=KILLED_RUNNER.format(left=left))
    try:
        yield
    finally:
        target.run("sh", "-c", f"cat >{RUNNER}", input=right)


def test_the_runner_is_killed_at_every_step_of_activating_an_identity(fleet: Fleet, tmp_path: Path) -> None:
    """There is a usable identity at every moment; what was receipted is done, what was not is as it was."""
    with fresh_victim(fleet, tmp_path) as victim:
        for left in range(1, 80):
            client = current(victim)
            offer = ask(client, "identity", "prepare").body["data"]
            op_id = new_op()
            with dying_runner(victim.target, left):
                answer = client.ask("server.rekey", activate("identity", offer["next"]), op_id=op_id)
            client.close()
            assert answer.verdict in ("done", "closed")
            # The next session finishes or gives up what was begun, before it says HELLO.
            with contextlib.suppress(AssertionError), current(victim).session(shared=False):
                pass
            now = public_half(victim.target, f"{STATE}/identity")
            after = current(victim)
            with after.session() as session:
                receipts = chain(victim)
                receipted = any(body["op_id"] == op_id and body["outcome"] == "done" for body in receipts)
                assert now == (offer["next"] if receipted else offer["active"])
                assert session.hello
            again = ask(after, "identity", "activate", key=offer["next"]).verdict
            assert again == ("unchanged" if receipted else "done")
            after.close()
            if answer.verdict == "done":
                break
        assert left > 8


def activate(kind: str, key: str) -> dict[str, str]:
    return {"kind": kind, "stage": "activate", "key": key}


def chain(victim: Victim) -> list[dict[str, Any]]:
    text = victim.target.run("cat", f"{STATE}/receipts.chain").stdout
    return [json.loads(json.loads(line)["body"]) for line in text.splitlines()]


def test_the_runner_is_killed_at_every_step_of_activating_a_host_key(fleet: Fleet, tmp_path: Path) -> None:
    """However far it came, the rollback leads back to the old key, and the next attempt works."""
    with fresh_victim(fleet, tmp_path) as victim:
        target, old = victim.target, victim.target.host_key()
        for left in range(1, 80):
            client = client_of(victim.operator, "victim", target)
            offer = ask(client, "host", "prepare").body["data"]
            with dying_runner(target, left):
                verdict = client.ask("server.rekey", activate("host", offer["next"])).verdict
            client.close()
            assert verdict in ("closed", "pending-confirm")
            roll_back(target)
            eventually(lambda: shown_host_key(target) == old, "sshd shows the old key")
            assert public_half(target, HOST_KEY) == old == target.host_key()
            if verdict == "pending-confirm":
                break
        assert left > 8
        victim.operator.run("server", "rekey", "victim", "--host-keys", "--yes")
        assert check_settled(victim.operator, target)["host_keys"] == [offer["next"]]


def roll_back(target: Target) -> None:
    """The deadline, at once: what the timer would start, or after a crash before it was set, the boot unit."""
    pending = target.run("cat", f"{STATE}/safe/pending", check=False).stdout
    if pending:
        target.run(RUNNER, "rollback", pending)


def test_a_host_key_that_nobody_confirms_goes_back_by_itself(victim: Victim) -> None:
    target, client = victim.target, client_of(victim.operator, "victim", victim.target)
    old = check_settled(victim.operator, target)["host_keys"][0]
    offer = ask(client, "host", "prepare").body["data"]
    assert offer["active"] == old
    op_id = new_op()
    answer = client.ask("server.rekey", activate("host", offer["next"]), op_id=op_id)
    assert (answer.verdict, answer.body["safe"]["op_id"]) == ("pending-confirm", op_id)
    assert answer.body["safe"]["deadline"] - answer.body["finished_at"] <= 120_000
    eventually(lambda: shown_host_key(target) == offer["next"], "sshd shows the new key")
    # A fresh connection that knows the old key alone is stopped; the fleet's pins still say that.
    refused = victim.operator.run("server", "check", "--on", "victim", check=False)
    assert refused.returncode == 4 and "pull the fleet folder" in refused.stderr
    timer = f"serverflow-rollback-{op_id.lower()}"
    assert target.run("systemctl", "is-active", f"{timer}.timer").stdout == "active\n"
    target.run("systemctl", "start", f"{timer}.service")  # the deadline
    eventually(lambda: shown_host_key(target) == old, "sshd shows the old key")
    client.close()
    victim.operator.run("service", "restart", "cron", "--on", "victim", "--yes")
    assert ask(current(victim), "host", "discard").verdict == "done"
    check_settled(victim.operator, target)


def test_a_connection_of_before_does_not_confirm(fleet: Fleet, tmp_path: Path) -> None:
    """Whoever activates has a connection that the old key opened: it proves nothing."""
    with fresh_victim(fleet, tmp_path) as victim:
        client, old = current(victim), victim.target.host_key()
        offer = ask(client, "host", "prepare").body["data"]
        op_id = new_op()
        assert client.ask("server.rekey", activate("host", offer["next"]), op_id=op_id).verdict == "pending-confirm"
        early = client.ask("safe.confirm", {"op": op_id})
        assert (early.verdict, early.body["outcome"]) == ("action-failed", "failed")
        assert "older than the change" in early.body["message"]
        eventually(lambda: shown_host_key(victim.target) == offer["next"], "sshd shows the new key")
        late = current(victim)
        assert late.ask("safe.confirm", {"op": op_id}).verdict == "done"
        # What is over is not undone, neither by this connection nor by that one.
        for one in client, late:
            assert one.ask("safe.rollback", {"op": op_id}).verdict == "action-failed"
            one.close()
        assert shown_host_key(victim.target) == victim.target.host_key() == offer["next"] != old
        left = victim.target.run("ls", f"{STATE}/safe/{op_id}").stdout
        assert left == "verdict\n"


def test_an_enrolment_that_was_undone_is_not_undone_again(victim: Victim) -> None:
    """Nor is any other operation of long ago, whose id somebody remembers."""
    listed = victim.target.run("sh", "-c", f"cd {STATE}/safe && ls -d *").stdout.split()
    for op_id in [name for name in listed if len(name) == 26] + [new_op()]:
        assert current(victim).ask("safe.rollback", {"op": op_id}).verdict == "action-failed"
    check_settled(victim.operator, victim.target)


def test_a_key_that_was_not_prepared_or_not_named_is_not_activated(victim: Victim, tmp_path: Path) -> None:
    stranger = Key.make(tmp_path, "stranger").line
    client = current(victim)
    for kind in OPTION:
        before = check_settled(victim.operator, victim.target)
        assert ask(client, kind, "activate", key=stranger).verdict == "bad-params"
        first, second = ask(client, kind, "prepare"), ask(client, kind, "prepare")
        assert first.body["data"]["next"] == second.body["data"]["next"] and second.verdict == "unchanged"
        assert ask(client, kind, "activate", key=stranger).verdict == "bad-params"
        assert ask(client, kind, "activate").verdict == "bad-params"
        assert ask(client, kind, "discard").verdict == "done"
        assert ask(client, kind, "discard").verdict == "unchanged"
        assert check_settled(victim.operator, victim.target) == before
    client.close()


def test_the_proof_is_the_new_keys_over_this_server(victim: Victim) -> None:
    client = current(victim)
    told = ask(client, "identity", "prepare").body["data"]
    said = {"v": 1, "typ": "identity", "server_id": client.server_id, "old": told["active"], "new": told["next"]}
    body = json.dumps(said, separators=(",", ":"), sort_keys=True).encode()
    assert verified(base64.b64decode(told["proof"]), body, PROOF, line_key(told["next"]))
    assert ask(client, "identity", "discard").verdict == "done"
    client.close()


def _other_server(data: dict[str, Any], key: Key) -> dict[str, Any]:
    return _proof(data, key, server_id="0" * 64)


def _other_old_key(data: dict[str, Any], key: Key) -> dict[str, Any]:
    return _proof(data, key, old=key.line)


def _nobodys(data: dict[str, Any], key: Key) -> dict[str, Any]:
    return {**data, "next": key.line}


def _wrong_namespace(data: dict[str, Any], key: Key) -> dict[str, Any]:
    return _proof(data, key, namespace="receipt.v1@serverflow")


def _the_old_key_again(data: dict[str, Any], key: Key) -> dict[str, Any]:
    return {**data, "next": data["active"]}


def _no_key(data: dict[str, Any], key: Key) -> dict[str, Any]:
    return {}


def _proof(data: dict[str, Any], key: Key, namespace: str = PROOF, **changes: str) -> dict[str, Any]:
    said = {"v": 1, "typ": "identity", "server_id": "", "old": data["active"], "new": key.line, **changes}
    body = json.dumps(said, separators=(",", ":"), sort_keys=True).encode()
    return {**data, "next": key.line, "proof": base64.b64encode(key.sshsig(namespace, body)).decode()}


LIES = [_other_server, _other_old_key, _nobodys, _wrong_namespace, _the_old_key_again, _no_key]


@pytest.mark.parametrize("lie", LIES, ids=[lie.__name__.strip("_") for lie in LIES])
def test_a_proof_of_another_server_or_key_is_refused(
    victim: Victim, tmp_path: Path, lie: Callable[[dict[str, Any], Key], dict[str, Any]]
) -> None:
    """A server that someone has taken over answers `prepare` with this, under its true signature."""
    target, right = victim.target, check_settled(victim.operator, victim.target)
    told = lie({"active": right["identity"], "next": "", "proof": ""}, Key.make(tmp_path, "evil"))
    path = "/usr/local/libexec/serverflow/current/rekey.py"
    source = target.run("cat", path).stdout
    lying = f"{source}\n\ndef _prepare():\n    return 'done', {told!r}\n"
    with replaced(target, path, lying):
        refused = victim.operator.run("server", "rekey", "victim", "--identity", "--yes", check=False)
    assert refused.returncode == 4 and "does not prove" in refused.stderr
    assert check_settled(victim.operator, target) == right


@contextlib.contextmanager
def replaced(target: Target, path: str, text: str) -> Iterator[None]:
    """Another source in place of one of the runner's, and no byte code of the right one."""
    folder = str(Path(path).parent)
    target.run("cp", "-a", folder + "/.", "/root/kept")
    try:
        target.run("sh", "-c", f"cat >{path} && rm {folder}/__pycache__/{Path(path).stem}.*", input=text)
        yield
    finally:
        target.run("sh", "-c", f"cp -a /root/kept/. {folder} && rm -r /root/kept")


# --- sshd_config that is not the usual one ---------------------------------------------------------------------------

ODD = {
    "elsewhere": "cp -p {key} /etc/ssh/elsewhere && echo 'HostKey /etc/ssh/elsewhere' >{conf}",
    "two": "ssh-keygen -qt ed25519 -N '' -f /etc/ssh/second && "
    "printf 'HostKey {key}\\nHostKey /etc/ssh/second\\n' >{conf}",
    "linked": "mv {key} /etc/ssh/moved && ln -s /etc/ssh/moved {key} && true >{conf}",
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_host_keys_that_are_not_the_usual_ones_are_left_alone(victim: Victim, odd: str) -> None:
    target = victim.target
    conf = "/etc/ssh/sshd_config.d/odd.conf"
    before = target.run("sha256sum", HOST_KEY).stdout
    target.run("sh", "-c", odd.format(key=HOST_KEY, conf=conf) + " && systemctl reload ssh")
    try:
        refused = victim.operator.run("server", "rekey", "victim", "--host-keys", "--yes", check=False)
        assert refused.returncode == 6 and HOST_KEY in refused.stderr, refused.stderr
        assert target.run("sha256sum", HOST_KEY).stdout == before
    finally:
        back = f"test ! -L {HOST_KEY} || mv /etc/ssh/moved {HOST_KEY}; rm -f {conf} /etc/ssh/second* /etc/ssh/elsewhere"
        target.run("sh", "-c", f"{back}; systemctl reload ssh")
    victim.operator.run("server", "rekey", "victim", "--host-keys", "--yes")
    check_settled(victim.operator, target)


def test_a_host_key_that_is_announced_is_shown_and_not_trusted(victim: Victim) -> None:
    """Whoever is root there adds a second Ed25519 key to sshd, which then announces and proves both."""
    target, operator = victim.target, victim.operator
    conf = "/etc/ssh/sshd_config.d/announce.conf"
    make = "ssh-keygen -qt ed25519 -N '' -f /etc/ssh/announced"
    config = f"printf 'HostKey {HOST_KEY}\\nHostKey /etc/ssh/announced\\n' >{conf}; systemctl reload ssh"
    pins = (operator.fleet / "pins.toml").read_bytes()
    target.run("sh", "-c", f"{make} && {config}")
    announced = " ".join(target.run("cat", "/etc/ssh/announced.pub").stdout.split()[:2])
    fingerprint = target.run("ssh-keygen", "-lf", "/etc/ssh/announced").stdout.split()[1]
    try:
        (checked,) = operator.json("server", "check", "--on", "victim")["servers"]
        assert any(fingerprint in note and "not trusted" in note for note in checked["notes"])
        assert operator.json("server", "show", "victim")["data"]["announced_host_keys"] == [announced]
        assert (operator.fleet / "pins.toml").read_bytes() == pins
        target.run("sh", "-c", f"printf 'HostKey /etc/ssh/announced\\n' >{conf}; systemctl reload ssh")
        refused = operator.run("server", "check", "--on", "victim", check=False)
        assert refused.returncode == 4 and "host key" in refused.stderr
    finally:
        target.run("sh", "-c", f"rm -f {conf} /etc/ssh/announced*; systemctl reload ssh")
    (checked,) = operator.json("server", "check", "--on", "victim")["servers"]
    assert checked["notes"] == []
    assert "announced_host_keys" not in operator.json("server", "show", "victim")["data"]


# --- pins of the past ------------------------------------------------------------------------------------------------


@KINDS
def test_who_did_not_pull_is_told_to(victim: Victim, tmp_path: Path, kind: str) -> None:
    other = colleague(victim.operator, tmp_path / "other")
    other.run("system", "info", "--on", "victim")
    victim.operator.run("server", "rekey", "victim", OPTION[kind], "--yes")
    refused = other.json("system", "info", "--on", "victim", check=False)
    (server,) = refused["servers"]
    assert server["error"]["code"] == {"identity": "identity-changed", "host": "host-key-changed"}[kind]
    assert "pull the fleet folder" in server["error"]["hint"]
    pull(other, victim.operator)
    other.run("system", "info", "--on", "victim")


def test_pins_of_the_past_are_refused(victim: Victim, tmp_path: Path) -> None:
    """Whoever may merge into the fleet folder puts the true files of before a rotation back."""
    operator = victim.operator
    files = [operator.fleet / "pins.toml", operator.fleet / "pins.toml.sig"]
    past = [file.read_bytes() for file in files]
    operator.run("server", "rekey", "victim", "--identity", "--yes")
    present = [file.read_bytes() for file in files]

    def put(contents: list[bytes]) -> None:
        for file, content in zip(files, contents, strict=True):
            file.write_bytes(content)

    put(past)
    for argv in (["system", "info", "--on", "victim"], ["server", "rekey", "victim", "--identity", "--yes"]):
        refused = operator.run(*argv, check=False)
        assert refused.returncode == 4 and "went back to version" in refused.stderr, refused.stderr
    for file in files:
        file.unlink()
    refused = operator.run("trust", "show", check=False)
    assert refused.returncode == 4 and "went back to version 0" in refused.stderr, refused.stderr
    # The same version with another content, signed by a root key.
    put(present)
    files[0].write_bytes(present[0].replace(b'origin = "fingerprint"', b'origin = "known_hosts"'))
    files[1].unlink()
    call("ssh-keygen", "-q", "-Y", "sign", "-n", "pins.v1@serverflow", "-f", operator.private / "root", files[0])
    refused = operator.run("system", "info", "--on", "victim", check=False)
    assert refused.returncode == 4 and "not the one that was seen" in refused.stderr, refused.stderr
    put(present)
    operator.run("system", "info", "--on", "victim")


def test_who_has_no_root_key_begins_nothing(victim: Victim, tmp_path: Path) -> None:
    other = colleague(victim.operator, tmp_path / "other")
    for path in other.private.glob("root*"):
        path.unlink()
    refused = other.run("server", "rekey", "victim", "--identity", "--yes", check=False)
    assert refused.returncode == 4 and "root key" in refused.stderr
    check_settled(victim.operator, victim.target)


def test_a_former_identity_key_speaks_for_nobody(victim: Victim, tmp_path: Path) -> None:
    """Somebody kept the old private key, and holds the host key too."""
    target, operator = victim.target, victim.operator
    target.run("cp", "-p", f"{STATE}/identity", "/root/stolen")
    operator.run("server", "rekey", "victim", "--identity", "--yes")
    target.run("cp", "-p", f"{STATE}/identity", "/root/right")
    target.run("cp", "-p", "/root/stolen", f"{STATE}/identity")
    try:
        refused = operator.json("system", "info", "--on", "victim", check=False)
        assert refused["servers"][0]["error"]["code"] == "identity-changed"
    finally:
        target.run("sh", "-c", f"cp -p /root/right {STATE}/identity && rm /root/right /root/stolen")
    check_settled(operator, target)


@pytest.mark.parametrize("release", ["debian11", "debian13"])
def test_other_releases(fleet: Fleet, tmp_path: Path, release: str) -> None:
    with fresh_victim(fleet, tmp_path, release) as victim:
        for kind in OPTION:
            victim.operator.run("server", "rekey", "victim", OPTION[kind], "--yes")
            check_settled(victim.operator, victim.target)
        assert victim.operator.json("audit", "verify", "--against", "victim")["ok"]
