"""The area user on a real server: what is changed is seen with getent(1), and by logging in with ssh(1)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .areas import changed, planned, refused, run
from .operator import Operator
from .target import Target, call


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A person's private key; the public one is beside it."""
    call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ada@desk", "-f", tmp_path / "id")
    return tmp_path / "id"


@pytest.fixture
def ada(operator: Operator, target: Target, key: Path) -> Iterator[str]:
    """A user with that key, made by `sf`."""
    assert changed(operator, "user", "create", "ada", "--key", _public(key), "--comment", "Ada", "--yes") == [
        "create user ada",
        "create authorized-keys ada",
    ]
    yield "ada"
    run(operator, "user", "remove", "ada", "--purge-home", "--confirm", "ada")


def _public(key: Path) -> str:
    return key.with_suffix(".pub").read_text().strip()


def _fingerprint(key: Path) -> str:
    return call("ssh-keygen", "-lf", key.with_suffix(".pub")).stdout.split()[1]


def _logs_in(target: Target, key: Path, user: str = "ada") -> bool:
    options: list[str | Path] = ["-i", key, "-p", str(target.port), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
    unknown = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    return call("ssh", *options, *unknown, f"{user}@{target.host}", "id", "-un", check=False).stdout == f"{user}\n"


def _entry(target: Target, name: str) -> list[str]:
    return target.run("getent", "passwd", name, check=False).stdout.strip().split(":")


def test_create(operator: Operator, target: Target, ada: str, key: Path) -> None:
    _, _, _, _, comment, home, shell = _entry(target, ada)
    assert (comment, home, shell) == ("Ada", "/home/ada", "/bin/bash")
    assert target.run("passwd", "--status", ada).stdout.split()[1] == "L"  # no password opens it
    assert _logs_in(target, key)
    assert operator.run("plan", "--check", "--only", "user").returncode == 0

    target.run("usermod", "--comment", "Eve", ada)
    target.run("chmod", "0777", "/home/ada/.ssh")
    assert operator.run("plan", "--check", "--only", "user", check=False).returncode == 11
    again = "user", "create", ada, "--key", _public(key), "--comment", "Ada"
    assert planned(operator, *again) == ["update user ada", "update authorized-keys ada"]
    changed(operator, *again, "--yes")
    assert _entry(target, ada)[4] == "Ada"
    assert _logs_in(target, key)

    target.run("userdel", "-r", ada, check=False)
    assert planned(operator, *again) == ["create user ada", "create authorized-keys ada"]
    changed(operator, *again, "--yes")
    assert _logs_in(target, key)


def test_keys(operator: Operator, target: Target, ada: str, key: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ada@laptop", "-f", second)
    assert not _logs_in(target, second)
    add = "user", "add-key", ada, _public(second)
    assert changed(operator, *add, "--yes") == ["update authorized-keys ada"]
    assert _logs_in(target, second)
    assert _logs_in(target, key)
    listed = run(operator, "user", "keys", ada)["data"]["keys"]
    assert {row["fingerprint"]: row["comment"] for row in listed} == {
        _fingerprint(key): "ada@desk",
        _fingerprint(second): "ada@laptop",
    }

    target.run("sed", "-i", "/laptop/d", "/home/ada/.ssh/authorized_keys")
    assert planned(operator, *add) == ["update authorized-keys ada"]
    changed(operator, *add, "--yes")
    assert _logs_in(target, second)

    remove = "user", "remove-key", ada, _fingerprint(second)
    assert changed(operator, *remove, "--confirm", ada) == ["update authorized-keys ada"]
    assert not _logs_in(target, second)
    target.run("sh", "-c", "cat >> /home/ada/.ssh/authorized_keys", input=second.with_suffix(".pub").read_text())
    assert planned(operator, *remove) == ["update authorized-keys ada"]
    changed(operator, *remove, "--confirm", ada)
    assert not _logs_in(target, second)
    assert _logs_in(target, key)


def test_remove(operator: Operator, target: Target) -> None:
    changed(operator, "user", "create", "bob", "--yes")
    remove = "user", "remove", "bob"
    assert changed(operator, *remove, "--confirm", "bob") == ["delete user bob"]
    assert _entry(target, "bob") == [""]
    assert target.run("test", "-d", "/home/bob", check=False).returncode == 0  # what bob made stays
    assert "bob" not in (operator.fleet / "fleet.toml").read_text()

    target.run("useradd", "--uid", target.run("stat", "-c", "%u", "/home/bob").stdout.strip(), "bob")
    assert planned(operator, *remove, "--purge-home") == ["delete user bob"]
    changed(operator, *remove, "--purge-home", "--confirm", "bob")
    assert _entry(target, "bob") == [""]
    assert target.run("test", "-d", "/home/bob", check=False).returncode == 1


def test_show_and_list(operator: Operator, target: Target) -> None:
    users = run(operator, "user", "list")["data"]["users"]
    assert {user["name"]: str(user["uid"]) for user in users} == {
        name: _entry(target, name)[2] for name in ("admin", "pwadmin")
    }
    shown = run(operator, "user", "show", "admin")["data"]
    assert (shown["home"], shown["shell"], shown["system"]) == (*_entry(target, "admin")[5:7], False)


@pytest.mark.parametrize("name", ["root", "serverflow", "serverflow-read", "daemon", "sshd"])
def test_accounts_of_the_system_are_left_alone(operator: Operator, target: Target, name: str, key: Path) -> None:
    before = target.run("cat", "/etc/passwd", "/etc/group", "/etc/shadow").stdout
    fleet_toml = (operator.fleet / "fleet.toml").read_text()
    for argv in (
        ("user", "create", name, "--comment", "x", "--yes"),
        ("user", "add-key", name, _public(key), "--yes"),
        ("user", "remove-key", name, _fingerprint(key), "--confirm", name),
        ("user", "remove", name, "--confirm", name),
    ):
        assert "account of the system" in refused(operator, *argv)
    assert target.run("cat", "/etc/passwd", "/etc/group", "/etc/shadow").stdout == before
    assert (operator.fleet / "fleet.toml").read_text() == fleet_toml


def test_a_group_that_amounts_to_root_has_to_be_meant(operator: Operator, target: Target) -> None:
    assert "can become root" in refused(operator, "user", "create", "eve", "--groups", "sudo", "--yes")
    assert _entry(target, "eve") == [""]
