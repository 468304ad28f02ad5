"""One change of each area on the oldest and the newest release that is supported."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .areas import changed, run, told
from .operator import Operator, new_operator
from .target import Target


@pytest.fixture(scope="module", params=["old_target", "new_target"])
def there(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Operator, Target]]:
    """A fleet with that server alone, and the server."""
    target: Target = request.getfixturevalue(request.param)
    operator = new_operator(tmp_path_factory.mktemp("smoke"))
    operator.add("web1", target)
    yield operator, target
    operator.run("server", "remove", "web1", "--confirm", "web1")


def test_each_area(there: tuple[Operator, Target]) -> None:
    operator, target = there
    release = {"debian11": "11", "debian13": "13"}[target.release]
    assert run(operator, "system", "info")["data"]["os"].startswith(f"Debian GNU/Linux {release}")

    zone = target.run("readlink", "/etc/localtime").stdout.strip().removeprefix("/usr/share/zoneinfo/")
    assert changed(operator, "system", "timezone", "Asia/Tokyo", "--yes") == ["update timezone Asia/Tokyo"]
    assert target.run("date", "+%Z").stdout == "JST\n"
    changed(operator, "system", "timezone", zone, "--yes")

    assert changed(operator, "package", "install", "tree", "--yes") == ["create package tree"]
    assert target.run("tree", "--version").stdout.startswith("tree")
    changed(operator, "package", "remove", "tree", "--confirm", "tree")

    assert changed(operator, "service", "stop", "cron", "--yes") == ["update unit cron.service"]
    assert target.run("systemctl", "is-active", "cron", check=False).stdout == "inactive\n"
    changed(operator, "service", "start", "cron", "--yes")

    assert changed(operator, "user", "create", "ada", "--comment", "Ada", "--yes") == ["create user ada"]
    assert target.run("getent", "passwd", "ada").stdout.split(":")[4] == "Ada"
    changed(operator, "user", "remove", "ada", "--purge-home", "--confirm", "ada")

    changed(operator, "app", "create", "shop", "--yes")
    assert target.run("stat", "-c", "%U %a", "/srv/shop").stdout == "shop 750\n"
    put = "file", "put", "shop", "-", "cache/note"
    changed(operator, *put, "--yes", input="hello\n")
    assert target.run("cat", "/srv/shop/cache/note").stdout == "hello\n"
    changed(operator, "app", "clear-cache", "shop", "--yes")
    changed(operator, "app", "remove", "shop", "--purge-data", "--confirm", "shop")

    made = run(operator, "redis", "create", "cache", "--yes")
    assert "create package redis-server" in told(made)
    password = made["secrets"]["redis.cache password"]
    ping = "redis-cli", "--no-auth-warning", "-a", password, "ping"
    assert target.run(*ping).stdout == "PONG\n"
    assert target.run("systemctl", "is-active", "redis-server", check=False).stdout == "inactive\n"
    assert run(operator, "redis", "create", "cache", "--yes")["outcome"] == "unchanged"
    changed(operator, "redis", "remove", "cache", "--purge-data", "--confirm", "cache")
    target.run("apt-get", "-qq", "purge", "redis-server", "redis-tools")
