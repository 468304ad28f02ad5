"""The area redis on a real server: what is changed is seen with redis-cli(1), systemctl(1) and plain sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from .areas import changed, planned, refused, run, told
from .operator import Operator, new_operator
from .target import Fleet, Target, call

_CREATE = "redis", "create", "cache", "--max-memory", "64MiB"
_CONFIG = "/etc/redis/redis-cache.conf"
_KEPT = "/var/lib/serverflow/kept"


@dataclass(frozen=True)
class Instance:
    """A server that has one Redis, made by `sf` on a system that had none."""

    operator: Operator
    target: Target
    password: str
    first: list[str]

    def ask(self, *words: str) -> str:
        argv = "redis-cli", "--no-auth-warning", "-a", self.password, *words
        return self.target.run(*argv, check=False).stdout.strip()


@pytest.fixture(scope="module")
def cache(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    target = fleet.start_fresh("debian12")
    operator = new_operator(tmp_path_factory.mktemp("redis"))
    operator.add("web1", target)
    made = run(operator, *_CREATE, "--yes")
    yield Instance(operator, target, made["secrets"]["redis.cache password"], told(made))
    fleet.remove(target)


def test_create(cache: Instance) -> None:
    assert [change for change in cache.first if "redis-server.service.d" not in change] == [
        "create package redis-server",
        "create directory /var/lib/redis/redis-cache",
        "create file /etc/redis/redis-cache.conf",
        "update unit redis-server@cache.service",
    ]
    assert cache.ask("ping") == "PONG"
    assert cache.ask("config", "get", "maxmemory").split() == ["maxmemory", str(64 << 20)]
    assert cache.target.run("systemctl", "is-enabled", "redis-server@cache").stdout == "enabled\n"
    again = run(cache.operator, *_CREATE, "--yes")
    assert (again["outcome"], again["changes"], "secrets" in again) == ("unchanged", [], False)


def test_only_loopback_and_only_with_the_password(cache: Instance) -> None:
    assert "NOAUTH" in cache.target.run("redis-cli", "ping", check=False).stdout
    with pytest.raises(ConnectionRefusedError), socket.create_connection((cache.target.ip, 6379), timeout=5):
        pass
    assert cache.target.run("systemctl", "is-active", "redis-server", check=False).stdout == "inactive\n"
    cache.target.run("systemctl", "start", "redis-server", check=False)
    assert cache.target.run("systemctl", "is-active", "redis-server", check=False).stdout == "inactive\n"


def test_show_tells_the_connection_without_the_password(cache: Instance) -> None:
    shown = run(cache.operator, "redis", "show", "cache")["data"]
    assert (shown["active"], shown["url"], shown["max_memory"]) == ("active", "redis://127.0.0.1:6379/0", 64 << 20)
    assert cache.password not in str(shown)


def test_damage_is_drift_and_is_repaired(cache: Instance) -> None:
    cache.target.run("systemctl", "disable", "--now", "redis-server@cache")
    cache.target.run("sed", "-i", "s/^port 6379/port 7777/", _CONFIG)
    cache.target.run("chmod", "0644", _CONFIG)
    assert cache.operator.run("plan", "--check", check=False).returncode == 11
    assert planned(cache.operator, *_CREATE) == [
        "update file /etc/redis/redis-cache.conf",
        "update unit redis-server@cache.service",
    ]
    changed(cache.operator, *_CREATE, "--yes")
    assert cache.ask("ping") == "PONG"
    assert cache.target.run("stat", "-c", "%U:%G %a", _CONFIG).stdout == "root:redis 640\n"
    assert cache.operator.run("plan", "--check").returncode == 0


def test_a_crash_between_the_file_and_the_restart_heals(cache: Instance) -> None:
    bigger = "redis", "create", "cache", "--max-memory", "96MiB"
    cache.target.run("sed", "-i", f"s/^maxmemory [0-9]*$/maxmemory {96 << 20}/", _CONFIG)
    assert cache.ask("config", "get", "maxmemory").split()[1] == str(64 << 20)
    assert planned(cache.operator, *bigger) == ["run unit redis-server@cache.service"]
    changed(cache.operator, *bigger, "--yes")
    assert cache.ask("config", "get", "maxmemory").split()[1] == str(96 << 20)
    changed(cache.operator, *_CREATE, "--yes")


def test_it_comes_back_after_a_reboot_with_its_data(cache: Instance) -> None:
    assert cache.ask("set", "colour", "blue") == "OK"
    cache.target.reboot()
    assert cache.ask("get", "colour") == "blue"
    assert run(cache.operator, *_CREATE, "--yes")["outcome"] == "unchanged"


def test_the_password_is_nowhere_but_in_the_configuration(cache: Instance) -> None:
    places = "/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/usr/local", "/var"
    found = cache.target.run("grep", "-rlsF", "--devices=skip", cache.password, *places, check=False).stdout
    by_hand = [path for path in found.split() if path.startswith(f"{_KEPT}/")]
    assert set(found.split()) - set(by_hand) == {_CONFIG}
    # Versions that somebody had changed by hand, kept for root alone.
    assert {cache.target.run("stat", "-c", "%a %U", path).stdout for path in (_KEPT, *by_hand)} <= {
        "700 root\n",
        "600 root\n",
    }
    journal = cache.target.run("journalctl", "--no-pager", "--output=export", "--all").stdout
    assert "serverflow" in journal
    assert cache.password not in journal
    said = cache.target.run("sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; true").stdout
    assert cache.password not in said
    kept = call("grep", "-rlF", cache.password, cache.operator.home, cache.operator.fleet, check=False)
    assert kept.stdout == ""


def test_a_port_is_given_once(cache: Instance) -> None:
    cache.target.run("sh", "-c", f"sed s/6379/7777/ {_CONFIG} > /etc/redis/redis-other.conf")
    said = refused(cache.operator, "redis", "create", "second", "--port", "7777", "--yes")
    assert "port 7777 belongs to redis-server@other.service" in said
    cache.target.run("rm", "/etc/redis/redis-other.conf")


def test_remove(cache: Instance) -> None:
    remove = "redis", "remove", "cache"
    assert changed(cache.operator, *remove, "--confirm", "cache") == [
        "update unit redis-server@cache.service",
        "delete file /etc/redis/redis-cache.conf",
    ]
    assert "refused" in cache.target.run("redis-cli", "ping", check=False).stderr
    assert cache.target.run("test", "-d", "/var/lib/redis/redis-cache", check=False).returncode == 0
    assert "cache" not in (cache.operator.fleet / "fleet.toml").read_text()

    remade = run(cache.operator, *_CREATE, "--yes")
    assert remade["secrets"]["redis.cache password"] != cache.password
    changed(cache.operator, *remove, "--purge-data", "--confirm", "cache")
    assert cache.target.run("test", "-d", "/var/lib/redis/redis-cache", check=False).returncode == 1
