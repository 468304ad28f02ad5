"""The area file on a real server: what is changed is seen with stat(1) and sha256sum(1)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .areas import changed, planned, refused, run
from .operator import Operator
from .target import Target
from .test_area_app import racing


@pytest.fixture
def shop(operator: Operator, target: Target) -> Iterator[str]:
    run(operator, "app", "create", "shop", "--yes")
    yield "shop"
    run(operator, "app", "remove", "shop", "--purge-data", "--confirm", "shop")


def _stat(target: Target, path: str) -> str:
    return target.run("stat", "-c", "%F %U:%G %a", path, check=False).stdout.strip()


def test_put_and_show(operator: Operator, target: Target, shop: str, tmp_path: Path) -> None:
    local = tmp_path / "settings"
    local.write_text("colour = blue\n")
    put = "file", "put", shop, str(local), "conf/settings"
    assert changed(operator, *put, "--yes") == [
        "create directory /srv/shop/conf",
        "create file /srv/shop/conf/settings",
    ]
    assert target.run("cat", "/srv/shop/conf/settings").stdout == "colour = blue\n"
    assert _stat(target, "/srv/shop/conf/settings") == "regular file shop:shop 640"
    assert run(operator, "file", "show", shop, "conf/settings")["data"]["text"] == "colour = blue\n"
    (entry,) = run(operator, "file", "list", shop)["data"]["entries"]
    assert (entry["name"], entry["kind"], entry["owner"]) == ("conf", "directory", "shop")

    target.run("sh", "-c", "echo red > /srv/shop/conf/settings; chmod 0666 /srv/shop/conf/settings")
    (drift,) = run(operator, *put, "--plan")["changes"]
    assert drift["fields"] == {
        "mode": ["0666", "0640"],
        "sha256": [hashlib.sha256(b"red\n").hexdigest(), hashlib.sha256(b"colour = blue\n").hexdigest()],
    }
    assert "diff" not in drift  # it may be an .env file
    changed(operator, *put, "--yes")
    assert target.run("cat", "/srv/shop/conf/settings").stdout == "colour = blue\n"
    assert _stat(target, "/srv/shop/conf/settings") == "regular file shop:shop 640"


def test_put_from_stdin_with_a_mode(operator: Operator, target: Target, shop: str) -> None:
    put = "file", "put", shop, "-", "/srv/shop/run.sh", "--mode", "0750"
    assert planned(operator, *put, input="echo hi\n") == ["create file /srv/shop/run.sh"]
    assert changed(operator, *put, "--yes", input="echo hi\n") == ["create file /srv/shop/run.sh"]
    assert _stat(target, "/srv/shop/run.sh") == "regular file shop:shop 750"
    assert target.run("sh", "/srv/shop/run.sh").stdout == "hi\n"


def test_put_many_bytes(operator: Operator, target: Target, shop: str, tmp_path: Path) -> None:
    local = tmp_path / "large"
    content = os.urandom(1 << 20) * 64
    local.write_bytes(content)
    run(operator, "file", "put", shop, str(local), "large", "--yes")
    assert target.run("sha256sum", "/srv/shop/large").stdout.split()[0] == hashlib.sha256(content).hexdigest()
    assert target.run("ls", "/var/lib/serverflow/blobs").stdout == ""

    local.write_bytes(content + b"x")
    done = operator.run("file", "put", shop, str(local), "large", "--on", "web1", "--yes", check=False)
    assert done.returncode == 2
    assert "larger than 64.0 MiB" in done.stderr


@pytest.mark.parametrize(
    "path", ["/etc/cron.d/x", "/srv/other/x", "/srv/shopping/x", "/var/lib/serverflow/x", "/srv/shop"]
)
def test_put_stays_in_the_apps_data(operator: Operator, target: Target, shop: str, path: str) -> None:
    before = _stat(target, path)
    refused(operator, "file", "put", shop, "-", path, "--yes")
    assert _stat(target, path) == before


def test_put_does_not_take_dots(operator: Operator, shop: str) -> None:
    done = operator.run("file", "put", shop, "-", "../../etc/x", "--on", "web1", "--yes", input="", check=False)
    assert done.returncode == 2


def test_put_and_show_follow_no_link(operator: Operator, target: Target, shop: str) -> None:
    """Neither one that stands there, nor one that comes and goes while it works."""
    before = target.run("sh", "-c", "find /etc -ls | sort").stdout
    as_app = "setpriv", "--reuid=shop", "--regid=shop", "--clear-groups"
    target.run(*as_app, "ln", "-s", "/etc", "/srv/shop/sub")
    assert "link" in refused(operator, "file", "put", shop, "-", "sub/passwd", "--yes")
    assert "link" in refused(operator, "file", "show", shop, "sub/passwd")
    target.run("rm", "/srv/shop/sub")
    target.run(*as_app, "ln", "-s", "/etc/shadow", "/srv/shop/secret")
    refused(operator, "file", "show", shop, "secret")
    changed(operator, "file", "put", shop, "-", "secret", "--yes", input="mine\n")  # in the place of the link
    assert _stat(target, "/srv/shop/secret") == "regular file shop:shop 640"
    with racing(target, "/srv/shop/sub", "/etc"):
        for _ in range(4):
            operator.run("file", "put", shop, "-", "sub/passwd", "--on", "web1", "--yes", input="x", check=False)
    assert target.run("sh", "-c", "find /etc -ls | sort").stdout == before
