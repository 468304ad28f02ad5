"""Signatures from a real ssh-agent, and from agents that are broken or lie."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from serverflow_cli.errors import TrustError
from serverflow_cli.trust import keys, sshsig
from serverflow_cli.trust.agent import Agent, AgentKey

from ..ssh_agent import SshAgent, key_file, ssh_agent

MESSAGE = b"exactly this"


@pytest.fixture
def agent() -> Iterator[SshAgent]:
    with ssh_agent() as started:
        yield started


def public(path: Path) -> bytes:
    return keys.parse_public(path.with_name(path.name + ".pub").read_text())


def held(agent: SshAgent, path: Path) -> AgentKey:
    return AgentKey(public(path), Agent(agent.socket), path.name)


def test_it_signs_as_the_file_would(agent: SshAgent, tmp_path: Path) -> None:
    path = key_file(tmp_path / "key")
    agent.add(path)
    signer, file = held(agent, path), keys.load(path)
    assert signer.sign(MESSAGE) == file.sign(MESSAGE)  # Ed25519 has one signature for a message
    assert signer.openssh == path.with_name("key.pub").read_text().strip()
    blob = sshsig.sign(signer, sshsig.COMMAND, MESSAGE)
    assert sshsig.verify(blob, sshsig.COMMAND, MESSAGE) == file.public_key


def test_what_it_holds(agent: SshAgent, tmp_path: Path) -> None:
    assert Agent(agent.socket).identities() == {}
    paths = [key_file(tmp_path / "one"), key_file(tmp_path / "two", "secret"), key_file(tmp_path / "rsa", kind="rsa")]
    for path in paths:
        agent.add(path, passphrase="secret" if path.name == "two" else "")
    lines = [path.with_name(path.name + ".pub").read_text() for path in paths]
    assert Agent(agent.socket).identities() == {keys.blob_of(line): line.split()[2] for line in lines}


def test_a_key_that_was_taken_out(agent: SshAgent, tmp_path: Path) -> None:
    path = key_file(tmp_path / "key")
    agent.add(path)
    agent.remove(path)
    with pytest.raises(TrustError, match="declined to sign with key"):
        held(agent, path).sign(MESSAGE)


def test_a_locked_agent(agent: SshAgent, tmp_path: Path) -> None:
    path = key_file(tmp_path / "key")
    agent.add(path)
    agent.lock()
    assert Agent(agent.socket).identities() == {}
    with pytest.raises(TrustError, match="declined") as caught:
        held(agent, path).sign(MESSAGE)
    assert "ssh-add -X" in caught.value.hint
    agent.unlock()
    held(agent, path).sign(MESSAGE)


def test_a_person_declines(agent: SshAgent, tmp_path: Path) -> None:
    path = key_file(tmp_path / "key")
    agent.add(path, "-c")
    agent.answer(yes=False)
    with pytest.raises(TrustError, match="declined"):
        held(agent, path).sign(MESSAGE)
    agent.answer(yes=True)
    held(agent, path).sign(MESSAGE)


def test_an_agent_that_is_gone(agent: SshAgent, tmp_path: Path) -> None:
    path = key_file(tmp_path / "key")
    agent.add(path)
    agent.kill()
    for where in agent.socket, str(tmp_path / "nowhere"), "", "a\0b", "x" * 200:
        with pytest.raises(TrustError, match="does not answer") as caught:
            AgentKey(public(path), Agent(where)).sign(MESSAGE)
        assert caught.value.code == "no-agent"
        with pytest.raises(TrustError, match="does not answer"):
            Agent(where).identities()


# --- agents that lie -------------------------------------------------------------------------------------------------


@contextmanager
def fake(answer: Callable[[bytes], bytes], *, hang: bool = False) -> Iterator[Agent]:
    """An agent that answers one request with these bytes, and then hangs up, or does not."""
    with TemporaryDirectory(prefix="sf-agent-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = os.path.join(folder, "fake")
        listener.bind(path)
        listener.listen()
        over = threading.Event()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                (size,) = struct.unpack(">I", connection.recv(4, socket.MSG_WAITALL))
                with suppress(BrokenPipeError):  # who reads a too long answer to its end?
                    connection.sendall(answer(connection.recv(size, socket.MSG_WAITALL)))
                if hang:
                    over.wait()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Agent(path, answer_s=0.3, sign_s=0.3)
        finally:
            over.set()
            thread.join()


def string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def framed(kind: int, rest: bytes = b"") -> bytes:
    return string(bytes([kind]) + rest)


KEY = keys.new_private_key("x")
SIGNATURE = string(b"ssh-ed25519") + string(KEY.sign(MESSAGE))
IDENTITIES = struct.pack(">I", 1) + string(keys.public_blob(KEY.public_key)) + string(b"mine")


def test_the_fake_can_tell_the_truth() -> None:
    asked = []

    def signs(request: bytes) -> bytes:
        asked.append(request)
        return framed(14, string(SIGNATURE))

    with fake(signs) as agent:
        assert AgentKey(KEY.public_key, agent).sign(MESSAGE) == KEY.sign(MESSAGE)
    assert asked == [b"\x0d" + string(keys.public_blob(KEY.public_key)) + string(MESSAGE) + bytes(4)]
    with fake(lambda _: framed(12, IDENTITIES)) as agent:
        assert agent.identities() == {keys.public_blob(KEY.public_key): "mine"}


def test_every_cut_of_an_answer_is_refused() -> None:
    whole = framed(14, string(SIGNATURE))
    for size in range(len(whole)):
        with fake(lambda _, size=size: whole[:size]) as agent, pytest.raises(TrustError):  # type: ignore[misc]  # a default
            AgentKey(KEY.public_key, agent).sign(MESSAGE)
    for size in range(len(IDENTITIES)):
        answer = framed(12, IDENTITIES[:size])
        with fake(lambda _, answer=answer: answer) as agent, pytest.raises(TrustError):  # type: ignore[misc]  # likewise
            agent.identities()


ODD = {
    "nothing": b"",
    "no type": struct.pack(">I", 0),
    "a huge length": b"\xff" * 4 + b"\x0e" * 100,
    "more than OpenSSH's limit": struct.pack(">I", 256 * 1024 + 1) + bytes(256 * 1024 + 1),
    "another answer": framed(6),
    "the other answer": framed(12, IDENTITIES),
    "something behind": framed(14, string(SIGNATURE) + b"x"),
    "something behind the signature": framed(14, string(SIGNATURE + b"x")),
    "an empty signature": framed(14, string(b"")),
    "another algorithm": framed(14, string(string(b"ssh-rsa") + string(bytes(64)))),
    "a hardware token's": framed(14, string(string(b"sk-ssh-ed25519@openssh.com") + string(bytes(64)) + bytes(5))),
    "a short signature": framed(14, string(string(b"ssh-ed25519") + string(bytes(63)))),
    "a wrong signature": framed(14, string(string(b"ssh-ed25519") + string(bytes(64)))),
    "another key's": framed(14, string(string(b"ssh-ed25519") + string(keys.new_private_key("y").sign(MESSAGE)))),
    "another message's": framed(14, string(string(b"ssh-ed25519") + string(KEY.sign(MESSAGE + b"!")))),
}


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD.keys())
def test_odd_answers_to_a_request_to_sign(answer: bytes) -> None:
    with fake(lambda _: answer) as agent, pytest.raises(TrustError, match="ssh-agent"):
        AgentKey(KEY.public_key, agent).sign(MESSAGE)


@pytest.mark.parametrize(
    "body",
    [
        IDENTITIES + b"x",
        struct.pack(">I", 0) + b"x",
        struct.pack(">I", 2) + IDENTITIES[4:],
        b"\xff" * 4 + IDENTITIES[4:],
        struct.pack(">I", 1) + b"\xff" * 4 + b"x",
        struct.pack(">I", 2049) + bytes(8 * 2049),
    ],
    ids=range(6),  # not by what is another key each time: workers compare names
)
def test_odd_lists(body: bytes) -> None:
    with fake(lambda _: framed(12, body)) as agent, pytest.raises(TrustError, match="makes no sense"):
        agent.identities()


@pytest.mark.parametrize("said", [b"", b"\0", framed(14, string(SIGNATURE))[:-1]], ids=range(3))
def test_an_agent_that_hangs(said: bytes) -> None:
    with fake(lambda _: said, hang=True) as agent, pytest.raises(TrustError, match="does not answer"):
        AgentKey(KEY.public_key, agent).sign(MESSAGE)


def test_a_comment_cannot_forge_a_line() -> None:
    body = struct.pack(">I", 1) + string(keys.public_blob(KEY.public_key)) + string(b"a\nssh-ed25519 \x1b[2J\xff")
    with fake(lambda _: framed(12, body)) as agent:
        (comment,) = agent.identities().values()
    assert comment == "a?ssh-ed25519 ?[2J\ufffd"


def test_no_key_of_a_hardware_token(tmp_path: Path) -> None:
    path = tmp_path / "token.pub"
    blob = string(b"sk-ssh-ed25519@openssh.com") + string(bytes(32)) + string(b"ssh:")
    line = subprocess.run(["base64", "-w0"], input=blob, capture_output=True, check=True).stdout.decode()
    path.write_text(f"sk-ssh-ed25519@openssh.com {line} me\n")
    with pytest.raises(Exception, match="hardware token"):
        keys.read(path)
