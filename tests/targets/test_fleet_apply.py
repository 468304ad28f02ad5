"""`sf plan` and `sf apply` over a whole fleet.toml on two servers, and what can come in between."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .areas import Asked
from .operator import Operator, eventually, new_operator
from .target import Fleet, Target, call

_STANZAS = """
[users.ada]
on = "all"
comment = "Ada"

[apps.shop]
on = "web1"
port = 3000

[redis.cache]
on = "db1"
max_memory = "64MiB"
"""


@dataclass(frozen=True)
class Two:
    """Two servers that are as the file says."""

    operator: Operator
    web1: Target
    db1: Target

    @property
    def file(self) -> Path:
        return self.operator.fleet / "fleet.toml"

    def edit(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert text.count(old) == 1
        self.file.write_text(text.replace(old, new))

    def apply(self, exit: int = 0) -> dict[str, Any]:
        """Each server's part of the answer."""
        return answer(self.operator, "apply", "--yes", exit=exit)

    def plan(self, exit: int = 0) -> dict[str, list[str]]:
        found = summary(answer(self.operator, "plan", "--check", exit=exit))
        return {name: told for name, told in found.items() if told}


def answer(operator: Operator, *argv: str, exit: int = 0) -> dict[str, Any]:
    done = operator.run("--json", *argv, check=False, timeout=300)
    assert done.returncode == exit, f"exit {done.returncode}: {done.stdout}{done.stderr}"
    return {server["name"]: server for server in json.loads(done.stdout)["servers"]}


def summary(servers: dict[str, Any]) -> dict[str, list[str]]:
    return {
        name: [f"{change['verb']} {change['kind']} {change['name']}" for change in server.get("changes", [])]
        for name, server in servers.items()
    }


