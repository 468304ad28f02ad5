"""The area firewall on a real server: what gets through is tried with plain connections from outside."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from .areas import planned, refused, run, told
from .operator import Operator, eventually, new_operator
from .target import Fleet, Target

RULES = "/etc/serverflow/firewall/rules.nft"
UNIT = "serverflow-firewall.service"
_LISTEN = """
import socket, sys, threading
for port in sys.argv[1:]:
    listener = socket.create_server(("", int(port)))
    threading.Thread(target=lambda l: [l.accept() for _ in iter(int, 1)], args=(listener,)).start()
"""
_PORTS = "8080", "8081"
_MADE = [f"create file {RULES}", f"create unit-file {UNIT}", f"update unit {UNIT}"]


@dataclass(frozen=True)
class Firewall:
    """A server with nft(8), something that listens on two ports, and somebody else's table."""

    operator: Operator
    target: Target
    first: list[str]

    def reachable(self, port: int | str) -> bool:
        """Dropped packets get no answer, so this waits."""
        try:
            socket.create_connection((self.target.ip, int(port)), timeout=2).close()
        except (TimeoutError, ConnectionRefusedError):
            return False
        return True

    def listen(self) -> None:
        run_in = "systemd-run", "--quiet", "--collect", "--unit=listeners", "python3", "-c", _LISTEN, *_PORTS
        self.target.run(*run_in)
        eventually(lambda: all(map(self._listens, _PORTS)), "both ports listen")

    def _listens(self, port: str) -> bool:
        return f":{port} " in self.target.run("ss", "-Hltn").stdout

    def tables(self) -> list[str]:
        return self.target.run("nft", "list", "tables").stdout.splitlines()


@pytest.fixture(scope="module", params=["debian12", "debian11", "debian13"])
def firewall(
    request: pytest.FixtureRequest, fleet: Fleet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Firewall]:
    target = fleet.start_fresh(request.param)
    operator = new_operator(tmp_path_factory.mktemp("firewall"))
    operator.add("web1", target)
    missing = refused(operator, "firewall", "allow", "8080/tcp", "--plan")
    assert "sf package install nftables" in missing
    run(operator, "package", "install", "nftables", "--yes")
    target.run("nft", "add", "table", "inet", "docker-or-fail2ban")
    found = Firewall(operator, target, [])
    found.listen()
    assert all(map(found.reachable, _PORTS))
    made = run(operator, "firewall", "allow", "8080/tcp", "--yes")
    yield Firewall(operator, target, told(made))
    fleet.remove(target)


def test_what_is_allowed_gets_in_and_nothing_else(firewall: Firewall) -> None:
    assert firewall.first == _MADE
    assert (firewall.reachable(8080), firewall.reachable(8081), firewall.reachable(22)) == (True, False, True)
    assert firewall.target.run("python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 8081), 5)")
    shown = run(firewall.operator, "firewall", "list")["data"]
    assert (shown["active"], shown["enabled"], shown["allow"]) == ("active", "enabled", ["8080/tcp"])
    assert "22/tcp" in shown["ssh"]
    assert "table inet docker-or-fail2ban" in firewall.tables()
    again = run(firewall.operator, "firewall", "allow", "8080/tcp", "--yes")
    assert (again["outcome"], again["changes"]) == ("unchanged", [])
    assert firewall.operator.run("plan", "--check").returncode == 0


def test_other_rules_are_there_without_a_stop(firewall: Firewall) -> None:
    started = firewall.target.run("systemctl", "show", "-p", "InvocationID", UNIT).stdout
    changes = told(run(firewall.operator, "firewall", "allow", "8081/tcp", "from", "0.0.0.0/0", "--yes"))
    assert changes == [f"update file {RULES}", f"run unit {UNIT}"]
    assert (firewall.reachable(8080), firewall.reachable(8081)) == (True, True)
    assert firewall.target.run("systemctl", "show", "-p", "InvocationID", UNIT).stdout == started
    assert planned(firewall.operator, "firewall", "allow", "8080/tcp") == []

    # The same, denied, is allowed no more.
    run(firewall.operator, "firewall", "deny", "8081/tcp from 0.0.0.0/0", "--yes")
    assert (firewall.reachable(8080), firewall.reachable(8081)) == (True, False)
    text = (firewall.operator.fleet / "fleet.toml").read_text()
    assert 'deny = ["8081/tcp from 0.0.0.0/0"]' in text
    assert text.count("8081") == 1
    run(firewall.operator, "firewall", "remove", "8081/tcp from 0.0.0.0/0", "--yes")
    assert "8081" not in (firewall.operator.fleet / "fleet.toml").read_text()


def test_ssh_is_not_closed_to_everyone(firewall: Firewall) -> None:
    before = (firewall.operator.fleet / "fleet.toml").read_text()
    assert "port 22, where SSH listens" in refused(firewall.operator, "firewall", "deny", "1-1024/tcp", "--yes")
    assert (firewall.operator.fleet / "fleet.toml").read_text() == before


def test_who_locks_himself_out_is_let_in_again(firewall: Firewall) -> None:
    """The rules are right as such, but they close SSH to this machine: only a new connection can tell."""
    gateway = firewall.target.run("sh", "-c", "ip -4 route show default | cut -d ' ' -f 3").stdout.strip()
    deny = "firewall", "deny", f"22/tcp from {gateway}", "--yes", "--confirm-within", "10s"
    run(firewall.operator, *deny, exit=12)
    assert firewall.reachable(22)
    assert gateway not in firewall.target.run("cat", RULES).stdout
    assert gateway not in firewall.target.run("nft", "list", "ruleset").stdout
    assert gateway not in (firewall.operator.fleet / "fleet.toml").read_text()


