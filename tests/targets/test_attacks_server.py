"""The other side is the attacker: a server, or a fleet folder, that is not what it was. `sf` stops with exit 4,
before it has sent anything that matters.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .attack import attack
from .attacker import HELLO, Key, encode, signed
from .operator import Operator, new_operator
from .target import Fleet
from .victim import STATE, Victim, fresh_victim

RUNNER = "/usr/local/libexec/serverflow/runner"
READ = ("system", "info", "--on", "victim")

#: Stands in for the runner: says what it was told to say, and keeps what it hears in /run/heard.
FAKE = """#!/usr/bin/python3
import os, sys, time
sys.stdout.buffer.write(open("/run/says", "rb").read())
sys.stdout.flush()
open("/run/heard", "wb").write(os.read(0, 1 << 20))
"""

#: Sits between sshd and the true runner, and changes what the runner says.
MIDDLE = """#!/usr/bin/python3
import subprocess, sys, threading
sys.stdin = sys.stdin.buffer
with subprocess.Popen(
    ["/usr/local/libexec/serverflow/true-runner"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
) as true:
    def forth():
        while data := sys.stdin.read1(65536):
            true.stdin.write(data)
            true.stdin.flush()
    threading.Thread(target=forth, daemon=True).start()
    while head := true.stdout.read(5):
        payload = true.stdout.read(int.from_bytes(head[1:], "big"))
        kind = head[:1]
        CHANGE
        sys.stdout.buffer.write(kind + len(payload).to_bytes(4, "big") + payload)
        sys.stdout.buffer.flush()
"""


@pytest.fixture(scope="module")
def victim(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with fresh_victim(fleet, tmp_path_factory.mktemp("victim")) as found:
        found.target.run("cp", RUNNER, RUNNER.replace("runner", "true-runner"))
        yield found


@pytest.fixture(autouse=True)
def honest_again(victim: Victim) -> Iterator[None]:
    """After each test the true runner is back, and the operator gets an answer."""
    yield
    victim.target.run("cp", RUNNER.replace("runner", "true-runner"), RUNNER)
    victim.operator.run(*READ)


def _replace_runner(victim: Victim, script: str) -> None:
    victim.target.run("tee", RUNNER, input=script)


def _refused(operator: Operator, *argv: str) -> subprocess.CompletedProcess[str]:
    done = operator.run(*(argv or READ), check=False)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


# --- who answers -----------------------------------------------------------------------------------------------------


@attack("host key change", stopped_by="the pinned host key; sf stops before it authenticates")
def test_a_changed_host_key_stops_before_authentication(victim: Victim) -> None:
    keys = "/etc/ssh/ssh_host_ed25519_key /etc/ssh/ssh_host_ecdsa_key"
    change = (
        "mkdir /root/true && cp -p /etc/ssh/ssh_host_* /root/true && "
        f"for key in {keys}; do rm $key; ssh-keygen -q -t ed25519 -N '' -f $key; done; systemctl restart ssh"
    )
    victim.target.run("sh", "-c", change)
    try:
        mark = victim.target.run("date", "+%s").stdout.strip()
        _refused(victim.operator)
        seen = victim.target.run("journalctl", "-u", "ssh", f"--since=@{mark}", "--no-pager").stdout
        # The mark is a second wide: what counts comes after the restart.
        assert "Accepted" not in seen.rpartition("Server listening")[2]
        assert "Failed" not in seen
    finally:
        victim.target.run("sh", "-c", "cp -p /root/true/* /etc/ssh/ && rm -r /root/true && systemctl restart ssh")


@attack("another server in its place", stopped_by="the pinned identity key signs HELLO")
def test_another_identity_key_is_not_accepted(victim: Victim) -> None:
    """A machine that took over the host key, and made an identity of its own."""
    change = (
        f"cp -p {STATE}/identity /root/identity && rm {STATE}/identity && "
        f"ssh-keygen -q -t ed25519 -N '' -f /root/new && cp /root/new {STATE}/identity"
    )
    victim.target.run("sh", "-c", change)
    try:
        _refused(victim.operator)
    finally:
        victim.target.run("sh", "-c", f"mv /root/identity {STATE}/identity; rm /root/new*")


@attack("another server in its place", stopped_by="the pinned identity key signs HELLO")
def test_another_server_id_is_not_accepted(victim: Victim) -> None:
    victim.target.run(
        "sh", "-c", "cp -p /etc/serverflow/server_id /root/ && printf '%064d\\n' 0 > /etc/serverflow/server_id"
    )
    try:
        _refused(victim.operator)
    finally:
        victim.target.run("mv", "/root/server_id", "/etc/serverflow/server_id")


@attack("a recorded HELLO", stopped_by="the client's nonce in HELLO")
def test_a_recorded_hello_is_not_accepted_and_hears_nothing(victim: Victim) -> None:
    """It is truly signed, but for another nonce."""
    with victim.client.session() as session:
        hello = {**session.hello}
    identity = victim.target.run("cat", f"{STATE}/identity").stdout
    key = _key(victim, identity)
    for says in hello, {**hello, "typ": "receipt"}:
        body = encode(says)
        payload = signed(body, key.sshsig(HELLO, body))
        _say(victim, b"H" + len(payload).to_bytes(4, "big") + payload)
        _refused(victim.operator)
        assert victim.target.run("cat", "/run/heard").stdout == ""


def _key(victim: Victim, text: str) -> Key:
    path = victim.operator.home / "stolen-identity"
    path.write_text(text)
    return Key(path)


def _say(victim: Victim, data: bytes) -> None:
    decode = "python3 -c 'import sys; sys.stdout.buffer.write(bytes.fromhex(sys.stdin.read()))'"
    victim.target.run("sh", "-c", f"echo {data.hex()} | {decode} > /run/says; rm -f /run/heard")
    _replace_runner(victim, FAKE)


# --- what is answered ------------------------------------------------------------------------------------------------

#: In the middle: how a frame is changed. All but the last two leave something that no longer fits its signature.
CHANGES = {
    "a changed receipt": 'payload = payload.replace(b\'"outcome":"done"\', b\'"outcome":"donE"\')',
    "a changed hello": (
        "payload = payload.replace(b'\"trust_version\":', b'\"trust_version\":1', 1) if kind == b'H' else payload"
    ),
    "a failure turned into success": "payload = payload.replace(b'\"failed\"', b'\"done\"  ')",
    "no signature": "payload = b'\\0' + payload[1:] if kind == b'R' else payload",
    "a signature twice": (
        "size = 3 + int.from_bytes(payload[1:3], 'big'); "
        "payload = b'\\2' + payload[1:size] * 2 + payload[size:] if kind == b'R' else payload"
    ),
    "a hello as the receipt": "globals().setdefault('hello', payload); payload = hello if kind == b'R' else payload",
    "the receipt of another command": (
        "import os; past = '/run/past'; open(past, 'ab').close(); old = open(past, 'rb').read(); "
        "open(past, 'wb').write(payload) if kind == b'R' and not old else None; "
        "payload = old if kind == b'R' and old else payload"
    ),
    "a refusal": "kind, payload = (b'E', b'{}') if kind == b'R' else (kind, payload)",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@attack("forged or changed receipt", stopped_by="the server's signature, over the command's hash and both challenges")
def test_an_answer_that_was_changed_on_the_way_is_not_accepted(victim: Victim, change: str) -> None:
    victim.target.run("rm", "-f", "/run/past")
    _replace_runner(victim, MIDDLE.replace("CHANGE", change))
    if "/run/past" in change:
        victim.operator.run(*READ)
    chain = victim.operator.state / "receipts.jsonl"
    before = chain.read_bytes()
    _refused(
        victim.operator, *(("service", "restart", "no-such", "--on", "victim", "--yes") if "failed" in change else READ)
    )
    assert chain.read_bytes() == before


@pytest.mark.parametrize("length", [2**32 - 1, 2**31, 2**26])
@attack("oversized input", stopped_by="lengths are checked before anything is read")
def test_a_length_without_end_is_not_waited_for(victim: Victim, length: int) -> None:
    _say(victim, b"H" + length.to_bytes(4, "big"))
    done = victim.operator.run(*READ, check=False)
    assert done.returncode in (4, 5)
    assert "Traceback" not in done.stderr


@attack("terminal escapes and markup in server output", stopped_by="what a server says is shown as text")
def test_what_a_server_says_does_not_drive_the_terminal(victim: Victim) -> None:
    """ESC sequences, a window title, a bidi override, rich's markup: in a unit's description, its log and an error."""
    evil = "\x1b[2J\x1b]0;owned\x07[bold red]\u202egnp.exe[/]"
    unit = f"[Unit]\nDescription={evil}\n[Service]\nType=oneshot\nExecStart=/bin/cat /root/evil\n"
    victim.target.run("tee", "/root/evil", input=evil + "\n")
    victim.target.run("tee", "/etc/systemd/system/evil.service", input=unit)
    victim.target.run("sh", "-c", "systemctl daemon-reload && systemctl start evil")
    _set_hostname(victim, "\x1b[31mevil")
    try:
        for argv in (("status", "evil"), ("list",), ("logs", "evil"), ("restart", "evil", "--yes")):
            done = victim.operator.run("service", *argv, "--on", "victim")
            assert not {"\x1b", "\x07", "\u202e"} & set(done.stdout + done.stderr), argv
        assert "[bold red]" in victim.operator.run("service", "status", "evil", "--on", "victim").stdout
        info = victim.operator.run(*READ)
        assert "evil" in info.stdout
        assert "\x1b" not in info.stdout + info.stderr
    finally:
        _set_hostname(victim, victim.target.name)


def _set_hostname(victim: Victim, name: str) -> None:
    """hostname(1) would not take it; the kernel does."""
    victim.target.run("python3", "-c", "import socket, sys; socket.sethostname(sys.argv[1])", name)


# --- a fleet folder that somebody with merge rights changed
# ---------------------------------------------------------------


def _edit(path: str, old: str, new: str) -> Callable[[Path, Path], None]:
    def change(folder: Path, other: Path) -> None:
        file = folder / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    return change


def _remove(path: str) -> Callable[[Path, Path], None]:
    return lambda folder, other: (folder / path).unlink()


def _swap(folder: Path, other: Path) -> None:
    """Another fleet's trust, pins and bundle, each truly signed, under the same names."""
    shutil.rmtree(folder / "trust")
    shutil.copytree(other / "trust", folder / "trust")


def _swap_keeping_the_id(folder: Path, other: Path) -> None:
    ours = json.loads((folder / "trust/1.json").read_text())["fleet"]
    theirs = json.loads((other / "trust/1.json").read_text())["fleet"]
    _swap(folder, other)
    for file in (folder / "trust").glob("*.json"):
        file.write_text(file.read_text().replace(theirs, ours))


def _back(folder: Path, other: Path) -> None:
    newest = max((folder / "trust").glob("*.json"), key=lambda path: int(path.stem))
    newest.unlink()


FOLDERS: dict[str, Callable[[Path, Path], None]] = {
    "a byte in pins.toml": _edit("pins.toml", "fingerprint", "known_hosts"),
    "pins.toml without a signature": _remove("pins.toml.sig"),
    "a byte in the trust file": _edit("trust/1.json", '"name": "ana"', '"name": "eve"'),
    "a trust file without a signature": _remove("trust/1.json.sig"),
    "a trust version missing": _remove("trust/1.json"),
    "the newest trust version taken back": _back,
    "another fleet's trust": _swap,
    "another fleet's trust under our id": _swap_keeping_the_id,
}


@pytest.mark.parametrize("change", FOLDERS.values(), ids=FOLDERS)
@attack(
    "a fleet folder swapped by someone with merge rights",
    stopped_by="root's signatures, and the trust that this operator has seen before",
)
def test_a_fleet_folder_that_was_changed_is_not_used(
    victim: Victim, tmp_path: Path, change: Callable[[Path, Path], None]
) -> None:
    """A colleague's checkout: their keys and what they have seen are their own, the folder came by git."""
    folder = tmp_path / "checkout"
    shutil.copytree(victim.operator.fleet, folder)
    change(folder, new_operator(tmp_path).fleet)
    logins = _logins(victim)
    done = Operator(victim.operator.home, folder).run(*READ, check=False)
    assert done.returncode in ((3, 4) if change in (FOLDERS["a trust version missing"],) else (4,)), done.stderr
    assert _logins(victim) == logins


def _logins(victim: Victim) -> int:
    return victim.target.run("journalctl", "-u", "ssh", "--no-pager").stdout.count("Accepted")
