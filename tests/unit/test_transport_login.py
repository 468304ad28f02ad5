"""What asyncssh is given to log in with: the keys that were named, and none of the agent's others."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from serverflow_cli.errors import TrustError
from serverflow_cli.transport.login import Login, LoginKeys
from serverflow_cli.trust import keys

from ..ssh_agent import SshAgent, key_file, ssh_agent


@pytest.fixture
def agent() -> Iterator[SshAgent]:
    with ssh_agent() as started:
        yield started


def line(path: Path) -> str:
    return " ".join(path.with_name(f"{path.name}.pub").read_text().split()[:2])


def offered(given: LoginKeys) -> list[str]:
    async def load() -> list[str]:
        login = Login(given)
        pairs, again = await asyncio.gather(login.pairs(asyncssh), login.pairs(asyncssh))
        assert pairs is again
        found = [f"ssh-ed25519 {base64.b64encode(pair.public_data).decode()}" for pair in pairs]
        await login.close()
        return found

    return asyncio.run(load())


def test_only_the_named_keys_of_an_agent(agent: SshAgent, tmp_path: Path) -> None:
    paths = [key_file(tmp_path / str(number)) for number in range(4)]
    for path in paths:
        agent.add(path)
    wanted = {line(paths[1]), line(paths[3])}
    assert set(offered(LoginKeys((), tuple(wanted), agent.socket))) == wanted
    assert offered(LoginKeys((), (), agent.socket)) == []
    mine = keys.new_private_key("")
    both = LoginKeys((keys.private_text(mine),), (line(paths[0]),), agent.socket)
    assert offered(both) == [keys.public_line(mine.public_key), line(paths[0])]


def test_an_agent_that_lost_the_key_since(agent: SshAgent, tmp_path: Path) -> None:
    path = key_file(tmp_path / "key")
    with pytest.raises(TrustError, match="no longer shows our login key"):
        offered(LoginKeys((), (line(path),), agent.socket))
    agent.kill()
    with pytest.raises(TrustError, match="does not answer"):
        offered(LoginKeys((), (line(path),), agent.socket))


def test_an_agent_that_declines_is_told_apart_from_a_server_that_does(agent: SshAgent, tmp_path: Path) -> None:
    path = key_file(tmp_path / "key")
    agent.add(path, "-c")

    async def sign() -> bool:
        login = Login(LoginKeys((), (line(path),), agent.socket))
        (pair,) = await login.pairs(asyncssh)
        try:
            await pair.sign_async(b"x")
        except ValueError:
            assert login.declined
        finally:
            await login.close()
        return login.declined

    agent.answer(yes=True)
    assert not asyncio.run(sign())
    agent.answer(yes=False)
    assert asyncio.run(sign())


def test_private_halves_are_not_shown() -> None:
    assert "PRIVATE" not in repr(LoginKeys((keys.private_text(keys.new_private_key("")),)))
