"""What goes wrong on the way to a server: each a sentence, an exit code, a machine code and a way out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .listeners import chatter, nobody, silence
from .operator import Operator
from .target import Target, call


def with_address(operator: Operator, name: str, host: str, port: int) -> None:
    """Point a server of the fleet file somewhere else; its pins stay."""
    path = operator.fleet / "fleet.toml"
    text = path.read_text()
    path.write_text(re.sub(rf"(\[servers\.{name}\]\n)(?:(?!\[).*\n)*", rf'\1host = "{host}"\nport = {port}\n', text))


def copies(operator: Operator, source: str, names: list[str]) -> None:
    """More entries with the same pins, signed by the root key with ssh-keygen."""
    fleet, pins = operator.fleet / "fleet.toml", operator.fleet / "pins.toml"
    for path, table in (fleet, "servers"), (pins, "pins"):
        text = path.read_text()
        found = re.search(rf"^\[{table}\.{source}\]\n((?:(?!\[).*\n?)*)", text, re.M)
        assert found, text
        path.write_text(text.rstrip() + "\n\n" + "\n".join(f"[{table}.{name}]\n{found[1].strip()}\n" for name in names))
    # A file of the same version with another content would be refused.
    pins.write_text(
        re.sub(r"^version = (\d+)$", lambda found: f"version = {int(found[1]) + 1}", pins.read_text(), flags=re.M)
    )
    signature = Path(f"{pins}.sig")
    signature.unlink()
    call("ssh-keygen", "-q", "-Y", "sign", "-n", "pins.v1@serverflow", "-f", operator.private / "root", pins)
    assert signature.exists()


def failure(operator: Operator, exit_code: int, code: str, *words: str, name: str = "web1") -> None:
    """The same failure as text and as JSON, with a hint."""
    done = operator.run("server", "check", "--on", name, check=False)
    assert done.returncode == exit_code, done.stdout + done.stderr
    assert f"sf: error: {name}: " in done.stderr and "sf: hint: " in done.stderr and "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    told = operator.json("server", "check", "--on", name, check=False)
    (server,) = told["servers"]
    assert not told["ok"] and server["error"]["code"] == code and server["error"]["hint"]


def test_on_the_way(fresh_target: Callable[..., Target], fresh_operator: Operator) -> None:
    target, operator = fresh_target(), fresh_operator
    operator.add("web1", target)
    with nobody() as port:
        with_address(operator, "web1", "127.0.0.1", port)
        failure(operator, 5, "connection-refused", str(port), "refused")
    with_address(operator, "web1", "no-such-host.invalid", 22)
    failure(operator, 5, "unknown-host", "no-such-host.invalid")
    with chatter(b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n") as port:
        with_address(operator, "web1", "127.0.0.1", port)
        failure(operator, 5, "unreachable", str(port))
    with chatter(b"") as port:
        with_address(operator, "web1", "127.0.0.1", port)
        failure(operator, 5, "unreachable", str(port))
    with_address(operator, "web1", target.host, target.port)
    operator.run("server", "check")

    keys = "/etc/ssh/ssh_host_ed25519_key"
    kept = target.run("cat", keys).stdout
    change = f"rm {keys}*; ssh-keygen -q -t ed25519 -N '' -f {keys}; systemctl restart ssh"
    target.run("sh", "-c", change)
    failure(operator, 4, "host-key-changed", "does not match the pinned key")
    target.run("sh", "-c", f"rm {keys}*; systemctl restart ssh")  # only a key of another type is left
    failure(operator, 4, "host-key-changed", "does not match the pinned key")
    target.run("sh", "-c", f"umask 077; cat >{keys}; systemctl restart ssh", input=kept)
    operator.run("server", "check")


@pytest.mark.parametrize(
    ("damage", "repair", "exit_code", "code", "word"),
    [
        ("mv {keys} {keys}.x", "mv {keys}.x {keys}", 4, "ssh-key-refused", "does not accept our SSH key"),
        ("mv {sudo} /root/s", "mv /root/s {sudo}", 5, "no-sudo", "sudo"),
        ("mv /usr/bin/sudo /root/sudo", "mv /root/sudo /usr/bin/sudo", 5, "no-sudo", "not installed"),
        ("mv /usr/bin/python3 /root/p3", "mv /root/p3 /usr/bin/python3", 5, "no-python", "python3"),
        ("mv {lib}/runner /root/r", "mv /root/r {lib}/runner", 5, "no-runner", "runner"),
        ("mv {lib}/current /root/c", "mv /root/c {lib}/current", 5, "no-runner", "runner"),
        ("mv {lib}/current/session.py /root/s.py", "mv /root/s.py {lib}/current/session.py", 5, "no-runner", "runner"),
    ],
    ids=["key", "sudo-rule", "sudo", "python3", "runner", "files", "one-file"],
)
def test_on_the_server(
    operator: Operator, target: Target, damage: str, repair: str, exit_code: int, code: str, word: str
) -> None:
    keys, sudo = "/etc/ssh/serverflow_authorized_keys", "/etc/sudoers.d/serverflow"
    places = {"keys": keys, "sudo": sudo, "lib": "/usr/local/libexec/serverflow"}
    target.run("sh", "-c", damage.format(**places))
    try:
        failure(operator, exit_code, code, word)
    finally:
        target.run("sh", "-c", repair.format(**places))
    operator.run("server", "check")


def test_what_is_damaged_is_repaired_by_enrolling_again(operator: Operator, target: Target) -> None:
    for damage in (
        "rm /usr/local/libexec/serverflow/current/session.py",
        "echo >/usr/local/libexec/serverflow/current/serverflow_actions/registry.py",
        "rm -r /usr/local/libexec/serverflow",
        "rm /etc/sudoers.d/serverflow",
        "rm /etc/ssh/serverflow_authorized_keys",
        "rm /etc/ssh/sshd_config.d/00-serverflow.conf; systemctl reload ssh",
    ):
        target.run("sh", "-c", damage)
        operator.add("web1", target)
        assert operator.json("system", "info", "--on", "web1")["ok"], damage


def test_the_wrong_key(operator: Operator, target: Target, tmp_path: Path) -> None:
    call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other")
    env = operator.environment() | {"SF_SSH_KEY_FILE": str(tmp_path / "other")}
    sf = Path(operator.run.__globals__["SF"])
    done = call(sf, "--fleet", operator.fleet, "server", "check", check=False, env=env)
    assert done.returncode == 4 and "does not accept our SSH key" in done.stderr and "sf: hint:" in done.stderr


def test_one_dead_and_one_hanging_leave_the_others_alone(
    target: Target, target2: Target, fresh_target: Callable[..., Target], fresh_operator: Operator
) -> None:
    operator, paused = fresh_operator, fresh_target()
    operator.add("good1", paused)
    copies(operator, "good1", ["dead", "hangs", "good2", "frozen"])
    with nobody() as dead, silence() as hangs:
        with_address(operator, "dead", "127.0.0.1", dead)
        with_address(operator, "hangs", "127.0.0.1", hangs)
        done = operator.run("system", "info", "--on", "all,!frozen", check=False)
        assert done.returncode == 10, done.stderr
        for line in ("sf: error: dead: ", "sf: error: hangs: no answer", "2 of 4 servers failed"):
            assert line in done.stderr
        assert "good1" in done.stdout and "good2" in done.stdout
        # A server whose processes are frozen accepts connections as well.
        paused.pause()
        try:
            told = operator.json("server", "check", "--on", "hangs,frozen,dead", check=False)
        finally:
            paused.unpause()
    errors = {server["name"]: server["error"] for server in told["servers"]}
    assert {name: error["code"] for name, error in errors.items()} == {
        "hangs": "connect-timeout", "frozen": "connect-timeout", "dead": "connection-refused",
    }  # fmt: skip
    assert all(error["hint"] for error in errors.values())
    assert told["error"]["code"] in ("connect-timeout", "connection-refused")