def test_damage_is_drift_and_is_repaired(firewall: Firewall) -> None:
    firewall.target.run("sed", "-i", "s/policy drop/policy accept/", RULES)
    firewall.target.run("systemctl", "reload", UNIT)
    assert firewall.reachable(8081)
    assert firewall.operator.run("plan", "--check", check=False).returncode == 11
    run(firewall.operator, "firewall", "allow", "8080/tcp", "--yes")
    assert not firewall.reachable(8081)
    firewall.target.run("systemctl", "disable", "--now", UNIT)
    assert planned(firewall.operator, "firewall", "allow", "8080/tcp") == [f"update unit {UNIT}"]
    run(firewall.operator, "firewall", "allow", "8080/tcp", "--yes")
    assert not firewall.reachable(8081)
    assert firewall.operator.run("plan", "--check").returncode == 0


def test_a_crash_between_the_file_and_the_reload_heals(firewall: Firewall) -> None:
    firewall.target.run("sed", "-i", "/8080/d", RULES)
    firewall.target.run("systemctl", "reload", UNIT)
    firewall.target.run("sed", "-i", r"/\"ssh 22.tcp\"/a tcp dport 8080 accept comment \"allow 8080/tcp\"", RULES)
    firewall.target.run("sed", "-i", "s/^tcp dport 8080/\t\t&/", RULES)
    assert not firewall.reachable(8080)
    done = told(run(firewall.operator, "firewall", "allow", "8080/tcp", "--yes"))
    assert done[-1] == f"run unit {UNIT}"
    assert firewall.reachable(8080)


def test_debians_own_rules_do_not_wipe_ours(firewall: Firewall) -> None:
    # The first time they do; there is nothing in systemd that would tell our unit of a start.
    firewall.target.run("systemctl", "start", "nftables.service")
    for verb in "reload", "restart":
        firewall.target.run("systemctl", verb, "nftables.service")  # which waits for that one only: ours follow it
        assert "table inet filter" in firewall.tables()
        eventually(lambda: "table inet serverflow" in firewall.tables(), "our rules are there again")
    firewall.target.run("systemctl", "stop", "nftables.service")
    run(firewall.operator, "firewall", "allow", "8080/tcp", "--yes")
    assert "table inet serverflow" in firewall.tables()


def test_they_are_in_force_after_a_reboot(firewall: Firewall) -> None:
    firewall.target.reboot()
    firewall.listen()
    assert (firewall.reachable(8080), firewall.reachable(8081), firewall.reachable(22)) == (True, False, True)
    assert run(firewall.operator, "firewall", "allow", "8080/tcp", "--yes")["outcome"] == "unchanged"


def test_disable(firewall: Firewall) -> None:
    firewall.target.run("nft", "add", "table", "inet", "docker-or-fail2ban")
    done = told(run(firewall.operator, "firewall", "disable", "--yes"))
    assert done == [f"update unit {UNIT}", f"delete unit-file {UNIT}", f"delete file {RULES}"]
    assert all(map(firewall.reachable, _PORTS))
    assert firewall.tables() == [*(t for t in firewall.tables() if "serverflow" not in t)]
    assert "table inet docker-or-fail2ban" in firewall.tables()
    assert "firewall" not in (firewall.operator.fleet / "fleet.toml").read_text()
    assert firewall.target.run("systemctl", "cat", UNIT, check=False).returncode != 0
    said = json.loads(firewall.operator.run("--json", "plan").stdout)
    assert "unmanaged" not in str(said)
    assert run(firewall.operator, "firewall", "disable", "--yes")["outcome"] == "unchanged"


def test_what_nobody_confirms_is_undone(firewall: Firewall) -> None:
    unconfirmed = "--yes", "--no-confirm", "--confirm-within", "10s"
    run(firewall.operator, "firewall", "allow", "8080/tcp", *unconfirmed, exit=13)
    assert "table inet serverflow" in firewall.tables()
    eventually(lambda: "table inet serverflow" not in firewall.tables(), "the first rules are gone again", 40)
    eventually(lambda: not _pending(firewall), "it is over")
    assert firewall.target.run("sh", "-c", f"ls /etc/systemd/system/{UNIT} {RULES}", check=False).stdout == ""
    assert firewall.target.run("systemctl", "is-enabled", UNIT, check=False).returncode != 0
    assert all(map(firewall.reachable, _PORTS))

    assert told(run(firewall.operator, "firewall", "allow", "8080/tcp", "--yes")) == _MADE
    run(firewall.operator, "firewall", "disable", *unconfirmed, exit=13)
    assert "table inet serverflow" not in firewall.tables()
    eventually(lambda: "table inet serverflow" in firewall.tables(), "the rules are in force again", 40)
    eventually(lambda: not _pending(firewall), "it is over")
    assert firewall.operator.run("plan", "--check").returncode == 0


def _pending(firewall: Firewall) -> bool:
    return firewall.target.run("test", "-e", "/var/lib/serverflow/safe/pending", check=False).returncode == 0
