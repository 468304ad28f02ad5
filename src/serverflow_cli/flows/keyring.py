"""What this machine can sign with for one fleet: key files, the environment, an ssh-agent."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.environment import Settings
from ..errors import ConfigError, TrustError

if TYPE_CHECKING:
    from ..transport.login import LoginKeys
    from ..trust.agent import Agent
    from ..trust.keys import ClosedKey, PrivateKey
    from ..trust.sshsig import Signer
    from .ask import Ask

#: A key beside a pointer to one elsewhere. The public half, which is for people, first: see `_move`.
_FORMS = (".pub", "", ".path")


class Keyring:
    """The keys of one fleet in its private folder: `command`, `root`, `release` and `seal`, or NAME.path, a pointer to
    a file elsewhere. While a key is rotated the new one is NAME.next; the one before stays as NAME.old.

    A file may be plain, or have a passphrase, or be the .pub file of a key in ssh-agent. The agent is asked first, a
    person then; `ask` is None where nobody can be asked.
    """

    def __init__(self, private: Path, settings: Settings, ask: Ask | None = None) -> None:
        self._private = private
        self._settings = settings
        self._ask = ask
        self._opened: dict[bytes, Signer] = {}

    def path(self, name: str) -> Path:
        """Where a key of this fleet is, or would be. `sf init --key` leaves a pointer."""
        pointer = self._private / f"{name}.path"
        return Path(pointer.read_text().strip()) if pointer.exists() else self._private / name

    def command(self, trusted: Collection[bytes]) -> Signer:
        """The command key: from the environment, a file that was named, or this fleet's own. `trusted` are the public
        keys in the newest trust file: they say whether a rotated key has its new form already.

        Raises ConfigError, TrustError.
        """
        return self._open(self._command(trusted))

    def command_public(self, trusted: Collection[bytes]) -> bytes:
        """The public half of the same, without asking for a passphrase."""
        return self._command(trusted).public_key

    def signers(self, role: str, trusted: Collection[bytes]) -> list[Signer]:
        """The keys of a role on this machine that trust lists, which while one is rotated are two.

        Raises ConfigError, TrustError.
        """
        self.settle(role, trusted)
        found = [self._read(path) for path in (self.path(role), self.path(f"{role}.next")) if path.exists()]
        return [self._open(key) for key in found if key.public_key in trusted]

    def login_keys(self) -> LoginKeys:
        """What opens the forced-command login: a file that was named, else the command key, and with it the next and
        the old one, for servers that did not hear of the change yet. Those two are left out if a passphrase hides them.

        Raises ConfigError, TrustError.
        """
        from ..transport.login import LoginKeys
        from ..trust import deploykey

        named = self._settings.ssh_key_file
        if named and named.endswith(".pub"):
            return LoginKeys((), (self._agent_line(Path(named).expanduser()),), self._settings.agent)
        if named:
            signers = [self.open(Path(named).expanduser())]
        elif self._settings.key:
            signers = [deploykey.from_text(self._settings.key).login]
        elif self._settings.key_file:
            signers = [self.command(())]
        else:
            signers = [self.open(self.path("command")), *self._at_hand("command.next"), *self._at_hand("command.old")]
        return self.login_of(*signers)

    def login_of(self, *signers: Signer) -> LoginKeys:
        """These keys as SSH login keys: those in the agent stay there."""
        from ..transport.login import LoginKeys
        from ..trust import keys

        return LoginKeys(
            tuple(keys.private_text(one) for one in signers if isinstance(one, keys.PrivateKey)),
            tuple(keys.public_line(one.public_key) for one in signers if not isinstance(one, keys.PrivateKey)),
            self._settings.agent,
        )

    def open(self, path: Path) -> Signer:
        """The key in a file, after asking for its passphrase where one is needed. Raises ConfigError, TrustError."""
        return self._open(self._read(path))

    def _command(self, trusted: Collection[bytes]) -> PrivateKey | ClosedKey:
        from ..trust import deploykey

        if self._settings.key:
            return deploykey.from_text(self._settings.key).signing
        if self._settings.key_file:
            return self._read(Path(self._settings.key_file).expanduser())
        self.settle("command", trusted)
        return self._read(self.path("command"))

    def _at_hand(self, name: str) -> list[Signer]:
        """A key that opens without a question, if there is one."""
        from ..trust import keys

        with suppress(ConfigError):
            key = self._read(self.path(name))
            if isinstance(key, keys.PrivateKey) or key.public_key in self._opened or self._in_agent(key.public_key):
                return [self._open(key)]
        return []

    # --- opening -----------------------------------------------------------------------------------------------------

    def _read(self, path: Path) -> PrivateKey | ClosedKey:
        from ..trust import keys

        return keys.read(path)

    def _open(self, key: PrivateKey | ClosedKey) -> Signer:
        from ..trust import keys

        if isinstance(key, keys.PrivateKey):
            return key
        if key.public_key not in self._opened:
            self._opened[key.public_key] = self._from_agent(key) or self._by_passphrase(key)
        return self._opened[key.public_key]

    def _from_agent(self, key: ClosedKey) -> Signer | None:
        from ..trust.agent import AgentKey

        if not self._in_agent(key.public_key):
            return None
        return AgentKey(key.public_key, self._agent, Path(key.where).name)

    def _by_passphrase(self, key: ClosedKey) -> Signer:
        if not key.text:
            raise self._not_in_agent(key.where)
        hint = f"ssh-add {shlex.quote(key.where)}"
        if self._ask is None:
            raise TrustError(
                f"{key.where} has a passphrase, and nobody can be asked for it here{self._agent_trouble}",
                code="needs-passphrase",
                hint=hint,
            )
        return key.open(self._ask.hidden(f"Passphrase of {key.where}", otherwise=hint))

    # --- ssh-agent ---------------------------------------------------------------------------------------------------

    @cached_property
    def _agent(self) -> Agent:
        from ..trust.agent import Agent

        return Agent(self._settings.agent)

    @cached_property
    def _held(self) -> tuple[Collection[bytes], str]:
        """The keys in the agent, asked for once, and what is wrong with it: a person may type a passphrase instead."""
        if not self._settings.agent:
            return (), "SSH_AUTH_SOCK is not set"
        try:
            return self._agent.identities().keys(), ""
        except TrustError as error:
            return (), error.message

    @property
    def _agent_trouble(self) -> str:
        return f"; {self._held[1]}" if self._settings.agent and self._held[1] else ""

    def _in_agent(self, public_key: bytes) -> bool:
        from ..trust import keys

        return keys.public_blob(public_key) in self._held[0]

    def _not_in_agent(self, path: str) -> TrustError:
        return TrustError(
            f"{path} is a public key, and its private half is not in an ssh-agent: "
            + (self._held[1] or "the one here does not show it"),
            code="not-in-agent",
            hint=f"ssh-add {shlex.quote(path.removesuffix('.pub'))}, or ssh-add -X where it is locked",
        )

    def _agent_line(self, path: Path) -> str:
        """A .pub file's line, of any type: a key on a hardware token may log in too. Raises TrustError, ConfigError."""
        from ..trust import keyfile, keys

        line = " ".join(keyfile.read_public(path).split(" ")[:2])
        if keys.blob_of(line) not in self._held[0]:
            raise self._not_in_agent(str(path))
        return line

    # --- rotation ----------------------------------------------------------------------------------------------------

    def settle(self, name: str, trusted: Collection[bytes]) -> None:
        """Once trust lists the next key and no longer this one, put it in its place and keep this one as NAME.old."""
        if self._is_due(name, trusted):
            from ..config.atomic import locked

            with locked(self._private / name):
                if self._is_due(name, trusted):  # another `sf` may have been here
                    if self.path(name).exists():
                        self._move(name, f"{name}.old")
                    self._move(f"{name}.next", name)

    def _is_due(self, name: str, trusted: Collection[bytes]) -> bool:
        this, following = self.path(name), self.path(f"{name}.next")
        if not following.exists() or self._read(following).public_key not in trusted:
            return False
        return not this.exists() or self._read(this).public_key not in trusted

    def _move(self, source: str, destination: str) -> None:
        """Rename a key in each of its forms. What counts moves last: the next `settle` makes good a crash between."""
        for form in _FORMS:
            (self._private / f"{destination}{form}").unlink(missing_ok=True)
        for form in _FORMS:
            with suppress(FileNotFoundError):
                (self._private / f"{source}{form}").rename(self._private / f"{destination}{form}")
