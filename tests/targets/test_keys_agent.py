"""Where an operator's key may be: in ssh-agent, in a file with a passphrase, in a CI job's environment. New clones."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pexpect
import pytest

from ..ssh_agent import SshAgent, key_file, ssh_agent
from .operator import SF, Operator
from .target import Target, call

Fresh = Callable[..., Target]


@dataclass(frozen=True)
class Equipped(Operator):
    """An operator with environment variables of their own."""

    extra: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        return {**super().environment(), **self.extra}

    def at_terminal(self, *argv: str) -> pexpect.spawn[str]:
        return pexpect.spawn(
            str(SF), [*argv], env=self.environment(), cwd=str(self.fleet), encoding="utf-8", timeout=60
        )


def equipped(folder: Path, fleet: Path, **extra: str) -> Equipped:
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    return Equipped(home, fleet, extra)


@pytest.fixture
def agent() -> Iterator[SshAgent]:
    with ssh_agent() as started:
        yield started


def refused(operator: Operator, *words: str) -> None:
    """A read that is refused here, before the server hears of it."""
    done = operator.run("system", "info", "--on", "web1", check=False)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "sf: error:" in done.stderr and "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def ended(terminal: pexpect.spawn[str]) -> tuple[int, str]:
    """The exit code and what was still said."""
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus is not None
    return terminal.exitstatus, str(terminal.before)


def test_a_key_that_only_an_agent_holds(fresh_target: Fresh, tmp_path: Path, agent: SshAgent) -> None:
    target = fresh_target()
    for number in range(8):  # more than sshd lets a client try (MaxAuthTries 6): no other key may be offered
        agent.add(key_file(tmp_path / f"other{number}"))
    path, public = key_file(tmp_path / "mine"), tmp_path / "mine.pub"
    fleet = tmp_path / "fleet"
    operator = equipped(tmp_path, tmp_path, SSH_AUTH_SOCK=agent.socket)
    done = operator.run("init", str(fleet), "--name", "ana", "--key", str(public), check=False)
    assert done.returncode == 4 and f"ssh-add {path}" in done.stderr
    assert not fleet.exists()

    agent.add(path)
    path.rename(tmp_path / "away")
    operator.run("init", str(fleet), "--name", "ana", "--key", str(public))
    operator = equipped(tmp_path, fleet, SSH_AUTH_SOCK=agent.socket)
    assert not (operator.private / "command").exists()
    operator.add("web1", target, "--role", "app")
    assert operator.json("system", "info", "--on", "web1")["ok"]
    assert operator.json("service", "restart", "cron", "--on", "web1", "--yes")["ok"]
    operator.run("audit", "verify")
    logins = target.run("journalctl", "-o", "cat", "-t", "sshd", "-t", "sshd-session").stdout
    assert "Accepted publickey for serverflow" in logins and "Too many authentication failures" not in logins

    agent.lock()
    refused(operator, "not in an ssh-agent", "ssh-add -X")
    agent.unlock()
    agent.remove(tmp_path / "mine")
    agent.add(tmp_path / "away", "-c")  # from now on the agent asks a person
    agent.answer(yes=False)
    refused(operator, "ssh-agent declined", "ssh-add -X")
    agent.answer(yes=True)
    assert operator.json("system", "info", "--on", "web1")["ok"]
    agent.kill()
    refused(operator, "ssh-agent does not answer")
    refused(equipped(tmp_path, fleet), "SSH_AUTH_SOCK is not set")


def test_a_key_with_a_passphrase(fresh_target: Fresh, tmp_path: Path, agent: SshAgent) -> None:
    target, path, fleet = fresh_target(), key_file(tmp_path / "mine", "secret"), tmp_path / "fleet"
    start = equipped(tmp_path, tmp_path)
    argv = ["init", str(fleet), "--name", "ana", "--key", str(path)]
    done = start.run(*argv, check=False)
    assert done.returncode == 4 and f"ssh-add {path}" in done.stderr and not fleet.exists()
    for typed, code in ("wrong", 4), ("secret", 0):
        terminal = start.at_terminal(*argv)
        terminal.expect(f"Passphrase of {path}: ")
        terminal.sendline(typed)
        assert ended(terminal)[0] == code
        assert fleet.exists() == (code == 0)

    with_agent = equipped(tmp_path, fleet, SSH_AUTH_SOCK=agent.socket)
    agent.add(path, passphrase="secret")
    with_agent.add("web1", target, "--role", "app")
    assert with_agent.json("system", "info", "--on", "web1")["ok"]

    operator = equipped(tmp_path, fleet)
    refused(operator, "nobody can be asked", f"ssh-add {path}")
    terminal = operator.at_terminal("service", "restart", "cron", "--on", "web1", "--yes")
    terminal.expect(f"Passphrase of {path}: ")
    terminal.sendline("secret")
    code, said = ended(terminal)
    assert code == 0 and "Passphrase" not in said and "secret" not in said  # once, for the login and the command
    terminal = operator.at_terminal("system", "info", "--on", "web1")
    terminal.expect(f"Passphrase of {path}: ")
    terminal.sendline("Secret")
    code, said = ended(terminal)
    assert code == 4 and "does not open with this passphrase" in said


def root_fingerprint(operator: Operator) -> str:
    return call("ssh-keygen", "-lf", operator.private / "root.pub").stdout.split()[1]


def clone(operator: Operator, folder: Path) -> Path:
    """The fleet folder as git would bring it to another machine."""
    return Path(shutil.copytree(operator.fleet, folder / "clone"))


def test_a_ci_job(operator: Operator, tmp_path: Path) -> None:
    fleet, root, key = clone(operator, tmp_path), root_fingerprint(operator), operator.private / "command"
    for number, settings in enumerate(({"SF_KEY": key.read_text()}, {"SF_KEY_FILE": str(key)})):
        job = equipped(tmp_path / str(number), fleet, SF_ROOT=root, **settings)
        assert job.json("system", "info", "--on", "web1")["ok"]
        assert job.json("service", "restart", "cron", "--on", "web1", "--yes")["ok"]
        kept = "".join(path.read_text() for path in job.home.rglob("*") if path.is_file())
        assert "PRIVATE KEY" not in kept
    closed = key_file(tmp_path / "closed", "secret")
    refused(
        equipped(tmp_path / "2", fleet, SF_ROOT=root, SF_KEY=closed.read_text()),
        "the key in the environment has a passphrase",
        "SF_KEY_FILE",
    )
    refused(equipped(tmp_path / "3", fleet, SF_ROOT=root, SF_KEY_FILE=str(closed)), f"ssh-add {closed}")
    refused(equipped(tmp_path / "4", fleet, SF_KEY=key.read_text()), "has not seen this fleet yet", "SF_ROOT")


def test_a_new_clone_asks_for_the_root_fingerprint(operator: Operator, tmp_path: Path) -> None:
    fleet, root = clone(operator, tmp_path), root_fingerprint(operator)
    colleague = equipped(tmp_path, fleet, SF_KEY_FILE=str(operator.private / "command"))
    refused(colleague, "git cannot vouch for it", "SF_ROOT")
    for typed, words in (
        ("SHA256:" + "A" * 43, "this trust chain"),
        ("yes", "not a root key's fingerprint"),
        ("", "not a root key's fingerprint"),
    ):
        terminal = colleague.at_terminal("system", "info", "--on", "web1")
        terminal.expect("Root fingerprint that a colleague reads out .*: ")
        assert root not in str(terminal.before) + str(terminal.after)
        terminal.sendline(typed)
        code, said = ended(terminal)
        assert code == 4 and words in said, said
    assert not list(colleague.home.rglob("anchor.json"))

    terminal = colleague.at_terminal("system", "info", "--on", "web1")
    terminal.expect("Root fingerprint that a colleague reads out .*: ")
    terminal.sendline(root)
    code, said = ended(terminal)
    assert code == 0 and "Debian" in said
    assert colleague.json("system", "info", "--on", "web1")["ok"]  # known from now on
