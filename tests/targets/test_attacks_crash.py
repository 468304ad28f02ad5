"""Whatever breaks in the middle: an operation runs at most once, and its signed receipt says what is known of it.

`slow` is a unit whose start takes until somebody makes /run/go; it notes each start in /root/starts.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from . import attacker
from .attack import attack
from .attacker import RECEIPT, Answer
from .operator import eventually
from .target import Fleet
from .victim import STATE, Victim, fresh_victim

UNIT = """[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo x >> /root/starts; until [ -e /run/go ]; do sleep 0.05; done'
"""
SLOW = {"unit": "slow"}


@pytest.fixture(scope="module")
def victim(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with fresh_victim(fleet, tmp_path_factory.mktemp("victim")) as found:
        found.target.run("tee", "/etc/systemd/system/slow.service", input=UNIT)
        found.target.run("systemctl", "daemon-reload")
        yield found


class Slow:
    """An operation in its middle."""

    def __init__(self, victim: Victim) -> None:
        self.victim = victim
        self.op = attacker.new_op()
        victim.target.run("rm", "-f", "/run/go", "/root/starts")

    def starts(self) -> int:
        return len(self.victim.target.run("sh", "-c", "cat /root/starts || true").stdout.split())

    def let_go(self) -> None:
        self.victim.target.run("touch", "/run/go")

    def fetched(self) -> dict[str, Any]:
        """The receipt as `op.status` hands it out, verified; {} while there is none."""
        data = self.victim.client.ask("op.status", {"op": self.op}).body["data"]
        if data["state"] != "ended":
            return {}
        return attacker.verified(
            base64.b64decode(data["sig"]), data["body"].encode(), RECEIPT, self.victim.client.identity
        )

    def state(self) -> str:
        return str(self.victim.client.ask("op.status", {"op": self.op}).body["data"]["state"])

    def again(self) -> Answer:
        with self.victim.client.session() as session:
            session.send_command(session.command("service.restart", SLOW, op_id=self.op))
            return session.answer()


@contextlib.contextmanager
def in_the_middle(victim: Victim) -> Iterator[tuple[Slow, attacker.Session]]:
    slow = Slow(victim)
    with victim.client.session(shared=False) as session:
        session.send_command(session.command("service.restart", SLOW, op_id=slow.op))
        eventually(lambda: slow.starts() == 1, "slow has started")
        yield slow, session
        slow.let_go()
    eventually(
        lambda: victim.target.run("systemctl", "is-active", "slow", check=False).stdout.strip() == "inactive",
        "slow has ended",
    )


@pytest.mark.parametrize("end", ["the connection", "the runner"])
@attack("SSH drop in mid-action", stopped_by="the executor is a unit of its own", case="the connection")
@attack("SIGKILL of the runner", stopped_by="the executor is a unit of its own", case="the runner")
def test_an_action_goes_on_without_whoever_asked_for_it(victim: Victim, end: str) -> None:
    with in_the_middle(victim) as (slow, session):
        if end == "the connection":
            session.process.kill()
        else:
            victim.target.run(
                "pkill", "--signal", "KILL", "--full", "^/usr/bin/python3 -IS /usr/local/libexec/serverflow/runner"
            )
            assert session.answer().verdict == "closed"
        assert slow.state() == "running"
        slow.let_go()
        eventually(lambda: slow.fetched().get("outcome") == "done", "the receipt is there")
        assert slow.again().body == slow.fetched()
        assert slow.starts() == 1


@attack("SIGKILL of the executor", stopped_by="a burned id never runs again: the outcome is indeterminate")
def test_an_operation_whose_executor_was_killed_is_never_run_again(victim: Victim) -> None:
    with in_the_middle(victim) as (slow, session):
        victim.target.run("systemctl", "kill", "--signal=KILL", f"serverflow-op-{slow.op.lower()}.service")
        assert session.answer().verdict == "indeterminate"
        assert slow.again().verdict == "indeterminate"
        assert slow.starts() == 1
    with victim.untouched():  # the lock went with the executor
        pass


@attack("reboot", stopped_by="a burned id never runs again: the outcome is indeterminate")
def test_an_operation_that_a_reboot_cut_off_is_never_run_again(victim: Victim) -> None:
    with in_the_middle(victim) as (slow, session):
        victim.client.close()
        victim.target.reboot()
        # In an orderly shutdown the executor may live long enough to sign that the action was cut off.
        assert session.answer().verdict in ("closed", "action-failed", "killed")
        ended = slow.state()
        assert ended in ("indeterminate", "ended")
        with victim.untouched():
            assert slow.again().verdict in ("indeterminate", "action-failed", "killed")
        assert slow.starts() == 1


@attack("two operators at once", stopped_by="the server's lock")
def test_the_second_operator_hears_who_is_at_work(victim: Victim) -> None:
    with in_the_middle(victim) as (slow, session):
        before = victim.canary()
        with victim.client.session() as second:
            second.send_command(second.command("service.restart", {"unit": "cron"}, limits={"lock_wait_s": 0}))
            assert second.answer().verdict == "locked"
        sf = victim.operator.run(
            "service", "restart", "cron", "--on", "victim", "--lock-wait", "0s", "--yes", check=False
        )
        assert sf.returncode == 8
        for told in "service.restart", "ana", slow.op, " s ":
            assert told in sf.stderr
        assert victim.canary() == before
        slow.let_go()
        assert session.answer().verdict == "done"


# --- a full disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(victim: Victim) -> Iterator[None]:
    """serverflow's state on a disk of its own, of 32 MiB."""
    move = (
        "mkdir /mnt/small && mount -t tmpfs -o size=32m,mode=0700 small /mnt/small && "
        f"cp -a {STATE}/. /mnt/small && mount --bind /mnt/small {STATE}"
    )
    victim.target.run("sh", "-c", move)
    yield
    # Whatever the timer has just started ends first: until then it is busy.
    eventually(lambda: victim.target.run("umount", STATE, check=False).returncode == 0, "nobody has a file there")
    victim.target.run("sh", "-c", f"mv /mnt/small/receipts.chain {STATE}/ && umount /mnt/small && rmdir /mnt/small")


def _fill(victim: Victim) -> None:
    victim.target.run(
        "sh", "-c", f"for size in 1M 4k 1; do dd if=/dev/zero bs=$size status=none >> {STATE}/fill; done", check=False
    )
    assert victim.target.run("sh", "-c", f"df --output=avail {STATE} | tail -1").stdout.strip() == "0"


@attack("disk full before burn", stopped_by="what cannot be recorded does not run")
def test_what_cannot_be_recorded_is_not_done(victim: Victim, small_disk: None) -> None:
    _fill(victim)
    with victim.untouched():
        for _ in range(3):  # the room that is kept for receipts is not for new operations
            op = attacker.new_op()
            assert victim.client.ask("service.restart", {"unit": "cron"}, op_id=op).verdict == "disk-full"
            assert not victim.burned(op)
        victim.target.run("rm", f"{STATE}/fill")


@attack("disk full before receipt", stopped_by="room for a receipt is set aside")
def test_what_was_done_is_receipted_although_the_disk_is_full(victim: Victim, small_disk: None) -> None:
    with in_the_middle(victim) as (slow, session):
        _fill(victim)
        slow.let_go()
        answer = session.answer()
        assert answer.verdict == "done"
        assert slow.fetched() == answer.body
    victim.target.run("rm", f"{STATE}/fill")
    with victim.untouched():
        pass


@attack("disk full by blobs", stopped_by="the room is checked before the go-ahead")
def test_blobs_that_the_disk_has_no_room_for_are_not_asked_for(victim: Victim, small_disk: None) -> None:
    """40 MiB, which the action would take, for a disk of 32."""
    assert victim.client.ask("app.create", {"name": "shop"}).verdict == "done"
    op, sha256 = attacker.new_op(), "ab" * 32
    with victim.untouched():
        params = {"app": "shop", "path": "big", "sha256": sha256}
        answer = victim.client.ask("file.put", params, op_id=op, blobs=[{"sha256": sha256, "size": 40 << 20}])
        assert (answer.verdict, [kind for kind, _ in answer.frames]) == ("disk-full", ["R"])
        assert not victim.burned(op)
        assert victim.target.run("ls", f"{STATE}/blobs").stdout == ""


UNCONFIRMED = """
import sys
sys.path.insert(0, "/usr/local/libexec/serverflow/current")
import safe
def apply():
    with open(sys.argv[2], "w") as file:
        file.write("changed" * 1000)
safe.change(sys.argv[1], "test", [sys.argv[2]], [], 600, apply)
"""


def _unconfirmed(victim: Victim, path: str) -> str:
    """A safe change of one file; returns the unit that puts it back at the deadline."""
    op, target = attacker.new_op(), victim.target
    target.run("sh", "-c", f"yes precious | head -n 500 >{path}")
    target.run("/usr/bin/python3", "-IS", "-c", UNCONFIRMED, op, path)
    assert "changed" in target.run("cat", path).stdout
    return f"serverflow-rollback-{op.lower()}.service"


def _is_precious(victim: Victim, path: str) -> bool:
    return victim.target.run("sort", "-u", path).stdout == "precious\n"


@attack("disk full at the deadline", stopped_by="going back takes no room, and is tried until it has worked")
def test_what_nobody_confirms_goes_back_although_the_disk_is_full(victim: Victim, small_disk: None) -> None:
    unit = _unconfirmed(victim, f"{STATE}/precious")
    _fill(victim)
    victim.target.run("systemctl", "start", unit)
    eventually(lambda: _is_precious(victim, f"{STATE}/precious"), "the file is back")
    eventually(lambda: not _waits(victim), "nothing waits any more")
    last = victim.target.run("tail", "-n", "1", f"{STATE}/receipts.chain").stdout
    assert json.loads(json.loads(last)["body"])["outcome"] == "rolled-back"
    victim.target.run("rm", f"{STATE}/fill", f"{STATE}/precious")
    with victim.untouched():
        pass


def _waits(victim: Victim) -> bool:
    return victim.target.run("test", "-e", f"{STATE}/safe/pending", check=False).returncode == 0


@attack("disk full at the deadline", stopped_by="going back takes no room, and is tried until it has worked")
def test_it_is_tried_until_there_is_room(victim: Victim) -> None:
    """The file is on another file system, so that it has to be written, and that one is full."""
    target, folder = victim.target, "/mnt/other"
    target.run("sh", "-c", f"mkdir {folder} && mount -t tmpfs -o size=64k other {folder}")
    try:
        unit = _unconfirmed(victim, f"{folder}/precious")
        target.run("sh", "-c", f"dd if=/dev/zero bs=1k of={folder}/fill status=none", check=False)
        target.run("systemctl", "start", unit)
        eventually(lambda: _state(victim, unit) == "auto-restart", "it is to be tried again")
        assert _waits(victim) and not _is_precious(victim, f"{folder}/precious")
        target.run("rm", f"{folder}/fill")
        eventually(lambda: not _waits(victim), "nothing waits any more", timeout=60)
        assert _is_precious(victim, f"{folder}/precious")
    finally:
        target.run("sh", "-c", f"umount {folder}; rmdir {folder}")
    with victim.untouched():
        pass


def _state(victim: Victim, unit: str) -> str:
    return victim.target.run("systemctl", "show", "--property=SubState", "--value", unit).stdout.strip()


@attack("disk full by denials", stopped_by="at most 60 an hour are kept")
def test_denials_do_not_fill_the_disk(victim: Victim) -> None:
    """More than 60 an hour are answered, but not kept.

    Last here, because others' denials would not be kept after it.
    """
    with victim.untouched():
        start = victim.chain_length()
        answers = [victim.client.ask("service.restart", {"unit": "cron"}, action_version=9) for _ in range(70)]
        assert {answer.verdict for answer in answers} == {"action-version"}
        assert {answer.body["typ"] for answer in answers} == {"receipt", "reply"}
        assert victim.chain_length() - start <= 60
