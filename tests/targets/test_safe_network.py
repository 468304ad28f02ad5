"""The network goes away while a safe change is made: by the change itself, or by itself at any moment."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from .attacker import Key
from .operator import Operator, eventually, new_operator
from .pending import reach_deadline, receipts, until_over, waiting, way_back
from .state import State, capture, difference
from .target import Fleet, Target, call
from .test_safe_kills import whole
from .victim import Victim, fresh_victim

#: An administrator's own firewall: what is not for 22 is dropped.
FIREWALL = """
table inet admin {
  chain input {
    type filter hook input priority 0; policy accept;
    iifname "lo" accept
    tcp dport != 22 tcp flags & (syn | ack) == syn drop
  }
}
"""


# --- the change itself cuts it ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moved:
    """A server whose sshd is being moved out of reach; it has two minutes to come back."""

    victim: Victim
    before: State
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def moved(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    with fresh_victim(fleet, tmp_path_factory.mktemp("moved")) as victim:
        target = victim.target
        target.run("apt-get", "-qy", "install", "nftables")
        target.run("nft", "-f", "-", input=FIREWALL)
        before = capture(target)
        process = victim.operator.start("config", "set", "sshd", "Port=2222", "--on", "victim", "--yes")
        eventually(lambda: waiting(target) or process.poll() is not None, "it is armed")
        yield Moved(victim, before, process)
        process.kill()
        process.communicate()


def ports(target: Target) -> set[str]:
    """Where sshd listens."""
    return set(re.findall(r":(\d+) +\S+ +users:\(\(\"sshd", target.run("ss", "-Hltnp").stdout))


def test_sshd_moves_to_a_port_that_the_firewall_drops(moved: Moved) -> None:
    """It is moved indeed; how it ends is the last test here."""
    eventually(lambda: ports(moved.victim.target) == {"2222"}, "sshd has moved")
    assert moved.process.poll() is None
    assert difference(moved.before, capture(moved.victim.target))
    with pytest.raises(OSError), socket.create_connection((moved.victim.target.ip, 2222), timeout=1):
        pass


# --- it goes by itself -----------------------------------------------------------------------------------------------


class Cable:
    """Passes connections on to a server, and can be cut after so many bytes, counted in both directions."""

    def __init__(self, to: tuple[str, int]) -> None:
        self._to = to
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.passed = 0
        self.starts: list[int] = []  # how many bytes had passed when each connection began
        self._left = -1
        self._blinks = False
        self._cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, left: int, *, blinks: bool = False) -> None:
        """From now; what `blinks` is mended at once, anything else by `mend`."""
        with self._lock:
            self.passed, self.starts, self._left, self._blinks, self._cut = 0, [], left, blinks, left == 0

    def mend(self) -> None:
        self.cut_after(-1)

    def close(self) -> None:
        self._listening.close()
        self._hang_up()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed at the end
            while True:
                near = self._listening.accept()[0]
                if self._cut:
                    near.close()
                    continue
                with contextlib.suppress(OSError):
                    far = socket.create_connection(self._to)
                    with self._lock:
                        self.starts.append(self.passed)
                        self._open += near, far
                    for ends in (near, far), (far, near):
                        threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(self._metered(data))
            sink.shutdown(socket.SHUT_WR)

    def _metered(self, data: bytes) -> bytes:
        """What still gets through. Raises OSError when nothing does any more."""
        with self._lock:
            if self._left >= 0 and self.passed + len(data) >= self._left:
                self._cut, self._left = not self._blinks, -1
            elif not self._cut:
                self.passed += len(data)
                return data
        self._hang_up()
        raise ConnectionResetError

    def _hang_up(self) -> None:
        with self._lock:
            ends, self._open = self._open, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
                end.close()


@dataclass(frozen=True)
class Cabled:
    """A server that its operator reaches over the cable. Of a change that is left alone: `length` is what passes in
    all, `running` how much of it has when the connection begins that makes the change, `confirming` when the one does
    that confirms it.
    """

    operator: Operator
    target: Target
    cable: Cable
    key: str
    length: int
    running: int
    confirming: int

    def create(self, within: str) -> tuple[str, ...]:
        return "user", "create", "ada", "--key", self.key, "--confirm-within", within, "--on", "victim", "--yes"

    def forget(self) -> None:
        """No ada, neither there nor in fleet.toml."""
        self.target.run("userdel", "--remove", "ada", check=False)
        path = self.operator.fleet / "fleet.toml"
        path.write_text(path.read_text().split("[users.ada]")[0].rstrip() + "\n")


@pytest.fixture(scope="module")
def cabled(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cabled]:
    folder: Path = tmp_path_factory.mktemp("cabled")
    target = fleet.start_fresh("debian12")
    cable = Cable((target.host, target.port))
    try:
        operator = new_operator(folder)
        operator.add("victim", replace(target, port=cable.port))
        found = Cabled(operator, target, cable, Key.make(folder, "ada").line, 0, 0, 0)
        cable.mend()
        operator.run(*found.create("60s"))
        assert whole(target)
        found.forget()
        *_, running, confirming = cable.starts
        yield replace(found, length=cable.passed, running=running, confirming=confirming)
    finally:
        cable.close()
        fleet.remove(target)


BLINKS = 10


@pytest.mark.parametrize("number", range(BLINKS))
def test_a_connection_is_cut_anywhere(cabled: Cabled, number: int) -> None:
    """While the change is made or confirmed; the next connection works again."""
    operator, target = cabled.operator, cabled.target
    before = capture(target)
    cabled.cable.cut_after(cabled.running + 1 + number * (cabled.length - cabled.running) // BLINKS, blinks=True)
    done = operator.run(*cabled.create("60s"), check=False)
    cabled.cable.mend()
    assert done.returncode in (0, 5, 12, 13), done.stderr
    assert "Traceback" not in done.stderr
    if done.returncode in (0, 5):
        assert waiting(target) == ""
    reach_deadline(target)
    there = whole(target)
    assert there or difference(before, capture(target)) == []
    if done.returncode != 13:
        assert there == (done.returncode == 0), done.stderr
    operator.run(*cabled.create("60s"))  # the next run goes on
    assert whole(target)
    operator.run("audit", "verify", "--against", "victim")
    cabled.forget()


@pytest.mark.parametrize("moment", ["before it is confirmed", "while it is confirmed"])
def test_the_network_is_gone_until_the_deadline_has_passed(cabled: Cabled, moment: str) -> None:
    operator, target = cabled.operator, cabled.target
    before, confirming = capture(target), cabled.confirming
    middle = (confirming + cabled.length) // 2
    cabled.cable.cut_after(confirming if moment.startswith("before") else middle)
    process = operator.start(*cabled.create("10s"))
    eventually(lambda: waiting(target), "it is armed")
    op = waiting(target)
    until_over(target, op)
    cabled.cable.mend()
    said = process.communicate()[1]
    assert process.returncode == 12, said
    assert difference(before, capture(target)) == []
    assert way_back(target, op)["data"]["problems"] == []
    operator.run(*cabled.create("60s"))
    assert whole(target)
    cabled.forget()


def test_ssh_itself_is_stopped(cabled: Cabled) -> None:
    """The connection that asks for it lives on, but nobody can make another."""
    before = capture(cabled.target)
    stop = "service", "stop", "ssh", "--confirm-within", "10s", "--on", "victim", "--yes"
    done = cabled.operator.run(*stop, check=False)
    assert done.returncode == 12, done.stderr
    assert difference(before, capture(cabled.target)) == []
    cabled.operator.run("service", "restart", "cron", "--on", "victim", "--yes")


# --- two minutes later -----------------------------------------------------------------------------------------------


def test_what_moved_is_back_within_two_minutes_and_can_be_reached(moved: Moved) -> None:
    victim, target = moved.victim, moved.victim.target
    said = moved.process.communicate(timeout=200)[1]
    assert moved.process.returncode == 12, said
    (armed,) = (body for body in receipts(target) if body["outcome"] == "pending-confirm")
    back = way_back(target, armed["op_id"])
    assert back["data"]["problems"] == []
    took = back["finished_at"] - (armed["safe"]["deadline"] - 120_000)
    assert abs(took - 120_000) <= 5_000
    assert ports(target) == {"22"}
    assert difference(moved.before, capture(target)) == []
    assert call("ssh-keyscan", "-t", "ed25519", "-p", str(target.port), target.host).stdout
    victim.operator.run("service", "restart", "cron", "--on", "victim", "--yes")
