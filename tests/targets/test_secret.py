"""`sf secret` as processes: what stands in argv, output and files, how it ends, and what a real `--seal` leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest

from .operator import SF, Operator

VALUE = "correct-horse-battery"


def data(operator: Operator, *argv: str) -> Any:
    return operator.json("secret", *argv)["data"]


def names(operator: Operator) -> dict[str, str]:
    return {row["name"]: row["state"] for row in data(operator, "list")["secrets"]}


def refer(operator: Operator, name: str) -> None:
    with (operator.fleet / "fleet.toml").open("a") as file:
        file.write(f'\n[notify.channels.ops]\nprovider = "slack"\nurl = {{ secret = "{name}" }}\n')


def test_a_life_of_a_secret(fresh_operator: Operator) -> None:
    sf = fresh_operator
    refer(sf, "slack_ops")
    assert names(sf) == {"slack_ops": "missing"}
    done = sf.run("secret", "set", "slack_ops", "--stdin", input=VALUE + "\n\n")
    assert "+ secret slack_ops" in done.stdout and "notify.channels.ops.url" in done.stdout
    assert VALUE not in done.stdout + done.stderr
    assert data(sf, "show", "slack_ops") == {"name": "slack_ops", "value": VALUE + "\n"}
    assert sf.run("secret", "show", "slack_ops").stdout == VALUE + "\n\n"
    again = sf.run("secret", "set", "slack_ops", "--stdin", input="other")
    assert "~ secret slack_ops" in again.stdout and "sf apply" in again.stderr
    (row,) = data(sf, "list")["secrets"]
    assert row == {
        "name": "slack_ops",
        "operators": ["ana"],
        "used_by": ["notify.channels.ops.url"],
        "state": "ok",
    }
    refused = sf.run("secret", "remove", "slack_ops", "--confirm", "slack_ops", check=False)
    assert (refused.returncode, "notify.channels.ops.url" in refused.stderr) == (3, True)
    sf.run("secret", "set", "spare", "--stdin", input="x")
    assert sf.run("secret", "remove", "spare", "--confirm", "spar", check=False).returncode == 2
    assert sf.run("secret", "remove", "spare", check=False).returncode == 2
    sf.run("secret", "remove", "spare", "--confirm", "spare")
    assert names(sf) == {"slack_ops": "ok"}


@pytest.mark.parametrize("argv", [("set", "one"), ("rotate", "one"), ("import", "-")])
def test_plan_changes_nothing_and_needs_no_value(fresh_operator: Operator, argv: tuple[str, ...]) -> None:
    fresh_operator.run("secret", "set", "one", "--stdin", input="1")
    before = (fresh_operator.fleet / "secrets.toml").read_bytes()
    fresh_operator.run("secret", *argv, "--plan", input="TWO=2\n")
    assert (fresh_operator.fleet / "secrets.toml").read_bytes() == before


def test_rotate(fresh_operator: Operator) -> None:
    sf = fresh_operator
    assert sf.run("secret", "rotate", "one", "--generate", check=False).returncode == 3
    sf.run("secret", "set", "one", "--stdin", input="1")
    shown = sf.run("secret", "rotate", "one", "--generate", "--length", "40")
    value = data(sf, "show", "one")["value"]
    assert len(value) == 40 and value.isalnum() and value not in shown.stdout + shown.stderr
    sf.run("secret", "rotate", "one", "--stdin", input="two\r\n")
    assert data(sf, "show", "one")["value"] == "two"
    for wrong in (("--generate", "--stdin"), ("--length", "20"), ("--generate", "--length", "8"), ()):
        assert sf.run("secret", "rotate", "one", *wrong, input="x", check=False).returncode == 2
    assert data(sf, "show", "one")["value"] == "two"


@pytest.mark.parametrize(
    ("argv", "stdin", "code"),
    [
        (("set", "one", "--stdin"), b"", 2),
        (("set", "one", "--stdin"), b"\n", 2),
        (("set", "one", "--stdin"), VALUE.encode() + b"\xff", 2),
        (("set", "one", "--stdin"), VALUE.encode() * 2000, 2),
        (("set", "One", "--stdin"), VALUE.encode(), 2),
        (("set", "one"), VALUE.encode(), 2),
        (("set", "one", VALUE), b"", 2),
        (("import", "-", "--yes"), b"A=1\n" + VALUE.encode(), 2),
        (("import", "-", "--yes"), b"A='" + VALUE.encode(), 2),
        (("import", "-", "--yes"), b"A=1\nB=" + VALUE.encode() + b"\xff", 2),
        (("import", "-"), b"A=" + VALUE.encode(), 2),
        (("import", "/nowhere", "--yes"), b"", 3),
        (("show", "gone"), b"", 3),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_what_is_refused_leaves_nothing_and_shows_no_value(
    fresh_operator: Operator, argv: tuple[str, ...], stdin: bytes, code: int, debug: bool
) -> None:
    done = subprocess.run(
        [SF, *(["--debug"] if debug else []), "--json", "secret", *argv],
        input=stdin,
        capture_output=True,
        env=fresh_operator.environment(),
        cwd=fresh_operator.fleet,
    )
    assert done.returncode == code, done
    assert json.loads(done.stdout)["ok"] is False
    assert VALUE in argv or VALUE.encode() not in done.stdout + done.stderr
    assert not (fresh_operator.fleet / "secrets.toml").exists()


def test_import(fresh_operator: Operator, tmp_path: Path) -> None:
    sf = fresh_operator
    env = tmp_path / ".env"
    env.write_text(f"# of the shop\nexport DB_PASSWORD='{VALUE}'\nSLACK=\"a\\nb\" # hook\n")
    done = sf.run("secret", "import", str(env), "--yes")
    assert "db_password" in done.stdout and VALUE not in done.stdout + done.stderr
    assert (data(sf, "show", "db_password")["value"], data(sf, "show", "slack")["value"]) == (VALUE, "a\nb")
    table = tmp_path / "more.toml"
    table.write_text('slack = "new"\nmore = "m"\n')
    refused = sf.run("secret", "import", str(table), "--yes", check=False)
    assert (refused.returncode, sorted(names(sf))) == (2, ["db_password", "slack"])
    sf.run("secret", "import", str(table), "--yes", "--replace")
    assert (data(sf, "show", "slack")["value"], data(sf, "show", "more")["value"]) == ("new", "m")


def on_a_terminal(operator: Operator, *argv: str) -> pexpect.spawn:
    return pexpect.spawn(
        str(SF), list(argv), env=operator.environment(), cwd=str(operator.fleet), encoding="utf-8", timeout=20
    )


def test_on_a_terminal_it_is_asked_for_twice_and_not_shown(fresh_operator: Operator) -> None:
    asked = on_a_terminal(fresh_operator, "secret", "set", "one")
    asked.expect("Value of one: ")
    asked.sendline(VALUE)
    asked.expect("Once more: ")
    asked.sendline(VALUE)
    asked.expect(pexpect.EOF)
    asked.close()
    assert asked.exitstatus == 0 and VALUE not in asked.before
    asked = on_a_terminal(fresh_operator, "secret", "set", "one")
    asked.expect("Value of one: ")
    asked.sendline("a")
    asked.expect("Once more: ")
    asked.sendline("b")
    asked.expect("not the same")
    asked.expect(pexpect.EOF)
    asked.close()
    assert (asked.exitstatus, data(fresh_operator, "show", "one")["value"]) == (2, VALUE)


def test_an_import_on_a_terminal_shows_names_and_asks(fresh_operator: Operator, tmp_path: Path) -> None:
    (tmp_path / "x.env").write_text(f"ONE={VALUE}\n")
    asked = on_a_terminal(fresh_operator, "secret", "import", str(tmp_path / "x.env"))
    asked.expect("secret one")
    assert VALUE not in asked.before
    asked.expect("Go on")
    asked.sendline("n")
    asked.expect(pexpect.EOF)
    asked.close()
    assert (asked.exitstatus, names(fresh_operator)) == (1, {})


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_value_is_in_no_argument_and_no_environment(fresh_operator: Operator) -> None:
    """Asked of the kernel while it reads its stdin."""
    running = subprocess.Popen(
        [SF, "secret", "set", "one", "--stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=fresh_operator.environment(),
        cwd=fresh_operator.fleet,
    )
    assert running.stdin
    running.stdin.write(VALUE.encode())
    running.stdin.flush()
    seen = b"".join(Path(f"/proc/{running.pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
    running.stdin.close()
    assert running.wait() == 0 and VALUE.encode() not in seen
    for path in (path for path in fresh_operator.home.rglob("*") if path.is_file()):
        assert VALUE.encode() not in path.read_bytes(), path


def test_a_tampered_file_is_refused_by_all_of_them(fresh_operator: Operator) -> None:
    sf = fresh_operator
    sf.run("secret", "set", "one", "--stdin", input="1")
    path = sf.fleet / "secrets.toml"
    path.write_text(path.read_text().replace("version = 1", "version = 2"))
    for argv in (("list",), ("show", "one"), ("rotate", "one", "--generate"), ("remove", "one", "--confirm", "one")):
        done = sf.run("--json", "secret", *argv, check=False)
        assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (4, "trust")


def test_openssh_verifies_the_signature(fresh_operator: Operator, tmp_path: Path) -> None:
    sf = fresh_operator
    sf.run("secret", "set", "one", "--stdin", input="1")
    trust = json.loads((sf.fleet / "trust/1.json").read_text())
    allowed = tmp_path / "allowed"
    allowed.write_text(f"ana {trust['roles']['command']['keys'][0]['key']}\n")
    argv = ["ssh-keygen", "-Y", "verify", "-f", str(allowed), "-I", "ana", "-n", "secrets.v1@serverflow"]
    with (sf.fleet / "secrets.toml").open("rb") as file:
        subprocess.run([*argv, "-s", str(sf.fleet / "secrets.toml.sig")], stdin=file, check=True)


def test_a_box_opens_with_pynacl_alone(fresh_operator: Operator) -> None:
    """The format by a second reader that shares no code with ours."""
    import base64
    import hashlib
    import tomllib

    from nacl.public import PrivateKey, SealedBox

    sf = fresh_operator
    sf.run("secret", "set", "one", "--stdin", input=VALUE)
    private = base64.b64decode((sf.private / "seal").read_text().strip().removeprefix("x25519-private:"))
    key = PrivateKey(private)
    public = "x25519:" + base64.b64encode(bytes(key.public_key)).decode()
    boxes = tomllib.loads((sf.fleet / "secrets.toml").read_text())["secrets"]["one"]
    box = boxes[f"ana:{hashlib.sha256(public.encode()).hexdigest()[:16]}"]
    assert SealedBox(key).decrypt(base64.b64decode(box)) == b"one\0" + VALUE.encode()


def test_seal_puts_a_real_servers_password_away(operator: Operator) -> None:
    before = names(operator).keys()
    try:
        made = operator.json("redis", "create", "sealed", "--on", "web1", "--port", "24999", "--yes", "--seal")
        assert "secrets" not in made["servers"][0]
        password = data(operator, "show", "web1_redis_sealed_password")["value"]
        url = data(operator, "show", "web1_redis_sealed_url")["value"]
        assert len(password) > 20 and password in url and password not in json.dumps(made)
    finally:
        operator.run("redis", "remove", "sealed", "--on", "web1", "--confirm", "sealed", check=False)
        for name in names(operator).keys() - before:
            operator.run("secret", "remove", name, "--confirm", name)
