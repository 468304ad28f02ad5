"""The sandboxes on each release that is supported: what must work in them does, and what must not does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .areas import changed, run
from .operator import Operator, eventually, new_operator
from .target import Fleet, Target

FLOOR = Path(__file__).with_name("floor.py").read_text()
PRIVATE = "a private key\n"


@pytest.fixture(scope="module", params=["debian11", "debian12", "debian13"])
def there(
    request: pytest.FixtureRequest, fleet: Fleet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Operator, Target]]:
    target = fleet.start_fresh(request.param)
    operator = new_operator(tmp_path_factory.mktemp("floor"))
    operator.add("web1", target)
    yield operator, target
    fleet.remove(target)


def _try(target: Target, sandbox: str) -> dict[str, Any]:
    target.run("sh", "-c", "cat > /root/floor.py", input=FLOOR)
    said = target.run("python3", "-IS", "/root/floor.py", sandbox).stdout
    found: dict[str, Any] = json.loads(said)
    assert "error" not in found, found
    return found


def test_changes_work_in_their_sandboxes(there: tuple[Operator, Target]) -> None:
    operator, target = there
    made = run(operator, "redis", "create", "cache", "--yes")
    ping = "redis-cli", "--no-auth-warning", "-a", made["secrets"]["redis.cache password"], "ping"
    assert target.run(*ping).stdout == "PONG\n"
    assert target.run("systemctl", "is-active", "redis-server", check=False).stdout == "inactive\n"
    assert run(operator, "redis", "create", "cache", "--yes")["outcome"] == "unchanged"

    changed(operator, "app", "create", "shop", "--yes")
    changed(operator, "file", "put", "shop", "-", "note", "--yes", input="hello\n")
    assert target.run("cat", "/srv/shop/note").stdout == "hello\n"

    changed(operator, "user", "create", "ana", "--yes")
    key = " ".join(target.run("cat", "/etc/ssh/ssh_host_ed25519_key.pub").stdout.split()[:2])
    changed(operator, "user", "add-key", "ana", key, "--yes")
    assert target.run("stat", "-c", "%U:%a", "/home/ana/.ssh", "/home/ana/.ssh/authorized_keys").stdout == (
        "ana:700\nana:600\n"
    )


@pytest.mark.parametrize("sandbox", ["read", "old"])
def test_a_read_writes_nothing_and_sees_no_keys(there: tuple[Operator, Target], sandbox: str) -> None:
    """`old` is a kernel without mount_setattr(2), with a mount that another one covers and one with a space."""
    _, target = there
    script = f"""
    set -e
    mkdir -p /covered/below '/mnt/a b' /etc/letsencrypt /home/ana/.ssh
    mountpoint -q /covered || {{
        mount -t tmpfs none /covered; mkdir /covered/below; mount -t tmpfs none /covered/below
        mount -t tmpfs none /covered; mount -t tmpfs none '/mnt/a b'
    }}
    for file in /home/ana/.ssh/id_ed25519 /etc/letsencrypt/key /home/ana/.netrc; do printf '{PRIVATE}' > $file; done
    echo 'ssh-ed25519 AAAA' > /home/ana/.ssh/authorized_keys
    ln -sfn /etc/passwd /home/ana/passwd; ln -sfn / /home/ana/.gnupg; ln -sfn /etc/passwd /home/ana/.pgpass
    """
    target.run("sh", "-c", script)
    found = _try(target, sandbox)
    assert (found["written"], found["writable mounts"], found["scratch"]) == ([], [], "worked")
    assert found["effective"]["read_only"]
    assert found["hidden"]["/home/ana/.ssh/authorized_keys"] == "ssh-ed25519 AAAA\n"
    assert PRIVATE not in found["hidden"].values()
    assert found["shadow"] == "ENOENT" and found["devices"] == ""
    # Links of a user's hide nothing of the system.
    assert found["passwd"].startswith("root:")
    assert (found["clone"], found["clone a user"], found["clone mounts"]) == ("worked", "EPERM", "EPERM")
    assert (found["clone3"], found["a program"], found["dumpable"]) == ("ENOSYS", "serverflow-read", 0)


def test_an_account_action_reaches_no_other_process(there: tuple[Operator, Target]) -> None:
    _, target = there
    for user in ("root", "www-data", "nobody"):
        target.run("systemd-run", "--quiet", "--collect", f"--uid={user}", "sleep", "300")
    found = _try(target, "account")
    assert found["worked"] == []
    assert found["gap"] == ""
    assert target.run("find", "/etc", "/tmp", "-name", "floor-canary").stdout == ""


def test_nothing_goes_on_without_its_executor(there: tuple[Operator, Target]) -> None:
    """The executor's end frees the lock: worker and package installation end with it."""
    operator, target = there
    # A maintainer script that waits: whoever installs it is at work until it is killed.
    target.run("sh", "-c", PACKAGE)
    with operator.start("package", "install", "slow", "--on", "web1", "--yes") as process:
        _wait(target, "pgrep -f [s]low.postinst")
        target.run("sh", "-c", "systemctl kill --signal=KILL 'serverflow-op-*.service'")
        _wait(target, "! pgrep -f '[s]low.postinst|[w]orker.py|[a]pt-get'")
        _wait(target, "! systemctl list-units --plain --no-legend 'serverflow-*' | grep -q serverflow-")
        process.communicate(timeout=60)


PACKAGE = """
set -e
mkdir -p /tmp/slow/DEBIAN /var/local/repo
cat > /tmp/slow/DEBIAN/control <<END
Package: slow
Version: 1
Architecture: all
Maintainer: nobody <nobody@example.com>
Description: slow
END
printf '#!/bin/sh\\nsleep 250\\n' > /tmp/slow/DEBIAN/postinst
chmod 755 /tmp/slow/DEBIAN/postinst
dpkg-deb --build /tmp/slow /var/local/repo/slow.deb
cd /var/local/repo
cp /tmp/slow/DEBIAN/control Packages
echo "Filename: ./slow.deb" >> Packages
echo "Size: $(stat -c %s slow.deb)" >> Packages
echo "SHA256: $(sha256sum slow.deb | cut -d' ' -f1)" >> Packages
echo 'deb [trusted=yes] file:/var/local/repo ./' > /etc/apt/sources.list.d/slow.list
apt-get -qq update
"""


def _wait(target: Target, condition: str) -> None:
    eventually(lambda: target.run("sh", "-c", condition, check=False).returncode == 0, condition, timeout=60)
