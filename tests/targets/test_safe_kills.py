"""Whoever is killed, wherever: the rollback, the executor that arms it, or `sf`. All is as it was, or all is done."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .attacker import Key, new_op
from .operator import eventually
from .pending import RUNNER, begin, reach_deadline, receipts, steps, unit, unit_is, until_over, waiting, way_back
from .state import capture, difference
from .target import Fleet, Target
from .victim import Victim, fresh_victim

EXECUTOR = "/usr/local/libexec/serverflow/current/executor.py"

#: The runner, killed before the Nth step that its rollback says it begins. It prints their names.
KILLED_ROLLBACK = """#!/usr/bin/python3 -IS
import os, signal, sys
left = {number}
def watch(event, arguments):
    global left
    if event == "serverflow.rollback":
        print(arguments[0], flush=True)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
sys.path.insert(0, os.path.realpath("/usr/local/libexec/serverflow/current"))
import runner
sys.addaudithook(watch)
runner.main()
"""

#: The executor, killed before the Nth step of arming, whose names it leaves in a file.
KILLED_EXECUTOR = """
import os, signal, sys
left = {number}
def watch(event, arguments):
    global left
    if event == "serverflow.arm":
        with open("/run/arming", "a") as file:
            print(arguments[0], file=file)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
sys.addaudithook(watch)
exec(compile({source!r}, __file__, "exec"))
"""

#: `sf`, killed at its Nth step that others can see: a connection, a file opened for writing or put in its place.
KILLED_SF = """
import os, signal, sys
left = int(sys.argv.pop(1))
home = os.environ["HOME"].rsplit("/", 1)[0]
def watch(event, arguments):
    global left
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    moves = event in ("os.rename", "os.remove", "os.link")
    ours = (writes or moves) and str(arguments[0]).startswith(home)
    left -= bool(ours or event == "socket.connect")
    if left == 0:
        left = -1
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
from serverflow_cli.main import main
sys.exit(main())
"""

#: What there is before: an app with files that nobody else may read, an account with a mailbox, a Redis instance.
STAGE = """
set -e
cd /etc/systemd/system
for unit in cron redis-server@; do  # they are restarted more often than systemd lets units restart
  mkdir -p $unit.service.d
  printf '[Unit]\\nStartLimitIntervalSec=0\\n' >$unit.service.d/often.conf
done
systemctl daemon-reload
cd /srv/shop
install -o shop -g shop -m 600 /dev/stdin secret </etc/hostname
ln -s secret link
mkdir -m 2750 deep
python3 -c 'import os; os.setxattr("secret", "user.colour", b"blue")'
"""


@pytest.fixture(scope="module")
def victim(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    folder = tmp_path_factory.mktemp("victim")
    with fresh_victim(fleet, folder) as found:
        for argv in (("redis", "create", "cache"), ("app", "create", "shop")):
            found.operator.run(*argv, "--on", "victim", "--yes")
        found.target.run("sh", "-c", STAGE)
        yield found


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A person's public key."""
    return Key.make(tmp_path_factory.mktemp("key"), "ada").line