@pytest.fixture(scope="module")
def two(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    operator = new_operator(tmp_path_factory.mktemp("apply"))
    started = [fleet.start_fresh("debian12") for _ in range(2)]
    for name, target in zip(("web1", "db1"), started, strict=True):
        operator.add(name, target)
    made = Two(operator, *started)
    made.edit("[servers.web1]\n", '[servers.web1]\npackages = ["tree"]\n')
    made.file.write_text(made.file.read_text() + _STANZAS)
    yield made
    for target in started:
        fleet.remove(target)


def test_the_whole_file(two: Two) -> None:
    wanted = two.plan(exit=11)
    done = two.apply()
    assert {name: server["outcome"] for name, server in done.items()} == {"web1": "done", "db1": "done"}
    assert set(summary(done)["web1"]) == set(wanted["web1"])
    assert set(summary(done)["db1"]) == set(wanted["db1"])

    assert two.web1.run("dpkg-query", "-W", "-f", "${db:Status-Status}", "tree").stdout == "installed"
    for target in two.web1, two.db1:
        assert target.run("getent", "passwd", "ada").stdout.split(":")[4] == "Ada"
    assert two.web1.run("stat", "-c", "%U", "/srv/shop").stdout == "shop\n"
    assert two.db1.run("systemctl", "is-active", "redis-server@cache").stdout == "active\n"
    assert done["db1"]["secrets"].keys() == {"redis.cache password", "redis.cache url"}

    assert two.plan() == {}
    again = two.apply()
    assert {name: server["outcome"] for name, server in again.items()} == {"web1": "unchanged", "db1": "unchanged"}


def test_drift_is_shown_and_repaired(two: Two) -> None:
    two.web1.run("chown", "root", "/srv/shop")
    two.db1.run("systemctl", "stop", "redis-server@cache")
    assert two.plan(exit=11) == {
        "web1": ["update directory /srv/shop"],
        "db1": ["update unit redis-server@cache.service"],
    }
    two.apply()
    assert two.web1.run("stat", "-c", "%U", "/srv/shop").stdout == "shop\n"
    assert two.db1.run("systemctl", "is-active", "redis-server@cache").stdout == "active\n"
    assert two.plan() == {}


def test_what_has_lost_its_stanza_is_reported_and_left(two: Two) -> None:
    stanza = '[apps.shop]\non = "web1"\nport = 3000\n'
    two.edit(stanza, "")
    try:
        notes = operator_notes(two.operator, "plan")
        assert [note for note in notes if "app.shop is unmanaged" in note and note.startswith("web1")]
        two.apply()
        assert two.web1.run("stat", "-c", "%U", "/srv/shop").stdout == "shop\n"
    finally:
        two.file.write_text(two.file.read_text() + stanza)
    assert not [note for note in operator_notes(two.operator, "plan") if "unmanaged" in note]


def operator_notes(operator: Operator, *argv: str) -> list[str]:
    document = json.loads(operator.run("--json", *argv).stdout)
    return [*document["notes"], *(note for server in document["servers"] for note in server["notes"])]


def test_a_server_that_is_down_holds_up_no_other(two: Two) -> None:
    for target in two.web1, two.db1:
        target.run("usermod", "--comment", "Eve", "ada")
    call("docker", "stop", two.db1.container)
    try:
        found = two.apply(exit=10)
    finally:
        call("docker", "start", two.db1.container)
        two.db1.wait_until_up()
    assert (found["web1"]["outcome"], summary(found)["web1"]) == ("done", ["update user ada"])
    assert found["db1"]["error"]["code"] == found["db1"]["outcome"] == "connection-refused"
    assert two.web1.run("getent", "passwd", "ada").stdout.split(":")[4] == "Ada"
    assert two.plan(exit=11) == {"db1": ["update user ada"]}
    assert summary(two.apply()) == {"web1": [], "db1": ["update user ada"]}


def test_someone_else_applied_something_else_since_the_plan(two: Two, tmp_path: Path) -> None:
    """Both started from the same file; whoever comes second is told who was first."""
    shutil.copytree(two.operator.home, tmp_path / "home")
    shutil.copytree(two.operator.fleet, tmp_path / "fleet")
    other = Two(Operator(tmp_path / "home", tmp_path / "fleet"), two.web1, two.db1)
    two.edit('comment = "Ada"', 'comment = "Ada L."')
    other.edit('comment = "Ada"', 'comment = "Countess"')
    asked = Asked(two.operator, "apply", "--on", "web1")
    first = answer(other.operator, "apply", "--yes", "--on", "web1")
    assert asked.answer("y") == 9
    assert first["web1"]["op_id"] in asked.said
    assert "ana" in asked.said
    assert two.web1.run("getent", "passwd", "ada").stdout.split(":")[4] == "Countess"

    # Seen and meant: planned anew it says whose wish it takes the place of, and does.
    assert [note for note in operator_notes(two.operator, "plan", "--on", "web1") if "last applied" in note]
    two.apply()
    assert two.web1.run("getent", "passwd", "ada").stdout.split(":")[4] == "Ada L."
    two.edit('comment = "Ada L."', 'comment = "Ada"')
    two.apply()


def test_a_hand_on_the_server_since_the_plan(two: Two) -> None:
    two.web1.run("usermod", "--comment", "Eve", "ada")
    asked = Asked(two.operator, "apply", "--on", "web1")
    two.web1.run("usermod", "--shell", "/bin/sh", "--comment", "Mallory", "ada")
    assert asked.answer("y") == 9
    assert "no longer as it was when the plan was approved" in asked.said
    assert two.web1.run("getent", "passwd", "ada").stdout.split(":")[4] == "Mallory"
    two.apply()
    assert two.web1.run("getent", "passwd", "ada").stdout.split(":")[4] == "Ada"


def test_no_means_that_nothing_is_done(two: Two) -> None:
    two.web1.run("usermod", "--comment", "Eve", "ada")
    assert Asked(two.operator, "apply").answer("n") == 1
    assert two.web1.run("getent", "passwd", "ada").stdout.split(":")[4] == "Eve"
    two.apply()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_apply_carries_on_when_it_is_run_again(two: Two, how: signal.Signals) -> None:
    two.web1.run("dpkg", "--purge", "tree")
    two.web1.run("userdel", "-r", "ada", check=False)
    two.web1.run("chown", "root", "/srv/shop")
    running = two.operator.start("apply", "--yes")
    try:
        at_work = "systemctl", "list-units", "--no-legend", "--plain", "serverflow-op-*"
        eventually(lambda: two.web1.run(*at_work).stdout, "an operation runs")
        running.send_signal(how)
        assert running.wait(timeout=30) == (130 if how == signal.SIGINT else -how)
    finally:
        running.kill()
        running.communicate()
    # What the server had begun it finishes by itself; a plan that is made meanwhile would be refused as out of date.
    eventually(lambda: not two.web1.run(*at_work).stdout, "the operation ends", timeout=120)
    two.apply()
    assert two.plan() == {}
    assert two.web1.run("dpkg-query", "-W", "-f", "${db:Status-Status}", "tree").stdout == "installed"
    assert two.web1.run("getent", "passwd", "ada").stdout.split(":")[4] == "Ada"
    assert two.web1.run("stat", "-c", "%U", "/srv/shop").stdout == "shop\n"


def test_a_server_that_is_gone_for_good_is_forgotten(
    fresh_operator: Operator, fresh_target: Callable[..., Target]
) -> None:
    target = fresh_target()
    fresh_operator.add("old1", target)
    call("docker", "stop", target.container)
    said = fresh_operator.run("server", "remove", "old1", "--confirm", "old1", check=False)
    assert said.returncode == 5
    assert "--forget" in said.stderr
    assert "old1" in (fresh_operator.fleet / "fleet.toml").read_text()
    fresh_operator.run("server", "remove", "old1", "--forget", "--confirm", "old1")
    assert "old1" not in (fresh_operator.fleet / "fleet.toml").read_text()
    assert "old1" not in (fresh_operator.fleet / "pins.toml").read_text()
