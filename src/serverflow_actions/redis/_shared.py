"""What the verbs of this area share: the names of an instance's parts, and its configuration file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..kit import Probe, Refused
from ..kit.spec import Param, param

CONFIG_FOLDER = "/etc/redis"
DATA_FOLDER = "/var/lib/redis"

NAME: Param = param("name", "name", "Instance name", positional=True, complete="redis")

_MARK = "# Written by ServerFlow (redis.create): changes by hand are undone.\n"

#: redis.conf: a snapshot after an hour with 1 change, 5 minutes with 100, a minute with 10000.
_SAVE = {
    "none": 'save ""\nappendonly no\n',
    "rdb": "save 3600 1\nsave 300 100\nsave 60 10000\nappendonly no\n",
    "aof": 'save ""\nappendonly yes\nappendfsync everysec\n',
}


@dataclass(frozen=True)
class Instance:
    """An instance of Debian's template unit redis-server@NAME.service."""

    name: str

    @property
    def unit(self) -> str:
        return f"redis-server@{self.name}.service"

    @property
    def config(self) -> str:
        return f"{CONFIG_FOLDER}/redis-{self.name}.conf"

    @property
    def data(self) -> str:
        """The prefix keeps a name such as `appendonlydir` apart from what the distribution's instance stores."""
        return f"{DATA_FOLDER}/redis-{self.name}"

    def render(
        self, port: int, listen: Sequence[str], memory: int, policy: str, persistence: str, password: str
    ) -> str:
        """The configuration file, for Redis 6.0 and later."""
        return (
            f"{_MARK}"
            f"bind {' '.join(dict.fromkeys(['127.0.0.1', *listen]))}\n"
            f"port {port}\n"
            "protected-mode yes\n"
            f"requirepass {password}\n"
            f"maxmemory {memory}\n"
            f"maxmemory-policy {policy}\n"
            f"{_SAVE[persistence]}"
            f"dir {self.data}\n"
            f"pidfile /run/redis-{self.name}/redis-server.pid\n"
            'logfile ""\n'
        )

    def settings(self, probe: Probe) -> dict[str, str]:
        """What the configuration file says, {} when there is none. Refused when someone else wrote it."""
        content = probe.read(self.config, follow=False)
        if content is None:
            return {}
        text = content.decode("utf-8", "replace")
        if not text.startswith(_MARK):
            raise Refused(f"{self.config} was not written by ServerFlow: it is left alone")
        return parse(text)


def parse(text: str) -> dict[str, str]:
    """Settings of a redis.conf, the last one of each name; quotes are removed."""
    return {key: value.strip('"') for key, value in re.findall(r"^([a-z-]+) +(.+?) *$", text, re.M)}


def port_owner(probe: Probe, port: int, own: Instance) -> str:
    """Which other Redis has the port, "" when none."""
    for file in probe.names(CONFIG_FOLDER):
        path = f"{CONFIG_FOLDER}/{file}"
        match = re.match(r"redis(?:-([a-z0-9-]+))?\.conf\Z", file)
        if not match or path == own.config:
            continue
        unit = Instance(match.group(1)).unit if match.group(1) else "redis-server.service"
        found = parse((probe.read(path, follow=False) or b"").decode("utf-8", "replace"))
        # The distribution's own file is always there, its instance may not be.
        if found.get("port", "6379") == str(port) and (match.group(1) or probe.unit(unit).active == "active"):
            return unit
    return ""