def changes(key: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Together they have every kind of step."""
    return {
        "new account": ("user.create", {"name": "ada", "key": [key], "groups": ["redis"]}),
        "folders that go": ("app.remove", {"name": "shop", "purge-data": True}),
        "a unit and its file": ("redis.create", {"name": "cache", "max-memory": "96MiB"}),
        "a unit": ("service.disable", {"unit": "cron.service"}),
    }


CHANGES = pytest.mark.parametrize("name", changes(""))


def killed_rollback(target: Target, op: str, number: int) -> list[str]:
    """The steps that it began, up to the one before which it was killed."""
    program = KILLED_ROLLBACK.format(number=number)
    done = target.run("/usr/bin/python3", "-IS", "-c", program, "rollback", op, check=False)
    assert done.returncode == 128 + signal.SIGKILL, (number, done.returncode, done.stdout, done.stderr)
    return done.stdout.splitlines()


@CHANGES
def test_the_rollback_is_killed_before_each_of_its_steps(victim: Victim, key: str, name: str) -> None:
    target, client = victim.target, victim.client
    before, number, planned = capture(target), 0, ["?"]
    while number < len(planned):
        op = begin(client, *changes(key)[name])
        assert number or difference(before, capture(target)), "there is something to put back"
        planned = [*steps(target, op), "over"]
        assert killed_rollback(target, op, number) == planned[: number + 1]
        assert waiting(target) == op, "what is not over waits"
        reach_deadline(target)
        assert difference(before, capture(target)) == [], planned[number]
        assert way_back(target, op)["data"]["problems"] == []
        number += 1
    assert number > 3


def test_all_kinds_of_steps_were_among_them(victim: Victim, key: str) -> None:
    kinds = set()
    for change in changes(key).values():
        kinds |= {step.split(" ")[0] for step in steps(victim.target, begin(victim.client, *change))}
        reach_deadline(victim.target)
    assert kinds >= {"stop", "halt", "path", "unit", "receipt"}


def test_systemd_starts_a_rollback_that_was_killed_again(victim: Victim, key: str) -> None:
    target = victim.target
    before = capture(target)
    op = begin(victim.client, *changes(key)["new account"])
    with replaced(target, RUNNER, KILLED_ROLLBACK.format(number=4)):
        target.run("systemctl", "start", unit(op), check=False)
        eventually(lambda: unit_is(target, op) == "auto-restart", "it is to be tried again")
    assert waiting(target) == op
    target.run("systemctl", "restart", unit(op))  # at once, instead of half a minute later
    until_over(target, op)
    assert difference(before, capture(target)) == []


def test_a_crash_does_not_make_it_forget_what_it_has_kept(victim: Victim, key: str) -> None:
    """Somebody changed the file meanwhile; the rollback is killed after it was put back, before the receipt."""
    target, file = victim.target, "/etc/redis/redis-cache.conf"
    before = capture(target)
    op = begin(victim.client, *changes(key)["a unit and its file"])
    target.run("sh", "-c", f"echo '# by hand' >>{file}")
    killed_rollback(target, op, steps(target, op).index("receipt"))
    reach_deadline(target)
    assert difference(before, capture(target)) == []
    (told,) = way_back(target, op)["data"]["problems"]
    assert file in told and " kept as " in told


@contextlib.contextmanager
def replaced(target: Target, path: str, text: str) -> Iterator[None]:
    """Another program in place of one of ours."""
    target.run("sh", "-c", f"cp -p {path} /run/right && cat >{path}", input=text)
    try:
        yield
    finally:
        target.run("cp", "-p", "/run/right", path)


# --- the executor ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["new account", "folders that go"])
def test_the_executor_is_killed_before_each_step_of_arming(victim: Victim, key: str, name: str) -> None:
    target, client = victim.target, victim.client
    action, params = changes(key)[name]
    before, source, told = capture(target), target.run("cat", EXECUTOR).stdout, list[str]()
    for number in range(20):
        op = new_op()
        target.run("rm", "-f", "/run/arming")
        with replaced(target, EXECUTOR, KILLED_EXECUTOR.format(number=number, source=source)):
            verdict = client.ask(action, params, op_id=op, confirm_s=600).verdict
        armed = target.run("cat", "/run/arming").stdout.splitlines()
        assert armed[: len(told)] == told
        told = armed
        if verdict == "pending-confirm":
            break
        assert verdict == "indeterminate"
        # Nobody has seen it in place, so nobody keeps it.
        assert client.ask("safe.confirm", {"op": op}).verdict == "action-failed"
        if not waiting(target):
            assert difference(before, capture(target)) == [], told[-1]
        reach_deadline(target)
        assert difference(before, capture(target)) == [], told[-1]
    assert set(told) >= {"manifest", "timer", "pending", "applied"}
    assert number == len(told)
    reach_deadline(target)
    assert difference(before, capture(target)) == []


# --- sf --------------------------------------------------------------------------------------------------------------


def test_sf_is_killed_at_each_of_its_steps(victim: Victim, key: str, tmp_path: Path) -> None:
    operator, target = victim.operator, victim.target
    argv = ("user", "create", "ada", "--key", key, "--on", "victim", "--yes")
    stanza = (operator.fleet / "fleet.toml").read_bytes()
    kept = went_back = waited = number = 0
    for number in range(1, 60):
        before = capture(target)
        done = subprocess.run(
            [sys.executable, "-c", KILLED_SF, str(number), *argv, "--confirm-within", "60s"],
            env=operator.environment(),
            cwd=operator.fleet,
            capture_output=True,
            text=True,
        )
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, (number, done.stderr)
        left_waiting = bool(reach_deadline(target))
        there = whole(target)
        assert there or difference(before, capture(target)) == [], number
        kept, went_back, waited = kept + there, went_back + (not there), waited + left_waiting
        if number % 4 == 0:  # whoever comes next goes on
            operator.run(*argv)
            assert whole(target)
        if whole(target):
            target.run("userdel", "--remove", "ada", check=False)
        (operator.fleet / "fleet.toml").write_bytes(stanza)
    assert number > 8, "it has more steps than that"
    assert kept and waited and went_back > waited, (kept, waited, went_back)
    assert whole(target)
    operator.run("user", "remove", "ada", "--purge-home", "--confirm", "ada", "--on", "victim")
    assert operator.json("audit", "verify", "--against", "victim")["ok"]
    assert len({body["seq"] for body in receipts(target)}) == len(receipts(target))


def whole(target: Target) -> bool:
    """The account with its key; half of it is neither."""
    user = target.run("getent", "passwd", "ada", check=False).returncode == 0
    opens = target.run("test", "-s", "/home/ada/.ssh/authorized_keys", check=False).returncode == 0
    assert user == opens
    return user
