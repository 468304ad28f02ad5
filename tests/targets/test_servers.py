"""The fleet's servers, its second operator, and what its folder may not say."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from .operator import Operator, eventually
from .target import Target, call
from .test_connection_errors import copies, with_address
from .test_enrol import nothing_is_open, refused, sshd_settings, takes_commands


def test_show_rename_and_remove(fresh_target: Callable[..., Target], fresh_operator: Operator) -> None:
    target, operator = fresh_target(), fresh_operator
    before = {user: sshd_settings(target, user) for user in ("root", "admin", "serverflow")}
    config = target.run("sh", "-c", "find /etc/ssh /etc/sudoers.d /etc/systemd -type f | sort | xargs sha256sum").stdout
    operator.add("web1", target, "--role", "app", "--tag", "prod")
    (row,) = operator.json("server", "list")["data"]["servers"]
    assert row == {
        "name": "web1", "host": target.host, "port": target.port, "roles": ["app"], "tags": ["prod"], "enrolled": True,
    }  # fmt: skip
    shown = operator.json("server", "show", "web1")["data"]
    assert shown["server_id"] == target.run("cat", "/etc/serverflow/server_id").stdout.strip()
    assert shown["identity"] == " ".join(target.run("cat", "/var/lib/serverflow/identity.pub").stdout.split()[:2])
    assert shown["host_keys"] == [target.host_key()] and shown["keys_with_grants"] == ["ana"]
    (checked,) = operator.json("server", "check")["servers"]
    assert checked["data"]["reachable"] and checked["data"]["trust"] == 2 and checked["notes"] == []
    (facts,) = operator.json("server", "facts")["servers"]
    assert facts["data"]["hostname"] == target.run("hostname").stdout.strip()

    operator.run("server", "rename", "web1", "shop1", "--yes")
    refused(operator.run("system", "info", "--on", "web1", check=False), 2, "web1")
    assert takes_commands(operator, "shop1")

    refused(operator.run("server", "remove", "shop1", check=False), 2, "--confirm shop1")
    operator.run("app", "create", "shop", "--on", "shop1", "--yes")
    refused(
        operator.run("server", "remove", "shop1", "--confirm", "shop1", check=False), 3, "apps.shop.on", "sf: hint:"
    )
    assert takes_commands(operator, "shop1")  # found out before anything was taken away
    file = operator.fleet / "fleet.toml"
    file.write_text(file.read_text().partition("[apps.shop]")[0])
    done = operator.run("server", "remove", "shop1", "--confirm", "shop1")
    assert "/etc/serverflow/apps/shop.json" in done.stderr
    left = target.run(
        "sh", "-c", "find / -xdev -path /proc -prune -o -path '*serverflow*' -print | grep -v /tmp/"
    ).stdout
    assert sorted(left.split()) == ["/etc/serverflow", "/etc/serverflow/apps", "/etc/serverflow/apps/shop.json"]
    nothing_is_open(target)
    assert target.run("grep", "-c", "serverflow", "/etc/passwd", check=False).stdout == "0\n"
    assert target.run("sh", "-c", "ls -d /run/serverflow*", check=False).stdout == ""
    target.run("rm", "-r", "/etc/serverflow")
    found = target.run("sh", "-c", "find /etc/ssh /etc/sudoers.d /etc/systemd -type f | sort | xargs sha256sum").stdout
    assert found == config
    assert {user: sshd_settings(target, user) for user in before} == before
    assert operator.json("server", "list")["data"]["servers"] == []
    assert (
        shown["server_id"] not in max((operator.fleet / "trust").glob("*.json"), key=lambda f: int(f.stem)).read_text()
    )

    operator.add("shop1", target)
    assert takes_commands(operator, "shop1")
    # With --forget the server is left alone.
    operator.run("server", "remove", "shop1", "--forget", "--confirm", "shop1")
    assert target.run("test", "-e", "/etc/ssh/serverflow_authorized_keys").returncode == 0
    assert "shop1" not in (operator.fleet / "fleet.toml").read_text() + (operator.fleet / "pins.toml").read_text()
    operator.add("shop1", target)
    assert takes_commands(operator, "shop1")


def test_update_reaches_those_that_lag_and_names_those_it_cannot(
    target2: Target, fresh_target: Callable[..., Target], fresh_operator: Operator
) -> None:
    first, second, operator = fresh_target(), fresh_target(), fresh_operator
    operator.add("web1", first)
    operator.add("web2", second)  # web1 now lacks trust version 3
    trust = "ls /etc/serverflow/trust | grep -c json$"
    assert first.run("sh", "-c", trust).stdout == "2\n"
    (checked, _) = operator.json("server", "check")["servers"]
    assert "server update" in checked["notes"][0]
    copies(operator, "web2", ["gone"])
    with_address(operator, "gone", "127.0.0.1", 9)

    planned = operator.run("server", "update", "--plan", check=False)
    assert planned.returncode == 10 and first.run("sh", "-c", trust).stdout == "2\n"
    done = operator.run("server", "update", "--yes", check=False)
    assert done.returncode == 10 and "sf: error: gone: " in done.stderr
    assert first.run("sh", "-c", trust).stdout == "3\n"
    told = {server["name"]: server for server in operator.json("server", "check", check=False)["servers"]}
    assert "it is pinned as gone too" in told["web2"]["notes"][0]  # the test's own doing
    assert told["web1"]["notes"] == told["web2"]["notes"][1:] == []
    again = operator.json("server", "update", "--yes", check=False)
    assert all(not server.get("changes") for server in again["servers"])


def test_a_second_operators_clone(target: Target, operator: Operator, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    clone = Operator(home, tmp_path / "fleet")
    shutil.copytree(operator.fleet, clone.fleet)
    root = call("ssh-keygen", "-lf", operator.private / "root.pub").stdout.split()[1]
    sf = Path(operator.run.__globals__["SF"])

    def info(**settings: str) -> tuple[int, str]:
        done = call(
            sf,
            "--fleet",
            clone.fleet,
            "system",
            "info",
            "--on",
            "web1",
            check=False,
            env=clone.environment() | settings,
        )
        return done.returncode, done.stderr

    key = str(operator.private / "command")
    code, said = info(SF_KEY_FILE=key)
    assert code == 4 and "SF_ROOT" in said
    code, said = info(SF_KEY_FILE=key, SF_ROOT="SHA256:" + "A" * 43)
    assert code == 4, said
    code, said = info(SF_KEY_FILE=key, SF_ROOT="nonsense")
    assert code == 4, said
    assert info(SF_KEY_FILE=key, SF_ROOT=root) == (0, "")
    assert info(SF_KEY_FILE=key) == (0, "")  # seen once is enough

    newest = max((clone.fleet / "trust").glob("*.json"), key=lambda file: int(file.stem))
    newest.unlink()
    code, said = info(SF_KEY_FILE=key)
    assert code == 4 and "went back" in said
    shutil.copy(operator.fleet / "trust" / newest.name, newest)

    pins = clone.fleet / "pins.toml"
    kept = pins.read_text()
    pins.write_text(re.sub(r'server_id = "(.)', lambda first: f'server_id = "{"1" if first[1] == "0" else "0"}', kept))
    code, said = info(SF_KEY_FILE=key)
    assert code == 4 and "pins.toml" in said
    pins.write_text(kept)
    Path(f"{pins}.sig").unlink()
    code, said = info(SF_KEY_FILE=key)
    assert code == 4 and "not signed" in said


def test_two_enrolments_at_once(fresh_target: Callable[..., Target], fresh_operator: Operator) -> None:
    """Both end well, or the one that lost the race says so and works when it is run again."""
    targets, operator = {"web1": fresh_target(), "web2": fresh_target()}, fresh_operator
    from .operator import fingerprint

    running = {}
    for name, target in targets.items():
        known = ["-i", str(target.admin_key), "--fingerprint", fingerprint(target)]
        running[name] = operator.start("server", "add", name, f"root@{target.host}:{target.port}", *known)
    for name, process in running.items():
        _, said = process.communicate()
        if process.returncode:
            assert process.returncode in (8, 9) and "sf: hint: run it again" in said, said
            operator.add(name, targets[name])
    operator.run("server", "update", "--yes")
    assert all(takes_commands(operator, name) for name in targets)
    eventually(lambda: operator.run("server", "check").returncode == 0, "both answer")
