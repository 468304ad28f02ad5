"""The area app on a real server: what is changed is seen with getent(1) and stat(1)."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from .areas import changed, planned, refused, run
from .operator import Operator
from .target import Target


@pytest.fixture
def shop(operator: Operator, target: Target) -> Iterator[str]:
    """An app with two data folders and a port, made by `sf`."""
    create = "app", "create", "shop", "--data", "/srv/shop/data", "--data", "/srv/shop/media", "--port", "3000"
    assert changed(operator, *create, "--yes") == [
        "create user shop",
        "create directory /srv/shop",
        "create directory /srv/shop/data",
        "create directory /srv/shop/media",
        "create file /etc/serverflow/apps/shop.json",
    ]
    yield "shop"
    run(operator, "app", "remove", "shop", "--purge-data", "--confirm", "shop")
    target.run("rm", "-rf", "/srv/shop")


def _stat(target: Target, path: str) -> str:
    return target.run("stat", "-c", "%F %U:%G %a", path, check=False).stdout.strip()


def test_create(operator: Operator, target: Target, shop: str) -> None:
    assert target.run("getent", "passwd", shop).stdout.strip().endswith(":/home/shop:/usr/sbin/nologin")
    assert _stat(target, "/srv/shop/data") == "directory shop:shop 750"
    record = json.loads(target.run("cat", "/etc/serverflow/apps/shop.json").stdout)
    assert (record["user"], record["port"], record["data"]) == ("shop", 3000, ["/srv/shop/data", "/srv/shop/media"])
    assert operator.run("plan", "--check", "--only", "app").returncode == 0
    assert run(operator, "app", "show", shop)["data"]["missing"] == []
    assert [app["name"] for app in run(operator, "app", "list")["data"]["apps"]] == [shop]

    target.run("chown", "root:root", "/srv/shop/data")
    target.run("rmdir", "/srv/shop/media")
    target.run("sed", "-i", "s/3000/3001/", "/etc/serverflow/apps/shop.json")
    assert operator.run("plan", "--check", "--only", "app", check=False).returncode == 11
    assert run(operator, "app", "show", shop)["data"]["missing"] == ["/srv/shop/media"]
    assert planned(operator, "app", "create", shop) == [
        "update directory /srv/shop/data",
        "create directory /srv/shop/media",
        "update file /etc/serverflow/apps/shop.json",
    ]
    changed(operator, "app", "create", shop, "--yes")
    assert _stat(target, "/srv/shop/data") == _stat(target, "/srv/shop/media") == "directory shop:shop 750"
    assert json.loads(target.run("cat", "/etc/serverflow/apps/shop.json").stdout)["port"] == 3000


def test_remove(operator: Operator, target: Target) -> None:
    changed(operator, "app", "create", "blog", "--yes")
    target.run("touch", "/srv/blog/kept")
    assert changed(operator, "app", "remove", "blog", "--confirm", "blog") == [
        "delete file /etc/serverflow/apps/blog.json"
    ]
    assert _stat(target, "/etc/serverflow/apps/blog.json") == ""
    assert target.run("ls", "/srv/blog").stdout == "kept\n"
    assert "blog" not in (operator.fleet / "fleet.toml").read_text()

    changed(operator, "app", "create", "blog", "--yes")
    assert planned(operator, "app", "remove", "blog", "--purge-data") == [
        "delete directory /srv/blog",
        "delete user blog",
        "delete file /etc/serverflow/apps/blog.json",
    ]
    changed(operator, "app", "remove", "blog", "--purge-data", "--confirm", "blog")
    assert _stat(target, "/srv/blog") == ""
    assert target.run("getent", "passwd", "blog", check=False).returncode == 2


def test_clear_cache(operator: Operator, target: Target, shop: str) -> None:
    fill = "mkdir -p data/cache/deep media/cache && touch data/cache/a data/cache/deep/b media/cache/c data/kept"
    target.run("setpriv", "--reuid=shop", "--regid=shop", "--clear-groups", "sh", "-c", f"cd /srv/shop && {fill}")
    assert planned(operator, "app", "clear-cache", shop) == [
        "update directory /srv/shop/data/cache",
        "update directory /srv/shop/media/cache",
    ]
    changed(operator, "app", "clear-cache", shop, "--yes")
    assert target.run("find", "/srv/shop", "-type", "f").stdout == "/srv/shop/data/kept\n"
    target.run("touch", "/srv/shop/media/cache/again")
    assert changed(operator, "app", "clear-cache", shop, "--yes") == ["update directory /srv/shop/media/cache"]


def test_clear_cache_follows_no_link(operator: Operator, target: Target, shop: str) -> None:
    """Neither one that stands there, nor one that comes and goes while it works."""
    before = target.run("sh", "-c", "find /etc | sort; ls /var/lib").stdout
    target.run("setpriv", "--reuid=shop", "--regid=shop", "--clear-groups", "ln", "-s", "/etc", "/srv/shop/data/cache")
    assert "not a folder but a link" in refused(operator, "app", "clear-cache", shop, "--yes")
    target.run("rm", "/srv/shop/data/cache")
    with racing(target, "/srv/shop/data/cache", "/etc"):
        for _ in range(4):
            operator.run("app", "clear-cache", shop, "--on", "web1", "--yes", check=False)
    assert target.run("sh", "-c", "find /etc | sort; ls /var/lib").stdout == before


@pytest.mark.parametrize(
    "folder",
    ["/etc", "/etc/app", "/usr/local/app", "/root/app", "/var/lib/serverflow", "/srv", "/home/admin/.ssh", "/"],
)
def test_folders_of_the_system_are_no_data(operator: Operator, target: Target, folder: str) -> None:
    before = _stat(target, folder)
    assert folder in refused(operator, "app", "create", "bad", "--data", folder, "--yes")
    assert _stat(target, folder) == before
    assert target.run("getent", "passwd", "bad", check=False).returncode == 2
    assert "bad" not in (operator.fleet / "fleet.toml").read_text()


@pytest.mark.parametrize("user", ["root", "serverflow", "www-data"])
def test_accounts_of_the_system_run_no_app(operator: Operator, target: Target, user: str) -> None:
    assert "account of the system" in refused(operator, "app", "create", "bad", "--user", user, "--yes")
    assert _stat(target, "/srv/bad") == ""


def test_data_does_not_go_through_a_link(operator: Operator, target: Target) -> None:
    target.run("ln", "-s", "/etc", "/srv/sly")
    try:
        for folder in "/srv/sly", "/srv/sly/app":
            assert "link" in refused(operator, "app", "create", "sly", "--data", folder, "--yes")
    finally:
        target.run("rm", "/srv/sly")


class racing:
    """The app's user swaps a folder of its own for a link, and back, as fast as it can."""

    def __init__(self, target: Target, folder: str, victim: str) -> None:
        swap = f"mkdir {folder}; touch {folder}/x; rm -r {folder}; ln -s {victim} {folder}; rm {folder}"
        self._target, self._folder = target, folder
        self._loop = f"while :; do {swap}; done 2>/dev/null"

    def __enter__(self) -> None:
        unit = ["systemd-run", "--quiet", "--collect", "--unit=race", "--uid=shop"]
        self._target.run(*unit, "sh", "-c", self._loop)

    def __exit__(self, *_: object) -> None:
        assert self._target.run("systemctl", "is-active", "race").stdout == "active\n"
        self._target.run("systemctl", "kill", "--signal=KILL", "race")
        self._target.run("rm", "-rf", self._folder)
