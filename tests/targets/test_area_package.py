"""The area package on a real server: what is changed is seen with dpkg-query(1)."""

from __future__ import annotations

import tomllib

from .areas import changed, planned, refused, run
from .operator import Operator
from .target import Target


def _status(target: Target, name: str) -> str:
    return target.run("dpkg-query", "-W", "-f", "${db:Status-Status}", name, check=False).stdout


def _listed(operator: Operator) -> list[str]:
    servers = tomllib.loads((operator.fleet / "fleet.toml").read_text())["servers"]
    return list(servers["web1"].get("packages", []))


def test_install_and_remove(operator: Operator, target: Target) -> None:
    assert changed(operator, "package", "install", "tree", "--yes") == ["create package tree"]
    assert _status(target, "tree") == "installed"
    assert _listed(operator) == ["tree"]
    (row,) = run(operator, "package", "list", "tree")["data"]["packages"]
    assert row["installed"] == target.run("dpkg-query", "-W", "-f", "${Version}", "tree").stdout

    target.run("apt-get", "-qq", "remove", "tree")
    assert planned(operator, "package", "install", "tree") == ["create package tree"]
    assert operator.run("plan", "--check", "--only", "package", check=False).returncode == 11
    assert changed(operator, "package", "install", "tree", "--yes") == ["create package tree"]
    assert operator.run("plan", "--check", "--only", "package").returncode == 0

    assert changed(operator, "package", "remove", "tree", "--confirm", "tree") == ["delete package tree"]
    assert _status(target, "tree") != "installed"
    assert _listed(operator) == []

    target.run("apt-get", "-qq", "install", "tree")
    assert planned(operator, "package", "remove", "tree") == ["delete package tree"]
    changed(operator, "package", "remove", "tree", "--confirm", "tree")
    assert _status(target, "tree") != "installed"
    target.run("dpkg", "--purge", "tree")


def test_what_keeps_the_server_reachable_is_not_removed(operator: Operator, target: Target) -> None:
    assert "openssh-server" in refused(operator, "package", "remove", "openssh-server", "--confirm", "openssh-server")
    assert _status(target, "openssh-server") == "installed"


def test_a_package_that_nobody_knows(operator: Operator) -> None:
    server = run(operator, "package", "install", "no-such-package-anywhere", "--yes", exit=6)
    assert "no-such-package-anywhere" in server["error"]["message"]
    run(operator, "package", "remove", "no-such-package-anywhere", "--confirm", "no-such-package-anywhere")
    assert _listed(operator) == []
