"""What a machine can sign with: plain files, passphrases, an agent, the environment, and keys while they rotate."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from serverflow_cli.config.environment import Settings
from serverflow_cli.errors import ConfigError, SfError, TrustError
from serverflow_cli.flows.keyring import Keyring
from serverflow_cli.trust import keys
from serverflow_cli.trust.agent import AgentKey
from serverflow_cli.trust.keys import PrivateKey
from serverflow_cli.trust.sshsig import COMMAND, Signer, sign, verify

from ..ssh_agent import SshAgent, key_file, ssh_agent


@dataclass
class Person:
    """Types this whenever somebody asks; `asked` are the questions."""

    types: str = "secret"
    asked: list[str] = field(default_factory=list)

    def confirm(self, question: str, *, otherwise: str = "") -> bool:
        raise AssertionError(question)

    def text(self, question: str, *, otherwise: str) -> str:
        raise AssertionError(question)

    def hidden(self, question: str, *, otherwise: str) -> str:
        self.asked.append(question)
        return self.types


@pytest.fixture
def agent() -> Iterator[SshAgent]:
    with ssh_agent() as started:
        yield started


@pytest.fixture
def private(tmp_path: Path) -> Path:
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    return folder


def made(folder: Path, name: str) -> PrivateKey:
    key = keys.generate(folder / name, name)
    assert isinstance(key, PrivateKey)
    return key


def public(path: Path) -> bytes:
    return keys.parse_public(path.with_name(path.name + ".pub").read_text())


def offered(keyring: Keyring) -> list[PrivateKey]:
    """The private keys to log in with."""
    return [keys.from_text(text) for text in keyring.login_keys().private]


def works(signer: Signer) -> bool:
    return verify(sign(signer, COMMAND, b"x"), COMMAND, b"x") == signer.public_key


def refused(keyring: Keyring, path: Path, kind: type[SfError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        keyring.open(path)
    for word in words:
        assert word in f"{caught.value.message}; {caught.value.hint}"


# --- one file --------------------------------------------------------------------------------------------------------


def test_a_plain_key_asks_nobody(private: Path) -> None:
    key, person = made(private, "command"), Person()
    keyring = Keyring(private, Settings(agent="/nowhere"), person)
    assert keyring.command([key.public_key]) == key == keyring.command([])
    assert offered(keyring) == [key]
    assert person.asked == []


def test_a_plain_key_loads_neither_cryptography_nor_asyncssh(private: Path) -> None:
    made(private, "command")
    program = (
        "import sys, pathlib; from serverflow_cli.config.environment import Settings;"
        "from serverflow_cli.flows.keyring import Keyring; keyring = Keyring(pathlib.Path(sys.argv[1]), Settings());"
        "keyring.command(()).sign(b''); keyring.login_keys();"
        "sys.exit(bool({'cryptography', 'asyncssh', 'serverflow_cli.trust.agent'} & {*sys.modules}))"
    )
    subprocess.run([sys.executable, "-c", program, str(private)], check=True)


def test_a_passphrase_is_asked_for_once(private: Path) -> None:
    path, person = key_file(private / "command", "secret"), Person()
    keyring = Keyring(private, Settings(), person)
    assert keyring.command_public([]) == public(path) and person.asked == []
    assert works(keyring.command([])) and works(keyring.command([]))
    assert len(keyring.login_keys().private) == 1
    assert person.asked == [f"Passphrase of {path}"]


def test_a_wrong_passphrase_and_nobody_to_ask(private: Path, agent: SshAgent) -> None:
    path = key_file(private / "command", "secret")
    refused(Keyring(private, Settings(), Person("Secret")), path, TrustError, "does not open")
    refused(Keyring(private, Settings()), path, TrustError, "nobody can be asked", f"ssh-add {path}")
    agent.kill()
    broken = Settings(agent=agent.socket)
    refused(Keyring(private, broken), path, TrustError, "ssh-agent does not answer", f"ssh-add {path}")
    assert works(Keyring(private, broken, Person()).open(path))


def test_the_agent_before_a_person(private: Path, agent: SshAgent) -> None:
    path, person = key_file(private / "command", "secret"), Person()
    agent.add(path, passphrase="secret")
    keyring = Keyring(private, Settings(agent=agent.socket), person)
    signer = keyring.command([])
    assert isinstance(signer, AgentKey) and works(signer) and person.asked == []
    login = keyring.login_keys()
    assert login.private == () and login.in_agent == (keys.public_line(public(path)),)
    agent.lock()
    assert isinstance(Keyring(private, Settings(agent=agent.socket), person).command([]), PrivateKey)
    assert len(person.asked) == 1


def test_a_pub_file(private: Path, agent: SshAgent, tmp_path: Path) -> None:
    path, beside = key_file(tmp_path / "a key"), tmp_path / "a key.pub"
    (private / "command.path").write_text(f"{beside}\n")
    agent.add(path)
    assert works(Keyring(private, Settings(agent=agent.socket)).command([]))
    agent.remove(path)
    refused(Keyring(private, Settings(agent=agent.socket), Person()), beside, TrustError, f"ssh-add '{path}'")
    refused(Keyring(private, Settings(), Person()), beside, TrustError, "SSH_AUTH_SOCK is not set")
    agent.kill()
    refused(Keyring(private, Settings(agent=agent.socket), Person()), beside, TrustError, "does not answer")


def test_pointers(private: Path, tmp_path: Path) -> None:
    for name in "command", "root", "release", "seal":
        assert Keyring(private, Settings()).path(name) == private / name
        (private / f"{name}.path").write_text(f"{tmp_path / name}\n")
        assert Keyring(private, Settings()).path(name) == tmp_path / name


# --- the environment -------------------------------------------------------------------------------------------------


def test_environment_before_files(private: Path, tmp_path: Path) -> None:
    made(private, "command")
    text, file, login = (made(tmp_path, name) for name in ("text", "file", "login"))
    settings = Settings(key=keys.private_text(text), key_file=str(tmp_path / "file"))
    assert Keyring(private, settings).command([]).public_key == text.public_key
    settings = Settings(key_file=str(tmp_path / "file"))
    assert Keyring(private, settings).command([]) == file
    assert offered(Keyring(private, settings)) == [file]
    settings = Settings(key_file=str(tmp_path / "file"), ssh_key_file=str(tmp_path / "login"))
    assert offered(Keyring(private, settings)) == [login]


def test_environment_with_a_passphrase(private: Path, tmp_path: Path, agent: SshAgent) -> None:
    path = key_file(tmp_path / "key", "secret")
    with pytest.raises(TrustError, match="environment has a passphrase"):
        Keyring(private, Settings(key=path.read_text()), Person()).command([])
    assert works(Keyring(private, Settings(key_file=str(path)), Person()).command([]))
    agent.add(path, passphrase="secret")
    named = Settings(key_file=f"{path}.pub", agent=agent.socket)
    assert isinstance(Keyring(private, named).command([]), AgentKey)


def test_any_key_of_the_agent_may_log_in(private: Path, tmp_path: Path, agent: SshAgent) -> None:
    made(private, "command")
    path = key_file(tmp_path / "rsa", kind="rsa")
    agent.add(path)
    login = Keyring(private, Settings(ssh_key_file=f"{path}.pub", agent=agent.socket)).login_keys()
    assert login.private == () and login.in_agent == (_line(path),)
    agent.remove(path)
    with pytest.raises(TrustError, match="not in an ssh-agent"):
        Keyring(private, Settings(ssh_key_file=f"{path}.pub", agent=agent.socket)).login_keys()


def _line(path: Path) -> str:
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])


# --- rotation --------------------------------------------------------------------------------------------------------


def test_a_key_that_is_being_rotated(private: Path) -> None:
    old, new = made(private, "command"), made(private, "command.next")
    keyring = Keyring(private, Settings())
    for trusted in [old.public_key], [old.public_key, new.public_key], []:
        assert keyring.command(trusted) == old
    assert offered(keyring) == [old, new]

    assert keyring.command([new.public_key]) == new
    assert sorted(path.name for path in private.iterdir() if path.name != ".sf.lock") == [
        "command",
        "command.old",
        "command.old.pub",
        "command.pub",
    ]
    assert (private / "command.pub").read_text().strip() == new.openssh
    assert offered(keyring) == [new, old]
    assert keyring.command([old.public_key]) == new  # there is no way back

    third = made(private, "command.next")
    assert keyring.command([third.public_key]) == third
    assert offered(keyring) == [third, new]


@pytest.mark.parametrize(("before", "after"), [("pointer", "file"), ("file", "pointer"), ("pointer", "pointer")])
def test_rotation_between_a_file_and_a_key_elsewhere(private: Path, tmp_path: Path, before: str, after: str) -> None:
    def place(name: str, form: str) -> PrivateKey:
        key = made(private if form == "file" else tmp_path, name)
        if form == "pointer":
            (private / f"{name}.path").write_text(f"{tmp_path / name}\n")
        return key

    old, new = place("command", before), place("command.next", after)
    keyring = Keyring(private, Settings())
    assert keyring.command([new.public_key]) == new
    assert Keyring(private, Settings()).command([new.public_key]) == new
    assert offered(keyring) == [new, old]
    assert not keyring.path("command.next").exists() or after == "pointer"


def test_a_crash_between_the_two_renames(private: Path) -> None:
    old, new = made(private, "command"), made(private, "command.next")
    for suffix in "", ".pub":
        (private / f"command{suffix}").rename(private / f"command.old{suffix}")
    keyring = Keyring(private, Settings())
    assert keyring.command([new.public_key]) == new
    assert offered(keyring) == [new, old]


def test_next_and_old_ask_nobody(private: Path, agent: SshAgent) -> None:
    key = made(private, "command")
    key_file(private / "command.next", "secret")
    old = key_file(private / "command.old", "secret")
    person = Person()
    keyring = Keyring(private, Settings(agent=agent.socket), person)
    assert offered(keyring) == [key]
    agent.add(old, passphrase="secret")
    login = Keyring(private, Settings(agent=agent.socket), person).login_keys()
    assert len(login.private) == 1 and login.in_agent == (keys.public_line(public(old)),)
    assert person.asked == []


@pytest.mark.parametrize("role", ["root", "release"])
def test_all_keys_of_a_role_that_trust_lists(private: Path, role: str) -> None:
    keyring = Keyring(private, Settings())
    assert keyring.signers(role, [b"x"]) == []
    old, new = made(private, role), made(private, f"{role}.next")
    assert keyring.signers(role, []) == []
    assert keyring.signers(role, [old.public_key]) == [old]
    assert keyring.signers(role, [old.public_key, new.public_key]) == [old, new]
    assert keyring.signers(role, [new.public_key]) == [new] == [keys.load(private / role)]
    assert keys.load(private / f"{role}.old") == old


def test_a_role_key_that_trust_does_not_list_is_not_opened(private: Path) -> None:
    key_file(private / "root", "secret")
    person = Person()
    assert Keyring(private, Settings(), person).signers("root", [b"x"]) == []
    assert person.asked == []
    assert len(Keyring(private, Settings(), person).signers("root", [public(private / "root")])) == 1
    assert len(person.asked) == 1


def test_no_key_at_all(private: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Keyring(private, Settings()).command([])
