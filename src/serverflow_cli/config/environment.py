"""The environment variables that `sf` knows, read once; programs that it starts do not inherit its own."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field

VARIABLES = ("SF_FLEET", "SF_KEY", "SF_KEY_FILE", "SF_SSH_KEY_FILE", "SF_SEAL_KEY", "SF_ROOT")


@dataclass(frozen=True)
class Settings:
    """What the environment says; "" is not set. The command line wins over it. Private keys stay out of `repr`."""

    fleet: str = ""
    key: str = field(default="", repr=False)
    key_file: str = ""
    ssh_key_file: str = ""
    seal_key: str = field(default="", repr=False)
    root: str = ""
    #: The socket of an ssh-agent, SSH_AUTH_SOCK. Not ours alone: it stays in the environment.
    agent: str = ""


def read_environment(env: Mapping[str, str]) -> Settings:
    """The settings in an environment, without changing it."""
    own = {name.removeprefix("SF_").lower(): env.get(name, "") for name in VARIABLES}
    return Settings(**own, agent=env.get("SSH_AUTH_SOCK", ""))


def forget_environment(env: MutableMapping[str, str]) -> None:
    """Remove our variables (from `os.environ`), so that ssh-agent helpers, editors and hooks never see a key."""
    for name in VARIABLES:
        env.pop(name, None)
